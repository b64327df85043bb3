"""The tables of extreme semantic compression: GC and SC on street scenes and Kodak beside classical codecs.

Every figure is of whole files, decoded in a fresh process.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genic.datamodules.batch import CAMVID_CLASSES
from genic.datamodules.config import ROOT_VARIABLE
from genic.eval.distances import embed, frechet, kernel_distance
from genic.eval.metrics import unavailable
from genic.eval.runner import WorkerPairs
from genic.eval.segmentation import KINDS, Segmenter, load_segmenter, save_segmenter, scores, train_segmenter
from genic.eval.tables import number, table
from genic.experiments.command import listed
from genic.experiments.paper_tables.common import parser, save
from genic.experiments.paper_tables.extreme_semantic.scenes import (
    Pictures,
    Row,
    SameRate,
    load_pictures,
    same_quality_rate,
)
from genic.experiments.paper_tables.extreme_semantic.selective import selective_rows, selective_text
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from genic.lightning_modules.registry import open_codec
from genic.losses.perceptual import FrozenFeatures

BACKBONE = "mobilenetv2_100"
PATCH = 96
KNOWN = len(CAMVID_CLASSES) - 1  # unlabelled pixels count for nothing
SETS = ("camvid", "kodak")
CLASSICAL = (("HEVC", "hevc"), ("AVIF", "avif"), ("WebP", "webp"))
LPIPS = "lpips_alex"


@dataclass(frozen=True)
class Figures:
    """Of one scheme on one data set; None where they are not defined.

    Attributes:
        bpp: mean over pictures. psnr: dB, mean over pictures. largest: bits per pixel of the largest file.
        frechet, kernel: of patches, where there are enough of them (`eval.distances`). lpips: mean over pictures.
        miou: by kind of segmentation network.
    """

    scheme: str
    bpp: float
    largest: float
    psnr: float
    frechet: float | None
    kernel: float | None
    lpips: float | None
    miou: dict[str, float]


def _defined(
    distance: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray
) -> float | None:
    """The distance, or None where it refuses so few patches."""
    try:
        return distance(a, b)
    except ConfigError:
        return None


class Judge:
    """What networks say of decoded pictures of one data set."""

    def __init__(
        self, pictures: Pictures, backbone: FrozenFeatures, segmenters: Mapping[str, Segmenter]
    ) -> None:
        self.pictures, self.backbone = pictures, backbone
        self.segmenters = segmenters if pictures.labels else {}
        self.reference = embed(backbone, pictures.images.values(), PATCH)

    def figures(self, row: Row) -> Figures:
        """All figures of a row."""
        results = [one.result for one in row.files.values()]
        found = embed(self.backbone, (one.picture for one in row.files.values()), PATCH)
        decoded = {name: one.picture for name, one in row.files.items()}
        return Figures(
            row.scheme,
            row.bpp,
            max(result.bpp for result in results),
            float(np.mean([result.psnr_rgb for result in results])),
            _defined(frechet, self.reference, found),
            _defined(kernel_distance, self.reference, found),
            float(np.mean([getattr(r, LPIPS) for r in results])) if self.pictures.networks else None,
            {kind: found["miou"] for kind, found in self.recognised(decoded).items()},
        )

    def recognised(self, decoded: Mapping[str, Image]) -> dict[str, Mapping[str, float]]:
        """`scores` by kind of network."""
        pairs = [(decoded[name], labels) for name, labels in self.pictures.labels.items()]
        return {kind: scores(network, pairs, KNOWN) for kind, network in self.segmenters.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises `GenicError` as what it uses does."""
    options = _parser().parse_args(arguments)
    backbone_file = _backbone_file(options)
    backbone = FrozenFeatures(BACKBONE, backbone_file, [4], mean=(0.5,) * 3, std=(0.5,) * 3, pad_type="same")
    segmenters = {kind: _segmenter(kind, options, backbone_file) for kind in options.segmenters}
    why_no_lpips = unavailable(LPIPS)
    networks = [] if why_no_lpips else [LPIPS]
    results, lines = {}, ["# Extreme semantic compression", _preamble(options, why_no_lpips)]
    with WorkerPairs(options.devices, options.threads) as workers:
        for data in options.data:
            pictures = load_pictures(data, options.root, options.limit, options.out, workers, networks)
            judge = Judge(pictures, backbone, segmenters)
            rows, sweep = _generative(pictures, judge, options)
            lines += _rows_text(pictures, judge, rows)
            results[data] = rows
            if data == "camvid":
                found = _same_distance(rows, sweep)
                name = f"extreme_semantic:{options.weights}"
                codec = open_codec(name)
                assert isinstance(codec, ExtremeSemanticCodec)
                selective = selective_rows(codec, pictures, name)
                results |= {"hevc": {"curve": sweep, "same": found}, "selective": selective}
                lines += [_rates_text(found, sweep), *selective_text(selective)]
    save(options, "table", "\n\n".join(lines), results)
    return 0


def _parser() -> argparse.ArgumentParser:
    sets = {"nargs": "+", "default": list(SETS), "choices": SETS, "help": "sets (default: both)"}
    found = parser("extreme_semantic", "", __doc__, **sets)
    found.add_argument("--weights", default="small", help="preset, file or run of conditional GC and SC")
    found.add_argument("--unconditional", metavar="WEIGHTS", help="GC with an unconditional D")
    found.add_argument(
        "--backbone", type=Path, metavar="FILE", help=f"weights of {BACKBONE} (default: in the root)"
    )
    kinds = ", ".join(KINDS)
    found.add_argument(
        "--segmenters", nargs="*", default=list(KINDS), metavar="KIND", help=f"for mIoU (default: {kinds})"
    )
    found.add_argument(
        "--segmenter-batches", type=int, default=1000, metavar="N", help="of 8 crops, to train each"
    )
    qualities = [51, 48, 45, 42, 39, 36]
    found.add_argument("--sweep", type=listed(int), default=qualities, metavar="QP,…", help="of HEVC")
    return found


def _backbone_file(options: argparse.Namespace) -> Path:
    if options.backbone is not None:
        return options.backbone
    root = options.root or os.environ.get(ROOT_VARIABLE)
    if root is None:
        raise ConfigError(
            f"the features of the distances need weights: set {ROOT_VARIABLE}, or give --backbone FILE"
        )
    return Path(root) / f"weights/{BACKBONE}_imagenet.safetensors"


def _segmenter(kind: str, options: argparse.Namespace, backbone: Path) -> Segmenter:
    """From the output folder, or trained and put there."""
    path = options.out / f"segmenter-{kind}-{options.segmenter_batches}.safetensors"
    if not path.is_file():
        save_segmenter(train_segmenter(kind, KNOWN, options.segmenter_batches, backbone, options.root), path)
    return load_segmenter(path, kind, KNOWN, backbone)


def _generative(
    pictures: Pictures, judge: Judge, options: argparse.Namespace
) -> tuple[list[Figures], list[Figures]]:
    """Rows of GC at every C, each followed by the classical codecs within the same bytes; and HEVC's rows at fixed QPs,
    for scenes with labels."""
    name = f"extreme_semantic:{options.weights}"
    rows: list[Row] = []
    for quality in open_codec(name).qualities:
        label = f"C = {quality:g}"
        rows.append(pictures.at(f"GC {label}", name, quality))
        limits = rows[-1].sizes
        rows += [pictures.within(f"{title} ≤ {label}", other, limits) for title, other in CLASSICAL]
    sweep: list[Row] = []
    if pictures.labels:
        sweep = [pictures.at(f"hevc {qp}", "hevc", qp) for qp in options.sweep]
    if options.unconditional:
        name = f"extreme_semantic:{options.unconditional}"
        qualities = open_codec(name).qualities
        rows += [pictures.at(f"GC C = {q:g}, unconditional", name, q) for q in qualities]
    return [judge.figures(row) for row in rows], [judge.figures(row) for row in sweep]


def _same_distance(rows: Sequence[Figures], sweep: Sequence[Figures]) -> list[dict[str, object]]:
    """The rates at which HEVC reaches GC's Fréchet distances and mIoU, by curves over QPs of all pictures."""
    rates = [row.bpp for row in sweep]
    found = []
    for row in (r for r in rows if r.scheme.startswith("GC") and "unconditional" not in r.scheme):
        entry = {"scheme": row.scheme, "bpp": row.bpp}
        if row.frechet is not None:
            distances = [r.frechet for r in sweep if r.frechet is not None]
            entry["Fréchet"] = same_quality_rate(rates, distances, row.frechet)
        for kind, value in row.miou.items():
            entry[f"mIoU {kind}"] = same_quality_rate(rates, [-r.miou[kind] for r in sweep], -value)
        found.append(entry)
    return found


def _preamble(options: argparse.Namespace, why_no_lpips: str | None) -> str:
    text = (
        "Whole files, decoded in a fresh process; means over pictures. A classical codec's row holds, picture by "
        "picture, its finest quality within the bytes of GC's file (or its coarsest where none is). Fréchet and kernel "
        f"distance: {BACKBONE}'s last features of {PATCH}×{PATCH} patches, averaged over positions; comparable within "
        f"this page only, and left out where patches are too few. mIoU: {KNOWN} classes, by segmentation "
        f"networks trained for "
        f"{options.segmenter_batches} batches on CamVid's train part (`scratch`: from random weights; `pretrained`: a "
        f"head on {BACKBONE}'s frozen features, which GC's perceptual loss uses, too)."
    )
    return f"{text} LPIPS is left out: {why_no_lpips}" if why_no_lpips else text


def _rows_text(pictures: Pictures, judge: Judge, rows: Sequence[Figures]) -> list[str]:
    kinds = list(judge.segmenters)
    header = ["", "bpp", "largest", "PSNR", "Fréchet", "kernel", *(["LPIPS"] if pictures.networks else [])]
    header += [f"mIoU {kind}" for kind in kinds]
    body = [
        [
            row.scheme,
            *(number(value, 4) for value in (row.bpp, row.largest)),
            *(number(value, 2) for value in (row.psnr, row.frechet, row.kernel)),
            *([number(row.lpips, 4)] if pictures.networks else []),
            *(number(100 * row.miou[kind], 1) for kind in kinds),
        ]
        for row in rows
    ]
    count = f"{len(pictures.images)} pictures, N = {len(judge.reference)} patches"
    lines = [f"## GC on {pictures.name} ({count})", table(header, body)]
    if kinds:
        found = judge.recognised(pictures.images)
        each = [
            f"{kind}: mIoU {100 * s['miou']:.1f} %, {100 * s['accuracy']:.1f} % of the pixels"
            for kind, s in found.items()
        ]
        lines.append(f"On the originals: {'; '.join(each)}.")
    return lines


def _rate_text(found: SameRate | None, bpp: float) -> str:
    if found is None:
        return "not reached"
    at_most = "at most " if found.at_most else ""
    return f"{at_most}{found.bpp:.4f} bpp, {at_most}{found.bpp / bpp:.2f} times"


def _rates_text(found: Sequence[Mapping[str, Any]], sweep: Sequence[Figures]) -> str:
    measures = [key for key in found[0] if key not in ("scheme", "bpp")]
    body = [
        [one["scheme"], number(one["bpp"], 4), *(_rate_text(one[m], one["bpp"]) for m in measures)]
        for one in found
    ]
    kinds = list(sweep[0].miou)
    curve = [
        [r.scheme, number(r.bpp, 4), number(r.psnr, 2), number(r.frechet, 2)]
        + [number(100 * r.miou[kind], 1) for kind in kinds]
        for r in sweep
    ]
    lines = [
        "### The rate at which HEVC reaches the same",
        "By curves through HEVC's points at fixed QPs. 'At most': HEVC's coarsest files are better already, so that "
        "nothing is known below their rate, and nothing is shown by it. The publication claims that half of the "
        "bitrate is saved at equal quality: 2 times or more.",
        table(["", "bpp", *measures], body),
        table(["HEVC's QP", "bpp", "PSNR", "Fréchet", *(f"mIoU {kind}" for kind in kinds)], curve),
    ]
    return "\n\n".join(lines)
