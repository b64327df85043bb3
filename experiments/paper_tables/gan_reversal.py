"""The table of GAN reversal, and the curve of similarity against effort.

A 480×360 picture becomes 128×128 as its central 360×360 square, scaled by a bicubic filter with antialiasing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage

from datamodules import DataConfig, make_datamodule
from datamodules.images import ImageItem, write_png
from eval.provenance import provenance
from eval.tables import number, table
from experiments.paper_tables.files import Encoded, Row, measured, png_row, within
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import ConfigError, DataError
from lightning_modules.codec.weights import find_weights
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
    weights = find_weights("gan_reversal", options.weights).resolve()
    parts = _pictures(options.data, options.root, options.limit)
    for part, images in parts.items():
        for name, image in images.items():
            write_png(options.out / "pictures" / part / f"{name}.png", image)
    entries = {part: _entries(codec, images, options, part) for part, images in parts.items()}
    chosen = _first(parts["unseen"], options.effort_pictures)
    entries["effort"] = [
        _encoded(codec, chosen, options, steps, "ssim", f"{steps} steps") for steps in options.effort
    ]
    found = iter(measured([e for part in entries.values() for e in part], options.out / "files", weights))
    rows = {part: [next(found) for _ in those] for part, those in entries.items()}
    effort = rows.pop("effort")
    rows = {part: [png_row(parts[part]), *those] for part, those in rows.items()}
    speed = _speed(codec, _first(parts["unseen"], SPEED_PICTURES), options)
    _write(options, rows, effort, speed)
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
        "--steps", type=int, metavar="N", help="of the table's search (default: the preset's)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every search")
    parser.add_argument("--effort", type=_integers, default=(0, 30, 100, 300, 1000), metavar="A,B,…")
    parser.add_argument(
        "--effort-pictures", type=int, default=16, metavar="K", help="unseen ones, for effort"
    )
    parser.add_argument("--out", type=Path, default=Path("results/tables/gan_reversal"), metavar="DIR")
    return parser


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _pictures(data: str, root: str | None, limit: int | None) -> dict[str, dict[str, Image]]:
    """128×128 pictures by part and name: unseen ones, and as many of those trained on, evenly spaced."""
    module = make_datamodule(DataConfig(name=data, root=root))
    unseen, seen = module.evaluation_images(), module.items("train")
    if not unseen or not seen:
        raise DataError(f"data set {data!r} lacks pictures to train or to evaluate on")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit}: at least 1")
    count = min(len(unseen), len(seen), limit or len(unseen))
    chosen = {"unseen": _spaced(unseen, count), "seen": _spaced(seen, count)}
    return {
        part: {item.name.replace("/", "-").rpartition(".")[0]: square(item.read()) for item in items}
        for part, items in chosen.items()
    }


def _spaced(items: Sequence[ImageItem], count: int) -> list[ImageItem]:
    return [items[k * len(items) // count] for k in range(count)]


def _first(images: Mapping[str, Image], count: int) -> dict[str, Image]:
    names = list(images)
    count = min(count, len(names))
    return {names[k * len(names) // count]: images[names[k * len(names) // count]] for k in range(count)}


def _entries(
    codec: Codec, images: Mapping[str, Image], options: argparse.Namespace, part: str
) -> list[Encoded]:
    """All rows but PNG's."""
    entries = []
    for scheme, name, quality in (
        ("K-means (K = 4)", "kmeans", 4),
        ("JPEG 10", "jpeg", 10),
        ("JPEG 1", "jpeg", 1),
    ):
        classical = open_codec(name)
        files = {key: classical.encode(image, quality) for key, image in images.items()}
        entries.append(Encoded(scheme, images, files))
    for scheme, name in (("WebP", "webp"), ("AVIF", "avif")):
        classical = open_codec(name)
        files = {key: within(classical, image, options.bytes) for key, image in images.items()}
        fit = sum(len(data) <= options.bytes for data in files.values())
        note = f"≤ {options.bytes} B" if fit == len(files) else f"≤ {options.bytes} B or its smallest file"
        entries.append(Encoded(f"{scheme}, {note}", images, files))
    loss = "mse" if part == "seen" else "ssim"
    return [*entries, _encoded(codec, images, options, options.steps, loss)]


def _encoded(
    codec: Codec,
    images: Mapping[str, Image],
    options: argparse.Namespace,
    steps: int | None,
    loss: str,
    scheme: str = "GAN reversal",
) -> Encoded:
    begin = time.perf_counter()
    search = {"steps": codec.config.steps if steps is None else steps, "loss": loss, "seed": options.seed}
    files = codec.encode_batch(list(images.values()), target_bytes=options.bytes, **search)
    seconds = (time.perf_counter() - begin) / len(images)
    record = {"seconds": seconds, "restarts": codec.config.restarts, **search}
    return Encoded(scheme, images, dict(zip(images, files, strict=True)), seconds, record)


def _speed(codec: Codec, images: Mapping[str, Image], options: argparse.Namespace) -> dict[str, float]:
    """Seconds a picture, one at a time and in a batch."""
    few = dict(list(images.items())[:4])
    _encoded(codec, _first(few, 1), options, 2, "ssim")  # first calls allocate and choose kernels
    batch = _encoded(codec, images, options, SPEED_STEPS, "ssim").seconds
    begin = time.perf_counter()
    for image in few.values():
        codec.encode(image, target_bytes=options.bytes, steps=SPEED_STEPS, seed=options.seed)
    alone = (time.perf_counter() - begin) / len(few)
    return {"pictures": len(images), "alone": alone, "batch": batch, "ratio": alone / batch}


def _write(
    options: argparse.Namespace, rows: Mapping[str, list[Row]], effort: list[Row], speed: dict[str, float]
) -> None:
    """``table.md``, ``table.json`` and ``effort.png`` below the output folder."""
    where = provenance(torch.get_num_threads(), 1)
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
            f"## Effort ({effort[0].pictures} unseen pictures, one batch)",
            _table(effort),
            "![](effort.png)",
        ]
    lines.append(
        f"Encoding at {SPEED_STEPS} steps: {speed['alone']:.2f} s a picture one at a time, "
        f"{speed['batch']:.2f} s in a batch of {speed['pictures']}: {speed['ratio']:.1f} times faster. "
        f"{where.machine}, {where.threads} threads."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text("\n\n".join(lines) + "\n")
    content = {
        "limit_bytes": options.bytes,
        "weights": options.weights,
        "rows": {part: [_plain(row) for row in found] for part, found in rows.items()},
        "effort": [_plain(row) for row in effort],
        "speed": speed,
        "provenance": dataclasses.asdict(where),
    }
    (options.out / "table.json").write_text(json.dumps(content, indent=1) + "\n")


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
    axes.set_xlabel("encoding, seconds a picture in a batch")
    axes.set_ylabel("SSIM")
    axes.set_title(f"Effort at {rows[0].bpp:.3f} bpp or less")
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
