"""DCGAN (Radford, Metz and Chintala 2016) at 128×128, as published, and its pictures of any size."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.gan_reversal.config import GanReversalModel, GanReversalTraining


class DcganGenerator(nn.Module):
    """G: a vector z [B, latents, 1, 1] -> a patch; a grid of them -> overlapping patches, blended.

    4×4 transposed convolutions of stride 2 with batch normalisation and ReLU from a 4×4 map on, then tanh. A picture
    larger than a patch is a grid of patches, each with a latent of its own, that share ``overlap`` pixels; there
    their weights rise and fall linearly. The paper treats 128×128 only.
    """

    ramp: Tensor
    weight: Tensor

    def __init__(self, config: GanReversalModel) -> None:
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
        self.side, self.stride = config.patch, config.stride
        self.reach = 1
        ramp = torch.arange(1, config.overlap + 1) / (config.overlap + 1)
        self.register_buffer("ramp", ramp, persistent=False)
        weight = torch.cat((ramp, torch.ones(self.side - 2 * config.overlap), ramp.flip(0)))
        self.register_buffer("weight", weight[:, None] * weight, persistent=False)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Size of the grid of patches that covers a picture."""
        rows, columns = (1 + max(0, -(-(side - self.side) // self.stride)) for side in (height, width))
        return rows, columns

    def forward(self, z: Tensor) -> Tensor:
        """[B, latents, h, w] -> [B, 3, (h − 1)·stride + side, (w − 1)·stride + side], in [0, 1]."""
        b, _, h, w = z.shape
        if h == w == 1:
            return self._patches(z)
        height, width = self.span(h), self.span(w)
        picture = z.new_zeros(b, 3, height, width, dtype=torch.float32)
        # A row of patches at a time, which bounds the memory.
        for row in range(h):
            patches = self._patches(z[:, :, row].transpose(1, 2).flatten(0, 1)[..., None, None])
            columns = (patches * self.weight).float().reshape(b, w, -1).transpose(1, 2)
            band = F.fold(columns, (self.side, width), self.side, stride=self.stride)
            top = row * self.stride
            picture[:, :, top : top + self.side] += band
        return picture / self._total(height)[:, None] / self._total(width)

    def span(self, cells: int) -> int:
        """Pixels that a row of patches covers."""
        return (cells - 1) * self.stride + self.side

    def _patches(self, z: Tensor) -> Tensor:
        """[N, latents, 1, 1] -> [N, 3, side, side]."""
        return self.layers(z) * 0.5 + 0.5

    def _total(self, length: int) -> Tensor:
        """Sum of the patches' weights along a side: 1 but for the picture's border."""
        total = torch.ones(length, device=self.ramp.device)
        total[: len(self.ramp)] = self.ramp
        total[length - len(self.ramp) :] = self.ramp.flip(0)
        return total


class DcganDiscriminator(nn.Module):
    """D: x [B, 3, 128, 128] -> scores [B, 1, 1, 1]; high means real."""

    def __init__(self, config: GanReversalTraining) -> None:
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
