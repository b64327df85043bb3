"""AV1 stills (AVIF) by libaom."""

from __future__ import annotations

from typing import ClassVar

from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.classical.base import ClassicalCodec, Image, pillow_decode, pillow_encode
from genic.lightning_modules.classical.ffmpeg import decode_planes
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.codec.rate_control import whole


class Avif(ClassicalCodec):
    """AV1 4:4:4 tuned for PSNR, as the bare stream (OBUs) out of the AVIF file, decoded by dav1d.

    The boxes around it cost 275 bytes, 5 % of a 0.1 bit per pixel Kodak file, and say nothing that the
    container does not. Quality is libavif's 0 to 100. Speed is 3 of 0 to 10 (4 costs 1.6 % of rate at half
    the time); superblocks of 64 pixels save 1 % on pictures of Kodak's size against libaom's choice.
    """

    id = "avif"
    qualities = (0, 4, 10, 18, 30, 45, 60)
    default_quality = 45
    quality_steps = whole(0, 100)
    quality_meaning = "libavif's scale"
    tune: ClassVar[str] = "psnr"
    speed: ClassVar[int] = 3

    def compress(self, image: Image, quality: float) -> bytes:
        file = pillow_encode(
            image,
            "AVIF",
            quality=round(quality),
            subsampling="4:4:4",
            codec="aom",
            speed=self.speed,
            max_threads=1,
            advanced={"tune": self.tune, "sb-size": "64"},
        )
        return _media_data(file)

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        return ycbcr.to_rgb(decode_planes(payload, "libdav1d", height, width))


class AvifDefault(ClassicalCodec):
    """The AVIF file as Pillow writes it by default: 4:2:0, tuned for structure, speed 6, boxes and all."""

    id = "avid"
    qualities = (0, 5, 12, 25, 40, 55, 70)
    default_quality = 75
    quality_steps = whole(0, 100)
    quality_meaning = "libavif's scale"

    def compress(self, image: Image, quality: float) -> bytes:
        return pillow_encode(image, "AVIF", quality=round(quality), max_threads=1)

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        return pillow_decode(payload, "AVIF", height, width)


def _media_data(file: bytes) -> bytes:
    """The content of the ``mdat`` box (ISO/IEC 14496-12), which for one still holds one stream."""
    position = 0
    while position < len(file):
        length = int.from_bytes(file[position : position + 4], "big")
        if file[position + 4 : position + 8] == b"mdat":
            return file[position + 8 : position + length]
        if length < 8:
            break
        position += length
    raise ToolError("Pillow's AVIF writer gave a file without media data; install another version of pillow")
