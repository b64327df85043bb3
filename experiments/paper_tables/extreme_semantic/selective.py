"""Selective generative compression: bytes against the share of the picture synthesised, and what is preserved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from genic.eval.metrics import psnr
from genic.eval.runner import Task
from genic.eval.tables import number, table
from genic.experiments.paper_tables.extreme_semantic.scenes import Pictures, Row
from genic.lightning_modules.codec.learned import padded
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from genic.lightning_modules.extreme_semantic.map_coding import CODERS, map_sizes
from genic.lightning_modules.extreme_semantic.maps import class_numbers, heat_of, wanted_positions

SYNTHESISED = ("", "sky", "road,sky", "road,building,sky", "road,building,sky,tree,pavement")
"""Classes synthesised; all of them come last."""


@dataclass(frozen=True)
class SelectiveRow:
    """Means over pictures, at the largest C.

    Attributes:
        synthesised: class names, ``nothing`` or ``everything``.
        share: of the positions of ŵ that are synthesised. margin: of those preserved for their neighbours' sake.
        bytes: of the file; latents, semantic_map: of its sections. saved: share of the bytes with nothing synthesised.
        psnr: dB over the pixels of all wanted positions of all pictures. psnr_whole: of the same pixels in the files
            with nothing synthesised. inner, inner_whole: the same without positions that touch one not wanted.
        maps: bytes of the map by each coder tried.
    """

    synthesised: str
    share: float
    margin: float
    bytes: float
    latents: float
    semantic_map: float
    saved: float
    psnr: float | None
    psnr_whole: float | None
    inner: float | None
    inner_whole: float | None
    maps: dict[str, float]


def selective_rows(codec: ExtremeSemanticCodec, pictures: Pictures, name: str) -> list[SelectiveRow]:
    """A row for each of `SYNTHESISED` and one for all; ``name`` is the codec's, for other processes."""
    rows = []
    for which in (*SYNTHESISED, ",".join(codec.config.classes)):
        tasks = [
            Task(item, name, options={"labels": pictures.labels[n], "synthesise": which})
            for n, item in pictures.items.items()
        ]
        rows.append(pictures.row(which, tasks))
    return [_row(codec, pictures, row, rows[0]) for row in rows]


def selective_text(rows: Sequence[SelectiveRow]) -> list[str]:
    """Markdown."""
    body = [
        [
            row.synthesised or "nothing",
            f"{100 * row.share:.0f} %",
            f"{100 * row.margin:.0f} %",
            number(row.bytes, 0),
            number(row.latents, 0),
            number(row.semantic_map, 0),
            f"{100 * row.saved:.1f} %",
            *(number(v, 2) for v in (row.psnr, row.psnr_whole, row.inner, row.inner_whole)),
        ]
        for row in rows
    ]
    sizes, quality = ["bytes", "latents", "map", "saved"], ["PSNR", "(GC)", "PSNR inside", "(GC)"]
    maps = [[row.synthesised, *(number(row.maps[coder], 0) for coder in CODERS)] for row in rows if row.maps]
    return [
        "## SC: bytes against the share synthesised",
        "Largest C, bytes of a picture. A position of ŵ is wanted if half of its pixels or more are of preserved "
        "classes; the margin is preserved as well, for the sake of its wanted neighbours. PSNR is over the pixels "
        "of wanted positions of all pictures together, beside the same pixels' in the files with nothing synthesised; "
        "inside: without the positions next to one that is not wanted.",
        table(["synthesised", "share", "margin", *sizes, *quality], body),
        "Bytes of the map by each lossless coder tried; the smallest is in the file:",
        table(["synthesised", *CODERS], maps),
    ]


def _row(codec: ExtremeSemanticCodec, pictures: Pictures, row: Row, whole: Row) -> SelectiveRow:
    stride, classes = codec.config.latent_stride, len(codec.config.classes)
    sums = np.zeros((4, 2))
    shares, margins, ledgers, maps = [], [], [], []
    synthesised = class_numbers(row.scheme, codec.config.classes)
    for name, image in pictures.images.items():
        ledgers.append(row.files[name].result.ledger)
        preserved = padded(~np.isin(pictures.labels[name], synthesised), codec.config.stride)
        heat = wanted_positions(preserved, stride)
        found, sent = codec.semantic_map(row.files[name].data), np.ones_like(heat)
        if found is not None:
            maps.append(map_sizes(found, classes + 1))
            ratio = stride // codec.config.map_stride
            sent = heat_of(torch.from_numpy(found.astype(np.int64))[None], classes, ratio)[0].numpy()
        margins.append((sent & ~heat).mean())
        shares.append(1 - sent.mean())
        inner = np.asarray(ndimage.binary_erosion(heat, np.ones((3, 3)), border_value=1), bool)
        for k, (grid, source) in enumerate([(heat, row), (heat, whole), (inner, row), (inner, whole)]):
            pixels = grid.repeat(stride, 0).repeat(stride, 1)[: image.shape[0], : image.shape[1]]
            error = (image.astype(np.float64) - source.files[name].picture)[pixels] ** 2
            sums[k] += error.sum(), error.size
    total = np.mean([sum(ledger.values()) for ledger in ledgers])
    return SelectiveRow(
        "everything" if row.scheme == ",".join(codec.config.classes) else row.scheme,
        float(np.mean(shares)),
        float(np.mean(margins)),
        float(total),
        float(np.mean([ledger.get("latents", 0) for ledger in ledgers])),
        float(np.mean([ledger.get("semantic_map", 0) for ledger in ledgers])),
        1 - float(total) * len(ledgers) / sum(whole.sizes.values()),
        *(psnr(error / count) if error > 0 else None for error, count in sums),
        maps={coder: float(np.mean([m[coder] for m in maps])) for coder in CODERS} if maps else {},
    )
