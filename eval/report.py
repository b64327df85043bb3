"""A data set's results as one HTML file: curves, tables, bytes by section, decoded pictures.

The file needs no network: the plotting library, style, script, figures and pictures are inside it. Here its data are
made; ``report.html``, ``report.css`` and ``report.js`` beside this module show them.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image as Pillow
from pydantic_core import to_jsonable_python

from genic.datamodules.images import ImageItem, read_image, read_label
from genic.eval.bjontegaard_delta import CONFIDENCE, RESAMPLES, bd_quality, bd_rate
from genic.eval.curves import Curve
from genic.eval.measures import MEASURES, Measure
from genic.eval.metrics import psnr_rgb
from genic.eval.plots import line_styles
from genic.eval.runner import Task, label_file
from genic.eval.schema import CodecResult, ImageResult, Point
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DataError, GenicError, needs

# Plotly's names of Matplotlib's markers.
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "*": "star",
    "X": "x",
}
_OPEN = [f"{symbol}-open" for symbol in _SYMBOLS.values()]


class Source(NamedTuple):
    """A result, and the folder that `eval.runner.measure_files` kept its decoded pictures in (or would have)."""

    result: CodecResult
    decoded: Path


def page_data(
    results: Sequence[CodecResult],
    published: Sequence[Curve],
    curves: Sequence[Curve],
    anchor: Curve,
    drawn: Sequence[str],
    viewer: dict[str, Any],
) -> dict[str, Any]:
    """What the page shows, as JSON can hold it.

    Args:
        results: measured here, at least one.
        published: others' curves.
        curves: of ``results``, in their order.
        anchor: of the BD figures, one of ``curves`` or ``published``.
        drawn: names of published curves to show at first; the others are a click away.
        viewer: see `viewer_data`.
    """
    # Those shown at first come first, so that their colours differ.
    published = sorted(published, key=lambda curve: curve.name not in drawn and curve is not anchor)
    every = [*curves, *published]
    style = line_styles(every)
    measures = [measure for measure in MEASURES if any(measure.key in curve.points for curve in every)]
    measured = [
        {"name": result.codec, **_style(style[result.codec], 0), **_codec(result)} for result in results
    ]
    others = [
        {
            "name": curve.name,
            **_style(style[curve.name], k),
            "shown": curve.name in drawn or curve is anchor,
            "points": {key: points.tolist() for key, points in curve.points.items()},
        }
        for k, curve in enumerate(published)
    ]
    return {
        "data": results[0].data,
        "anchor": anchor.name,
        "confidence": CONFIDENCE,
        "resamples": RESAMPLES,
        "measures": [measure._asdict() | {"title": measure.title} for measure in measures],
        "codecs": measured,
        "published": others,
        "comparisons": {
            measure.key: _comparisons(every, anchor, measure) if measure.key in anchor.points else []
            for measure in measures
        },
        "viewer": viewer | {"first": _first(results, anchor, viewer)},
    }


def viewer_data(
    sources: Sequence[Source],
    items: Sequence[ImageItem],
    rates: Sequence[float],
    side: int,
    megabytes: float,
    maps: Path | None = None,
    anchor: str | None = None,
) -> dict[str, Any]:
    """Originals and decoded pictures, lossless, as data URIs.

    Of each codec and picture the file nearest to each rate is taken, of all its points, and with an anchor that pair
    of a file of its own and one of the anchor's which is nearest to the rate and equal in bytes (see `_apart`). All
    codecs and pictures come at the first rate, then at the second, …, as long as they fit. A picture whose file or
    PSNR is not that of the result is left out.

    Args:
        items: the originals.
        rates: bits per pixel, at least one; the page opens near the first.
        side: larger pictures are cut to their centre of at most so many pixels a side.
        megabytes: bound of all pictures, as text in the page.
        maps: folder of maps to lay over the pictures, see `eval.runner.label_file`.
        anchor: name of a codec that the others are to be seen beside.

    Returns:
        ``rate``, the first one; ``pictures`` (``name``, ``width``, ``height``, ``whole``, ``original``, ``map``,
        ``files``) and ``notes``: what is left out, and why.

    Raises:
        DataError: a map is missing, or not of its picture's size.
    """
    pictures: dict[str, dict[str, Any]] = {}
    left = megabytes * 1e6
    stale: list[str] = []
    missing: set[str] = set()
    for rate in rates:
        for item in items:
            whole = item.read()
            picture = pictures.get(item.name) or _original(item.name, whole, side, maps)
            known = {(file["codec"], file["label"]) for file in picture["files"]}
            files = []
            for result, folder, point, figures in _chosen(sources, item.name, rate, anchor):
                if (result.codec, point.label) in known:
                    continue
                known.add((result.codec, point.label))
                path = Task(item, result.codec, point.quality, target_bpp=point.target_bpp).saved(folder)
                if not path.is_file():
                    missing.add(result.codec)
                    continue
                decoded = _checked(path, whole, figures)
                if decoded is None:
                    stale.append(f"{result.codec} {point.label} of {item.name}")
                else:
                    files.append(_file(result.codec, point, figures, _uri(_cut(decoded, side))))
            size = sum(len(file["source"]) for file in files)
            size += 0 if item.name in pictures else len(picture["original"]) + len(picture["map"] or "")
            if size > left:
                note = (
                    f"Pictures at {rate:g} bpp from {item.name} on are left out: more than {megabytes:g} MB."
                )
                return _viewer(rates[0], pictures, missing, stale, note)
            if files:
                left -= size
                picture["files"] += files
                pictures[item.name] = picture
    return _viewer(rates[0], pictures, missing, stale)


def html(data: dict[str, Any]) -> str:
    """The page."""
    with needs("eval"):
        from plotly.offline import get_plotlyjs  # late: only this needs it

    parts = {name: _text(f"report.{name}") for name in ("css", "js")}
    parts["plotly"] = get_plotlyjs()
    # "<" in a string must not end the script element that holds the data.
    parts["data"] = json.dumps(to_jsonable_python(data), allow_nan=False, separators=(",", ":")).replace(
        "<", "\\u003c"
    )
    return re.sub(r"/\*(css|plotly|data|js)\*/", lambda found: parts[found[1]], _text("report.html"))


def _text(name: str) -> str:
    return resources.files("genic.eval").joinpath(name).read_text(encoding="utf-8")


def _style(style: dict[str, Any], k: int) -> dict[str, str]:
    """Colour and symbol of a curve, the k-th of its kind; published ones, dashed, have open symbols in turn."""
    symbol = _OPEN[(k + k // len(_OPEN)) % len(_OPEN)] if "linestyle" in style else _SYMBOLS[style["marker"]]
    return {"colour": style["color"], "symbol": symbol}


def _codec(result: CodecResult) -> dict[str, Any]:
    points = sorted(result.points, key=lambda point: point.mean.bpp)
    return {
        "points": [{"label": point.label, "mean": point.mean, "images": point.images} for point in points],
        "manifest": result.manifest,
        "weights": result.weights,
        "unavailable": result.unavailable,
        "distances": result.distances,
        "provenance": result.provenance,
    }


def _comparisons(curves: Sequence[Curve], anchor: Curve, measure: Measure) -> list[dict[str, Any]]:
    return [
        {
            "name": curve.name,
            "published": curve.published,
            "rate": bd_rate(anchor, curve, measure)._asdict(),
            "quality": bd_quality(anchor, curve, measure)._asdict(),
        }
        for curve in curves
        if curve is not anchor and measure.key in curve.points
    ]


def _first(results: Sequence[CodecResult], anchor: Curve, viewer: dict[str, Any]) -> list[str]:
    """Codecs in the order in which the viewer opens with two of them: the anchor beside the learned one that has, of
    the first picture, the file nearest to it in bytes and to the rate."""
    files: dict[str, list[dict[str, Any]]] = {}
    for file in viewer["pictures"][0]["files"] if viewer["pictures"] else []:
        files.setdefault(file["codec"], []).append(file["figures"])

    def apart(codec: str) -> float:
        pairs = [(own, other) for own in files.get(codec, []) for other in files.get(anchor.name, [])]
        costs = [_apart(own["bytes"], other["bytes"], own["bpp"], viewer["rate"]) for own, other in pairs]
        return min(costs, default=math.inf)

    learned = sorted((result.codec for result in results if result.weights is not None), key=apart)
    return list(dict.fromkeys([*learned[:1], anchor.name, *learned, *(result.codec for result in results)]))


def _original(name: str, whole: Image, side: int, maps: Path | None) -> dict[str, Any]:
    cut, over = _cut(whole, side), None
    if maps is not None:
        path = label_file(maps, name)
        over = read_label(path)
        if over.shape != whole.shape[:2]:
            raise DataError(f"{path} is {over.shape}, its picture {whole.shape[:2]}: make it anew")
    return {
        "name": name,
        "width": cut.shape[1],
        "height": cut.shape[0],
        "whole": cut.shape == whole.shape,
        "original": _uri(cut),
        "map": None if over is None else _uri(_cut(over, side)),
        "files": [],
    }


def _file(codec: str, point: Point, figures: ImageResult, source: str) -> dict[str, Any]:
    return {"codec": codec, "label": point.label, "figures": to_jsonable_python(figures), "source": source}


class _Found(NamedTuple):
    """A file of a picture."""

    result: CodecResult
    folder: Path
    point: Point
    figures: ImageResult


def _chosen(sources: Sequence[Source], name: str, rate: float, anchor: str | None) -> list[_Found]:
    """What the viewer has of a picture at a rate, see `viewer_data`; some perhaps twice."""
    files: dict[str, list[_Found]] = {}
    for result, folder in sources:
        entries = [(point, image) for point in result.points for image in point.images if image.name == name]
        files.setdefault(result.codec, []).extend(_Found(result, folder, *entry) for entry in entries)
    beside = files.pop(anchor, []) if anchor is not None else []

    def apart(pair: tuple[_Found, _Found]) -> float:
        own, other = (file.figures for file in pair)
        return _apart(own.bytes, other.bytes, own.bpp, rate)

    chosen = [min(beside, key=lambda file: apart((file, file)))] if beside else []
    for own in filter(None, files.values()):
        chosen += min([(file, other) for file in own for other in beside or [file]], key=apart)
    return chosen


def _apart(size: int, other: int, bpp: float, rate: float) -> float:
    """How far two files are from a rate and from equal bytes: 3 % pass for equal, each per cent more is as bad as being
    a fifth away from the rate. ``report.js`` chooses by the same."""
    return abs(math.log(bpp / rate)) + 20 * max(0.0, abs(math.log(size / other)) - 0.03)


def _checked(path: Path, original: Image, figures: ImageResult) -> Image | None:
    """The decoded picture, where file and picture are those that were measured."""
    try:
        if path.with_suffix(".gnc").stat().st_size != figures.bytes:
            return None
        decoded = read_image(path)
    except (OSError, GenicError):
        return None
    if decoded.shape != original.shape:
        return None
    psnr = psnr_rgb(original, decoded)
    return decoded if psnr == figures.psnr_rgb or abs(psnr - figures.psnr_rgb) < 1e-3 else None


def _cut(image: Image, side: int) -> Image:
    height, width = image.shape[:2]
    return image[_span(height, side), _span(width, side)]


def _span(length: int, side: int) -> slice:
    start = max(0, length - side) // 2
    return slice(start, start + min(length, side))


def _uri(image: Image) -> str:
    buffer = io.BytesIO()
    # The quickest: more effort saves a tenth of the bytes and takes ten times as long.
    Pillow.fromarray(image).save(buffer, "WEBP", lossless=True, method=0, quality=20)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _viewer(
    rate: float, pictures: dict[str, dict[str, Any]], missing: set[str], stale: list[str], *notes: str
) -> dict[str, Any]:
    for picture in pictures.values():
        picture["files"].sort(key=lambda file: file["figures"]["bytes"])
    told = list(notes)
    if missing:
        told.append(
            f"Decoded pictures are not kept, or not all, of {', '.join(sorted(missing))}: "
            "evaluate with --save-decoded."
        )
    if stale:
        told.append(f"Left out, since they are not what was measured: {', '.join(stale)}.")
    return {"rate": rate, "pictures": list(pictures.values()), "notes": told}
