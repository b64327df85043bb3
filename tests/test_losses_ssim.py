"""SSIM and MS-SSIM: against pytorch-msssim, torchmetrics and scikit-image, and their own laws."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_msssim
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from genic.lightning_modules.codec.errors import ImageError
from genic.losses._similarity import gaussian, similarity, smooth
from genic.losses.ssim import (
    FLOOR,
    MIN_SIDE,
    _floored_log,
    ms_ssim,
    ms_ssim_pair,
    ssim,
    ssim_loss_ics,
    weighted_ms_ssim,
)


def pictures(batch: int, height: int, width: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """A smooth random picture with texture, and a noisy copy; [batch, 3, height, width] in 0 to 1."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    coarse = torch.rand(batch, 3, 9, 9, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    x = (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    y = (x + noise * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    return x, y


@pytest.mark.parametrize(("height", "width"), [(256, 256), (161, 200), (175, 333)])
def test_ms_ssim_equals_pytorch_msssim(height: int, width: int) -> None:
    x, y = pictures(3, height, width)
    expected = pytorch_msssim.ms_ssim(x, y, data_range=1, size_average=False)
    assert expected.max() < 0.99
    torch.testing.assert_close(ms_ssim(x, y), expected, atol=5e-6, rtol=0)


def test_ms_ssim_equals_torchmetrics() -> None:
    x, y = pictures(2, 192, 256)
    expected = multiscale_structural_similarity_index_measure(y, x, data_range=1.0, reduction="none")
    # torchmetrics reflects the border at the last scale and averages channels before the powers.
    torch.testing.assert_close(ms_ssim(x, y), expected, atol=2e-4, rtol=0)


def test_ssim_equals_three_references() -> None:
    x, y = pictures(2, 50, 67)
    ours = ssim(x, y)
    assert ours.shape == (2,)
    torch.testing.assert_close(
        ours, pytorch_msssim.ssim(x, y, data_range=1, size_average=False), atol=2e-6, rtol=0
    )
    # torchmetrics also counts windows that reflect the border; the inner ones are ours.
    _, full = structural_similarity_index_measure(y, x, data_range=1.0, return_full_image=True)
    torch.testing.assert_close(ours, full[..., 5:-5, 5:-5].mean((1, 2, 3)), atol=2e-6, rtol=0)
    a, b = (t[0].permute(1, 2, 0).double().numpy() for t in (x, y))
    expected = structural_similarity(
        a, b, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ours[0].item() == pytest.approx(expected, abs=2e-6)


def test_ssim_of_constant_pictures_by_hand() -> None:
    x, y = torch.full((1, 1, 11, 11), 0.2), torch.full((1, 1, 11, 11), 0.6)
    c1 = 0.01**2
    by_hand = (2 * 0.2 * 0.6 + c1) / (0.2**2 + 0.6**2 + c1)
    assert ssim(x, y).item() == pytest.approx(by_hand, abs=1e-4)
    assert ssim_loss_ics(x, y).item() == pytest.approx(-by_hand, abs=1e-4)


def test_data_range_window_and_reduction() -> None:
    x, y = pictures(2, 170, 170)
    torch.testing.assert_close(ssim(x * 255, y * 255, data_range=255), ssim(x, y), atol=1e-5, rtol=0)
    torch.testing.assert_close(ms_ssim(x * 255, y * 255, data_range=255), ms_ssim(x, y), atol=1e-5, rtol=0)
    expected = pytorch_msssim.ssim(x, y, data_range=1, size_average=False, win_size=7, win_sigma=1.0)
    torch.testing.assert_close(ssim(x, y, window=7, sigma=1.0), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(ssim(x, y, reduction="mean"), ssim(x, y).mean())
    with pytest.raises(ValueError, match="'none' or 'mean'"):
        ssim(x, y, reduction="sum")


def test_equal_pictures_have_one_and_no_gradient() -> None:
    x, _ = pictures(1, 176, 176)
    y = x.clone().requires_grad_()
    value = ms_ssim(x, y)
    value.sum().backward()
    assert value.item() == pytest.approx(1, abs=1e-6)
    assert y.grad.abs().max() < 1e-6


def test_gaussian_and_smooth() -> None:
    taps = gaussian(11, 1.5)
    assert sum(taps) == pytest.approx(1, abs=1e-15)
    assert taps[4] / taps[5] == pytest.approx(np.exp(-1 / (2 * 1.5**2)))
    planes = torch.zeros(1, 21, 21, dtype=torch.float64)
    planes[0, 10, 10] = 1
    outer = torch.outer(torch.tensor(taps, dtype=torch.float64), torch.tensor(taps, dtype=torch.float64))
    torch.testing.assert_close(smooth(planes, taps)[0], outer)


@pytest.mark.parametrize("luminance", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_written_derivative_against_finite_differences(luminance: bool, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (
        torch.rand(2, 2, 8, 7, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    maps = [torch.rand(2, 1, 4, 3, generator=generator, dtype=torch.float64) if weighted else None, None]
    taps = gaussian(5, 1.5)
    assert torch.autograd.gradcheck(lambda a, b: tuple(similarity(a, b, maps, taps, 1.0, luminance)), (x, y))
    assert torch.autograd.gradcheck(
        lambda b: tuple(similarity(x.detach(), b, maps, taps, 1.0, luminance)), (y,)
    )


def test_gradient_equals_autograd_through_reference() -> None:
    x, y = pictures(2, 163, 190)
    ours, theirs = y.clone().requires_grad_(), y.clone().requires_grad_()
    ms_ssim(x, ours).sum().backward()
    pytorch_msssim.ms_ssim(x, theirs, data_range=1, size_average=False).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-3)


def test_weighted_gradient_against_finite_differences() -> None:
    x, y = (t.double() for t in pictures(1, 161, 164))
    weight = torch.zeros(1, 1, 161, 164)
    weight[..., 30:60, 40:90] = 1
    y.requires_grad_()
    weighted_ms_ssim(x, y, weight).sum().backward()
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6
        up, down = (weighted_ms_ssim(x, y + s * step * direction, weight) for s in (1, -1))
    assert (y.grad * direction).sum().item() == pytest.approx(((up - down) / (2 * step)).item(), rel=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("size", [(176, 176), (171, 189)])
def test_constant_weight_is_plain(level: float, size: tuple[int, int]) -> None:
    x, y = pictures(2, *size)
    weight = torch.full((2, 1, *size), level)
    torch.testing.assert_close(weighted_ms_ssim(x, y, weight), ms_ssim(x, y), atol=2e-6, rtol=0)


def test_weight_attends_to_the_marked_place() -> None:
    x, _ = pictures(1, 192, 192)
    weight = torch.zeros(1, 1, 192, 192)
    weight[..., 20:80, 20:80] = 1
    inside, outside = x.clone(), x.clone()
    inside[..., 30:70, 30:70] = 0.5
    outside[..., 120:160, 120:160] = 0.5
    assert weighted_ms_ssim(x, inside, weight) < ms_ssim(x, inside) - 0.05
    assert weighted_ms_ssim(x, outside, weight) > ms_ssim(x, outside) + 0.01
    one = weighted_ms_ssim(x, inside, weight, background=1)
    torch.testing.assert_close(one, ms_ssim(x, inside), atol=2e-6, rtol=0)
    half = weighted_ms_ssim(x, inside, weight, background=0.5)
    assert weighted_ms_ssim(x, inside, weight) < half < one


def test_weighted_scales_by_direct_formula() -> None:
    """Σ w·cs / Σ w at each scale and Σ w·l·cs / Σ w at the last, written out naively in float64."""
    x, y = (t.double() for t in pictures(1, 176, 192))
    t_a = (torch.rand(1, 1, 176, 192, generator=torch.Generator().manual_seed(3)) > 0.7).double()
    taps = torch.tensor(gaussian(11, 1.5), dtype=torch.float64)
    kernel = torch.outer(taps, taps)[None, None]

    def windows(t: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(t.transpose(0, 1), kernel).transpose(0, 1)

    a, b, w, product = x, y, 0.2 + 0.8 * t_a, 1.0
    for k, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mu_a, mu_b = windows(a), windows(b)
        cs = (2 * (windows(a * b) - mu_a * mu_b) + 0.03**2) / (
            windows(a * a) - mu_a**2 + windows(b * b) - mu_b**2 + 0.03**2
        )
        if k == 4:
            cs = cs * (2 * mu_a * mu_b + 0.01**2) / (mu_a**2 + mu_b**2 + 0.01**2)
        product = product * ((windows(w) * cs).sum((2, 3)) / windows(w).sum((2, 3))) ** exponent
        a, b, w = (torch.nn.functional.avg_pool2d(t, 2) for t in (a, b, w))
    torch.testing.assert_close(weighted_ms_ssim(x, y, t_a, background=0.2), product.mean(1))


def test_pair_shares_statistics_and_equals_both() -> None:
    x, y = pictures(2, 176, 180)
    weight = torch.zeros(2, 1, 176, 180, dtype=torch.bool)
    weight[:, :, 50:90] = True
    one, two = y.clone().requires_grad_(), y.clone().requires_grad_()
    plain, weighted = ms_ssim_pair(x, one, weight)
    (plain.sum() + 5 * weighted.sum()).backward()
    apart = ms_ssim(x, two), weighted_ms_ssim(x, two, weight)
    (apart[0].sum() + 5 * apart[1].sum()).backward()
    torch.testing.assert_close((plain, weighted), apart)
    torch.testing.assert_close(one.grad, two.grad)


def test_memory_format_and_both_gradients() -> None:
    x, y = pictures(2, 176, 180)
    a, b = x.clone().requires_grad_(), y.to(memory_format=torch.channels_last).requires_grad_()
    c, d = x.clone().requires_grad_(), y.clone().requires_grad_()
    ours = ms_ssim(a, b)
    ours.sum().backward()
    theirs = pytorch_msssim.ms_ssim(c, d, data_range=1, size_average=False)
    theirs.sum().backward()
    torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)
    torch.testing.assert_close(a.grad, c.grad, atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(b.grad, d.grad, atol=1e-7, rtol=1e-3)


def test_anticorrelated_pictures_have_finite_useful_gradients() -> None:
    x, _ = pictures(1, 176, 176)
    y = (1 - x).requires_grad_()
    value = ms_ssim(x, y)
    value.sum().backward()
    assert 0 < value.item() < FLOOR
    assert torch.isfinite(y.grad).all()
    with torch.no_grad():
        grey = ms_ssim(x, torch.full_like(x, 0.5))
        assert value < grey
        assert ms_ssim(x, 1 - x, floor=0).item() == 0.0


def test_floor_joins_smoothly() -> None:
    for c in (FLOOR - 1e-7, FLOOR + 1e-7, -0.02, 0.5):
        t = torch.tensor(c, dtype=torch.float64, requires_grad=True)
        log = _floored_log(t, FLOOR)
        log.backward()
        assert log.item() == pytest.approx(
            np.log(c) if c > FLOOR else np.log(FLOOR) + c / FLOOR - 1, abs=1e-9
        )
        assert t.grad.item() == pytest.approx(1 / max(c, FLOOR), rel=1e-4)


def test_autocast_and_low_precision_inputs() -> None:
    x, y = pictures(1, 176, 176)
    exact = ms_ssim(x, y)
    z = y.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ms_ssim(x, z)
        inside.sum().backward()
        assert ssim(x, y).dtype == torch.float32
    assert inside.dtype == torch.float32
    assert torch.equal(inside, exact)
    assert z.grad.dtype == torch.float32
    half = y.bfloat16().requires_grad_()
    ms_ssim(x, half).sum().backward()
    assert half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(ms_ssim(x, half), ms_ssim(x, half.float()))


def test_errors_name_the_remedy() -> None:
    x, y = pictures(1, 160, 200)
    assert MIN_SIDE == 161
    with pytest.raises(ImageError, match=r"161 pixels, not 160×200: use larger crops"):
        ms_ssim(x, y)
    with pytest.raises(ImageError, match="at least 11"):
        ssim(x[..., :10], y[..., :10])
    with pytest.raises(ImageError, match="one shape"):
        ssim(x, y[..., :-1])
    x, y = pictures(1, 170, 170)
    with pytest.raises(ImageError, match="one map a picture"):
        weighted_ms_ssim(x, y, torch.ones(1, 1, 85, 85))
    with pytest.raises(ValueError, match="background"):
        weighted_ms_ssim(x, y, torch.ones(1, 1, 170, 170), background=-0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu_even_with_tf32_allowed() -> None:
    x, y = pictures(2, 256, 256)
    weight = (torch.rand(2, 1, 256, 256) > 0.8).float()
    here, there = y.clone().requires_grad_(), y.cuda().requires_grad_()
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        gpu = torch.stack(ms_ssim_pair(x.cuda(), there, weight.cuda()))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    cpu = torch.stack(ms_ssim_pair(x, here, weight))
    cpu.sum().backward()
    gpu.sum().backward()
    torch.testing.assert_close(gpu.cpu(), cpu, atol=5e-6, rtol=0)
    torch.testing.assert_close(there.grad.cpu(), here.grad, atol=1e-7, rtol=1e-3)
