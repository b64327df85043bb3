"""Differentiable augmentation for discriminators on small sets (DiffAugment, Zhao et al. 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(x: Tensor) -> Tensor:
    """Random brightness, saturation and contrast, translation by up to an eighth, and a cut-out of half the side.

    Args:
        x: [B, 3, H, W] in [0, 1]; every picture gets draws of its own. Gradients flow through.
    """
    return _cut_out(_translate(_colour(x)))


def _colour(x: Tensor) -> Tensor:
    u = torch.rand(3, len(x), 1, 1, 1, device=x.device)
    x = x + (u[0] - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * u[1])
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (0.5 + u[2])


def _translate(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    top, left = height // 8, width // 8
    padded = F.pad(x, (left, left, top, top))
    dy = torch.randint(0, 2 * top + 1, (len(x),)).tolist()
    dx = torch.randint(0, 2 * left + 1, (len(x),)).tolist()
    return torch.stack([p[:, a : a + height, b : b + width] for p, a, b in zip(padded, dy, dx, strict=True)])


def _cut_out(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    centre = torch.rand(2, len(x), 1, 1, device=x.device)
    rows = (torch.arange(height, device=x.device)[:, None] - centre[0] * height).abs() < height / 4
    columns = (torch.arange(width, device=x.device) - centre[1] * width).abs() < width / 4
    return x * ~(rows & columns)[:, None]
