"""Randomness that a seed fixes on every machine and with every library's version: a counter through a hash."""

from __future__ import annotations

import numpy as np

_GOLDEN, _A, _B = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def hashed(count: int, seed: int) -> np.ndarray:
    """uint64 [count]: splitmix64 (Steele, Lea, Flood 2014) of the counters 0 to count − 1 in the stream of ``seed``.

    One stream holds no number twice, since the hash is a bijection of 64-bit numbers.
    """
    with np.errstate(over="ignore"):  # wrapping is what is wanted
        start = np.uint64(seed) * np.uint64(1 << 40)
        z = (np.arange(count, dtype=np.uint64) + start + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _A
        z = (z ^ (z >> np.uint64(27))) * _B
        return z ^ (z >> np.uint64(31))


def chosen(count: int, wanted: int, seed: int) -> np.ndarray:
    """``wanted`` different numbers below ``count`` in random order, int64; equal on every machine.

    Fewer numbers of the same seed are a prefix of more.
    """
    order = hashed(count, seed)
    if wanted < count:
        first = np.argpartition(order, wanted)[:wanted] if wanted else np.empty(0, np.int64)
    else:
        first = np.arange(count)
    return first[np.argsort(order[first])]


def normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 numbers of N(0, 1) by Box and Muller; equal on every machine but for the logarithm's rounding."""
    count = int(np.prod(shape))
    u = (hashed(2 * count, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius = np.sqrt(-2 * np.log1p(-u[:count]))
    return (radius * np.cos(2 * np.pi * u[count:])).astype(np.float32).reshape(shape)
