"""What the parts share: options and crops."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from genic.eval.runner import Loaded
from genic.experiments.paper_tables import common
from genic.lightning_modules.codec.weights import find_weights

CROP = 256
"""Pixels a side, of the networks of the time."""


def parser(part: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that every part has."""
    found = common.parser("ppgn_inpainting", part, doc)
    found.add_argument("--weights", default="small", help="preset, file or run (default: small)")
    return found


def codec_name(options: argparse.Namespace) -> str:
    """For `open_codec`, in other processes too."""
    return f"ppgn_inpainting:{find_weights('ppgn_inpainting', options.weights).resolve()}"


def crop(item: Any, side: int) -> Loaded:
    """The central square of ``side`` pixels, or of the shorter side."""
    image = item.read()
    height, width = image.shape[:2]
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return Loaded(item.name, np.ascontiguousarray(image[top : top + side, left : left + side]))
