"""Selectivity: quality inside and outside a user's map, at equal bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from eval.tables import number, table
from lightning_modules.codec.contract import Codec, Image
from losses._similarity import gaussian, similarity, smooth
from losses.ssim import SIGMA, WINDOW

BPP = 0.2


def regions(codec: Codec, images: Mapping[str, Image], bpp: float = BPP) -> str:
    """Markdown: the selective scheme and the plain thumbnail, with the central third of both sides important."""
    rows: dict[str, list[list[float]]] = {}
    for image in images.values():
        height, width = image.shape[:2]
        map_ = np.zeros((height, width))
        map_[height // 3 : height - height // 3, width // 3 : width - width // 3] = 1
        for name, options in (
            ("thumbnail everywhere", {"scheme": "thumbnail"}),
            ("selective", {"scheme": "selective", "importance": map_}),
        ):
            data = codec.encode(image, bpp, **options)
            decoded = codec.decode(data)
            inside = [*_inside(image, decoded, map_), *_inside(image, decoded, 1 - map_)]
            rows.setdefault(name, []).append([8 * len(data) / (height * width), *inside])
    lines = [
        [name, *(number(v, d) for v, d in zip(np.mean(r, 0), (4, 2, 4, 2, 4), strict=True))]
        for name, r in rows.items()
    ]
    header = ["scheme", "bpp", "PSNR inside, dB", "SSIM inside", "PSNR outside, dB", "SSIM outside"]
    title = f"\n# A user's map: the central third of both sides, {len(images)} whole pictures\n\n"
    return title + table(header, lines) + "\n"


def _inside(image: Image, decoded: Image, where: np.ndarray) -> tuple[float, float]:
    """PSNR and SSIM where the map is 1; a window of SSIM counts by how much of it lies there."""
    error = ((image.astype(np.float64) - decoded) ** 2).mean(2)
    mse = (error * where).sum() / where.sum()
    x, y = (torch.from_numpy(p.astype(np.float64)).permute(2, 0, 1)[None] for p in (image, decoded))
    taps = gaussian(WINDOW, SIGMA)
    weight = smooth(torch.from_numpy(where)[None, None], taps)
    (ssim,) = similarity(x, y, [weight], taps, 255.0, luminance=True)
    return 10 * math.log10(255**2 / max(mse, 1e-9)), float(ssim.mean())
