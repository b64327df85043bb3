"""GAN inversion: the latents whose pictures come closest to given ones, by descent through the frozen generator.

::

    E's z ─────┐                   best start             annealed, then                best within
    prior ─────┴─ Adam on z, all ──────────── Adam on z/Δ, rounded straight through ─────────────── k
                 starts in one batch                     λ follows the bits              the bits

All pictures and starts of a call are one batch; each has its own λ, so that none depends on another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genic.lightning_modules.gan_reversal.config import GanReversalCoding
from genic.lightning_modules.gan_reversal.dcgan import DcganGenerator
from genic.lightning_modules.gan_reversal.networks import ResidualGenerator
from genic.lightning_modules.gan_reversal.parallel import in_parallel
from genic.lightning_modules.gan_reversal.prior import (
    INDEX_PER_NEPER,
    SHIFTS,
    bits,
    shifted,
    step_of,
)
from genic.lightning_modules.gan_reversal.system import System
from genic.lightning_modules.layers.rounding import symbols
from genic.lightning_modules.layers.tiling import TILE, Tile, tiles
from genic.losses.ssim import WINDOW, ssim

FILL = 0.95
"""Share of the budget that the quantiser is chosen for; the search on symbols adds more than it removes."""
ANNEALED = 0.6
"""Share of the steps on symbols that are annealed, before the straight-through ones."""
RESERVE = 0.01
"""Share of the budget that λ aims to leave, so that most steps keep to it."""
_HOT, _COLD = 0.5, 0.05
_MARGIN = 2  # cells around a tile that are searched with it, where the cells' pictures depend on each other


def invert(
    system: System, index: Tensor, x: Tensor, budget: float, coding: GanReversalCoding
) -> tuple[Tensor, Tensor]:
    """Search for the latents of pictures of one size; where they are large, for those of tiles side by side.

    Args:
        index: s of the quantiser, [latents].
        x: [B, 3, H, W] in [0, 1].
        budget: most bits of the symbols of each picture, by the prior.

    Returns:
        k [B, latents, h, w] and shifts [B]. Tiles may exceed the budget together by a little.
    """
    G, start = system.G, system.latents(x)
    budgets = torch.full((len(x),), budget, device=x.device)
    grid = G.grid(*x.shape[2:])
    if max(grid) * G.stride <= TILE:
        inversion = Inversion(G, index, x, start, budgets, coding)
        return in_parallel(Inversion.run, [inversion], x.device.type)[0]
    # One quantiser a file; each tile may take the part of the bits that the start takes there.
    whole = start
    if whole is None:
        random = torch.Generator().manual_seed(coding.seed)
        whole = torch.randn(1, len(index), *grid, generator=random).to(x.device).expand(len(x), -1, -1, -1)
    shift = finest_shift(whole, index, FILL * budgets)
    fitted = shifted(index, shift)
    taken = bits((whole / step_of(fitted)).round(), fitted)

    def search(tile: Tile) -> Tensor:
        top, bottom, left, right = tile.whole
        z = whole[..., top:bottom, left:right]
        share = budgets * bits((z / step_of(fitted)).round(), fitted) / taken
        rows = slice(G.stride * top, G.stride * top + G.span(bottom - top))
        columns = slice(G.stride * left, G.stride * left + G.span(right - left))
        own = None if start is None else z
        found, _ = Inversion(G, index, x[..., rows, columns], own, share, coding, shift).run()
        return found[(..., *tile.inner())]

    k = torch.empty_like(whole)
    pieces = list(tiles(*grid, G.stride, 0 if start is None else _MARGIN, even=True))
    for tile, found in zip(pieces, in_parallel(search, pieces, x.device.type), strict=True):
        a, b, c, d = tile.core
        k[..., a:b, c:d] = found
    return k, shift


def distortion(x: Tensor, x_hat: Tensor, coding: GanReversalCoding) -> Tensor:
    """[B]: 1 − SSIM + mse_weight·MSE, or 10·MSE; MSE alone where a side is below SSIM's window."""
    error = (x - x_hat).square().mean((1, 2, 3))
    if coding.loss == "mse" or min(x.shape[2:]) < WINDOW:
        return 10 * error
    return 1 - ssim(x, x_hat) + coding.mse_weight * error


@dataclass
class Inversion:
    """Search for the latents of a batch of pictures of one size.

    Attributes:
        G: frozen generator; `grid` and the call are used.
        index: s of the quantiser, [latents].
        x: [B, 3, H, W] in [0, 1].
        start: E's z, [B, latents, h, w], or None.
        budget: most bits of the symbols of each picture, [B].
        coding: how to search.
        shift: of the quantiser of each picture, [B]; None leaves it to the search.
    """

    G: DcganGenerator | ResidualGenerator
    index: Tensor
    x: Tensor
    start: Tensor | None
    budget: Tensor
    coding: GanReversalCoding
    shift: Tensor | None = None

    def __post_init__(self) -> None:
        self.index = self.index.float()
        self.random = torch.Generator().manual_seed(self.coding.seed)
        self.starts = self._starts(self.start)

    def run(self) -> tuple[Tensor, Tensor]:
        """Symbols k [B, latents, h, w], within the budget by the prior's bits, and the shift of each picture [B]."""
        steps, z = self.coding.gradient_steps, self.starts[0]
        before = round(steps * self.coding.continuous)
        if steps and (before or len(self.starts) > 1):
            z = self._search_continuous(before)
        best = self._quantised(z)
        return best if steps == before else self._search_symbols(z, steps - before, *best)

    def picture(self, z: Tensor) -> Tensor:
        """G's picture of z, float32, cut to the size of x."""
        return self.G(z)[..., : self.x.shape[2], : self.x.shape[3]].float()

    def _starts(self, start: Tensor | None) -> Tensor:
        """[R, B, latents, h, w], E's first."""
        shape = (len(self.x), len(self.index), *self.G.grid(*self.x.shape[2:]))
        starts = [] if start is None else [start]
        draws = self.coding.restarts if self.coding.gradient_steps or start is None else 0
        # Drawn for one picture: what it gets does not depend on the batch that it is in.
        for _ in range(draws):
            draw = torch.randn(shape[1:], generator=self.random).to(self.x.device)
            starts.append(draw.expand(shape))
        return torch.stack(starts).clamp(-self.coding.box, self.coding.box)

    def _search_continuous(self, steps: int) -> Tensor:
        """Search without a quantiser from every start; the best z of each picture, [B, latents, h, w]."""
        r, b = self.starts.shape[:2]
        x = self.x.repeat(r, 1, 1, 1)
        z = self.starts.flatten(0, 1).clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=self.coding.learning_rate, betas=(0.9, 0.99))
        for step in range(steps):
            self._decay(adam, step, steps)
            # Without a quantiser the prior's rate is, up to a constant, its energy.
            energy = z.square().sum((1, 2, 3)) / (2 * x[0, 0].numel())
            loss = distortion(x, self.picture(z), self.coding) + self.coding.rate_weight * energy
            (z.grad,) = torch.autograd.grad(loss.sum(), z)
            adam.step()
            self._clip(z)
        with torch.no_grad():
            found = distortion(x, self.picture(z), self.coding).view(r, b).argmin(0)
        return z.detach().view(r, b, *z.shape[1:])[found, torch.arange(b, device=found.device)]

    def _search_symbols(
        self, z: Tensor, steps: int, best_k: Tensor, best_shift: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Search in quantiser steps, y = z/Δ; the best symbols within the budget.

        First between the neighbouring whole numbers, ever more surely one of them (`anneal`), then rounded on the way
        forward, the identity backward. Straight-through steps alone end further off.
        """
        shift = self._finest_shift(z, FILL * self.budget)
        index = shifted(self.index, shift)
        delta = step_of(index)
        y = (z / delta).requires_grad_()
        adam = torch.optim.Adam([y], lr=self.coding.learning_rate, betas=(0.9, 0.99))
        # As in training: with finer steps a bit buys less.
        base = (self.coding.rate_weight or 1.0) * torch.exp(-shift / INDEX_PER_NEPER)
        integral = torch.zeros_like(base)
        with torch.no_grad():
            least = distortion(
                self.x, self.picture(best_k * step_of(shifted(self.index, best_shift))), self.coding
            )
        best_k, best_shift = best_k.clone(), best_shift.clone()
        soft_steps = round(ANNEALED * steps)
        for step in range(steps):
            self._decay(adam, step, steps)
            rounded = symbols(y.detach())
            used = bits(rounded, index)
            soft = step < soft_steps
            k = anneal(y, step / soft_steps, self.random) if soft else y + (rounded - y.detach())
            found = distortion(self.x, self.picture(k * delta), self.coding)
            if not soft:
                better = (found.detach() < least) & (used <= self.budget)
                least = torch.where(better, found.detach(), least)
                best_k[better], best_shift[better] = rounded[better], shift[better]
            # λ by proportional and integral control of the bits above the budget.
            excess = (used / self.budget.clamp_min(1) - 1 + RESERVE).clamp(-1, 1)
            integral = integral + 0.1 * excess
            rate_weight = base * torch.exp(integral + 2 * excess)
            # Not of rounded symbols: their rate is flat at 0, and every one of them would drift over the edge.
            rate = bits(k if soft else y, index) / self.x[0, 0].numel()
            (y.grad,) = torch.autograd.grad((found + rate_weight * rate).sum(), y)
            adam.step()
        return best_k, best_shift

    def _quantised(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z rounded by the finest quantiser that fits, zeros where none does."""
        shift = self._finest_shift(z, self.budget)
        index = shifted(self.index, shift)
        k = symbols(z / step_of(index))
        return k * (bits(k, index) <= self.budget).view(-1, 1, 1, 1), shift

    def _finest_shift(self, z: Tensor, budget: Tensor) -> Tensor:
        return finest_shift(z, self.index, budget) if self.shift is None else self.shift

    def _clip(self, z: Tensor) -> None:
        """Stochastic clipping: components beyond the box are drawn anew from the prior."""
        box = self.coding.box
        with torch.no_grad():
            outside = z.abs() > box
            if outside.any():
                drawn = torch.randn(z.shape, generator=self.random).to(z.device)
                z.copy_(torch.where(outside, drawn.clamp(-box, box), z))

    def _decay(self, adam: torch.optim.Optimizer, step: int, steps: int) -> None:
        """The learning rate falls linearly to a tenth over the phase."""
        adam.param_groups[0]["lr"] = self.coding.learning_rate * (1 - 0.9 * step / steps)


def anneal(y: Tensor, progress: float, random: torch.Generator) -> Tensor:
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


def finest_shift(z: Tensor, index: Tensor, budget: Tensor) -> Tensor:
    """[B]: the finest shift at which rounding z takes no more than ``budget`` bits; the coarsest if none.

    By bisection, as if bits never fell with finer steps. Where rounding makes them fall somewhere, the shift found
    still fits.
    """
    low = torch.full_like(budget, SHIFTS.start)
    high = torch.full_like(budget, SHIFTS.stop - 1)
    while (low < high).any():
        middle = ((low + high) / 2).ceil()
        at = shifted(index, middle)
        fits = bits(symbols(z / step_of(at)), at) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle - 1)
    return low
