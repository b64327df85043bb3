"""JPEG XL (ISO/IEC 18181) by libjxl."""

from __future__ import annotations

import imagecodecs

from genic.lightning_modules.classical.base import ClassicalCodec, Image
from genic.lightning_modules.codec.lossless import check_size, claimed_size
from genic.lightning_modules.codec.rate_control import geometric


class JpegXl(ClassicalCodec):
    """JPEG XL at effort 9 of 9, as a bare codestream.

    Quality is the Butteraugli distance, 25 (smallest file) to 0.05. The format aims at what is seen, not
    at PSNR.
    """

    id = "jxl"
    qualities = (25, 18, 12, 8, 5, 3, 1.8)
    default_quality = 3
    quality_steps = geometric(25, 0.05)
    quality_meaning = "the Butteraugli distance"

    def compress(self, image: Image, quality: float) -> bytes:
        return bytes(
            imagecodecs.jpegxl_encode(
                image, distance=float(quality), effort=9, usecontainer=False, numthreads=1
            )
        )

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        check_size(*claimed_size(payload), height, width)
        return imagecodecs.jpegxl_decode(payload, numthreads=1)
