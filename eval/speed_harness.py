"""What measuring through the harness costs: `experiments.evaluate` beside a plain loop over the same pictures.

::

    python -m eval.speed_harness jpeg=5,25,60 hevc=39 --data kodak

``own`` is what encoding, decoding and measuring (PSNR, SSIM, MS-SSIM, LPIPS) take in the loop, which runs in one
process and keeps nothing. Loop and command are whole programs from start to end, imports and all processes included.
Seconds of CPU time, which is the time on the clock where one core does it all, and which other work hardly changes;
medians. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
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
_PR_SET_CHILD_SUBREAPER = 36


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
        image, begin = item.read(), time.process_time()
        for quality in qualities:
            measure(image, opened.decode(opened.encode(image, quality)), MEASURES)
        total += time.process_time() - begin
    return total


def times(codec: str, qualities: str, data: str) -> tuple[float, float, float]:
    """Seconds: own, of the loop as a program, of the command as a program."""
    printed, loop = _run("genic.eval.speed_harness", f"{codec}={qualities}", "--data", data, "--loop")
    with tempfile.TemporaryDirectory() as folder:
        how = ["--qualities", qualities, "--data", data, "--measures", ",".join(MEASURES), "--out", folder]
        return float(printed), loop, _run("genic.experiments.evaluate", codec, *how)[1]


def _run(module: str, *arguments: str) -> tuple[str, float]:
    """What ``python -m module`` prints, and the seconds of it and all processes that it starts."""
    # Its orphans become children of this process, which waits for them, so that they are counted.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = os.times()
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = os.times()
    if done.returncode:
        raise ToolError(f"{module} ended with status {done.returncode}")
    user, system = after.children_user - before.children_user, after.children_system - before.children_system
    return done.stdout, user + system


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
    table = Table("codec", "qualities", title=f"{options.data}, CPU seconds, medians of {options.repeats}")
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
