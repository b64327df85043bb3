"""Soft-to-hard quantisation to the five fixed centres."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CENTRES = (-2, -1, 0, 1, 2)
LEVELS = len(CENTRES)
"""L."""


class Quantised(NamedTuple):
    """Attributes:
    w_hat: the nearest centres, with the gradient of the soft assignment's mean; of w's shape.
    one_hot: which centre, [..., 5], with the gradient of the soft assignment.
    """

    w_hat: Tensor
    one_hot: Tensor


def quantise(w: Tensor, sigma: float) -> Quantised:
    """Nearest centre forward, softmax(−σ·(w − c)²) backward (Mentzer et al. 2018, equation 2; any shape, float32)."""
    c = torch.tensor(CENTRES, dtype=w.dtype, device=w.device)
    distance = (w[..., None] - c).square()
    q = torch.softmax(-sigma * distance, -1)
    hard = torch.nn.functional.one_hot(distance.argmin(-1), LEVELS).to(w.dtype)
    one_hot = q + (hard - q).detach()
    return Quantised((one_hot * c).sum(-1), one_hot)


def nearest(w: Tensor) -> Tensor:
    """The nearest centres without gradient: whole numbers −2 to 2 of w's shape and dtype."""
    return w.round().clamp(CENTRES[0], CENTRES[-1])
