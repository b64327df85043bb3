"""Configuration of GDAE + SPRC; the defaults are the slides' where they say anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig
from genic.losses.gan import GAN_LOSSES

PARTS = ("autoencoder", "restoration")
LATENT_CODERS = ("best", "jpeg_xl", "learned")
EFFORTS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
)


@dataclass
class GdaeSprcModel:
    """Wang, Waseda: all that decoding needs. Only slides exist; published is the drawing of dense connections, and
    widths, depth and number of centres are ours.

    Attributes:
        levels: number of rate levels. One is the slides'; more make one network serve several rates with gain units
            (Cui et al. 2021).
        E: widths of the encoder's stages, each at half the resolution of the one before; the first at 1/2.
        G: widths of the decoder's stages, from the coarsest.
        latents: channels of ẑ, at the encoder's coarsest resolution.
        dense: connections from every stage to every later one, inside the encoder and inside the decoder.
        growth: channels that a stage receives from each earlier one.
        centres: number of quantiser centres, shared by all channels; odd, so that one lies at 0.
        hyper, psi, context, heads, radius, skew: of the entropy model (`lightning_modules.entropy`).
        R: width of the network that restores what HEVC's quantisation took, ours; 0 is none, as the slides have it.
        R_blocks: its residual blocks.
    """

    levels: int = 1
    E: list[int] = field(default_factory=lambda: [64, 96, 128, 192])
    G: list[int] = field(default_factory=lambda: [192, 128, 96, 64])
    latents: int = 64
    dense: bool = True
    growth: int = 32
    centres: int = 7
    hyper: int = 16
    psi: int = 64
    context: int = 64
    heads: int = 2
    radius: int = 3
    skew: int = 1
    R: int = 0
    R_blocks: int = 10

    @property
    def stride(self) -> int:
        """Pixels a side of one latent position."""
        return 2 ** len(self.E)


@dataclass
class GdaeSprcTraining(TrainConfig):
    """Losses and schedule. Published are the three losses' weights, 10 : 5 : 2; temperature and learning rate are ours.

    The ranges that the losses' weights refer to are pinned here: pictures in [0, 1], so that the mean squared error
    is about 0.001, GAN losses in nats, SSIM from −1 to 1.

    Attributes:
        mse_weight, adversarial_weight, ssim_weight: λ1, λ2, λ3. adversarial_weight = 0 leaves out the discriminator.
        gan_loss: ``softplus`` (non-saturating), or ``saturating`` as the slides print it; see `losses.gan`.
        rate_weight: of the estimated bits per pixel for the encoder, one value a rate level, in descending order. The
            slides have no rate term: 0 with one level is the paper. The entropy model is trained in either case.
        sigma, sigma_to, anneal_batches: σ of the soft assignment softmax(−σ·(z − c)²), which grows linearly to
            ``sigma_to`` until batch ``anneal_batches``; equal values are a fixed temperature.
        D: widths of the discriminator's stages.
        adversarial_from: batch from which the discriminator takes part.
        part: what is trained: ``autoencoder``, all but R, or ``restoration``, R alone, on pictures after HEVC.
        restoration_qp: quantisation parameters of these, ascending whole numbers, drawn at random.
        coded_side: of a picture that is longer the middle is coded, so many pixels a side.
        coded: folder where HEVC's streams are kept. A picture is coded once a QP, and again when the coder changes.
    """

    mse_weight: float = 10.0
    adversarial_weight: float = 5.0
    ssim_weight: float = 2.0
    gan_loss: str = "softplus"
    rate_weight: list[float] = field(default_factory=lambda: [0.0])
    sigma: float = 1.0
    sigma_to: float = 1.0
    anneal_batches: int = 1
    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    adversarial_from: int = 0
    part: str = "autoencoder"
    restoration_qp: list[int] = field(default_factory=lambda: [22, 25, 28, 31, 34, 37, 40, 43])
    coded_side: int = 768
    coded: str = "~/.cache/genic/coded_pictures"


@dataclass
class GdaeSprcCoding(CodingConfig):
    """Options of `GdaeSprcCodec.encode`.

    Attributes:
        level: of the latents, or ``none`` for no latents; ``best`` tries all of these. The slides fix it.
        latents: the latents' lossless coder: ``jpeg_xl`` (the slides have FLIF, its forerunner), ``learned``, the
            entropy model, or the ``best`` of the two.
        classifier: makes the heat map, NAME or NAME:FILE, see `grad_cam.open_classifier`; ``vgg16`` is the slides'
            own. None is ``mobilenetv2_100`` if its weights are at hand, and uniform quality otherwise.
        top_k: classes that the heat map shows; the slides' one.
        strength: QP between the coldest and the hottest place; 0 is uniform quality and needs no heat map. On Kodak the
            heat's standard deviation is about a quarter, so 4 is one QP of deviation, which costs about 0.1 dB of the
            whole picture's PSNR.
        effort: x265's preset.
        restore: restoration is among the choices, where the weights have the network for it.
    """

    level: str | float = "best"
    latents: str = "best"
    classifier: str | None = None
    top_k: int = 1
    strength: float = 4.0
    effort: str = "veryslow"
    restore: bool = True

    def check(self, levels: int) -> None:
        """Raise `ConfigError` on a value out of range; ``levels`` is the model's."""
        coding = Fields("coding", self)
        numbered = not isinstance(self.level, str) and 0 <= self.level <= levels - 1
        good = self.level in ("best", "none") or numbered
        coding.require("level", good, f"best, none, or a number from 0 to {levels - 1}")
        coding.one_of(LATENT_CODERS, "latents")
        coding.at_least(1, "top_k")
        coding.between(0, 51, "strength")
        coding.one_of(EFFORTS, "effort")


@dataclass
class GdaeSprcConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: GdaeSprcModel = field(default_factory=GdaeSprcModel)
    train: GdaeSprcTraining = field(default_factory=GdaeSprcTraining)
    coding: GdaeSprcCoding = field(default_factory=GdaeSprcCoding)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        odd = 3 <= m.centres <= 255 and m.centres % 2 == 1
        model.require("centres", odd, "an odd number from 3 to 255")
        model.lists("E", "G")
        model.counts(len(m.E), "G", "stages, as in model.E")
        model.at_least(1, "levels", "latents", "growth", "hyper", "psi", "heads", "radius")
        model.require("context", m.context % m.heads == 0 < m.context, f"a multiple of {m.heads} heads")
        model.between(1, 2, "skew")
        train.counts(m.levels, "rate_weight", "levels")
        descending = sorted(t.rate_weight, reverse=True) == list(t.rate_weight) and min(t.rate_weight) >= 0
        train.require("rate_weight", descending, "values of 0 or more in descending order")
        train.at_least(0, "mse_weight", "adversarial_weight", "ssim_weight")
        train.one_of(GAN_LOSSES, "gan_loss")
        train.above(0, "sigma", "sigma_to")
        train.at_least(1, "anneal_batches")
        train.lists("D")
        model.at_least(0, "R")
        model.at_least(1, "R_blocks")
        train.one_of(PARTS, "part")
        model.require("R", t.part != "restoration" or m.R > 0, "a width, with train.part=restoration,")
        ascending = t.restoration_qp and all(a < b for a, b in pairwise([-1, *t.restoration_qp, 52]))
        train.require("restoration_qp", ascending, "ascending numbers from 0 to 51")
        train.at_least(1, "coded_side")
        self.coding.check(m.levels)
