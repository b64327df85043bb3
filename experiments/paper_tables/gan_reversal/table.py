"""The table of GAN reversal, and the curve of similarity against effort.

A 480×360 picture becomes 128×128 as its central 360×360 square, scaled by a bicubic filter with antialiasing.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from genic.eval.runner import Loaded, Task, WorkerPairs, measure_files
from genic.eval.tables import number, table
from genic.experiments.command import listed
from genic.experiments.evaluate import dataset
from genic.experiments.paper_tables.common import parser, save, save_figure, spaced, within_or_smallest
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DataError, needs
from genic.lightning_modules.gan_reversal.codec import GanReversalCodec
from genic.lightning_modules.registry import open_codec


@dataclass(frozen=True)
class Row:
    """Means over pictures; each picture counts once.

    Attributes:
        scheme: name in the table. pictures: how many.
        bpp: bits of the whole file a pixel. ratio: bytes of the pictures' PNG files to those of these files.
        psnr: dB, of each picture, then the mean. mse: on the scale 0 to 255. ssim: see `eval.metrics`.
        seconds: of encoding, a picture; None where it was not timed.
        largest: bytes of the largest file.
        files: what is known of each file: name, bytes, psnr, ssim, seconds and the options of its search.
    """

    scheme: str
    pictures: int
    bpp: float
    ratio: float
    psnr: float
    mse: float
    ssim: float
    seconds: float | None = None
    largest: int = 0
    files: tuple[dict[str, object], ...] = ()


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
    chosen = spaced(parts["unseen"], options.effort_pictures)
    with WorkerPairs(options.devices, options.threads) as workers:
        rows = {part: [png_row(items)] for part, items in parts.items()}
        for part, items in parts.items():
            rows[part] += [measured(*row, workers, options.out) for row in _schemes(items, options, part)]
        effort = []
        for level in options.efforts:
            tasks = [_ours(item, options, effort=level) for item in chosen]
            effort.append(measured(f"effort {level}", tasks, workers, options.out))
    assert isinstance(codec, GanReversalCodec)
    speed = _speed(codec, [item.image for item in spaced(parts["unseen"], SPEED_PICTURES)], options)
    if effort:
        _plot(effort, options.out / "effort.png")
    record = {
        "limit_bytes": options.bytes,
        "weights": options.weights,
        "rows": {part: [_plain(row) for row in found] for part, found in rows.items()},
        "effort": [_plain(row) for row in effort],
        "speed": speed,
    }
    save(options, "table", _page(options, rows, effort, speed), record)
    return 0


def png_row(items: Sequence[Loaded]) -> Row:
    """The first row: lossless."""
    bpp = [8 * png_size(item.image) / item.image[..., 0].size for item in items]
    return Row("PNG", len(bpp), float(np.mean(bpp)), 1.0, math.inf, 0.0, 1.0)


def png_size(image: Image) -> int:
    """Bytes of the picture as an optimised PNG."""
    out = io.BytesIO()
    PillowImage.fromarray(image).save(out, "PNG", optimize=True)
    return len(out.getvalue())


def measured(scheme: str, tasks: Sequence[Task], workers: WorkerPairs, out: Path) -> Row:
    """Means over the files of a scheme, the smallest there is where none keeps to the bytes; the name says so."""
    how: dict[str, Any] = {"store": out / "measured", "save_decoded": out / "files"}
    kept = within_or_smallest(tasks, workers, **how)
    if [task.target_bytes for task in kept] != [task.target_bytes for task in tasks]:
        scheme = f"{scheme} or its smallest file"
    figures: list[Any] = []
    files: list[dict[str, Any]] = []
    for task, found in zip(kept, measure_files(kept, workers, **how), strict=True):
        mse = 255**2 / 10 ** (found.psnr_rgb / 10)
        ratio = png_size(task.item.read()) / found.bytes
        figures.append((found.bpp, ratio, found.psnr_rgb, mse, found.ssim, found.encode_seconds))
        own = {"name": found.name, "bytes": found.bytes, "psnr": found.psnr_rgb, "ssim": found.ssim}
        files.append(own | {"seconds": found.encode_seconds} | dict(task.options))
    bpp, ratio, psnr, mse, ssim, seconds = (float(value) for value in np.mean(figures, 0))
    largest = max(file["bytes"] for file in files)
    return Row(scheme, len(files), bpp, ratio, psnr, mse, ssim, seconds, largest, tuple(files))


def _parser() -> argparse.ArgumentParser:
    related = "set of related pictures; its train part is the seen one"
    found = parser("gan_reversal", "", __doc__, default="camvid", help=related)
    found.add_argument("--weights", default="small", help="preset, file or run (default: small)")
    found.add_argument("--bytes", type=int, default=LIMIT, metavar="N", help=f"of a file (default: {LIMIT})")
    found.add_argument(
        "--effort", type=int, metavar="0…9", help="of the table's search (default: the preset's)"
    )
    found.add_argument("--seed", type=int, default=0, metavar="N", help="of every search")
    found.add_argument(
        "--efforts", type=listed(int), default=[0, 3, 5, 7, 9], metavar="A,B,…", help="of the curve"
    )
    found.add_argument("--effort-pictures", type=int, default=16, metavar="K", help="unseen, for the curve")
    return found


def _pictures(data: str, root: str | None, limit: int | None) -> dict[str, list[Loaded]]:
    """128×128 pictures: unseen ones, and as many of those trained on, evenly spaced."""
    module, unseen = dataset(data, root)
    seen = module.items("train")
    if not seen:
        raise DataError(f"data set {data!r} lacks pictures to train on")
    count = min(len(seen), len(spaced(unseen, limit)))
    return {
        part: [Loaded(item.name, square(item.read())) for item in spaced(items, count)]
        for part, items in (("unseen", unseen), ("seen", seen))
    }


def _schemes(items: Sequence[Loaded], options: argparse.Namespace, part: str) -> list[tuple[str, list[Task]]]:
    """All rows but PNG's."""
    fixed = (("K-means (K = 4)", "kmeans", 4), ("JPEG 10", "jpeg", 10), ("JPEG 1", "jpeg", 1))
    rows = [(scheme, [Task(item, codec, quality) for item in items]) for scheme, codec, quality in fixed]
    for scheme, codec in (("WebP", "webp"), ("AVIF", "avif")):
        tasks = [Task(item, codec, target_bytes=options.bytes) for item in items]
        rows.append((f"{scheme}, ≤ {options.bytes} B", tasks))
    loss = "mse" if part == "seen" else "ssim"
    return [*rows, ("GAN reversal", [_ours(item, options, loss=loss) for item in items])]


def _ours(item: Loaded, options: argparse.Namespace, **search: object) -> Task:
    chosen = {} if options.effort is None else {"effort": options.effort}
    search = chosen | {"seed": options.seed} | search
    return Task(item, f"gan_reversal:{options.weights}", target_bytes=options.bytes, options=search)


def _speed(codec: GanReversalCodec, images: Sequence[Image], options: argparse.Namespace) -> dict[str, float]:
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
    threads = torch.get_num_threads()
    return {
        "pictures": len(images),
        "threads": threads,
        "alone": alone,
        "batch": batch,
        "ratio": alone / batch,
    }


def _page(
    options: argparse.Namespace,
    rows: Mapping[str, Sequence[Row]],
    effort: Sequence[Row],
    speed: Mapping[str, float],
) -> str:
    """Markdown."""
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
        title = f"## Effort ({effort[0].pictures} unseen pictures)"
        lines += [title, _table(effort), "![](effort.png)"]
    lines.append(
        f"Encoding at {SPEED_STEPS} steps: {speed['alone']:.2f} s a picture one at a time, "
        f"{speed['batch']:.2f} s in a batch of {speed['pictures']}: {speed['ratio']:.1f} times faster, "
        f"by {speed['threads']} threads."
    )
    return "\n\n".join(lines)


def _table(rows: Sequence[Row]) -> str:
    digits = {"bpp": 4, "ratio": 2, "psnr": 2, "mse": 1, "ssim": 4, "seconds": 2}
    body = [
        [row.scheme, *(number(getattr(row, k), d) for k, d in digits.items()), str(row.largest or "–")]
        for row in rows
    ]
    return table(["", "bpp", "ratio", "PSNR", "MSE", "SSIM", "encode s", "largest B"], body)


def _plain(row: Row) -> dict[str, object]:
    return {k: "inf" if v == math.inf else v for k, v in asdict(row).items()}


def _plot(rows: Sequence[Row], path: Path) -> None:
    with needs("eval"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    seconds: list[Any] = [row.seconds for row in rows]
    axes.plot(seconds, [row.ssim for row in rows], "o-", color="#d62728")
    for row in rows:
        axes.annotate(
            row.scheme, (row.seconds, row.ssim), xytext=(4, -12), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")
    axes.set_xlabel("encoding, seconds a picture")
    axes.set_ylabel("SSIM")
    axes.set_title(f"Effort at {rows[0].bpp:.3f} bpp or less")
    axes.grid(alpha=0.3)
    save_figure(figure, path, 150)
