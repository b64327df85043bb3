"""Full-range BT.601 YCbCr (JFIF), as BPG and AVIF use it, in 8-bit planes.

Elementwise float64 in a fixed order, so that a picture comes out the same on every machine and whatever
the number of threads.
"""

from __future__ import annotations

import numpy as np

_STRIP = 256  # rows at a time, to bound the memory


def from_rgb(image: np.ndarray) -> np.ndarray:
    """uint8 H×W×3 RGB to uint8 3×H×W planes Y, Cb, Cr."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    for top in range(0, image.shape[0], _STRIP):
        rows = slice(top, top + _STRIP)
        r, g, b = (image[rows, :, channel].astype(np.float64) for channel in range(3))
        y = 0.299 * r + 0.587 * g + 0.114 * b
        for plane, value in zip(planes, (y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128), strict=True):
            plane[rows] = _round(value)
    return planes


def to_rgb(planes: np.ndarray) -> np.ndarray:
    """uint8 3×H×W planes Y, Cb, Cr to uint8 H×W×3 RGB."""
    image = np.empty((*planes.shape[1:], 3), np.uint8)
    for top in range(0, image.shape[0], _STRIP):
        rows = slice(top, top + _STRIP)
        y, cb, cr = (plane[rows].astype(np.float64) for plane in planes)
        r = y + 1.402 * (cr - 128)
        b = y + 1.772 * (cb - 128)
        g = (y - 0.299 * r - 0.114 * b) / 0.587
        for channel, value in enumerate((r, g, b)):
            image[rows, :, channel] = _round(value)
    return image


def _round(value: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(value), 0, 255).astype(np.uint8)
