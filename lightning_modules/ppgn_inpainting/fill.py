"""The smooth first guess of what is not kept: a pyramid of averages (push and pull, Gortler et al. 1996)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_fill(values: Tensor, mask: Tensor) -> Tensor:
    """Kept values as they are, and in the holes means of the kept ones around, the nearer the fewer.

    Args:
        values: [B, C, H, W]; what stands in the holes does not matter.
        mask: [B, 1, H, W], 1 where kept, 0 in holes. Without any kept pixel the result is 0.
    """
    mask = mask.to(values.dtype)
    levels, sums, weights = [], values * mask, mask
    while True:
        levels.append((sums, weights))
        if max(weights.shape[2:]) == 1:
            break
        pad = (0, weights.shape[3] % 2, 0, weights.shape[2] % 2)
        sums, weights = (4 * F.avg_pool2d(F.pad(t, pad), 2) for t in (sums, weights))
    filled = None
    for sums, weights in reversed(levels):
        value = sums / weights.clamp_min(1e-6)
        known = weights.clamp(max=1.0)
        if filled is None:
            filled = value * (weights > 0)
        else:
            lifted = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
            lifted = lifted[..., : weights.shape[2], : weights.shape[3]]
            filled = known * value + (1 - known) * lifted
    return filled


def guess(values: Tensor, mask: Tensor, base: Tensor | None) -> Tensor:
    """`smooth_fill` of the kept values, or of their difference to an enlarged thumbnail where there is one."""
    if base is None:
        return smooth_fill(values, mask)
    return base + smooth_fill(values - base, mask)


def enlarge(thumbnail: Tensor, height: int, width: int) -> Tensor:
    """A thumbnail [B, 3, h, w] at the picture's size, bicubic, within [0, 1]."""
    if thumbnail.shape[2:] == (height, width):
        return thumbnail
    size = (height, width)
    return F.interpolate(thumbnail, size, mode="bicubic", align_corners=False, antialias=False).clamp(0, 1)


def no_mask(x: Tensor) -> Tensor:
    """[B, 1, H, W] of zeros for pictures [B, 3, H, W]."""
    return torch.zeros_like(x[:, :1])
