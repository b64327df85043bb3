"""What measuring through the harness costs: `experiments.evaluate` beside a plain loop over the same pictures.

::

    python -m eval.speed_harness jpeg=5,25,60 hevc=39 --data kodak

``own`` is the time inside encoding, decoding and measuring (PSNR, SSIM, MS-SSIM, LPIPS), as the loop takes it, which
runs in one process and keeps nothing. Loop and command are whole programs, from start to end, imports included, each
in a process of its own; the command starts two more. Medians.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from genic.datamodules import DataConfig, make_datamodule
from genic.eval.provenance import provenance
from genic.experiments.command import command, listed, make_parser
from genic.lightning_modules.codec.errors import ConfigError, ToolError
from genic.lightning_modules.registry import open_codec

MEASURES = ["lpips_alex"]


def own_seconds(codec: str, qualities: Sequence[float], data: str) -> float:
    """Of encoding, decoding and measuring every picture at every quality, in this process, on one thread."""
    import torch

    from genic.eval.metrics import measure

    torch.set_num_threads(1)
    opened, blank = open_codec(codec), np.full((256, 256, 3), 128, np.uint8)
    measure(
        blank, opened.decode(opened.encode(blank + np.uint8(1), qualities[0])), MEASURES
    )  # what the first call loads
    total = 0.0
    for item in make_datamodule(DataConfig(name=data)).evaluation_images():
        image, begin = item.read(), time.perf_counter()
        for quality in qualities:
            measure(image, opened.decode(opened.encode(image, quality)), MEASURES)
        total += time.perf_counter() - begin
    return total


def times(codec: str, qualities: str, data: str) -> tuple[float, float, float]:
    """Seconds: own, of the loop as a program, of the command as a program."""
    begin = time.perf_counter()
    own = float(_run("genic.eval.speed_harness", f"{codec}={qualities}", "--data", data, "--loop"))
    loop = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        how = ["--qualities", qualities, "--data", data, "--measures", ",".join(MEASURES), "--out", folder]
        _run("genic.experiments.evaluate", codec, *how)
        return own, loop, time.perf_counter() - begin


def _run(module: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ToolError(f"{module} ended with status {done.returncode}")
    return done.stdout


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("speed_harness", __doc__, "eval")
    parser.add_argument("codecs", nargs="+", metavar="CODEC=QUALITY,…")
    parser.add_argument("--data", default="kodak", help="default: kodak")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--loop", action="store_true", help="the loop alone, once: prints its own seconds")
    options = parser.parse_args(arguments)
    asked = [entry.partition("=")[::2] for entry in options.codecs]
    if not all(qualities for _, qualities in asked):
        raise ConfigError("give codecs with their quality, e.g. jpeg=25")
    if options.loop:
        codec, qualities = asked[0]
        print(own_seconds(codec, listed(float)(qualities), options.data))
        return 0
    table = Table("codec", "qualities", title=f"{options.data}, seconds, medians of {options.repeats}")
    for column in ("own", "loop", "evaluate", "evaluate to loop, %", "evaluate to own, %"):
        table.add_column(column, justify="right")
    for codec, qualities in asked:
        found = [times(codec, qualities, options.data) for _ in range(options.repeats)]
        own, loop, whole = (median(part) for part in zip(*found, strict=True))
        shares = [f"{100 * (whole / other - 1):+.1f}" for other in (loop, own)]
        table.add_row(codec, qualities, *(f"{value:.1f}" for value in (own, loop, whole)), *shares)
    Console().print(table, provenance(1, processes=2).machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
