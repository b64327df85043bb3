"""GDAE + SPRC against plain HEVC at equal bytes: without any learned part, and as the encoder chooses.

::

    python -m experiments.tables gdae_sprc restored --codec gdae_sprc:runs/gdae_sprc/restored
    python -m experiments.tables gdae_sprc restored --level none --strength 0    # HEVC and restoration, no heat map

HEVC's quality is a whole number, so that none of its files has just the bytes of another: its PSNR at a file's size is
taken between its two nearest files, on a straight line over the logarithm of bytes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genic.eval.bjontegaard_delta import CONFIDENCE, RESAMPLES
from genic.eval.runner import Picture, Task
from genic.eval.schema import ImageResult, Means
from genic.eval.tables import number, table
from genic.experiments.command import listed
from genic.experiments.evaluate import pictures
from genic.experiments.paper_tables.gdae_sprc.common import codec_parser, measured, opened, save
from genic.lightning_modules.classical.hevc import Hevc
from genic.lightning_modules.codec.rate_control import largest_within


@dataclass(frozen=True)
class Row:
    """Files of one choice within one budget.

    Attributes:
        bpp: the budget. choice: what was forced or left open.
        files: a picture each.
        hevc: PSNR of plain HEVC at each file's bytes, dB.
        gain: the files' PSNR less that, dB, mean over the pictures, and its interval over pictures (bootstrap).
        latents, restored: shares of the files with such a part.
    """

    bpp: float
    choice: str
    files: Sequence[ImageResult]
    hevc: Sequence[float]
    gain: tuple[float, float, float]
    latents: float
    restored: float


def row(bpp: float, choice: str, files: Sequence[ImageResult], hevc: Sequence[float]) -> Row:
    """With means and shares."""
    gains = np.array([file.psnr_rgb - psnr for file, psnr in zip(files, hevc, strict=True)])
    n = len(gains)
    means = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES) @ gains / n
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    gain = (float(gains.mean()), float(low), float(high))
    latents, restored = (
        np.mean([part in file.ledger for file in files]) for part in ("latents", "restoration")
    )
    return Row(bpp, choice, files, hevc, gain, float(latents), float(restored))


def hevc_psnr(options: argparse.Namespace, items: Sequence[Picture], sizes: Sequence[int]) -> list[float]:
    """PSNR in dB of plain HEVC at so many bytes of each picture."""
    codec, tasks = Hevc(), []
    for item, size in zip(items, sizes, strict=True):
        write = codec.encoder(item.read())
        within = largest_within(write, codec.quality_steps, size, codec.default_quality).quality
        assert within is not None, "HEVC has a quality"
        tasks += [Task(item, "hevc", quality=qp) for qp in (within, max(within - 1, 0.0))]
    results = measured(options, tasks)
    return [between(a, b, size) for a, b, size in zip(results[::2], results[1::2], sizes, strict=True)]


def between(a: ImageResult, b: ImageResult, size: int) -> float:
    """PSNR at ``size`` bytes on the line through two files, over the logarithm of bytes; a's where they are one."""
    if a.bytes == b.bytes:
        return a.psnr_rgb
    return a.psnr_rgb + (b.psnr_rgb - a.psnr_rgb) * math.log(size / a.bytes) / math.log(b.bytes / a.bytes)


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc restored``; returns the exit status."""
    options = _parser().parse_args(arguments)
    codec = opened(options.codec)
    data, items = pictures(options.data, options.root, options.limit)
    heat = {} if options.strength is None else {"strength": options.strength}
    choices: dict[str, Mapping[str, object]] = {"no learned part": {"level": "none", "restore": False} | heat}
    name = "restored or not, no latents" if options.level == "none" else "the encoder's own"
    choices[name] = {"level": options.level} | heat
    cells = [(bpp, choice) for bpp in options.bpp for choice in choices]
    tasks = [
        Task(item, options.codec, target_bpp=bpp, options=choices[choice])
        for bpp, choice in cells
        for item in items
    ]
    files, n = measured(options, tasks), len(items)
    hevc = hevc_psnr(options, [task.item for task in tasks], [file.bytes for file in files])
    parts = [slice(k * n, (k + 1) * n) for k in range(len(cells))]
    rows = [
        row(bpp, choice, files[part], hevc[part]) for (bpp, choice), part in zip(cells, parts, strict=True)
    ]
    weights, told = codec.weights_id.hex(), codec.coding_options(**heat)
    head = (
        f"GDAE + SPRC ({options.codec}, weights {weights}) on {data}, {n} pictures, files within each budget; heat "
        f"map: {told['heat']}, strength {told['strength']:g}. HEVC's PSNR is that at the same bytes of each picture; "
        f"the gain's interval is the {100 * CONFIDENCE:.0f} % over pictures (bootstrap, {RESAMPLES} resamples)."
    )
    record = {"codec": options.codec, "weights": weights, "options": told, "rows": rows}
    save(options, data, "restored", f"{head}\n\n{gain_table(rows)}", record)
    return 0


def gain_table(rows: Sequence[Row]) -> str:
    """Markdown, a row a budget and choice."""
    lines = []
    for r in rows:
        mean, (gain, low, high) = Means.of(list(r.files)), r.gain
        shares = (f"{100 * share:.0f} %" for share in (r.latents, r.restored))
        psnr = number(mean.psnr_rgb, 2), number(float(np.mean(r.hevc)), 2)
        seconds = number(mean.encode_seconds, 1), number(mean.decode_seconds, 2)
        shown = f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"
        lines.append([f"{r.bpp:g}", r.choice, number(mean.bpp, 3), *psnr, shown, *shares, *seconds])
    files = ["budget, bpp", "files", "bpp", "PSNR, dB", "HEVC, dB", "gain, dB", "with latents", "restored"]
    return table([*files, "encode, s", "decode, s"], lines)


def _parser() -> argparse.ArgumentParser:
    found = codec_parser("restored", __doc__)
    found.set_defaults(codec="gdae_sprc:restored")
    found.add_argument(
        "--bpp", type=listed(float), default=[0.25, 0.5, 1.0], metavar="A,B,…", help="default: 0.25,0.5,1.0"
    )
    found.add_argument(
        "--level",
        choices=("best", "none"),
        default="best",
        help="none: latents are not tried, which is quick",
    )
    found.add_argument("--strength", type=float, metavar="QP", help="of the heat map (default: the weights')")
    return found
