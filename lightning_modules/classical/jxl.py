"""JPEG XL (ISO/IEC 18181) by libjxl."""

from __future__ import annotations

import imagecodecs
import numpy as np

from genic.lightning_modules.classical.base import ClassicalCodec, Image, check_size
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.rate_control import geometric

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


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


def encode_lossless(picture: np.ndarray, bits: int | None = None) -> bytes:
    """A bare codestream of uint8 H×W without loss; ``bits`` a sample, where not all 8."""
    return bytes(
        imagecodecs.jpegxl_encode(
            np.ascontiguousarray(picture),
            lossless=True,
            effort=9,
            bitspersample=bits,
            usecontainer=False,
            numthreads=1,
        )
    )


def decode_lossless(codestream: bytes, height: int, width: int) -> np.ndarray:
    """The picture of a codestream; `DamagedFileError` where its size is another."""
    # The smallest codestreams are shorter than the longest header.
    check_size(*claimed_size(codestream.ljust(12, b"\0")), height, width)
    return imagecodecs.jpegxl_decode(codestream, numthreads=1)


def claimed_size(codestream: bytes) -> tuple[int, int]:
    """Height and width in a codestream's SizeHeader (ISO/IEC 18181-1), without decoding anything."""
    if codestream[:2] != b"\xff\x0a" or len(codestream) < 12:
        raise DamagedFileError("the payload is not a JPEG XL codestream")
    bits, position = int.from_bytes(codestream[2:12], "little"), 0

    def read(n: int) -> int:
        nonlocal position
        position += n
        return bits >> (position - n) & (1 << n) - 1

    def side(small: int) -> int:
        return (read(5) + 1) * 8 if small else read((9, 13, 18, 30)[read(2)]) + 1

    small = read(1)
    height = side(small)
    ratio = read(3)
    if ratio == 0:
        return height, side(small)
    numerator, denominator = _RATIOS[ratio - 1]
    return height, height * numerator // denominator
