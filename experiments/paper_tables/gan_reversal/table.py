"""The table of GAN reversal, and the curve of similarity against effort.

A 480×360 picture becomes 128×128 as its central 360×360 square, scaled by a bicubic filter with antialiasing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

from datamodules import DataConfig, make_datamodule
from eval.provenance import provenance
from eval.runner import Loaded, Task, WorkerPairs, measure_files
from eval.schema import ImageResult
from eval.tables import number, table
from experiments.paper_tables.files import Row, png_row, png_size
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import ConfigError, DataError, GenicError, TargetError
from lightning_modules.codec.files import write_atomic
from lightning_modules.registry import open_codec

# 'Summary of the metrics': bpp, compression ratio, PSNR, MSE, SSIM, on pictures that the publication does not name.
PUBLISHED = (
    Row("PNG", 0, 13.63, 1.0, math.inf, 0.0, 1.0),
    Row("K-means (K = 4)", 0, 1.486, 9.172, 23.012, 342.46, 0.7145),
    Row("JPEG 10", 0, 0.4848, 28.11, 26.161, 161.87, 0.7711),
    Row("JPEG 1", 0, 0.2176, 62.64, 20.465, 589.15, 0.5280),
    Row("GAN reversal", 0, 0.2152, 63.34, 21.192, 540.06, 0.7073),
)
SIDE = 128
LIMIT = int(0.2176 * SIDE * SIDE / 8)  # 445 bytes
SPEED_STEPS, SPEED_PICTURES = 100, 32


def square(image: Image, side: int = SIDE) -> Image:
    """The central square of a picture, scaled to ``side``."""
    height, width = image.shape[:2]
    whole = min(height, width)
    left, top = (width - whole) / 2, (height - whole) / 2
    box = (left, top, left + whole, top + whole)
    scaled = PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.BICUBIC, box=box)
    return np.array(scaled)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises `GenicError` as what it uses does."""
    options = _parser().parse_args(arguments)
    codec = open_codec(f"gan_reversal:{options.weights}")
    parts = _pictures(options.data, options.root, options.limit)
    chosen = _spaced(parts["unseen"], min(options.effort_pictures, len(parts["unseen"])))
    with WorkerPairs(options.devices, options.threads) as workers:
        rows = {
            part: [png_row({item.name: item.image for item in items})]
            + [_row(scheme, tasks, options, workers) for scheme, tasks in _schemes(items, options, part)]
            for part, items in parts.items()
        }
        effort = [
            _row(f"effort {level}", [_ours(item, options, effort=level) for item in chosen], options, workers)
            for level in options.efforts
        ]
    few = _spaced(parts["unseen"], min(SPEED_PICTURES, len(parts["unseen"])))
    _write(options, rows, effort, _speed(codec, [item.image for item in few], options))
    print((options.out / "table.md").read_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tables gan_reversal", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--weights", default="small", help="preset, file or run (default: small)")
    parser.add_argument(
        "--data", default="camvid", help="set of related pictures; its train part is the seen one"
    )
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="at most K pictures of each part")
    parser.add_argument("--bytes", type=int, default=LIMIT, metavar="N", help=f"of a file (default: {LIMIT})")
    parser.add_argument(
        "--effort", type=int, metavar="0…9", help="of the table's search (default: the preset's)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every search")
    parser.add_argument(
        "--efforts", type=_integers, default=(0, 3, 5, 7, 9), metavar="A,B,…", help="of the curve"
    )
    parser.add_argument(
        "--effort-pictures", type=int, default=16, metavar="K", help="unseen ones, for the curve"
    )
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="worker pairs (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of each process (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("results/tables/gan_reversal"), metavar="DIR")
    return parser


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _pictures(data: str, root: str | None, limit: int | None) -> dict[str, list[Loaded]]:
    """128×128 pictures: unseen ones, and as many of those trained on, evenly spaced."""
    module = make_datamodule(DataConfig(name=data, root=root))
    unseen, seen = module.evaluation_images(), module.items("train")
    if not unseen or not seen:
        raise DataError(f"data set {data!r} lacks pictures to train or to evaluate on")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: at least 1")
    count = min(len(unseen), len(seen), limit or len(unseen))
    return {
        part: [Loaded(item.name, square(item.read())) for item in _spaced(items, count)]
        for part, items in (("unseen", unseen), ("seen", seen))
    }


def _spaced(items: Sequence, count: int) -> list:
    return [items[k * len(items) // count] for k in range(count)]


def _schemes(items: Sequence[Loaded], options: argparse.Namespace, part: str) -> list[tuple[str, list[Task]]]:
    """All rows but PNG's."""
    fixed = (("K-means (K = 4)", "kmeans", 4), ("JPEG 10", "jpeg", 10), ("JPEG 1", "jpeg", 1))
    fitted = (("WebP", "webp"), ("AVIF", "avif"))
    return [
        *((scheme, [Task(item, codec, quality) for item in items]) for scheme, codec, quality in fixed),
        *(
            (
                f"{scheme}, ≤ {options.bytes} B",
                [Task(item, codec, target_bytes=options.bytes) for item in items],
            )
            for scheme, codec in fitted
        ),
        ("GAN reversal", [_ours(item, options, loss="mse" if part == "seen" else "ssim") for item in items]),
    ]


def _ours(item: Loaded, options: argparse.Namespace, **search: object) -> Task:
    chosen = {} if options.effort is None else {"effort": options.effort}
    search = chosen | {"seed": options.seed} | search
    return Task(item, f"gan_reversal:{options.weights}", target_bytes=options.bytes, options=search)


def _row(scheme: str, tasks: Sequence[Task], options: argparse.Namespace, workers: WorkerPairs) -> Row:
    """Means over the files of a scheme, the smallest there is where none keeps to the bytes; the name says so."""
    smallest: dict[str, Task] = {}

    def note(task: Task, error: GenicError) -> None:
        if not isinstance(error, TargetError):
            raise error
        smallest[task.item.name] = dataclasses.replace(task, target_bytes=int(error.best))

    how = {"store": options.out / "measured", "save_decoded": options.out / "files"}
    results = measure_files(tasks, workers, on_error=note, **how)
    if smallest:
        scheme = f"{scheme} or its smallest file"
        rest = iter(measure_files(list(smallest.values()), workers, **how))
        results = [next(rest) if found is None else found for found in results]
    return _means(scheme, tasks, results)


def _means(scheme: str, tasks: Sequence[Task], results: Sequence[ImageResult]) -> Row:
    files, figures = [], []
    for task, found in zip(tasks, results, strict=True):
        mse = 255**2 / 10 ** (found.psnr_rgb / 10)
        ratio = png_size(task.item.image) / found.bytes
        figures.append((found.bpp, ratio, found.psnr_rgb, mse, found.ssim, found.encode_seconds))
        own = {"name": found.name, "bytes": found.bytes, "psnr": found.psnr_rgb, "ssim": found.ssim}
        files.append(own | {"seconds": found.encode_seconds} | dict(task.options))
    means = (float(value) for value in np.mean(figures, 0))
    return Row(scheme, len(figures), *means, max(found.bytes for found in results), tuple(files))


def _speed(codec: Codec, images: Sequence[Image], options: argparse.Namespace) -> dict[str, float]:
    """Seconds a picture, one at a time and in a batch."""
    search = {"target_bytes": options.bytes, "seed": options.seed}
    codec.encode(images[0], steps=2, **search)  # first calls allocate and choose kernels
    begin = time.perf_counter()
    codec.encode_batch(images, steps=SPEED_STEPS, **search)
    batch = (time.perf_counter() - begin) / len(images)
    begin = time.perf_counter()
    for image in images[:4]:
        codec.encode(image, steps=SPEED_STEPS, **search)
    alone = (time.perf_counter() - begin) / len(images[:4])
    return {"pictures": len(images), "alone": alone, "batch": batch, "ratio": alone / batch}


def _write(
    options: argparse.Namespace, rows: dict[str, list[Row]], effort: list[Row], speed: dict[str, float]
) -> None:
    """``table.md``, ``table.json`` and ``effort.png`` below the output folder."""
    where = provenance(options.threads, options.devices)
    lines = [
        "# GAN reversal",
        f"Files of at most {options.bytes} bytes at {SIDE}×{SIDE}, whole, decoded in a fresh "
        "process. Means over pictures. Seen pictures are of the training set and searched by MSE, as published.",
    ]
    for part, found in rows.items():
        by_name = {row.scheme: row for row in found}
        margin = by_name["GAN reversal"].ssim - by_name["JPEG 1"].ssim
        lines += [
            f"## {part.capitalize()} pictures ({found[0].pictures} of {options.data})",
            _table(found),
            f"SSIM of GAN reversal above JPEG 1: {margin:+.4f} (published {0.7073 - 0.5280:+.4f}).",
        ]
    lines += ["## As published, on other pictures", _table(PUBLISHED)]
    if effort:
        _plot(effort, options.out / "effort.png")
        lines += [
            f"## Effort ({effort[0].pictures} unseen pictures)",
            _table(effort),
            "![](effort.png)",
        ]
    lines.append(
        f"Encoding at {SPEED_STEPS} steps: {speed['alone']:.2f} s a picture one at a time, "
        f"{speed['batch']:.2f} s in a batch of {speed['pictures']}: {speed['ratio']:.1f} times faster. "
        f"{where.machine}, {torch.get_num_threads()} threads."
    )
    write_atomic(options.out / "table.md", ("\n\n".join(lines) + "\n").encode())
    content = {
        "limit_bytes": options.bytes,
        "weights": options.weights,
        "rows": {part: [_plain(row) for row in found] for part, found in rows.items()},
        "effort": [_plain(row) for row in effort],
        "speed": speed,
        "provenance": dataclasses.asdict(where),
    }
    write_atomic(options.out / "table.json", (json.dumps(content, indent=1) + "\n").encode())


def _table(rows: Sequence[Row]) -> str:
    header = ["", "bpp", "ratio", "PSNR", "MSE", "SSIM", "encode s", "largest B"]
    return table(
        header,
        [
            [
                row.scheme,
                number(row.bpp, 4),
                number(row.ratio, 2),
                "∞" if row.psnr == math.inf else number(row.psnr, 2),
                number(row.mse, 1),
                number(row.ssim, 4),
                number(row.seconds, 2),
                str(row.largest or "–"),
            ]
            for row in rows
        ],
    )


def _plain(row: Row) -> dict[str, object]:
    return {k: "inf" if v == math.inf else v for k, v in dataclasses.asdict(row).items()}


def _plot(rows: Sequence[Row], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([row.seconds for row in rows], [row.ssim for row in rows], "o-", color="#d62728")
    for row in rows:
        axes.annotate(
            row.scheme, (row.seconds, row.ssim), xytext=(4, -12), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")
    axes.set_xlabel("encoding, seconds a picture")
    axes.set_ylabel("SSIM")
    axes.set_title(f"Effort at {rows[0].bpp:.3f} bpp or less")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
