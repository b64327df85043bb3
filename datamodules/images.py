"""Reading and writing of pictures: the only place that does."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from genic.lightning_modules.codec.errors import DataError, ImageError
from genic.lightning_modules.codec.files import write_atomic

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})


@dataclass(frozen=True)
class ImageItem:
    """A picture on disk.

    Attributes:
        name: path relative to its data set, with forward slashes; unique in the set.
        path: where it lies.
    """

    name: str
    path: str

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hexadecimal; read once while the file stays as it is."""
        stat = os.stat(self.path)
        return _digest(self.path, stat.st_mtime_ns, stat.st_size)

    def read(self) -> np.ndarray:
        """The whole picture, uint8 H×W×3; raises as `read_image`."""
        return read_image(self.path)


def read_image(source: str | os.PathLike | bytes) -> np.ndarray:
    """Decode a picture as uint8 H×W×3, RGB, upright (EXIF orientation is applied).

    Grey pictures become RGB; transparency is laid over white; of 16-bit samples the high byte is kept.
    CMYK is converted by Pillow's plain formula, without colour profiles.

    Args:
        source: a path, or the bytes of a file.

    Raises:
        DataError: no such file.
        ImageError: the file is damaged, too large for memory's sake (Pillow's bound of 179 million pixels)
            or of a kind that has no 8-bit RGB reading, e.g. floating point.
    """
    with _opened(source) as picture:
        picture = ImageOps.exif_transpose(picture)
        return np.array(_to_rgb(picture))


def image_size(source: str | os.PathLike) -> tuple[int, int]:
    """Height and width that a file claims, without decoding it; raises as `read_image`."""
    with _opened(source, load=False) as picture:
        return picture.height, picture.width


def read_label(source: str | os.PathLike | bytes) -> np.ndarray:
    """Decode a label map as uint8 H×W: an 8-bit grey, palette (its indices) or bilevel PNG.

    Raises:
        DataError: no such file.
        ImageError: damaged, or not of one 8-bit channel.
    """
    with _opened(source) as picture:
        if picture.mode == "1":
            picture = picture.convert("L")
        if picture.mode not in ("L", "P"):
            raise ImageError(
                f"{_name(source)}: a label map has one 8-bit channel, this has mode {picture.mode}"
            )
        return np.array(picture)


def write_png(path: str | os.PathLike, image: np.ndarray) -> None:
    """Write uint8 H×W×3 or H×W as PNG, atomically: a reader sees the whole file or none.

    Raises:
        ImageError: another shape or dtype.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"a PNG is written from uint8 H×W×3 or H×W, not {image.dtype} {image.shape}")
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def list_images(
    folder: str | os.PathLike, prefix: str = "", exclude: frozenset[str] = frozenset()
) -> list[ImageItem]:
    """Every picture below a folder, by suffix, sorted by name; hidden files and folders are passed over.

    Args:
        folder: where to look; links are followed.
        prefix: goes before each name, e.g. ``"train/"``.
        exclude: names of folders directly in ``folder`` that are left out.
    """
    found = []
    for at, folders, files in os.walk(folder, followlinks=True):
        top = os.path.samefile(at, folder)
        folders[:] = [f for f in folders if not f.startswith(".") and not (top and f in exclude)]
        relative = "" if top else Path(at).relative_to(folder).as_posix() + "/"
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in SUFFIXES:
                found.append(ImageItem(prefix + relative + file, os.path.join(at, file)))
    return sorted(found, key=lambda item: item.name)


@lru_cache(maxsize=100_000)
def _digest(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_hash(items: list[ImageItem]) -> str:
    """Identity of a test set: SHA-256, hexadecimal, over the sorted names and the SHA-256 of each file."""
    digest = hashlib.sha256()
    for item in sorted(items, key=lambda item: item.name):
        digest.update(f"{item.name}\0{item.digest}\n".encode())
    return digest.hexdigest()


class _opened:  # noqa: N801 (reads as a function)
    """`Image.open` whose failures, on opening and on decoding alike, are typed and name the file."""

    def __init__(self, source: str | os.PathLike | bytes, load: bool = True) -> None:
        self.source, self.load = source, load

    def __enter__(self) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # e.g. corrupt EXIF, which does not touch the pixels
                self.picture = Image.open(
                    BytesIO(self.source) if isinstance(self.source, bytes) else self.source
                )
                if self.load:
                    self.picture.load()
        except FileNotFoundError:
            raise DataError(f"no file {_name(self.source)}") from None
        except MemoryError:
            raise
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, … on bad bytes.
        except Exception as error:
            raise ImageError(f"{_name(self.source)} cannot be decoded: {error}") from error
        return self.picture

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.picture.close()


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "I":
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError("samples beyond 16 bits have no 8-bit reading: convert the picture")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ImageError("floating-point samples have no fixed 8-bit reading: convert the picture")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    try:
        return picture.convert("RGB")
    except ValueError as error:
        raise ImageError(f"mode {picture.mode} has no reading as RGB: {error}") from error


def _name(source: str | os.PathLike | bytes) -> str:
    return "a picture in memory" if isinstance(source, bytes) else str(source)
