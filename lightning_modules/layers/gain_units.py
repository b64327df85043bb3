"""One set of weights for several rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GainUnits(nn.Module):
    """A gain per channel and rate level before rounding, and its learned inverse after (Cui et al. 2021).

    Between levels gains are interpolated geometrically.
    """

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.empty(levels, channels))
        self.log_inverse = nn.Parameter(torch.empty(levels, channels))
        self.start()

    @torch.no_grad()
    def start(self, lowest: float = 0.0, step: float = 0.35) -> None:
        """The same gain for all channels, exp(lowest) at level 0 and a factor exp(step) from level to level: √2 by
        default (half the quantisation's step costs a symbol half a bit)."""
        gain = lowest + step * torch.arange(len(self.log_gain))[:, None]
        self.log_gain.copy_(gain.expand_as(self.log_gain))
        self.log_inverse.copy_(-self.log_gain)

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        """z [B, ch, H, W] at ``level`` [B] -> scaled z."""
        return z * self._at(self.log_gain, level)

    def inverse(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """Undo `forward` on rounded latents."""
        return z_hat * self._at(self.log_inverse, level)

    @staticmethod
    def _at(table: Tensor, level: Tensor) -> Tensor:
        low = level.floor().clamp(0, table.shape[0] - 1)
        high = (low + 1).clamp(max=table.shape[0] - 1)
        fraction = (level - low)[:, None]
        return torch.exp(torch.lerp(table[low.long()], table[high.long()], fraction))[:, :, None, None]


def between_levels(weights: Tensor, level: Tensor) -> Tensor:
    """One of ``weights`` [levels] for each ``level`` [B]: geometrically between whole levels, as gains are;
    linearly where one of both is 0."""
    low = level.floor().long().clamp(0, len(weights) - 1)
    high = (low + 1).clamp(max=len(weights) - 1)
    a, b, fraction = weights[low], weights[high], level - low
    geometric = torch.exp(torch.lerp(a.clamp_min(1e-30).log(), b.clamp_min(1e-30).log(), fraction))
    return torch.where((a > 0) & (b > 0), geometric, torch.lerp(a, b, fraction))
