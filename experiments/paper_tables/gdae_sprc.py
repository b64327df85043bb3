"""GDAE + SPRC: what the split between latents and residual is worth, at one byte budget.

The slides fix it by hand. Here every level of the latents is forced in turn, beside the encoder's own choice, which may
also be to send none.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from datamodules.images import ImageItem, write_atomic
from eval.provenance import provenance
from eval.schema import ImageResult, Means
from experiments.ablate import measure_files
from experiments.evaluate import pictures
from lightning_modules.codec.errors import ConfigError
from lightning_modules.registry import open_codec

CHOSEN = "chosen"


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc``; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.codec.partition(":")[0] != "gdae_sprc":
        raise ConfigError(f"this is the table of gdae_sprc, not of {options.codec!r}")
    codec = open_codec(options.codec)
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
        "provenance": asdict(provenance(options.threads, 1)),
    }
    path = options.out / data / "split_gdae_sprc"
    write_atomic(path.with_suffix(".md"), text.encode() + b"\n")
    write_atomic(path.with_suffix(".json"), json.dumps(record, indent=1).encode() + b"\n")
    print(f"{text}\n\n{path}.md")
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
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tables gdae_sprc", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--codec", default="gdae_sprc", metavar="gdae_sprc[:PRESET or checkpoint]")
    parser.add_argument("--bpp", type=float, default=0.5, help="the budget (default: 0.5)")
    parser.add_argument("--data", default="kodak", help="data set to measure on (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K pictures only")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of the decoding process")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    return parser
