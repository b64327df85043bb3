"""Random numbers that are part of file formats: counter-based, so a seed means the same on every machine for ever.

The words are specified by the algorithm, not by a library: splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
Number Generators, 2014) of a counter. Libraries promise no such thing of their distributions.
"""

from __future__ import annotations

import numpy as np

_GOLDEN, _A, _B = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def random_words(count: int, seed: int) -> np.ndarray:
    """uint64 [count]: splitmix64 of the counters seed·2⁴⁰ + 1 to seed·2⁴⁰ + count.

    No word comes twice, since the hash is a bijection of 64-bit numbers. ``seed``: 0 to 2²⁴ − 1.
    """
    with np.errstate(over="ignore"):  # wrapping is what is wanted
        start = np.uint64(seed) * np.uint64(1 << 40)
        z = (np.arange(count, dtype=np.uint64) + start + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _A
        z = (z ^ (z >> np.uint64(27))) * _B
        return z ^ (z >> np.uint64(31))


def random_bytes(count: int, seed: int) -> np.ndarray:
    """uint8 [count]: the bytes of `random_words`, each word's lowest first. Fewer are a prefix of more."""
    return random_words(-(-count // 8), seed).astype("<u8").view(np.uint8)[:count]


def random_choice(count: int, wanted: int, seed: int) -> np.ndarray:
    """int64 [wanted]: different numbers below ``count`` in random order, those of the smallest words first.

    Fewer numbers of the same seed are a prefix of more.
    """
    order = random_words(count, seed)
    if wanted < count:
        first = np.argpartition(order, wanted)[:wanted] if wanted else np.empty(0, np.int64)
    else:
        first = np.arange(count)
    return first[np.argsort(order[first])]


def random_normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 numbers of N(0, 1) by Box and Muller; equal on every machine but for rounding of logarithm and cosine."""
    count = int(np.prod(shape))
    u = (random_words(2 * count, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius = np.sqrt(-2 * np.log1p(-u[:count]))
    return (radius * np.cos(2 * np.pi * u[count:])).astype(np.float32).reshape(shape)
