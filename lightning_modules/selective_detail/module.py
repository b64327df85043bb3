"""Selective detail decoding: the system and one training step.

Akutsu, Suzuki, Zhong, Aizawa: Ultra Low Bitrate Learned Image Compression by Selective Detail Decoding, CLIC 2020::

                      ┌── H_e ─ Q ─> ẑ_h ── entropy estimator H ──> bits
    x ── E ─ gain ─ z ┤                          │
                      └── Q ──> ẑ ───────────────┘
                                └─ gain⁻¹ ─┬─ G_m ──> x̂_m ──────────────── D (with t_s, in training)
                                           └─ G_s ──> x̂_s, m
                                x̂ = x̂_s ⊙ m + x̂_m ⊙ (1 − m)                        (equation 1)

Where we deviate: the gain units (several rates from one network; one level is the paper), the entropy estimator's
block structure (`lightning_modules.entropy.context`), and equation 4's signs, which as printed reward D for calling
real pictures fake: here high scores mean real throughout (`losses.gan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.entropy.hyperprior import EntropyEstimator, Rate
from lightning_modules.selective_detail.config import SelectiveDetailConfig
from lightning_modules.selective_detail.networks import Discriminator, GainUnits, HyperEncoder, decoder, encoder
from losses.gan import softplus_discriminator, softplus_generator
from losses.ssim import ms_ssim, ms_ssim_pair


class Reconstruction(NamedTuple):
    """What the decoders give, all [B, ·, H, W], x̂ values about [0, 1] and not yet clamped.

    Attributes:
        x_hat: equation 1. x_hat_m: main decoder. x_hat_s: detail decoder. m: mask, [B, 1, H, W] in (0, 1).
    """

    x_hat: Tensor
    x_hat_m: Tensor
    x_hat_s: Tensor
    m: Tensor


class Output(NamedTuple):
    """A pass through the whole system: pictures and estimated bits."""

    picture: Reconstruction
    rate: Rate


class System(nn.Module):
    """Everything but the discriminator: what a file's encoder and decoder consist of."""

    def __init__(self, config: SelectiveDetailConfig) -> None:
        super().__init__()
        levels = len(config.lambda_e)
        self.E = encoder(config)
        self.gain = GainUnits(levels, config.latents)
        self.H_e = HyperEncoder(config)
        self.H = EntropyEstimator(
            config.latents,
            (config.hyper, config.hyper, config.hyper, config.psi),
            config.context,
            config.heads,
            config.radius,
            config.skew,
            levels,
        )
        self.G_m = decoder(config.latents, config.G_m, config.G_m_blocks)
        self.G_s = decoder(config.latents, config.G_s, config.G_s_blocks) if config.detail_decoder else None

    def latents(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 3, H, W] in [0, 1], sides multiples of 16; level [B] -> z and z_h before rounding."""
        z = self.gain(self.E(x - 0.5).float(), level)
        return z, self.H_e(z)

    def reconstruct(self, z_hat: Tensor, level: Tensor) -> Reconstruction:
        """ẑ [B, latents, H/16, W/16] -> pictures."""
        y = self.gain.inverse(z_hat, level)
        x_hat_m = self.G_m(y).float() + 0.5
        if self.G_s is None:
            return Reconstruction(x_hat_m, x_hat_m, x_hat_m, torch.zeros_like(x_hat_m[:, :1]))
        out = self.G_s(y).float()
        x_hat_s, m = out[:, :3] + 0.5, torch.sigmoid(out[:, 3:])
        return Reconstruction(x_hat_s * m + x_hat_m * (1 - m), x_hat_m, x_hat_s, m)

    def forward(self, x: Tensor, level: Tensor) -> Output:
        """Training: likelihoods of noisy latents, contexts and pictures from rounded ones (straight-through)."""
        z, z_h = self.latents(x, level)
        z_hat, z_h_hat = _round(z), _round(z_h.float())
        noisy = (t + torch.rand_like(t) - 0.5 if self.training else r for t, r in ((z, z_hat), (z_h.float(), z_h_hat)))
        # Contexts steer every later symbol: they are estimated in float32, near the exact arithmetic of coding.
        with torch.autocast(x.device.type, enabled=False):
            z_tilde, z_h_tilde = noisy
            rate = self.H(z_tilde, z_hat, z_h_tilde, z_h_hat, level)
        return Output(self.reconstruct(z_hat, level), rate)


def _round(x: Tensor) -> Tensor:
    """Round to integers within ±511, with the gradient of the identity."""
    return x + (x.round().clamp(-511, 511) - x).detach()


class SelectiveDetail(CompressionModule):
    """Training of `System` against a conditional discriminator."""

    paper = "selective_detail"

    def __init__(self, config: SelectiveDetailConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config)
        self.D = Discriminator(config) if config.lambda_g > 0 else None
        self.register_buffer("lambda_e", torch.tensor(config.lambda_e), persistent=False)

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        groups = {"generator": (self.system.parameters(), self.config.learning_rate)}
        if self.D is not None:
            groups["discriminator"] = (self.D.parameters(), self.config.learning_rate)
        return groups

    def learning_rate_factor(self, batch: int) -> float:
        """1, then a straight line to ``decay_factor`` between batches ``decay_from`` and ``decay_to``."""
        c = self.config
        done = min(max((batch - c.decay_from) / max(c.decay_to - c.decay_from, 1), 0.0), 1.0)
        return 1.0 + (c.decay_factor - 1.0) * done

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config, batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.rand(len(x), device=x.device) * (len(c.lambda_e) - 1)
        output = self.system(x, level)
        picture = output.picture
        adversarial = self.D is not None and int(self.batches_seen) >= c.adversarial_from

        # Discriminator: real and decoded pictures under the same labels.
        if adversarial:
            t_s = self._semantic(batch)
            loss_d = softplus_discriminator(self.D(x, t_s).float(), self.D(picture.x_hat_m.detach(), t_s).float())
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Encoder, decoders, entropy estimator: equation 5.
        ms_m, wms = self._similarities(x, picture, batch.detail)
        loss_d3 = (1 - ms_m) + c.lambda_p * (1 - wms)  # equation 3
        bpp = (output.rate.latents + output.rate.hyper_latents) / (x.shape[2] * x.shape[3])
        lambda_e = _interpolate(self.lambda_e, level)
        loss = (loss_d3 + lambda_e * bpp).mean()
        if c.mse > 0:
            error = ((picture.x_hat - x) ** 2).mean() + ((picture.x_hat_m - x) ** 2).mean()
            loss = loss + c.mse * error
        if adversarial:
            loss_g = softplus_generator(self.D(picture.x_hat_m, t_s).float())  # equation 4
            loss = loss + c.lambda_g * loss_g
            self.log("loss/generator", loss_g)
        norm = self.update("generator", loss, c.clip)

        pixels = x.shape[2] * x.shape[3]
        self.log_dict(
            {
                "loss/total": loss,
                "loss/ms_ssim_m": (1 - ms_m).mean(),
                "loss/weighted_ms_ssim": (1 - wms).mean(),
                "rate/bpp_estimated": bpp.mean(),
                "rate/bpp_hyper_estimated": output.rate.hyper_latents.mean() / pixels,
                "mask/mean": picture.m.mean(),
                "gradient/generator": norm,
            }
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for level in range(len(self.config.lambda_e)):
            output = self.system(x, torch.full((len(x),), float(level), device=x.device))
            pixels = x.shape[2] * x.shape[3]
            bpp = (output.rate.latents + output.rate.hyper_latents) / pixels
            values = {"bpp_estimated": bpp, "ms_ssim": ms_ssim(x, output.picture.x_hat.clamp(0, 1), floor=0)}
            for name, value in values.items():
                self.log(f"validation/{name}_{level}", value.mean(), batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.full((len(x),), (len(self.config.lambda_e) - 1) / 2, device=x.device)
        picture = self.system(x, level).picture
        shown = {"x": x, "x_hat_m": picture.x_hat_m, "x_hat_s": picture.x_hat_s, "x_hat": picture.x_hat}
        return {k: v.float().clamp(0, 1) for k, v in shown.items()} | {"m": picture.m.float().expand(-1, 3, -1, -1)}

    def export_weights(self) -> dict[str, Tensor]:
        return dict(self.system.state_dict()) | build_tables().state()

    def initialise_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what is there. A detail decoder that the file lacks starts as the main decoder's copy,
        where their widths agree."""
        own = self.system.state_dict()
        if self.system.G_s is not None and not any(name.startswith("G_s.") for name in tensors):
            tensors = dict(tensors) | {f"G_s{name[3:]}": t for name, t in tensors.items() if name.startswith("G_m.")}
        fitting = {name: t.to(own[name].dtype) for name, t in tensors.items() if name in own and t.shape == own[name].shape}
        self.system.load_state_dict(own | fitting)

    def codec(self):  # noqa: ANN201
        from lightning_modules.codec.weights import round_trip
        from lightning_modules.selective_detail.codec import SelectiveDetailCodec

        return SelectiveDetailCodec(*round_trip(self.export_weights(), self.metadata()))

    def _semantic(self, batch: Batch) -> Tensor:
        """t_s; all of class 0 where the data has none, which makes D unconditional."""
        if batch.semantic is not None:
            return batch.semantic
        return batch.image.new_zeros(batch.image[:, 0].shape, dtype=torch.int64)

    def _similarities(self, x: Tensor, picture: Reconstruction, t_a: Tensor | None) -> tuple[Tensor, Tensor]:
        """(MS-SSIM of x̂_m, weighted MS-SSIM of x̂), [B] each."""
        c = self.config
        if t_a is None:
            t_a = torch.zeros_like(x[:, :1])
        if not c.detail_decoder:
            return ms_ssim_pair(x, picture.x_hat, t_a, c.background)
        # One call for both pictures: twice the batch costs less than two calls.
        both, weighted = ms_ssim_pair(
            x.repeat(2, 1, 1, 1), torch.cat((picture.x_hat_m, picture.x_hat)), t_a.repeat(2, 1, 1, 1), c.background
        )
        return both[: len(x)], weighted[len(x) :]


def _interpolate(table: Tensor, level: Tensor) -> Tensor:
    """λ at ``level`` [B], geometrically between whole levels."""
    low = level.floor().clamp(0, len(table) - 1).long()
    high = (low + 1).clamp(max=len(table) - 1)
    return torch.exp(torch.lerp(table[low].log(), table[high].log(), level - low))
