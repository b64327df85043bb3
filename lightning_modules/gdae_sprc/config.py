"""Configuration of GDAE; the defaults are the slides' where they say anything."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_modules.codec.errors import ConfigError
from lightning_modules.schedule import Schedule
from losses.gan import GAN_LOSSES


@dataclass
class GdaeSprcConfig(Schedule):
    """Wang, Waseda: only slides exist. Published are the three losses' weights, 10 : 5 : 2, and the drawing of dense
    connections; widths, depth, number of centres, temperature and learning rate are ours.

    The ranges that the losses' weights refer to are pinned here: pictures in [0, 1], so that the mean squared error
    is about 0.001, GAN losses in nats, SSIM from −1 to 1.

    Attributes:
        E: widths of the encoder's stages, each at half the resolution of the one before; the first at 1/2.
        G: widths of the decoder's stages, from the coarsest.
        latents: channels of ẑ, at the encoder's coarsest resolution.
        dense: connections from every stage to every later one, inside the encoder and inside the decoder.
        growth: channels that a stage receives from each earlier one.
        centres: number of quantiser centres, shared by all channels; odd, so that one lies at 0.
        sigma: of the soft assignment softmax(−σ·(z − c)²). From batch 0 to ``anneal_batches`` it grows linearly to
            ``sigma_to``; equal values are a fixed temperature.
        lambda_mse, lambda_gan, lambda_ssim: λ1, λ2, λ3. lambda_gan = 0 leaves out the discriminator.
        gan_loss: ``softplus`` (non-saturating), or ``saturating`` as the slides print it; see `losses.gan`.
        lambda_rate: weight of the estimated bits per pixel for the encoder, one value a rate level, in descending
            order. The slides have no rate term: 0 with one level is the paper. More levels make one network serve
            several rates with gain units (Cui et al. 2021). The entropy model is trained in either case.
        D: widths of the discriminator's stages.
        adversarial_from: batch from which the discriminator takes part.
        hyper, psi, context, heads, radius, skew: of the entropy model (`lightning_modules.entropy`).
        clip: bound on the norm of each network's gradient.
    """

    E: list[int] = field(default_factory=lambda: [64, 96, 128, 192])
    G: list[int] = field(default_factory=lambda: [192, 128, 96, 64])
    latents: int = 64
    dense: bool = True
    growth: int = 32
    centres: int = 7
    sigma: float = 1.0
    sigma_to: float = 1.0
    anneal_batches: int = 1
    lambda_mse: float = 10.0
    lambda_gan: float = 5.0
    lambda_ssim: float = 2.0
    gan_loss: str = "softplus"
    lambda_rate: list[float] = field(default_factory=lambda: [0.0])
    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    adversarial_from: int = 0
    hyper: int = 16
    psi: int = 64
    context: int = 64
    heads: int = 2
    radius: int = 3
    skew: int = 1
    clip: float = 1.0

    def check(self) -> None:
        """Raise `ConfigError` on a value out of range."""
        if not (3 <= self.centres <= 255 and self.centres % 2):
            raise ConfigError(f"model.centres is {self.centres}: an odd number from 3 to 255 is needed")
        if len(self.E) != len(self.G):
            raise ConfigError(
                f"model.E has {len(self.E)} stages, model.G {len(self.G)}: give as many of each"
            )
        if self.gan_loss not in GAN_LOSSES:
            raise ConfigError(f"model.gan_loss is {self.gan_loss!r}: there are {', '.join(GAN_LOSSES)}")
        if not self.lambda_rate or sorted(self.lambda_rate, reverse=True) != list(self.lambda_rate):
            raise ConfigError(
                f"model.lambda_rate is {self.lambda_rate}: at least one value, in descending order"
            )

    @property
    def stride(self) -> int:
        """Pixels a side of one latent position."""
        return 2 ** len(self.E)
