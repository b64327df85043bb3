"""The main job, end to end, in about three minutes on two cores.

::

    python -m experiments.demo [--out runs/demo] [--minutes 1]

1. Train `selective_detail` briefly on the photographs that ship inside dependencies.
2. Compress evaluation pictures (Kodak where GENIC_DATA has it) with the shipped weights and the classical codecs:
   real files, decoded in another process.
3. Show crops side by side, ``comparison.png``, and curves, tables and the decoded pictures in one HTML file,
   ``report.html``, both in the output folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from genic.datamodules.images import ImageItem, manifest_hash, read_image
from genic.eval.provenance import provenance
from genic.eval.runner import Task, WorkerPairs, codec_result
from genic.eval.runner import evaluate as measured
from genic.eval.schema import CodecResult
from genic.experiments import evaluate, report
from genic.experiments.command import command, make_parser, progress
from genic.experiments.config import load_config
from genic.experiments.run import Run, quieten, train
from genic.experiments.training.folder import METRICS
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.registry import open_codec

PAPER = "selective_detail"
# Few points each, over the rates where the learned codec works; `experiments.evaluate` sweeps them all.
SWEEPS = {
    PAPER: [0.0, 1.0, 2.0, 4.0],
    "jpeg": [4.0, 10.0, 20.0, 35.0],
    "avif": [8.0, 18.0, 30.0],
    "hevc": [43.0, 39.0, 35.0],
}
PICTURES = 4
RATE, CROP = 0.2, 224  # of the comparison: bits per pixel, pixels a side


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("demo", __doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo"
    )
    parser.add_argument("--minutes", type=float, default=1.0, metavar="M", help="of training (default: 1)")
    options = parser.parse_args(arguments)
    quieten()
    print(f"about {options.minutes + 1.5:g} minutes on two cores, {options.minutes:g} of them training")
    print(f"1/3  training {PAPER} on the bundled photographs; its shipped weights took two hours", flush=True)
    print(f"     {_losses(_train(options.out, options.minutes))}")
    data, items = evaluate.pictures(_data(), None, PICTURES)
    codecs = f"{PAPER} (shipped weights), {', '.join(list(SWEEPS)[1:])}"
    print(f"2/3  {len(items)} pictures of {data} with {codecs}: real files, decoded elsewhere", flush=True)
    folder = options.out / "results" / data
    results = _measure(data, items, folder)
    print("3/3  pictures and page", flush=True)
    print(f"comparison: {_compare(results, items, folder / 'decoded', options.out / 'comparison.png')}")
    page = options.out / "report.html"
    report.write_report(folder.parent, data, items, page, anchor="hevc", rates=(RATE,), side=512)
    print(f"report: {page}")
    return 0


def _train(out: Path, minutes: float) -> Run:
    """A run of the `small` preset, from scratch, for ``minutes``."""
    rarely = ["train.log_every=5", "train.validate_every=0", "train.panels_every=0"]
    config = load_config(PAPER, ["preset=small", "data=sample", *rarely])
    return train(config, out=out / "training", max_time=timedelta(minutes=minutes), logger="csv")


def _measure(data: str, items: list[ImageItem], folder: Path) -> list[CodecResult]:
    """A result a codec, saved in the folder, files and pictures below it."""
    results, processes = [], os.cpu_count() or 1
    manifest, where = manifest_hash(items), provenance(1, processes)
    kept: dict[str, Any] = {"store": folder.parent / "measured", "save_decoded": folder / "decoded"}
    with WorkerPairs(processes) as workers:
        for name, sweep in SWEEPS.items():
            with progress(name, len(items) * len(sweep)) as advance:
                points = measured(name, items, sweep, workers, advance=advance, **kept)
            result = codec_result(name, open_codec(name), data, manifest, points, where, {})
            result.save(evaluate.result_path(folder, name))
            mean = result.points[len(sweep) // 2].mean
            print(
                f"     {name}: {mean.psnr_rgb:.1f} dB, MS-SSIM {mean.ms_ssim_db:.1f} dB at {mean.bpp:.3f} bpp"
            )
            results.append(result)
    return results


def _compare(results: list[CodecResult], items: list[ImageItem], decoded: Path, path: Path) -> Path:
    """Crops of each picture, the original first, then each codec's file that is nearest to `RATE`, with its figures."""
    from matplotlib.figure import Figure

    from genic.experiments.paper_tables.common import save_figure, show

    figure = Figure(figsize=(3.2 * (1 + len(results)), 3.6 * len(items)), layout="constrained")
    axes = figure.subplots(len(items), 1 + len(results), squeeze=False)
    for row, item in enumerate(items):
        original = item.read()
        top, left = ((side - CROP) // 2 for side in original.shape[:2])
        cut = slice(max(top, 0), top + CROP), slice(max(left, 0), left + CROP)
        show(axes[row, 0], f"{item.name}\noriginal", original[cut])
        for column, result in enumerate(results, 1):
            point = min(result.points, key=lambda point: abs(point.images[row].bpp - RATE))
            figures = point.images[row]
            title = f"{result.codec}, {figures.bytes} bytes, {figures.bpp:.3f} bpp"
            measures = f"PSNR {figures.psnr_rgb:.1f} dB, MS-SSIM {figures.ms_ssim_db:.1f} dB"
            picture = read_image(Task(item, result.codec, point.quality).saved(decoded))
            show(axes[row, column], f"{title}\n{measures}", picture[cut])
    save_figure(figure, path, dpi=100)
    return path


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
