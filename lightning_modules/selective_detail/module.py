"""Selective detail decoding: one training step.

Akutsu, Suzuki, Zhong, Aizawa, CLIC 2020, section 2.5; the system itself is in `selective_detail.system`.
Equation 4 as printed rewards D for calling real pictures fake; here high scores mean real throughout (`losses.gan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.config import require
from genic.lightning_modules.layers.gain_units import between_levels
from genic.lightning_modules.layers.pretrained import (
    PretrainedDecoder,
    PretrainedEncoder,
    freeze,
    parameter_groups,
    start,
)
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailConfig
from genic.lightning_modules.selective_detail.networks import discriminator
from genic.lightning_modules.selective_detail.system import Reconstruction, System
from genic.losses.gan import softplus_discriminator, softplus_generator
from genic.losses.perceptual import Lpips
from genic.losses.ssim import ms_ssim, ms_ssim_pair

KLT_BATCHES = 32
"""Of the training data, from which the Karhunen-Loève transform is estimated."""


class SelectiveDetail(CompressionModule):
    """Training of `System` against a conditional discriminator."""

    paper = "selective_detail"
    codec_class = SelectiveDetailCodec
    system: System
    rate_weight: Tensor

    def __init__(self, config: SelectiveDetailConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.D = discriminator(config) if config.train.adversarial_weight > 0 else None
        self.lpips = Lpips("squeeze") if config.train.perceptual_weight > 0 else None
        freeze(self.system, config.train.frozen)
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    @property
    def detail(self) -> bool:
        """Whether G_s takes part at this batch."""
        return self.config.model.detail_decoder and self.batches_seen >= self.config.train.detail_from

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        t = self.config.train
        generator = parameter_groups(self.system, t.pretrained_rate), t.learning_rate
        return super().optimiser_groups() | {"generator": generator}

    def check_data(self, data: Any) -> None:
        """Where D is to see labels: that the data has them, and no more classes than D knows."""
        t = self.config.train
        if self.D is None or t.condition != "labels":
            return
        needed = "semantic among them, or train.adversarial_weight=0,"
        require("semantic" in data.config.labels, "data.labels", data.config.labels, needed)
        enough = data.semantic_classes <= t.semantic_classes
        there = f"{data.semantic_classes} or more, as {data.config.name} has,"
        require(enough, "train.semantic_classes", t.semantic_classes, there)

    def setup(self, stage: str) -> None:
        """A run that starts from nothing starts ``pretrained`` transforms at TAEF2 and the training pictures' KLT."""
        c = self.config
        if c.model.transform == "pretrained" and self.fresh:
            E, G_m = self.system.E, self.system.G_m
            assert isinstance(E, PretrainedEncoder) and isinstance(G_m, PretrainedDecoder)
            self.system.gain.start(c.train.gain_start, c.train.gain_step)
            batches = islice(self._datamodule.train_dataloader(), KLT_BATCHES)
            start(E, G_m, (batch.image for batch in batches))

    @property
    def _datamodule(self) -> Any:
        return getattr(self.trainer, "datamodule", None)

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level, detail = self.random_level(x, c.level_power), self.detail
        D, G_s = self.D if self.adversarial else None, self.system.G_s
        if detail and G_s is not None and self.batches_seen == c.detail_from > 0:
            G_s.load_state_dict(self.system.detail_from_main())
        output = self.system(x, level, detail)
        picture = output.picture

        # Discriminator: real and decoded pictures under the same condition.
        told = picture.y.detach() if c.condition == "latents" else batch.semantic
        if D is not None:
            real, fake = D(x, told).float(), D(picture.x_hat_m.detach(), told).float()
            loss_d = softplus_discriminator(real, fake)
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Encoder, decoders, entropy estimator: equation 5.
        ms_m, wms = self._similarities(x, picture, batch.detail, detail)
        loss_d3 = c.ms_ssim_weight * (1 - ms_m) + c.detail_weight * (1 - wms)  # equation 3
        pixels = x[0, 0].numel()
        bpp = output.rate.total / pixels
        loss = (loss_d3 + between_levels(self.rate_weight, level) * bpp).mean()
        if c.mse_weight > 0:
            error = ((picture.x_hat - x) ** 2).mean() + ((picture.x_hat_m - x) ** 2).mean()
            loss = loss + c.mse_weight * error
        if detail and c.exact_weight > 0:
            loss = loss + c.exact_weight * (1 - ms_ssim(x, picture.x_hat_s)).mean()
        if detail and c.mask_weight > 0 and batch.detail is not None:
            distance = mask_distance(picture.m, batch.detail)
            loss = loss + c.mask_weight * distance
            self.log("loss/mask", distance)
        if self.lpips is not None:
            perceptual = self.lpips(x, picture.x_hat_m).mean()
            loss = loss + c.perceptual_weight * perceptual
            self.log("loss/lpips", perceptual)
        if D is not None:
            loss_g = softplus_generator(D(picture.x_hat_m, told).float())  # equation 4
            loss = loss + c.adversarial_weight * loss_g
            self.log("loss/adversarial", loss_g)
        self.update("generator", loss, c.clip)

        self.log_dict(
            {
                "loss/total": loss,
                "loss/ms_ssim": (1 - ms_m).mean(),
                "loss/weighted_ms_ssim": (1 - wms).mean(),
                "rate/bpp_estimated": bpp.mean(),
                "rate/bpp_hyper_estimated": output.rate.hyper_latents.mean() / pixels,
                "mask/mean": picture.m.mean(),
            }
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for level in range(self.config.model.levels):
            output = self.system(x, self.same_level(x, level), self.detail)
            x_hat = output.picture.x_hat.clamp(0, 1)
            more = {} if self.lpips is None else {"lpips_squeeze": self.lpips(x, x_hat)}
            self.log_validation(x, x_hat, output.rate.total, level, **more)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        p, rate = self.system(x, self.same_level(x), self.detail)
        shown: dict[str, Shown] = {"x": x, "x_hat_m": p.x_hat_m, "x_hat_s": p.x_hat_s}
        return shown | {"x_hat": (p.x_hat, rate.total), "m": p.m.expand(-1, 3, -1, -1)}

    def export_weights(self) -> dict[str, Tensor]:
        """Before its start the detail decoder is exported as the main one's copy, so that x̂ = x̂_m."""
        state = super().export_weights()
        if self.system.G_s is not None and not self.detail:
            state |= {f"G_s.{name}": t for name, t in self.system.detail_from_main().items()}
        return state

    def initialise_from(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[int, int]:
        """As for every paper; where the file has no detail decoder, it starts as the main one's copy."""
        counts = super().initialise_from(tensors, metadata)
        G_s, alike = self.system.G_s, self.config.model.transform == "attention"
        if G_s is not None and alike and not any(name.startswith("G_s.") for name in tensors):
            G_s.load_state_dict(self.system.detail_from_main())
        return counts

    def _similarities(
        self, x: Tensor, picture: Reconstruction, t_a: Tensor | None, detail: bool
    ) -> tuple[Tensor, Tensor]:
        """(MS-SSIM of x̂_m, weighted MS-SSIM of x̂), [B] each."""
        c = self.config.train
        if t_a is None:
            t_a = torch.zeros_like(x[:, :1])
        if not detail:
            return ms_ssim_pair(x, picture.x_hat, t_a, c.background)
        # One call for both pictures: twice the batch costs less than two calls.
        both, weighted = ms_ssim_pair(
            x.repeat(2, 1, 1, 1),
            torch.cat((picture.x_hat_m, picture.x_hat)),
            t_a.repeat(2, 1, 1, 1),
            c.background,
        )
        return both[: len(x)], weighted[len(x) :]


def mask_distance(m: Tensor, t_a: Tensor) -> Tensor:
    """½ (mean of 1 − m inside t_a + mean of m outside), both [B, 1, H, W] in [0, 1]: 0 for m = t_a, ½ for a constant
    mask. Labelled regions are few, so inside and outside count alike."""
    inside = ((1 - m) * t_a).sum() / t_a.sum().clamp_min(1)
    outside = (m * (1 - t_a)).sum() / (1 - t_a).sum().clamp_min(1)
    return (inside + outside) / 2
