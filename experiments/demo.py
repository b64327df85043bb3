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

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from datamodules.images import read_image, write_png
from eval.metrics import measure
from experiments import decompress, evaluate, rd_curves
from experiments.config import load_config
from experiments.paper_tables.files import within
from experiments.run import Run, quieten, train
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import DataError, GenicError
from lightning_modules.registry import open_codec

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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.demo", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="default: runs/demo"
    )
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="of training (default: 2)")
    options = parser.parse_args(arguments)
    try:
        quieten()
        print("1/3  training selective_detail on the bundled photographs", flush=True)
        run = _train(options.out, options.minutes)
        data = _data()
        print(f"2/3  files and pictures: {data}, first {PICTURES}", flush=True)
        results = options.out / "results"
        for codec, sweep in SWEEPS.items():
            devices = str(os.cpu_count() or 1)
            options_of = [
                "--data",
                data,
                "--limit",
                str(PICTURES),
                "--qualities",
                sweep,
                "--devices",
                devices,
            ]
            status = evaluate.main([codec, *options_of, "--out", str(results)])
            if status:
                return status
        print("3/3  curves and pictures", flush=True)
        evaluated, items = evaluate.pictures(data, None, PICTURES)
        rd_curves.draw(results, evaluated, anchor="hevc")
        comparison = _compare(read_image(items[0].path), options.out)
        report = _report(options.out, run, results / evaluated, comparison)
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\nreport: {report}")
    return 0


def _train(out: Path, minutes: float) -> Run:
    """A run of the `small` preset, from scratch, for ``minutes``."""
    settings = [
        "preset=small",
        "data=sample",
        "train.log_every=5",
        "train.validate_every=0",
        "train.panels_every=0",
    ]
    config = load_config(PAPER, settings)
    return train(config, out=out / "training", max_time=timedelta(minutes=minutes), logger="csv")


def _data() -> str:
    """``kodak`` where it is at hand, else the bundled pictures that training leaves out."""
    try:
        evaluate.pictures("kodak", None, 1)
        return "kodak"
    except DataError:
        return "sample"


def _compare(image: Image, out: Path) -> list[tuple[str, int, float, float]]:
    """Files of one picture at about equal bytes: name, bytes, PSNR and SSIM; decoded by `experiments.decompress`."""
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    learned = open_codec(PAPER)
    files = {PAPER: learned.encode(image)}
    files |= {name: within(open_codec(name), image, len(files[PAPER])) for name in ("jpeg", "webp")}
    rows, panels = [], [("original", image)]
    for name, data in files.items():
        path = folder / f"{name}.gnc"
        path.write_bytes(data)
        decompress.main([str(path), "-o", str(folder), "--force"])
        decoded = read_image(path.with_suffix(".png"))
        metrics = measure(image, decoded)
        rows.append((name, len(data), metrics.psnr_rgb, metrics.ssim))
        panels.append((f"{name}, {len(data)} bytes", decoded))
    write_png(folder / "comparison.png", _strip(panels))
    return rows


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


def _report(out: Path, run: Run, results: Path, comparison: list[tuple[str, int, float, float]]) -> Path:
    logged = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["batch"], line["loss/total"]) for line in logged if "loss/total" in line]
    training = f"{run.batches} batches"
    if len(losses) > 1:
        training += (
            f"; loss {losses[0][1]:.3f} at batch {losses[0][0]}, {losses[-1][1]:.3f} at batch {losses[-1][0]}"
        )
    lines = [
        "# genic: demo",
        f"**Training** (from scratch, bundled photographs): {training}. Run: `{run.folder}`.",
        "**Codecs** (shipped weights; real files, decoded in another process): "
        f"[tables]({results.relative_to(out)}/rd.md).",
        *(
            f"![{name}]({results.relative_to(out)}/{name}.png)"
            for name in ("rd_ms_ssim_db", "rd_psnr_rgb", "rd_ssim")
        ),
        "**One picture at about equal bytes**",
        "| codec | bytes | PSNR, dB | SSIM |\n|---|---:|---:|---:|\n"
        + "\n".join(
            f"| {name} | {size} | {psnr:.2f} | {ssim:.4f} |" for name, size, psnr, ssim in comparison
        ),
        "![comparison](pictures/comparison.png)",
    ]
    path = out / "report.md"
    path.write_text("\n\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
