"""Image panels: what a module shows of a batch, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

_TITLE_HEIGHT = 14


def picture_grid(panels: Mapping[str, Tensor]) -> Image.Image:
    """One column a title, one row a picture.

    Args:
        panels: [B, 3, H, W] in [0, 1] by title, all of one size.
    """
    columns = [_to_uint8(pictures) for pictures in panels.values()]
    rows = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    grid = Image.new("RGB", (rows.shape[1], rows.shape[0] + _TITLE_HEIGHT), "white")
    grid.paste(Image.fromarray(rows), (0, _TITLE_HEIGHT))
    draw = ImageDraw.Draw(grid)
    for k, title in enumerate(panels):
        draw.text((k * columns[0].shape[2] + 2, 1), title, fill="black")
    return grid


def _to_uint8(pictures: Tensor) -> np.ndarray:
    """[B, 3, H, W] in [0, 1] -> uint8 [B, H, W, 3], rounded."""
    return pictures.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
