"""The tables of extreme semantic compression: GC and SC on street scenes and Kodak beside classical codecs.

Every figure is of whole files, decoded in a fresh process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datamodules.camvid import CLASSES
from datamodules.config import ROOT_VARIABLE
from datamodules.images import read_image
from eval.distances import embed, frechet, kernel_distance
from eval.metrics import psnr_rgb
from eval.provenance import provenance
from eval.segmentation import (
    KINDS,
    Segmenter,
    confusion,
    load_segmenter,
    save_segmenter,
    scores,
    train_segmenter,
)
from eval.tables import number, table
from experiments.paper_tables.extreme_figure import draw
from experiments.paper_tables.extreme_selective import selective_rows, selective_text
from experiments.paper_tables.files import Encoded, decoded_elsewhere
from experiments.paper_tables.scenes import (
    Pictures,
    SameRate,
    load_pictures,
    mean_bpp,
    same_quality_rate,
    sizes,
)
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError, GenicError, WeightsError
from lightning_modules.codec.weights import find_weights
from lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from lightning_modules.registry import open_codec
from losses.perceptual import FrozenFeatures, Lpips

BACKBONE = "mobilenetv2_100"
PATCH = 96
KNOWN = len(CLASSES) - 1  # unlabelled pixels count for nothing
SETS = ("camvid", "kodak")
CLASSICAL = (("HEVC", "hevc"), ("AVIF", "avif"), ("WebP", "webp"))


@dataclass(frozen=True)
class Row:
    """Figures of one scheme on one data set; None where they are not defined.

    Attributes:
        bpp: mean over pictures. psnr: dB, mean over pictures. largest: bits per pixel of the largest file.
        frechet, kernel: of patches. lpips: mean over pictures. miou: by kind of segmentation network.
    """

    scheme: str
    bpp: float
    largest: float
    psnr: float
    frechet: float
    kernel: float
    lpips: float | None
    miou: dict[str, float]


class Judge:
    """Measures decoded pictures of one data set against their originals."""

    def __init__(
        self,
        pictures: Pictures,
        backbone: FrozenFeatures,
        segmenters: Mapping[str, Segmenter],
        lpips: Lpips | None,
    ) -> None:
        self.pictures, self.backbone, self.lpips = pictures, backbone, lpips
        self.segmenters = segmenters if pictures.labels else {}
        self.reference = embed(backbone, pictures.images.values(), PATCH)

    def row(self, entry: Encoded, decoded: Mapping[str, Image]) -> Row:
        """All figures of a row."""
        images = self.pictures.images
        found = embed(self.backbone, (decoded[name] for name in images), PATCH)
        bpp = [8 * len(entry.files[name]) / image[..., 0].size for name, image in images.items()]
        return Row(
            entry.scheme,
            mean_bpp(entry),
            max(bpp),
            float(np.mean([psnr_rgb(image, decoded[name]) for name, image in images.items()])),
            frechet(self.reference, found),
            kernel_distance(self.reference, found),
            self._lpips(decoded),
            self.miou(decoded),
        )

    def miou(self, decoded: Mapping[str, Image]) -> dict[str, float]:
        """mIoU by kind of network."""
        pairs = [(decoded[name], labels) for name, labels in self.pictures.labels.items()]
        return {kind: scores(confusion(net, pairs, KNOWN))["miou"] for kind, net in self.segmenters.items()}

    def _lpips(self, decoded: Mapping[str, Image]) -> float | None:
        if self.lpips is None:
            return None
        return float(
            np.mean([self._one_lpips(image, decoded[n]) for n, image in self.pictures.images.items()])
        )

    @torch.inference_mode()
    def _one_lpips(self, a: Image, b: Image) -> float:
        x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (a, b))
        return float(self.lpips(x, y))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status. Raises `GenicError` as what it uses does."""
    options = _parser().parse_args(arguments)
    backbone_file = _backbone_file(options)
    backbone = FrozenFeatures(BACKBONE, backbone_file, [4], mean=(0.5,) * 3, std=(0.5,) * 3, pad_type="same")
    segmenters = {kind: _segmenter(kind, options, backbone_file) for kind in options.segmenters}
    lpips, why_no_lpips = _open_lpips()
    results, lines = {}, ["# Extreme semantic compression", _preamble(options, why_no_lpips)]
    for data in options.data:
        pictures = load_pictures(data, options.root, options.limit, options.out / "classical")
        judge = Judge(pictures, backbone, segmenters, lpips)
        rows, sweep, best = _generative(pictures, judge, options)
        lines += _rows_text(pictures, judge, rows)
        results[data] = [dataclasses.asdict(row) for row in rows]
        if data == "camvid":
            found = _same_distance(rows, sweep)
            results["hevc"] = {"curve": [dataclasses.asdict(row) for row in sweep], "same": found}
            lines.append(_rates_text(found, sweep))
            codec, weights = _codec(options.weights)
            selective = selective_rows(codec, pictures, options.out / "files", weights)
            results["selective"] = [dataclasses.asdict(row) for row in selective]
            lines += selective_text(selective)
            draw(codec, pictures, options.picture, best, options.out)
            lines.append("![](figure.png)")
    where = provenance(torch.get_num_threads(), 1)
    lines.append(f"{where.machine}, {where.threads} threads, {where.date}.")
    options.out.mkdir(parents=True, exist_ok=True)
    results["provenance"] = dataclasses.asdict(where)
    (options.out / "table.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "table.md").write_text("\n\n".join(lines) + "\n")
    print((options.out / "table.md").read_text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tables extreme_semantic", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--weights", default="small", help="preset, file or run of conditional GC and SC")
    parser.add_argument(
        "--unconditional", metavar="WEIGHTS", help="GC with an unconditional D (default: left out)"
    )
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=SETS, help="sets (default: both)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument(
        "--backbone", type=Path, metavar="FILE", help=f"weights of {BACKBONE} (default: in the root)"
    )
    parser.add_argument(
        "--segmenters",
        nargs="*",
        default=list(KINDS),
        metavar="KIND",
        help="networks for mIoU (default: both)",
    )
    parser.add_argument(
        "--segmenter-batches",
        type=int,
        default=1000,
        metavar="N",
        help="of 8 crops, to train each (default: 1000)",
    )
    parser.add_argument("--limit", type=int, metavar="K", help="at most K pictures of each data set")
    parser.add_argument(
        "--sweep", type=_integers, default=(51, 48, 45, 42, 39, 36), metavar="QP,…", help="of HEVC"
    )
    parser.add_argument("--picture", metavar="NAME", help="of the figure (default: the one in the middle)")
    parser.add_argument("--out", type=Path, default=Path("results/tables/extreme_semantic"), metavar="DIR")
    return parser


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def _backbone_file(options: argparse.Namespace) -> Path:
    if options.backbone is not None:
        return options.backbone
    root = options.root or os.environ.get(ROOT_VARIABLE)
    if root is None:
        raise ConfigError(
            f"the features of the distances need weights: set {ROOT_VARIABLE}, or give --backbone FILE"
        )
    return Path(root) / f"weights/{BACKBONE}_imagenet.safetensors"


def _codec(which: str) -> tuple[ExtremeSemanticCodec, Path]:
    return open_codec(f"extreme_semantic:{which}"), find_weights("extreme_semantic", which).resolve()


def _segmenter(kind: str, options: argparse.Namespace, backbone: Path) -> Segmenter:
    """From the output folder, or trained and put there."""
    path = options.out / f"segmenter-{kind}-{options.segmenter_batches}.safetensors"
    if not path.is_file():
        save_segmenter(train_segmenter(kind, KNOWN, options.segmenter_batches, backbone, options.root), path)
    return load_segmenter(path, kind, KNOWN, backbone)


def _open_lpips() -> tuple[Lpips | None, str]:
    try:
        return Lpips("alex"), ""
    except GenicError as error:
        if isinstance(error, WeightsError):
            return None, "LPIPS and DISTS are left out: their weights are not at hand"
        return None, f"LPIPS and DISTS are left out: {error}"


def _decode(entries: Sequence[Encoded], folder: Path, weights: Path | None) -> list[dict[str, Image]]:
    paths = decoded_elsewhere(entries, folder, weights)
    return [
        {name: read_image(path.with_suffix(".png")) for name, path in zip(entry.images, row, strict=True)}
        for entry, row in zip(entries, paths, strict=True)
    ]


def _generative(
    pictures: Pictures, judge: Judge, options: argparse.Namespace
) -> tuple[list[Row], list[Row], dict[str, Encoded]]:
    """Rows of GC at every C, each followed by the classical codecs within the same bytes; HEVC's rows at fixed QPs, for
    scenes with labels; and the entries of the last C by scheme's first word."""
    codec, weights = _codec(options.weights)
    sweep = [pictures.at_quality("hevc", qp) for qp in options.sweep] if pictures.labels else []
    entries: list[Encoded] = []
    for quality in codec.qualities:
        label = f"C = {quality:g}"
        entries.append(pictures.encoded(f"GC {label}", lambda _, x, q=quality: codec.encode(x, q)))
        limits = sizes(entries[-1])
        entries += [pictures.within(name, limits, f"{title} ≤ {label}") for title, name in CLASSICAL]
    decoded = _decode([*entries, *sweep], options.out / "files", weights)
    rows = [judge.row(entry, found) for entry, found in zip([*entries, *sweep], decoded, strict=True)]
    rows, swept = rows[: len(entries)], rows[len(entries) :]
    if options.unconditional:
        other, weights = _codec(options.unconditional)
        others = [
            pictures.encoded(f"GC C = {q:g}, unconditional", lambda _, x, q=q: other.encode(x, q))
            for q in other.qualities
        ]
        decoded = _decode(others, options.out / "files", weights)
        rows += [judge.row(entry, found) for entry, found in zip(others, decoded, strict=True)]
    best = {entry.scheme.partition(" ")[0]: entry for entry in entries[-1 - len(CLASSICAL) :]}
    return rows, swept, best


def _same_distance(rows: Sequence[Row], sweep: Sequence[Row]) -> list[dict[str, object]]:
    """The rates at which HEVC reaches GC's Fréchet distances and mIoU, by curves over QPs of all pictures."""
    rates = [row.bpp for row in sweep]
    found = []
    for row in (r for r in rows if r.scheme.startswith("GC") and "unconditional" not in r.scheme):
        entry = {"scheme": row.scheme, "bpp": row.bpp}
        entry["Fréchet"] = same_quality_rate(rates, [r.frechet for r in sweep], row.frechet)
        for kind, value in row.miou.items():
            entry[f"mIoU {kind}"] = same_quality_rate(rates, [-r.miou[kind] for r in sweep], -value)
        found.append(entry)
    return found


def _preamble(options: argparse.Namespace, why_no_lpips: str) -> str:
    text = (
        "Whole files, decoded in a fresh process; means over pictures. A classical codec's row holds, picture by "
        "picture, its finest quality within the bytes of GC's file (or its coarsest where none is). Fréchet and kernel "
        f"distance: {BACKBONE}'s last features of {PATCH}×{PATCH} patches, averaged over positions; comparable within "
        f"this page only. mIoU: {len(CLASSES) - 1} classes, by segmentation networks trained for "
        f"{options.segmenter_batches} batches on CamVid's train part (`scratch`: from random weights; `pretrained`: a "
        f"head on {BACKBONE}'s frozen features, which GC's perceptual loss uses, too)."
    )
    return f"{text} {why_no_lpips}." if why_no_lpips else text


def _rows_text(pictures: Pictures, judge: Judge, rows: Sequence[Row]) -> list[str]:
    kinds = list(judge.segmenters)
    header = ["", "bpp", "largest", "PSNR", "Fréchet", "kernel", *(["LPIPS"] if judge.lpips else [])]
    header += [f"mIoU {kind}" for kind in kinds]
    body = [
        [
            row.scheme,
            *(number(value, 4) for value in (row.bpp, row.largest)),
            *(number(value, 2) for value in (row.psnr, row.frechet, row.kernel)),
            *([number(row.lpips, 4)] if judge.lpips else []),
            *(number(100 * row.miou[kind], 1) for kind in kinds),
        ]
        for row in rows
    ]
    count = f"{len(pictures.images)} pictures, N = {len(judge.reference)} patches"
    lines = [f"## GC on {pictures.name} ({count})", table(header, body)]
    if kinds:
        pairs = [(pictures.images[name], labels) for name, labels in pictures.labels.items()]
        found = {kind: scores(confusion(net, pairs, KNOWN)) for kind, net in judge.segmenters.items()}
        lines.append(
            "On the originals: "
            + "; ".join(
                f"{kind}: mIoU {100 * s['miou']:.1f} %, {100 * s['accuracy']:.1f} % of the pixels"
                for kind, s in found.items()
            )
            + "."
        )
    return lines


def _rate_text(found: SameRate | None, bpp: float) -> str:
    if found is None:
        return "not reached"
    at_most = "at most " if found.at_most else ""
    return f"{at_most}{found.bpp:.4f} bpp, {at_most}{found.bpp / bpp:.2f} times"


def _rates_text(found: Sequence[Mapping[str, object]], sweep: Sequence[Row]) -> str:
    measures = [key for key in found[0] if key not in ("scheme", "bpp")]
    body = []
    for entry in found:
        body.append(
            [
                entry["scheme"],
                number(entry["bpp"], 4),
                *(_rate_text(entry[m], entry["bpp"]) for m in measures),
            ]
        )
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
