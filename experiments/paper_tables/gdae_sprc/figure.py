"""The figure from real files, and what the heat map gives the hot region.

::

    python -m experiments.tables gdae_sprc figure --picture kodim23 --bpp 0.5

As on the slide "GDAE+SPRC": original, GDAE, heat map and GDAE+SPRC, each with crops where the heat is
highest and lowest; and, over the whole data set, PSNR inside and outside the hot region (heat of ½ or more) against
uniform residual quality. GDAE and uniform quality are at the same budget of bytes; the adaptive file is at most as
large as the uniform one, picture by picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter

from genic.datamodules.images import ImageItem, read_image
from genic.eval.metrics import psnr, psnr_rgb
from genic.eval.runner import Task
from genic.eval.tables import number, table
from genic.experiments.evaluate import pictures
from genic.experiments.paper_tables.common import save_figure, show
from genic.experiments.paper_tables.gdae_sprc.common import codec_parser, folder, measured, opened, save
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, needs
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.config import GdaeSprcCoding

HOT = 0.5
CROP = (120, 160)
"""Height and width of the crops, drawn at twice their size."""


class Regions(NamedTuple):
    """PSNR in dB of one file and the decoded picture's path; a region without pixels has None."""

    picture: str
    bytes: int
    whole: float
    hot: float | None
    cold: float | None


class Comparison(NamedTuple):
    """One picture: residual quality by heat, and uniform."""

    name: str
    hot_share: float
    adaptive: Regions
    uniform: Regions


def compare(
    options: argparse.Namespace, codec: GdaeSprcCodec, items: Sequence[ImageItem], decoded: Path
) -> tuple[list[Comparison], list[np.ndarray]]:
    """The comparisons and the heat maps; files and decoded pictures are kept in the folder ``decoded``.

    Raises:
        ConfigError: there is no classifier, so no hot region.
    """
    found = [codec.heat(item.read(), classifier=options.classifier, top_k=options.top_k) for item in items]
    heats = [heat for heat in found if heat is not None]
    if len(heats) < len(items):
        raise ConfigError("a classifier is needed: set GENIC_DATA, or give --classifier vgg16")
    plain = {"level": options.level, "strength": 0.0}
    uniform = [Task(item, options.codec, target_bpp=options.bpp, options=plain) for item in items]
    adaptive = []
    for item, heat, found in zip(items, heats, measured(options, uniform, decoded), strict=True):
        how = {"level": options.level, "strength": options.strength, "heat": heat}
        adaptive.append(Task(item, options.codec, target_bytes=found.bytes, options=how))
    measured(options, adaptive, decoded)
    comparisons = []
    for item, heat, *pair in zip(items, heats, adaptive, uniform, strict=True):
        image, hot = item.read(), heat >= HOT
        regions = [_regions(image, task.saved(decoded), hot) for task in pair]
        comparisons.append(Comparison(item.name, float(hot.mean()), *regions))
    return comparisons, heats


def summary(comparisons: Sequence[Comparison], bpp: float, strength: float) -> str:
    """Markdown: means over the pictures that have both regions."""
    both = [c for c in comparisons if c.adaptive.hot is not None and c.adaptive.cold is not None]
    rows = []
    for name in ("adaptive", "uniform"):
        values = np.mean([getattr(c, name)[1:] for c in both], axis=0)
        rows.append(
            [name, *(number(value, digits) for value, digits in zip(values, (0, 2, 2, 2), strict=True))]
        )
    pairs = [(c.adaptive.hot, c.uniform.hot) for c in both]
    better = sum(a > b for a, b in pairs if a is not None and b is not None)
    lines = [
        f"Means of {len(both)} pictures at {bpp} bpp, {strength} QP between coldest and hottest; "
        f"hot: heat of {HOT} or more, {100 * np.mean([c.hot_share for c in both]):.0f} % of the pixels.",
        table(["residual quality", "bytes", "PSNR, dB", "hot, dB", "cold, dB"], rows),
        f"The hot region is better with the adaptive file on {better} of {len(both)}.",
    ]
    return "\n\n".join(lines)


def draw(image: Image, gdae: Image, heat: np.ndarray, sprc: Image, titles: Sequence[str], path: Path) -> None:
    """The figure: a row of pictures, a row of crops at the hottest place, a row at the coldest."""
    with needs("eval"):
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

    hottest, coldest = _extremes(heat)
    heights = [320 * image.shape[0] / image.shape[1], 2 * CROP[0], 2 * CROP[0]]
    figure = Figure(figsize=(13.2, (sum(heights) + 90) / 100), layout="constrained")
    axes = figure.subplots(3, 4, height_ratios=heights)
    for column, (title, picture) in enumerate(zip(titles, (image, gdae, None, sprc), strict=True)):
        for row, window in enumerate((None, hottest, coldest)):
            axis = axes[row, column]
            show(axis, "" if row else title, _cut(image if picture is None else picture, window))
            if picture is None:
                axis.imshow(_cut(heat, window), cmap="jet", alpha=0.5, vmin=0, vmax=1)
        for window, colour in ((hottest, "red"), (coldest, "deepskyblue")):
            corner = (window[1].start, window[0].start)
            sides = (window[1].stop - window[1].start, window[0].stop - window[0].start)
            axes[0, column].add_patch(Rectangle(corner, *sides, fill=False, color=colour))
    axes[1, 0].set_title("where the heat is highest", color="red")
    axes[2, 0].set_title("where it is lowest", color="deepskyblue")
    save_figure(figure, path, 100)


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc figure``; returns the exit status."""
    options = _parser().parse_args(arguments)
    codec, which = opened(options.codec), options.codec.partition(":")[2] or "small"
    data, items = pictures(options.data, options.root, options.limit)
    names = [Path(item.name).stem for item in items]
    chosen = Path(options.picture or items[0].name).stem
    if chosen not in names:
        raise ConfigError(f"{data} has no picture {chosen!r}; the first is {items[0].name}")
    decoded = folder(options, data) / "decoded"
    comparisons, heats = compare(options, codec, items, decoded)

    k = names.index(chosen)
    alone = Task(items[k], f"gdae:{which}", target_bpp=options.bpp)
    gdae = measured(options, [alone], decoded)[0]
    best = comparisons[k].adaptive
    titles = (
        f"{items[k].name}, original",
        f"GDAE, {gdae.bytes} bytes, {gdae.psnr_rgb:.2f} dB",
        "heat map",
        f"GDAE+SPRC, {best.bytes} bytes, {best.whole:.2f} dB",
    )
    shown = (items[k].read(), read_image(alone.saved(decoded)), heats[k], read_image(best.picture))
    draw(*shown, titles, folder(options, data) / "figure.png")
    pairs = [c._asdict() | {k: getattr(c, k)._asdict() for k in ("adaptive", "uniform")} for c in comparisons]
    text = summary(comparisons, options.bpp, options.strength)
    save(options, data, "figure", text, {"bpp": options.bpp, "pictures": pairs})
    return 0


def _regions(image: Image, path: Path, hot: np.ndarray) -> Regions:
    decoded = read_image(path)
    error = (image.astype(np.float64) - decoded) ** 2
    parts = (psnr(error[where].mean()) if where.any() else None for where in (hot, ~hot))
    return Regions(str(path), path.with_suffix(".gnc").stat().st_size, psnr_rgb(image, decoded), *parts)


def _extremes(heat: np.ndarray) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of at most `CROP` pixels where the mean heat is highest and lowest."""
    sides = [min(crop, side) for crop, side in zip(CROP, heat.shape, strict=True)]
    # Typed as one size for all axes; it takes one an axis, too.
    means = uniform_filter(heat.astype(np.float64), sides)  # pyright: ignore[reportArgumentType]
    # Centres whose windows lie inside the picture.
    inside = means[tuple(slice(s // 2, n - s + s // 2 + 1) for s, n in zip(sides, heat.shape, strict=True))]
    windows = []
    for flat in (inside.argmax(), inside.argmin()):
        corner = np.unravel_index(flat, inside.shape)
        windows.append(tuple(slice(int(c), int(c) + s) for c, s in zip(corner, sides, strict=True)))
    return windows[0], windows[1]


def _cut(picture: np.ndarray, window: tuple[slice, slice] | None) -> np.ndarray:
    return picture if window is None else picture[window]


def _level(text: str) -> float | str:
    return text if text in ("best", "none") else float(text)


def _parser() -> argparse.ArgumentParser:
    found = codec_parser("figure", __doc__)
    found.add_argument("--picture", metavar="NAME", help="the one to draw (default: the first)")
    found.add_argument("--bpp", type=float, default=0.5, help="the budget (default: 0.5)")
    found.add_argument("--level", type=_level, default="best", help="of the latents, or none (default: best)")
    found.add_argument(
        "--strength", type=float, default=GdaeSprcCoding.strength, metavar="QP", help="coldest to hottest"
    )
    found.add_argument("--classifier", metavar="NAME[:FILE]", help="e.g. vgg16, with weights from timm's hub")
    found.add_argument("--top-k", type=int, default=1, metavar="K", help="classes of the heat map")
    return found
