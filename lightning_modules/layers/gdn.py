"""Generalised divisive normalisation (Ballé, Laparra, Simoncelli 2016)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.entropy.gaussian import lower_bound

_PEDESTAL = 2.0**-36
_LEAST_BETA = 1e-6


class GDN(nn.Module):
    """``y_i = x_i / √(β_i + Σ_j γ_ij x_j²)``, and its approximate inverse, which multiplies.

    β and γ stay positive through Ballé's reparametrisation: what is trained are the roots of them plus 2⁻³⁶, bounded
    from below with a gradient that passes back over the bound. At the start β = 1 and γ = 0.1 on the diagonal.
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + _PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(0.1 * torch.eye(channels) + _PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same."""
        beta = lower_bound(self.beta, (_LEAST_BETA + _PEDESTAL) ** 0.5).square() - _PEDESTAL
        gamma = lower_bound(self.gamma, _PEDESTAL**0.5).square() - _PEDESTAL
        norm = F.conv2d(x.square(), gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())
