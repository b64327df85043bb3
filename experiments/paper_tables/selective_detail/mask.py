"""Whether the mask selects: its mean inside and outside faces and text, and a figure of what both decoders show there.

::

    python -m experiments.tables selective_detail mask --show kodim04,kodim14,kodim15,kodim18 --bpp 0.15
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genic.datamodules.images import ImageItem, read_image
from genic.eval.runner import Task
from genic.eval.tables import number, table
from genic.experiments.command import listed
from genic.experiments.paper_tables.common import pictures, save, save_figure, show
from genic.experiments.paper_tables.selective_detail.common import masked, measured, parser, t_a
from genic.lightning_modules.codec.errors import ConfigError, needs

CROP = 192
SHOWN = {"m": {"mask": True}, "x̂_m": {"detail": 0.0}, "x̂_s": {"detail": 2.0}, "x̂": {}}
"""Columns of the figure, and how a file is decoded for each."""


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables selective_detail mask``; returns the exit status."""
    found = parser("mask", __doc__)
    found.add_argument("--bpp", type=float, default=0.15, help="the most of a file (default: 0.15)")
    found.add_argument(
        "--show", type=listed(str), metavar="A,B,…", help="pictures of the figure (default: the first 4)"
    )
    options = found.parse_args(arguments)
    codec, items = masked(options.codec), pictures(options)
    names = [Path(item.name).stem for item in items]
    chosen = options.show or names[:4]
    if missing := [name for name in chosen if name not in names]:
        raise ConfigError(f"{options.data} has no picture {missing[0]!r}; the first is {names[0]!r}")
    tasks = [_task(item, options.codec, options.bpp, "m") for item in items]
    results = measured(options, tasks)
    rows, means, regions = [], {}, []
    for item, task, result in zip(items, tasks, results, strict=True):
        m = read_image(task.saved(options.out / "files"))[..., 0] / 255
        inside = t_a(options, item, item.read())
        regions.append(inside)
        parts = [float(m[where].mean()) if where.any() else None for where in (inside, ~inside)]
        means[item.name] = {
            "bytes": result.bytes,
            "share": float(inside.mean()),
            "inside": parts[0],
            "outside": parts[1],
        }
        rows.append([item.name, number(100 * inside.mean(), 1), *(number(v, 3) for v in parts)])
    both = [m for m in means.values() if m["inside"] is not None and m["outside"] is not None]
    text = [
        f"# The mask of {options.codec} at {options.bpp:g} bpp, {len(items)} pictures of {options.data}",
        table(["picture", "faces and text, % of pixels", "m inside", "m outside"], rows),
    ]
    if both:
        gap = np.mean([m["inside"] - m["outside"] for m in both])
        text.append(f"Inside {gap:+.3f} against outside, mean of {len(both)} pictures that have both.")
    text.append(f"{options.codec}: {codec.weights_id.hex()}")
    places = [names.index(name) for name in chosen]
    _draw(options, [items[k] for k in places], [regions[k] for k in places])
    save(
        options,
        "mask",
        "\n\n".join(text),
        {"weights": codec.weights_id.hex(), "bpp": options.bpp, "pictures": means},
    )
    return 0


def _task(item: ImageItem, codec: str, bpp: float, column: str) -> Task:
    return Task(item, codec, target_bpp=bpp, decoding=SHOWN[column])


def _draw(options: argparse.Namespace, items: Sequence[ImageItem], regions: Sequence[np.ndarray]) -> None:
    """A row a picture: original, m, x̂_m, x̂_s, x̂, at the place of its ``regions``, bool [H, W]."""
    with needs("eval"):
        from matplotlib.figure import Figure

    tasks = [_task(item, options.codec, options.bpp, column) for item in items for column in SHOWN]
    measured(options, tasks)
    figure = Figure(figsize=(3 * (1 + len(SHOWN)), 3.1 * len(items)), layout="constrained")
    grid = figure.subplots(len(items), 1 + len(SHOWN), squeeze=False)
    for row, (item, inside) in enumerate(zip(items, regions, strict=True)):
        window = _window(inside)
        show(grid[row, 0], item.name, item.read()[window], interpolation="nearest")
        for column, name in enumerate(SHOWN):
            task = tasks[row * len(SHOWN) + column]
            picture = read_image(task.saved(options.out / "files"))
            show(grid[row, 1 + column], name, picture[window], interpolation="nearest")
    save_figure(figure, options.out / "mask.png", 100)


def _window(inside: np.ndarray) -> tuple[slice, slice]:
    """Of at most `CROP` pixels a side, around the middle of what is inside, else of the picture."""
    places = np.argwhere(inside)
    middle = places.mean(0) if len(places) else np.array(inside.shape) / 2
    corner = [
        int(np.clip(c - CROP / 2, 0, max(n - CROP, 0))) for c, n in zip(middle, inside.shape, strict=True)
    ]
    top, left = corner
    return slice(top, top + CROP), slice(left, left + CROP)
