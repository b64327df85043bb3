"""Latents in JPEG XL without loss, FLIF's successor: the channels are tiles of one grey picture."""

from __future__ import annotations

import math

import numpy as np

from genic.lightning_modules.codec.lossless import decode_lossless, encode_lossless


def encode_latents(index: np.ndarray, middle: int) -> bytes:
    """A JPEG XL codestream of whole numbers [C, h, w] within ±``middle`` (at most 127)."""
    channels, h, w = index.shape
    rows, columns = _grid(channels)
    tiles = np.full((rows * columns, h, w), middle, np.uint8)
    tiles[:channels] = (index + middle).astype(np.uint8)
    picture = tiles.reshape(rows, columns, h, w).transpose(0, 2, 1, 3).reshape(rows * h, columns * w)
    return encode_lossless(picture)


def decode_latents(stream: bytes, shape: tuple[int, int, int], middle: int) -> np.ndarray:
    """int64 [C, h, w]; `DamagedFileError` where the stream is not of that shape."""
    channels, h, w = shape
    rows, columns = _grid(channels)
    picture = decode_lossless(stream, rows * h, columns * w).reshape(rows, h, columns, w)
    tiles = picture.transpose(0, 2, 1, 3).reshape(rows * columns, h, w)
    return tiles[:channels].astype(np.int64) - middle


def _grid(channels: int) -> tuple[int, int]:
    """Rows and columns of tiles, about square."""
    columns = math.ceil(math.sqrt(channels))
    return math.ceil(channels / columns), columns
