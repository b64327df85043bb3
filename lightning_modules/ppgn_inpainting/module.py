"""Ablative compression: one training step of the filler, the restorer and PPGN-h's G."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.layers.patch_discriminator import PatchDiscriminator
from genic.lightning_modules.ppgn_inpainting.ablations import Ablations, shared_out
from genic.lightning_modules.ppgn_inpainting.assistants import boundary_loss, edge_loss
from genic.lightning_modules.ppgn_inpainting.codec import PpgnInpaintingCodec
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingConfig
from genic.lightning_modules.ppgn_inpainting.networks import Encoder
from genic.lightning_modules.ppgn_inpainting.schemes import BlocksRandom, Pixels, Thumbnail
from genic.lightning_modules.ppgn_inpainting.system import Ablated, Output, System
from genic.losses.gan import gan_loss
from genic.losses.ssim import ssim


class PpgnInpainting(CompressionModule):
    """Each batch is shared out: some crops for the restorer, some for the filler, some for G.

    The two feed-forward networks are conditional GANs with one discriminator, which sees the guess beside the picture;
    G has its own (joint PPGN-h).
    """

    paper = "ppgn_inpainting"
    codec_class = PpgnInpaintingCodec
    system: System
    D: PatchDiscriminator
    ratio: Tensor

    def __init__(self, config: PpgnInpaintingConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config.model)
        self.E = Encoder(config.model)
        t = config.train
        self.D = PatchDiscriminator(t.D)
        self.D_f = PatchDiscriminator(t.D, 6) if t.fill_adversarial_weight > 0 else None
        self.gan_loss = gan_loss(t.gan_loss)
        self.register_buffer("ratio", torch.ones(()))

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        s, rate = self.system, self.config.train.learning_rate
        groups: dict[str, tuple[Iterable[nn.Parameter], float]] = {
            "restorer": (s.restorer.parameters(), rate),
            "filler": (s.filler.parameters(), rate),
            "generator": (s.G.parameters(), rate),
            "discriminator": (self.D.parameters(), rate),
        }
        if self.D_f is not None:
            groups["feed_forward_discriminator"] = (self.D_f.parameters(), rate)
        return groups

    def networks(self) -> list[nn.Module]:
        s = self.system
        return [s.restorer, s.filler, s.G, *(D for D in (self.D, self.D_f) if D is not None)]

    @property
    def ablations(self) -> Ablations:
        """What becomes of training batches before a step."""
        return Ablations(self.config.train, self.seed)

    def check_data(self, data: Any) -> None:
        """The data's readers code the crops."""
        data.before_step = self.ablations

    def loss_step(self, batch: Batch) -> None:
        if batch.prepared is None:
            raise ConfigError("the networks are trained on coded crops: `check_data` has the data code them")
        for_restorer, for_filler, for_G = shared_out(batch.image, self.config.train.parts)
        total = self._feed_forward_step(for_restorer, for_filler, batch.prepared)
        self.log("loss/total", total + self._generator_step(for_G))

    def _feed_forward_step(self, x_r: Tensor, x_f: Tensor, ablated: dict[str, Ablated]) -> Tensor:
        c = self.config.train
        crops = {"restorer": x_r, "filler": x_f}
        passes = {name: (x, self.system(ablated[name])) for name, x in crops.items()}
        D_f = self.D_f if self.batches_seen >= c.adversarial_from else None

        # Discriminator: pictures beside what they were made from.
        if D_f is not None:
            real = torch.cat([torch.cat((x, output.ablated.guess), 1) for x, output in passes.values()]) - 0.5
            fake = torch.cat([_beside(output) for _, output in passes.values()])
            loss_d = self.gan_loss.discriminator(D_f(real).float(), D_f(fake.detach()).float())
            self.update("feed_forward_discriminator", loss_d, c.clip)
            self.log("loss/feed_forward_discriminator", loss_d)

        # Restorer and filler.
        total = x_r.new_zeros(())
        for name, (x, output) in passes.items():
            x_hat, generated = output.picture
            terms = {
                "ssim": (c.fill_ssim_weight, 1 - ssim(x, x_hat).mean()),
                "l1": (c.fill_l1_weight, (generated - x).abs().mean()),
                "edge": (c.fill_edge_weight, edge_loss(x_hat, x)),
            }
            if name == "filler":
                values, mask = output.ablated.values, output.ablated.mask
                assert values is not None and mask is not None, "of masked schemes"
                terms["boundary"] = c.fill_boundary_weight, boundary_loss(generated, values, mask)
                if c.fill_feature_weight > 0:
                    with torch.no_grad():
                        target = self.E(x).h1
                    terms["features"] = c.fill_feature_weight, (self.E(x_hat).h1 - target).square().mean()
            if D_f is not None:
                scores = D_f(_beside(output)).float()
                terms["adversarial"] = c.fill_adversarial_weight, self.gan_loss.generator(scores)
            loss = sum((weight * term for weight, term in terms.values()), x.new_zeros(()))
            self.update(name, loss, c.clip)
            self.log_dict({f"loss/{name}_{key}": term for key, (_, term) in terms.items()})
            self.log(f"rate/bpp_{name}", output.rate.mean() / x[0, 0].numel())
            total = total + loss.detach()
        bits = torch.cat([output.rate for _, output in passes.values()])
        self.log("rate/bpp_estimated", bits.mean() / x_r[0, 0].numel())
        return total

    def _generator_step(self, x: Tensor) -> Tensor:
        """Joint PPGN-h (Nguyen et al. 2017, sections 3.5 and S3): image, h1, h and adversarial losses.

        Returns:
            What G's step minimised; 0 where it paused.
        """
        c = self.config.train
        with torch.no_grad():
            clean = noisy = self.E(x)
            if c.noise_x > 0 or c.noise_h1 > 0 or c.noise_h > 0:
                noisy = self.E(x + c.noise_x * torch.randn_like(x), c.noise_h1, c.noise_h)
        x_hat = self.system.generator_for(*x.shape[2:])(noisy.h).float()

        # Discriminator.
        loss_d = self.gan_loss.discriminator(self.D(x - 0.5).float(), self.D(x_hat.detach() - 0.5).float())
        # Which of the two pauses is the device's to know.
        pauses = self.ratio > c.gate_high
        self.update("discriminator", loss_d, c.clip, pause=self.ratio < c.gate_low)

        # G.
        mse, again = (x_hat - x).square().mean(), self.E(x_hat)
        h1 = (again.h1 - clean.h1).square().mean()
        h = (again.h - clean.h).square().mean()
        loss_g = self.gan_loss.generator(self.D(x_hat - 0.5).float())
        loss = c.mse_weight * mse + c.h1_weight * h1 + c.h_weight * h + c.adversarial_weight * loss_g
        self.update("generator", loss, c.clip, pause=pauses)
        if self.steps_now:  # or a network would pause with a part of its gradient
            self._remember_ratio(loss_d.detach() / loss_g.detach().clamp_min(1e-6))
        self.log_dict(
            {
                "loss/mse": mse,
                "loss/h1": h1,
                "loss/h": h,
                "loss/adversarial": loss_g,
                "loss/discriminator": loss_d,
                "gate/ratio": self.ratio,
            }
        )
        return torch.where(pauses, 0.0, loss.detach())

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Both feed-forward networks, by scheme, and PSNR of G, on the same ablation each time."""
        x = batch.image
        for name, output in self._examples(x, np.random.default_rng(batch_idx)).items():
            x_hat = output.picture.x_hat.clamp(0, 1)
            self.log_validation(x, x_hat, output.rate, name, ssim=ssim(x, x_hat))
        x_hat = self.system.generator_for(*x.shape[2:])(self.E(x).h).float()
        psnr = -10 * torch.log10((x_hat.clamp(0, 1) - x).square().mean())
        self.log("validation/psnr_G", psnr, batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = batch.image
        shown: dict[str, Shown] = {"x": x}
        for name, output in self._examples(x, np.random.default_rng(0)).items():
            shown[f"{name}_guess"] = output.ablated.guess
            shown[f"{name}_x_hat"] = output.picture.x_hat, output.rate
        return shown | {"G": self.system.generator_for(*x.shape[2:])(self.E(x).h)}

    def export_weights(self) -> dict[str, Tensor]:
        tensors = super().export_weights()
        if self.config.model.classifier_weights == "random":
            tensors |= {f"E.{name}": tensor for name, tensor in self.E.state_dict().items()}
        return tensors

    def _examples(self, x: Tensor, rng: np.random.Generator) -> dict[str, Output]:
        kinds = {"thumbnail": Thumbnail, "blocks": BlocksRandom, "pixels": Pixels}
        drawn = {name: self.ablations.drawn(x, rng, (kind,)) for name, kind in kinds.items()}
        return {name: self.system(_on(x.device, ablated)) for name, ablated in drawn.items()}

    def _remember_ratio(self, ratio: Tensor) -> None:
        """The gate's ratio, the same on all processes, so that all pause the same network."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(ratio)
            ratio = ratio / dist.get_world_size()
        # NaN would have both networks pause for ever.
        self.ratio.copy_(torch.where(ratio.isfinite(), ratio, self.ratio))


def _on(device: torch.device, ablated: Ablated) -> Ablated:
    parts: list[Any] = [None if part is None else part.to(device) for part in ablated]
    return Ablated(*parts)


def _beside(output: Output) -> Tensor:
    """x̂ and what it was made from, for the discriminator: [B, 6, H, W] about 0."""
    return torch.cat((output.picture.x_hat, output.ablated.guess), 1) - 0.5
