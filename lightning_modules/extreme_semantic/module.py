"""Extreme semantic compression: one training step; see `extreme_semantic.system` for the source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from genic.datamodules.batch import Batch
from genic.lightning_modules.base import CompressionModule, Shown
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.entropy.folded import build_folded_tables
from genic.lightning_modules.extreme_semantic.codec import TABLES, ExtremeSemanticCodec
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticConfig, ExtremeSemanticTraining
from genic.lightning_modules.extreme_semantic.maps import RandomMaps
from genic.lightning_modules.extreme_semantic.networks import (
    AroundEncoder,
    AroundGenerator,
    Encoder,
    discriminator,
    scores,
)
from genic.lightning_modules.extreme_semantic.system import Output, System, enlarge
from genic.lightning_modules.layers import taef
from genic.lightning_modules.layers.pretrained import freeze, parameter_groups, start
from genic.losses.gan import (
    feature_matching,
    label_mix,
    label_mix_distance,
    least_squares_discriminator,
    least_squares_generator,
    oasis_discriminator,
    oasis_generator,
)
from genic.losses.perceptual import FrozenFeatures, Lpips, feature_distance
from genic.losses.pretrained import classifier_weights

START_BATCHES, CODEBOOK_BATCHES = 32, 16
"""Of the training data, from which a pretrained transform's start and the codebook are estimated."""
DEVIATION = 1.2
"""The largest of w's channels at that start, for which the five centres are best."""


class ExtremeSemantic(CompressionModule):
    """min L_GAN + λ·d(x, x̂) + β·H(ŵ) (equation 4), d of squared error, D's features and a classifier's features.

    Attributes:
        codebook: [codes, 32], centres of TAEF2's features of the training pictures, where ``train.labels`` asks for
            them; the nearest one is a position's label, as in MS-ILLM (Muckley et al. 2023).
    """

    paper = "extreme_semantic"
    codec_class = ExtremeSemanticCodec
    system: System
    codebook: Tensor

    def __init__(self, config: ExtremeSemanticConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system, t = System(config.model), config.train
        freeze(self.system, t.frozen)
        self.D = discriminator(t, self.system.classes) if t.discriminates else None
        self.features = open_features(t) if t.perceptual_weight > 0 else None
        self.lpips = Lpips("squeeze") if t.lpips_weight > 0 else None
        self.ignored = [config.model.classes.index(name) for name in t.ignored]
        if t.labels == "codebook":
            self.register_buffer("codebook", torch.zeros(t.codes, taef.CHANNELS))

    @property
    def rate_weight(self) -> float:
        """β at this batch."""
        t = self.config.train
        return t.rate_weight if self.batches_seen >= t.rate_from else 0.0

    def optimiser_groups(self) -> dict[str, tuple[Iterable[nn.Parameter], float]]:
        t = self.config.train
        generator = parameter_groups(self.system, t.pretrained_rate), t.learning_rate
        return super().optimiser_groups() | {"generator": generator}

    def setup(self, stage: str) -> None:
        """A run that starts from nothing starts ``pretrained`` transforms at TAEF2 and the training pictures' KLT; one
        that begins makes its codebook."""
        E, G, t = self.system.E, self.system.G, self.config.train
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(E, AroundEncoder) and isinstance(G, AroundGenerator) and self.fresh:
            batches = islice(data.train_dataloader(), START_BATCHES)
            self.start_gains(start(E, G, (batch.image for batch in batches)))
        if t.labels == "codebook" and self.batches_seen == 0 and self.trainer.ckpt_path is None:
            batches = islice(data.train_dataloader(), CODEBOOK_BATCHES)
            self.make_codebook(batch.image for batch in batches)
            self.codebook = self.trainer.strategy.broadcast(self.codebook)

    @torch.no_grad()
    def start_gains(self, deviations: Tensor) -> None:
        """One step of the quantiser for all channels of a C, but for those of whose ``deviations`` [C] five centres
        would cover too little."""
        gain, c = self.system.gain, self.config
        assert gain is not None, "of a pretrained transform"
        steps = torch.tensor(c.train.steps or [0.0] * c.model.levels)[:, None]
        gain.log_gain.copy_((DEVIATION / deviations).minimum(1 / steps).log())
        gain.log_inverse.copy_(-gain.log_gain)

    @torch.no_grad()
    def make_codebook(self, pictures: Iterable[Tensor]) -> None:
        """`codebook` by K-means of the features of ``pictures`` [B, 3, H, W] in [0, 1]."""
        features = [self.pretrained_features(2 * x - 1).flatten(0, 2) for x in pictures]
        means = KMeans(len(self.codebook), random_state=self.seed).fit(torch.cat(features).numpy())
        self.codebook.copy_(torch.from_numpy(means.cluster_centers_))

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Numbers in `codebook` for pictures in [−1, 1], int64 [B, H, W], alike over 8×8 pixels."""
        nearest = torch.cdist(self.pretrained_features(x), self.codebook[None, None]).argmin(-1)
        return nearest.repeat_interleave(taef.STRIDE, 1).repeat_interleave(taef.STRIDE, 2)

    def pretrained_features(self, x: Tensor) -> Tensor:
        """TAEF2's u for pictures in [−1, 1], float32 [B, H/8, W/8, 32]."""
        assert isinstance(self.system.E, AroundEncoder), "a codebook needs a pretrained transform"
        return self.system.E.pixels(x / 2 + 0.5).permute(0, 2, 3, 1).float()

    def loss_step(self, batch: Batch) -> None:
        c, clock = self.config.train, self.batches_seen
        x, t_s = self.pictures(batch), self.semantic(batch)
        if isinstance(self.system.E, Encoder):
            self.system.E.norm.train(clock < c.freeze_from)
        level = (torch.rand(len(x), device=x.device) ** c.level_power * self.config.model.levels).long()
        rate_weight = self.rate_weight * torch.tensor(c.rate_factors or [1.0], device=x.device)
        rate_weight = rate_weight.expand(self.config.model.levels)[level]
        output = self.system(x, level, self.maps(batch), self.noise(x), rate_weight, c.sigma)
        D = self.D if self.adversarial else None

        # Discriminator: real and decoded pictures under the same map.
        told = t_s
        if D is not None:
            told = self.codes(x) if c.labels == "codebook" else t_s
            loss_d = self.discriminator_loss(x, output.picture.detach(), told)
            self.update("discriminator", loss_d, c.clip)
            self.log("loss/discriminator", loss_d)

        # Encoder, generator and entropy model: equation 4. β is in the gradient of the bits (`System.forward`), so that
        # the entropy model learns at its full weight: what is minimised counts them once.
        mse = masked_mse(x, output, self.config.model.latent_stride)
        bpp = output.rate.mean() / x[0, 0].numel()
        share = output.used / output.used.sum().clamp_min(1)
        logged = {
            "loss/masked_mse": mse,
            "rate/bpp_estimated": bpp,
            "heat/mean": output.heat.float().mean(),
            "centres/used": (share > 0).float().mean(),
            "centres/entropy_bits": torch.special.entr(share).sum() / math.log(2),
        }
        loss = c.mse_weight * mse + bpp
        if self.features is not None and clock >= c.perceptual_from:
            perceptual = self.perceptual(x, output.picture)
            loss = loss + c.perceptual_weight * perceptual
            logged["loss/perceptual"] = perceptual
        if self.lpips is not None:
            lpips = self.lpips(x / 2 + 0.5, output.picture / 2 + 0.5).mean()
            loss = loss + c.lpips_weight * lpips
            logged["loss/lpips"] = lpips
        if D is not None:
            fake = D(output.picture, told)
            loss_g = self.adversarial_loss(scores(fake), told)
            with torch.no_grad():  # by the D that judges x̂: it has made a step since its own loss
                real = D(x, told)
            matching = feature_matching(inner(real), inner(fake))
            loss = loss + c.adversarial_weight * loss_g + c.feature_weight * matching
            logged |= {"loss/adversarial": loss_g, "loss/features": matching}
        self.update("generator", loss, c.clip)
        self.log_dict({"loss/total": loss, **logged})

    def discriminator_loss(self, x: Tensor, x_hat: Tensor, told: Tensor | None) -> Tensor:
        """(D(x) − 1)² + D(x̂)² at every scale, or OASIS' cross-entropies, with LabelMix where it has a weight.

        Args:
            x, x_hat: pictures, without a gradient. told: labels [B, H, W] that D sees or has to find, or None.
        """
        assert self.D is not None
        real, fake = scores(self.D(x, told)), scores(self.D(x_hat, told))
        if self.config.train.discriminator == "multiscale":
            return least_squares_discriminator(real, fake)
        assert told is not None, "`semantic` gives a map where oasis needs one"
        loss = oasis_discriminator(real[0], fake[0], told, self.ignored)
        weight = self.config.train.label_mix_weight
        if weight > 0:
            mask = label_mix(told, fake[0].shape[1] - 1)
            mixed = scores(self.D(torch.where(mask, x, x_hat), told))[0]
            loss = loss + weight * label_mix_distance(mixed, real[0], fake[0], mask)
        return loss

    def adversarial_loss(self, fake: list[Tensor], told: Tensor | None) -> Tensor:
        """(D(x̂) − 1)² at every scale, or OASIS' cross-entropy."""
        if told is None or self.config.train.discriminator == "multiscale":
            return least_squares_generator(fake)
        return oasis_generator(fake[0], told, self.ignored)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Everything preserved, at every C."""
        x = self.pictures(batch)
        for k in range(self.config.model.levels):
            x_hat, bits, *_ = self.system(x, self.same_level(x, k).long(), None, self.noise(x))
            x_hat = x_hat.clamp(-1, 1)
            more = {} if self.features is None else {"perceptual": self.perceptual(x, x_hat)}
            if self.lpips is not None:
                more["lpips_squeeze"] = self.lpips((x + 1) / 2, (x_hat + 1) / 2)
            self.log_validation((x + 1) / 2, (x_hat + 1) / 2, bits, k, **more)

    def panels(self, batch: Batch) -> dict[str, Shown]:
        x = self.pictures(batch)
        level = self.same_level(x, self.config.model.levels - 1).long()
        output = self.system(x, level, None, self.noise(x))
        shown: dict[str, Shown] = {"x": batch.image, "GC": (output.picture / 2 + 0.5, output.rate)}
        if self.system.F is not None:
            t_s = self.semantic(batch)
            assert t_s is not None, "`semantic` gives a map where there is F"
            maps = self.random_maps.drawn(t_s.cpu(), np.random.default_rng(0)).to(t_s.device)
            output = self.system(x, level, maps, self.noise(x))
            heat = enlarge(output.heat, self.config.model.latent_stride).expand_as(x)
            shown |= {"heat": heat, "SC": (output.picture / 2 + 0.5, output.rate)}
        return shown

    def export_weights(self) -> dict[str, Tensor]:
        return dict(self.system.state_dict()) | {TABLES: build_folded_tables()}

    def pictures(self, batch: Batch) -> Tensor:
        """x in [−1, 1]."""
        return (2 * batch.image - 1).contiguous(memory_format=torch.channels_last)

    @property
    def sees_labels(self) -> bool:
        """Whether a network is given t_s, or has to find it."""
        t = self.config.train
        by_D = t.conditional if t.discriminator == "multiscale" else t.labels == "maps"
        return (by_D and self.D is not None) or self.system.F is not None

    def check_data(self, data: Any) -> None:
        """Where a network sees labels: that the data has them. With F the data's readers draw the heat maps."""
        self._require_labels("semantic" in data.config.labels)
        if self.system.F is not None:
            data.before_step = self.random_maps

    def semantic(self, batch: Batch) -> Tensor | None:
        """t_s, or None where the configuration needs none; ConfigError where it is needed and not there."""
        self._require_labels(batch.semantic is not None)
        if not self.sees_labels or batch.semantic is None:
            return None
        return batch.semantic.clamp(max=self.system.classes - 1)

    @property
    def random_maps(self) -> RandomMaps:
        """Draws what F sees."""
        return RandomMaps(self.config.model, self.config.train, self.seed)

    def maps(self, batch: Batch) -> Tensor | None:
        """The drawn maps, or None without F; `ConfigError` where they are needed and not there."""
        if self.system.F is not None and batch.prepared is None:
            raise ConfigError("F is trained on drawn heat maps: `check_data` has the data draw them")
        return batch.prepared

    def _require_labels(self, there: bool) -> None:
        if self.sees_labels and not there:
            raise ConfigError(
                "label maps are needed: data.labels=[semantic], or for GC train.conditional=false (multiscale), "
                "train.labels=codebook (oasis)"
            )

    def noise(self, x: Tensor) -> Tensor | None:
        """r as the codec has it (`system.noise_of`), but a new draw for every picture and batch."""
        m = self.config.model
        if not m.noise:
            return None
        size = (len(x), m.noise, x.shape[2] // m.stride, x.shape[3] // m.stride)
        return (2 * torch.rand(size, device=x.device) - 1) * 3**0.5

    def perceptual(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Σ over layers of weight · mean |φ(x) − φ(x̂)|; not masked (recalled of Agustsson et al.)."""
        assert self.features is not None
        with torch.no_grad():
            target = self.features(x / 2 + 0.5)
        return feature_distance(target, self.features(x_hat / 2 + 0.5), self.config.train.layer_weights)


def masked_mse(x: Tensor, output: Output, stride: int) -> Tensor:
    """Mean squared error over the preserved pixels of the batch; 0 where there are none."""
    heat = enlarge(output.heat, stride)
    return ((x - output.picture).square() * heat).sum() / (3 * heat.sum()).clamp_min(1)


def inner(outputs: list[list[Tensor]]) -> list[list[Tensor]]:
    """D's features without its scores."""
    return [layers[:-1] for layers in outputs]


def open_features(config: ExtremeSemanticTraining) -> FrozenFeatures:
    """The perceptual loss's backbone.

    Raises:
        ConfigError, WeightsError: timm has no such model, or its weights are not there.
    """
    otherwise = "give train.backbone_weights=hub or a file, or train.perceptual_weight=0"
    weights, options = classifier_weights(config.backbone_weights, otherwise)
    return FrozenFeatures(config.backbone, weights, config.backbone_layers, **options)
