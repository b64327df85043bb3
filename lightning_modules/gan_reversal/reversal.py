"""Reversal: the latents whose pictures come closest to given ones, by gradient descent through the frozen generator.

::

    E's guess ─┐                    best start           Adam on z,               best within
    prior  ────┴─ Adam on z, all ──────────────── k = round(z/Δ) straight through ──────────── k
                  starts in one batch                     λ follows the bits          the bits

All pictures and starts of a call are one batch; each has its own λ, so that none depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.gan_reversal.prior import SHIFTS, bits, clamp_symbols, shifted, step_of
from losses.ssim import WINDOW, ssim

Loss = Literal["ssim", "mse"]


@dataclass(frozen=True)
class Search:
    """How a search goes; see `config.GanReversalConfig` for the meaning of equal names.

    Attributes:
        steps: gradient steps; 0 quantises the guess as it is.
        restarts: draws from the prior beside the guess.
        continuous: share of the steps before quantisation.
        rate: of Adam.
        box: bound on |z|.
        lambda_rate: λ's start.
        mse: weight of MSE beside 1 − SSIM.
        loss: ``ssim`` (1 − SSIM + mse·MSE), for unseen pictures; ``mse``, for pictures trained on.
        seed: of the prior's draws and of clipping.
    """

    steps: int
    restarts: int
    continuous: float
    rate: float
    box: float
    lambda_rate: float
    mse: float
    loss: Loss = "ssim"
    seed: int = 0


def distortion(x: Tensor, x_hat: Tensor, search: Search) -> Tensor:
    """[B]: 1 − SSIM + mse·MSE, or 10·MSE; MSE alone where a side is below SSIM's window."""
    error = (x - x_hat).square().mean((1, 2, 3))
    if search.loss == "mse" or min(x.shape[2:]) < WINDOW:
        return 10 * error
    return 1 - ssim(x, x_hat) + search.mse * error


class Reversal:
    """Search for the latents of a batch of pictures of one size.

    Args:
        G: frozen generator; `grid` and the call are used.
        index: s of the quantiser, [latents].
        x: [B, 3, H, W] in [0, 1].
        guess: E's z, [B, latents, h, w], or None.
        budget: most bits of the symbols of each picture, [B].
        shift: of the quantiser of each picture, [B]; None leaves it to the search.
    """

    def __init__(
        self,
        G: nn.Module,
        index: Tensor,
        x: Tensor,
        guess: Tensor | None,
        budget: Tensor,
        search: Search,
        shift: Tensor | None = None,
    ) -> None:
        self.G, self.index, self.x, self.budget, self.search = G, index.float(), x, budget, search
        self.shift = shift
        self.random = torch.Generator().manual_seed(search.seed)
        self.starts = self._starts(guess)

    def run(self) -> tuple[Tensor, Tensor]:
        """Symbols k [B, latents, h, w], within the budget by the prior's bits, and the shift of each picture [B]."""
        search, first = self.search, self.starts[0]
        before = round(search.steps * search.continuous)
        z = first
        if search.steps and (before or len(self.starts) > 1):
            z = self._continuous(before)
        best = self._quantised(z)
        return best if search.steps == before else self._straight_through(z, search.steps - before, *best)

    def picture(self, z: Tensor) -> Tensor:
        """G's picture of z, cut to the size of x."""
        return self.G(z)[..., : self.x.shape[2], : self.x.shape[3]]

    def _starts(self, guess: Tensor | None) -> Tensor:
        """[R, B, latents, h, w], the guess first."""
        shape = (len(self.x), len(self.index), *self.G.grid(*self.x.shape[2:]))
        starts = [] if guess is None else [guess]
        draws = self.search.restarts if self.search.steps or guess is None else 0
        # Drawn for one picture: what it gets does not depend on the batch that it is in.
        for _ in range(draws):
            draw = torch.randn(shape[1:], generator=self.random).to(self.x.device)
            starts.append(draw.expand(shape))
        return torch.stack(starts).clamp(-self.search.box, self.search.box)

    def _continuous(self, steps: int) -> Tensor:
        """Search without a quantiser from every start; the best z of each picture, [B, latents, h, w]."""
        r, b = self.starts.shape[:2]
        x = self.x.repeat(r, 1, 1, 1)
        z = self.starts.flatten(0, 1).clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=self.search.rate, betas=(0.9, 0.99))
        for step in range(steps):
            self._pace(adam, step, steps, self.search.rate)
            # Without a quantiser the prior's rate is, up to a constant, its energy.
            energy = z.square().sum((1, 2, 3)) / (2 * x[0, 0].numel())
            loss = distortion(x, self._cut(z), self.search) + self.search.lambda_rate * energy
            (z.grad,) = torch.autograd.grad(loss.sum(), z)
            adam.step()
            self._clip(z)
        with torch.no_grad():
            found = distortion(x, self._cut(z), self.search).view(r, b).argmin(0)
        return z.detach().view(r, b, *z.shape[1:])[found, torch.arange(b, device=found.device)]

    def _straight_through(
        self, z: Tensor, steps: int, best_k: Tensor, best_shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Search in symbols: rounded on the way forward, the identity backward; λ follows the bits."""
        # A step finer than what fits at once: the search itself saves bits.
        shift = self._fitting_shift(z, 1.15 * self.budget)
        index = shifted(self.index, shift)
        delta = step_of(index)
        y = (z / delta).requires_grad_()
        adam = torch.optim.Adam([y], lr=self.search.rate, betas=(0.9, 0.99))
        rate_weight = torch.full_like(self.budget, self.search.lambda_rate or 1.0)
        with torch.no_grad():
            least = distortion(
                self.x, self._cut(best_k * step_of(shifted(self.index, best_shift))), self.search
            )
        best_k, best_shift = best_k.clone(), best_shift.clone()
        for step in range(steps):
            self._pace(adam, step, steps, 4 * self.search.rate)
            k = y + (clamp_symbols(y) - y).detach()
            used = bits(k, index)
            found = distortion(self.x, self._cut(k * delta), self.search)
            with torch.no_grad():
                better = (found < least) & (used <= self.budget)
                least = torch.where(better, found, least)
                best_k[better], best_shift[better] = k.detach()[better], shift[better]
                excess = (used / self.budget.clamp_min(1) - 1).clamp(-1, 1)
                rate_weight = rate_weight * torch.exp(0.3 * excess)
            loss = found + rate_weight * used / self.x[0, 0].numel()
            (y.grad,) = torch.autograd.grad(loss.sum(), y)
            adam.step()
        return best_k, best_shift

    def _quantised(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z rounded by the finest quantiser that fits, zeros where none does."""
        shift = self._fitting_shift(z, self.budget)
        index = shifted(self.index, shift)
        k = clamp_symbols(z / step_of(index))
        return k * (bits(k, index) <= self.budget).view(-1, 1, 1, 1), shift

    def _fitting_shift(self, z: Tensor, budget: Tensor) -> Tensor:
        return fitting_shift(z, self.index, budget) if self.shift is None else self.shift

    def _cut(self, z: Tensor) -> Tensor:
        return self.picture(z).float()

    def _clip(self, z: Tensor) -> None:
        """Stochastic clipping: components beyond the box are drawn anew from the prior."""
        with torch.no_grad():
            outside = z.abs() > self.search.box
            if outside.any():
                drawn = torch.randn(z.shape, generator=self.random).to(z.device)
                z.copy_(torch.where(outside, drawn.clamp(-self.search.box, self.search.box), z))

    @staticmethod
    def _pace(adam: torch.optim.Optimizer, step: int, steps: int, rate: float) -> None:
        """A linear fall to a tenth over the phase."""
        adam.param_groups[0]["lr"] = rate * (1 - 0.9 * step / steps)


def fitting_shift(z: Tensor, index: Tensor, budget: Tensor) -> Tensor:
    """[B]: the finest shift at which rounding z takes no more than ``budget`` bits; the coarsest if none."""
    found = torch.full_like(budget, SHIFTS.start)
    for shift in SHIFTS:
        at = shifted(index, torch.full_like(budget, shift))
        found = torch.where(bits(clamp_symbols(z / step_of(at)), at) <= budget, shift, found)
    return found
