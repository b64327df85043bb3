"""The one contract that every system and every classical codec fulfils.

::

    uint8 H×W×3 ── encode ──> bytes ── decode ──> uint8 H×W×3

Rate is ``8 · len(bytes) / (H · W)``; distortion is measured on what `decode` returns. The harness in
`eval` and the programs in `experiments` know nothing else about a codec. For users `encode` takes whatever else a
picture may be, and transparency beside it if asked to; it is converted before the codec sees anything.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from genic.datamodules.images import One, Picture, as_pictures
from genic.lightning_modules.codec import rate_control
from genic.lightning_modules.codec.container import MAX_SIDE, NO_WEIGHTS, Container
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    ForeignFileError,
    GenicError,
    ImageError,
    OutOfMemoryError,
    TargetError,
    WeightsError,
)
from genic.lightning_modules.codec.lossless import decode_alpha, encode_alpha
from genic.lightning_modules.codec.options import Option, check_known, options_of

if TYPE_CHECKING:
    from torch import Tensor

Image = np.ndarray
"""uint8, H×W×3, RGB, sides from 1 to 8192."""
PIXELS = 1 << 22
"""Most pixels of the pictures that go through networks together; a larger one goes alone."""


@dataclass(frozen=True)
class FileInfo:
    """What a file says of itself.

    Attributes:
        codec: the codec's id.
        height, width: of the picture, pixels.
        bytes, bpp: of the whole file; bits per pixel are 8·bytes/(H·W).
        weights: identity of the weights that it needs, 8 hexadecimal digits; None without any.
        ledger: bytes by section; they sum to ``bytes``.
        settings: how it was written, as far as it is in the file, such as the quality; the codec's own.
    """

    codec: str
    height: int
    width: int
    bytes: int
    bpp: float
    weights: str | None
    ledger: dict[str, int]
    settings: dict[str, object]


class Codec(ABC):
    """A picture to bytes and back.

    Subclasses implement `_encode` and `_decode` on sections; this class does what is common: checking
    pictures, the container, and turning whatever a library raises on bad bytes into a typed error.

    Attributes:
        id: written into every file; at most 16 ASCII characters. Short, since it counts as rate.
        qualities: the codec's own operating points, in ascending order of rate; `eval` sweeps them.
        default_quality: the point used when `encode` is given none.
        quality_steps: every quality that differs in its files, in ascending order of rate: what a search for a byte
            budget chooses from, and between whose ends a quality must be.
        quality_meaning: what the number is, for messages and reports.
        stride: sides are filled up to a multiple of it inside the codec.
        trained: False for random weights, which files and times can be measured with, and no quality.
        has_networks: whether a device can be chosen for it (`registry.open_codec`).
        looks_up: True where nothing is coded but files are found by the picture's name, which `encode` takes as
            ``name``; their times say nothing.
    """

    id: ClassVar[str]
    qualities: Sequence[float]
    default_quality: float
    quality_steps: Sequence[float]
    quality_meaning: str
    stride: int = 1
    trained: bool = True
    has_networks: ClassVar[bool] = False
    looks_up: ClassVar[bool] = False

    @classmethod
    def presets(cls) -> list[str]:
        """Names of the weights that come with it, for `registry.open_codec`."""
        return []

    @property
    def weights_id(self) -> bytes:
        """4-byte identity of the weights; zeros for codecs that have none."""
        return NO_WEIGHTS

    def coding_options(self) -> dict[str, str | float]:
        """What files depend on besides picture, quality and weights, by name, such as a classifier found here."""
        return {}

    def options(self) -> dict[str, Option]:
        """What `encode` takes beside a picture and a quality or target, by name."""
        sources = self._option_sources()
        return {name: option for source in sources for name, option in options_of(source).items()}

    def decode_options(self) -> dict[str, Option]:
        """What `decode` takes beside a file, by name."""
        return options_of(self._decode)

    def seconds(self, height: int, width: int, bpp: float | None = None, **options: Any) -> float | None:
        """About how long `encode` takes here, for its arguments; None where it is not known to take long."""
        return None

    @overload
    def encode(
        self,
        image: One,
        quality: float | None = None,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        alpha: bool = False,
        **options: Any,
    ) -> bytes: ...

    @overload
    def encode(
        self,
        image: Tensor,
        quality: float | None = None,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        alpha: bool = False,
        **options: Any,
    ) -> bytes | list[bytes]: ...

    def encode(
        self,
        image: One | Tensor,
        quality: float | None = None,
        *,
        target_bytes: int | None = None,
        target_bpp: float | None = None,
        alpha: bool = False,
        **options: Any,
    ) -> bytes | list[bytes]:
        """Compress.

        Args:
            image: uint8 H×W×3; a path or a picture of Pillow's, converted as `datamodules.images.read_picture` says;
                a tensor of floating point in [0, 1], [3, H, W], or [B, 3, H, W] for a list of B files.
            quality: one of, or between, `qualities`; what it means is the codec's own.
            target_bytes: most bytes of the file, instead of a quality.
            target_bpp: the same as bits per pixel of the whole file, 8·bytes/(H·W).
            alpha: keep transparency, without loss, where the picture has any; it comes on top of what ``quality``
                asks for, and a target includes it. An array is H×W×4 then.
            **options: further parameters of a codec, see `options`.

        Warns:
            PictureWarning: the file of a picture holds more than is coded, e.g. transparency or 16 bits.

        Raises:
            DataError: there is no such file.
            ImageError: not such a picture.
            OutOfMemoryError: the machine or its GPU lacks the memory.
            ConfigError: a quality or an option is out of range, or more than one of quality and targets is given.
            TargetError: no file is as small as the target; it names the least size.
        """
        if sum(choice is not None for choice in (quality, target_bytes, target_bpp)) > 1:
            raise ConfigError("give one of quality, target_bytes and target_bpp")
        pictures, batch = as_pictures(image, alpha)
        for picture in pictures:
            picture.warn()
        files = [self._file(picture, quality, target_bytes, target_bpp, options) for picture in pictures]
        return files if batch else files[0]

    def _file(
        self,
        picture: Picture,
        quality: float | None,
        target_bytes: int | None,
        target_bpp: float | None,
        options: Mapping[str, Any],
    ) -> bytes:
        if target_bytes is None and target_bpp is None:
            write = self.encoder(picture.image, alpha=picture.alpha, **options)
            return write(self.default_quality if quality is None else quality)
        check_image(picture.image)
        height, width = picture.image.shape[:2]
        limit = rate_control.budget(height, width, target_bytes, target_bpp)
        return self.encode_within(picture.image, limit, alpha=picture.alpha, **options).data

    def encode_within(
        self, image: Image, limit: int, *, alpha: np.ndarray | None = None, **options: Any
    ) -> rate_control.Found:
        """The best file of at most ``limit`` bytes, and its quality; see `encode`.

        Args:
            image: uint8 H×W×3.
            alpha: uint8 H×W, to be kept without loss.

        Raises:
            TargetError: there is none.
        """
        check_image(image)
        height, width = image.shape[:2]
        extra = encode_alpha(alpha, height, width)
        room = limit - (self.file_size(extra, height, width) - self.file_size({}, height, width))
        with self._in_memory("encode", height, width):
            found = self._encode_within(image, max(room, 1), **options)
        data = _with_sections(found.data, extra)
        self._check_budget(data, limit, height, width)
        return found._replace(data=data)

    def encoder(
        self, image: Image, *, alpha: np.ndarray | None = None, **options: Any
    ) -> Callable[[float], bytes]:
        """Quality to file, for several files of one picture: what they share is done once.

        Args:
            image: uint8 H×W×3.
            alpha: uint8 H×W, to be kept without loss.

        Raises:
            ImageError, ConfigError: see `encode`.
        """
        check_image(image)
        height, width = image.shape[:2]
        extra = encode_alpha(alpha, height, width)
        with self._in_memory("encode", height, width):
            sections_at = self._encoder(np.ascontiguousarray(image), **options)

        def encode(quality: float) -> bytes:
            self._check_quality(quality)
            with self._in_memory("encode", height, width):
                sections = sections_at(quality)
            return self._container({**sections, **extra}, height, width).to_bytes()

        return encode

    def encode_many(
        self, images: Sequence[Image], quality: float | None = None, **options: Any
    ) -> list[bytes]:
        """Files of many pictures; those of one size go through a learned codec's networks together, `PIXELS` at most.

        Batches may differ in rounding, so a file may differ from the one that `encode` gives; it decodes to the same
        symbols everywhere.

        Raises:
            ImageError, ConfigError: see `encode`.
        """
        for image in images:
            check_image(image)
        quality = self.default_quality if quality is None else quality
        self._check_quality(quality)
        files: dict[int, bytes] = {}
        for part in _of_one_size([image.shape[:2] for image in images]):
            given = [np.ascontiguousarray(images[k]) for k in part]
            with self._in_memory("encode", *given[0].shape[:2]):
                found = self._encode_equal(given, quality, **options)
            for k, sections in zip(part, found, strict=True):
                files[k] = self._container(sections, *images[k].shape[:2]).to_bytes()
        return [files[k] for k in range(len(images))]

    def _check_quality(self, quality: float) -> None:
        rate_control.check_number("quality", quality)
        low, high = sorted((self.quality_steps[0], self.quality_steps[-1]))
        if not low <= quality <= high:
            raise ConfigError(
                f"{self.id}: quality is {self.quality_meaning}, {low:g} to {high:g}, not {quality:g}"
            )

    def file_size(self, sections: Mapping[str, bytes], height: int, width: int) -> int:
        """Bytes of the file of a height×width picture that holds ``sections``."""
        return len(self._container(sections, height, width).to_bytes())

    def info(self, data: bytes) -> FileInfo:
        """What a file of this codec says of itself; nothing is decoded, and its weights are not needed.

        Raises:
            BitstreamError: damaged, truncated, foreign or newer bytes.
        """
        container = self._opened(data)
        try:
            settings = self._settings(container)
        except (IndexError, KeyError, ValueError) as error:  # ours are ValueErrors, too
            raise DamagedFileError(f"{self.id} cannot read the parameters: {error}") from error
        return FileInfo(
            container.codec,
            container.height,
            container.width,
            len(data),
            8 * len(data) / (container.height * container.width),
            None if container.weights == NO_WEIGHTS else container.weights.hex(),
            container.ledger(),
            settings,
        )

    def decode(self, data: bytes, *, alpha: bool = False, **options: Any) -> Image:
        """Decompress; the file and the weights it names suffice.

        Args:
            data: of `encode`.
            alpha: give transparency, too: uint8 H×W×4 where the file has any.
            **options: of a codec whose file can be shown in several ways, see `decode_options`; no file needs one.

        Raises:
            ConfigError: there is no such option, or its value is out of range.
            BitstreamError: damaged, truncated, foreign or newer bytes.
            WeightsError: the file was written with other weights.
            OutOfMemoryError: the machine or its GPU lacks the memory.
        """
        whole = self._opened(data)
        if options:
            check_known(options, self.decode_options(), f"decoding {self.id}")
        [image] = self._pictures([self._for_these_weights(whole)], **options)
        plane = decode_alpha(whole) if alpha else None
        return image if plane is None else np.dstack([image, plane])

    def decode_many(self, files: Sequence[bytes]) -> list[Image]:
        """Pictures of many files, without transparency; those of one size go through a learned codec's networks
        together, `PIXELS` at most. Pixels may differ from `decode`'s by rounding.

        Raises:
            BitstreamError, WeightsError, OutOfMemoryError: of the first file that `decode` raises it for.
        """
        containers = [self._for_these_weights(self._opened(data)) for data in files]
        images: dict[int, Image] = {}
        for part in _of_one_size([(each.height, each.width) for each in containers]):
            try:
                found = self._pictures([containers[k] for k in part])
            except GenicError:
                found = [self.decode(files[k]) for k in part]  # which of them it is, and room for one
            images |= dict(zip(part, found, strict=True))
        return [images[k] for k in range(len(files))]

    def _for_these_weights(self, whole: Container) -> Container:
        """The file without its transparency; `WeightsError` where it needs other weights."""
        if whole.weights != self.weights_id:
            raise WeightsError(
                f"the file needs weights {whole.weights.hex()}, loaded are {self.weights_id.hex()}: "
                "give the checkpoint that wrote it (--weights PATH)"
            )
        return replace(whole, sections={k: v for k, v in whole.sections.items() if k != "alpha"})

    def _pictures(self, containers: Sequence[Container], **options: Any) -> list[Image]:
        """Of files of one size, checked; whatever a library raises is a typed error."""
        height, width = containers[0].height, containers[0].width
        try:
            with self._in_memory("decode", height, width):
                alone = len(containers) == 1
                images = [self._decode(containers[0], **options)] if alone else self._decode_equal(containers)
        except GenicError:
            raise
        except Exception as error:
            raise DamagedFileError(f"{self.id} cannot decode the payload: {error}") from error
        for image in images:
            if image.shape != (height, width, 3) or image.dtype != np.uint8:
                raise DamagedFileError(
                    f"the payload decodes to {image.shape} {image.dtype}, the header says {height}×{width}×3 uint8"
                )
        return images

    def _opened(self, data: bytes) -> Container:
        """A file of this codec."""
        container = Container.from_bytes(data)
        if container.codec != self.id:
            raise ForeignFileError(
                f"the file is of codec {container.codec!r}, not {self.id!r}: use that codec"
            )
        return container

    def _settings(self, container: Container) -> dict[str, object]:
        """`FileInfo.settings`."""
        return {}

    @abstractmethod
    def _encode(self, image: Image, quality: float, **options: Any) -> dict[str, bytes]:
        """Sections by name (see `container.SECTIONS`)."""

    def _encode_equal(
        self, images: Sequence[Image], quality: float, **options: Any
    ) -> list[dict[str, bytes]]:
        """Sections of pictures of one size. A codec whose networks take several at once replaces the loop."""
        return [self._encode(image, quality, **options) for image in images]

    def _decode_equal(self, containers: Sequence[Container]) -> list[Image]:
        """Pictures of files of one size; see `_encode_equal`."""
        return [self._decode(container) for container in containers]

    def _option_sources(self) -> Sequence[Any]:
        """Functions and dataclasses whose keywords and fields are `options`; later ones go before earlier ones."""
        return (self._encode,)

    def _encoder(self, image: Image, **options: Any) -> Callable[[float], dict[str, bytes]]:
        """Quality to sections. A codec whose analysis does not depend on the quality does it here, before."""
        return lambda quality: self._encode(image, quality, **options)

    def _encode_within(self, image: Image, limit: int, **options: Any) -> rate_control.Found:
        """The best file within ``limit`` bytes, or the least one. A codec that aims at a size by itself replaces the
        search."""
        write = self.encoder(image, **options)
        return rate_control.largest_within(write, self.quality_steps, limit, self.default_quality)

    @abstractmethod
    def _decode(self, container: Container) -> Image:
        """The picture, uint8 H×W×3."""

    def _container(self, sections: Mapping[str, bytes], height: int, width: int) -> Container:
        return Container(self.id, height, width, dict(sections), self.weights_id)

    def _check_budget(self, data: bytes, limit: int, height: int, width: int) -> None:
        """`TargetError` where the least file there is exceeds the limit."""
        if (size := len(data)) > limit:
            raise TargetError(
                f"{self.id}: the byte budget of {limit} is too small: the smallest file of this {height}×{width} "
                f"picture has {size} bytes, {8 * size / (height * width):.4f} bits per pixel",
                size,
            )

    @contextmanager
    def _in_memory(self, what: str, height: int, width: int) -> Iterator[None]:
        """A lack of memory is `OutOfMemoryError`, whatever a library calls it."""
        try:
            yield
        except Exception as error:
            if isinstance(error, GenicError) or not self._is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"no memory to {what} {height}×{width} pixels: end what else uses it, or take a machine with more "
                "(what a GPU cannot hold, the CPU may: CUDA_VISIBLE_DEVICES='')"
            ) from error

    @staticmethod
    def _is_out_of_memory(error: Exception) -> bool:
        return isinstance(error, MemoryError)


def _of_one_size(sizes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Places of pictures (H, W) of one size, `PIXELS` together at most."""
    places: dict[tuple[int, ...], list[int]] = {}
    for k, size in enumerate(sizes):
        places.setdefault(size, []).append(k)
    for (height, width), found in places.items():
        count = max(1, PIXELS // (height * width))
        yield from (found[k : k + count] for k in range(0, len(found), count))


def _with_sections(data: bytes, sections: Mapping[str, bytes]) -> bytes:
    if not sections:
        return data
    container = Container.from_bytes(data)
    return replace(container, sections={**container.sections, **sections}).to_bytes()


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
