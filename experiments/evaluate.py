"""Measure codecs on a data set: real files, decoded in another process.

::

    python -m experiments.evaluate jpeg webp hevc --data kodak
    python -m experiments.evaluate selective_detail:small --data kodak --devices 2

Each codec's result goes to ``OUT/DATA/CODEC.json`` (see `eval.schema`); `experiments.rd_curves` draws them.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from datamodules import DataConfig, make_datamodule
from datamodules.images import ImageItem, manifest_hash
from eval.provenance import provenance
from eval.runner import evaluate
from eval.schema import CodecResult
from eval.tables import number
from lightning_modules.codec.errors import ConfigError, DataError, GenicError
from lightning_modules.registry import open_codec


def result_path(out: Path, data: str, codec: str) -> Path:
    """Where a codec's result lies; what a file name cannot hold becomes ``-``."""
    return out / data / (re.sub(r"[^\w.-]+", "-", codec).strip("-") + ".json")


def pictures(data: str, root: str | None, limit: int | None) -> tuple[str, list[ImageItem]]:
    """Name and pictures of a data set; the first ``limit`` of them are a set of their own name.

    Raises:
        ConfigError, DataError: no such set, or it is not where it should be.
    """
    items = make_datamodule(DataConfig(name=data, root=root)).evaluation_images()
    if not items:
        raise DataError(f"data set {data!r} has no pictures to evaluate on: set GENIC_DATA or --root")
    if limit is None or limit >= len(items):
        return data, items
    if limit < 1:
        raise ConfigError(f"--limit {limit}: at least 1")
    return f"{data}-first{limit}", items[:limit]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        qualities = _numbers(options.qualities)
        data, items = pictures(options.data, options.root, options.limit)
        manifest = manifest_hash(items)
        # Names are checked before hours are spent on the first one.
        sweeps = {name: qualities or list(open_codec(name).qualities) for name in options.codecs}
        for codec, sweep in sweeps.items():
            with _progress(console) as progress:
                task = progress.add_task(f"{codec} on {data}", total=len(items) * len(sweep))
                points = evaluate(
                    codec,
                    items,
                    sweep,
                    devices=options.devices,
                    threads=options.threads,
                    advance=lambda progress=progress, task=task: progress.advance(task),
                )
            points.sort(key=lambda point: point.mean.bpp)
            where = provenance(options.threads, min(options.devices, len(items)))
            result = CodecResult(codec, data, manifest, points, provenance=where)
            path = result_path(options.out, data, codec)
            result.save(path)
            console.print(_table(result))
            console.print(f"{path}", soft_wrap=True, highlight=False)
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "codecs", nargs="+", metavar="CODEC", help="jpeg, hevc, …, or PAPER[:PRESET or checkpoint]"
    )
    parser.add_argument("--data", required=True, help="data set, e.g. kodak")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K pictures only")
    parser.add_argument("--qualities", metavar="A,B,…", help="in place of each codec's own sweep")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="GPUs, or processes without any")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of each process (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    return parser


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--qualities {text}: give numbers with commas between, e.g. 10,30,60") from None


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console)


def _table(result: CodecResult) -> Table:
    table = Table(title=f"{result.codec} on {result.data}: means of {len(result.points[0].images)} pictures")
    columns = {
        "bpp": ("bpp", 4),
        "psnr_rgb": ("PSNR dB", 2),
        "ssim": ("SSIM", 4),
        "ms_ssim": ("MS-SSIM", 4),
        "ms_ssim_db": ("MS-SSIM dB", 2),
        "encode_seconds": ("encode s", 3),
        "decode_seconds": ("decode s", 3),
    }
    table.add_column("quality", justify="right")
    for label, _ in columns.values():
        table.add_column(label, justify="right")
    for point in result.points:
        values = [number(getattr(point.mean, name), digits) for name, (_, digits) in columns.items()]
        table.add_row(f"{point.quality:g}", *values)
    return table


if __name__ == "__main__":
    sys.exit(main())
