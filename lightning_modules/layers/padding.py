"""Padding of feature maps to whole multiples."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def replicated(x: Tensor, bottom: int, right: int) -> Tensor:
    """[B, C, H, W] -> [B, C, H + bottom, W + right] with the last row and column again and again."""
    if not bottom and not right:
        return x
    if torch.compiler.is_compiling():
        x = x.contiguous()  # of channels-last gradients torch 2.13 assumes another layout than it makes
    return F.pad(x, (0, right, 0, bottom), mode="replicate")
