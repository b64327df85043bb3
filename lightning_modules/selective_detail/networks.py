"""The networks of figure 1: encoder E, decoders G_m and G_s, hyper encoder H_e, discriminator D.

E and G_m are the publication's, or built around a pretrained auto-encoder (`layers.pretrained`), which is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genic.lightning_modules.layers import taef
from genic.lightning_modules.layers.attention_blocks import decoder_body, encoder_body, residual_group
from genic.lightning_modules.layers.padding import replicated
from genic.lightning_modules.layers.patch_discriminator import patch_layers
from genic.lightning_modules.layers.pretrained import zero
from genic.lightning_modules.selective_detail.config import (
    SelectiveDetailConfig,
    SelectiveDetailModel,
    SelectiveDetailTraining,
)


def encoder(config: SelectiveDetailModel) -> nn.Sequential:
    """E: x [B, 3, H, W] in [0, 1] -> z [B, latents, H/16, W/16]."""
    widths = config.E
    bodies = [encoder_body(a, b, n) for a, b, n in zip(widths[:-1], widths[1:], config.E_blocks, strict=True)]
    last = nn.Conv2d(widths[-1], config.latents, 3, padding=1)
    # With the default initialisation nearly all latents would round to zero; they start with a deviation about 1.
    last.weight.data.mul_(24)
    return nn.Sequential(*bodies, last)


def decoder(latents: int, widths: list[int], blocks: list[int]) -> nn.Sequential:
    """G_m or G_s: ẑ [B, latents, H/16, W/16] -> [B, widths[-1], H, W]."""
    bodies = [decoder_body(a, b, n) for a, b, n in zip(widths[:-1], widths[1:], blocks, strict=True)]
    return nn.Sequential(nn.Conv2d(latents, widths[0], 3, padding=1), *bodies)


class DetailCorrection(nn.Module):
    """G_s beside a pretrained G_m: features of G_m -> [B, 4, H, W], what x̂_s has beyond x̂_m, and the mask's logits::

        1/8 ── 3×3 ── blocks ── shuffle ── + ── blocks ── shuffle ── + ── blocks ── 3×3, shuffle ──> [B, 4, H, W]
        1/4 ── 3×3 ────────────────────────┘                         │
        1/2 ── 3×3 ──────────────────────────────────────────────────┘

    Ours: a decoder from ẑ of as many parameters was 3 dB behind in MS-SSIM after 150 batches. At the start x̂_s = x̂_m.

    Args:
        widths: of its layers at 1/8, 1/4 and 1/2.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.beside = nn.ModuleList(nn.Conv2d(taef.WIDTH, width, 3, padding=1) for width in widths)
        self.bodies = nn.ModuleList(residual_group(width, 1) for width in widths)
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in pairwise(widths))
        self.last = zero(nn.Conv2d(widths[-1], 16, 3, padding=1))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """``features``: [B, 64, H/8, W/8], [B, 64, H/4, W/4], [B, 64, H/2, W/2]."""
        own = [layer(x) for layer, x in zip(self.beside, features, strict=True)]
        x = self.bodies[0](F.relu(own[0]))
        for up, beside, body in zip(self.up, own[1:], self.bodies[1:], strict=True):
            x = body(F.relu(beside + F.pixel_shuffle(up(x), 2)))
        return F.pixel_shuffle(self.last(x), 2)


class HyperEncoder(nn.Module):
    """H_e: z [B, latents, H, W] -> z_h [B, hyper, ⌈H/4⌉, ⌈W/4⌉]; sides are padded to multiples of 4 by replication."""

    def __init__(self, config: SelectiveDetailModel) -> None:
        super().__init__()
        self.first = nn.Conv2d(config.latents, config.hyper, 3, padding=1)
        bodies = [encoder_body(config.hyper, config.hyper, config.hyper_blocks) for _ in range(2)]
        self.bodies = nn.Sequential(*bodies)
        last = bodies[-1][-1]
        assert isinstance(last, nn.Conv2d)
        last.weight.data.mul_(8)  # as in `encoder`

    def forward(self, z: Tensor) -> Tensor:
        h, w = z.shape[2:]
        return self.bodies(self.first(replicated(z, -h % 4, -w % 4)))


class Discriminator(nn.Module):
    """D: (x, t_s) -> patch scores [B, 1, H/16, W/16]; high means real.

    Eight input channels: the picture and a 1×1 reduction of the one-hot labels.
    """

    def __init__(self, config: SelectiveDetailTraining) -> None:
        super().__init__()
        self.classes = config.semantic_classes
        self.reduce = nn.Conv2d(self.classes, config.semantic_features, 1)
        widths = config.D
        bodies = [
            encoder_body(a, b, n) for a, b, n in zip(widths[:-1], widths[1:], config.D_blocks, strict=True)
        ]
        self.bodies = nn.Sequential(*bodies, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor, t_s: Tensor) -> Tensor:
        """``t_s``: int64 [B, H, W]; classes beyond the last count as none."""
        known = (t_s >= 0) & (t_s < self.classes)
        one_hot = F.one_hot(t_s.where(known, 0), self.classes) * known[..., None]
        labels = self.reduce(one_hot.permute(0, 3, 1, 2).to(x.dtype))
        return self.bodies(torch.cat((x, labels), 1))


def discriminator(config: SelectiveDetailConfig) -> nn.Module:
    """D as ``train.condition`` says."""
    if config.train.condition == "labels":
        return Discriminator(config.train)
    return LatentDiscriminator(config.model.latents, config.train.D)


class LatentDiscriminator(nn.Module):
    """D given what the file says: (x, ŷ) -> scores [B, 1, H/16, W/16]; high means real.

    Ours, beside the publication's D given labels: as in HiFiC (Mentzer et al. 2020) the condition is the decoded
    latents, so that D asks whether these details can belong to them. Starts with an inverse pixel shuffle.
    """

    def __init__(self, latents: int, widths: list[int]) -> None:
        super().__init__()
        self.fold = 16 // 2 ** (len(widths) - 1)
        inner = patch_layers(3 * self.fold**2, widths[:-1])
        self.picture = nn.Sequential(nn.PixelUnshuffle(self.fold), *inner)
        self.latents = nn.Conv2d(latents, 16, 1)
        self.head = nn.Sequential(
            spectral_norm(nn.Conv2d(widths[-2] + 16, widths[-1], 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x in [0, 1]; ŷ [B, latents, H/16, W/16], the latents behind the inverse gain."""
        return self.head(torch.cat((self.picture(2 * x - 1), self.latents(y).to(x.dtype)), 1))
