"""Image panels: what a module shows of a batch, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

_TITLE_HEIGHT = 14


def picture_grid(panels: Mapping[str, Tensor]) -> Image.Image:
    """One column a title, one row a picture.

    Args:
        panels: [B, 3, H, W] in [0, 1] by title, all of one size.
    """
    pictures = torch.stack(list(panels.values()), 1)
    grid = make_grid(pictures.flatten(0, 1), nrow=len(panels), padding=0)
    picture = to_pil_image(grid.clamp(0, 1).mul(255).round().byte())
    sheet = ImageOps.expand(picture, (0, _TITLE_HEIGHT, 0, 0), "white")
    draw = ImageDraw.Draw(sheet)
    for k, title in enumerate(panels):
        draw.text((k * pictures.shape[-1] + 2, 1), title, fill="black")
    return sheet
