"""Rate-distortion plots, PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genic.eval.curves import Curve
from genic.eval.measures import MEASURES, Measure
from genic.lightning_modules.codec.errors import needs

with needs("eval"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure


# Systems of the papers in strong colours, classical codecs in muted ones, each the same in every figure.
_COLOURS = {
    "jpeg": "#8c8c8c",
    "jpeg2000": "#b08d57",
    "webp": "#7a9e3f",
    "avif": "#4c78a8",
    "avif-default": "#9ecae9",
    "hevc": "#54278f",
    "bpg": "#9e7cc1",
    "jxl": "#1b9e9e",
    "kmeans": "#c9a0a0",
}
_STRONG = ("#d62728", "#ff7f0e", "#e6007e", "#2ca02c", "#0033cc", "#a65628", "#000000")
_PUBLISHED = ("#333333", "#767676", "#a0522d", "#556b2f", "#8b008b", "#4682b4", "#b8860b", "#2f4f4f")
_MARKERS = "osD^vP*X"


def plot(curves: Sequence[Curve], folder: Path, title: str, max_bpp: float = 1.0) -> list[Path]:
    """Write ``rd_<metric>.png`` and ``.svg`` for each metric that some curve has.

    Args:
        curves: published ones are dashed.
        folder: made where missing.
        title: such as the data set's name.
        max_bpp: right end of the rate axis.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    styles = line_styles(curves)
    written = []
    for measure in MEASURES:
        having = [curve for curve in curves if _visible(curve, measure, max_bpp) is not None]
        if not having:
            continue
        figure = _figure(having, measure, styles, title, max_bpp)
        for suffix in ("png", "svg"):
            path = folder / f"rd_{measure.key}.{suffix}"
            metadata = {"Date": None} if suffix == "svg" else None
            figure.savefig(path, dpi=160, bbox_inches="tight", metadata=metadata)
            written.append(path)
    return written


def _figure(
    curves: Sequence[Curve], measure: Measure, styles: dict[str, dict], title: str, max_bpp: float
) -> Figure:
    figure = Figure(figsize=(8.2, 5.4), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # The legend reads from top to bottom as the curves do, at the rate where most of them are.
    for curve in sorted(curves, key=lambda curve: -_height(curve, measure, max_bpp)):
        points = curve.points[measure.key]
        axes.plot(points[:, 0], points[:, 1], label=curve.name, **styles[curve.name])
    axes.set_xlim(0, max_bpp)
    axes.set_ylim(*_limits(curves, measure, max_bpp))
    axes.set_xlabel("rate, bits per pixel (whole file)")
    axes.set_ylabel(measure.title)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=9,
        handlelength=2.6,
        borderaxespad=0,
    )
    return figure


def line_styles(curves: Sequence[Curve]) -> dict[str, dict]:
    """Matplotlib's line styles by name of the curve; measured ones have a marker."""
    styles: dict[str, dict] = {}
    strong = published = 0
    for curve in curves:
        if curve.published:
            colour = _PUBLISHED[published % len(_PUBLISHED)]
            styles[curve.name] = {"color": colour, "linewidth": 1.1, "linestyle": (0, (4, 2)), "zorder": 2}
            published += 1
        elif curve.name in _COLOURS:
            marker = _MARKERS[list(_COLOURS).index(curve.name) % len(_MARKERS)]
            styles[curve.name] = {
                "color": _COLOURS[curve.name],
                "linewidth": 1.5,
                "marker": marker,
                "markersize": 4.5,
                "zorder": 3,
            }
        else:
            colour = _STRONG[strong % len(_STRONG)]
            styles[curve.name] = {
                "color": colour,
                "linewidth": 2.6,
                "marker": "o",
                "markersize": 6,
                "zorder": 4,
            }
            strong += 1
    return styles


def _visible(curve: Curve, measure: Measure, max_bpp: float) -> np.ndarray | None:
    """The points within the axis, and where the curve leaves it."""
    points = curve.points.get(measure.key)
    if points is None:
        return None
    inside = points[points[:, 0] <= max_bpp]
    edge = curve.at(measure.key, max_bpp)
    if edge is not None:
        inside = np.vstack([inside, [max_bpp, edge]])
    return inside if len(inside) else None


def _limits(curves: Sequence[Curve], measure: Measure, max_bpp: float) -> tuple[float, float]:
    """All that is visible, less a tail on the bad side that would squeeze the rest."""
    seen = [points for curve in curves if (points := _visible(curve, measure, max_bpp)) is not None]
    values = np.concatenate([points[:, 1] for points in seen])
    low, high = values.min(), values.max()
    if measure.falls:
        high = np.quantile(values, 0.96)
    else:
        low = np.quantile(values, 0.04)
    margin = 0.04 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


def _height(curve: Curve, measure: Measure, max_bpp: float) -> float:
    """Where the curve stands in the order of the legend: its value nearest a quarter of the axis."""
    points = _visible(curve, measure, max_bpp)
    assert points is not None, "only curves that are seen have a height"
    rate = min(max(max_bpp / 4, points[0, 0]), points[-1, 0])
    # A curve that ends early or starts late is placed by extending it with the field's usual slope.
    value = float(np.interp(rate, points[:, 0], points[:, 1]))
    return value + 3 * math.log2(max_bpp / 4 / rate) * (measure.unit == "dB")
