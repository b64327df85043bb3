"""GDAE and the restoration: one training step. The residual's codec is not trained; see `gdae_sprc.system` for sources
and deviations."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.config import require
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.coded_pictures import CodedPictures
from genic.lightning_modules.gdae_sprc.config import GdaeSprcConfig
from genic.lightning_modules.gdae_sprc.grad_cam import classifier_at_hand
from genic.lightning_modules.gdae_sprc.networks import Discriminator, Restoration, quantiser_step
from genic.lightning_modules.gdae_sprc.system import System
from genic.lightning_modules.layers.gain_units import between_levels
from genic.losses.gan import gan_loss
from genic.losses.ssim import ssim


class Restored(NamedTuple):
    """Of a batch of pictures after HEVC: RGB [B, 3, H, W] in about [0, 1], not clamped, as decoded and as restored; the
    weight of each place's squared error, [B, 1, H, W]; the quantiser's step in values of 8 bits, [B]."""

    decoded: Tensor
    picture: Tensor
    weight: Tensor
    step: Tensor


class GdaeSprc(CompressionModule):
    """λ1·MSE + λ2·GAN + λ3·SSIM (slide "Loss function"), pictures in [0, 1].

    The slides' L_SSIM is −SSIM; 1 − SSIM differs by a constant only.

    With ``train.part=restoration`` R alone is trained, on pictures after HEVC: squared error of 8-bit values, each
    place weighted as HEVC's encoder weighs it at its QP, which follows the heat, over the quantiser's step. Over Kodak
    HEVC's squared error grows about as the step itself, so that all QPs have about an equal say.
    """

    paper = "gdae_sprc"
    codec_class = GdaeSprcCodec
    system: System
    rate_weight: Tensor

    def __init__(self, config: GdaeSprcConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.restoring = config.train.part == "restoration"
        adversarial = config.train.adversarial_weight > 0 and not self.restoring
        self.D = Discriminator(config.train.D) if adversarial else None
        if self.restoring:
            self.system.requires_grad_(False)
            self.restoration.requires_grad_(True)
        self.gan_loss = gan_loss(config.train.gan_loss)
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    @property
    def sigma(self) -> float:
        """Of the soft assignment, at this batch."""
        c = self.config.train
        done = min(self.batches_seen / c.anneal_batches, 1.0)
        return c.sigma + (c.sigma_to - c.sigma) * done

    @property
    def restoration(self) -> Restoration:
        """R; the configuration's check has it that there is one where it is trained."""
        assert self.system.R is not None
        return self.system.R

    def networks(self) -> list[nn.Module]:
        return [self.restoration] if self.restoring else super().networks()

    def check_data(self, data: Any) -> None:
        """For restoration: pictures after HEVC, cut and not scaled."""
        if not self.restoring:
            return
        t, c, d = self.config.train, self.config.coding, data.config
        require(d.shards is None, "data.shards", d.shards, "null, since files are coded,")
        unscaled = d.scale_min == d.scale_max == 1
        require(unscaled, "data.scale_min, data.scale_max", (d.scale_min, d.scale_max), "1 and 1")
        require(d.crop % 2 == 0, "data.crop", d.crop, "an even number")
        for name, least in (("data.min_side", d.min_side), ("train.coded_side", t.coded_side)):
            require(least >= d.crop, name, least, f"data.crop={d.crop} or more")
        if c.strength > 0 and classifier_at_hand(c.classifier, c.top_k) is None:
            warnings.warn(
                "no classifier for the heat map: pictures are coded at uniform quality", stacklevel=2
            )
        folder = Path(t.coded).expanduser()
        data.before_crop = CodedPictures(folder, tuple(t.restoration_qp), t.coded_side, d.seed, c)

    def restored(self, batch: Batch) -> Restored:
        """What R makes of the batch's coded pictures; `ConfigError` where it has none."""
        if batch.planes is None:
            raise ConfigError("restoration is trained on coded pictures: `check_data` has the data code them")
        planes = batch.planes[:, :3].float().contiguous(memory_format=torch.channels_last)
        place, qp = batch.planes[:, 3:4].float(), batch.planes[:, 4, 0, 0].float()
        decoded = Restoration.corrected(planes, qp, torch.zeros_like(F.pixel_unshuffle(planes, 2)))
        # Squared error is worth 2^(−QP/3) bits to HEVC's encoders.
        weight = 2 ** ((qp[:, None, None, None] - place) / 3)
        return Restored(decoded, self.restoration(planes, qp), weight, quantiser_step(qp))

    def loss_step(self, batch: Batch) -> None:
        if self.restoring:
            self._restoration_step(batch)
            return
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

    def _restoration_step(self, batch: Batch) -> None:
        x, found = batch.image, self.restored(batch)
        error = (found.weight * (255 * (found.picture - x)).square()).mean((1, 2, 3))
        loss = (error / found.step).mean()
        self.update("generator", loss, self.config.train.clip)
        self.log_dict({"loss/total": loss, "loss/gain_db": _gain(x, found.decoded, found.picture).mean()})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.restoring:
            x, found = batch.image, self.restored(batch)
            gain = _gain(x, found.decoded.clamp(0, 1), found.picture.clamp(0, 1)).mean()
            self.log("validation/gain_db", gain, batch_size=len(x), sync_dist=True)
            return
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for k in range(self.config.model.levels):
            x_hat, rate = self.system(x, self.same_level(x, k), self.sigma, 0.0)
            self.log_validation(x, x_hat.clamp(0, 1), rate.total, k)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        if self.restoring:
            found = self.restored(batch)
            return {"x": batch.image, "HEVC": found.decoded, "restored": found.picture}
        x = batch.image.contiguous(memory_format=torch.channels_last)
        x_hat, rate = self.system(x, self.same_level(x), self.sigma, 0.0)
        return {"x": x, "x_hat": (x_hat, rate.total), "residual": x - x_hat.clamp(0, 1) + 0.5}


def _gain(x: Tensor, decoded: Tensor, restored: Tensor) -> Tensor:
    """Decibels of each picture, [B], by which ``restored`` is nearer to x."""
    errors = [(picture - x).square().mean((1, 2, 3)).clamp_min(1e-10) for picture in (decoded, restored)]
    return 10 * (errors[0] / errors[1]).log10()
