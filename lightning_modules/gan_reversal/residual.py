"""The second layer: what the generator's picture lacks, coded by a classical codec in the bytes left over."""

from __future__ import annotations

import math
from functools import cache

from genic.lightning_modules.classical.avif import Avif
from genic.lightning_modules.classical.residual import residual_picture
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.rate_control import last_within


def encode_residual(image: Image, base: Image, limit: int) -> bytes | None:
    """An AV1 still of the residual, the finest found within ``limit`` bytes; None if none fits."""
    if limit < 1:
        return None
    residual, codec = residual_picture(image, base), Avif()
    steps = codec.quality_steps

    @cache
    def payload(at: int) -> bytes:
        return codec.compress(residual, steps[at])

    found = last_within(
        len(steps), lambda at: math.log(len(payload(at))), math.log(limit), start=20, near=0.01, span=6
    )
    return payload(found) if found >= 0 else None
