"""Distortion of one decoded picture against its original, both uint8, computed in float64.

Averages over a data set are the harness's: the mean of these figures, each picture counted once. (PSNR
of the mean error of all pixels is another number.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.contract import Image, check_image
from lightning_modules.codec.errors import ImageError
from losses import ssim as similarity


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
    """

    psnr_rgb: float
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None


def measure(original: Image, decoded: Image) -> Metrics:
    """All figures of a pair of pictures, uint8 H×W×3.

    Raises:
        ImageError: not such pictures, or their sizes differ.
    """
    psnr = psnr_rgb(original, decoded)
    side = min(original.shape[:2])
    structure = 1.0 if side >= similarity.WINDOW else None
    multiscale = 1.0 if side >= similarity.MIN_SIDE else None
    if psnr < math.inf:  # Equal pictures have 1 exactly, however a machine rounds.
        x, y = _planes(original), _planes(decoded)
        with torch.no_grad():
            if structure is not None:
                structure = similarity.ssim(x, y, data_range=255).item()
            if multiscale is not None:
                multiscale = similarity.ms_ssim(x, y, data_range=255, floor=0).item()
    return Metrics(psnr, structure, multiscale, None if multiscale is None else ms_ssim_db(multiscale))


def psnr_rgb(original: Image, decoded: Image) -> float:
    """See `Metrics`."""
    check_image(original)
    check_image(decoded)
    if original.shape != decoded.shape:
        raise ImageError(
            f"the decoded picture is {decoded.shape[0]}×{decoded.shape[1]}, its original "
            f"{original.shape[0]}×{original.shape[1]}: compare pictures of one size"
        )
    error = original.astype(np.int32) - decoded
    # A sum of integers: the same on every machine.
    mse = int(np.sum(error * error, dtype=np.int64)) / error.size
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def ms_ssim_db(ms_ssim: float) -> float:
    """−10·log10(1 − MS-SSIM); ``inf`` for 1."""
    return math.inf if ms_ssim >= 1 else -10 * math.log10(1 - ms_ssim)


def _planes(image: Image) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float64))[None]
