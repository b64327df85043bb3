"""Configuration of GAN reversal; the values here are those of the paper, where it gives any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig

GENERATORS = ("dcgan", "residual")
LOSSES = ("ssim", "mse")


@dataclass
class GanReversalModel:
    """'Generative Neural Network based Image Compression', after Tolunay and Ghalayini 2018: all that decoding needs.

    The paper names neither the size of z nor of the networks; those of ``dcgan`` are Radford et al. 2016.

    Attributes:
        generator: ``dcgan`` (a vector z a 128×128 patch, as published) or ``residual`` (a spatial z).
        latents: channels of z. With ``dcgan``, 448 of them at about 7 bits are the published 441 bytes.
        widths: of the generator, from the latent grid to the picture; each but DCGAN's last doubles the resolution.
        blocks: residual blocks at each width (``residual`` only).
        encoder: an encoder E beside the generator, whose z the search starts from. Not in the paper, whose searches
            start from the prior alone.
        overlap: pixels that neighbouring DCGAN patches share; the seam is blended over them.
        scale_index: initial quantiser of z, an index into the scales of `entropy.gaussian`: a step is 1/σ(index) prior
            deviations. 57 is 7.3 bits a component under the prior, 22 is 2.
    """

    generator: str = "dcgan"
    latents: int = 448
    widths: list[int] = field(default_factory=lambda: [1024, 512, 256, 128, 64])
    blocks: list[int] = field(default_factory=list)
    encoder: bool = False
    overlap: int = 16
    scale_index: int = 57

    @property
    def patch(self) -> int:
        """Pixels a side that one position of z makes, with DCGAN's overlap."""
        return (4 if self.generator == "dcgan" else 1) * 2 ** len(self.widths)

    @property
    def stride(self) -> int:
        """Pixels a side from one position of z to the next."""
        return self.patch - (self.overlap if self.generator == "dcgan" else 0)


@dataclass
class GanReversalTraining(TrainConfig):
    """The GAN's losses, as published; with an encoder also those of the pictures of its z.

    Attributes:
        D: widths of the discriminator.
        adversarial_weight: of the adversarial loss on G(z), z from the prior.
        ssim_weight, mse_weight: of 1 − SSIM and of MSE ([0, 1] range) of the picture of E's z.
        rate_weight: of the bits per pixel of E's z under the prior.
        shift_range: training draws the quantiser's shift from ±shift_range indices, so that one generator serves
            several rates.
        adversarial_from: batch from which D and the adversarial loss take part.
        r1_weight, r1_every: γ of the R1 penalty on D, 0 for none, and the batches from one to the next.
        augment: DiffAugment (Zhao et al. 2020) on all that D sees; for small sets.
        beta1: of Adam; DCGAN's 0.5.
    """

    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    adversarial_weight: float = 1.0
    ssim_weight: float = 0.0
    mse_weight: float = 0.0
    rate_weight: float = 0.0
    shift_range: float = 0.0
    adversarial_from: int = 0
    r1_weight: float = 0.0
    r1_every: int = 16
    augment: bool = False
    learning_rate: float = 2e-4
    beta1: float = 0.5
    clip: float = 10.0


@dataclass
class GanReversalCoding(CodingConfig):
    """The search for z. All but ``rates`` and ``default_rate`` are options of `GanReversalCodec.encode`.

    Attributes:
        rates: bits per pixel that the codec offers as qualities, ascending; default_rate: one of them.
        effort: 0 to 9, for `STEPS` gradient steps; 0 keeps the start as it is.
        steps: gradient steps, in place of effort's.
        restarts: draws from the prior beside E's z, all searched in one batch.
        continuous: share of the steps before quantisation; the rest are on symbols, annealed and then
            straight-through.
        learning_rate: of Adam, in prior deviations before and in quantiser steps after quantisation.
        box: components beyond ±box prior deviations are drawn anew (stochastic clipping, Lipton and Tripathi 2017).
        loss: ``ssim``, 1 − SSIM + mse_weight·MSE, for unseen pictures; ``mse``, for pictures trained on.
        mse_weight: of MSE ([0, 1] range).
        rate_weight: λ, of bits per pixel, where the search on symbols starts. 0: it starts at 1, and the search before
            quantisation has no rate term.
        layered: with a coded residual (True), without (False), or whichever comes closer from ``layer_from`` bits per
            pixel on (None).
        layer_from: see layered.
        seed: of the draws and of clipping. Equal seeds give equal files on one machine.
    """

    STEPS: ClassVar[tuple[int, ...]] = (0, 5, 10, 25, 50, 100, 200, 300, 600, 1000)

    rates: list[float] = field(default_factory=lambda: [0.15, 0.2152, 0.3])
    default_rate: float = 0.2152
    effort: int = 9
    steps: int | None = None
    restarts: int = 16
    continuous: float = 0.7
    learning_rate: float = 0.05
    box: float = 4.0
    loss: str = "ssim"
    mse_weight: float = 4.0
    rate_weight: float = 0.0
    layered: bool | None = None
    layer_from: float = 0.4
    seed: int = 0

    @property
    def gradient_steps(self) -> int:
        """``steps``, or those of ``effort``."""
        return self.STEPS[self.effort] if self.steps is None else self.steps

    def check(self) -> None:
        """Raise `ConfigError` on a value out of range."""
        coding = Fields("coding", self)
        coding.at_least(0, "restarts", "mse_weight", "rate_weight")
        coding.require("steps", self.steps is None or self.steps >= 0, "0 or more")
        coding.between(0, len(self.STEPS) - 1, "effort")
        coding.require("continuous", 0 <= self.continuous < 1, "0 or more and below 1")
        coding.above(0, "learning_rate", "box")
        coding.one_of(LOSSES, "loss")
        ascending = list(self.rates) == sorted(self.rates) and min(self.rates, default=0) > 0
        coding.require("rates", ascending, "a list of bits per pixel that ascends")
        coding.require("default_rate", self.default_rate in self.rates, "one of rates")


@dataclass
class GanReversalConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: GanReversalModel = field(default_factory=GanReversalModel)
    train: GanReversalTraining = field(default_factory=GanReversalTraining)
    coding: GanReversalCoding = field(default_factory=GanReversalCoding)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        self.coding.check()
        model.one_of(GENERATORS, "generator")
        model.at_least(1, "latents")
        model.lists("widths")
        model.between(0, 63, "scale_index")
        if m.generator == "residual":
            model.counts(len(m.widths), "blocks", "model.widths")
        else:
            model.require("encoder", not m.encoder, "a residual generator (or false)")
            model.require("overlap", 0 <= 2 * m.overlap <= m.patch, f"0 to {m.patch // 2}")
        weights = ("ssim_weight", "mse_weight", "rate_weight")
        train.at_least(0, *weights, "adversarial_weight", "shift_range", "r1_weight")
        train.at_least(1, "r1_every")
        if not m.encoder:
            for name in weights:
                train.require(name, getattr(t, name) == 0, "model.encoder, or 0 here,")
            coding = Fields("coding", self.coding)
            coding.require("restarts", self.coding.restarts >= 1, "1 or more, or model.encoder,")
