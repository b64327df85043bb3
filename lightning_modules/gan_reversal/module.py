"""GAN reversal: one training step.

The paper trains a GAN on related pictures and nothing else. With ``guess`` a network E is trained beside the generator
to guess z, and the generator also on the pictures of its guesses, quantised as in a file: unseen pictures then have a
latent that the generator serves, and the search starts near it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from lightning_modules.base import CompressionModule
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.gaussian import build_tables
from lightning_modules.gan_reversal.augment import augment
from lightning_modules.gan_reversal.codec import GanReversalCodec
from lightning_modules.gan_reversal.config import GanReversalConfig
from lightning_modules.gan_reversal.prior import INDEX_PER_NEPER, bits, shifted, step_of
from lightning_modules.gan_reversal.system import System, discriminator
from losses.gan import r1_penalty, softplus_discriminator, softplus_generator
from losses.ssim import ssim


class GanReversal(CompressionModule):
    """Training of `System` against a discriminator, which is discarded."""

    paper = "gan_reversal"

    def __init__(self, config: GanReversalConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config)
        self.D = discriminator(config) if config.lambda_g > 0 else None
        self.average = copy.deepcopy(self.system).requires_grad_(False) if config.average > 0 else None

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        optimisers = super().configure_optimizers()
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["betas"] = (self.config.beta1, 0.999)
        return optimisers

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        trained = [p for p in self.system.parameters() if p.requires_grad]
        groups = {"generator": (trained, self.config.learning_rate)}
        if self.D is not None:
            groups["discriminator"] = (self.D.parameters(), self.config.learning_rate)
        return groups

    def networks(self) -> list[nn.Module]:
        every = (self.system.G, self.system.E, self.system.prior, self.D)
        return [n for n in every if n is not None and any(p.requires_grad for p in n.parameters())]

    def loss_step(self, batch: Batch) -> None:
        c, x, clock = self.config, batch.image, self.batches_seen
        adversarial = self.D is not None and clock >= c.adversarial_from
        drawn = self._drawn(x) if adversarial else None

        # Discriminator: real pictures and pictures of latents from the prior.
        if adversarial:
            loss_d = softplus_discriminator(self.D(self._view(x)), self.D(self._view(drawn.detach())))
            if c.r1 > 0 and clock % c.r1_every == 0:
                loss_d = loss_d + 0.5 * c.r1 * c.r1_every * self._r1(x)
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Generator, and with it E and the prior's quantiser.
        loss = x.new_zeros(())
        if adversarial:
            loss_g = softplus_generator(self.D(self._view(drawn)))
            loss = loss + c.lambda_g * loss_g
            self.log("loss/generator", loss_g)
        if self.system.E is not None:
            loss = loss + self._guess_loss(x)
        if loss.requires_grad:
            self.log("gradient/generator", self.update("generator", loss, c.clip))
        self.log("loss/total", loss)
        self._average()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """With E: SSIM and estimated rate of its guesses. Without: how the averaged generator's draws score."""
        system, x = self._exported(), batch.image
        if system.E is None:
            if self.D is not None:
                score = self.D(self._drawn(x, system)).float().mean()
                self.log("validation/score_drawn", score, batch_size=len(x), sync_dist=True)
            return
        x_hat, used = self._coded(system, x, x.new_zeros(len(x)))
        values = {"ssim": ssim(x, x_hat.clamp(0, 1)), "bpp_estimated": used / x[0, 0].numel()}
        values["mse"] = (x - x_hat.clamp(0, 1)).square().mean((1, 2, 3))
        for name, value in values.items():
            self.log(f"validation/{name}", value.mean(), batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        system, x = self._exported(), batch.image
        shown = {"x": x, "drawn": self._drawn(x, system)}
        if system.E is not None:
            shown["x_hat"] = self._coded(system, x, x.new_zeros(len(x)))[0]
        return {name: picture.float().clamp(0, 1) for name, picture in shown.items()}

    def export_weights(self) -> dict[str, Tensor]:
        return self._exported().exported() | build_tables().state()

    def initialise_from(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[int, int]:
        if "prior.index" in tensors:
            tensors = dict(tensors) | {"prior.offset": self.system.prior.offset_of(tensors["prior.index"])}
        counts = super().initialise_from(tensors, metadata)
        if self.average is not None:
            self.average.load_state_dict(self.system.state_dict())
        return counts

    def codec(self) -> GanReversalCodec:
        return GanReversalCodec(as_stored(self.export_weights()), self.metadata())

    def _guess_loss(self, x: Tensor) -> Tensor:
        """λ_d·(1 − SSIM + mse·MSE) + λ_rate·bpp of E's guesses under quantisers of random shift."""
        c = self.config
        shift = (2 * torch.rand(len(x), device=x.device) - 1) * c.shift
        x_hat, used = self._coded(self.system, x, shift)
        similarity, error = ssim(x, x_hat), (x - x_hat).square().mean((1, 2, 3))
        bpp = used / x[0, 0].numel()
        # A finer quantiser is for a higher rate, where a bit buys less.
        weight = c.lambda_rate * torch.exp(-shift / INDEX_PER_NEPER)
        self.log_dict(
            {"loss/ssim": 1 - similarity.mean(), "loss/mse": error.mean(), "rate/bpp_estimated": bpp.mean()}
        )
        return (c.lambda_d * (1 - similarity + c.mse * error) + weight * bpp).mean()

    def _coded(self, system: System, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of E's guesses after quantisation, and their bits [B].

        In training the rate is that of noisy symbols, the picture that of rounded ones with the identity for a
        derivative.
        """
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type)):
            z = system.E(x)
        index = shifted(system.prior(), shift)
        delta = step_of(index)
        y = z.float() / delta
        rounded = y.round()
        noisy = y + torch.rand_like(y) - 0.5 if self.training else rounded
        x_hat = system.G((y + (rounded - y).detach()) * delta)
        return x_hat.float(), bits(noisy, index)

    def _drawn(self, x: Tensor, system: System | None = None) -> Tensor:
        """As many pictures of the prior as ``x`` has, of its size."""
        G = (system or self.system).G
        z = torch.randn(len(x), self.config.latents, *G.grid(*x.shape[2:]), device=x.device)
        return G(z)[..., : x.shape[2], : x.shape[3]].float()

    def _view(self, x: Tensor) -> Tensor:
        """What D sees of pictures."""
        return augment(x) if self.config.augment else x

    def _r1(self, x: Tensor) -> Tensor:
        # Differentiated twice, so in float32.
        with torch.autocast(x.device.type, enabled=False):
            real = x.detach().float().requires_grad_()
            return r1_penalty(self.D(self._view(real)), real)

    def _exported(self) -> System:
        return self.system if self.average is None else self.average

    @torch.no_grad()
    def _average(self) -> None:
        """One step of the moving average; its decay rises to the configured one."""
        if self.average is None:
            return
        clock = self.batches_seen
        decay = min(self.config.average, (1 + clock) / (10 + clock))
        own: dict[str, Any] = self.system.state_dict()
        for name, tensor in self.average.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(own[name], 1 - decay)
            else:
                tensor.copy_(own[name])
