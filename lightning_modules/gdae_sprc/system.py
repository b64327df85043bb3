"""GDAE: everything that a file's encoder and decoder consist of, but the residual.

Reconstructed from the slides 'Adaptive Image Compression Method Using GAN based Semantic-Perceptual Residual
Compensation' (Wang, Waseda University), the only source::

                                   ┌─ JPEG XL, or H with H_e ──> bits (exact)
    x ── E ── gain ── z ── Q ── index
                                   └─> ẑ ── gain⁻¹ ── G ──> x̂ ─────── D (training)
                                                             x − x̂ ── SPRC ──> bits (`residual`, `grad_cam`)
                                               x̂ + what SPRC decodes ── R ──> picture, where that is nearer to x

Published: an auto-encoder with dense connections, soft quantisation, lossless coding of the quantised latents (FLIF),
a discriminator on x̂, the three losses, the residual coded by BPG with a quality that follows a Grad-CAM heat map
linearly. Ours: all sizes (`config`), the wiring of the connections (`networks`), the entropy model, the gain units, the
rate term, the residual's mapping to pixels, the choice between latents and residual, and the restoration R.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genic.lightning_modules.entropy.hyperprior import EntropyEstimator, Rate
from genic.lightning_modules.gdae_sprc.config import GdaeSprcModel
from genic.lightning_modules.gdae_sprc.klt_initialisation import initialise_gains, initialise_with_klt
from genic.lightning_modules.gdae_sprc.networks import (
    MARGIN,
    DenseDecoder,
    DenseEncoder,
    HyperEncoder,
    Restoration,
)
from genic.lightning_modules.layers.gain_units import GainUnits
from genic.lightning_modules.layers.rounding import noisy, rounded, scale_gradient, symbols
from genic.lightning_modules.layers.soft_quantiser import SoftToHardQuantiser
from genic.lightning_modules.layers.tiling import grid_of, tiled


class Output(NamedTuple):
    """A pass through the whole system: x̂ [B, 3, H, W], about [0, 1] and not clamped, and the estimated rate."""

    picture: Tensor
    rate: Rate


class System(nn.Module):
    """E, Q, G, the entropy model H with its encoder H_e, and R or None."""

    def __init__(self, config: GdaeSprcModel) -> None:
        super().__init__()
        self.stride = config.stride
        self.E = DenseEncoder(config)
        self.gain = GainUnits(config.levels, config.latents)
        self.Q = SoftToHardQuantiser(config.centres)
        self.G = DenseDecoder(config)
        if config.G[::-1] == config.E:
            initialise_with_klt(self.E, self.G, config.latents)
            initialise_gains(self.gain)
        self.H_e = HyperEncoder(config)
        self.H = EntropyEstimator(config)
        self.R = Restoration(config.R, config.R_blocks) if config.R else None

    def latents(self, x: Tensor, level: Tensor) -> Tensor:
        """x [B, 3, H, W] in [0, 1], sides multiples of the stride; level [B] -> z [B, latents, ·, ·] before Q."""
        z = tiled(
            lambda part: self.E(part - 0.5).float(), x, grid_of(x, self.stride), self.stride, MARGIN, up=False
        )
        return self.gain(z, level)

    def hyper_latents(self, index: Tensor) -> Tensor:
        """ẑ_h of whole-numbered indices, as a file carries it."""
        return symbols(self.H_e(index).float())

    def reconstruct(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """ẑ -> x̂ [B, 3, H, W], not clamped."""
        y = self.gain.inverse(z_hat, level)
        return tiled(lambda part: self.G(part).float() + 0.5, y, grid_of(y), self.stride, MARGIN, up=True)

    def forward(self, x: Tensor, level: Tensor, sigma: float, rate_weight: Tensor | float) -> Output:
        """Training: hard latents with soft gradients, and the likelihood of the indices.

        Args:
            sigma: of the soft assignment.
            rate_weight: [B]; the estimated rate's gradient reaches the encoder multiplied by this, the entropy model
                as it is. So one loss trains both, and with 0 the encoder knows nothing of the rate, as published.
        """
        quantised = self.Q(self.latents(x, level), sigma)
        x_hat = self.reconstruct(quantised.z_hat, level)
        # Contexts steer every later symbol: they are estimated in float32, near the exact arithmetic of coding.
        with torch.autocast(x.device.type, enabled=False):
            soft = scale_gradient(quantised.soft_index, rate_weight)
            index = quantised.index.detach()
            z_h = self.H_e(soft + (index - soft).detach())
            z_h_hat = rounded(z_h)
            likely, likely_h = (noisy(soft), noisy(z_h)) if self.training else (index, z_h_hat)
            rate = self.H(likely, index, likely_h, z_h_hat, level)
        return Output(x_hat, rate)
