"""The rate term of training: bits estimated from likelihoods.

An estimate, and to be logged under that name: the rate of a codec is the size of its files
(`lightning_modules.codec.contract.bits_per_pixel`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LIKELIHOOD_FLOOR = 1e-9
"""Where −log2 p, 29.9 bits by then, goes over into its tangent, so that p = 0 has a finite cost and slope."""


def estimated_bits(likelihoods: Tensor | Sequence[Tensor]) -> Tensor:
    """Σ −log2 p over all symbols of each picture.

    Args:
        likelihoods: p in [0, 1] of every symbol, [B, …]; or several such tensors (ŷ and ẑ).

    Returns:
        [B] bits, float32 (float64 for float64).
    """
    parts = [likelihoods] if isinstance(likelihoods, Tensor) else likelihoods
    return torch.stack([_bits(p).flatten(1).sum(1) for p in parts]).sum(0)


def estimated_bpp(likelihoods: Tensor | Sequence[Tensor], height: int, width: int) -> Tensor:
    """`estimated_bits` per pixel of a picture of ``height`` × ``width`` (before any padding); [B]."""
    return estimated_bits(likelihoods) / (height * width)


def _bits(p: Tensor) -> Tensor:
    p = p if p.dtype == torch.float64 else p.float()
    floor = LIKELIHOOD_FLOOR
    return (p.clamp_min(floor).log() + (p.clamp_max(floor) / floor - 1)) / -math.log(2)
