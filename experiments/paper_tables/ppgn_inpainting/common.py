"""What the parts share: options and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules import DataConfig, make_datamodule
from eval.runner import Loaded
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError, DataError
from lightning_modules.codec.weights import find_weights

CROP = 256
"""Pixels a side, of the networks of the time."""


def parser(part: str, description: str) -> argparse.ArgumentParser:
    """The options that every part has."""
    found = argparse.ArgumentParser(
        prog=f"python -m experiments.tables ppgn_inpainting {part}",
        description=description.partition("\n")[0],
    )
    found.add_argument("--weights", default="small", help="preset, file or run (default: small)")
    found.add_argument("--data", default="kodak", help="pictures (default: kodak)")
    found.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    found.add_argument("--limit", type=int, metavar="K", help="K pictures, evenly spaced (default: all)")
    found.add_argument("--threads", type=int, default=1, metavar="T", help="of each process")
    found.add_argument("--out", type=Path, default=Path("results/tables/ppgn_inpainting"), metavar="DIR")
    return found


def codec_name(options: argparse.Namespace) -> str:
    """For `open_codec`, in other processes too."""
    return f"ppgn_inpainting:{find_weights('ppgn_inpainting', options.weights).resolve()}"


def pictures(options: argparse.Namespace) -> list[Any]:
    """``--limit`` pictures of the data set, evenly spaced.

    Raises:
        ConfigError, DataError: there are none.
    """
    items = make_datamodule(DataConfig(name=options.data, root=options.root)).evaluation_images()
    if not items:
        raise DataError(f"data set {options.data!r} has no pictures to measure on")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit {options.limit}: at least 1")
    return spaced(items, options.limit)


def spaced(items: Sequence[Any], count: int | None) -> list[Any]:
    """``count`` of them, evenly spaced; all by default."""
    count = len(items) if count is None else min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def crop(item: Any, side: int) -> Loaded:
    """The central square of ``side`` pixels, or of the shorter side."""
    image: Image = item.read()
    height, width = image.shape[:2]
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return Loaded(item.name, np.ascontiguousarray(image[top : top + side, left : left + side]))
