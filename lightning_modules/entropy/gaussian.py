"""Discretised Gaussians: likelihoods for training and integer tables for coding.

Equation 2 of Akutsu et al.: ``P(ẑ) = Φ((ẑ − μ + ½)/σ) − Φ((ẑ − μ − ½)/σ)``. A network gives μ and a *scale index* s,
with σ(s) = 0.11 · (64/0.11)^(s/63). For coding, s is rounded to one of 64 scales and μ to sixteenths, so that a
symbol's distribution is one of 64 × 16 stored tables of integers. The tables are made once, when weights are
exported, and travel with them: `erf` differs between libraries, integers do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from scipy.special import ndtr
from torch import Tensor

SCALES = 64
FRACTIONS = 16
SIGMA_MIN, SIGMA_MAX = 0.11, 64.0
TOTAL = 1 << 20
# Half-widths of the three groups of tables; symbols further out are escapes.
HALF_WIDTHS = (7, 31, 255)


def sigma_of(index: Tensor) -> Tensor:
    """σ of a scale index, clamped to [0, 63]."""
    step = math.log(SIGMA_MAX / SIGMA_MIN) / (SCALES - 1)
    return SIGMA_MIN * torch.exp(step * lower_bound(index, 0.0).clamp(max=SCALES - 1))


def gaussian_bits(y: Tensor, mu: Tensor, index: Tensor) -> Tensor:
    """−log2 P(y) element by element (equation 2), float32; ``index`` is the scale index.

    The probability is kept above 2⁻²⁰, the least that the tables code without an escape.
    """
    y, mu, sigma = y.float(), mu.float(), sigma_of(index.float())
    # Φ(−|d| …): both terms in the lower tail, where float32 resolves their difference.
    d = (y - mu).abs()
    p = _phi((0.5 - d) / sigma) - _phi((-0.5 - d) / sigma)
    return -torch.log2(lower_bound(p, 1.0 / TOTAL))


def _phi(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * math.sqrt(0.5))


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # The gradient passes where it would bring x back above the bound (Ballé et al. 2018).
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), whose gradient still pushes values up that lie below."""
    return _LowerBound.apply(x, bound)


class GaussianTables(NamedTuple):
    """Integer frequency tables, one group a half-width.

    Attributes:
        groups: int32 [scales in group · 16, 2·half + 2] each; every row sums to 2²⁰. Columns are the symbols −half to
            half and, last, the escape. Row (s − first scale of the group)·16 + f is for scale s and fraction f − 8
            sixteenths.
        first_scale: first scale index of each group, ascending from 0.
    """

    groups: tuple[Tensor, ...]
    first_scale: tuple[int, ...]

    def state(self) -> dict[str, Tensor]:
        """Tensors to be stored with the weights; the inverse of `from_state`."""
        tables = {f"gaussian_tables.{k}": group for k, group in enumerate(self.groups)}
        return tables | {"gaussian_tables.first_scale": torch.tensor(self.first_scale, dtype=torch.int32)}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> GaussianTables:
        """Tables stored by `state`."""
        groups = tuple(state[f"gaussian_tables.{k}"] for k in range(len(HALF_WIDTHS)))
        return cls(groups, tuple(state["gaussian_tables.first_scale"].tolist()))


def build_tables() -> GaussianTables:
    """Tables for all scales and fractions. Each scale is in the narrowest group with less than 2⁻¹⁴ beyond it."""
    sigma = sigma_of(torch.arange(SCALES).double())
    mu = (torch.arange(FRACTIONS).double() - FRACTIONS // 2) / FRACTIONS
    groups, firsts, first = [], [], 0
    for half in HALF_WIDTHS:
        fits = 2 * ndtr(-(half / sigma.numpy())) < 2.0**-14
        last = SCALES if half == HALF_WIDTHS[-1] else int(fits.sum())
        edges = torch.arange(-half, half + 2).double() - 0.5  # 2·half + 2 edges of 2·half + 1 bins
        x = (edges[None, None] - mu[None, :, None]) / sigma[first:last, None, None]
        # Differences in the lower tail on both sides of the mean keep their relative precision.
        lower, upper = torch.from_numpy(ndtr(x.numpy())), torch.from_numpy(ndtr(-x.numpy()))
        p = torch.where(x[..., :-1] > 0, upper[..., :-1] - upper[..., 1:], lower[..., 1:] - lower[..., :-1])
        p = torch.cat((p, (1 - p.sum(-1, keepdim=True)).clamp_min(0)), -1).flatten(0, 1)
        # One count each keeps every symbol codable; the rounding's remainder goes to the likeliest.
        counts = 1 + torch.floor(p * (TOTAL - p.shape[1])).to(torch.int64)
        counts[torch.arange(len(counts)), counts.argmax(1)] += TOTAL - counts.sum(1)
        groups.append(counts.to(torch.int32))
        firsts.append(first)
        first = last
    return GaussianTables(tuple(groups), tuple(firsts))
