"""The one contract that every system and every classical codec fulfils.

::

    uint8 H×W×3 ── encode ──> bytes ── decode ──> uint8 H×W×3

Rate is ``8 · len(bytes) / (H · W)``; distortion is measured on what `decode` returns. The harness in
`eval` and the programs in `experiments` know nothing else about a codec.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lightning_modules.codec.container import MAX_SIDE, NO_WEIGHTS, Container
from lightning_modules.codec.errors import (
    DamagedFileError,
    ForeignFileError,
    GenicError,
    ImageError,
    WeightsError,
)

Image = np.ndarray
"""uint8, H×W×3, RGB, sides from 1 to 8192."""


class Codec(ABC):
    """A picture to bytes and back.

    Subclasses implement `_encode` and `_decode` on sections; this class does what is common: checking
    pictures, the container, and turning whatever a library raises on bad bytes into a typed error.

    Attributes:
        id: written into every file; at most 16 ASCII characters. Short, since it counts as rate.
        qualities: the codec's own operating points, in ascending order of rate; `eval` sweeps them.
        default_quality: the point used when `encode` is given none.
    """

    id: ClassVar[str]
    qualities: Sequence[float]
    default_quality: float

    @property
    def weights_id(self) -> bytes:
        """4-byte identity of the weights; zeros for codecs that have none."""
        return NO_WEIGHTS

    def coding_options(self) -> dict[str, str | float]:
        """What files depend on besides picture, quality and weights, by name, such as a classifier found here."""
        return {}

    def encode(self, image: Image, quality: float | None = None, **options: object) -> bytes:
        """Compress.

        Args:
            image: uint8, H×W×3.
            quality: one of, or between, `qualities`; what it means is the codec's own.
            **options: further parameters of a codec, documented in its `_encode`.

        Raises:
            ImageError: not such a picture.
        """
        check_image(image)
        quality = self.default_quality if quality is None else quality
        sections = self._encode(np.ascontiguousarray(image), quality, **options)
        return Container(self.id, image.shape[0], image.shape[1], sections, self.weights_id).to_bytes()

    def decode(self, data: bytes) -> Image:
        """Decompress; the file and the weights it names suffice.

        Raises:
            BitstreamError: damaged, truncated, foreign or newer bytes.
            WeightsError: the file was written with other weights.
        """
        container = Container.from_bytes(data)
        if container.codec != self.id:
            raise ForeignFileError(
                f"the file is of codec {container.codec!r}, not {self.id!r}: use that codec"
            )
        if container.weights != self.weights_id:
            raise WeightsError(
                f"the file needs weights {container.weights.hex()}, loaded are {self.weights_id.hex()}: "
                "give the checkpoint that wrote it (--weights PATH)"
            )
        try:
            image = self._decode(container)
        except GenicError:
            raise
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedFileError(f"{self.id} cannot decode the payload: {error}") from error
        if image.shape != (container.height, container.width, 3) or image.dtype != np.uint8:
            raise DamagedFileError(
                f"the payload decodes to {image.shape} {image.dtype}, the header says "
                f"{container.height}×{container.width}×3 uint8"
            )
        return image

    @abstractmethod
    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        """Sections by name (see `container.SECTIONS`)."""

    @abstractmethod
    def _decode(self, container: Container) -> Image:
        """The picture, uint8 H×W×3."""


def check_image(image: Image) -> None:
    """Raise `ImageError` unless ``image`` is uint8 H×W×3 with sides from 1 to 8192."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"a picture is uint8 H×W×3, not {found}: convert it (datamodules.images.read_image)")
    height, width = image.shape[:2]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(f"sides are 1 to {MAX_SIDE} pixels, not {height}×{width}: crop or scale the picture")


def bits_per_pixel(data: bytes, image: Image) -> float:
    """8·len(data)/(H·W): the whole file, header included."""
    return 8 * len(data) / (image.shape[0] * image.shape[1])
