"""Distortion figures against scikit-image, torchmetrics and pytorch-msssim, and where they are absent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytorch_msssim
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

from genic.eval.measures import Metrics, ms_ssim_db
from genic.eval.metrics import measure, psnr_rgb
from genic.lightning_modules.codec.errors import ImageError


def pair(height: int, width: int, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(height + width)
    ramp = np.add.outer(np.arange(height), np.arange(width))[..., None] * np.array([0.5, 0.3, 0.2])
    a = np.clip(ramp + rng.normal(0, 20, (height, width, 3)) + 40, 0, 255)
    return a.astype(np.uint8), np.clip(a + rng.normal(0, noise, a.shape), 0, 255).astype(np.uint8)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].double()


def test_psnr_equals_references() -> None:
    a, b = pair(37, 50)
    assert psnr_rgb(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-10)
    reference = torchmetrics_psnr(to_tensor(b), to_tensor(a), data_range=255.0)
    assert psnr_rgb(a, b) == pytest.approx(reference.item(), abs=1e-4)


def test_psnr_by_hand() -> None:
    a, b = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    b[0, 0, 0] = 255
    assert psnr_rgb(a, b) == pytest.approx(10 * math.log10(12))
    assert psnr_rgb(b, a) == psnr_rgb(a, b)


@pytest.mark.parametrize("size", [(161, 170), (192, 256)])
def test_structure_equals_references(size: tuple[int, int]) -> None:
    a, b = pair(*size)
    result = measure(a, b)
    expected = structural_similarity(
        a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert result.ssim == pytest.approx(expected, abs=1e-9)
    multiscale = pytorch_msssim.ms_ssim(to_tensor(a), to_tensor(b), data_range=255, size_average=False).item()
    assert 0.5 < multiscale < 0.999
    # The reference's window has float32 taps.
    assert result.ms_ssim == pytest.approx(multiscale, abs=1e-6)
    assert result.ms_ssim_db == pytest.approx(-10 * math.log10(1 - result.ms_ssim))


def test_equal_pictures() -> None:
    a, _ = pair(176, 161)
    assert measure(a, a.copy()) == Metrics(math.inf, 1.0, 1.0, math.inf)
    almost = a.copy()
    almost[80, 80, 0] ^= 1
    assert 40 < measure(a, almost).ms_ssim_db < math.inf


def test_absent_where_undefined() -> None:
    a, b = pair(160, 400)
    result = measure(a, b)
    assert result.ssim is not None and result.ms_ssim is None and result.ms_ssim_db is None
    a, b = pair(10, 400)
    assert measure(a, b) == Metrics(psnr_rgb(a, b), None, None, None)
    one = np.zeros((1, 1, 3), np.uint8)
    assert measure(one, one + 5).psnr_rgb == pytest.approx(20 * math.log10(51))


def test_uncorrelated_pictures_are_zero_as_published() -> None:
    a, _ = pair(176, 176)
    assert measure(a, 255 - a).ms_ssim == 0
    assert measure(a, 255 - a).ms_ssim_db == 0


def test_decibels() -> None:
    assert ms_ssim_db(0.9) == pytest.approx(10)
    assert ms_ssim_db(0.99) == pytest.approx(20)
    assert ms_ssim_db(1.0) == math.inf


def test_refuses_unequal_and_foreign_pictures() -> None:
    a, b = pair(20, 20)
    with pytest.raises(ImageError, match="one size"):
        measure(a, b[:-1])
    with pytest.raises(ImageError, match="uint8"):
        measure(a.astype(np.float32), b)
