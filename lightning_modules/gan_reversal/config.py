"""Configuration of GAN reversal; the values here are those of the paper, where it gives any."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_modules.codec.errors import ConfigError
from lightning_modules.schedule import Schedule

GENERATORS = ("dcgan", "residual")


@dataclass
class GanReversalConfig(Schedule):
    """'Generative Neural Network based Image Compression', after Tolunay and Ghalayini 2018.

    The paper names neither the size of z nor of the networks; those of ``dcgan`` are Radford et al. 2016.

    Attributes:
        generator: ``dcgan`` (a vector z a 128×128 patch, as published) or ``residual`` (a spatial z).
        latents: channels of z. With ``dcgan``, 448 of them at about 7 bits are the published 441 bytes.
        widths: of the generator, from the latent grid to the picture; each but DCGAN's last doubles the resolution.
        blocks: residual blocks at each width (``residual`` only).
        guess: train a network E beside the generator that guesses z, and the generator on its pictures too. Not in
            the paper, whose searches start from the prior alone.
        D: widths of the discriminator.
        overlap: pixels that neighbouring DCGAN patches share; the seam is blended over them.
        scale_index: initial quantiser of z, an index into the scales of `entropy.gaussian`: a step is 1/σ(index) prior
            deviations. 57 is 7.3 bits a component under the prior, 22 is 2.
        shift: training draws the quantiser's shift from ±shift indices, so that one generator serves several rates.
        lambda_g: weight of the adversarial loss on G(z), z from the prior.
        lambda_d: of 1 − SSIM + mse·MSE of the picture from E's guess. mse: of MSE in [0, 1] range.
        lambda_rate: of the guess's bits per pixel under the prior.
        adversarial_from: batch from which D and the adversarial loss take part.
        r1: γ of the R1 penalty on D, applied every ``r1_every`` batches; 0 for none.
        augment: DiffAugment (Zhao et al. 2020) on all that D sees; for small sets.
        average: decay of the exponential moving average of the weights that are exported; 0 exports the last.
        learning_rate: of Adam, for G (and E) and D. beta1: DCGAN's 0.5.
        clip: bound on the norm of each network's gradient.
        rates: bits per pixel that the codec offers as qualities, ascending; default_rate: one of them.
        steps: gradient steps of the search. restarts: draws from the prior beside E's guess, all searched in one batch.
        continuous: share of the steps before quantisation; the rest are in symbols, annealed and then straight-through.
        search_rate: of Adam in the search, in prior deviations before and in quantiser steps after quantisation.
        box: components beyond ±box prior deviations are drawn anew (stochastic clipping, Lipton and Tripathi 2017).
        layer_from: bits per pixel from which a coded residual is tried beside the latent alone.
    """

    generator: str = "dcgan"
    latents: int = 448
    widths: list[int] = field(default_factory=lambda: [1024, 512, 256, 128, 64])
    blocks: list[int] = field(default_factory=list)
    guess: bool = False
    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024])
    overlap: int = 16
    scale_index: int = 57
    shift: int = 0
    lambda_g: float = 1.0
    lambda_d: float = 0.0
    mse: float = 4.0
    lambda_rate: float = 0.0
    adversarial_from: int = 0
    r1: float = 0.0
    r1_every: int = 16
    augment: bool = False
    average: float = 0.0
    learning_rate: float = 2e-4
    beta1: float = 0.5
    clip: float = 10.0
    rates: list[float] = field(default_factory=lambda: [0.15, 0.2152, 0.3])
    default_rate: float = 0.2152
    steps: int = 1000
    restarts: int = 16
    continuous: float = 0.7
    search_rate: float = 0.05
    box: float = 4.0
    layer_from: float = 0.4

    def check(self) -> None:
        """Raise `ConfigError` on values that do not go together."""
        if self.generator not in GENERATORS:
            raise ConfigError(f"model.generator is {self.generator!r}: there are {' and '.join(GENERATORS)}")
        if self.generator == "residual" and len(self.blocks) != len(self.widths):
            raise ConfigError("model.blocks needs one number for each of model.widths")
        if self.default_rate not in self.rates or list(self.rates) != sorted(self.rates):
            raise ConfigError("model.rates must ascend and hold model.default_rate")
        if not self.guess and (self.lambda_d > 0 or self.lambda_rate > 0 or self.restarts < 1):
            raise ConfigError(
                "without model.guess there is no picture to compare (set lambda_d=0, lambda_rate=0) and the "
                "search starts from the prior (restarts of 1 or more)"
            )
        if not 0 <= self.continuous < 1 or self.steps < 0 or self.restarts < 0 or self.box <= 0:
            raise ConfigError("0 ≤ model.continuous < 1, steps and restarts from 0 and a positive box needed")
