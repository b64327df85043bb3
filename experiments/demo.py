"""The main job, end to end, in a few minutes on two cores.

::

    python -m experiments.demo [--out runs/demo] [--minutes 2]

1. Train `selective_detail` briefly on the photographs that ship inside dependencies.
2. Compress evaluation pictures (Kodak where GENIC_DATA has it) with the shipped weights and the classical codecs:
   real files, decoded in another process.
3. Draw the rate-distortion curves, and one picture beside JPEG and WebP at equal bytes.

``report.md`` in the output folder leads to everything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from datamodules.images import ImageItem, read_image, write_png
from eval.runner import Task, WorkerPairs, measure_files
from eval.schema import ImageResult
from eval.tables import number, table
from experiments import evaluate, rd_curves
from experiments.command import command, make_parser
from experiments.config import load_config
from experiments.paper_tables.common import within_or_smallest
from experiments.run import Run, quieten, train
from experiments.training.folder import METRICS
from experiments.training.loggers import read_metrics
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import DataError

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
    run = _train(options.out, options.minutes)
    data = _data()
    print(f"2/3  files and pictures: {data}, first {PICTURES}", flush=True)
    results = options.out / "results"
    how = [
        "--data",
        data,
        "--limit",
        str(PICTURES),
        "--devices",
        str(os.cpu_count() or 1),
        "--out",
        str(results),
    ]
    for codec, sweep in SWEEPS.items():
        if status := evaluate.main([codec, "--qualities", sweep, *how]):
            return status
    print("3/3  curves and pictures", flush=True)
    evaluated, items = evaluate.pictures(data, None, PICTURES)
    rd_curves.draw(results, evaluated, anchor="hevc")
    comparison = _compare(items[0], options.out / "pictures")
    print(f"\nreport: {_report(options.out, run, results / evaluated, comparison)}")
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


def _compare(item: ImageItem, folder: Path) -> dict[str, ImageResult]:
    """Files of one picture at about equal bytes, and ``comparison.png``, what was decoded of them."""
    how = {"store": folder / "measured", "save_decoded": folder}
    with WorkerPairs() as workers:
        (ours,) = measure_files([Task(item, PAPER)], workers, **how)
        others = [Task(item, name, target_bytes=ours.bytes) for name in ("jpeg", "webp")]
        tasks = [Task(item, PAPER), *within_or_smallest(others, workers, **how)]
        results = measure_files(tasks, workers, **how)
    panels = [("original", item.read())]
    for task, found in zip(tasks, results, strict=True):
        panels.append((f"{task.codec}, {found.bytes} bytes", read_image(task.saved(folder))))
    write_png(folder / "comparison.png", _strip(panels))
    return {task.codec: found for task, found in zip(tasks, results, strict=True)}


def _strip(panels: Sequence[tuple[str, Image]]) -> Image:
    """Pictures two by two, each with its title."""
    height, width = panels[0][1].shape[:2]
    sheet = Pillow.new("RGB", (2 * width, 2 * (height + 20)), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (title, picture) in enumerate(panels):
        x, y = (k % 2) * width, (k // 2) * (height + 20)
        draw.text((x + 6, y + 4), title, fill="black")
        sheet.paste(Pillow.fromarray(picture), (x, y + 20))
    return np.asarray(sheet)


def _report(out: Path, run: Run, results: Path, comparison: Mapping[str, ImageResult]) -> Path:
    logged = [line for line in read_metrics(run.folder / METRICS) if "loss/total" in line]
    training = f"{run.batches} batches"
    if len(logged) > 1:
        losses = (f"{line['loss/total']:.3f} at batch {line['batch']}" for line in (logged[0], logged[-1]))
        training += f"; loss {', '.join(losses)}"
    folder = results.relative_to(out)
    rows = [
        [name, str(found.bytes), number(found.psnr_rgb, 2), number(found.ssim, 4)]
        for name, found in comparison.items()
    ]
    lines = [
        "# genic: demo",
        f"**Training** (from scratch, bundled photographs): {training}. Run: `{run.folder}`.",
        f"**Codecs** (shipped weights; real files, decoded in another process): [tables]({folder}/rd.md).",
        *(f"![{name}]({folder}/{name}.png)" for name in ("rd_ms_ssim_db", "rd_psnr_rgb", "rd_ssim")),
        "**One picture at about equal bytes**",
        table(["codec", "bytes", "PSNR, dB", "SSIM"], rows),
        "![comparison](pictures/comparison.png)",
    ]
    path = out / "report.md"
    path.write_text("\n\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
