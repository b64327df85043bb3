"""Extreme semantic compression: all that a file's encoder and decoder consist of.

'Image Compression with Learning using Generative Adversarial Network' (Mohit, Saxena, Singh), which describes
Agustsson et al., ICCV 2019, generative compression (GC) and selective generative compression (SC)::

    x ── E ── w ── q ──> ŵ ── × heat ──┬── entropy model ──> bits (exact)
                                       └── (c3s1, d) ──┐
    labels where synthesised (SC) ────────────── F ────┼── G ──> x̂ ──┬── D, with the label map if conditional
    noise r (optional) ────────────────────────────────┘             └── losses

With the map's number for "preserved" everywhere SC is GC: one network can serve both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.codec.random_words import random_bytes
from genic.lightning_modules.entropy.context import ContextModel
from genic.lightning_modules.entropy.folded import CENTRES, folded_bits
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel
from genic.lightning_modules.extreme_semantic.maps import heat_of
from genic.lightning_modules.extreme_semantic.networks import (
    AroundEncoder,
    AroundGenerator,
    Encoder,
    Generator,
    downwards,
    one_hot,
)
from genic.lightning_modules.layers.gain_units import GainUnits
from genic.lightning_modules.layers.rounding import scale_gradient
from genic.lightning_modules.layers.soft_quantiser import SoftToHardQuantiser
from genic.lightning_modules.layers.tiling import grid_of, tiled


class Output(NamedTuple):
    """x̂ [B, 3, H, W] about [−1, 1], not clamped; the estimated bits of ŵ, [B]; the heat map, bool [B, h, w]; how often
    each of the L centres was coded, float32 [L]."""

    picture: Tensor
    rate: Tensor
    heat: Tensor
    used: Tensor


class System(nn.Module):
    """E, F, G and the entropy model.

    Attributes:
        classes: number of the map's classes; this number itself stands for "preserved".
    """

    def __init__(self, config: ExtremeSemanticModel) -> None:
        super().__init__()
        self.config, self.classes = config, len(config.classes)
        pretrained = config.transform == "pretrained"
        self.E = AroundEncoder(config) if pretrained else Encoder(config)
        self.gain = GainUnits(config.levels, config.C[-1]) if pretrained else None
        self.Q = SoftToHardQuantiser(len(CENTRES), learned=False)
        norm, channels = config.norm, config.C[-1]
        self.after = (
            nn.Sequential(*downwards(norm, channels, config.after, 3)) if config.after else nn.Identity()
        )
        kernel = 7 if config.map_stride == 1 else 3
        self.F = nn.Sequential(*downwards(norm, self.classes + 1, config.F, kernel)) if config.F else None
        beside = (config.F[-1] if config.F else 0) + config.noise
        coded = (config.after or [channels])[-1]
        self.G = AroundGenerator(config, beside) if pretrained else Generator(config, coded, beside)
        nested, width = config.levels > 1, config.synthesis if pretrained else config.G[0]
        self.level_bias = nn.Parameter(torch.zeros(config.levels, width)) if nested else None
        psi = self.classes + 1 if config.F else 1
        self.H = ContextModel(
            channels, psi, config.context, config.heads, config.radius, config.skew, config.levels
        )

    def latents(self, x: Tensor, level: Tensor) -> Tensor:
        """x [B, 3, H, W] in [−1, 1], sides multiples of the stride -> w before the quantiser, [B, C, h, w], where C is
        the largest; zeros in the channels that ``level`` [B] (which C) leaves out."""
        w = self._tiled(
            self.E, x, grid_of(x, self.config.latent_stride), self.config.latent_stride, 3, up=False
        )
        return (w if self.gain is None else self.gain(w, level.float())) * self._channels(level)

    def wanted(self, level: Tensor, heat: Tensor) -> Tensor:
        """What is coded: bool [B, C, h, w] for ``level`` [B] and ``heat`` bool [B, h, w]."""
        return self._channels(level) & heat[:, None]

    def _channels(self, level: Tensor) -> Tensor:
        counts = torch.tensor(self.config.C, device=level.device)[level]
        channels = torch.arange(self.config.C[-1], device=level.device) < counts[:, None]
        return channels[:, :, None, None]

    def heat(self, labels: Tensor | None, like: Tensor) -> Tensor:
        """The heat map bool [B, h, w] of a file's map; ``like`` is w. Everything is preserved where there is none."""
        if labels is None:
            return torch.ones_like(like[:, 0], dtype=torch.bool)
        return heat_of(labels, self.classes, self.config.latent_stride // self.config.map_stride)

    def psi(self, labels: Tensor | None, like: Tensor) -> Tensor:
        """What the entropy model is told: one-hot labels on ŵ's grid [B, h, w, ψ], or ones without SC."""
        if self.F is None:
            return torch.ones_like(like[:, :1]).permute(0, 2, 3, 1)
        if labels is None:
            grid = torch.full(like[:, 0].shape, self.classes, device=like.device)
        else:
            ratio = self.config.latent_stride // self.config.map_stride
            grid = labels[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
        return one_hot(grid, self.classes + 1).permute(0, 2, 3, 1)

    def reconstruct(
        self, w_hat: Tensor, level: Tensor, labels: Tensor | None, noise: Tensor | None
    ) -> Tensor:
        """x̂ of ŵ [B, C, h, w], zero where not coded.

        Args:
            labels: int64 [B, H/map_stride, W/map_stride], `classes` where preserved; None where all is.
            noise: [B, noise, H/stride, W/stride], or None where the configuration has none.
        """
        y = w_hat if self.gain is None else self.gain.inverse(w_hat, level.float())
        y, features = self.after(y), []
        if self.F is not None:
            if labels is None:
                ratio = self.config.latent_stride // self.config.map_stride
                size = (len(w_hat), *(ratio * n for n in w_hat.shape[2:]))
                labels = torch.full(size, self.classes, device=w_hat.device)
            features.append(self.F(one_hot(labels, self.classes + 1).to(y.dtype)).float())
        if noise is not None:
            features.append(noise)
        bias = None if self.level_bias is None else self.level_bias[level]
        coded, seen = y.shape[1], torch.cat((y.float(), *features), 1)

        def generate(part: Tensor) -> Tensor:
            return self.G(part[:, :coded], part[:, coded:] if features else None, bias).float()

        # First layer, residual blocks, and what follows at finer and finer grids.
        margin = 1 + 2 * self.config.blocks + 3
        return self._tiled(generate, seen, grid_of(seen), self.config.stride, margin, up=True)

    def _tiled(self, network: Callable[[Tensor], Tensor], x: Tensor, *how: Any, up: bool) -> Tensor:
        """`tiled` where nothing in the network takes in the whole picture; a pretrained one does this by itself."""
        whole = self.config.transform == "pretrained" or self.config.norm == "instance"
        return network(x) if whole else tiled(network, x, *how, up=up)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        labels: Tensor | None,
        noise: Tensor | None,
        rate_weight: float | Tensor = 1.0,
        sigma: float = 1.0,
    ) -> Output:
        """Training: hard centres with soft gradients, and the entropy of the centres under the model.

        Args:
            x: [B, 3, H, W] in [−1, 1]. level: int64 [B], which of the configured C.
            labels, noise: see `reconstruct`.
            rate_weight: β, one or [B]; the gradient of the bits reaches the encoder multiplied by this, the entropy
                model as it is. So one loss trains both, and with 0 the encoder knows nothing of the rate.
            sigma: of the soft assignment.
        """
        w = self.latents(x, level)
        heat = self.heat(labels, w)
        wanted = self.wanted(level, heat)
        quantised = self.Q(w, sigma)
        w_hat = quantised.z_hat * wanted
        x_hat = self.reconstruct(w_hat, level, labels, noise)
        # Contexts steer every later symbol: they are estimated in float32, near the exact arithmetic of coding.
        with torch.autocast(x.device.type, enabled=False):
            contexts = w_hat.detach().permute(0, 2, 3, 1)
            mu, s = self.H(contexts, self.psi(labels, w), level.float())
            centre = scale_gradient(quantised.one_hot(), rate_weight)
            bits = (folded_bits(mu, s) * centre.permute(0, 2, 3, 1, 4)).sum(-1)
            bits = (bits * wanted.permute(0, 2, 3, 1)).sum((1, 2, 3))
        index = (quantised.index + self.Q.middle).long().flatten()
        used = torch.zeros(len(self.Q.centres), device=x.device)
        used = used.index_add(0, index, wanted.expand_as(w).flatten().float())
        return Output(x_hat, bits, heat, used)

    def hard(self, w: Tensor, level: Tensor, heat: Tensor) -> Tensor:
        """ŵ as a file carries it: centres where coded, zeros elsewhere."""
        return self.Q.index(w) * self.wanted(level, heat)


def noise_of(seed: int, channels: int, height: int, width: int) -> Tensor | None:
    """r of a seed: [1, channels, height, width], uniform in [−√3, √3] on 256 steps; the same on every machine."""
    if not channels:
        return None
    steps = random_bytes(channels * height * width, seed).reshape(1, channels, height, width)
    return torch.from_numpy((steps.astype(np.float32) - 127.5) * np.float32(3**0.5 / 127.5))


def enlarge(heat: Tensor, stride: int) -> Tensor:
    """A heat map [B, h, w] in pixels, float32 [B, 1, h·stride, w·stride]."""
    return F.interpolate(heat[:, None].float(), scale_factor=float(stride), mode="nearest")
