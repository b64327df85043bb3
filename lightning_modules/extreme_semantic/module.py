"""Extreme semantic compression: one training step; see `extreme_semantic.system` for the source."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.batch import Batch
from datamodules.config import ROOT_VARIABLE
from lightning_modules.base import CompressionModule
from lightning_modules.codec.errors import ConfigError, WeightsError
from lightning_modules.codec.weights import as_stored
from lightning_modules.entropy.folded import build_folded_tables
from lightning_modules.extreme_semantic.codec import TABLES, ExtremeSemanticCodec
from lightning_modules.extreme_semantic.config import ExtremeSemanticConfig
from lightning_modules.extreme_semantic.maps import cells, random_heat
from lightning_modules.extreme_semantic.networks import Discriminator, scores
from lightning_modules.extreme_semantic.system import Output, System, enlarge
from losses.gan import feature_matching, least_squares_discriminator, least_squares_generator
from losses.perceptual import FrozenFeatures, feature_distance
from losses.pretrained import SHARED_INPUT, SHARED_WEIGHTS, shared_weights


class ExtremeSemantic(CompressionModule):
    """min L_GAN + λ·d(x, x̂) + β·H(ŵ) (equation 4), d of squared error, D's features and a classifier's features."""

    paper = "extreme_semantic"

    def __init__(self, config: ExtremeSemanticConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = System(config)
        adversarial = config.lambda_gan > 0 or config.lambda_features > 0
        self.D = Discriminator(config) if adversarial else None
        self.features = open_features(config) if config.lambda_perceptual > 0 else None

    @property
    def beta(self) -> float:
        """β at this batch."""
        return self.config.beta if int(self.batches_seen) >= self.config.beta_from else 0.0

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        groups = {"generator": (self.system.parameters(), self.config.learning_rate)}
        if self.D is not None:
            groups["discriminator"] = (self.D.parameters(), self.config.learning_rate)
        return groups

    def loss_step(self, batch: Batch) -> None:
        c = self.config
        x, t_s = self.pictures(batch), self.semantic(batch)
        self.system.E.norm.train(int(self.batches_seen) < c.freeze_from)
        level = (torch.rand(len(x), device=x.device) ** c.level_power * len(c.C)).long()
        output = self.system(x, level, self.random_maps(t_s), self.noise(x), self.beta)
        adversarial = self.D is not None and int(self.batches_seen) >= c.adversarial_from

        # Discriminator: (D(x) − 1)² + D(x̂)² at every scale, real and decoded pictures under the same map.
        if adversarial:
            real = self.D(x, t_s)
            loss_d = least_squares_discriminator(scores(real), scores(self.D(output.x_hat.detach(), t_s)))
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Encoder, generator and entropy model: equation 4. β is in the entropy's gradient (`System.forward`).
        mse = masked_mse(x, output, c.latent_stride)
        bpp = output.bits.mean() / x[0, 0].numel()
        logged = {"loss/mse": mse, "rate/bpp_estimated": bpp, "heat/mean": output.heat.float().mean()}
        distortion = c.lambda_mse * mse
        if self.features is not None and int(self.batches_seen) >= c.perceptual_from:
            perceptual = self.perceptual(x, output.x_hat)
            distortion = distortion + c.lambda_perceptual * perceptual
            logged["loss/perceptual"] = perceptual
        if adversarial:
            fake = self.D(output.x_hat, t_s)
            loss_g = least_squares_generator(scores(fake))
            with torch.no_grad():  # by the D that judges x̂: it has made a step since its own loss
                real = self.D(x, t_s)
            matching = feature_matching(inner(real), inner(fake))
            distortion = distortion + c.lambda_gan * loss_g + c.lambda_features * matching
            logged |= {"loss/generator": loss_g, "loss/features": matching}
        norm = self.update("generator", distortion + bpp, c.clip)
        self.log_dict({"loss/total": distortion + self.beta * bpp, **logged, "gradient/generator": norm})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Everything preserved, at every C."""
        x = self.pictures(batch)
        for k, channels in enumerate(self.config.C):
            level = torch.full((len(x),), k, device=x.device)
            x_hat, bits, _ = self.system(x, level, None, self.noise(x))
            x_hat = x_hat.clamp(-1, 1)
            psnr = 10 * torch.log10(4 / (x_hat - x).square().mean((1, 2, 3)))
            values = {"bpp_estimated": bits.mean() / x[0, 0].numel(), "psnr": psnr.mean()}
            if self.features is not None:
                values["perceptual"] = self.perceptual(x, x_hat)
            for name, value in values.items():
                self.log(f"validation/{name}_{channels}", value, batch_size=len(x), sync_dist=True)

    def panels(self, batch: Batch) -> dict[str, Tensor]:
        x = self.pictures(batch)
        level = torch.full((len(x),), len(self.config.C) - 1, device=x.device)
        shown = {"x": x, "GC": self.system(x, level, None, self.noise(x)).x_hat}
        if self.system.F is not None:
            output = self.system(x, level, self.random_maps(self.semantic(batch)), self.noise(x))
            heat = enlarge(output.heat, self.config.latent_stride).expand_as(x)
            shown |= {"heat": 2 * heat - 1, "SC": output.x_hat}
        return {name: (picture.float() / 2 + 0.5).clamp(0, 1) for name, picture in shown.items()}

    def export_weights(self) -> dict[str, Tensor]:
        return dict(self.system.state_dict()) | {TABLES: build_folded_tables()}

    def codec(self) -> ExtremeSemanticCodec:
        return ExtremeSemanticCodec(as_stored(self.export_weights()), self.metadata())

    def pictures(self, batch: Batch) -> Tensor:
        """x in [−1, 1]."""
        return (2 * batch.image - 1).contiguous(memory_format=torch.channels_last)

    def semantic(self, batch: Batch) -> Tensor | None:
        """t_s, or None where the configuration needs none; ConfigError where it is needed and not there."""
        if not (self.config.conditional and self.D is not None) and self.system.F is None:
            return None
        if batch.semantic is None:
            raise ConfigError(
                "label maps are needed: data.labels=[semantic], or model.conditional=false for GC"
            )
        return batch.semantic

    def random_maps(self, t_s: Tensor | None) -> Tensor | None:
        """Maps of cells with random heat maps (SC), everything preserved in the other crops (GC); None without F."""
        c, system = self.config, self.system
        if system.F is None:
            return None
        labels = cells(t_s, system.classes, c.map_stride)
        coarse = cells(t_s, system.classes, c.latent_stride)
        generator = np.random.default_rng(int(torch.randint(2**31, ())))
        ratio = c.latent_stride // c.map_stride
        for k in range(len(labels)):
            preserved = torch.ones_like(coarse[k], dtype=torch.bool)
            if generator.random() < c.selective:
                preserved = random_heat(coarse[k], c.keep, c.boxes, generator)
            labels[k][preserved.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)] = system.classes
        return labels

    def noise(self, x: Tensor) -> Tensor | None:
        """r as the codec has it (`system.noise_of`), but a new draw for every picture and batch."""
        c = self.config
        if not c.noise:
            return None
        size = (len(x), c.noise, x.shape[2] // c.stride, x.shape[3] // c.stride)
        return (2 * torch.rand(size, device=x.device) - 1) * 3**0.5

    def perceptual(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Σ over layers of weight · mean |φ(x) − φ(x̂)|; not masked (recalled of Agustsson et al.)."""
        with torch.no_grad():
            target = self.features(x / 2 + 0.5)
        return feature_distance(target, self.features(x_hat / 2 + 0.5), self.config.layer_weights)


def masked_mse(x: Tensor, output: Output, stride: int) -> Tensor:
    """Mean squared error over the preserved pixels of the batch; 0 where there are none."""
    heat = enlarge(output.heat, stride)
    return ((x - output.x_hat).square() * heat).sum() / (3 * heat.sum()).clamp_min(1)


def inner(outputs: list[list[Tensor]]) -> list[list[Tensor]]:
    """D's features without its scores."""
    return [layers[:-1] for layers in outputs]


def open_features(config: ExtremeSemanticConfig) -> FrozenFeatures:
    """The perceptual loss's backbone.

    Raises:
        ConfigError, WeightsError: timm has no such model, or its weights are not there.
    """
    which, options = config.perceptual_weights, {}
    weights = None if which == "random" else which
    if which == "shared":
        weights, options = shared_weights(), SHARED_INPUT
        if weights is None:
            raise WeightsError(
                f"the perceptual loss needs {SHARED_WEIGHTS} below {ROOT_VARIABLE}: set it, or give "
                "model.perceptual_weights=hub or a file, or model.lambda_perceptual=0"
            )
    return FrozenFeatures(config.perceptual, weights, config.perceptual_layers, **options)
