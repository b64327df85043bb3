"""Bits from likelihoods, by hand and at the edge."""

from __future__ import annotations

import math

import pytest
import torch

from genic.losses.rate import LIKELIHOOD_FLOOR, estimated_bits, estimated_bpp


def test_by_hand() -> None:
    y = torch.tensor([[[[0.5, 0.25]]], [[[1.0, 0.125]]]])
    z = torch.tensor([[[[0.5]]], [[[1.0]]]])
    torch.testing.assert_close(estimated_bits(y), torch.tensor([3.0, 3.0]))
    torch.testing.assert_close(estimated_bits([y, z]), torch.tensor([4.0, 3.0]))
    torch.testing.assert_close(estimated_bpp([y, z], 2, 4), torch.tensor([0.5, 0.375]))


def test_gradient() -> None:
    p = torch.tensor([[0.1, 0.7]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(estimated_bits, (p,))
    (slope,) = torch.autograd.grad(estimated_bits(p).sum(), p)
    torch.testing.assert_close(slope, -1 / (p.detach() * math.log(2)))


def test_impossible_symbols_cost_a_finite_price_with_a_slope() -> None:
    p = torch.tensor([[0.0], [LIKELIHOOD_FLOOR / 2], [LIKELIHOOD_FLOOR]], requires_grad=True)
    bits = estimated_bits(p)
    bits.sum().backward()
    assert bits[0].item() == pytest.approx(-math.log2(LIKELIHOOD_FLOOR) + 1 / math.log(2), rel=1e-6)
    assert bits[0] > bits[1] > bits[2]
    assert torch.isfinite(p.grad).all() and (p.grad < 0).all()


def test_low_precision_is_summed_in_float32() -> None:
    p = torch.full((1, 1000), 0.5, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = estimated_bits(p)
    assert bits.dtype == torch.float32
    assert bits.item() == 1000
