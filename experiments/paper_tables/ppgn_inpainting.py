"""The table of ablative compression: the 13 published rows at the bytes of JPEG's quality 1, and what else fits.

Central crops have the 256×256 pixels of the networks of the time and are sampled with PPGN; whole pictures are filled
by the feed-forward networks alone unless ``--full-steps`` says otherwise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datamodules import DataConfig, make_datamodule
from eval.provenance import provenance
from eval.tables import number, table
from experiments.paper_tables.files import Encoded, Row, measured
from experiments.paper_tables.ppgn_figure import draw
from experiments.paper_tables.ppgn_regions import regions
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import ConfigError, DataError
from lightning_modules.codec.files import write_atomic
from lightning_modules.codec.weights import find_weights
from lightning_modules.registry import open_codec

CROP = 256


class Scheme(NamedTuple):
    """A row: its name, the SSIM published for it, and how the codec makes it."""

    name: str
    published: float | None
    options: Mapping[str, object]


def _sampled(scheme: str, *assistants: str) -> dict[str, object]:
    return {"scheme": scheme, "steps": None, "assistants": assistants}


JPEG = {1: 0.438, 5: 0.555, 25: 0.797, 50: 0.864}
PUBLISHED = (
    Scheme("Pixel sampling", 0.126, _sampled("pixels")),
    Scheme("Pixel sampling + style loss", 0.149, _sampled("pixels", "style")),
    Scheme("Pixel sampling + content loss", 0.156, _sampled("pixels", "content")),
    Scheme("Pixel sampling + edge loss", 0.154, _sampled("pixels", "edge")),
    Scheme("Block sampling", 0.366, _sampled("blocks")),
    Scheme("Block+Random sampling", 0.389, _sampled("blocks_random")),
    Scheme("B+R sampling + style loss", 0.398, _sampled("blocks_random", "style")),
    Scheme("B+R sampling + content loss", 0.403, _sampled("blocks_random", "content")),
    Scheme("B+R sampling + edge loss", 0.399, _sampled("blocks_random", "edge")),
)
FORERUNNER = Scheme(
    "B+R, G's own picture (PPGN as published)", None, _sampled("blocks_random") | {"refine": False}
)
BESIDE = (
    Scheme("Central square", None, {"scheme": "square"}),
    Scheme("Edge pixels", None, {"scheme": "edges"}),
    Scheme("Pixels, filler alone", None, {"scheme": "pixels"}),
    Scheme("Blocks, filler alone", None, {"scheme": "blocks"}),
    Scheme("Blocks+random, filler alone", None, {"scheme": "blocks_random"}),
    Scheme("Pixels + thumbnail 1/8", None, {"scheme": "pixels", "assist": 1 / 8}),
    Scheme("Blocks+random + thumbnail 1/8", None, {"scheme": "blocks_random", "assist": 1 / 8}),
    Scheme("Thumbnail, restored", None, {"scheme": "thumbnail"}),
)
SPLIT = (
    *(
        Scheme(f"Thumbnail of scale {s:.3g}", None, {"scheme": "thumbnail", "scale": s})
        for s in (1, 2 / 3, 1 / 2, 1 / 3)
    ),
    *(Scheme(f"Blocks, {100 * k:.0f} % kept", None, {"scheme": "blocks", "keep": k}) for k in (0.15, 0.6)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises `GenicError` as what it uses does."""
    options = _parser().parse_args(arguments)
    codec = open_codec(f"ppgn_inpainting:{options.weights}")
    weights = find_weights("ppgn_inpainting", options.weights).resolve()
    whole = _pictures(options)
    crops = {name: central(image, options.crop) for name, image in _spaced(whole, options.sampled).items()}
    found: dict[str, list[Row]] = {}
    for part, images, steps in (("full", whole, options.full_steps), ("crops", crops, options.steps)):
        if options.part in (part, "both"):
            entries = _entries(codec, images, steps, options.quick)
            found[part] = measured(entries, options.out / "files" / part, weights)
            _write(options, found, part)
    name = next(iter(crops)) if options.picture not in crops else options.picture
    draw(codec, crops[name], name, options.steps, options.out / "figure.png")
    few = _spaced(whole, options.regions)
    lines = regions(codec, few) if few else ""
    write_atomic(options.out / "regions.md", lines.encode())
    text = "\n".join((options.out / f"table_{part}.md").read_text() for part in found) + lines
    write_atomic(options.out / "table.md", text.encode())
    record = {part: [dataclasses.asdict(row) for row in rows] for part, rows in found.items()}
    names = [f"JPEG {q}" for q in JPEG] + [s.name for s in PUBLISHED]
    record["published"] = dict(zip(names, [*JPEG.values(), *(s.published for s in PUBLISHED)], strict=True))
    write_atomic(options.out / "table.json", json.dumps(record, indent=1).encode())
    print(text)
    return 0


def central(image: Image, side: int) -> Image:
    """The central square of ``side`` pixels, or of the shorter side."""
    height, width = image.shape[:2]
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tables ppgn_inpainting", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--weights", default="small", help="preset, file or run (default: small)")
    parser.add_argument("--data", default="kodak", help="pictures (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--part", choices=("full", "crops", "both"), default="both")
    parser.add_argument("--limit", type=int, metavar="K", help="K pictures, evenly spaced (default: all)")
    parser.add_argument("--sampled", type=int, metavar="K", help="K of them as crops (default: all)")
    parser.add_argument(
        "--regions", type=int, default=4, metavar="K", help="K of them for the selective scheme"
    )
    parser.add_argument(
        "--crop", type=int, default=CROP, metavar="N", help=f"side of the crops (default: {CROP})"
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of sampling, crops (default: 20)")
    parser.add_argument("--full-steps", type=int, default=0, metavar="N", help="of sampling, whole pictures")
    parser.add_argument("--quick", action="store_true", help="leave out the search for the split of bytes")
    parser.add_argument("--picture", default="kodim04", metavar="NAME", help="the one to draw")
    parser.add_argument("--out", type=Path, default=Path("results/tables/ppgn_inpainting"), metavar="DIR")
    return parser


def _pictures(options: argparse.Namespace) -> dict[str, Image]:
    items = make_datamodule(DataConfig(name=options.data, root=options.root)).evaluation_images()
    if not items:
        raise DataError(f"data set {options.data!r} has no pictures to measure on")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit {options.limit}: at least 1")
    images = {item.name.replace("/", "-").rpartition(".")[0]: item for item in items}
    return {name: item.read() for name, item in _spaced(images, options.limit).items()}


def _spaced(whole: Mapping[str, object], count: int | None) -> dict:
    names = list(whole)
    count = len(names) if count is None else min(count, len(names))
    return {names[k * len(names) // count]: whole[names[k * len(names) // count]] for k in range(count)}


def _entries(codec: Codec, images: Mapping[str, Image], steps: int, quick: bool) -> list[Encoded]:
    jpeg, entries = open_codec("jpeg"), []
    for quality in JPEG:
        files = {name: jpeg.encode(image, quality) for name, image in images.items()}
        entries.append(Encoded(f"JPEG {quality} % quality", images, files))
    budget = {name: len(data) for name, data in entries[0].files.items()}
    schemes = [*PUBLISHED, *([FORERUNNER] if steps else []), *BESIDE, *([] if quick else SPLIT)]
    for name, _, wanted in schemes:
        chosen = dict(wanted)
        if "steps" in chosen:
            chosen["steps"] = steps
            if not steps:
                if chosen["assistants"]:
                    continue  # these losses are of sampling
                chosen.pop("refine", None)
                name = f"{name} (not sampled)"
        files = {key: codec.encode(x, _bpp(budget[key], x), **chosen) for key, x in images.items()}
        entries.append(Encoded(name, images, files))
        print(f"{name}: {np.mean([len(f) for f in files.values()]):.0f} bytes", flush=True)
    avif = open_codec("avif")
    files = {key: avif.encode(x, target_bytes=budget[key]) for key, x in images.items()}
    return [*entries, Encoded("AVIF (4:4:4, tuned for PSNR)", images, files)]


def _bpp(size: int, image: Image) -> float:
    """The quality whose budget is ``size`` bytes."""
    return (8 * size + 0.5) / (image.shape[0] * image.shape[1])


def _write(options: argparse.Namespace, found: Mapping[str, list[Row]], part: str) -> None:
    """``table_<part>.md``."""
    rows, where = found[part], provenance(torch.get_num_threads(), 1)
    steps = options.steps if part == "crops" else options.full_steps
    published = {f"JPEG {q} % quality": ssim for q, ssim in JPEG.items()}
    published |= {name: ssim for name, ssim, _ in PUBLISHED if ssim is not None}
    title = f"central crops of {options.crop}×{options.crop}" if part == "crops" else "whole pictures"
    lines = [
        f"# Ablative compression, {title}",
        f"{rows[0].pictures} pictures of {options.data}; means over pictures, whole files decoded in a fresh process; "
        "every scheme within the bytes of each picture's JPEG of quality 1 if it can be made that small, losses' "
        "targets included. "
        + (f"{steps} steps of sampling. " if steps else "No sampling: the feed-forward networks alone. ")
        + "Published SSIM is of unnamed pictures and another SSIM, without rates.",
        table(
            ["scheme", "published SSIM", "bpp", "SSIM", "PSNR, dB"],
            [
                [
                    r.scheme,
                    number(published.get(r.scheme), 3),
                    number(r.bpp, 4),
                    number(r.ssim, 4),
                    number(r.psnr, 2),
                ]
                for r in rows
            ],
        ),
        *_findings(rows),
        f"{where.date}, commit {(where.commit or 'unknown')[:12]}, {where.machine}",
    ]
    write_atomic(options.out / f"table_{part}.md", ("\n\n".join(lines) + "\n").encode())


def _findings(rows: Sequence[Row]) -> list[str]:
    """What the publication found, found or refuted here; and the best scheme against JPEG."""
    ssim = {row.scheme.replace(" (not sampled)", ""): row.ssim for row in rows}
    pixel, block, both = (ssim[n] for n in ("Pixel sampling", "Block sampling", "Block+Random sampling"))
    lines = [
        f"Pixel ({pixel:.4f}) < block ({block:.4f}) < block + random ({both:.4f}): "
        f"{'found' if pixel < block < both else 'refuted'}."
    ]
    for base, short in (("Pixel sampling", "Pixel sampling"), ("Block+Random sampling", "B+R sampling")):
        for loss in ("style", "content", "edge"):
            name = f"{short} + {loss} loss"
            if name in ssim:
                gain = ssim[name] - ssim[base]
                lines.append(
                    f"{name} at equal bytes: {gain:+.4f} SSIM, {'a gain' if gain > 0 else 'no gain'}."
                )
    ours = [row for row in rows if not row.scheme.startswith(("JPEG", "AVIF"))]
    best, jpeg = max(ours, key=lambda row: row.ssim), rows[0]
    lines.append(
        f"Best scheme: {best.scheme}, SSIM {best.ssim:.4f} at {best.bpp:.4f} bpp, against JPEG's {jpeg.ssim:.4f} at "
        f"{jpeg.bpp:.4f}."
    )
    return ["\n".join(f"- {line}" for line in lines)]
