"""Joint autoregressive and hierarchical priors: one training step (Minnen et al. 2018, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.hyperprior.codec import HyperpriorCodec
from genic.lightning_modules.hyperprior.config import HyperpriorConfig
from genic.lightning_modules.hyperprior.system import Output, System
from genic.lightning_modules.layers.gain_units import between_levels
from genic.losses.ssim import FLOOR, ms_ssim


class Hyperprior(CompressionModule):
    """Training of `System`: rate_weight·bpp + mse_weight·MSE + ms_ssim_weight·(1 − MS-SSIM)."""

    paper = "hyperprior"
    codec_class = HyperpriorCodec
    system: System
    rate_weight: Tensor

    def __init__(self, config: HyperpriorConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        return {"system": (self.system.parameters(), self.config.train.learning_rate)}

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level = self.random_level(x)
        measures = self._measures(x, self.system(x, level))

        # Geometrically between whole levels. Levels' weights differ a hundredfold; divided by their roots, all levels
        # have about an equal say. For one level of weight 1 it is equation 1.
        rate_weight = between_levels(self.rate_weight, level)
        loss = rate_weight * measures["bpp_estimated"] + c.mse_weight * measures["mse"]
        if c.ms_ssim_weight > 0:
            loss = loss + c.ms_ssim_weight * (1 - measures["ms_ssim"])
        loss = (loss / rate_weight.sqrt()).mean()
        self.update("system", loss, c.clip)
        self.log_dict({"loss/total": loss, "loss/mse": measures["mse"].mean()})
        self.log_dict({f"rate/{k}": v.mean() for k, v in measures.items() if k.startswith("bpp")})
        if c.ms_ssim_weight > 0:
            self.log("loss/ms_ssim", (1 - measures["ms_ssim"]).mean())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for k in range(self.config.model.levels):
            output = self.system(x, self.same_level(x, k))
            hyper = output.rate.hyper_latents / x[0, 0].numel()
            self.log_validation(x, output.picture.clamp(0, 1), output.rate.total, k, bpp_hyper=hyper)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        output = self.system(x, self.same_level(x))
        return {"x": x, "x_hat": (output.picture, output.rate.total)}

    def _measures(self, x: Tensor, output: Output) -> dict[str, Tensor]:
        """[B] each."""
        pixels = x.shape[2] * x.shape[3]
        found = {
            "bpp_estimated": output.rate.total / pixels,
            "bpp_hyper_estimated": output.rate.hyper_latents / pixels,
            "mse": (output.picture - x).square().mean((1, 2, 3)),
        }
        if self.config.train.ms_ssim_weight > 0:
            found["ms_ssim"] = ms_ssim(x, output.picture, floor=FLOOR)
        return found
