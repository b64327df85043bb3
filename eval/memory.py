"""Peak memory of encoding and decoding a large picture, each in a fresh process.

::

    python -m eval.memory                       # selective_detail, 4096×4096
    python -m eval.memory hevc --size 8192 8192
    python -m eval.memory gan_reversal --set effort=0

Runs `experiments.compress` and `experiments.decompress` as a user would, and prints the peak resident size that the
operating system reports of each (the interpreter and its libraries included), and the seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from genic.datamodules.images import write_png
from genic.eval.provenance import provenance
from genic.experiments.command import command, make_parser
from genic.lightning_modules.codec.container import MAX_SIDE
from genic.lightning_modules.codec.errors import ConfigError, ToolError


class Use(NamedTuple):
    """Of one process: peak resident size in GiB, seconds from start to end, and those of processors, its children's
    included."""

    gib: float
    seconds: float
    cpu: float


def mosaic(width: int, height: int) -> np.ndarray:
    """uint8 height×width×3: a photograph that ships with scikit-learn at its own scale, mirrored over the plane."""
    from sklearn.datasets import load_sample_image

    tile = load_sample_image("china.jpg")
    margins = [(0, max(0, side - have)) for side, have in zip((height, width), tile.shape[:2], strict=True)]
    return np.pad(tile, [*margins, (0, 0)], mode="symmetric")[:height, :width]


def run(module: str, *arguments: str) -> Use:
    """Run ``python -m module``; its standard error is ours.

    Raises:
        ToolError: it failed; what it said stands on its standard error.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise ToolError(f"{module} ended with status {os.waitstatus_to_exitcode(status)}")
    cpu = usage.ru_utime + usage.ru_stime
    return Use(usage.ru_maxrss / 2**20, time.perf_counter() - start, cpu)  # Linux counts KiB


def measure(codec: str, width: int, height: int, settings: Sequence[str] = ()) -> tuple[Use, Use, int]:
    """Of encoding, with ``settings`` as ``--set`` takes them, and of decoding, and the file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        picture, out = Path(folder) / "picture.png", Path(folder) / "out"
        write_png(picture, mosaic(width, height))
        how = [part for pair in settings for part in ("--set", pair)]
        encoding = run("genic.experiments.compress", codec, str(picture), "-o", str(out), *how)
        file = out / "picture.gnc"
        decoding = run("genic.experiments.decompress", str(file), "-o", str(out))
        return encoding, decoding, file.stat().st_size


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("memory", __doc__, "eval")
    parser.add_argument("codec", nargs="*", default=["selective_detail"], help="default: selective_detail")
    parser.add_argument("--size", type=int, nargs=2, default=(4096, 4096), metavar=("W", "H"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of encoding; repeatable"
    )
    args = parser.parse_args(arguments)
    if not all(1 <= side <= MAX_SIDE for side in args.size):
        raise ConfigError(f"--size {' '.join(map(str, args.size))}: sides are 1 to {MAX_SIDE} pixels")
    table = Table("codec", title=f"{args.size[0]}×{args.size[1]}, fresh processes")
    for column in ("bytes", "encode, GiB", "s", "decode, GiB", "s"):
        table.add_column(column, justify="right")
    for codec in args.codec:
        encoding, decoding, size = measure(codec, args.size[0], args.size[1], args.set)
        table.add_row(codec, f"{size:,}", *(f"{value:.2f}" for value in (*encoding[:2], *decoding[:2])))
    console = Console()
    console.print(table, provenance(os.cpu_count() or 1, processes=1).machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
