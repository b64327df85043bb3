"""Measuring files: written by a codec here, decoded by `experiments.decompress` in a process of its own."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from datamodules.images import read_image
from eval.metrics import measure
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import TargetError, ToolError
from lightning_modules.codec.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Row:
    """Means over pictures; each picture counts once.

    Attributes:
        scheme: name in the table. pictures: how many.
        bpp: bits of the whole file a pixel. ratio: bytes of the pictures' PNG files to those of these files.
        psnr: dB, of each picture, then the mean. mse: on the scale 0 to 255. ssim: see `eval.metrics`.
        seconds: of encoding, a picture; None where it was not timed.
        largest: bytes of the largest file.
        files: what is known of each file: name, bytes, psnr, ssim and the row's `Encoded.record`.
    """

    scheme: str
    pictures: int
    bpp: float
    ratio: float
    psnr: float
    mse: float
    ssim: float
    seconds: float | None = None
    largest: int = 0
    files: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True)
class Encoded:
    """A row to be measured: pictures and their files by the same names, and seconds of encoding a picture.

    ``record`` is what a file does not say of its making: seed and steps of a search, for instance.
    """

    scheme: str
    images: Mapping[str, Image]
    files: Mapping[str, bytes]
    seconds: float | None = None
    record: Mapping[str, object] = field(default_factory=dict)


def png_size(image: Image) -> int:
    """Bytes of the picture as an optimised PNG."""
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, "PNG", optimize=True)
    return len(out.getvalue())


def png_row(images: Mapping[str, Image]) -> Row:
    """The first row: lossless."""
    bpp = [8 * png_size(x) / (x.shape[0] * x.shape[1]) for x in images.values()]
    return Row("PNG", len(bpp), float(np.mean(bpp)), 1.0, math.inf, 0.0, 1.0)


def measured(entries: Sequence[Encoded], folder: Path, weights: Path | None = None) -> list[Row]:
    """Write all files into ``folder``, decode them in one fresh process, and measure.

    Args:
        entries: one a row.
        folder: emptied first.
        weights: of a learned codec.

    Raises:
        ToolError: the other process failed; the message holds what it said.
    """
    paths = decoded_elsewhere(entries, folder, weights)
    return [_row(entry, row) for entry, row in zip(entries, paths, strict=True)]


def decoded_elsewhere(
    entries: Sequence[Encoded], folder: Path, weights: Path | None = None
) -> list[list[Path]]:
    """Write all files into ``folder``, emptied first, and decode them in one fresh process.

    Returns:
        The files' paths, a list an entry; beside each lies the decoded picture as PNG.

    Raises:
        ToolError: the other process failed; the message holds what it said.
    """
    shutil.rmtree(folder, ignore_errors=True)
    paths = [[folder / f"{k:02}-{name}.gnc" for name in entry.images] for k, entry in enumerate(entries)]
    for entry, row in zip(entries, paths, strict=True):
        for path, name in zip(row, entry.images, strict=True):
            write_atomic(path, entry.files[name])
    flat = [str(path.resolve()) for row in paths for path in row]
    command = [sys.executable, "-m", "experiments.decompress", *flat, "-o", str(folder.resolve())]
    command += ["--weights", str(weights)] if weights else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"decoding in another process failed: {done.stderr.strip()}")
    return paths


def _row(entry: Encoded, paths: Sequence[Path]) -> Row:
    figures, sizes, files = [], [], []
    for path, (name, image) in zip(paths, entry.images.items(), strict=True):
        found = measure(image, read_image(path.with_suffix(".png")))
        sizes.append(path.stat().st_size)
        mse = 255**2 / 10 ** (found.psnr_rgb / 10)
        bpp = 8 * sizes[-1] / (image.shape[0] * image.shape[1])
        own = {"name": name, "bytes": sizes[-1], "psnr": found.psnr_rgb, "ssim": found.ssim}
        files.append(own | dict(entry.record))
        figures.append((bpp, png_size(image) / sizes[-1], found.psnr_rgb, mse, found.ssim))
    means = (float(value) for value in np.mean(figures, 0))
    return Row(entry.scheme, len(figures), *means, entry.seconds, max(sizes), tuple(files))


def within(codec: Codec, image: Image, limit: int) -> bytes:
    """The best file of at most ``limit`` bytes; the smallest there is where none fits."""
    try:
        return codec.encode(image, target_bytes=limit)
    except TargetError as error:
        return codec.encode(image, target_bytes=int(error.best))
