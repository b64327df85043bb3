"""Reconstructions of another program, measured as a codec::

    PATH/<picture>.png              the reconstruction, and beside it
    PATH/<picture>.<any suffix>     the coded file: its size is the rate

    PATH/<quality>/<picture>.png    the same for several qualities, which are numbers

``encode`` gives the bytes of the coded file that lies there for the picture's name; ``decode`` gives the reconstruction
that lies beside the coded file with these very bytes. So the harness measures it as every codec: the decoder is handed
bytes, and a rate is that of a file that is there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Self

from genic.datamodules.images import ImageItem, read_image
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, FileInfo, Image, check_image
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    ForeignFileError,
    ImageError,
)
from genic.lightning_modules.codec.rate_control import check_number

RECONSTRUCTION = ".png"


class Folder(Codec):
    """A folder of files and their reconstructions, as above.

    Args:
        path: the folder.

    Attributes:
        points: quality -> picture's name without suffix -> (coded file, reconstruction). Without subfolders that
            are numbers there is one quality, 0.

    Raises:
        DataError: no such folder, no reconstruction in it, or one without its coded file.
        ConfigError: several files could be the coded one.
    """

    id = "folder"
    quality_meaning = "a subfolder's number"
    looks_up = True

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise DataError(f"no folder {path}: give folder:PATH")
        levels = {
            number: at for at in path.iterdir() if at.is_dir() and (number := _number(at.name)) is not None
        }
        points = {number: _pairs(at) for number, at in (levels or {0.0: path}).items()}
        self.points = {number: pairs for number, pairs in points.items() if pairs}
        if not self.points:
            raise DataError(
                f"no reconstructions in {path}: <picture>.png beside the coded file, or below <quality>/"
            )

        def rate(number: float) -> float:
            sizes = [coded.stat().st_size for coded, _ in self.points[number].values()]
            return sum(sizes) / len(sizes)

        self.qualities = self.quality_steps = tuple(sorted(self.points, key=rate))
        self.default_quality = self.qualities[-1]

    @classmethod
    def load(cls, which: str) -> Self:
        """Of the folder ``which``."""
        if not which:
            raise ConfigError("name the folder: folder:PATH")
        return cls(Path(which))

    def coding_options(self) -> dict[str, str | float]:
        digest = hashlib.sha256()
        for number, pairs in sorted(self.points.items()):
            for name, pair in sorted(pairs.items()):
                digest.update(f"{number:g}\0{name}\0{' '.join(_digest(path) for path in pair)}\n".encode())
        return {"files": digest.hexdigest()}

    def encoder(self, image: Image, *, name: str = "", **options: object) -> Callable[[float], bytes]:
        """Quality to the coded file of the picture ``name``; its reconstruction must be of the picture's size.

        Raises:
            DataError: the folder has no such picture at that quality.
            ConfigError: no such quality, no name, or another option.
            ImageError: the reconstruction is of another size.
        """
        check_image(image)
        if not name or any(value is not None for value in options.values()):
            raise ConfigError(
                "folder: a picture is looked up by name=…, its path in the data set, and by nothing else"
            )

        def encode(quality: float) -> bytes:
            check_number("quality", quality)
            if quality not in self.points:
                known = ", ".join(f"{number:g}" for number in self.qualities)
                raise ConfigError(f"{self.path} has no quality {quality:g}: there are {known}")
            stem = str(PurePosixPath(name).with_suffix(""))
            if stem not in self.points[quality]:
                at = "" if len(self.points) == 1 else f" at quality {quality:g}"
                raise DataError(
                    f"{self.path} has no {stem}{RECONSTRUCTION}{at}: the codec lacks this picture"
                )
            coded, reconstruction = self.points[quality][stem]
            if (found := read_image(reconstruction).shape) != image.shape:
                raise ImageError(
                    f"{reconstruction} is {found[0]}×{found[1]}, the picture {image.shape[0]}×{image.shape[1]}"
                )
            return coded.read_bytes()

        return encode

    def decode(self, data: bytes, *, alpha: bool = False, **options: object) -> Image:
        """The reconstruction beside the coded file that has these bytes.

        Raises:
            ForeignFileError: the folder has no such file.
            DamagedFileError: it has several, whose reconstructions differ.
        """
        coded = hashlib.sha256(data).hexdigest()
        pairs = [pair for point in self.points.values() for pair in point.values()]
        found = [
            other for file, other in pairs if file.stat().st_size == len(data) and _digest(file) == coded
        ]
        if not found:
            raise ForeignFileError(f"no file in {self.path} has these bytes")
        if len({_digest(path) for path in found}) > 1:
            raise DamagedFileError(
                f"{', '.join(map(str, found))} differ, though their coded files are the same bytes"
            )
        return read_image(found[0])

    def info(self, data: bytes) -> FileInfo:
        height, width = self.decode(data).shape[:2]
        bpp = 8 * len(data) / (height * width)
        return FileInfo(self.id, height, width, len(data), bpp, None, {"payload": len(data)}, {})

    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        raise NotImplementedError("its files are not of genic's format")

    def _decode(self, container: Container) -> Image:
        raise NotImplementedError("its files are not of genic's format")


def _number(name: str) -> float | None:
    try:
        return number if math.isfinite(number := float(name)) else None
    except ValueError:
        return None


def _pairs(folder: Path) -> Mapping[str, tuple[Path, Path]]:
    """Name without suffix -> coded file and reconstruction."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    pairs = {}
    for name, paths in files.items():
        reconstruction = next((path for path in paths if path.suffix.lower() == RECONSTRUCTION), None)
        if reconstruction is None:
            continue
        coded = [path for path in paths if path != reconstruction]
        if not coded:
            raise DataError(
                f"{reconstruction} has no coded file beside it: {name}.<any suffix>, whose size is the rate"
            )
        if len(coded) > 1:
            raise ConfigError(
                f"which is the coded file of {reconstruction}: {', '.join(p.name for p in coded)}? Leave one"
            )
        pairs[name] = coded[0], reconstruction
    return pairs


def _digest(path: Path) -> str:
    return ImageItem(path.name, str(path)).digest
