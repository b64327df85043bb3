"""Joint autoregressive and hierarchical priors: one training step (Minnen et al. 2018, equation 1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.context import interpolate
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.hyperprior.codec import HyperpriorCodec
from lightning_modules.hyperprior.config import HyperpriorConfig
from lightning_modules.hyperprior.system import Output, System
from losses.ssim import FLOOR, ms_ssim


class Hyperprior(CompressionModule):
    """Training of `System`: rate_weight·bpp + mse_weight·MSE + ms_ssim_weight·(1 − MS-SSIM)."""

    paper = "hyperprior"

    def __init__(self, config: HyperpriorConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.register_buffer("rate_weight", torch.tensor(config.train.rate_weight), persistent=False)

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        return {"system": (self.system.parameters(), self.config.train.learning_rate)}

    def loss_step(self, batch: Batch) -> None:
        c, x = self.config.train, batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.rand(len(x), device=x.device) * (self.config.model.levels - 1)
        measures = self._measures(x, self.system(x, level))

        # Geometrically between whole levels. Levels' weights differ a hundredfold; divided by their roots, all levels
        # have about an equal say. For one level of weight 1 it is equation 1.
        rate_weight = interpolate(self.rate_weight.log()[:, None], level)[:, 0].exp()
        loss = rate_weight * measures["bpp_estimated"] + c.mse_weight * measures["mse"]
        if c.ms_ssim_weight > 0:
            loss = loss + c.ms_ssim_weight * (1 - measures["ms_ssim"])
        loss = (loss / rate_weight.sqrt()).mean()
        norm = self.update("system", loss, c.clip)
        self.log_dict({"loss/total": loss, "loss/mse": measures["mse"].mean(), "gradient/system": norm})
        self.log_dict({f"rate/{k}": v.mean() for k, v in measures.items() if k.startswith("bpp")})
        if c.ms_ssim_weight > 0:
            self.log("loss/ms_ssim", (1 - measures["ms_ssim"]).mean())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        for k in range(self.config.model.levels):
            output = self.system(x, torch.full((len(x),), float(k), device=x.device))
            measures = self._measures(x, Output(output.picture.clamp(0, 1), output.rate))
            measures["psnr"] = -10 * torch.log10(measures.pop("mse"))
            for name, value in measures.items():
                self.log(f"validation/{name}_{k}", value.mean(), batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.image.contiguous(memory_format=torch.channels_last)
        level = torch.full((len(x),), (self.config.model.levels - 1) / 2, device=x.device)
        return {"x": x, "x_hat": self.system(x, level).picture.clamp(0, 1)}

    def export_weights(self) -> dict[str, Tensor]:
        return dict(self.system.state_dict()) | build_tables().state()

    def codec(self) -> HyperpriorCodec:
        return HyperpriorCodec(as_stored(self.export_weights()), self.metadata())

    def _measures(self, x: Tensor, output: Output) -> dict[str, Tensor]:
        """[B] each."""
        pixels = x.shape[2] * x.shape[3]
        bpp_hyper = output.rate.hyper_latents / pixels
        found = {
            "bpp_estimated": output.rate.latents / pixels + bpp_hyper,
            "bpp_hyper_estimated": bpp_hyper,
            "mse": (output.picture - x).square().mean((1, 2, 3)),
        }
        if self.config.train.ms_ssim_weight > 0:
            found["ms_ssim"] = ms_ssim(x, output.picture, floor=FLOOR if self.training else 0)
        return found
