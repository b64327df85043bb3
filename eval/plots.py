"""Rate-distortion figures for print: PNG, SVG and PDF, names beside the curves, a palette for the colour-blind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from genic.eval.curves import Curve
from genic.eval.measures import MEASURES, Measure
from genic.lightning_modules.codec.errors import needs

with needs("eval"):
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter


# Systems of the papers in Okabe and Ito's colours, classical codecs thinner and in Tol's muted ones, each the same in
# every figure; published curves are grey.
CLASSICAL_COLOURS = {
    "jpeg": "#999933",
    "jpeg2000": "#ddcc77",
    "webp": "#117733",
    "avif": "#44aa99",
    "avif-default": "#88ccee",
    "hevc": "#332288",
    "bpg": "#aa4499",
    "jxl": "#882255",
    "kmeans": "#cc6677",
}
SYSTEM_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7700dd")
_PUBLISHED = ("#333333", "#707070", "#a0a0a0")
_MARKERS = "osD^vP*X"
_SYSTEMS = 4  # their z-order: above all others
_PANEL = ("psnr_rgb", "ms_ssim_db", "lpips_alex", "frechet")
# Text is text in a PDF, in a font that it brings along and journals take; in an SVG it is outlines, which need none.
_FONTS: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "genic", "font.size": 9}
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


def plot(curves: Sequence[Curve], folder: Path, title: str, max_bpp: float = 1.0) -> list[Path]:
    """Write ``rd_<metric>`` for each metric that some curve has, and ``rd_panel``: PSNR, MS-SSIM, LPIPS and Fréchet
    distance together, those of them that there are.

    Args:
        curves: published ones are dashed.
        folder: made where missing.
        title: such as the data set's name.
        max_bpp: right end of the rate axis.

    Returns:
        The files: each figure as ``.png``, ``.svg`` and ``.pdf``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    styles = line_styles(curves)
    seen = {
        measure.key: [curve for curve in curves if _visible(curve, measure, max_bpp) is not None]
        for measure in MEASURES
    }
    shown = [measure for measure in MEASURES if seen[measure.key]]
    figures = {measure.key: [measure] for measure in shown}
    together = [measure for measure in shown if measure.key in _PANEL]
    if len(together) > 1:
        figures["panel"] = together
    written = []
    for name, measures in figures.items():
        with mpl.rc_context(_FONTS):
            rows = 2 if len(measures) == 4 else 1
            columns = len(measures) // rows
            figure = Figure(figsize=(8 * columns, 5.4 * rows), facecolor="white")
            FigureCanvasAgg(figure)
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
            axes = figure.subplots(rows, columns, squeeze=False)
            figure.subplots_adjust(0.09 / columns, 0.1 / rows, 1 - 0.22 / columns, 1 - 0.07 / rows, 0.4, 0.17)
            for place, measure in zip(axes.flat, measures, strict=True):
                _draw(place, seen[measure.key], measure, styles, max_bpp)
            for suffix in ("png", "svg", "pdf"):
                path = folder / f"rd_{name}.{suffix}"
                undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
                figure.savefig(path, dpi=130, metadata=undated)
                written.append(path)
    return written


def line_styles(curves: Sequence[Curve]) -> dict[str, dict[str, Any]]:
    """Matplotlib's line styles by name of the curve; published ones are dashed, their markers open."""
    styles: dict[str, dict[str, Any]] = {}
    systems = published = 0
    for curve in curves:
        if curve.published:
            colour, width, order = _PUBLISHED[published % len(_PUBLISHED)], 1.0, 2
            look = {"linestyle": (0, (4, 2)), "marker": "o", "markersize": 3.5, "markerfacecolor": "white"}
            published += 1
        elif curve.name in CLASSICAL_COLOURS:
            colour, width, order = CLASSICAL_COLOURS[curve.name], 1.3, 3
            place = list(CLASSICAL_COLOURS).index(curve.name)
            look = {"marker": _MARKERS[place % len(_MARKERS)], "markersize": 4.5}
        else:
            colour, width, order = SYSTEM_COLOURS[systems % len(SYSTEM_COLOURS)], 2.4, _SYSTEMS
            look = {"marker": _MARKERS[systems % len(_MARKERS)], "markersize": 6}
            systems += 1
        styles[curve.name] = {"color": colour, "linewidth": width, "zorder": order, **look}
    return styles


def _draw(
    axes: Axes, curves: Sequence[Curve], measure: Measure, styles: dict[str, dict[str, Any]], max_bpp: float
) -> None:
    parts = {curve.name: _visible(curve, measure, max_bpp) for curve in curves}
    seen = {name: points for name, points in parts.items() if points is not None}
    rates = np.concatenate([points[:, 0] for points in seen.values()])
    low, high = _limits(seen, measure, styles)
    axes.set_xscale("log")
    axes.set_xlim(0.9 * rates.min(), max_bpp)
    axes.set_ylim(low, high)
    for curve in curves:
        points = curve.points[measure.key]
        axes.plot(points[:, 0], points[:, 1], label=curve.name, **styles[curve.name])
    axes.set_xticks([tick for tick in _TICKS if rates.min() <= tick <= max_bpp], minor=False)
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("rate, bits per pixel (whole file)")
    axes.set_ylabel(measure.title)
    axes.grid(True, color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _name_curves(axes, seen, styles)


def _name_curves(axes: Axes, seen: dict[str, np.ndarray], styles: dict[str, dict[str, Any]]) -> None:
    """Each curve's name in its colour right of the axes, as near to the curve's end as the others let it."""
    low, high = axes.get_ylim()
    ends = {name: np.clip(points[-1], (0, low), (np.inf, high)) for name, points in seen.items()}
    names = sorted(ends, key=lambda name: ends[name][1])
    gap = (high - low) * min(0.033, 1 / len(names))
    shift = gap * np.arange(len(names))
    # The nearest heights, in order and a gap apart, are an isotonic regression.
    heights = isotonic_regression([ends[name][1] for name in names] - shift).x
    heights = np.clip(heights, low, high - shift[-1]) + shift
    for name, height in zip(names, heights, strict=True):
        style = styles[name]
        dark = tuple(0.7 * part for part in to_rgb(style["color"]))
        axes.annotate(
            name,
            xy=(float(ends[name][0]), float(ends[name][1])),
            xytext=(1.04, height),
            textcoords=("axes fraction", "data"),
            va="center",
            color=dark,
            fontsize=7.5,
            fontweight="bold" if style["linewidth"] > 2 else "normal",
            fontstyle="italic" if "linestyle" in style else "normal",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": style["color"],
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


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


def _limits(seen: dict[str, np.ndarray], measure: Measure, styles: dict[str, Any]) -> tuple[float, float]:
    """All that is visible of the systems; of others not a tail on the bad side that would squeeze the rest."""
    values = np.concatenate([points[:, 1] for points in seen.values()])
    systems = [points[:, 1] for name, points in seen.items() if styles[name]["zorder"] == _SYSTEMS]
    own = np.concatenate([*systems, values[:0]])
    low, high = values.min(), values.max()
    if measure.falls:
        high = max([np.quantile(values, 0.96), *own])
    else:
        low = min([np.quantile(values, 0.04), *own])
    margin = 0.04 * (high - low) or 0.5
    return float(low - margin), float(high + margin)
