"""GDAE: one training step. The residual's codec is not trained; see `gdae_sprc.system` for sources and deviations."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from lightning_modules.gdae_sprc.config import GdaeSprcConfig
from lightning_modules.gdae_sprc.networks import Discriminator
from lightning_modules.gdae_sprc.system import System
from losses.gan import gan_loss
from losses.ssim import ssim


class GdaeSprc(CompressionModule):
    """λ1·MSE + λ2·GAN + λ3·SSIM (slide "Loss function"), pictures in [0, 1].

    The slides' L_SSIM is −SSIM; 1 − SSIM differs by a constant only.
    """

    paper = "gdae_sprc"

    def __init__(self, config: GdaeSprcConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.D = Discriminator(config.train.D) if config.train.adversarial_weight > 0 else None
        self.gan_loss = gan_loss(config.train.gan_loss)
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    @property
    def sigma(self) -> float:
        """Of the soft assignment, at this batch."""
        c = self.config.train
        done = min(self.batches_seen / c.anneal_batches, 1.0)
        return c.sigma + (c.sigma_to - c.sigma) * done

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        rate = self.config.train.learning_rate
        groups = {"generator": (self.system.parameters(), rate)}
        if self.D is not None:
            groups["discriminator"] = (self.D.parameters(), rate)
        return groups

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.rand(len(x), device=x.device) * (self.config.model.levels - 1)
        adversarial = self.D is not None and self.batches_seen >= c.adversarial_from
        rate_weight = self._rate_weight(level)
        scale = torch.where(rate_weight > 0, rate_weight, 1.0).sqrt()
        x_hat, rate = self.system(x, level, self.sigma, rate_weight / scale)

        # Discriminator: scores of originals up, of reconstructions down.
        if adversarial:
            loss_d = self.gan_loss.discriminator(self.D(x).float(), self.D(x_hat.detach()).float())
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Auto-encoder and entropy model. The rate's weight for the encoder is in its gradient (`System.forward`).
        mse, dissimilarity = (x_hat - x).square().mean((1, 2, 3)), 1 - ssim(x, x_hat)
        bpp = (rate.latents + rate.hyper_latents) / (x.shape[2] * x.shape[3])
        # Levels' weights differ a hundredfold; divided by their roots, all levels have about an equal say.
        loss = ((c.mse_weight * mse + c.ssim_weight * dissimilarity) / scale).mean() + bpp.mean()
        if adversarial:
            loss_g = self.gan_loss.generator(self.D(x_hat).float())
            loss = loss + c.adversarial_weight * loss_g
            self.log("loss/adversarial", loss_g)
        norm = self.update("generator", loss, c.clip)

        self.log_dict(
            {
                "loss/total": loss,
                "loss/mse": mse.mean(),
                "loss/ssim": dissimilarity.mean(),
                "rate/bpp_estimated": bpp.mean(),
                "gradient/generator": norm,
            }
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for k in range(self.config.model.levels):
            level = torch.full((len(x),), float(k), device=x.device)
            x_hat, rate = self.system(x, level, self.sigma, 0.0)
            bpp = (rate.latents + rate.hyper_latents) / (x.shape[2] * x.shape[3])
            psnr = -10 * torch.log10((x_hat.clamp(0, 1) - x).square().mean((1, 2, 3)))
            for name, value in {"bpp_estimated": bpp, "psnr": psnr}.items():
                self.log(f"validation/{name}_{k}", value.mean(), batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.full((len(x),), (self.config.model.levels - 1) / 2, device=x.device)
        x_hat = self.system(x, level, self.sigma, 0.0).picture.float().clamp(0, 1)
        return {"x": x, "x_hat": x_hat, "residual": (x - x_hat + 0.5).clamp(0, 1)}

    def export_weights(self) -> dict[str, Tensor]:
        return dict(self.system.state_dict()) | build_tables().state()

    def codec(self) -> GdaeSprcCodec:
        return GdaeSprcCodec(as_stored(self.export_weights()), self.metadata())

    def _rate_weight(self, level: Tensor) -> Tensor:
        """The weight [B] at ``level`` [B]: geometric between whole levels, as the gains are; linear where one is 0."""
        low = level.floor().long().clamp(0, len(self.rate_weight) - 1)
        high = (low + 1).clamp(max=len(self.rate_weight) - 1)
        a, b, fraction = self.rate_weight[low], self.rate_weight[high], level - low
        geometric = torch.exp(torch.lerp(a.clamp_min(1e-30).log(), b.clamp_min(1e-30).log(), fraction))
        return torch.where((a > 0) & (b > 0), geometric, torch.lerp(a, b, fraction))
