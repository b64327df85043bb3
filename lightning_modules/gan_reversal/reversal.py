"""Reversal: the latents whose pictures come closest to given ones, by gradient descent through the frozen generator.

::

    E's guess ─┐                   best start             annealed, then                best within
    prior ─────┴─ Adam on z, all ──────────── Adam on z/Δ, rounded straight through ─────────────── k
                 starts in one batch                     λ follows the bits              the bits

All pictures and starts of a call are one batch; each has its own λ, so that none depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.gan_reversal.prior import (
    INDEX_PER_NEPER,
    SHIFTS,
    bits,
    clamp_symbols,
    shifted,
    step_of,
)
from losses.ssim import WINDOW, ssim

Loss = Literal["ssim", "mse"]
START = 0.95
"""Share of the budget that the quantiser is chosen for; the search in symbols adds more than it removes."""
ANNEALED = 0.6
"""Share of the steps in symbols that are annealed, before the straight-through ones."""
RESERVE = 0.01
"""Share of the budget that λ aims to leave, so that most steps keep to it."""
_HOT, _COLD = 0.5, 0.05


@dataclass(frozen=True)
class Search:
    """How a search goes; see `config.GanReversalConfig` for the meaning of equal names.

    Attributes:
        steps: gradient steps; 0 quantises the guess as it is.
        restarts: draws from the prior beside the guess.
        continuous: share of the steps before quantisation.
        rate: of Adam, in prior deviations before and in quantiser steps after quantisation.
        box: bound on |z|.
        lambda_rate: λ's start, for shift 0.
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
        return best if search.steps == before else self._in_symbols(z, search.steps - before, *best)

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

    def _in_symbols(self, z: Tensor, steps: int, best_k: Tensor, best_shift: Tensor) -> tuple[Tensor, Tensor]:
        """Search in quantiser steps, y = z/Δ; the best symbols within the budget.

        First between the neighbouring whole numbers, ever more surely one of them (`annealed`), then rounded on the way
        forward, the identity backward. Straight-through steps alone end further off.
        """
        shift = self._fitting_shift(z, START * self.budget)
        index = shifted(self.index, shift)
        delta = step_of(index)
        y = (z / delta).requires_grad_()
        adam = torch.optim.Adam([y], lr=self.search.rate, betas=(0.9, 0.99))
        # As in training: with finer steps a bit buys less.
        base = (self.search.lambda_rate or 1.0) * torch.exp(-shift / INDEX_PER_NEPER)
        gathered = torch.zeros_like(base)
        with torch.no_grad():
            least = distortion(
                self.x, self._cut(best_k * step_of(shifted(self.index, best_shift))), self.search
            )
        best_k, best_shift = best_k.clone(), best_shift.clone()
        soft_steps = round(ANNEALED * steps)
        for step in range(steps):
            self._pace(adam, step, steps, self.search.rate)
            rounded = clamp_symbols(y.detach())
            used = bits(rounded, index)
            soft = step < soft_steps
            k = annealed(y, step / soft_steps, self.random) if soft else y + (rounded - y.detach())
            found = distortion(self.x, self._cut(k * delta), self.search)
            if not soft:
                better = (found.detach() < least) & (used <= self.budget)
                least = torch.where(better, found.detach(), least)
                best_k[better], best_shift[better] = rounded[better], shift[better]
            excess = (used / self.budget.clamp_min(1) - 1 + RESERVE).clamp(-1, 1)
            gathered = gathered + 0.1 * excess
            rate_weight = base * torch.exp(gathered + 2 * excess)
            # Not of rounded symbols: their rate is flat at 0, and every one of them would drift over the edge.
            rate = bits(k if soft else y, index) / self.x[0, 0].numel()
            (y.grad,) = torch.autograd.grad((found + rate_weight * rate).sum(), y)
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


def annealed(y: Tensor, progress: float, random: torch.Generator) -> Tensor:
    """Stochastic Gumbel annealing: a random point between y's neighbouring whole numbers, close to one of them.

    After Yang, Bamler and Mandt 2020 ('Improving inference for neural image compression', section 3.2). The closer
    neighbour is the likelier.

    Args:
        y: [B, …]; gradients flow to it. All pictures get the same draws, so that none depends on its batch.
        progress: 0 to 1; the temperature falls from 0.5 to 0.05.
    """
    temperature = _HOT * (_COLD / _HOT) ** progress
    low = y.detach().floor()
    above = (y - low).clamp(1e-4, 1 - 1e-4)
    # Log-odds of the upper neighbour, with the difference of two Gumbel draws, which is logistic.
    odds = (torch.atanh(above) - torch.atanh(1 - above)) / temperature
    u = torch.rand(y.shape[1:], generator=random).clamp(1e-6, 1 - 1e-6).to(y.device)
    return low + torch.sigmoid((odds + torch.logit(u)) / temperature)


def fitting_shift(z: Tensor, index: Tensor, budget: Tensor) -> Tensor:
    """[B]: the finest shift at which rounding z takes no more than ``budget`` bits; the coarsest if none.

    By bisection, as if bits never fell with finer steps. Where rounding makes them fall somewhere, the shift found
    still fits.
    """
    low = torch.full_like(budget, SHIFTS.start)
    high = torch.full_like(budget, SHIFTS.stop - 1)
    while (low < high).any():
        middle = ((low + high) / 2).ceil()
        at = shifted(index, middle)
        fits = bits(clamp_symbols(z / step_of(at)), at) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle - 1)
    return low
