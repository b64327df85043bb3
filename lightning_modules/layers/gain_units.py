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
        # Levels start a factor √2 apart: half the step doubles the rate's share of each symbol by half a bit.
        start = 0.35 * torch.arange(levels)[:, None].expand(levels, channels).float()
        self.log_gain = nn.Parameter(start.clone())
        self.log_inverse = nn.Parameter(-start.clone())

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
