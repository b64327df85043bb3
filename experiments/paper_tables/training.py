"""What hours of training brought: validation at fixed rates, run after run as stages follow one another.

::

    python -m experiments.tables selective_detail training runs/selective_detail/realistic_{1,2,3} --bpp 0.15,0.3

Values lie between those of a model's levels, linear in log rate. Hours are those of the runs' own clocks.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genic.eval.curves import Curve
from genic.eval.tables import number, table
from genic.experiments.command import add_wandb, listed, make_parser
from genic.experiments.paper_tables.common import TABLES, save, save_figure
from genic.experiments.training.folder import METRICS
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.errors import DataError, needs

MEASURES = {
    "lpips": "LPIPS (Alex)",
    "lpips_squeeze": "LPIPS (Squeeze)",
    "ms_ssim_db": "MS-SSIM, dB",
    "psnr": "PSNR, dB",
}


class Validation(NamedTuple):
    """One validation: the run's name, batches of this run, hours of all runs so far, means of each level."""

    run: str
    batch: int
    hours: float
    curve: Curve


def main(paper: str, arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables PAPER training``; returns the exit status."""
    found = make_parser(f"tables {paper} training", __doc__)
    found.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, in their order")
    found.add_argument(
        "--bpp", type=listed(float), default=[0.15, 0.3], metavar="A,B,…", help="default: 0.15,0.3"
    )
    found.add_argument("--out", type=Path, default=TABLES / paper, metavar="DIR", help="default: %(default)s")
    found.set_defaults(threads=1)  # nothing is timed
    add_wandb(found)
    options = found.parse_args(arguments)
    validations = read(options.runs)
    keys = [key for key in MEASURES if any(key in v.curve.points for v in validations)]
    columns = [(key, bpp) for key in keys for bpp in options.bpp]
    rows = [
        [v.run, str(v.batch), number(v.hours, 2), *(number(v.curve.at(k, b), 4) for k, b in columns)]
        for v in validations
    ]
    names = [f"{MEASURES[key]} at {bpp:g} bpp" for key, bpp in columns]
    text = [
        f"# Training of {', '.join(run.name for run in options.runs)}",
        table(["run", "batch", "hours", *names], rows),
        "Validation crops of the training data's set, estimated rates.",
    ]
    if keys:
        draw(validations, keys, options)
    record = [
        {"run": v.run, "batch": v.batch, "hours": v.hours}
        | {f"{k}@{b:g}": v.curve.at(k, b) for k, b in columns}
        for v in validations
    ]
    save(options, "training", "\n\n".join(text), {"validations": record})
    return 0


def read(runs: Sequence[Path]) -> list[Validation]:
    """Every validation of the runs, hours summed up. `DataError` where a run's log is not there."""
    found, before = [], 0.0
    for run in runs:
        log = run / METRICS
        if not log.is_file():
            raise DataError(f"no {log}: give folders of runs, e.g. runs/hyperprior/small")
        lines = read_metrics(log)
        for line in lines:
            points = _points(line)
            if points:
                hours = (before + line["seconds"]) / 3600
                found.append(Validation(run.name, line["batch"], hours, Curve(run.name, points)))
        before += max((line["seconds"] for line in lines), default=0.0)
    return found


def _points(line: dict[str, float]) -> dict[str, np.ndarray]:
    """By measure, (bits per pixel, value) of each level, ascending in rate."""
    levels: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in line.items():
        if match := re.fullmatch(r"validation/(\w+)_(\d+)", name):
            levels[match[1]][match[2]] = value
    rate = levels.pop("bpp", {})
    return {
        key: np.array(sorted((rate[level], value) for level, value in values.items() if level in rate))
        for key, values in levels.items()
        if rate.keys() & values.keys()
    }


def draw(validations: Sequence[Validation], keys: Sequence[str], options: argparse.Namespace) -> None:
    """A panel a measure, a line a rate; a grey line where the next run begins."""
    with needs("eval"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(keys), 3.4), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        for bpp in options.bpp:
            points = [(v.hours, value) for v in validations if (value := v.curve.at(key, bpp)) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{bpp:g} bpp")
        for one, other in pairwise(validations):
            if one.run != other.run:
                axes.axvline(one.hours, color="#cccccc", zorder=0)
        axes.set_xlabel("hours")
        axes.set_title(MEASURES[key], fontsize=10)
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, options.out / "training.png", 150)
