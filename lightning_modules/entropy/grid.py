"""Exact arithmetic: every value between the bytes and the symbols lies on a power-of-two grid.

Activations are multiples of 2⁻¹⁰ within ±2¹⁰, weights multiples of 2⁻¹⁴. Evaluated in float64, each product and
each partial sum is then an integer multiple of 2⁻²⁴ below 2⁵³ in size, so it is represented exactly and the
order of summation, the number of threads, fused multiply-adds and the device cannot matter. `check_headroom`
proves the bound for the actual weights when a network is made exact. Division (attention's normaliser) is
correctly rounded by IEEE 754 on every device, and its operands are exact.

A network is written once: `snap` is the identity on a float32 network in training, and rounds on its exact copy.
There activations are counted in steps of 2⁻¹⁰ (`GridModule.unit` of them make 1.0), so they are integers.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from genic.lightning_modules.codec.errors import WeightsError

ACTIVATION_BITS = 10
ACTIVATION_LIMIT = 2.0**10
STEPS = 2**ACTIVATION_BITS
"""Steps of the activation grid that make 1.0."""
WEIGHT_BITS = 14

Network = TypeVar("Network", bound=nn.Module)


def to_grid(x: Tensor, bits: int) -> Tensor:
    """Nearest multiple of 2^-bits, ties to even. Scaling by a power of two is exact."""
    return torch.round(x * 2.0**bits) * 2.0**-bits


class GridModule(nn.Module):
    """A module whose output is put on the activation grid once it is exact.

    Attributes:
        exact: False in training (float32, no rounding); True on copies made by `exact_copy`.
        unit: what stands for 1.0 in activations: 1 in training, `STEPS` on an exact copy.
    """

    exact = False
    unit = 1

    def make_exact(self) -> None:
        """Called once on an exact copy, whose weights are on their grid. Modules extend it to express parameters
        that are added to activations in steps, and raise `WeightsError` where sums could leave the 53 bits."""
        self.exact, self.unit = True, STEPS

    def snap(self, y: Tensor) -> Tensor:
        """Identity in training; on an exact copy, round in place to whole steps and clamp to the range."""
        if not self.exact:
            return y
        return y.round_().clamp_(-ACTIVATION_LIMIT * STEPS, ACTIVATION_LIMIT * STEPS)


def exact_copy(network: Network) -> Network:
    """A frozen float64 copy of ``network`` with weights on the grid, which computes in steps.

    Weights are first rounded to float16, as they are stored, so that a network in training and the one
    loaded from its file give the same integers.

    Raises:
        WeightsError: a weight is not finite, or a layer's sums could exceed 53 bits.
    """
    network = copy.deepcopy(network).requires_grad_(False).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.data = to_grid(parameter.data.half().double(), WEIGHT_BITS)
            if not torch.isfinite(parameter.data).all():
                raise WeightsError(
                    f"weight {name} is not finite: the training diverged; take an earlier checkpoint"
                )
    for module in network.modules():
        if isinstance(module, GridModule):
            module.make_exact()
    return network


def check_sums(name: str, weight: Tensor) -> None:
    """Raise `WeightsError` unless ``weight`` [fan_in, fan_out] keeps all partial sums below 2⁵³ grid steps."""
    # Inputs are sums of up to four snapped activations (residual connections).
    steps = (weight.abs().sum(0).max() + 1) * 4 * ACTIVATION_LIMIT * 2.0 ** (ACTIVATION_BITS + WEIGHT_BITS)
    if steps >= 2.0**53:
        raise WeightsError(
            f"{name}: sums need {steps.log2():.1f} bits, 53 are exact; train with weight decay"
        )
