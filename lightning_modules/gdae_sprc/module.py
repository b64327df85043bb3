"""GDAE: one training step. The residual's codec is not trained; see `gdae_sprc.system` for sources and deviations."""

from __future__ import annotations

import torch
from torch import Tensor

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.config import GdaeSprcConfig
from genic.lightning_modules.gdae_sprc.networks import Discriminator
from genic.lightning_modules.gdae_sprc.system import System
from genic.lightning_modules.layers.gain_units import between_levels
from genic.losses.gan import gan_loss
from genic.losses.ssim import ssim


class GdaeSprc(CompressionModule):
    """λ1·MSE + λ2·GAN + λ3·SSIM (slide "Loss function"), pictures in [0, 1].

    The slides' L_SSIM is −SSIM; 1 − SSIM differs by a constant only.
    """

    paper = "gdae_sprc"
    codec_class = GdaeSprcCodec
    system: System
    rate_weight: Tensor

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

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level, D = self.random_level(x), self.D if self.adversarial else None
        rate_weight = between_levels(self.rate_weight, level)
        scale = torch.where(rate_weight > 0, rate_weight, 1.0).sqrt()
        x_hat, rate = self.system(x, level, self.sigma, rate_weight / scale)

        # Discriminator: scores of originals up, of reconstructions down.
        if D is not None:
            loss_d = self.gan_loss.discriminator(D(x).float(), D(x_hat.detach()).float())
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Auto-encoder and entropy model. The rate's weight for the encoder is in its gradient (`System.forward`).
        mse, dissimilarity = (x_hat - x).square().mean((1, 2, 3)), 1 - ssim(x, x_hat)
        bpp = rate.total / x[0, 0].numel()
        # Levels' weights differ a hundredfold; divided by their roots, all levels have about an equal say.
        loss = ((c.mse_weight * mse + c.ssim_weight * dissimilarity) / scale).mean() + bpp.mean()
        if D is not None:
            loss_g = self.gan_loss.generator(D(x_hat).float())
            loss = loss + c.adversarial_weight * loss_g
            self.log("loss/adversarial", loss_g)
        self.update("generator", loss, c.clip)

        self.log_dict(
            {
                "loss/total": loss,
                "loss/mse": mse.mean(),
                "loss/ssim": dissimilarity.mean(),
                "rate/bpp_estimated": bpp.mean(),
            }
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for k in range(self.config.model.levels):
            x_hat, rate = self.system(x, self.same_level(x, k), self.sigma, 0.0)
            self.log_validation(x, x_hat.clamp(0, 1), rate.total, k)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        x_hat, rate = self.system(x, self.same_level(x), self.sigma, 0.0)
        return {"x": x, "x_hat": (x_hat, rate.total), "residual": x - x_hat.clamp(0, 1) + 0.5}
