"""What the classical codecs share: one native stream, and pictures through Pillow."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.lossless import check_size


class ClassicalCodec(Codec):
    """A codec without weights, whose native stream is the section ``payload``."""

    def _encode(self, image: Image, quality: float) -> dict[str, bytes]:
        return {"payload": self.compress(image, quality)}

    def _decode(self, container: Container) -> Image:
        return self.decompress(container.section("payload"), container.height, container.width)

    def compress(self, image: Image, quality: float) -> bytes:
        """The native stream of a uint8 H×W×3 picture."""
        raise NotImplementedError

    def decompress(self, payload: bytes, height: int, width: int) -> Image:
        """The picture of a native stream, which must be height×width×3."""
        raise NotImplementedError


def pillow_encode(image: Image, format: str, **parameters: object) -> bytes:
    """The file that Pillow writes, without metadata."""
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, format, **parameters)
    return out.getvalue()


def pillow_decode(payload: bytes, format: str, height: int, width: int) -> Image:
    """Decode with one Pillow reader only; the size in the native header is compared before decoding."""
    with PillowImage.open(io.BytesIO(payload), formats=[format]) as picture:
        check_size(picture.height, picture.width, height, width)
        return np.array(picture.convert("RGB"))
