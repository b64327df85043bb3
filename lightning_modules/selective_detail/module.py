"""Selective detail decoding: one training step.

Akutsu, Suzuki, Zhong, Aizawa, CLIC 2020, section 2.5; the system itself is in `selective_detail.system`.
Equation 4 as printed rewards D for calling real pictures fake; here high scores mean real throughout (`losses.gan`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.selective_detail.codec import SelectiveDetailCodec
from lightning_modules.selective_detail.config import SelectiveDetailConfig
from lightning_modules.selective_detail.networks import Discriminator
from lightning_modules.selective_detail.system import Reconstruction, System
from losses.gan import softplus_discriminator, softplus_generator
from losses.ssim import ms_ssim, ms_ssim_pair


class SelectiveDetail(CompressionModule):
    """Training of `System` against a conditional discriminator."""

    paper = "selective_detail"

    def __init__(self, config: SelectiveDetailConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.D = Discriminator(config.train) if config.train.adversarial_weight > 0 else None
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    @property
    def detail(self) -> bool:
        """Whether G_s takes part at this batch."""
        return self.config.model.detail_decoder and int(self.batches_seen) >= self.config.train.detail_from

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        rate = self.config.train.learning_rate
        groups = {"generator": (self.system.parameters(), rate)}
        if self.D is not None:
            groups["discriminator"] = (self.D.parameters(), rate)
        return groups

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.rand(len(x), device=x.device) ** c.level_power * (self.config.model.levels - 1)
        clock, detail = int(self.batches_seen), self.detail
        adversarial = self.D is not None and clock >= c.adversarial_from
        if detail and clock == c.detail_from > 0:
            self.system.G_s.load_state_dict(self.system.detail_from_main())
        output = self.system(x, level, detail)
        picture = output.picture

        # Discriminator: real and decoded pictures under the same labels.
        if adversarial:
            t_s = self._semantic(batch)
            loss_d = softplus_discriminator(
                self.D(x, t_s).float(), self.D(picture.x_hat_m.detach(), t_s).float()
            )
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Encoder, decoders, entropy estimator: equation 5.
        ms_m, wms = self._similarities(x, picture, batch.detail, detail)
        loss_d3 = (1 - ms_m) + c.detail_weight * (1 - wms)  # equation 3
        bpp = (output.rate.latents + output.rate.hyper_latents) / (x.shape[2] * x.shape[3])
        rate_weight = _interpolate(self.rate_weight, level)
        loss = (loss_d3 + rate_weight * bpp).mean()
        if c.mse_weight > 0:
            error = ((picture.x_hat - x) ** 2).mean() + ((picture.x_hat_m - x) ** 2).mean()
            loss = loss + c.mse_weight * error
        if adversarial:
            loss_g = softplus_generator(self.D(picture.x_hat_m, t_s).float())  # equation 4
            loss = loss + c.adversarial_weight * loss_g
            self.log("loss/adversarial", loss_g)
        norm = self.update("generator", loss, c.clip)

        pixels = x.shape[2] * x.shape[3]
        self.log_dict(
            {
                "loss/total": loss,
                "loss/ms_ssim": (1 - ms_m).mean(),
                "loss/weighted_ms_ssim": (1 - wms).mean(),
                "rate/bpp_estimated": bpp.mean(),
                "rate/bpp_hyper_estimated": output.rate.hyper_latents.mean() / pixels,
                "mask/mean": picture.m.mean(),
                "gradient/generator": norm,
            }
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for level in range(self.config.model.levels):
            output = self.system(x, torch.full((len(x),), float(level), device=x.device), self.detail)
            pixels = x.shape[2] * x.shape[3]
            bpp = (output.rate.latents + output.rate.hyper_latents) / pixels
            values = {"bpp_estimated": bpp, "ms_ssim": ms_ssim(x, output.picture.x_hat.clamp(0, 1), floor=0)}
            for name, value in values.items():
                self.log(f"validation/{name}_{level}", value.mean(), batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.full((len(x),), (self.config.model.levels - 1) / 2, device=x.device)
        picture = self.system(x, level, self.detail).picture
        shown = {"x": x, "x_hat_m": picture.x_hat_m, "x_hat_s": picture.x_hat_s, "x_hat": picture.x_hat}
        return {k: v.float().clamp(0, 1) for k, v in shown.items()} | {
            "m": picture.m.float().expand(-1, 3, -1, -1)
        }

    def export_weights(self) -> dict[str, Tensor]:
        """Before its start the detail decoder is exported as the main one's copy, so that x̂ = x̂_m."""
        state = dict(self.system.state_dict())
        if self.system.G_s is not None and not self.detail:
            state |= {f"G_s.{name}": t for name, t in self.system.detail_from_main().items()}
        return state | build_tables().state()

    def initialise_from(self, tensors: Mapping[str, Tensor]) -> None:
        """As for every paper; where the file has no detail decoder, it starts as the main one's copy."""
        super().initialise_from(tensors)
        if self.system.G_s is not None and not any(name.startswith("G_s.") for name in tensors):
            self.system.G_s.load_state_dict(self.system.detail_from_main())

    def codec(self) -> SelectiveDetailCodec:
        return SelectiveDetailCodec(as_stored(self.export_weights()), self.metadata())

    def _semantic(self, batch: Batch) -> Tensor:
        """t_s; all of class 0 where the data has none, which makes D unconditional."""
        if batch.semantic is not None:
            return batch.semantic
        return batch.image.new_zeros(batch.image[:, 0].shape, dtype=torch.int64)

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


def _interpolate(table: Tensor, level: Tensor) -> Tensor:
    """λ at ``level`` [B], geometrically between whole levels."""
    low = level.floor().clamp(0, len(table) - 1).long()
    high = (low + 1).clamp(max=len(table) - 1)
    return torch.exp(torch.lerp(table[low].log(), table[high].log(), level - low))
