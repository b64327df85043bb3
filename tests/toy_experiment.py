"""A paper in miniature for tests of the run: a noisy autoencoder against a discriminator.

``python -m tests.toy_experiment toy …`` is ``python -m experiments.run toy …``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genic.experiments import config
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.config import CodingConfig, PaperConfig, TrainConfig
from genic.lightning_modules.registry import PAPERS, Paper


@dataclass
class ToyModel:
    """Settings of the toy's network."""

    width: int = 4
    rates: list[float] = field(default_factory=lambda: [0.1, 0.2])


@dataclass
class ToyTraining(TrainConfig):
    """Settings of the toy's training."""

    noise: float = 0.1
    learning_rate: float = 1e-3
    decay_from: int = 2
    decay_to: int = 3
    decay_factor: float = 0.5


@dataclass
class ToyConfig(PaperConfig):
    """The toy's configuration in its parts."""

    model: ToyModel = field(default_factory=ToyModel)
    train: ToyTraining = field(default_factory=ToyTraining)
    coding: CodingConfig = field(default_factory=CodingConfig)


class ToyPaper(Paper):
    """Of this file, and without a codec."""

    folder = Path(__file__).parent

    def module_class(self) -> type:
        return Toy

    def config_class(self) -> type:
        return ToyConfig

    def codecs(self) -> dict[str, tuple[str, str]]:
        return {}


class Toy(CompressionModule):
    """Two optimisers, noise in the step, and a generator whose loss runs through the discriminator."""

    paper = "toy"

    def __init__(self, config: ToyConfig, seed: int = 0) -> None:
        super().__init__(config, seed)
        self.system = nn.Sequential(
            nn.Conv2d(3, config.model.width, 3, 2, 1),
            nn.GELU(),
            nn.ConvTranspose2d(config.model.width, 3, 4, 2, 1),
        )
        self.D = nn.Conv2d(3, 1, 3, 2)

    def optimiser_groups(self):
        rate = self.config.train.learning_rate
        return {
            "generator": (self.system.parameters(), rate),
            "discriminator": (self.D.parameters(), 2 * rate),
        }

    def loss_step(self, batch):
        x = batch.image
        x_hat = self.system(x + self.config.train.noise * torch.rand_like(x))
        adversarial = self.batches_seen >= 1  # the first batch leaves D without a gradient
        if adversarial:
            loss_d = F.softplus(-self.D(x)).mean() + F.softplus(self.D(x_hat.detach())).mean()
            self.update("discriminator", loss_d)
            self.log("loss/discriminator", loss_d)
        loss = F.mse_loss(x_hat, x)
        if adversarial:
            loss = loss + 0.1 * F.softplus(-self.D(x_hat)).mean()
        self.update("generator", loss)
        self.log("loss/total", loss)

    def validation_step(self, batch, batch_idx):
        self.log("validation/mse", F.mse_loss(self.system(batch.image), batch.image), sync_dist=True)

    def panels(self, batch):
        return {"x": batch.image, "x_hat": self.system(batch.image).clamp(0, 1)}

    def export_weights(self):
        return dict(self.system.state_dict())

    def codec(self):
        raise NotImplementedError("the toy trains only")


def install() -> None:
    """Make ``toy`` an experiment of this process."""
    PAPERS["toy"] = ToyPaper("toy", "Toy", "toy")
    config.PRESETS = Path(__file__).parent / "toy_presets"


if __name__ == "__main__":
    from genic.experiments.run import main

    install()
    sys.exit(main())
