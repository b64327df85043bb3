"""The second layer: what the generator's picture lacks, coded by a classical codec in the bytes left over."""

from __future__ import annotations

import numpy as np

from lightning_modules.codec.contract import Image

MIDDLE = 128
_QUALITIES = range(0, 100, 4)  # five tries find the finest that fits


def encode_residual(image: Image, base: Image, limit: int) -> bytes | None:
    """The finest AV1 still of ``image − base + 128`` (clipped to 8 bits) within ``limit`` bytes; None if none fits."""
    from lightning_modules.classical.avif import Avif

    residual = np.clip(image.astype(np.int16) - base + MIDDLE, 0, 255).astype(np.uint8)
    codec, best = Avif(), None
    low, high = 0, len(_QUALITIES) - 1
    while low <= high:
        middle = (low + high) // 2
        payload = codec.compress(residual, _QUALITIES[middle])
        if len(payload) <= limit:
            best, low = payload, middle + 1
        else:
            high = middle - 1
    return best


def add_residual(base: Image, payload: bytes) -> Image:
    """``base`` plus the decoded residual, clipped to 8 bits."""
    from lightning_modules.classical.avif import Avif

    residual = Avif().decompress(payload, *base.shape[:2])
    return np.clip(base.astype(np.int16) + residual - MIDDLE, 0, 255).astype(np.uint8)
