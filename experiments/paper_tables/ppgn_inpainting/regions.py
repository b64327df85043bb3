"""Selectivity: quality inside and outside a user's map, at equal bytes.

::

    python -m experiments.tables ppgn_inpainting regions --limit 6

The map is the central third of both sides.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from genic.datamodules.images import ImageItem, read_image
from genic.eval.metrics import psnr
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.tables import number, table
from genic.experiments.paper_tables.common import pictures, save
from genic.experiments.paper_tables.ppgn_inpainting.common import codec_name, parser
from genic.lightning_modules.codec.contract import Image
from genic.losses._similarity import gaussian, similarity, smooth
from genic.losses.ssim import SIGMA, WINDOW


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables ppgn_inpainting regions``; returns the exit status."""
    found = parser("regions", __doc__)
    found.add_argument("--bpp", type=float, default=0.2, help="the most of a file (default: 0.2)")
    options = found.parse_args(arguments)
    items, codec, rows = pictures(options), codec_name(options), {}
    with WorkerPairs(options.devices, options.threads) as workers:
        for name in ("thumbnail", "selective"):
            rows[name] = np.mean([_figures(name, codec, item, options, workers) for item in items], 0)
    digits = (4, 2, 4, 2, 4)
    header = ["scheme", "bpp", "PSNR inside, dB", "SSIM inside", "PSNR outside, dB", "SSIM outside"]
    lines = [[name, *(number(v, d) for v, d in zip(row, digits, strict=True))] for name, row in rows.items()]
    title = f"# A user's map: the central third of both sides, {len(items)} whole pictures of {options.data}"
    record = {"bpp": options.bpp, "columns": header[1:], "rows": {name: list(r) for name, r in rows.items()}}
    save(options, "regions", f"{title}\n\n{table(header, lines)}", record)
    return 0


def _figures(
    scheme: str, codec: str, item: ImageItem, options: argparse.Namespace, workers: WorkerPairs
) -> list[float]:
    """bpp, PSNR and SSIM inside and outside of a picture's file."""
    image, chosen = item.read(), dict[str, object](scheme=scheme)
    height, width = image.shape[:2]
    map_ = np.zeros((height, width))
    map_[height // 3 : height - height // 3, width // 3 : width - width // 3] = 1
    if scheme == "selective":
        chosen["importance"] = map_
    task, files = Task(item, codec, target_bpp=options.bpp, options=chosen), options.out / "files"
    (result,) = measure_files([task], workers, store=options.out / "measured", save_decoded=files)
    decoded = read_image(task.saved(files))
    return [result.bpp, *_inside(image, decoded, map_), *_inside(image, decoded, 1 - map_)]


def _inside(image: Image, decoded: Image, where: np.ndarray) -> tuple[float, float]:
    """PSNR and SSIM where the map is 1; a window of SSIM counts by how much of it lies there."""
    error = ((image.astype(np.float64) - decoded) ** 2).mean(2)
    mse = (error * where).sum() / where.sum()
    x, y = (torch.from_numpy(p.astype(np.float64)).permute(2, 0, 1)[None] for p in (image, decoded))
    taps = gaussian(WINDOW, SIGMA)
    weight = smooth(torch.from_numpy(where)[None, None], taps)
    (ssim,) = similarity(x, y, [weight], taps, 255.0, luminance=True)
    return psnr(max(mse, 1e-9)), float(ssim.mean())
