"""GDAE + SPRC: what each level of the latents is worth beside a residual, at equal byte budgets.

The slides fix the level by hand. Here every level is forced in turn, and none at all; the encoder's own choice is the
best of these, picture by picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np

from genic.datamodules.images import ImageItem
from genic.eval.runner import Task
from genic.eval.schema import ImageResult, Means
from genic.eval.tables import number, table
from genic.experiments.command import listed
from genic.experiments.evaluate import pictures
from genic.experiments.paper_tables.gdae_sprc.common import codec_parser, measured, opened, save
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec

Found = Mapping[str, Sequence[ImageResult | None]]


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc levels``; returns the exit status."""
    options = _parser().parse_args(arguments)
    codec = opened(options.codec)
    data, items = pictures(options.data, options.root, options.limit)
    choices: dict[str, str | float] = {"none": "none"} | {str(k): float(k) for k in range(codec.levels)}
    cells = [(bpp, name) for bpp in options.bpp for name in choices]
    tasks = [
        Task(item, options.codec, target_bpp=bpp, options={"level": choices[name]})
        for bpp, name in cells
        for item in items
    ]
    results = measured(options, tasks, may_fail=True)
    found: dict[float, dict[str, list[ImageResult | None]]] = {bpp: {} for bpp in options.bpp}
    for k, (bpp, name) in enumerate(cells):
        found[bpp][name] = results[k * len(items) : (k + 1) * len(items)]
    sizes = {name: _sizes(codec, items, level) for name, level in choices.items() if isinstance(level, float)}
    weights = codec.weights_id.hex()
    text = [f"GDAE + SPRC ({options.codec}, weights {weights}) on {data}, {len(items)} pictures."]
    for bpp, rows in found.items():
        text += [f"Files of at most {bpp:g} bpp:", budget_table(rows)]
    text += ["Bytes of the latents by either lossless coder:", sizes_table(sizes)]
    record = {
        "codec": options.codec,
        "weights": weights,
        "options": codec.coding_options(),
        "latents": sizes,
        "rows": found,
    }
    save(options, data, "levels", "\n\n".join(text), record)
    return 0


def budget_table(rows: Found) -> str:
    """Markdown: a row a choice of latents, then the best choice of each picture; all means over the pictures.

    A choice that exceeds the budget on some picture has no means, since those would be over other pictures.
    """
    by_picture = list(zip(*rows.values(), strict=True))
    best = [max((k for k, r in enumerate(of) if r), key=lambda k: of[k].psnr_rgb) for of in by_picture]
    lines = []
    for k, (name, results) in enumerate(rows.items()):
        fits = sum(r is not None for r in results)
        lines.append([name, *_figures(results), f"{fits} of {len(results)}", str(best.count(k))])
    chosen = [of[k] for of, k in zip(by_picture, best, strict=True)]
    lines.append(["best of these", *_figures(chosen), "", ""])
    titles = ["level", "bpp", "PSNR, dB", "MS-SSIM, dB", "in latents, %", "fits on", "best on"]
    return table(titles, lines)


def sizes_table(sizes: Mapping[str, Mapping[str, float]]) -> str:
    """Markdown: a row a level; means over the pictures."""
    lines = [[name, f"{both['learned']:.0f}", f"{both['jpeg_xl']:.0f}"] for name, both in sizes.items()]
    return table(["level", "learned coder", "JPEG XL"], lines)


def _figures(results: Sequence[ImageResult | None]) -> list[str]:
    found = [result for result in results if result is not None]
    if len(found) < len(results):
        return ["–"] * 4
    mean = Means.of(found)
    share = np.mean([1 - (r.ledger.get("residual", 0) + r.ledger["header"]) / r.bytes for r in found])
    return [number(mean.bpp, 3), number(mean.psnr_rgb, 2), number(mean.ms_ssim_db, 2), f"{100 * share:.0f}"]


def _sizes(codec: GdaeSprcCodec, items: Sequence[ImageItem], level: float) -> dict[str, float]:
    """Mean bytes of the latents by each lossless coder."""
    each = [codec.latent_sizes(item.read(), level) for item in items]
    return {name: float(np.mean([sizes[name] for sizes in each])) for name in each[0]}


def _parser() -> argparse.ArgumentParser:
    found = codec_parser("levels", __doc__)
    found.add_argument(
        "--bpp", type=listed(float), default=[0.25, 0.5, 1.0], metavar="A,B,…", help="default: 0.25,0.5,1.0"
    )
    return found
