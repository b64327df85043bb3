"""What the tables and figures of all papers share: options, pictures, files within budgets, and where results go."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from genic.datamodules.images import ImageItem
from genic.eval.provenance import provenance
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.experiments.command import add_data, add_processes, add_wandb, make_parser
from genic.experiments.evaluate import dataset
from genic.lightning_modules.codec.errors import ConfigError, GenicError, TargetError
from genic.lightning_modules.codec.files import atomic_file, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLES = Path("results/tables")


def parser(
    paper: str,
    part: str,
    doc: str | None,
    limit: str = "K pictures, evenly spaced (default: all)",
    **data: Any,
) -> argparse.ArgumentParser:
    """The options that every part has: those of `experiments.command.add_data` and `add_processes`, and ``--out``."""
    found = make_parser(f"tables {paper} {part}".strip(), doc)
    data = data or {"default": "kodak", "help": "data set to measure on (default: kodak)"}
    add_data(found, limit, **data)
    add_processes(found)
    add_wandb(found)
    found.add_argument("--out", type=Path, default=TABLES / paper, metavar="DIR", help="default: %(default)s")
    return found


def pictures(options: argparse.Namespace) -> list[ImageItem]:
    """``--limit`` pictures of the data set, evenly spaced."""
    return spaced(dataset(options.data, options.root)[1], options.limit)


def spaced(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most ``count`` of them, evenly spaced; all by default. `ConfigError` where it is less than 1."""
    if count is not None and count < 1:
        raise ConfigError(f"{count} pictures: at least 1 is needed")
    count = len(items) if count is None else min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def unmet(_task: Task, error: GenicError) -> None:
    """For `measure_files`: a budget that no file keeps gives None, all else is an error."""
    if not isinstance(error, TargetError):
        raise error


def within_or_smallest(tasks: Sequence[Task], workers: WorkerPairs, **how: Any) -> list[Task]:
    """The tasks, each with its ``target_bytes`` or, where no file is as small, with the smallest file's size.

    Args:
        how: of `measure_files`; what was measured on the way is read from its store when the result is measured.
    """
    sizes = {id(task): task.target_bytes for task in tasks}

    def smallest(task: Task, error: GenicError) -> None:
        if not isinstance(error, TargetError):
            raise error
        sizes[id(task)] = int(error.best)

    measure_files(tasks, workers, on_error=smallest, **how)
    return [dataclasses.replace(task, target_bytes=sizes[id(task)]) for task in tasks]


def save(
    options: argparse.Namespace,
    name: str,
    text: str,
    record: Mapping[str, object],
    folder: Path | None = None,
) -> None:
    """Write ``name``.md and ``name``.json, which has the provenance beside ``record``; print the page.

    Args:
        options: of the part's command line.
        text: Markdown, which ends with where the figures come from.
        record: as JSON takes it; dataclasses are written as mappings.
        folder: made if need be; by default ``--out``.
    """
    where, folder = provenance(options.threads, 1), Path(folder or options.out)
    text += f"\n\n{where.date}, commit {(where.commit or 'unknown')[:12]}, {where.machine}\n"
    record = {**record, "provenance": where}
    content = json.dumps(record, indent=1, default=dataclasses.asdict)
    write_atomic(folder / f"{name}.md", text.encode())
    write_atomic(folder / f"{name}.json", content.encode() + b"\n")
    print(f"{text}\n{folder / name}.md")
    if options.wandb:
        from genic.experiments import dashboard

        title = f"{options.out.name}-{name}"
        with dashboard.opened("tables", folder, title, {"provenance": dataclasses.asdict(where)}) as run:
            dashboard.log_record(run, title, text, record)


def show(axes: Axes, title: str, picture: Any, **how: Any) -> None:
    """A picture without ticks; ``how`` is of `Axes.imshow`."""
    axes.imshow(picture, **how)
    axes.set_title(title)
    axes.set_axis_off()


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """PNG in true colour, as small as that goes."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=dpi, format="png")
    with atomic_file(path) as file:
        Image.open(drawn).convert("RGB").save(file, "PNG", optimize=True)


def log_figure(options: argparse.Namespace, name: str, path: Path) -> None:
    """The figure in W&B, where ``--wandb`` asks for it."""
    if options.wandb:
        from genic.experiments import dashboard

        with dashboard.opened("tables", options.out, name, {"figure": path.name}) as run:
            dashboard.log_figure(run, name, path)
