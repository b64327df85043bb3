"""GAN reversal: one training step.

The paper trains a GAN on related pictures and nothing else. With ``model.encoder`` an encoder E is trained beside the
generator, and the generator also on the pictures of E's z, quantised as in a file: unseen pictures then have a latent
that the generator serves, and the search starts near it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.gan_reversal.augment import augment
from genic.lightning_modules.gan_reversal.codec import GanReversalCodec
from genic.lightning_modules.gan_reversal.config import GanReversalConfig
from genic.lightning_modules.gan_reversal.dcgan import DcganDiscriminator
from genic.lightning_modules.gan_reversal.prior import INDEX_PER_NEPER
from genic.lightning_modules.gan_reversal.system import System
from genic.lightning_modules.layers.patch_discriminator import PatchDiscriminator
from genic.losses.gan import r1_penalty, softplus_discriminator, softplus_generator
from genic.losses.ssim import ssim


class GanReversal(CompressionModule):
    """Training of `System` against a discriminator, which is discarded."""

    paper = "gan_reversal"
    codec_class = GanReversalCodec
    system: System

    def __init__(self, config: GanReversalConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        train = config.train
        self.system = System(config.model)
        self.system.prior.requires_grad_(train.rate_weight > 0)
        self.D = None
        if train.adversarial_weight > 0:
            dcgan = config.model.generator == "dcgan"
            self.D = DcganDiscriminator(train) if dcgan else PatchDiscriminator(train.D)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimisers = super().configure_optimizers()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["betas"] = (self.config.train.beta1, 0.999)
        return optimisers

    def networks(self) -> list[nn.Module]:
        every = (self.system.G, self.system.E, self.system.prior, self.D)
        return [n for n in every if n is not None and any(p.requires_grad for p in n.parameters())]

    def differentiated_twice(self) -> list[nn.Module]:
        return [self.D] if self.D is not None and self.config.train.r1_weight > 0 else []

    def loss_step(self, batch: Batch) -> None:
        c, x, clock = self.config.train, batch.image, self.batches_seen
        D = self.D if self.adversarial else None
        drawn = None if D is None else self._drawn(x)

        # Discriminator: real pictures and pictures of latents from the prior.
        if D is not None and drawn is not None:
            loss_d = softplus_discriminator(D(self._view(x)), D(self._view(drawn.detach())))
            if c.r1_weight > 0 and clock % c.r1_every == 0:
                loss_d = loss_d + 0.5 * c.r1_weight * c.r1_every * self._r1(D, x)
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Generator, and with it E and the prior's quantiser.
        loss = x.new_zeros(())
        if D is not None and drawn is not None:
            loss_g = softplus_generator(D(self._view(drawn)))
            loss = loss + c.adversarial_weight * loss_g
            self.log("loss/adversarial", loss_g)
        if self.system.E is not None:
            loss = loss + self._encoder_loss(x)
        if loss.requires_grad:
            self.update("generator", loss, c.clip)
        self.log("loss/total", loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """With E: SSIM and estimated rate of its z. Without: how the generator's draws score."""
        x = batch.image
        if self.system.E is not None:
            x_hat, rate = self.system(x, x.new_zeros(len(x)))
            x_hat = x_hat.clamp(0, 1)
            # One level: the quantiser as trained, without a shift.
            self.log_validation(x, x_hat, rate, 0, ssim=ssim(x, x_hat))
        elif self.D is not None:
            score = self.D(self._drawn(x)).float().mean()
            self.log("validation/score_drawn", score, batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = batch.image
        shown: dict[str, Shown] = {"x": x, "drawn": self._drawn(x)}
        if self.system.E is not None:
            shown["x_hat"] = tuple(self.system(x, x.new_zeros(len(x))))
        return shown

    def export_weights(self) -> dict[str, Tensor]:
        return self.system.exported() | build_tables().state()

    def initialise_from(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[int, int]:
        if "prior.index" in tensors:
            tensors = dict(tensors) | {"prior.offset": self.system.prior.offset_of(tensors["prior.index"])}
        return super().initialise_from(tensors, metadata)

    def _encoder_loss(self, x: Tensor) -> Tensor:
        """ssim_weight·(1 − SSIM) + mse_weight·MSE + rate_weight·bpp of E's z under quantisers of random shift."""
        c = self.config.train
        shift = (2 * torch.rand(len(x), device=x.device) - 1) * c.shift_range
        x_hat, rate = self.system(x, shift)
        dissimilarity, error = 1 - ssim(x, x_hat), (x - x_hat).square().mean((1, 2, 3))
        bpp = rate / x[0, 0].numel()
        # A finer quantiser is for a higher rate, where a bit buys less.
        rate_weight = c.rate_weight * torch.exp(-shift / INDEX_PER_NEPER)
        self.log_dict(
            {"loss/ssim": dissimilarity.mean(), "loss/mse": error.mean(), "rate/bpp_estimated": bpp.mean()}
        )
        return (c.ssim_weight * dissimilarity + c.mse_weight * error + rate_weight * bpp).mean()

    def _drawn(self, x: Tensor) -> Tensor:
        """As many pictures of the prior as ``x`` has, of its size."""
        G = self.system.G
        z = torch.randn(len(x), self.config.model.latents, *G.grid(*x.shape[2:]), device=x.device)
        return G(z)[..., : x.shape[2], : x.shape[3]].float()

    def _view(self, x: Tensor) -> Tensor:
        """What D sees of pictures."""
        return augment(x) if self.config.train.augment else x

    def _r1(self, D: nn.Module, x: Tensor) -> Tensor:
        # Differentiated twice, so in float32.
        with torch.autocast(x.device.type, enabled=False):
            real = x.detach().float().requires_grad_()
            return r1_penalty(D(self._view(real)), real)
