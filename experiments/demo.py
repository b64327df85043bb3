"""The main job, end to end, in a few minutes on two cores.

::

    python -m experiments.demo [--out runs/demo] [--minutes 2]

1. Train `selective_detail` briefly on the photographs that ship inside dependencies.
2. Compress evaluation pictures (Kodak where GENIC_DATA has it) with the shipped weights and the classical codecs:
   real files, decoded in another process.
3. Show curves, tables and the decoded pictures in one HTML file, ``report.html`` in the output folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from genic.experiments import evaluate, report
from genic.experiments.command import command, make_parser
from genic.experiments.config import load_config
from genic.experiments.run import Run, quieten, train
from genic.experiments.training.folder import METRICS
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.errors import DataError

PAPER = "selective_detail"
# Few points each, over the rates where the learned codec works; `experiments.evaluate` sweeps them all.
SWEEPS = {
    PAPER: "0,1,2,3,4,5",
    "jpeg": "5,10,20,35",
    "jpeg2000": "0.1,0.2,0.3,0.5",
    "webp": "0,10,30,60",
    "avif": "10,25,40",
    "hevc": "42,37,32",
    "jxl": "12,8,5",
}
PICTURES = 6


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("demo", __doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo"
    )
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="of training (default: 2)")
    options = parser.parse_args(arguments)
    quieten()
    print("1/3  training selective_detail on the bundled photographs", flush=True)
    print(f"     {_losses(_train(options.out, options.minutes))}")
    data = _data()
    print(f"2/3  files and pictures: {data}, first {PICTURES}", flush=True)
    results, devices = options.out / "results", os.cpu_count() or 1
    how = [
        "--data",
        data,
        f"--limit={PICTURES}",
        f"--devices={devices}",
        f"--out={results}",
        "--save-decoded",
    ]
    for codec, sweep in SWEEPS.items():
        if status := evaluate.main([codec, "--qualities", sweep, *how]):
            return status
    print("3/3  report", flush=True)
    evaluated, items = evaluate.pictures(data, None, PICTURES)
    page = options.out / "report.html"
    report.write_report(results, evaluated, items[: report.PICTURES], page, anchor="hevc")
    print(f"\nreport: {page}")
    return 0


def _train(out: Path, minutes: float) -> Run:
    """A run of the `small` preset, from scratch, for ``minutes``."""
    rarely = ["train.log_every=5", "train.validate_every=0", "train.panels_every=0"]
    config = load_config(PAPER, ["preset=small", "data=sample", *rarely])
    return train(config, out=out / "training", max_time=timedelta(minutes=minutes), logger="csv")


def _data() -> str:
    """``kodak`` where it is at hand, else the bundled pictures that training leaves out."""
    try:
        evaluate.pictures("kodak", None, 1)
        return "kodak"
    except DataError:
        return "sample"


def _losses(run: Run) -> str:
    """How far training came."""
    logged = read_metrics(run.folder / METRICS)
    losses = [(line["batch"], line["loss/total"]) for line in logged if "loss/total" in line]
    steps = ", ".join(f"{loss:.3f} at batch {batch}" for batch, loss in losses[:: max(1, len(losses) - 1)])
    return f"{run.batches} batches, loss {steps or 'not logged yet'}; run: {run.folder}"


if __name__ == "__main__":
    sys.exit(main())
