"""Planes without loss, by JPEG XL (ISO/IEC 18181): masks, maps, and the transparency of any codec's picture."""

from __future__ import annotations

import numpy as np

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DamagedFileError, ImageError

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
# Of transparency: 9 takes 48 s for 12 million pixels, 7 takes 8 s; files are a quarter smaller with 9.
_EFFORT = 7


def encode_alpha(alpha: np.ndarray | None, height: int, width: int) -> dict[str, bytes]:
    """The section ``alpha`` of a uint8 height×width plane, 255 opaque; none without a plane.

    Raises:
        ImageError: another shape or dtype.
    """
    if alpha is None:
        return {}
    if alpha.shape != (height, width) or alpha.dtype != np.uint8:
        raise ImageError(f"alpha is uint8 {height}×{width}, not {alpha.dtype} {alpha.shape}")
    return {"alpha": encode_lossless(alpha, effort=_EFFORT)}


def decode_alpha(container: Container) -> np.ndarray | None:
    """The transparency in a file, uint8 H×W, 255 opaque; None where it has none.

    Raises:
        DamagedFileError: the section is no such plane.
    """
    if "alpha" not in container.sections:
        return None
    try:
        alpha = decode_lossless(container.sections["alpha"], container.height, container.width)
    except DamagedFileError:
        raise
    except Exception as error:  # whatever the library raises on bad bytes
        raise DamagedFileError(f"the transparency cannot be decoded: {error}") from error
    if alpha.shape != (container.height, container.width) or alpha.dtype != np.uint8:
        raise DamagedFileError(f"the transparency decodes to {alpha.shape} {alpha.dtype}")
    return alpha


def encode_lossless(picture: np.ndarray, bits: int | None = None, effort: int = 9) -> bytes:
    """A bare codestream of uint8 H×W without loss; ``bits`` a sample, where not all 8; ``effort`` 1 to 9."""
    import imagecodecs

    return bytes(
        imagecodecs.jpegxl_encode(
            np.ascontiguousarray(picture),
            lossless=True,
            effort=effort,
            bitspersample=bits,
            usecontainer=False,
            numthreads=1,
        )
    )


def decode_lossless(codestream: bytes, height: int, width: int) -> np.ndarray:
    """The picture of a codestream; `DamagedFileError` where its size is another."""
    # The smallest codestreams are shorter than the longest header.
    check_size(*claimed_size(codestream.ljust(12, b"\0")), height, width)
    import imagecodecs

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


def check_size(found_height: int, found_width: int, height: int, width: int) -> None:
    """`DamagedFileError` where the native header's size is not the container's."""
    if (found_height, found_width) != (height, width):
        raise DamagedFileError(
            f"the payload claims {found_height}×{found_width}, the header {height}×{width}"
        )
