"""Thumbnails and kept blocks as bare AV1 stills."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image as PillowImage

from lightning_modules.classical.avif import Avif
from lightning_modules.codec.contract import Image


class Still(Avif):
    """AV1 tuned for structure, which is what the publication measures; 6 of 10 in speed."""

    tune = "ssim"
    speed = 6


class QuickStill(Avif):
    """The same artefacts sooner, for training."""

    tune = "ssim"
    speed = 9


class Fitted(NamedTuple):
    """A stream and the picture that its decoder makes of it."""

    stream: bytes
    quality: int
    decoded: Image


def thumbnail_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Sides of a thumbnail."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(image: Image, scale: float) -> Image:
    """The thumbnail (Lanczos, antialiased)."""
    height, width = thumbnail_size(*image.shape[:2], scale)
    if scale == 1:
        return image
    return np.array(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.LANCZOS))


def degraded(image: Image, scale: float, quality: int) -> Image:
    """The decoded thumbnail of a training crop."""
    small = shrink(image, scale)
    codec = QuickStill()
    return codec.decompress(codec.compress(small, quality), *small.shape[:2])


def fit(
    limit: int, compress: Callable[[int], bytes], highest: int = 90, start: int = 25
) -> tuple[bytes, int]:
    """The stream of the highest quality within ``limit`` bytes and that quality; of quality 0 where none fits.

    Bytes are about exponential in quality, which saves most of a bisection's attempts.
    """
    low, high, best = -1, highest + 1, None
    quality, sizes = start, {}
    while high - low > 1:
        stream = compress(quality)
        sizes[quality] = len(stream)
        if len(stream) <= limit:
            low, best = quality, (stream, quality)
            if len(stream) >= 0.985 * limit:
                break
        else:
            high = quality
        quality += round(20 * np.log2(limit / len(stream))) if limit > 0 else -highest
        if not low < quality < high or len(sizes) > 5:
            quality = (low + high) // 2
    if best is None:
        best = compress(0), 0
    return best
