"""Selective detail decoding: the whole system but its discriminator.

Akutsu, Suzuki, Zhong, Aizawa: Ultra Low Bitrate Learned Image Compression by Selective Detail Decoding, CLIC 2020::

                      ┌── H_e ─ Q ─> ẑ_h ── entropy estimator H ──> bits
    x ── E ─ gain ─ z ┤                          │
                      └── Q ──> ẑ ───────────────┘
                                └─ gain⁻¹ ─┬─ G_m ──> x̂_m ──────────────── D (with t_s, in training)
                                           └─ G_s ──> x̂_s, m
                                x̂ = x̂_s ⊙ m + x̂_m ⊙ (1 − m)                        (equation 1)

Where we deviate: the gain units (several rates from one network; one level is the paper) and the entropy
estimator's block structure (`lightning_modules.entropy.context`). Around a pretrained auto-encoder G_s is given
G_m's features and corrects x̂_m (`networks.DetailCorrection`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from genic.lightning_modules.entropy.hyperprior import EntropyEstimator, Rate
from genic.lightning_modules.layers.gain_units import GainUnits
from genic.lightning_modules.layers.pretrained import PretrainedDecoder, PretrainedEncoder
from genic.lightning_modules.layers.rounding import noisy, rounded
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from genic.lightning_modules.selective_detail.networks import (
    DetailCorrection,
    HyperEncoder,
    decoder,
    encoder,
)


class Reconstruction(NamedTuple):
    """What the decoders give, all [B, ·, H, W], x̂ values about [0, 1] and not yet clamped.

    Attributes:
        x_hat: equation 1. x_hat_m: main decoder. x_hat_s: detail decoder. m: mask, [B, 1, H, W] in (0, 1).
        y: what the decoders are given, gain⁻¹(ẑ), [B, latents, H/16, W/16].
    """

    x_hat: Tensor
    x_hat_m: Tensor
    x_hat_s: Tensor
    m: Tensor
    y: Tensor

    def at(self, detail: float) -> Tensor:
        """x̂ with another mask, clamping aside: detail·m up to 1, from there to ones at 2."""
        m = detail * self.m if detail <= 1 else self.m + (detail - 1) * (1 - self.m)
        return self.x_hat if detail == 1 else self.x_hat_s * m + self.x_hat_m * (1 - m)


class Output(NamedTuple):
    """A pass through the whole system: pictures and estimated bits."""

    picture: Reconstruction
    rate: Rate


class System(nn.Module):
    """Everything but the discriminator: what a file's encoder and decoder consist of."""

    def __init__(self, config: SelectiveDetailModel) -> None:
        super().__init__()
        pretrained = config.transform == "pretrained"
        self.E = PretrainedEncoder(config.latents, config.analysis_blocks) if pretrained else encoder(config)
        self.gain = GainUnits(config.levels, config.latents)
        self.H_e = HyperEncoder(config)
        self.H = EntropyEstimator(config)
        self.G_m = (
            PretrainedDecoder(config.latents, config.synthesis, config.synthesis_blocks, config.light_decoder)
            if pretrained
            else decoder(config.latents, config.G_m, config.G_m_blocks)
        )
        self.G_s: nn.Module | None = None
        if config.detail_decoder:
            self.G_s = (
                DetailCorrection(config.correction)
                if pretrained
                else decoder(config.latents, config.G_s, config.G_s_blocks)
            )

    def latents(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 3, H, W] in [0, 1], sides multiples of 16; level [B] -> z and z_h before rounding."""
        z = self.gain(self.E(x - 0.5).float(), level)
        return z, self.H_e(z).float()

    def reconstruct(self, z_hat: Tensor, level: Tensor, detail: bool = True) -> Reconstruction:
        """ẑ [B, latents, H/16, W/16] -> pictures; without ``detail`` x̂ = x̂_m."""
        y = self.gain.inverse(z_hat, level)
        if self.G_s is None or not detail:
            x_hat_m = self.G_m(y).float() + 0.5
            return Reconstruction(x_hat_m, x_hat_m, x_hat_m, torch.zeros_like(x_hat_m[:, :1]), y)
        if isinstance(self.G_m, PretrainedDecoder):
            *features, x_hat_m = self.G_m.pixels.stages(self.G_m.unfolded(y))
            x_hat_m, out = x_hat_m.float(), self.G_s(features).float()
            # What makes x̂_s faithful is not to make x̂_m so.
            x_hat_s = out[:, :3] + x_hat_m.detach()
        else:
            x_hat_m, out = self.G_m(y).float() + 0.5, self.G_s(y).float()
            x_hat_s = out[:, :3] + 0.5
        m = torch.sigmoid(out[:, 3:])
        return Reconstruction(x_hat_s * m + x_hat_m * (1 - m), x_hat_m, x_hat_s, m, y)

    def detail_from_main(self) -> dict[str, Tensor]:
        """A state of G_s that copies G_m where their widths agree, with the mask at ½.

        In the last body G_s has channels beyond G_m's, those of the mask: there the copy is filled up with zeros.
        """
        assert isinstance(self.G_m, nn.Sequential) and self.G_s is not None, "of the published transforms"
        source, own = self.G_m.state_dict(), self.G_s.state_dict()
        last = f"{len(self.G_m) - 1}."
        for name, t in source.items():
            if own[name].shape == t.shape:
                own[name] = t.clone()
            elif name.startswith(last) and all(n <= m for n, m in zip(t.shape, own[name].shape, strict=True)):
                own[name] = torch.zeros_like(own[name])
                own[name][tuple(slice(n) for n in t.shape)] = t
        return own

    def forward(self, x: Tensor, level: Tensor, detail: bool = True) -> Output:
        """Training: likelihoods of noisy latents, contexts and pictures from rounded ones (straight-through)."""
        z, z_h = self.latents(x, level)
        z_hat, z_h_hat = rounded(z), rounded(z_h)
        z_tilde, z_h_tilde = (noisy(z), noisy(z_h)) if self.training else (z_hat, z_h_hat)
        # Contexts steer every later symbol: they are estimated in float32, near the exact arithmetic of coding.
        with torch.autocast(x.device.type, enabled=False):
            rate = self.H(z_tilde, z_hat, z_h_tilde, z_h_hat, level)
        return Output(self.reconstruct(z_hat, level, detail), rate)
