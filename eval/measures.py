"""What is measured of a decoded picture: the figures' names, and how plots and tables show them."""

from __future__ import annotations

import math
from typing import NamedTuple

NETWORKS = ("lpips_alex", "lpips_squeeze", "lpips_vgg", "dists")
"""Measures made by networks: asked for one by one, since they cost time and need weights."""

RECOGNITION = {
    "regions": (
        "psnr_inside",
        "psnr_outside",
        "ms_ssim_inside",
        "ms_ssim_outside",
        "lpips_inside",
        "lpips_outside",
    ),
    "faces": ("face_confidence", "face_error"),
    "text": ("text_distance",),
    "semantics": ("agreement",),
}
"""Measures of places and of what machines recognise, see `eval.regions`, and the figures of each. A picture may have
nothing that they could be of: means are over those that have."""

DISTANCES = ("frechet", "kernel", "fid", "kid")
"""Measures of all decoded pictures of a point against all originals, see `eval.distances`."""


class Measure(NamedTuple):
    """A figure as plots and tables show it.

    Attributes:
        key: its field in `eval.schema.Means`.
        digits: behind the point.
        falls: lower is better.
    """

    key: str
    label: str
    unit: str
    digits: int
    falls: bool = False

    @property
    def title(self) -> str:
        """Label, unit and, where lower is better, a word on it."""
        return (
            self.label
            + (f", {self.unit}" if self.unit else "")
            + (" (lower is better)" if self.falls else "")
        )


MEASURES = (
    Measure("psnr_rgb", "PSNR (RGB)", "dB", 2),
    Measure("ms_ssim_db", "MS-SSIM", "dB", 2),
    Measure("ssim", "SSIM", "", 4),
    Measure("lpips_alex", "LPIPS (Alex)", "", 4, falls=True),
    Measure("lpips_squeeze", "LPIPS (Squeeze)", "", 4, falls=True),
    Measure("lpips_vgg", "LPIPS (VGG)", "", 4, falls=True),
    Measure("dists", "DISTS", "", 4, falls=True),
    Measure("psnr_inside", "PSNR inside", "dB", 2),
    Measure("psnr_outside", "PSNR outside", "dB", 2),
    Measure("ms_ssim_inside", "MS-SSIM inside", "", 4),
    Measure("ms_ssim_outside", "MS-SSIM outside", "", 4),
    Measure("lpips_inside", "LPIPS inside", "", 4, falls=True),
    Measure("lpips_outside", "LPIPS outside", "", 4, falls=True),
    Measure("face_confidence", "Faces: detector's score", "", 3),
    Measure("face_error", "Faces: landmarks' error", "eye distances", 3, falls=True),
    Measure("text_distance", "Text: distance as read", "", 3, falls=True),
    Measure("agreement", "Classifier's agreement", "", 3),
    Measure("frechet", "Fréchet distance", "", 3, falls=True),
    Measure("kernel", "Kernel distance", "", 5, falls=True),
    Measure("fid", "FID/256", "", 2, falls=True),
    Measure("kid", "KID/256", "", 5, falls=True),
)


class Metrics(NamedTuple):
    """Figures of one picture; None where a metric is not defined for so small a picture.

    Attributes:
        psnr_rgb: dB, 10·log10(255² / MSE) with the mean over all pixels and the three channels; ``inf``
            for equal pictures.
        ssim: Wang et al. 2004 with the 11×11 Gaussian window, σ = 1.5, whole windows only, mean of the
            three channels (not on grey, not with a uniform window, whose values differ); None where a
            side is below 11.
        ms_ssim: Wang et al. 2003, five scales, mean of the three channels; None where a side is below 161.
        ms_ssim_db: −10·log10(1 − ms_ssim); ``inf`` for equal pictures, None with `ms_ssim`.
        lpips_alex, lpips_squeeze, lpips_vgg: Zhang et al. 2018, version 0.1, at full size; 0 for equal pictures. None
            where it was not asked for, or a side is below 31, 17, 16.
        dists: Ding et al. 2020 as torchmetrics has it, at full size; None where it was not asked for, or a side is
            below 16.
        psnr_inside to agreement: of `RECOGNITION`; None where it was not asked for, or the picture has no such thing.
    """

    psnr_rgb: float
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    lpips_alex: float | None = None
    lpips_squeeze: float | None = None
    lpips_vgg: float | None = None
    dists: float | None = None
    psnr_inside: float | None = None
    psnr_outside: float | None = None
    ms_ssim_inside: float | None = None
    ms_ssim_outside: float | None = None
    lpips_inside: float | None = None
    lpips_outside: float | None = None
    face_confidence: float | None = None
    face_error: float | None = None
    text_distance: float | None = None
    agreement: float | None = None


def ms_ssim_db(ms_ssim: float) -> float:
    """−10·log10(1 − MS-SSIM); ``inf`` for 1."""
    return math.inf if ms_ssim >= 1 else -10 * math.log10(1 - ms_ssim)
