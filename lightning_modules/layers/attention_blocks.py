"""Encoder and decoder bodies with residual attention blocks, in super-resolution style.

Akutsu et al., CLIC 2020, figure 3, after Zhong et al. (CVQN) and Kim et al. (RAM); shared by the transforms, the
hyper encoder and the discriminator::

    encoder body:  inverse pixel shuffle (2) ── residual group ── 3×3
    decoder body:  3×3 ── residual group ── pixel shuffle (2)

Figure 3 survives without its drawing. From the co-author's published CVQN code: the residual group works on 4c
channels, is a chain of attention blocks + 3×3 + skip, six blocks in the paper. That code has GDN as well; this paper
does not mention it, and it is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualAttentionModule(nn.Module):
    """RAM (Kim et al. 2018): σ(channel attention on the variance + depthwise 3×3) · x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same. The variance is over the whole picture, in float32."""
        variance = x.float().var((2, 3), unbiased=False, keepdim=True)
        return x * torch.sigmoid(self.channel(variance.to(x.dtype)) + self.spatial(x))


class ResidualAttentionBlock(nn.Module):
    """x + RAM(3×3(ReLU(3×3(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            ResidualAttentionModule(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same."""
        return x + self.body(x)


def residual_group(channels: int, blocks: int) -> nn.Module:
    """``blocks`` attention blocks, 3×3 and a skip around them; the identity for no blocks."""
    return ResidualGroup(channels, blocks) if blocks else nn.Identity()


class ResidualGroup(nn.Module):
    """x + 3×3(blocks(x))."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        chain = [ResidualAttentionBlock(channels) for _ in range(blocks)]
        self.body = nn.Sequential(*chain, nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, H, W] -> the same."""
        return x + self.body(x)


def encoder_body(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    """[B, in, H, W] -> [B, out, H/2, W/2]."""
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        residual_group(4 * in_channels, blocks),
        nn.Conv2d(4 * in_channels, out_channels, 3, padding=1),
    )


def decoder_body(in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    """[B, in, H, W] -> [B, out, 2H, 2W]."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1),
        residual_group(4 * out_channels, blocks),
        nn.PixelShuffle(2),
    )
