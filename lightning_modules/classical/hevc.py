"""HEVC still pictures (ITU-T H.265) by x265: the stand-in for BPG."""

from __future__ import annotations

import math

import numpy as np

from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.classical.base import ClassicalCodec, Image
from genic.lightning_modules.classical.ffmpeg import decode_planes, encode_planes
from genic.lightning_modules.codec.rate_control import whole

_BLOCK = 8  # x265's smallest coding unit
_LEAST = 16  # the smallest side it takes

# x265's defaults spend rate on texture that PSNR punishes; the psy options are set explicitly, since
# `tune` alone does not reset them in every build. The rest leaves out what one still does not need, and
# pins what could change the stream with the machine.
_PARAMETERS = (
    "psy-rd=0:psy-rdoq=0:tskip=1:strong-intra-smoothing=0:"
    "info=0:hrd=0:aud=0:vui-timing-info=0:keyint=1:"
    "frame-threads=1:pools=none:wpp=0:log-level=none"
)


class Hevc(ClassicalCodec):
    """x265 4:4:4, 8 bit, ``tune=psnr``, preset ``veryslow``, as a bare Annex B stream.

    Quality is the quantisation parameter, 51 (smallest) to 0. ``placebo`` gains 0.2 %, ten bits 0.4 %.
    Sides are filled up to a multiple of 8 by repeating the edge.
    """

    id = "hevc"
    qualities = (51, 48, 45, 42, 39, 35, 31, 27)
    default_quality = 35
    quality_steps = whole(51, 0)
    quality_meaning = "the quantisation parameter"
    stride = _BLOCK

    def compress(self, image: Image, quality: float) -> bytes:
        height, width = image.shape[:2]
        fill = ((0, _filled(height) - height), (0, _filled(width) - width), (0, 0))
        planes = ycbcr.from_rgb(np.pad(image, fill, mode="edge"))
        options = {"preset": "veryslow", "tune": "psnr", "x265-params": f"qp={round(quality)}:{_PARAMETERS}"}
        return encode_planes(planes, "libx265", options)

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        planes = decode_planes(payload, "hevc", _filled(height), _filled(width))
        return ycbcr.to_rgb(planes[:, :height, :width])


def _filled(side: int) -> int:
    return max(_LEAST, math.ceil(side / _BLOCK) * _BLOCK)
