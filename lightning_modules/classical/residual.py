"""A residual as a picture of 8 bits: what a base lacks, for a still-picture codec."""

from __future__ import annotations

import numpy as np

from genic.lightning_modules.codec.contract import Image

MIDDLE = 128
"""Stands for no difference."""


def residual_picture(image: Image, base: Image) -> Image:
    """``image − base + 128``, clipped to 8 bits."""
    return np.clip(image.astype(np.int16) - base + MIDDLE, 0, 255).astype(np.uint8)


def add_residual(base: Image, residual: Image) -> Image:
    """``base`` plus a decoded `residual_picture`, clipped to 8 bits."""
    return np.clip(base.astype(np.int16) + residual - MIDDLE, 0, 255).astype(np.uint8)
