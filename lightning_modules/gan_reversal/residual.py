"""The second layer: what the generator's picture lacks, coded by a classical codec in the bytes left over."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from lightning_modules.codec.contract import Image
from lightning_modules.codec.rate_control import last_within

MIDDLE = 128


def encode_residual(image: Image, base: Image, limit: int) -> bytes | None:
    """An AV1 still of ``image − base + 128`` (clipped to 8 bits), the finest found within ``limit`` bytes; None if none
    fits."""
    from lightning_modules.classical.avif import Avif

    if limit < 1:
        return None
    residual, codec = np.clip(image.astype(np.int16) - base + MIDDLE, 0, 255).astype(np.uint8), Avif()
    steps = codec.quality_steps

    @cache
    def payload(at: int) -> bytes:
        return codec.compress(residual, steps[at])

    found = last_within(
        len(steps), lambda at: math.log(len(payload(at))), math.log(limit), start=20, near=0.01, span=6
    )
    return payload(found) if found >= 0 else None


def add_residual(base: Image, payload: bytes) -> Image:
    """``base`` plus the decoded residual, clipped to 8 bits."""
    from lightning_modules.classical.avif import Avif

    residual = Avif().decompress(payload, *base.shape[:2])
    return np.clip(base.astype(np.int16) + residual - MIDDLE, 0, 255).astype(np.uint8)
