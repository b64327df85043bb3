"""Indexed pictures without loss: an adaptive context coder, JPEG XL and WebP, the smallest of the three.

A section is one byte, the coder's number, and its stream.
"""

from __future__ import annotations

import imagecodecs
import numpy as np

from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.lossless import check_size, decode_lossless, encode_lossless
from genic.lightning_modules.entropy.range_coder import TOTAL, RangeDecoder, RangeEncoder, probabilities

CODERS = ("context", "jpeg_xl", "webp")
_NEIGHBOURS = ((0, -1), (-1, 0), (-1, 1), (-1, -1))  # left, above, above right, above left
_WEIGHT, _LIMIT = 24, 4096
"""A symbol seen adds this to its count; counts are halved when they sum to more than the limit."""


def encode_map(labels: np.ndarray, alphabet: int) -> bytes:
    """The smallest of `map_sizes`' streams for uint8 [h, w] below ``alphabet`` (at most 256)."""
    streams = _streams(labels, alphabet)
    best = min(CODERS, key=lambda coder: len(streams[coder]))
    return bytes([CODERS.index(best)]) + streams[best]


def map_sizes(labels: np.ndarray, alphabet: int) -> dict[str, int]:
    """Bytes of the section by each coder."""
    return {coder: 1 + len(stream) for coder, stream in _streams(labels, alphabet).items()}


def decode_map(section: bytes, shape: tuple[int, int], alphabet: int) -> np.ndarray:
    """uint8 [h, w]; `DamagedFileError` where the section is no map of that shape and alphabet."""
    if not section or section[0] >= len(CODERS):
        raise DamagedFileError("the map's coder is unknown: upgrade genic, or fetch the file again")
    coder, stream = CODERS[section[0]], section[1:]
    if coder == "context":
        return _ContextCoder(alphabet).decode(stream, shape)
    if coder == "jpeg_xl":
        found = decode_lossless(stream, *shape)
    else:
        rgb = imagecodecs.webp_decode(stream)
        height, width = rgb.shape[:2]
        check_size(height, width, *shape)
        found = rgb[..., 1]
    if found.shape != shape or found.max(initial=0) >= alphabet:
        raise DamagedFileError("the map is not one of this picture's labels")
    return np.ascontiguousarray(found)


def _streams(labels: np.ndarray, alphabet: int) -> dict[str, bytes]:
    labels = np.ascontiguousarray(labels, np.uint8)
    rgb = np.zeros((*labels.shape, 3), np.uint8)
    rgb[..., 1] = labels
    return {
        "context": _ContextCoder(alphabet).encode(labels),
        "jpeg_xl": encode_lossless(labels),
        "webp": bytes(imagecodecs.webp_encode(rgb, lossless=True, level=100, method=6)),
    }


class _ContextCoder:
    """Each label as its rank in a list that begins with its neighbours' labels, under adaptive counts.

    The context is which of the four neighbours are equal. All numbers are integers, so the probabilities, quotients
    of integers with the denominator a power of two, are the same everywhere.
    """

    def __init__(self, alphabet: int) -> None:
        self.alphabet = alphabet
        self.counts: dict[tuple[int, ...], np.ndarray] = {}
        self.recency = list(range(alphabet))

    def encode(self, labels: np.ndarray) -> bytes:
        coder, padded = RangeEncoder(), _padded(labels.shape)
        for i, j in np.ndindex(labels.shape):
            context, candidates = self._candidates(padded, i, j)
            rank = candidates.index(int(labels[i, j]))
            coder.put(np.array([rank]), self._probabilities(context))
            self._learn(context, rank, int(labels[i, j]))
            padded[i + 1, j + 1] = labels[i, j]
        return coder.finish()

    def decode(self, stream: bytes, shape: tuple[int, int]) -> np.ndarray:
        coder, padded = RangeDecoder(stream), _padded(shape)
        for i, j in np.ndindex(shape):
            context, candidates = self._candidates(padded, i, j)
            rank = int(coder.get(self._probabilities(context))[0])
            self._learn(context, rank, candidates[rank])
            padded[i + 1, j + 1] = candidates[rank]
        coder.close()
        return padded[1:-1, 1:-1].astype(np.uint8)

    def _candidates(self, padded: np.ndarray, i: int, j: int) -> tuple[tuple[int, ...], list[int]]:
        """Which neighbours are equal, and all labels in the order of their ranks."""
        around = [int(padded[i + 1 + di, j + 1 + dj]) for di, dj in _NEIGHBOURS]
        context = tuple(around.index(label) if label >= 0 else -1 for label in around)
        first = [label for label in dict.fromkeys(around) if label >= 0]
        return context, first + [label for label in self.recency if label not in first]

    def _probabilities(self, context: tuple[int, ...]) -> np.ndarray:
        counts = self.counts.get(context)
        if counts is None:
            # Neighbours first: a prior that a few observations overcome.
            ranks = np.arange(self.alphabet)
            counts = self.counts[context] = np.maximum(1, 3 * _WEIGHT >> 2 * ranks.clip(max=8)).astype(
                np.int64
            )
        total = int(counts.sum())
        scaled = 1 + counts * (TOTAL - self.alphabet) // total
        scaled[scaled.argmax()] += TOTAL - int(scaled.sum())
        return probabilities(scaled)[None]

    def _learn(self, context: tuple[int, ...], rank: int, label: int) -> None:
        counts = self.counts[context]
        counts[rank] += _WEIGHT
        if counts.sum() > _LIMIT:
            counts[:] = (counts + 1) // 2
        self.recency.remove(label)
        self.recency.insert(0, label)


def _padded(shape: tuple[int, ...]) -> np.ndarray:
    """−1 everywhere: no label yet."""
    return np.full((shape[0] + 2, shape[1] + 2), -1, np.int64)
