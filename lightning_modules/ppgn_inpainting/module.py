"""Ablative compression: one training step of the filler, the restorer and PPGN-h's G."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.ppgn_inpainting.assistant_losses import (
    boundary_loss,
    edge_loss,
    laplacian_of_gaussian,
)
from lightning_modules.ppgn_inpainting.codec import PpgnInpaintingCodec
from lightning_modules.ppgn_inpainting.config import PpgnInpaintingConfig
from lightning_modules.ppgn_inpainting.features import Encoder
from lightning_modules.ppgn_inpainting.networks import Discriminator
from lightning_modules.ppgn_inpainting.system import System
from lightning_modules.ppgn_inpainting.training_masks import Damaged, masked, shrunk
from losses.gan import gan_loss
from losses.ssim import ssim


class PpgnInpainting(CompressionModule):
    """Each batch is shared out: some crops for the restorer, some for the filler, some for G.

    The two feed-forward networks are conditional GANs with one discriminator, which sees the guess beside the picture;
    G has its own (joint PPGN-h).
    """

    paper = "ppgn_inpainting"

    def __init__(self, config: PpgnInpaintingConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config)
        self.E = Encoder(config)
        self.D = Discriminator(3, config.D)
        self.D_f = Discriminator(6, config.D) if config.fill_gan > 0 else None
        self.gan_loss = gan_loss(config.gan_loss)
        self.register_buffer("ratio", torch.ones(()))

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        s, rate = self.system, self.config.learning_rate
        groups = {
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

    def loss_step(self, batch: Batch) -> None:
        for_restorer, for_filler, for_G = self._shared_out(batch.image)
        rng = np.random.default_rng(int(torch.randint(2**31, ())))
        total = self._feed_forward_step(for_restorer, for_filler, rng) + self._generator_step(for_G)
        self.log("loss/total", total)

    def _feed_forward_step(self, x_r: Tensor, x_f: Tensor, rng: np.random.Generator) -> Tensor:
        c = self.config
        small, holes = shrunk(x_r, c, rng), masked(x_f, c, rng)
        restored = self.system.restorer(small.guess, small.plane)
        filled = self.system.filler(holes.guess, holes.plane)
        pasted = holes.mask * holes.values + (1 - holes.mask) * filled
        x, x_hat = torch.cat((x_r, x_f)), torch.cat((restored, pasted))
        adversarial = self.D_f is not None and self.batches_seen >= c.adversarial_from

        if adversarial:
            condition = torch.cat((small.guess, holes.guess)) - 0.5
            real, fake = (torch.cat((t - 0.5, condition), 1) for t in (x, x_hat))
            loss_d = self.gan_loss.discriminator(self.D_f(real).float(), self.D_f(fake.detach()).float())
            self.update("feed_forward_discriminator", loss_d, c.clip)
            self.log("loss/feed_forward_discriminator", loss_d)

        total = x.new_zeros(())
        for name, x, shown, raw, condition in (
            ("restorer", x_r, restored, restored, small.guess),
            ("filler", x_f, pasted, filled, holes.guess),
        ):
            dissimilarity, l1 = 1 - ssim(x, shown).mean(), (raw - x).abs().mean()
            edge = edge_loss(shown, laplacian_of_gaussian(x))
            loss = c.fill_ssim * dissimilarity + c.fill_l1 * l1 + c.fill_edge * edge
            if name == "filler":
                loss = loss + self._filler_loss(x, shown, raw, holes)
            if adversarial:
                fake = torch.cat((shown, condition), 1) - 0.5
                loss_g = self.gan_loss.generator(self.D_f(fake).float())
                loss = loss + c.fill_gan * loss_g
                self.log(f"loss/{name}_generator", loss_g)
            norm = self.update(name, loss, c.clip)
            values = {"ssim": dissimilarity, "l1": l1, "edge": edge}
            self.log_dict({f"loss/{name}_{key}": value for key, value in values.items()})
            self.log(f"gradient/{name}", norm)
            total = total + loss.detach()
        return total

    def _filler_loss(self, x: Tensor, pasted: Tensor, filled: Tensor, holes: Damaged) -> Tensor:
        """Boundary and content losses."""
        c = self.config
        boundary = boundary_loss(filled, holes.values, holes.mask)
        self.log("loss/boundary", boundary)
        loss = c.fill_boundary * boundary
        if c.fill_content > 0:
            with torch.no_grad():
                target = self.E(x).h1
            loss = loss + c.fill_content * (self.E(pasted).h1 - target).square().mean()
        return loss

    def _generator_step(self, x: Tensor) -> Tensor:
        """Joint PPGN-h (Nguyen et al. 2017, sections 3.5 and S3): image, h1, h and adversarial losses."""
        c = self.config
        with torch.no_grad():
            clean = self.E(x)
            noisy = clean
            if c.noise_x > 0 or c.noise_h1 > 0 or c.noise_h > 0:
                noisy = self.E(x + c.noise_x * torch.randn_like(x), c.noise_h1, c.noise_h)
        x_hat = self.system.generator_for(*x.shape[2:])(noisy.h).float()

        loss_d = self.gan_loss.discriminator(self.D(x - 0.5).float(), self.D(x_hat.detach() - 0.5).float())
        ratio = float(self.ratio)
        if ratio >= c.gate_low:
            self.update("discriminator", loss_d, c.clip)

        image = (x_hat - x).square().mean()
        again = self.E(x_hat)
        h1 = (again.h1 - clean.h1).square().mean()
        h = (again.h - clean.h).square().mean()
        loss_g = self.gan_loss.generator(self.D(x_hat - 0.5).float())
        loss = c.lambda_image * image + c.lambda_h1 * h1 + c.lambda_h * h + c.lambda_gan * loss_g
        if ratio <= c.gate_high:
            self.update("generator", loss, c.clip)
        self._remember_ratio(loss_d.detach() / loss_g.detach().clamp_min(1e-6))
        self.log_dict(
            {
                "loss/image": image,
                "loss/h1": h1,
                "loss/h": h,
                "loss/generator": loss_g,
                "loss/discriminator": loss_d,
                "loss/ratio": self.ratio,
            }
        )
        return loss.detach()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """SSIM of both feed-forward networks and PSNR of G, on the same damage each time."""
        rng, x = np.random.default_rng(batch_idx), batch.image
        values = {}
        for name, damaged in self._damages(x, rng).items():
            values[f"ssim_{name}"] = ssim(x, self._repaired(damaged)).mean()
        x_hat = self.system.generator_for(*x.shape[2:])(self.E(x).h).float()
        values["psnr_G"] = -10 * torch.log10((x_hat.clamp(0, 1) - x).square().mean())
        for name, value in values.items():
            self.log(f"validation/{name}", value, batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        rng, x = np.random.default_rng(0), batch.image
        shown = {"x": x}
        for name, damaged in self._damages(x, rng).items():
            shown |= {f"{name}_guess": damaged.guess, f"{name}_x_hat": self._repaired(damaged)}
        shown["G"] = self.system.generator_for(*x.shape[2:])(self.E(x).h)
        return {name: picture.float().clamp(0, 1) for name, picture in shown.items()}

    def export_weights(self) -> dict[str, Tensor]:
        tensors = dict(self.system.state_dict()) | build_tables().state()
        if self.config.classifier_weights == "random":
            tensors |= {f"E.{name}": tensor for name, tensor in self.E.state_dict().items()}
        return tensors

    def codec(self) -> PpgnInpaintingCodec:
        return PpgnInpaintingCodec(as_stored(self.export_weights()), self.metadata())

    def _shared_out(self, x: Tensor) -> list[Tensor]:
        """The crops of each network; a batch with fewer crops than ``parts`` wants begins anew."""
        parts, start = [], 0
        for count in self.config.parts:
            parts.append(x[(torch.arange(count, device=x.device) + start) % len(x)])
            start += count
        return parts

    def _damages(self, x: Tensor, rng: np.random.Generator) -> dict[str, Damaged]:
        c = self.config
        return {
            "thumbnail": shrunk(x, c, rng),
            "blocks": masked(x, c, rng, ("blocks_random",)),
            "pixels": masked(x, c, rng, ("pixels",)),
        }

    def _repaired(self, damaged: Damaged) -> Tensor:
        holes = bool(damaged.mask.any())
        network = self.system.filler if holes else self.system.restorer
        x_hat = network(damaged.guess, damaged.plane).clamp(0, 1)
        return damaged.mask * damaged.values + (1 - damaged.mask) * x_hat

    def _remember_ratio(self, ratio: Tensor) -> None:
        """The gate's ratio, the same on all processes, so that all pause the same network."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(ratio)
            ratio = ratio / dist.get_world_size()
        self.ratio.copy_(ratio)
