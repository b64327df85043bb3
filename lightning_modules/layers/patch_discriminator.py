"""The discriminator of patches with spectral norm (Isola et al. 2017, Miyato et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def patch_layers(in_channels: int, widths: Sequence[int]) -> list[nn.Module]:
    """4×4 convolutions of stride 2 to each of ``widths``, a leaky ReLU after each; the sides are halved every time."""
    layers: list[nn.Module] = []
    for before, width in pairwise([in_channels, *widths]):
        layers += [spectral_norm(nn.Conv2d(before, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return layers


class PatchDiscriminator(nn.Sequential):
    """x [B, channels, H, W] -> scores of patches [B, 1, H/2ⁿ, W/2ⁿ], n the number of widths; high means real."""

    def __init__(self, widths: Sequence[int], channels: int = 3) -> None:
        super().__init__(
            *patch_layers(channels, widths), spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))
        )
