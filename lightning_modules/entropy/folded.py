"""Gaussians folded onto a few centres: likelihoods for training and integer tables for coding.

The centres are the whole numbers −2 to 2. A centre's probability is that of a Gaussian's rounding to the nearest one:
what lies beyond −2 and 2 counts for them, so there are no escapes, and a wide Gaussian is nearly uniform: log2 5 bits a
symbol are hardly exceeded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from genic.lightning_modules.entropy.coder import SymbolModel
from genic.lightning_modules.entropy.gaussian import lower_bound, normal_cdf, sigma_of, to_frequencies
from genic.lightning_modules.entropy.grid import ACTIVATION_BITS, STEPS
from genic.lightning_modules.entropy.range_coder import TOTAL

CENTRES = (-2, -1, 0, 1, 2)
START_INDEX = 24
"""Added to the network's s: σ = 1.24 where it says nothing."""
_EDGES = tuple(c + 0.5 for c in CENTRES[:-1])
_MU_LIMIT, _MU_FRACTIONS = 4, 8
_INDEX_LIMIT, _INDEX_FRACTIONS = 44, 2  # σ up to 9
_MU_ROWS, _INDEX_ROWS = 2 * _MU_LIMIT * _MU_FRACTIONS + 1, _INDEX_LIMIT * _INDEX_FRACTIONS


def folded_bits(mu: Tensor, s: Tensor) -> Tensor:
    """−log2 P of every centre, [..., 5] float32, for the network's μ and s [...]."""
    mu, sigma = mu.float()[..., None], sigma_of(s.float() + START_INDEX)[..., None]
    edges = torch.tensor(_EDGES, device=mu.device)
    below, above = normal_cdf((edges - mu) / sigma), normal_cdf((mu - edges) / sigma)
    # Differences are taken in the tail that is small, where float32 resolves them.
    lower = torch.cat((below[..., :1], below[..., 1:] - below[..., :-1], above[..., -1:]), -1)
    upper = torch.cat((below[..., :1], above[..., :-1] - above[..., 1:], above[..., -1:]), -1)
    inner = torch.tensor(CENTRES, device=mu.device) > mu
    return -torch.log2(lower_bound(torch.where(inner, upper, lower), 1.0 / TOTAL))


def build_folded_tables() -> Tensor:
    """int32 [μ rows · s rows, 5]; every row sums to 2²⁰, every entry is at least 1."""
    mu = torch.arange(_MU_ROWS).double() / _MU_FRACTIONS - _MU_LIMIT
    sigma = sigma_of(torch.arange(_INDEX_ROWS).double() / _INDEX_FRACTIONS)
    edges = torch.tensor([-math.inf, *_EDGES, math.inf], dtype=torch.float64)
    x = ((edges - mu[:, None, None]) / sigma[:, None]).reshape(-1, len(CENTRES) + 1).numpy()
    p = np.where(x[:, :-1] > 0, ndtr(-x[:, :-1]) - ndtr(-x[:, 1:]), ndtr(x[:, 1:]) - ndtr(x[:, :-1]))
    return to_frequencies(torch.from_numpy(p))


class FoldedModels(SymbolModel):
    """Rows of `build_folded_tables`, as stored with the weights; the centres are the symbols."""

    def __init__(self, tables: Tensor) -> None:
        super().__init__([tables], [CENTRES[-1]])

    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
        centre, scale = (x.numpy().ravel().astype(np.int64) for x in (mu, index))
        at_mu = (_nearest(centre, _MU_FRACTIONS) + _MU_LIMIT * _MU_FRACTIONS).clip(0, _MU_ROWS - 1)
        at_s = _nearest(scale + START_INDEX * STEPS, _INDEX_FRACTIONS).clip(0, _INDEX_ROWS - 1)
        return np.zeros_like(at_mu), at_mu * _INDEX_ROWS + at_s


def _nearest(x: np.ndarray, fractions: int) -> np.ndarray:
    """Steps of the activation grid in ``fractions`` of 1, a power of two."""
    shift = ACTIVATION_BITS - (fractions.bit_length() - 1)
    return x + (1 << shift - 1) >> shift
