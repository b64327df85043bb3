"""WebP, lossy (VP8 key frames, RFC 6386) by libwebp."""

from __future__ import annotations

import struct

from genic.lightning_modules.classical.base import (
    ClassicalCodec,
    Image,
    pillow_decode,
    pillow_encode,
)
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.lossless import check_size
from genic.lightning_modules.codec.rate_control import eighths


class WebP(ClassicalCodec):
    """WebP at its slowest method. Quality is libwebp's 0 to 100; the format has 4:2:0 only.

    The presets of libwebp (photo, picture, drawing, …) are 2 to 12 % worse in PSNR than none.
    """

    id = "webp"
    qualities = (0, 3, 8, 20, 40, 60, 75, 85)
    default_quality = 75
    quality_steps = eighths(100)
    quality_meaning = "libwebp's scale"

    def compress(self, image: Image, quality: float) -> bytes:
        return pillow_encode(image, "WEBP", quality=quality, method=6)

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        # Pillow's reader reserves two canvases on opening, so the claim is read here first.
        if payload[:4] + payload[8:16] != b"RIFFWEBPVP8 " or len(payload) < 30:
            raise DamagedFileError("the payload is not a simple lossy WebP file")
        claimed_width, claimed_height = (side & 0x3FFF for side in struct.unpack("<HH", payload[26:30]))
        check_size(claimed_height, claimed_width, height, width)
        return pillow_decode(payload, "WEBP", height, width)
