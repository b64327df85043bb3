"""JPEG 2000 (ITU-T T.800) by OpenJPEG."""

from __future__ import annotations

from genic.lightning_modules.classical.base import ClassicalCodec, Image, pillow_decode, pillow_encode
from genic.lightning_modules.codec.rate_control import geometric

_COM = b"\xff\x64"
_START_OF_TILE = b"\xff\x90"


class Jpeg2000(ClassicalCodec):
    """JPEG 2000: irreversible 9-7 wavelet and colour transform, one tile, one layer, bare codestream.

    Quality is the target in bits per pixel; OpenJPEG's rate allocation is PSNR-optimal. A target rate for
    every picture gives the best mean curve (a target PSNR spends its bits on the hardest pictures). The
    comment marker, which names the library, is left out.
    """

    id = "jp2"
    qualities = (0.05, 0.1, 0.15, 0.25, 0.4, 0.65, 1.0, 1.5)
    default_quality = 0.65
    quality_steps = geometric(0.001, 24)
    quality_meaning = "a target in bits per pixel"

    def compress(self, image: Image, quality: float) -> bytes:
        resolutions = min(
            6, min(image.shape[:2]).bit_length()
        )  # OpenJPEG: a side of at least 2^(resolutions − 1)
        codestream = pillow_encode(
            image,
            "JPEG2000",
            no_jp2=True,
            irreversible=True,
            mct=1,
            num_resolutions=resolutions,
            quality_mode="rates",
            quality_layers=[24 / quality],
        )
        return _without_comment(codestream)

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        return pillow_decode(payload, "JPEG2000", height, width)


def _without_comment(codestream: bytes) -> bytes:
    """Drop the COM segments of the main header; nothing in a codestream points past them."""
    out, position = codestream[:2], 2
    while (marker := codestream[position : position + 2]) != _START_OF_TILE:
        end = position + 2 + int.from_bytes(codestream[position + 2 : position + 4], "big")
        if marker != _COM:
            out += codestream[position:end]
        position = end
    return out + codestream[position:]
