"""DCGAN (Radford, Metz and Chintala 2016) at 128×128, as published, and its pictures of any size."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.gan_reversal.config import GanReversalConfig


class DcganGenerator(nn.Module):
    """G: a vector z [B, latents, 1, 1] -> a patch; a grid of them -> overlapping patches, blended.

    4×4 transposed convolutions of stride 2 with batch normalisation and ReLU from a 4×4 map on, then tanh. A picture
    larger than a patch is a grid of patches, each with a latent of its own, that share ``overlap`` pixels; there
    their weights rise and fall linearly. The paper treats 128×128 only.
    """

    def __init__(self, config: GanReversalConfig) -> None:
        super().__init__()
        widths = [config.latents, *config.widths]
        layers: list[nn.Module] = []
        for k, (before, width) in enumerate(pairwise(widths)):
            shape = (4, 1, 0) if k == 0 else (4, 2, 1)
            layers += [
                nn.ConvTranspose2d(before, width, *shape, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())
        initialise(self)
        self.side = 4 * 2 ** len(config.widths)
        self.stride = self.side - config.overlap
        self.reach = 1
        ramp = torch.arange(1, config.overlap + 1) / (config.overlap + 1)
        weight = torch.cat((ramp, torch.ones(self.side - 2 * config.overlap), ramp.flip(0)))
        self.register_buffer("weight", weight[:, None] * weight, persistent=False)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Size of the grid of patches that covers a picture."""
        rows, columns = (1 + max(0, -(-(side - self.side) // self.stride)) for side in (height, width))
        return rows, columns

    def forward(self, z: Tensor) -> Tensor:
        """[B, latents, h, w] -> [B, 3, (h − 1)·stride + side, (w − 1)·stride + side], in [0, 1]."""
        b, c, h, w = z.shape
        patches = self.layers(z.permute(0, 2, 3, 1).reshape(b * h * w, c, 1, 1)) * 0.5 + 0.5
        if h == w == 1:
            return patches
        size = ((h - 1) * self.stride + self.side, (w - 1) * self.stride + self.side)
        weight = self.weight.expand(h * w, self.side, self.side).reshape(1, h * w, -1).transpose(1, 2)
        columns = (patches * self.weight).reshape(b, h * w, -1).transpose(1, 2).float()
        return F.fold(columns, size, self.side, stride=self.stride) / F.fold(
            weight.float(), size, self.side, stride=self.stride
        )


class DcganDiscriminator(nn.Module):
    """D: x [B, 3, 128, 128] -> scores [B, 1, 1, 1]; high means real."""

    def __init__(self, config: GanReversalConfig) -> None:
        super().__init__()
        widths = [3, *config.D]
        layers: list[nn.Module] = []
        for k, (before, width) in enumerate(pairwise(widths)):
            norm = [nn.BatchNorm2d(width)] if k > 0 else []
            layers += [nn.Conv2d(before, width, 4, 2, 1, bias=k == 0), *norm, nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x * 2 - 1)


def initialise(network: nn.Module) -> None:
    """Weights from N(0, 0.02²), those of batch normalisation from N(1, 0.02²) (section 4)."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
