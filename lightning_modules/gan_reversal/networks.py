"""The stronger small networks: residual generator with a spatial latent, its encoder, discriminator."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.gan_reversal.config import GanReversalModel


class ResidualBlock(nn.Module):
    """Leaky ReLU, 3×3, leaky ReLU, 3×3, skip; [B, C, h, w] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.second.weight.data.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.2)), 0.2))


class ResidualGenerator(nn.Module):
    """G: z [B, latents, h, w] -> x̂ [B, 3, s·h, s·w], about [0, 1]; s = 2^len(widths).

    No normalisation, so that a picture depends neither on the batch nor on what lies beyond `reach`; neighbouring
    latents are seen by the same convolutions, so there are no seams.
    """

    def __init__(self, config: GanReversalModel) -> None:
        super().__init__()
        widths = [*config.widths, 3]
        layers: list[nn.Module] = [nn.Conv2d(config.latents, widths[0], 3, padding=1)]
        for width, after, blocks in zip(widths[:-1], widths[1:], config.blocks, strict=True):
            layers += [ResidualBlock(width) for _ in range(blocks)]
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(width, 4 * after, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = nn.Sequential(*layers)
        self.stride = config.stride
        # Each convolution reaches one position of its own resolution.
        levels = enumerate(config.blocks)
        self.reach = 1 + sum(-(-(2 * blocks + 1) // 2**level) for level, blocks in levels)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Size of the latent grid that covers a picture."""
        return -(-height // self.stride), -(-width // self.stride)

    def span(self, cells: int) -> int:
        """Pixels that a row of cells covers."""
        return cells * self.stride

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z) * 0.5 + 0.5


class Encoder(nn.Module):
    """E: x [B, 3, s·h, s·w] in [0, 1] -> z [B, latents, h, w]; the residual generator in reverse."""

    def __init__(self, config: GanReversalModel) -> None:
        super().__init__()
        widths = [3, *reversed(config.widths)]
        layers: list[nn.Module] = []
        for before, width, blocks in zip(widths[:-1], widths[1:], reversed(config.blocks), strict=True):
            layers += [nn.PixelUnshuffle(2), nn.Conv2d(4 * before, width, 3, padding=1)]
            layers += [ResidualBlock(width) for _ in range(blocks)]
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], config.latents, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x * 2 - 1)
