"""Whole numbers and gradients: what stands for rounding in training."""

from __future__ import annotations

import torch
from torch import Tensor

from genic.lightning_modules.entropy.coder import MAX_SYMBOL


def symbols(x: Tensor) -> Tensor:
    """Whole numbers within ±511, as the coder takes them."""
    return x.round().clamp(-MAX_SYMBOL, MAX_SYMBOL)


def rounded(x: Tensor) -> Tensor:
    """`symbols` with the gradient of the identity."""
    return x + (symbols(x) - x).detach()


def noisy(x: Tensor) -> Tensor:
    """x and uniform noise of ±½: its likelihood stands for the rounded value's (Ballé et al. 2017)."""
    return x + torch.rand_like(x) - 0.5


def scale_gradient(x: Tensor, factor: Tensor | float) -> Tensor:
    """x, [B, …], with its gradient multiplied by ``factor``, a number or [B].

    A rate of such symbols trains an entropy model at its full weight, and the encoder at that of ``factor``.
    """
    if isinstance(factor, Tensor):
        factor = factor.view(-1, *(1,) * (x.ndim - 1))
    return x.detach() + factor * (x - x.detach())
