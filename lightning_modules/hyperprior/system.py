"""Joint autoregressive and hierarchical priors: everything that a file's encoder and decoder consist of.

Minnen, Ballé, Toderici: Joint Autoregressive and Hierarchical Priors for Learned Image Compression, NeurIPS 2018
(arXiv 1809.02736), figure 1 and table 1::

                        ┌── h_a ── Q ──> ẑ ── density a channel ──> bits
    x ── g_a ── gain ── y                │
                        │               h_s ──> ψ ──┐
                        └── Q ──> ŷ ── masked 5×5 ──┴─ entropy parameters ──> μ, σ ──> bits
                                  └─ gain⁻¹ ── g_s ──> x̂

Where we deviate: the gain units (several rates from one network; one level is the paper). What a decoder computes of
symbols is exact (`lightning_modules.entropy.grid`): so h_s and the entropy parameters have ReLU for leaky ReLU, and ẑ
has a Gaussian a channel for the non-parametric density. Positions are decoded by diagonals, which changes no
probability. In training the paper adds noise everywhere; here likelihoods are of noisy values, while g_s, h_s and
contexts see rounded ones with the identity's gradient (Minnen and Singh 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.entropy.context import MaskedContext
from genic.lightning_modules.entropy.hyperprior import ChannelPrior, EntropyModel, Rate
from genic.lightning_modules.entropy.layers import GridConv3x3, GridDeconv5x5
from genic.lightning_modules.hyperprior.config import HyperpriorModel
from genic.lightning_modules.layers.gain_units import GainUnits
from genic.lightning_modules.layers.gdn import GDN
from genic.lightning_modules.layers.padding import replicated
from genic.lightning_modules.layers.rounding import noisy, rounded
from genic.lightning_modules.layers.tiling import grid_of, tiled

_MARGIN = 2
"""Positions of ŷ that a result depends on, each way: 2 + 4 + 8 + 16 pixels of g_a, (1 + ½ + ¼ + ⅛)·16 of g_s."""


class Output(NamedTuple):
    """x̂ [B, 3, H, W], about [0, 1] and not clamped, and the estimated rate."""

    picture: Tensor
    rate: Rate


def analysis(widths: Sequence[int]) -> nn.Sequential:
    """g_a: x [B, 3, H, W] -> y [B, M, H/16, W/16]."""
    *bodies, last = pairwise(widths)
    layers = [layer for a, b in bodies for layer in (nn.Conv2d(a, b, 5, 2, 2), GDN(b))]
    return nn.Sequential(*layers, _widened(nn.Conv2d(*last, 5, 2, 2)))


def synthesis(widths: Sequence[int]) -> nn.Sequential:
    """g_s: ŷ [B, M, H/16, W/16] -> [B, 3, H, W]."""
    *bodies, last = pairwise(widths)
    layers = [layer for a, b in bodies for layer in (_doubling(a, b), GDN(b, inverse=True))]
    return nn.Sequential(*layers, _doubling(*last))


class HyperAnalysis(nn.Sequential):
    """h_a: y [B, M, H, W] -> z [B, N, ⌈H/4⌉, ⌈W/4⌉]; sides are padded to multiples of 4 by replication."""

    def __init__(self, widths: Sequence[int]) -> None:
        a, b, c, d = widths
        first = nn.Conv2d(a, b, 3, 1, 1), nn.LeakyReLU()
        second = nn.Conv2d(b, c, 5, 2, 2), nn.LeakyReLU()
        super().__init__(*first, *second, _widened(nn.Conv2d(c, d, 5, 2, 2)))

    def forward(self, y: Tensor) -> Tensor:
        h, w = y.shape[2:]
        return super().forward(replicated(y, -h % 4, -w % 4))


class HyperSynthesis(nn.Module):
    """h_s: ẑ [B, ⌈height/4⌉, ⌈width/4⌉, N] -> ψ [B, height, width, 2M]."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = GridDeconv5x5(*widths[:2], gain=2**0.5)
        self.second = GridDeconv5x5(*widths[1:3], gain=2**0.5)
        self.last = GridConv3x3(*widths[2:])

    def forward(self, z_hat: Tensor, height: int, width: int) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(z_hat))))
        return self.last(x[:, :height, :width])


class System(nn.Module):
    """g_a, g_s, h_a, and H: h_s, context and entropy parameters."""

    def __init__(self, config: HyperpriorModel) -> None:
        super().__init__()
        c, latents = config, config.g_a[-1]
        self.g_a, self.g_s, self.h_a = analysis(c.g_a), synthesis(c.g_s), HyperAnalysis(c.h_a)
        self.gain = GainUnits(c.levels, latents)
        context = MaskedContext(latents, c.h_s[-1], c.entropy_parameters, c.skew, c.levels)
        self.H = EntropyModel(ChannelPrior(c.h_a[-1], c.levels), HyperSynthesis(c.h_s), context)

    def latents(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 3, H, W] in [0, 1], sides multiples of 16; level [B] -> y and z before rounding."""
        y = tiled(lambda part: self.g_a(part - 0.5).float(), x, grid_of(x, 16), 16, _MARGIN, up=False)
        y = self.gain(y, level)
        return y, self.h_a(y).float()

    def reconstruct(self, y_hat: Tensor, level: Tensor) -> Tensor:
        """ŷ [B, M, H/16, W/16] -> x̂ [B, 3, H, W], not clamped."""
        y = self.gain.inverse(y_hat, level)
        return tiled(lambda part: self.g_s(part).float() + 0.5, y, grid_of(y), 16, _MARGIN, up=True)

    def forward(self, x: Tensor, level: Tensor) -> Output:
        """Training: likelihoods of noisy latents, contexts and pictures from rounded ones (straight-through)."""
        y, z = self.latents(x, level)
        y_hat, z_hat = rounded(y), rounded(z)
        y_tilde, z_tilde = (noisy(y), noisy(z)) if self.training else (y_hat, z_hat)
        # Contexts steer every later symbol: they are estimated in float32, near the exact arithmetic of coding.
        with torch.autocast(x.device.type, enabled=False):
            rate = self.H(y_tilde, y_hat, z_tilde, z_hat, level)
        return Output(self.reconstruct(y_hat, level), rate)


def _doubling(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 5, 2, 2, output_padding=1)


def _widened(last: nn.Conv2d) -> nn.Conv2d:
    """With the default initialisation nearly all latents would round to zero; they start with a deviation about 1."""
    last.weight.data.mul_(24)
    return last
