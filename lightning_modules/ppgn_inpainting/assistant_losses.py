"""Edge and boundary losses; content and style are in `losses.perceptual`.

The publication swaps the names of content and style, leaves out content's square, and repeats style in its total
where content belongs. The right ones (Gatys, Ecker, Bethge 2016) are used here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_SIGMA = 1.4
_RADIUS = 4


def laplacian_of_gaussian(x: Tensor, sigma: float = LOG_SIGMA) -> Tensor:
    """Luma of pictures [B, 3, H, W] in [0, 1] filtered by σ²·∇²G (Marr and Hildreth 1980): [B, 1, H, W]."""
    luma = x[:, 0:1] * 0.299 + x[:, 1:2] * 0.587 + x[:, 2:3] * 0.114
    t = torch.arange(-_RADIUS, _RADIUS + 1, dtype=x.dtype, device=x.device)
    r2 = (t[:, None].square() + t.square()) / sigma**2
    kernel = (r2 - 2) * torch.exp(-r2 / 2) / (2 * torch.pi * sigma**2)
    kernel = kernel - kernel.mean()  # a flat picture has no edge
    padded = F.pad(luma, (_RADIUS,) * 4, mode="replicate")
    return F.conv2d(padded, kernel[None, None])


def edge_loss(x_hat: Tensor, target: Tensor, pool: int = 1) -> Tensor:
    """‖LoG(x) − LoG(x̂)‖₂², a mean over positions and pictures (the publication's is a norm over a picture).

    Args:
        x_hat: [B, 3, H, W].
        target: LoG of the original, averaged over ``pool``×``pool`` cells, [B, 1, ⌈H/pool⌉, ⌈W/pool⌉].
    """
    return (pooled(laplacian_of_gaussian(x_hat), pool) - target).square().mean()


def boundary_loss(x_hat: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
    """Mean |x̂ − x| on the kept pixels that touch a hole, of the picture before the kept pixels are pasted in.

    What the publication asks for: where the generated picture meets the kept one, pasting leaves no step. 0 where
    there is no border.

    Args:
        x_hat, kept: [B, 3, H, W]. mask: [B, 1, H, W], 1 where kept.
    """
    border = mask * F.max_pool2d(1 - mask, 3, 1, 1)
    return (border * (x_hat - kept).abs()).sum() / (3 * border.sum()).clamp_min(1)


def pooled(x: Tensor, cell: int) -> Tensor:
    """Means over cells; border cells over what they have."""
    return x if cell == 1 else F.avg_pool2d(x, cell, ceil_mode=True, count_include_pad=False)
