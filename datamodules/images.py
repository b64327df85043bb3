"""Reading and writing of pictures: the only place that does."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
from PIL import Image, ImageCms, ImageOps

from genic.lightning_modules.codec.errors import DataError, ImageError, PictureWarning
from genic.lightning_modules.codec.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"})
One: TypeAlias = Union[str, "os.PathLike[str]", Image.Image, np.ndarray]
"""A picture: a path, Pillow's, or uint8 H×W×3 (with transparency H×W×4)."""


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


@dataclass(frozen=True)
class Picture:
    """A picture as codecs take it, and what it was before that it no longer is.

    Attributes:
        image: uint8 H×W×3, sRGB, upright.
        alpha: uint8 H×W, 255 opaque, where it was asked for and the picture is not opaque throughout.
        lost: what is not in ``image`` and ``alpha``: "transparency", "16 bits", "ICC profile", "EXIF orientation",
            "DPI", "frames", each with what became of it.
    """

    image: np.ndarray
    alpha: np.ndarray | None = None
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def losses(self) -> str:
        """What is lost, in words; empty where nothing is."""
        return ", ".join(f"{what} ({became})" if became else what for what, became in self.lost.items())

    def warn(self, stacklevel: int = 2) -> None:
        """Give a `PictureWarning` where something is lost; no name is in it, so that it is told once of many alike."""
        if self.lost:
            warnings.warn(f"a picture loses {self.losses}", PictureWarning, stacklevel + 1)


def read_image(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """The picture of `read_picture` alone, uint8 H×W×3: for pictures of which nothing else is wanted."""
    return read_picture(source).image


def read_picture(source: str | os.PathLike[str] | bytes | Image.Image, alpha: bool = False) -> Picture:
    """Decode a picture as a viewer shows it: sRGB (an ICC profile is converted), upright (EXIF orientation is applied).

    Grey pictures become RGB; transparency is laid over white; samples of 16 bits are rounded; of several frames the
    first is taken. CMYK without a profile is converted by Pillow's plain formula.

    Args:
        source: a path, the bytes of a file, or a picture of Pillow's, which stays as it is.
        alpha: keep transparency as a plane of its own: colours are then those of the file, laid over nothing.

    Raises:
        DataError: no such file.
        ImageError: the file is damaged, too large for memory's sake (Pillow's bound of 179 million pixels)
            or of a kind that has no 8-bit RGB reading, e.g. floating point.
    """
    if isinstance(source, Image.Image):
        return _converted(source, {}, alpha)
    lost: dict[str, str] = {}
    with _opened(source, lost) as picture:
        if "16 bits" in lost and not picture.mode.startswith("I"):
            picture = _rounded(picture, source)
        return _converted(picture, lost, alpha)


def as_pictures(source: One | Tensor, alpha: bool = False) -> tuple[list[Picture], bool]:
    """What users have as pictures, and whether it was a batch.

    Args:
        source: a path, a picture of Pillow's, uint8 H×W×3, with ``alpha`` also H×W×4, or a tensor of floating point
            in [0, 1], [3, H, W], or [B, 3, H, W] for a batch.
        alpha: see `read_picture`.

    Raises:
        DataError, ImageError: as `read_picture`, or nothing of the above.
    """
    if isinstance(source, np.ndarray):
        if source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 4:
            if not alpha:
                raise ImageError("H×W×4 has transparency: give alpha=True to keep it, or array[..., :3]")
            return [_transparent(source[..., :3], source[..., 3])], False
        return [Picture(source)], False  # of another kind, it is refused where all arrays are
    if isinstance(source, str | os.PathLike | Image.Image):
        return [read_picture(source, alpha)], False
    torch = sys.modules.get("torch")  # without it nothing is a tensor
    if torch is None or not isinstance(source, torch.Tensor):
        raise ImageError(
            "a picture is a path, a PIL image, uint8 H×W×3 or a float tensor [3, H, W] or [B, 3, H, W], "
            f"not {type(source).__name__}"
        )
    if not source.is_floating_point() or source.ndim not in (3, 4) or source.shape[-3] != 3:
        raise ImageError(
            "a tensor is floating point in [0, 1], [3, H, W] or [B, 3, H, W], "
            f"not {source.dtype} {list(source.shape)}: permute it, or divide it by 255"
        )
    x = source.detach().float()
    if not bool(((x >= 0) & (x <= 1)).all()):  # nan is neither
        raise ImageError(
            f"a tensor's values are 0 to 1, not {float(x.min()):g} to {float(x.max()):g}: scale or clamp them"
        )
    batch = (x * 255).round().to(torch.uint8).cpu().reshape(-1, *x.shape[-3:]).permute(0, 2, 3, 1)
    return [Picture(np.ascontiguousarray(image)) for image in batch.numpy()], source.ndim == 4


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
    """Write uint8 H×W×3, H×W×4 (with transparency) or H×W as PNG, atomically: a reader sees the whole file or none.

    Raises:
        ImageError: another shape or dtype.
    """
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise ImageError(f"a PNG is written from uint8 H×W×3, H×W×4 or H×W, not {image.dtype} {image.shape}")
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


_ORIENTATION = 0x0112  # Exif's tag


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
    """`Image.open` whose failures, on opening and on decoding alike, are typed and name the file.

    Args:
        lost: takes what can only be told before decoding.
        load: decode, too.
    """

    def __init__(
        self, source: str | os.PathLike[str] | bytes, lost: dict[str, str] | None = None, load: bool = True
    ) -> None:
        self.source, self.load = source, load
        self.lost = {} if lost is None else lost

    def __enter__(self) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # e.g. corrupt EXIF, which does not touch the pixels
                self.picture = Image.open(
                    BytesIO(self.source) if isinstance(self.source, bytes) else self.source
                )
                if (frames := getattr(self.picture, "n_frames", 1)) > 1:
                    self.lost["frames"] = f"the first of {frames} is taken"
                if _has_16_bits(self.picture):
                    self.lost["16 bits"] = "rounded to 8"
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


def _converted(picture: Image.Image, lost: dict[str, str], alpha: bool) -> Picture:
    if (dpi := picture.info.get("dpi")) is not None:
        lost["DPI"] = "×".join(dict.fromkeys(f"{float(value):.4g}" for value in dpi))
    if picture.getexif().get(_ORIENTATION, 1) != 1:
        lost["EXIF orientation"] = "applied"
        picture = ImageOps.exif_transpose(picture)
    profile = picture.info.get("icc_profile")
    if picture.mode[0] in "IF":
        picture = _to_8_bits(picture)
    opacity = None
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        opacity = picture.convert("RGBA").getchannel("A")
        picture = picture.convert("L" if picture.mode == "LA" else "RGBA")
    image = _to_srgb(picture, profile, lost)
    if opacity is None or opacity.getextrema() == (255, 255):
        return Picture(np.array(image), None, lost)
    if alpha:
        return Picture(np.array(image), np.array(opacity), lost)
    lost["transparency"] = "laid over white"
    image.putalpha(opacity)
    over = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return Picture(np.array(over), None, lost)


def _transparent(image: np.ndarray, alpha: np.ndarray) -> Picture:
    return Picture(np.ascontiguousarray(image), None if alpha.min() == 255 else np.ascontiguousarray(alpha))


def _has_16_bits(picture: Image.Image) -> bool:
    """Whether samples have more than 8 bits, also where Pillow's mode says nothing of it; before decoding only."""
    wide = [
        ";16" in str(tile[3]) or (tile[0] == "ppm" and tile[3][1] > 255)
        for tile in getattr(picture, "tile", ())
    ]
    return any(wide) or picture.mode.startswith("I")


def _rounded(picture: Image.Image, source: str | os.PathLike[str] | bytes) -> Image.Image:
    """16-bit colour, of which Pillow keeps the high byte, rounded; all else that is known of the picture stays."""
    import imagecodecs

    decode = {"PNG": imagecodecs.png_decode, "TIFF": imagecodecs.tiff_decode}.get(picture.format or "")
    if decode is None or "transparency" in picture.info:
        return picture
    samples = decode(source if isinstance(source, bytes) else Path(source).read_bytes())
    rounded = Image.fromarray(_high(samples))
    if rounded.size != picture.size:
        return picture  # of a layout that only Pillow knows
    rounded = rounded.convert(picture.mode)  # grey with transparency is RGBA to Pillow
    rounded.info = dict(picture.info)
    rounded.getexif()[_ORIENTATION] = picture.getexif().get(_ORIENTATION, 1)
    return rounded


def _high(samples: np.ndarray) -> np.ndarray:
    """0 to 65535 to 0 to 255, rounded."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _to_8_bits(picture: Image.Image) -> Image.Image:
    """Of grey samples of more bits."""
    if picture.mode == "F":
        raise ImageError("floating-point samples have no fixed 8-bit reading: convert the picture")
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("samples beyond 16 bits have no 8-bit reading: convert the picture")
    return Image.fromarray(_high(values))


def _to_srgb(picture: Image.Image, profile: bytes | None, lost: dict[str, str]) -> Image.Image:
    """RGB in the colours that ``profile`` gives the samples; opaque."""
    try:
        plain = picture.convert("RGB")
    except ValueError as error:
        raise ImageError(f"mode {picture.mode} has no reading as RGB: {error}") from error
    if not profile:
        return plain
    try:
        name, space, transform = _transform(profile)
        source = picture if picture.mode == space else plain
        converted = ImageCms.applyTransform(source, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, KeyError) as error:
        lost["ICC profile"] = f"not usable: {error}"
        return plain
    # sRGB goes by many names: a profile that moves nothing by more than rounding says nothing.
    if np.abs(np.asarray(converted, np.int16) - np.asarray(plain, np.int16)).max() <= 1:
        return plain
    lost["ICC profile"] = f"{name}, converted to sRGB"
    assert converted is not None, "only a transform in place gives none"
    return converted


@lru_cache(maxsize=8)
def _transform(profile: bytes) -> tuple[str, str, ImageCms.ImageCmsTransform]:
    """Name, mode of Pillow's that it takes, and the way to sRGB."""
    # Any, since its ``profile`` is typed as a file's name.
    opened: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[opened.profile.xcolor_space.strip()]
    # Without the cache of one pixel, which threads would share.
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE
    intent = ImageCms.getDefaultIntent(opened)
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(opened, srgb, mode, "RGB", ImageCms.Intent(intent), flags)
    return ImageCms.getProfileDescription(opened).strip(), mode, transform


def _name(source: str | os.PathLike | bytes) -> str:
    return "a picture in memory" if isinstance(source, bytes) else str(source)
