"""Rate allocation: how a file's bytes are shared between latents and residual, and whether its picture is restored.

More latents make a better x̂ and leave fewer bytes for its residual. Every choice of latents is tried, none at all among
them, since cost is no smooth function of the level. Only what cannot win is passed over: latents that alone cost too
much, and residuals that are too large where their error is already no less than the best. Ours; the slides fix the
level by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.gdae_sprc.residual import MAX_QP

_STEP = 1 / 8  # of quality
_OCTAVES_PER_QP = 0.16  # bytes double in about six QP
_CLOSE = 0.998  # of the budget: near enough
_MOST = 8  # residuals coded for one choice of latents


class Base(NamedTuple):
    """A choice of latents: their sections, empty for none, and x̂, uint8 H×W×3."""

    sections: dict[str, bytes]
    x_hat: Image


class Attempt(NamedTuple):
    """A possible file: its sections, whole size in bytes, squared error summed over all pixels and channels, and the
    residual's quality."""

    sections: dict[str, bytes]
    size: int
    error: float
    quality: float


class Choices(NamedTuple):
    """What there is to choose from.

    Attributes:
        bases: each is asked for once.
        attempt: a base and the residual's quality to files of one residual, the smallest first: as it is, and perhaps
            with restoration; a finer quality has no more error.
        file_size: bytes of a whole file of these sections.
    """

    bases: Iterable[Base]
    attempt: Callable[[Base, float], Sequence[Attempt]]
    file_size: Callable[[dict[str, bytes]], int]


def least_cost(choices: Choices, quality: float) -> Attempt:
    """The least D + λ·R at a residual of ``quality``, with λ = 2^((QP − 12)/3) squared error a bit, as HEVC's
    encoders weigh it at that QP."""
    slope = 8 * 2 ** ((MAX_QP - quality - 12) / 3)
    best: Attempt | None = None
    least = math.inf
    for base in choices.bases:
        if slope * choices.file_size(base.sections) >= least:
            continue
        for attempt in choices.attempt(base, quality):
            if (cost := attempt.error + slope * attempt.size) < least:
                best, least = attempt, cost
    if best is None:
        raise ValueError("no choice of latents")
    return best


def least_error(choices: Choices, budget: int) -> Attempt:
    """The least squared error within ``budget`` bytes; where nothing fits, the smallest file."""
    best: Attempt | None = None
    smallest: Attempt | None = None
    # What a quality costs changes little from base to base: the best one so far is where the next search starts.
    start = MAX_QP - 35.0
    for base in choices.bases:
        if smallest is not None and choices.file_size(base.sections) >= max(budget, smallest.size):
            continue
        for attempt in _search(choices, base, budget, start, math.inf if best is None else best.error):
            if smallest is None or attempt.size < smallest.size:
                smallest = attempt
            if attempt.size <= budget and (best is None or attempt.error < best.error):
                best, start = attempt, attempt.quality
    if smallest is None:
        raise ValueError("no choice of latents")
    return smallest if best is None else best


def _search(choices: Choices, base: Base, budget: int, quality: float, to_beat: float) -> Iterator[Attempt]:
    """Files of one base, nearer and nearer to the budget, until none can fit with an error below ``to_beat``."""
    low, high = -_STEP, MAX_QP + _STEP  # fits, does not
    fixed = choices.file_size(base.sections)
    for _ in range(_MOST):
        attempts = choices.attempt(base, quality)
        yield from attempts
        attempt = attempts[0]
        if attempt.size <= budget:
            low = quality
            if attempt.size >= _CLOSE * budget:
                return
        else:
            high = quality
            if min(each.error for each in attempts) >= to_beat:
                return  # whatever fits is coarser, and has at least this error
        if high - low <= 2 * _STEP - 1e-9 and (low >= 0 or high <= _STEP):
            return
        # Rate is about exponential in quality, but for the bytes that do not depend on it.
        quality += math.log2(max(budget - fixed, 1) / max(attempt.size - fixed, 1)) / _OCTAVES_PER_QP
        quality = round(min(max(quality, low + _STEP), high - _STEP) / _STEP) * _STEP
        quality = min(max(quality, 0.0), float(MAX_QP))
        if quality in (low, high):
            return
