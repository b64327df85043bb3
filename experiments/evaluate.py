"""Measure codecs on a data set: real files, decoded in another process.

::

    python -m experiments.evaluate jpeg webp hevc --data kodak
    python -m experiments.evaluate selective_detail:small --data kodak --devices 2 --measures lpips_alex,lpips_squeeze
    python -m experiments.evaluate jpeg --data folder --root pictures --name holiday --save-decoded
    python -m experiments.evaluate hevc selective_detail --data kodak --bpp 0.1,0.15,0.25

Each codec's result goes to ``OUT/DATA/CODEC.json`` (see `eval.schema`); `experiments.rd_curves` draws them. A set of
other pictures by the same name gets a folder beside the first. Measurements are kept in ``OUT/measured`` as they
come, so that a command that was ended goes on where it was. An unreadable picture is left out and reported; the exit
status is then 1.

With ``--bpp`` each picture gets the best file within each rate, and the result goes to ``OUT/budgets/DATA``. A rate
that some picture's smallest file exceeds is no point of the codec: it is reported, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from genic.datamodules import DataConfig, make_datamodule
from genic.datamodules.images import ImageItem, manifest_hash
from genic.eval import worker
from genic.eval.curves import curve_of, find_reference, load_results, published_curves
from genic.eval.measures import DISTANCES, MEASURES, NETWORKS, RECOGNITION
from genic.eval.provenance import provenance
from genic.eval.runner import Task, WorkerPairs, codec_result, evaluate, with_distances
from genic.eval.schema import CodecResult
from genic.eval.tables import number
from genic.experiments.command import (
    add_data,
    add_processes,
    add_wandb,
    command,
    make_parser,
    print_error,
    progress,
)
from genic.experiments.training.folder import WEIGHTS
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DataError,
    GenicError,
    ImageError,
    TargetError,
)
from genic.lightning_modules.registry import open_codec, paper_of

KNOWN = (*NETWORKS, *RECOGNITION, *DISTANCES)
BACKBONE = "mobilenetv2_100"


def result_path(folder: Path, codec: str) -> Path:
    """Where a codec's result lies in its data set's folder; what a file name cannot hold becomes ``-``."""
    return folder / (re.sub(r"[^\w.-]+", "-", codec).strip("-") + ".json")


def results_folder(out: Path, data: str, manifest: str) -> Path:
    """``OUT/DATA``; where results of other pictures are in it, ``OUT/DATA-MANIFEST``, eight digits of the hash.

    Raises:
        DataError: a file there is not a result.
    """
    folder = out / data
    others = {result.manifest for result in load_results(out, data)} if any(folder.glob("*.json")) else set()
    return folder if others <= {manifest, None} else out / f"{data}-{manifest[:8]}"


def pictures(
    data: str, root: str | None, limit: int | None, name: str | None = None
) -> tuple[str, list[ImageItem]]:
    """Name and pictures of a data set.

    Args:
        data, root: see `DataConfig`.
        limit: the first so many are a set of their own name.
        name: by default ``data``, for ``folder`` the folder's own name.

    Raises:
        ConfigError, DataError: no such set, or it is not where it should be.
    """
    _, items = dataset(data, root)
    if name is None:
        folder = DataConfig(name=data, root=root).resolved_root() if data == "folder" else None
        name = data if folder is None else re.sub(r"[^\w.-]+", "-", folder.resolve().name).strip("-.")
    if re.fullmatch(r"\w[\w.-]*", name) is None:
        raise ConfigError(f"--name {name!r}: letters, digits, '.', '-' and '_' only")
    if limit is None or limit >= len(items):
        return name, items
    if limit < 1:
        raise ConfigError(f"--limit {limit}: at least 1")
    return f"{name}-first{limit}", items[:limit]


def dataset(data: str, root: str | None) -> tuple[Any, list[ImageItem]]:
    """A data module and its pictures to evaluate on; `DataError` where there are none."""
    module = make_datamodule(DataConfig(name=data, root=root))
    items = module.evaluation_images()
    if not items:
        raise DataError(f"data set {data!r} has no pictures to evaluate on: set GENIC_DATA or --root")
    return module, items


def readable(items: Sequence[ImageItem]) -> tuple[list[ImageItem], list[str]]:
    """The pictures that can be decoded, and what is wrong with the others; `DataError` where none can."""
    good, problems = [], []
    for item in items:
        try:
            item.read()
            good.append(item)
        except (ImageError, DataError) as error:
            problems.append(f"{item.name} is left out: {error}")
    if not good:
        raise DataError(f"no picture can be read: {problems[0]}")
    return good, problems


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console()
    rates, qualities = numbers("--bpp", options.bpp), numbers("--qualities", options.qualities)
    asked = options.measures
    names = {None: ["lpips_alex"], "none": []}.get(asked, (asked or "").split(","))
    for name in names:
        if name not in KNOWN:
            raise ConfigError(f"no measure {name!r}: there are {', '.join(KNOWN)}")
    store = options.out / "measured"
    with WorkerPairs(options.devices, options.threads) as workers:
        data, items = pictures(options.data, options.root, options.limit, options.name)
        items, problems = readable(items)
        manifest = manifest_hash(items)
        folder = results_folder(options.out / "budgets" if rates else options.out, data, manifest)
        saved = folder / "decoded"
        # Names are checked before hours are spent on the first one.
        codecs = {name: open_codec(name) for name in options.codecs}
        for name, codec in codecs.items():
            if not codec.trained:
                raise ConfigError(
                    f"{name} has random weights: their quality says nothing; time them (eval.speed)"
                )
        why_not = _unavailable(workers, names, options.regions is not None, options.backbone)
        networks = [name for name in names if name not in (*why_not, *DISTANCES)]
        distances = [name for name in names if name in DISTANCES and name not in why_not]
        keep = saved if options.save_decoded or options.wandb or distances else None
        for name, codec in codecs.items():
            sweep = [] if rates else qualities or list(codec.qualities)
            too_large: list[Task] = []
            how = {"networks": networks, "regions": options.regions, "store": store, "save_decoded": keep}
            with progress(f"{name} on {data}", len(items) * (len(sweep) + len(rates))) as advance:
                failed = partial(_note_target, too_large)
                points = evaluate(
                    name, items, sweep, workers, rates=rates, on_error=failed, advance=advance, **how
                )
            problems += [
                f"{name}: {count} of {len(items)} pictures have no file within {rate:g} bpp"
                for rate, count in Counter(task.target_bpp for task in too_large).items()
            ]
            if not points:
                continue
            refused, of = {}, None
            if distances:
                points, refused, of = with_distances(
                    name, items, points, distances, options.backbone, workers, store, saved
                )
            where = provenance(options.threads, min(options.devices, len(items)))
            result = codec_result(name, codec, data, manifest, points, where, why_not | refused, of)
            result.save(result_path(folder, name))
            if options.wandb:
                _show(options.out, result, items, saved)
            console.print(_table(result))
            console.print(f"{result_path(folder, name)}", soft_wrap=True, highlight=False)
    for problem in problems:
        print_error(problem)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("evaluate", __doc__)
    parser.add_argument(
        "codecs",
        nargs="+",
        metavar="CODEC",
        help="jpeg, hevc, …, PAPER[:PRESET or checkpoint], folder:PATH of files made elsewhere, or module:Class",
    )
    add_data(parser, "the first K pictures only", required=True, help="data set, e.g. kodak")
    sweep = parser.add_mutually_exclusive_group()
    sweep.add_argument("--qualities", metavar="A,B,…", help="in place of each codec's own sweep")
    sweep.add_argument("--bpp", metavar="A,B,…", help="rates that files may take, instead of qualities")
    parser.add_argument("--name", help="of the set in results (default: --data, or the folder's name)")
    parser.add_argument(
        "--measures",
        metavar="A,B,…",
        help=f"beside PSNR, SSIM and MS-SSIM: of {', '.join(KNOWN)}, or none (default: "
        "lpips_alex where its weights are at hand); distances of sets keep the decoded pictures",
    )
    parser.add_argument(
        "--regions",
        type=Path,
        metavar="DIR",
        help="maps of the measure regions, PNG by the pictures' names, not 0 inside (default: faces and text)",
    )
    parser.add_argument(
        "--backbone",
        default=BACKBONE,
        metavar="NAME",
        help="of frechet and kernel, a model of timm's (default: %(default)s)",
    )
    parser.add_argument(
        "--save-decoded", action="store_true", help="keep files and decoded pictures beside the results"
    )
    add_processes(parser)
    add_wandb(parser)
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    return parser


def _show(out: Path, result: CodecResult, items: list[ImageItem], saved: Path) -> None:
    """The result as a W&B run, beside those measured before it on the same pictures, and the published ones."""
    from genic.experiments import dashboard
    from genic.lightning_modules.codec.weights import find_weights

    data, about = result.data, {"codec": result.codec, "data": result.data, "options": result.options}
    others = [curve_of(other) for other in load_results(saved.parent.parent, saved.parent.name)]
    with dashboard.opened("evaluate", out, f"{result.codec} on {data}", about) as run:
        dashboard.log_data(run, data, {"manifest": result.manifest}, items)
        if (paper := paper_of(result.codec)) is not None:
            path = find_weights(paper, result.codec.partition(":")[2] or "small")
            # By the names that training gave them.
            name = f"{paper}/{path.parent.name if path.name == WEIGHTS else path.stem}"
            dashboard.log_weights(run, name, path, {"weights": result.weights}, made=False)
        anchors = [*others, *published_curves(data, find_reference() if data == "kodak" else None)]
        dashboard.log_result(run, result, anchors, curve_of(result), items, saved)


def _note_target(too_large: list[Task], task: Task, error: GenicError) -> None:
    if not isinstance(error, TargetError):
        raise error
    too_large.append(task)


def numbers(option: str, text: str | None) -> list[float]:
    """Of an option's text with commas, none without one; `ConfigError` names the option."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"{option} {text}: give numbers with commas between, e.g. 10,30,60") from None


def _unavailable(workers: WorkerPairs, names: list[str], *how: Any) -> dict[str, str]:
    """`eval.worker.unavailable`, there, where torch and the networks are needed: this process starts without them."""
    found: dict[str, str] = {}
    workers.each(
        [names] if names else [], lambda call, asked: found.update(call(0, worker.unavailable, asked, *how))
    )
    return found


def _table(result: CodecResult) -> Table:
    table = Table(title=f"{result.codec} on {result.data}: means of {len(result.points[0].images)} pictures")
    columns = {"bpp": ("bpp", 4)}
    for measure in MEASURES:
        if result.has(measure.key):
            columns[measure.key] = (f"{measure.label} {measure.unit}".strip(), measure.digits)
    columns |= {"encode_seconds": ("encode s", 3), "decode_seconds": ("decode s", 3)}
    table.add_column("quality", justify="right")
    budgeted = any(point.target_bpp for point in result.points)
    for label in [*(label for label, _ in columns.values()), *(["% used: mean, least"] if budgeted else [])]:
        table.add_column(label, justify="right")
    for point in result.points:
        values = [number(getattr(point.mean, name), digits) for name, (_, digits) in columns.items()]
        if budgeted:
            used = [image.bpp / point.target_bpp for image in point.images] if point.target_bpp else []
            values.append(f"{100 * fmean(used):.1f}, {100 * min(used):.1f}" if used else "–")
        table.add_row(point.label, *values)
    notes = [f"{name} is unavailable: {why}" for name, why in result.unavailable.items()]
    notes += [f"Distances of sets: {result.distances}"] if result.distances else []
    table.caption = "\n".join(notes)
    return table


if __name__ == "__main__":
    sys.exit(main())
