"""GDAE + SPRC: what the split between latents and residual is worth, at one byte budget.

The slides fix it by hand. Here every level of the latents is forced in turn, beside the encoder's own choice, which may
also be to send none.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

import numpy as np

from datamodules.images import ImageItem
from eval.schema import ImageResult, Means
from experiments.evaluate import pictures
from experiments.paper_tables.gdae_sprc.common import measure_files, opened, parser, save
from lightning_modules.codec.errors import ConfigError

CHOSEN = "chosen"


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc levels``; returns the exit status."""
    options = _parser().parse_args(arguments)
    codec = opened(options.codec)
    data, items = pictures(options.data, options.root, options.limit)
    found: dict[str, list[ImageResult]] = {}
    sizes: dict[str, Mapping[str, float]] = {}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as decoder:
        for name in (CHOSEN, *(f"level {k}" for k in range(codec.levels))):
            choice = {"target_bpp": options.bpp}
            if name != CHOSEN:
                level = float(name.split()[1])
                choice["level"] = level
                sizes[name] = _sizes(codec, items, level)
            try:
                found[name] = measure_files(options.codec, items, choice, options.threads, decoder)
            except ConfigError:
                print(f"{name}: beyond {options.bpp} bpp on some picture, left out", flush=True)
    text = f"GDAE + SPRC on {data}, files of at most {options.bpp} bpp.\n\n{table(found, sizes)}"
    record = {
        "bpp": options.bpp,
        "rows": {name: [asdict(result) for result in results] for name, results in found.items()},
        "latents": sizes,
    }
    save(options, data, "levels", text, record)
    return 0


def table(found: Mapping[str, Sequence[ImageResult]], sizes: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a choice; latents in bytes by either lossless coder, all means over the pictures."""
    lines = [
        "| latents | bpp | PSNR, dB | MS-SSIM, dB | in latents, % | learned coder, bytes | JPEG XL, bytes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, results in found.items():
        mean = Means.of(results)
        similarity = "–" if mean.ms_ssim_db is None else f"{mean.ms_ssim_db:.2f}"
        share = np.mean([1 - (r.ledger.get("residual", 0) + r.ledger["header"]) / r.bytes for r in results])
        both = sizes.get(name)
        coders = " | ".join(f"{both[c]:.0f}" if both else "–" for c in ("learned", "jpeg_xl"))
        lines.append(
            f"| {name} | {mean.bpp:.3f} | {mean.psnr_rgb:.2f} | {similarity} | {100 * share:.0f} | {coders} |"
        )
    none = sum("latents" not in r.ledger for r in found[CHOSEN])
    return "\n".join([*lines, "", f"The choice is no latents on {none} of {len(found[CHOSEN])} pictures."])


def _sizes(codec, items: Sequence[ImageItem], level: float) -> dict[str, float]:
    """Mean bytes of the latents by each lossless coder."""
    each = [codec.latent_sizes(item.read(), level) for item in items]
    return {name: float(np.mean([sizes[name] for sizes in each])) for name in each[0]}


def _parser() -> argparse.ArgumentParser:
    found = parser("levels", __doc__)
    found.add_argument("--codec", default="gdae_sprc", metavar="gdae_sprc[:PRESET or checkpoint]")
    found.add_argument("--bpp", type=float, default=0.5, help="the budget (default: 0.5)")
    return found
