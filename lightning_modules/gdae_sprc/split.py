"""The optimum split of a file between latents and residual.

More latents make a better x̂ and leave fewer bytes for its residual. Levels are tried from the lowest until one is
worse than the one before; along a level, everything is exact: real files, decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lightning_modules.codec.errors import ConfigError
from lightning_modules.gdae_sprc.residual import MAX_QP

_STEP = 1 / 8  # of quality
_OCTAVES_PER_QP = 0.16  # bytes double in about six QP
_CLOSE = 0.998  # of the budget: near enough
_MOST = 8  # residuals coded a level
_ERROR_BY_BYTES = 1.5  # squared error falls with this power of the residual's bytes
_HOPELESS = 1.03  # times the best error, as foretold from one residual


class Attempt(NamedTuple):
    """A possible file: its sections, whole size in bytes, and squared error summed over all pixels and channels."""

    sections: dict[str, bytes]
    size: int
    error: float


class Split(NamedTuple):
    """What there is to choose from.

    Attributes:
        height, width: of the picture.
        candidates: makes the bases, latents with their x̂, in ascending order of rate.
        attempt: (base, quality) to a file.
    """

    height: int
    width: int
    candidates: Callable[[], Iterable[Any]]
    attempt: Callable[[Any, float], Attempt]


def best_for_quality(split: Split, quality: float) -> Attempt:
    """The least D + λ·R at a residual of ``quality``, with λ = 2^((QP − 12)/3) squared error a bit, as HEVC's
    encoders weigh it at that QP."""
    slope = 2 ** ((MAX_QP - quality - 12) / 3)
    attempts = (split.attempt(base, quality) for base in split.candidates())
    return _climb(attempts, lambda attempt: attempt.error + slope * 8 * attempt.size)


def best_for_budget(split: Split, budget: int) -> Attempt:
    """The least squared error within ``budget`` bytes.

    Raises:
        ConfigError: even the least file is larger.
    """
    # What a quality costs changes little from level to level: the last one found is where the next search starts.
    start = MAX_QP - 35.0
    sizes: list[int] = []

    def attempts() -> Iterable[Attempt]:
        nonlocal start
        least = math.inf
        for base in split.candidates():
            found, start = _within(split, base, budget, start, sizes, _HOPELESS * least)
            if found is None:
                return
            least = found.error
            yield found

    best = _climb(attempts(), lambda attempt: attempt.error)
    if best is None:
        least = 8 * min(sizes) / (split.height * split.width)
        raise ConfigError(
            f"the byte budget is too small: this picture takes {math.ceil(least * 1000) / 1000} bpp or more"
        )
    return best


def _within(
    split: Split, base: Any, budget: int, start: float, sizes: list[int], hopeless: float
) -> tuple[Attempt | None, float]:
    """The best quality of one base whose file fits, and that quality; None where none does, or where a
    residual foretells an error of ``hopeless`` or more."""
    low, high = -_STEP, MAX_QP + _STEP  # fits, does not
    best, quality = None, start
    for _ in range(_MOST):
        attempt = split.attempt(base, quality)
        sizes.append(attempt.size)
        if attempt.size <= budget:
            low, best = quality, attempt
            if attempt.size >= _CLOSE * budget:
                break
        else:
            high = quality
        if high - low <= 2 * _STEP - 1e-9 and (best is not None or high <= _STEP):
            break
        # Rate is about exponential in quality, but for the bytes that do not depend on it.
        fixed = sum(len(s) for name, s in attempt.sections.items() if name != "residual")
        residual = max(len(attempt.sections["residual"]), 1)
        room = max(budget - fixed, 1) / residual
        if attempt.error * room**-_ERROR_BY_BYTES >= hopeless:
            return None, start
        quality += math.log2(room) / _OCTAVES_PER_QP
        quality = round(min(max(quality, low + _STEP), high - _STEP) / _STEP) * _STEP
        quality = min(max(quality, 0.0), float(MAX_QP))
        if quality in (low, high):
            break
    return best, (low if best is not None else start)


def _climb(attempts: Iterable[Attempt], cost: Callable[[Attempt], float]) -> Attempt | None:
    best: Attempt | None = None
    for attempt in attempts:
        if best is not None and cost(attempt) >= cost(best):
            break
        best = attempt
    return best
