"""Seeded damage to bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Bytes = bytearray
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def _flip(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))


def _extreme(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    data[rng.integers(len(data))] = int(rng.choice(_EXTREMES))


def _insert(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    place = int(rng.integers(len(data) + 1))
    data[place:place] = rng.bytes(int(rng.integers(1, 9)))


def _delete(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    place = int(rng.integers(len(data)))
    del data[place : place + int(rng.integers(1, 9))]


def _cut(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    del data[int(rng.integers(len(data))) :]


def _repeat(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    begin, end = sorted(int(v) for v in rng.integers(len(data) + 1, size=2))
    data[end:end] = data[begin:end]


def _noise(data: Bytes, rng: np.random.Generator, _: bytes) -> None:
    place = int(rng.integers(len(data)))
    count = min(len(data) - place, int(rng.integers(1, 33)))
    data[place : place + count] = rng.bytes(count)


def _splice(data: Bytes, rng: np.random.Generator, other: bytes) -> None:
    """The head of one, the tail of the other."""
    data[int(rng.integers(len(data))) :] = other[int(rng.integers(len(other) + 1)) :]


_KINDS: tuple[Callable[[Bytes, np.random.Generator, bytes], None], ...] = (
    _flip,
    _extreme,
    _insert,
    _delete,
    _cut,
    _repeat,
    _noise,
    _splice,
)


def mutated(data: bytes, rng: np.random.Generator, other: bytes) -> bytes:
    """One to three changes of ``data``, perhaps with bytes of ``other``; it may come out as it was."""
    found = Bytes(data)
    for _ in range(int(rng.integers(1, 4))):
        if found:
            _KINDS[rng.integers(len(_KINDS))](found, rng, other)
    return bytes(found)
