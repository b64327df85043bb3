"""A codec outside genic: the mean colour."""

import numpy as np

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image


class Flat(Codec):
    """Three bytes a picture; quality is the number of bits kept of each, 1 to 8."""

    id = "flat"
    qualities = quality_steps = (1, 4, 8)
    default_quality = 8
    quality_meaning = "bits of each mean"

    def _encode(self, image: Image, quality: float) -> dict[str, bytes]:
        low = 8 - round(quality)
        return {"payload": (image.mean((0, 1)).astype(np.uint8) >> low << low).tobytes()}

    def _decode(self, container: Container) -> Image:
        colour = np.frombuffer(container.section("payload"), np.uint8)
        return np.tile(colour, (container.height, container.width, 1))
