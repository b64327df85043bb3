"""Latents in JPEG XL without loss, FLIF's successor: the channels are tiles of one grey picture."""

from __future__ import annotations

import math

import imagecodecs
import numpy as np

from lightning_modules.classical.base import check_size
from lightning_modules.classical.jxl import claimed_size


def encode_latents(index: np.ndarray, middle: int) -> bytes:
    """A JPEG XL codestream of whole numbers [C, h, w] within ±``middle`` (at most 127)."""
    channels, h, w = index.shape
    rows, columns = _grid(channels)
    tiles = np.full((rows * columns, h, w), middle, np.uint8)
    tiles[:channels] = (index + middle).astype(np.uint8)
    picture = tiles.reshape(rows, columns, h, w).transpose(0, 2, 1, 3).reshape(rows * h, columns * w)
    return imagecodecs.jpegxl_encode(
        np.ascontiguousarray(picture), lossless=True, effort=9, usecontainer=False, numthreads=1
    )


def decode_latents(stream: bytes, shape: tuple[int, int, int], middle: int) -> np.ndarray:
    """int64 [C, h, w]; `DamagedFileError` where the stream is not of that shape."""
    channels, h, w = shape
    rows, columns = _grid(channels)
    # The smallest codestreams are shorter than the longest header.
    check_size(*claimed_size(stream.ljust(12, b"\0")), rows * h, columns * w)
    picture = imagecodecs.jpegxl_decode(stream, numthreads=1).reshape(rows, h, columns, w)
    tiles = picture.transpose(0, 2, 1, 3).reshape(rows * columns, h, w)
    return tiles[:channels].astype(np.int64) - middle


def _grid(channels: int) -> tuple[int, int]:
    """Rows and columns of tiles, about square."""
    columns = math.ceil(math.sqrt(channels))
    return math.ceil(channels / columns), columns
