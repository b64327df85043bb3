"""What the parts share: options, the codec, files measured in another process, and where tables go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.runner import Task, WorkerPairs, measure_files
from eval.schema import ImageResult
from experiments.paper_tables import output
from lightning_modules.codec.errors import ConfigError, GenicError, TargetError
from lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from lightning_modules.registry import open_codec


def parser(part: str, description: str) -> argparse.ArgumentParser:
    """The options that every part has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.tables gdae_sprc {part}", description=description.partition("\n")[0]
    )
    parser.add_argument("--data", default="kodak", help="data set to measure on (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K pictures only")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of each process (default: 1)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="GPUs, or processes without any")
    parser.add_argument(
        "--out", type=Path, default=Path("results/tables"), metavar="DIR", help="default: results/tables"
    )
    return parser


def opened(which: str) -> GdaeSprcCodec:
    """The codec; `ConfigError` where it is another paper's."""
    if which.partition(":")[0] != "gdae_sprc":
        raise ConfigError(f"this is a table of gdae_sprc, not of {which!r}")
    return open_codec(which)


def measured(
    options: argparse.Namespace, tasks: Sequence[Task], decoded: Path | None = None, may_fail: bool = False
) -> list[ImageResult | None]:
    """Every task, in order; what was measured before is read from ``measured`` beside the tables.

    Args:
        decoded: folder for files and decoded pictures, see `Task.saved`.
        may_fail: a budget that a picture cannot meet gives None instead of an error.
    """

    def failed(_task: Task, error: GenicError) -> None:
        if not (may_fail and isinstance(error, TargetError)):
            raise error

    with WorkerPairs(options.devices, options.threads) as workers:
        return measure_files(
            tasks, workers, store=options.out / "measured", save_decoded=decoded, on_error=failed
        )


def folder(options: argparse.Namespace, data: str) -> Path:
    """Where the parts' files go."""
    return options.out / "gdae_sprc" / data


def save(options: argparse.Namespace, data: str, part: str, text: str, record: Mapping[str, object]) -> None:
    """``part``.md and ``part``.json in the `folder`; the text is printed."""
    output.save(folder(options, data), part, text, {"data": data, **record}, options.threads)
