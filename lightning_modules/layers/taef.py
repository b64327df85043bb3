"""A small pretrained auto-encoder of photographs: TAEF2 (madebyollin/taesd, MIT), and a lighter end for its decoder.

::

    x [B, 3, H, W] in [0, 1] ── Encoder ──> u [B, 32, H/8, W/8] ── Decoder ──> x̂, linear, about [0, 1]

Trained adversarially by others on much data as a stand-in for a large latent-diffusion auto-encoder. A layer's name is
its position in their sequence, so that their files load as they are; u has a deviation of about 0.84.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn

from genic.lightning_modules.layers.tiling import grid_of, tiled

CHANNELS = 32
STRIDE = 8
TAIL = 16
"""Number of the decoder's first layer that is another in a light decoder."""
WIDTH = 64
"""Channels of all inner layers."""
_STAGES = (6, 11, 16)
"""Numbers of the decoder's layers that make its features at 1/8, 1/4 and 1/2 of the sides."""
_POOLED = 11, 6
"""The first layers of encoder and decoder behind which, or before which, norms take in the whole picture."""
_MARGIN = 10
"""Positions of u that a result of the encoder's layers before that, or the decoder's behind, depends on, each way:
4 + 1 + 18 + 2 + 36 + 4 pixels, and 40 + 20 + 8."""


class Block(nn.Module):
    """ReLU(x + 3×3(ReLU(3×3(ReLU(3×3(x)))))), 64 channels.

    With ``pool`` x is first added to W₂·ReLU(GroupNorm₄(W₁·x)), 1×1 to 256 channels and back: the norm's statistics are
    those of the whole picture.
    """

    def __init__(self, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(inplace=True), _conv(), nn.ReLU(inplace=True), _conv())
        self.pool = (
            nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * WIDTH),
                nn.ReLU(inplace=True),
                nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
            )
            if pool
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, 64, H, W] -> the same."""
        if self.pool is not None:
            x = x + self.pool(x)
        return nn.functional.relu(x + self.conv(x))


class SoftClamp(nn.Module):
    """3·tanh(x/3): bounds what the decoder is given."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * nn.functional.tanh(x / 3)


class Encoder(nn.Sequential):
    """x [B, 3, H, W] in [0, 1], sides multiples of 8 -> u [B, 32, H/8, W/8]."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [_conv(3), Block()]
        for stage in range(3):
            down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)
            layers += [down, *(Block(pool=stage == 2) for _ in range(3))]
        super().__init__(*layers, nn.Conv2d(WIDTH, CHANNELS, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        layers = list(self)
        head, rest = partial(_through, layers[: _POOLED[0]]), layers[_POOLED[0] :]
        return _through(rest, tiled(head, x, grid_of(x, STRIDE), STRIDE, _MARGIN, up=False))


class Decoder(nn.Sequential):
    """u [B, 32, H/8, W/8] -> x̂ [B, 3, H, W], not clamped.

    Args:
        light: the layers at full resolution, 150 of 265 thousand multiplications a pixel, are replaced by a block at
            half resolution, a convolution to 12 channels and a pixel shuffle: 30 thousand (not TAEF2's weights).
    """

    def __init__(self, light: bool = False) -> None:
        layers: list[nn.Module] = [SoftClamp(), _conv(CHANNELS), nn.ReLU(inplace=True)]
        for stage in range(3):
            layers += [*(Block(pool=stage == 0) for _ in range(3))]
            if stage < 2:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
        if light:
            layers += [Block(), nn.Conv2d(WIDTH, 12, 3, padding=1), nn.PixelShuffle(2)]
        else:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
            layers += [Block(), nn.Conv2d(WIDTH, 3, 3, padding=1)]
        super().__init__(*layers)

    def forward(self, u: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        layers = list(self)
        y, tail = _through(layers[: _POOLED[1]], u), partial(_through, layers[_POOLED[1] :])
        return tiled(tail, y, grid_of(y), STRIDE, _MARGIN, up=True)

    def stages(self, u: Tensor) -> Iterator[Tensor]:
        """u -> features [B, 64, H/8, W/8], [B, 64, H/4, W/4], [B, 64, H/2, W/2], and x̂."""
        for number, layer in enumerate(self, start=1):
            u = layer(u)
            if number in (*_STAGES, len(self)):
                yield u


def _through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _conv(in_channels: int = WIDTH) -> nn.Conv2d:
    return nn.Conv2d(in_channels, WIDTH, 3, padding=1)
