"""Discretised Gaussians: likelihoods for training and integer tables for coding.

Equation 2 of Akutsu et al.: ``P(ẑ) = Φ((ẑ − μ + ½)/σ) − Φ((ẑ − μ − ½)/σ)``. A network gives μ and a *scale index* s,
with σ(s) = 0.11 · (64/0.11)^(s/63). For coding, s is rounded to quarters and μ to 32nds at least where σ is small, and
more coarsely where it is large and that costs nothing, so that a symbol's distribution is a row of stored tables of
integers. They are made once, when weights are exported, and travel with them: `erf` differs between libraries,
integers do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from scipy.special import ndtr
from torch import Tensor

from genic.lightning_modules.entropy.range_coder import TOTAL

SCALES = 64
SIGMA_MIN, SIGMA_MAX = 0.11, 64.0
QUARTERS = 4 * (SCALES - 1) + 1
FRACTIONS = 32
"""A row is looked up by s in quarters and by the part of μ beyond its nearest integer in 32nds, −16 to 15."""


class Group(NamedTuple):
    """Tables of one width.

    Attributes:
        half: symbols −half to half about the centre have a column; those further out are escapes.
        fractions, scales: the rounding of μ and s: fractions of 1 that have a row each. With these, rounding costs
            less than 0.05 % of rate.
    """

    half: int
    fractions: int
    scales: int


GROUPS = (Group(7, 32, 4), Group(31, 8, 2), Group(255, 1, 1))


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
    p = normal_cdf((0.5 - d) / sigma) - normal_cdf((-0.5 - d) / sigma)
    return -torch.log2(lower_bound(p, 1.0 / TOTAL))


def normal_cdf(x: Tensor) -> Tensor:
    """Φ, with a gradient."""
    return 0.5 * torch.erfc(-x * math.sqrt(0.5))


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # The gradient passes where it would bring x back above the bound (Ballé et al. 2018).
        return grad * ((x >= ctx.bound) | (grad < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound), whose gradient still pushes values up that lie below."""
    return _LowerBound.apply(x, bound)


class GaussianTables(NamedTuple):
    """Integer frequency tables.

    Attributes:
        groups: int32 [rows, 2·half + 2] for each of `GROUPS`; every row sums to 2²⁰. Columns are the symbols −half
            to half and, last, the escape.
        rows: int32 [QUARTERS, FRACTIONS], the row of a distribution, counted through all groups.
    """

    groups: tuple[Tensor, ...]
    rows: Tensor

    def state(self) -> dict[str, Tensor]:
        """Tensors to be stored with the weights; the inverse of `from_state`."""
        tables = {f"gaussian_tables.{k}": group for k, group in enumerate(self.groups)}
        return tables | {"gaussian_tables.rows": self.rows}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> GaussianTables:
        """Tables stored by `state`, perhaps among other tensors; KeyError where they are not."""
        groups = tuple(state[f"gaussian_tables.{k}"] for k in range(len(GROUPS)))
        return cls(groups, state["gaussian_tables.rows"])


def build_tables() -> GaussianTables:
    """The tables. Each scale is in the narrowest group that leaves less than 2⁻¹⁴ beyond it."""
    s = torch.arange(QUARTERS).double() / 4
    fraction = torch.arange(FRACTIONS).double() / FRACTIONS - 0.5
    tables, rows, first = [], torch.empty(QUARTERS, FRACTIONS, dtype=torch.int32), 0
    pending = torch.ones(QUARTERS, dtype=torch.bool)
    for group in GROUPS:
        fits = torch.from_numpy(2 * ndtr(-group.half / sigma_of(s).numpy()) < 2.0**-14)
        member = pending if group is GROUPS[-1] else pending & fits
        scale, of_scale = torch.unique(
            torch.round(s[member] * group.scales) / group.scales, return_inverse=True
        )
        mu, of_fraction = torch.unique(
            torch.round(fraction * group.fractions) / group.fractions, return_inverse=True
        )
        rows[member] = (first + of_scale[:, None] * len(mu) + of_fraction).to(torch.int32)
        tables.append(
            _frequencies(mu.repeat(len(scale)), sigma_of(scale).repeat_interleave(len(mu)), group.half)
        )
        first += len(tables[-1])
        pending = pending & ~member
    return GaussianTables(tuple(tables), rows)


def _frequencies(mu: Tensor, sigma: Tensor, half: int) -> Tensor:
    """int32 [len(mu), 2·half + 2], rows that sum to `TOTAL`."""
    edges = torch.arange(-half, half + 2).double() - 0.5  # 2·half + 2 edges of 2·half + 1 bins
    x = ((edges - mu[:, None]) / sigma[:, None]).numpy()
    # Differences in the lower tail on both sides of the mean keep their relative precision.
    lower, upper = torch.from_numpy(ndtr(x)), torch.from_numpy(ndtr(-x))
    p = torch.where(
        torch.from_numpy(x[:, :-1] > 0), upper[:, :-1] - upper[:, 1:], lower[:, 1:] - lower[:, :-1]
    )
    p = torch.cat((p, (1 - p.sum(1, keepdim=True)).clamp_min(0)), 1)
    return to_frequencies(p)


def to_frequencies(p: Tensor) -> Tensor:
    """Probabilities float64 [rows, columns] as int32 counts, at least 1 each, that sum to `TOTAL`."""
    # One count each keeps every symbol codable; the rounding's remainder goes to the likeliest.
    counts = 1 + torch.floor(p * (TOTAL - p.shape[1])).to(torch.int64)
    counts[torch.arange(len(counts)), counts.argmax(1)] += TOTAL - counts.sum(1)
    return counts.to(torch.int32)
