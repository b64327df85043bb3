"""The one search for an operating point: the best file within a byte budget, the least file of a wanted quality.

Bytes grow along a codec's `quality_steps`, on the whole but not from each step to the next. The search keeps a step
that fits and a later one that does not, guesses between them as if the logarithm of bytes (or decibels) grew in a
straight line, and halves the gap where that guesses badly: 3 to 6 files where a sweep would write all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from genic.lightning_modules.codec.errors import ConfigError, TargetError

if TYPE_CHECKING:
    from genic.lightning_modules.codec.contract import Codec, Image

_NEAR_BYTES = 0.01  # of the budget unused, as a logarithm: near enough
_NEAR_DB = 0.02
_RANGE_BYTES, _RANGE_DB = 6.0, 40.0  # what the whole scale is taken to span before two points say more
_BEYOND = 2  # steps past the first that fails, where bytes hardly grew


class Found(NamedTuple):
    """A file and the quality it was written at, None where a codec that aims at a size chose more than that."""

    data: bytes
    quality: float | None


def whole(first: int, last: int) -> tuple[float, ...]:
    """Whole numbers from ``first``, the smallest file, to ``last``; either may be the greater."""
    step = 1 if last >= first else -1
    return tuple(float(value) for value in range(first, last + step, step))


def eighths(last: float, first: float = 0) -> tuple[float, ...]:
    """Multiples of 1/8 from ``first`` to ``last``."""
    return tuple(value / 8 for value in range(round(8 * first), round(8 * last) + 1))


def geometric(first: float, last: float, step: float = 0.01) -> tuple[float, ...]:
    """From ``first`` to ``last``, each about ``step`` times its size further."""
    count = math.ceil(abs(math.log(last / first)) / step)
    inside = (first * (last / first) ** (k / count) for k in range(1, count))
    return (first, *inside, last)


def check_number(name: str, value: object, positive: bool = False) -> None:
    """`ConfigError` unless ``value`` is a finite number, and above 0 if it must be; text and truth values are none."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or (positive and not number > 0):
        raise ConfigError(f"{name}={value!r}: a {'positive ' if positive else ''}number is needed")


def budget(height: int, width: int, target_bytes: int | None, target_bpp: float | None) -> int:
    """The most bytes of a file of that picture; `ConfigError` unless the target is positive."""
    target: Any = target_bpp if target_bytes is None else target_bytes
    name = "target_bpp" if target_bytes is None else "target_bytes"
    check_number(name, target, positive=True)
    # A rate that was computed from a number of bytes gives that number again.
    return math.floor(target * height * width / 8 + 1e-6 if target_bytes is None else target)


def largest_within(
    write: Callable[[float], bytes], steps: Sequence[float], limit: int, start: float
) -> Found:
    """The largest output of ``write`` that a search finds within ``limit`` bytes; where none fits, the least it saw.

    Args:
        write: quality to bytes: a file, or a part of one; called once a quality.
        steps: the qualities there are, in ascending order of bytes.
        limit: outputs that use 99 % of it end the search.
        start: the quality to try first.
    """
    written = _Written(write, steps)
    chosen = last_within(
        len(steps),
        lambda at: math.log(max(len(written[at]), 1)),
        math.log(limit) if limit > 0 else -1.0,
        start=_place(steps, start),
        near=_NEAR_BYTES,
        span=_RANGE_BYTES,
    )
    if chosen < 0:
        chosen = min(written, key=lambda at: len(written[at]))
    return Found(written[chosen], steps[chosen])


def reaching(
    codec: Codec, image: Image, target: float, measure: Callable[[Image], float], **options: Any
) -> Found:
    """The least file whose picture, decoded, measures ``target`` decibels or more.

    Args:
        measure: of a decoded picture, ascending in its quality.

    Raises:
        TargetError: no file reaches it; ``best`` is what the best one has.
    """
    steps = codec.quality_steps
    files = _Written(codec.encoder(image, **options), steps)
    measured: dict[int, float] = {}

    def missing(back: int) -> float:
        at = len(steps) - 1 - back
        if at not in measured:
            measured[at] = measure(codec.decode(files[at]))
        return -measured[at]

    # From the far end, so that 'at most' in the search is 'at least' here.
    chosen = last_within(
        len(steps),
        missing,
        -target,
        start=len(steps) - 1 - _place(steps, codec.default_quality),
        near=_NEAR_DB,
        span=_RANGE_DB,
    )
    if chosen < 0:
        best = max(measured.values())
        raise TargetError(
            f"{target:g} dB cannot be reached: the best file of this picture has {best:.2f} dB", best
        )
    at = len(steps) - 1 - chosen
    return Found(files[at], steps[at])


def last_within(
    count: int, value: Callable[[int], float], limit: float, *, start: int, near: float, span: float
) -> int:
    """The last of ``count`` places whose value is at most ``limit``; −1 where none was found.

    Args:
        value: of a place, ascending on the whole; called once a place.
        start: where to begin.
        near: how far below the limit is near enough to end at once.
        span: a guess of how far the values range over all places.
    """
    low, high = -1, count  # fits, does not
    seen: dict[int, float] = {}
    at = min(max(start, 0), count - 1)
    while high - low > 1:
        seen[at] = value(at)
        gap = high - low
        if seen[at] <= limit:
            low = at
            if seen[at] >= limit - near:
                return low
        else:
            high = at
        # A straight line that left most of the gap is not trusted twice.
        halve = len(seen) > 2 and high - low > gap / 2
        at = (low + high) // 2 if halve else _guess(seen, low, high, count, limit, span / count)
        at = min(max(at, low + 1), high - 1)
    for beyond in range(high, min(high + _BEYOND, count - 1)):
        if seen[beyond] > limit + 2 * near:
            break
        seen[beyond + 1] = seen[beyond + 1] if beyond + 1 in seen else value(beyond + 1)
        if seen[beyond + 1] <= limit:
            low = beyond + 1
    return low


def _guess(seen: dict[int, float], low: int, high: int, count: int, limit: float, slope: float) -> int:
    """The place at which a line through the two points that matter most meets the limit, rounded down."""
    if low >= 0 and high < count:
        first, second = low, high
    else:
        first, second = (sorted(seen, key=lambda place: abs(seen[place] - limit)) * 2)[:2]
    if first != second and (found := (seen[second] - seen[first]) / (second - first)) > 0:
        slope = found
    move = (limit - seen[first]) / slope
    return first + math.floor(min(max(move, -count), count))


def _place(steps: Sequence[float], quality: float) -> int:
    return min(range(len(steps)), key=lambda at: abs(steps[at] - quality))


class _Written(dict[int, bytes]):
    """Outputs by step, each written once."""

    def __init__(self, write: Callable[[float], bytes], steps: Sequence[float]) -> None:
        self.write, self.steps = write, steps

    def __missing__(self, at: int) -> bytes:
        self[at] = data = self.write(self.steps[at])
        return data
