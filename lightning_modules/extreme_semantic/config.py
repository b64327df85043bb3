"""Configuration of extreme semantic compression; the defaults are the published values of GC."""

from __future__ import annotations

from dataclasses import dataclass, field

from datamodules.camvid import CLASSES
from lightning_modules.codec.errors import ConfigError
from lightning_modules.schedule import Schedule

NORMS = ("instance", "channel")


@dataclass
class ExtremeSemanticConfig(Schedule):
    """Mohit, Saxena, Singh, which describes the system of Agustsson et al. 2019 without its numbers; those here are
    Agustsson's.

    Published weights conflict between sources: MSE 10 or 12, feature matching 10 or 12, the perceptual loss absent, 10
    or 12. Here 12, 12 and 12. The ranges behind them are pinned: pictures in [−1, 1], the adversarial and the feature
    losses a mean over scales.

    Attributes:
        classes: names of the label map's classes; labels beyond count as the last.
        C: channels of ŵ, ascending; more than one is nested: a file at C = 2 holds the first two channels of eight,
            and G is told by a bias at its first layer. One a network is the publication.
        E: widths of the encoder: c7s1-E[0], then d's. after: widths of what follows the quantiser in SC, c3s1-after[0],
            then d's; none in GC.
        F: widths of the semantic encoder, c7s1-F[0], then d's; none in GC.
        G: widths of the generator: c3s1-G[0], residual blocks, then u's, then c7s1-3.
        blocks: number of residual blocks.
        fold_in, fold_out: side of the squares of pixels that become channels before the first and after the last
            convolution. 1 is the publication; more spares the layers at full resolution (whose 7×7 is then a 3×3).
        map_stride: side in pixels of the label map's cells, as G and the file have it; 1 is the publication.
        norm: ``instance``, or ``channel`` (over the channels at each position, Mentzer et al. 2020), by which what is
            preserved does not depend on statistics of the whole picture.
        freeze_from: batch from which the norm in front of the quantiser keeps its statistics. Until then each batch is
            normalised by its own, which costs G the absolute brightness.
        noise: channels of r, uniform noise of variance 1 concatenated to ŵ; 0 for none.
        sigma: of the soft assignment softmax(−σ·(w − c)²) behind the quantiser's gradient.
        conditional: D sees the label map. scales: of D, each at half the resolution of the one before. D: widths.
        selective: share of the training crops with a heat map; the others keep everything. 0 is GC, 1 is SC.
        keep: chance of an instance to be preserved. boxes: share of heat maps that are random boxes.
        lambda_gan, lambda_mse, lambda_features, lambda_perceptual: weights of the losses; 0 leaves one out.
        beta: weight of the entropy of ŵ in bits per pixel for the encoder; with 0 the rate is capped by dim·log2 L
            alone. The entropy model is trained in either case. beta_from: batch from which β counts; an encoder that
            saves bits before G can use them ends at no bits.
        perceptual: timm's name of the backbone; perceptual_weights: ``shared`` (mobilenetv2_100 below GENIC_DATA),
            ``hub``, a safetensors file, or ``random``. perceptual_layers: which features; layer_weights: of each, by
            default as pix2pixHD has them for VGG. perceptual_from: batch from which this loss counts.
        level_power: a crop's C is number ⌊u^level_power · len(C)⌋, u uniform; below 1 the last C comes oftener.
        adversarial_from: batch from which D takes part.
        context, heads, radius, skew: of the entropy model (`lightning_modules.entropy.context`).
        clip: bound on the norm of each network's gradient.
    """

    classes: list[str] = field(default_factory=lambda: list(CLASSES))
    C: list[int] = field(default_factory=lambda: [8])
    E: list[int] = field(default_factory=lambda: [60, 120, 240, 480, 960])
    after: list[int] = field(default_factory=list)
    F: list[int] = field(default_factory=list)
    G: list[int] = field(default_factory=lambda: [960, 480, 240, 120, 60])
    blocks: int = 9
    fold_in: int = 1
    fold_out: int = 1
    map_stride: int = 1
    norm: str = "instance"
    freeze_from: int = 1000
    noise: int = 0
    sigma: float = 1.0
    conditional: bool = True
    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    scales: int = 2
    selective: float = 0.0
    keep: float = 0.25
    boxes: float = 0.5
    lambda_gan: float = 1.0
    lambda_mse: float = 12.0
    lambda_features: float = 12.0
    lambda_perceptual: float = 12.0
    beta: float = 0.0
    beta_from: int = 0
    perceptual: str = "vgg16"
    perceptual_weights: str = "hub"
    perceptual_layers: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    layer_weights: list[float] = field(default_factory=lambda: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0])
    perceptual_from: int = 0
    level_power: float = 1.0
    adversarial_from: int = 0
    context: int = 64
    heads: int = 2
    radius: int = 3
    skew: int = 1
    learning_rate: float = 2e-4
    clip: float = 10.0

    def check(self) -> None:
        """Raise `ConfigError` on values that do not go together."""
        if not self.C or sorted(set(self.C)) != list(self.C) or self.C[0] < 1:
            raise ConfigError(f"model.C is {self.C}: channels from 1 on, ascending, are needed")
        if self.norm not in NORMS:
            raise ConfigError(f"model.norm is {self.norm!r}: there are {' and '.join(NORMS)}")
        if not self.E or not self.G or self.scales < 1:
            raise ConfigError("model.E and model.G need a width or more, model.scales is 1 or more")
        if self.stride != self.latent_stride * 2 ** max(len(self.after) - 1, 0):
            raise ConfigError(
                f"model.E and model.after give a stride of {self.latent_stride} and that of G is {self.stride}: "
                "the lists' lengths do not fit"
            )
        if not 0 <= self.selective <= 1 or (self.selective > 0) != bool(self.F):
            raise ConfigError(
                "model.selective is 0 without and more than 0 (to 1) with a semantic encoder model.F"
            )
        if self.F and self.map_stride * 2 ** (len(self.F) - 1) != self.stride:
            raise ConfigError(
                f"model.F reaches a stride of {self.map_stride * 2 ** (len(self.F) - 1)}, not G's"
            )
        if self.F and self.latent_stride % self.map_stride:
            raise ConfigError(f"model.map_stride is {self.map_stride}: it divides {self.latent_stride}")
        if len(self.perceptual_layers) != len(self.layer_weights):
            raise ConfigError(
                "model.perceptual_layers and model.layer_weights need one number for each other's"
            )
        if len(self.classes) > 250:
            raise ConfigError("model.classes has more than 250 names")

    @property
    def latent_stride(self) -> int:
        """Pixels a side of one position of ŵ."""
        return self.fold_in * 2 ** (len(self.E) - 1)

    @property
    def stride(self) -> int:
        """Pixels a side of one position at G's start; pictures are padded to multiples of it."""
        return self.fold_out * 2 ** (len(self.G) - 1)
