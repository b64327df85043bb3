"""Bjøntegaard's differences of two rate-distortion curves, with confidence intervals over pictures.

The intervals are paired: each resample draws pictures with replacement, the same for both curves, means are taken anew
and the difference is computed anew. They say how far the result hangs on the choice of pictures, and nothing about
other data sets. Published curves have means only, and no intervals.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from genic.eval.curves import Curve, PerPicture
from genic.eval.measures import Measure
from genic.lightning_modules.codec.errors import needs

RESAMPLES = 500
CONFIDENCE = 0.95
_ROUNDING = 1e-6


class Comparison(NamedTuple):
    """A difference to the anchor, or why there is none.

    Attributes:
        value: BD-rate in percent (negative: fewer bits at equal quality), or BD-quality in the measure's unit at equal
            rate; None where it is refused.
        refused: why, in a few words.
        over: the part that both curves cover and the mean is taken over: of the measure for BD-rate, of bits per pixel
            for BD-quality.
        interval: bounds of the value at `CONFIDENCE`; None without figures of pictures, or where more than one
            resample in a hundred has no difference.
        verdict: ``"better"`` or ``"worse"`` where the interval lies on one side of 0, else empty.
    """

    value: float | None
    refused: str = ""
    over: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    verdict: str = ""


def bd_rate(anchor: Curve, curve: Curve, measure: Measure, resamples: int = RESAMPLES) -> Comparison:
    """Rate of ``curve`` against ``anchor`` at equal quality, Akima interpolation of log rate over the measure."""
    return _compare(anchor, curve, measure, "rate", resamples)


def bd_quality(anchor: Curve, curve: Curve, measure: Measure, resamples: int = RESAMPLES) -> Comparison:
    """The measure of ``curve`` less that of ``anchor`` at equal rate, Akima interpolation over log rate."""
    return _compare(anchor, curve, measure, "quality", resamples)


def _compare(
    anchor: Curve, curve: Curve, measure: Measure, of: Literal["rate", "quality"], resamples: int
) -> Comparison:
    a, b = anchor.points.get(measure.key), curve.points.get(measure.key)
    if a is None or b is None:
        return Comparison(None, "not measured")
    value = _difference(a, b, measure, of)
    if isinstance(value, str):
        return Comparison(None, value)
    axis = 1 if of == "rate" else 0
    over = float(max(a[:, axis].min(), b[:, axis].min())), float(min(a[:, axis].max(), b[:, axis].max()))
    interval = _interval(
        anchor.pictures.get(measure.key), curve.pictures.get(measure.key), measure, of, resamples
    )
    verdict = ""
    if interval is not None and (interval[0] > _ROUNDING or interval[1] < -_ROUNDING):
        fewer_is_better = of == "rate" or measure.falls
        verdict = "better" if (value < 0) == fewer_is_better else "worse"
    return Comparison(value, "", over, interval, verdict)


def _difference(a: np.ndarray, b: np.ndarray, measure: Measure, of: str) -> float | str:
    """The difference of two curves [points, (rate, value)], in ascending order of rate; or why there is none."""
    sign = -1.0 if measure.falls else 1.0
    a, b = a * [1.0, sign], b * [1.0, sign]
    if min(len(a), len(b)) < 3:
        return "fewer than three points"
    if not all(np.all(np.diff(points, axis=0) > 0) for points in (a, b)):
        return "does not improve with rate"
    axis = 1 if of == "rate" else 0
    if max(a[0, axis], b[0, axis]) >= min(a[-1, axis], b[-1, axis]):
        return "no overlap in quality" if of == "rate" else "no overlap in rate"
    # The package is loaded late, since it brings its plotting along.
    with needs("eval"):
        import bjontegaard

    function = bjontegaard.bd_rate if of == "rate" else bjontegaard.bd_psnr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small overlap; the table states it
        value: Any = function(*a.T, *b.T, method="akima", require_matching_points=False, min_overlap=0)
    return float(value) if of == "rate" else sign * float(value)


def _differences(a: np.ndarray, b: np.ndarray, measure: Measure, of: str) -> np.ndarray:
    """`_difference` of many pairs of curves at once, [resamples, points, (rate, value)]; NaN where there is none.

    The package takes a curve at a time, and a report's thousands of resamples would take it minutes.
    """
    sign = -1.0 if measure.falls else 1.0
    x, y = (1, 0) if of == "rate" else (0, 1)
    parts = []
    for curves in (a * [1.0, sign], b * [1.0, sign]):
        rising = np.all(np.diff(curves, axis=1) > 0, (1, 2))
        curves[..., 0] = np.log10(curves[..., 0])
        parts.append(np.where(rising[:, None, None], curves, np.nan))
    low = np.maximum(*(part[:, 0, x] for part in parts))
    high = np.minimum(*(part[:, -1, x] for part in parts))
    high[high <= low] = np.nan
    anchor, other = (_akima_integral(part[..., x], part[..., y], low, high) for part in parts)
    mean = (other - anchor) / (high - low)
    return 100 * (10**mean - 1) if of == "rate" else sign * mean


def _akima_integral(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """∫ from ``low`` to ``high`` [S] of Akima's interpolation (1970) of each row of ``x``, ``y`` [S, points]."""
    width = np.diff(x)
    slope = np.diff(y) / width
    left, right = 2 * slope[:, 0] - slope[:, 1], 2 * slope[:, -1] - slope[:, -2]
    slopes = np.column_stack([2 * left - slope[:, 0], left, slope, right, 2 * right - slope[:, -1]])
    change = np.abs(np.diff(slopes))
    before, after = change[:, :-2], change[:, 2:]
    with np.errstate(invalid="ignore"):
        weighted = (after * slopes[:, 1:-2] + before * slopes[:, 2:-1]) / (before + after)
    # Where the slope changes on neither side, Akima takes the mean of the two.
    flat = before + after <= 1e-9 * np.max(before + after, 1, keepdims=True)
    tangent = np.where(flat, (slopes[:, 1:-2] + slopes[:, 2:-1]) / 2, weighted)
    square = (3 * slope - 2 * tangent[:, :-1] - tangent[:, 1:]) / width
    cube = (tangent[:, :-1] + tangent[:, 1:] - 2 * slope) / width**2

    def primitive(bound: np.ndarray) -> np.ndarray:
        t = np.clip(bound[:, None] - x[:, :-1], 0, width)
        return np.sum(t * (y[:, :-1] + t * (tangent[:, :-1] / 2 + t * (square / 3 + t * cube / 4))), 1)

    return primitive(high) - primitive(low)


def _interval(
    a: PerPicture | None, b: PerPicture | None, measure: Measure, of: str, resamples: int
) -> tuple[float, float] | None:
    if a is None or b is None or sorted(a.names) != sorted(b.names) or len(a.names) < 2:
        return None
    order = [b.names.index(name) for name in a.names]
    b = PerPicture(a.names, b.rate[:, order], b.value[:, order])
    draws = np.random.default_rng(0).multinomial(
        len(a.names), np.full(len(a.names), 1 / len(a.names)), resamples
    ) / len(a.names)
    values = _differences(a.curve(measure, draws), b.curve(measure, draws), measure, of)
    found = values[np.isfinite(values)]
    if len(found) < 0.99 * resamples:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)
