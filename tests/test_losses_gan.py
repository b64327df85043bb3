"""Adversarial losses: values by hand, directions, several scales, R1 against its closed form."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from genic.lightning_modules.codec.errors import ConfigError
from genic.losses import gan


def log1pexp(x: float) -> float:
    return math.log(1 + math.exp(x))


REAL, FAKE = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, -3.0]])
BY_HAND = {
    "softplus": (
        (log1pexp(-2) + log1pexp(1)) / 2 + (log1pexp(0.5) + log1pexp(-3)) / 2,
        (log1pexp(-0.5) + log1pexp(3)) / 2,
    ),
    "saturating": (
        (log1pexp(-2) + log1pexp(1)) / 2 + (log1pexp(0.5) + log1pexp(-3)) / 2,
        -(log1pexp(0.5) + log1pexp(-3)) / 2,
    ),
    "least_squares": ((1 + 4) / 2 + (0.25 + 9) / 2, (0.25 + 16) / 2),
    "hinge": ((0 + 2) / 2 + (1.5 + 0) / 2, -(0.5 - 3) / 2),
}


@pytest.mark.parametrize("name", gan.GAN_LOSSES)
def test_values_by_hand(name: str) -> None:
    losses = gan.gan_loss(name)
    discriminator, generator = BY_HAND[name]
    assert losses.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert losses.generator(FAKE).item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("name", gan.GAN_LOSSES)
def test_high_means_real(name: str) -> None:
    losses = gan.gan_loss(name)
    levels = [torch.full((2, 1, 3, 3), level) for level in (-0.9, -0.4, 0.1, 0.6, 0.9)]
    zero = torch.zeros(2, 1, 3, 3)
    for low, high in pairwise(levels):
        assert losses.discriminator(high, zero) < losses.discriminator(low, zero)
        assert losses.generator(high) < losses.generator(low)
        if name != "least_squares" or low.max() > 0:
            assert losses.discriminator(zero, high) > losses.discriminator(zero, low)


def test_agrees_with_cross_entropy_and_log_sigmoid() -> None:
    bce = nn.functional.binary_cross_entropy_with_logits
    expected = bce(REAL, torch.ones_like(REAL)) + bce(FAKE, torch.zeros_like(FAKE))
    torch.testing.assert_close(gan.softplus_discriminator(REAL, FAKE), expected)
    torch.testing.assert_close(gan.saturating_generator(FAKE), (1 - FAKE.sigmoid()).log().mean())
    torch.testing.assert_close(gan.softplus_generator(FAKE), -FAKE.sigmoid().log().mean())


def test_saturating_generator_loses_its_gradient_where_the_other_keeps_it() -> None:
    sure = torch.tensor([-20.0], requires_grad=True)
    (saturated,) = torch.autograd.grad(gan.saturating_generator(sure), sure)
    (alive,) = torch.autograd.grad(gan.softplus_generator(sure), sure)
    assert -1e-8 < saturated.item() <= 0
    assert alive.item() == pytest.approx(-1, abs=1e-6)


@pytest.mark.parametrize("name", gan.GAN_LOSSES)
def test_scales_count_equally_whatever_their_size(name: str) -> None:
    losses = gan.gan_loss(name)
    real, fake = (
        [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 2, 2)],
        [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 2, 2)],
    )
    apart = [losses.discriminator(r, f) for r, f in zip(real, fake, strict=True)]
    torch.testing.assert_close(losses.discriminator(real, fake), torch.stack(apart).mean())
    torch.testing.assert_close(
        losses.generator(fake), torch.stack([losses.generator(f) for f in fake]).mean()
    )
    torch.testing.assert_close(losses.generator(fake[:1]), losses.generator(fake[0]))


def test_every_scale_has_a_gradient() -> None:
    fake = [torch.randn(2, 1, 4, 4, requires_grad=True), torch.randn(2, 1, 2, 2, requires_grad=True)]
    gan.softplus_generator(fake).backward()
    assert all((f.grad < 0).all() for f in fake)


def test_low_precision_outputs_are_averaged_in_float32() -> None:
    fake = torch.full((1, 1, 100, 100), 3.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = gan.softplus_generator(fake)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(log1pexp(-3), rel=1e-5)


def test_r1_closed_form_and_second_derivative() -> None:
    w = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    x = torch.randn(4, 3, requires_grad=True)
    d = (x * w).sum(1, keepdim=True)
    penalty = gan.r1_penalty(d, x)
    assert penalty.item() == pytest.approx(1 + 4 + 0.25)
    penalty.backward()
    torch.testing.assert_close(w.grad, 2 * w.detach())
    two_scales = gan.r1_penalty([(x * w).sum(1), (2 * x * w).sum(1)], x)
    assert two_scales.item() == pytest.approx(9 * 5.25)


def test_r1_of_a_network_by_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 1, 3)).double()
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    penalty = gan.r1_penalty(network(x), x)
    with torch.no_grad():
        square = 0.0
        for k in range(x.numel()):
            step = torch.zeros(x.numel(), dtype=torch.float64)
            step[k] = 1e-5
            step = step.view_as(x)
            square += ((network(x + step).sum() - network(x - step).sum()) / 2e-5).item() ** 2
    assert penalty.item() == pytest.approx(square / 2, rel=1e-6)


def test_r1_needs_a_gradient() -> None:
    x = torch.randn(1, 3)
    with pytest.raises(ValueError, match="requires_grad_"):
        gan.r1_penalty(x.sum(), x)


def test_feature_matching_by_hand_and_detached_from_real() -> None:
    real = [[torch.tensor([1.0, 3.0], requires_grad=True), torch.zeros(4)], [torch.ones(1), torch.ones(2)]]
    fake = [
        [torch.tensor([2.0, 3.0], requires_grad=True), torch.full((4,), -2.0)],
        [torch.ones(1), torch.zeros(2)],
    ]
    value = gan.feature_matching(real, fake)
    assert value.item() == pytest.approx(((0.5 + 2) + (0 + 1)) / 2)
    value.backward()
    assert real[0][0].grad is None
    torch.testing.assert_close(fake[0][0].grad, torch.tensor([0.25, 0.0]))


def test_errors() -> None:
    with pytest.raises(ConfigError, match="softplus, saturating, least_squares, hinge"):
        gan.gan_loss("wasserstein")
    with pytest.raises(ValueError, match="at least one"):
        gan.hinge_generator([])
    with pytest.raises(ValueError, match="scales"):
        gan.feature_matching([[REAL]], [[FAKE], [FAKE]])
    with pytest.raises(ValueError, match="differ in shape"):
        gan.feature_matching([[REAL]], [[FAKE[:, :1]]])
