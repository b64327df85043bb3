"""Configuration of extreme semantic compression; the defaults are the published values of GC.

Mohit, Saxena, Singh, which describes the system of Agustsson et al. 2019 without its numbers; those here are
Agustsson's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from genic.datamodules.batch import CAMVID_CLASSES
from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig

NORMS = ("instance", "channel")
TRANSFORMS = ("residual", "pretrained")
DISCRIMINATORS = ("multiscale", "oasis")
LABELS = ("maps", "codebook")


@dataclass
class ExtremeSemanticModel:
    """All that decoding needs.

    Attributes:
        classes: names of the label map's classes; labels beyond count as the last.
        C: channels of ŵ, one number a rate level, ascending; more than one is nested: a file at C = 2 holds the first
            two channels of eight, and G is told by a bias at its first layer. One a network is the publication.
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
        noise: channels of r, uniform noise of variance 1 concatenated to ŵ; 0 for none.
        context, heads, radius, skew: of the entropy model (`lightning_modules.entropy.context`).
        transform: of E and G. ``residual`` is the publication; ``pretrained`` has TAEF2 between pictures and 1/8 of
            their sides, and a linear map beside residual attention blocks between that and ŵ (`layers.pretrained`): E,
            after and G have no widths of their own then. A learned gain for each C and channel is in front of the
            quantiser, its inverse behind.
        analysis_blocks, synthesis_blocks: those attention blocks in E and in G. synthesis: their width in G.
        light_decoder: leave out TAEF2's layers at full resolution (`layers.taef.Decoder`).
    """

    classes: list[str] = field(default_factory=lambda: list(CAMVID_CLASSES))
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
    noise: int = 0
    context: int = 64
    heads: int = 2
    radius: int = 3
    skew: int = 1
    transform: str = "residual"
    analysis_blocks: int = 1
    synthesis: int = 128
    synthesis_blocks: int = 3
    light_decoder: bool = True

    @property
    def levels(self) -> int:
        """Number of rate levels."""
        return len(self.C)

    @property
    def latent_stride(self) -> int:
        """Pixels a side of one position of ŵ."""
        if self.transform == "pretrained":
            return 16
        return self.fold_in * 2 ** (len(self.E) - 1)

    @property
    def stride(self) -> int:
        """Pixels a side of one position at G's start; pictures are padded to multiples of it."""
        if self.transform == "pretrained":
            return 16
        return self.fold_out * 2 ** (len(self.G) - 1)


@dataclass
class ExtremeSemanticTraining(TrainConfig):
    """Losses and schedule.

    Published weights conflict between sources: MSE 10 or 12, feature matching 10 or 12, the perceptual loss absent, 10
    or 12. Here 12, 12 and 12. The ranges behind them are pinned: pictures in [−1, 1], the adversarial and the feature
    losses a mean over scales.

    Attributes:
        freeze_from: batch from which the norm in front of the quantiser keeps its statistics. Until then each batch is
            normalised by its own, which costs G the absolute brightness.
        sigma: of the soft assignment softmax(−σ·(w − c)²) behind the quantiser's gradient.
        discriminator: ``multiscale``, the publication's, or ``oasis``, a U-Net that gives each pixel a class or 'fake'
            (`networks.UNetDiscriminator`), which is ours.
        conditional: D sees the label map. scales: of D, each at half the resolution of the one before; both of
            ``multiscale``. D: widths.
        labels: whose classes ``oasis`` gives: ``maps``, the label maps', or ``codebook``, the nearest centre of E's
            pretrained features (`ExtremeSemantic.codebook`), for pictures without label maps. codes: number of centres.
        ignored: names of classes whose pixels ``oasis`` learns nothing from.
        label_mix_weight: of ``oasis``'s consistency on mixed pictures (`losses.gan.label_mix`).
        selective: share of the training crops with a heat map; the others keep everything. 0 is GC, 1 is SC.
        keep: chance of an instance to be preserved. boxes: share of heat maps that are random boxes.
        adversarial_weight, mse_weight, feature_weight, perceptual_weight: of the losses; 0 leaves one out.
        lpips_weight: of LPIPS (SqueezeNet); not published (0).
        rate_weight: β, of the entropy of ŵ in bits per pixel for the encoder; with 0 the rate is capped by dim·log2 L
            alone. The entropy model is trained in either case. rate_factors: of β, one a C; none for 1. rate_from:
            batch from which β counts; an encoder that saves bits before G can use them ends at no bits.
        backbone: timm's name of the perceptual loss's; backbone_weights: ``shared`` (mobilenetv2_100 below GENIC_DATA),
            ``hub``, a safetensors file, or ``random``. backbone_layers: which features; layer_weights: of each, by
            default as pix2pixHD has them for VGG. perceptual_from: batch from which this loss counts.
        level_power: a crop's C is number ⌊u^level_power · levels⌋, u uniform; below 1 the last C comes oftener.
        adversarial_from: batch from which D takes part.
        steps: of the quantiser at the start of a ``pretrained`` transform, in units of TAEF2's latents, one a C; wider
            where five centres would cover too little. None for the least.
        pretrained_rate: factor on the learning rate of TAEF2's own layers.
        frozen: prefixes of the names of the system's parameters that are not trained.
    """

    freeze_from: int = 1000
    sigma: float = 1.0
    discriminator: str = "multiscale"
    conditional: bool = True
    labels: str = "maps"
    codes: int = 128
    ignored: list[str] = field(default_factory=list)
    label_mix_weight: float = 0.0
    D: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    scales: int = 2
    selective: float = 0.0
    keep: float = 0.25
    boxes: float = 0.5
    adversarial_weight: float = 1.0
    mse_weight: float = 12.0
    feature_weight: float = 12.0
    perceptual_weight: float = 12.0
    lpips_weight: float = 0.0
    rate_weight: float = 0.0
    rate_factors: list[float] = field(default_factory=list)
    rate_from: int = 0
    backbone: str = "vgg16"
    backbone_weights: str = "hub"
    backbone_layers: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    layer_weights: list[float] = field(default_factory=lambda: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0])
    perceptual_from: int = 0
    level_power: float = 1.0
    adversarial_from: int = 0
    steps: list[float] = field(default_factory=list)
    pretrained_rate: float = 1.0
    frozen: list[str] = field(default_factory=list)
    learning_rate: float = 2e-4
    clip: float = 10.0

    @property
    def discriminates(self) -> bool:
        """Whether there is a D."""
        return self.adversarial_weight > 0 or self.feature_weight > 0


@dataclass
class ExtremeSemanticConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: ExtremeSemanticModel = field(default_factory=ExtremeSemanticModel)
    train: ExtremeSemanticTraining = field(default_factory=ExtremeSemanticTraining)
    coding: CodingConfig = field(default_factory=CodingConfig)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        model.require("classes", 1 <= len(m.classes) <= 250, "a list of 1 to 250 names")
        ascending = sorted(set(m.C)) == list(m.C) and m.C and m.C[0] >= 1
        model.require("C", ascending, "an ascending list of numbers from 1 on")
        model.one_of(NORMS, "norm")
        model.one_of(TRANSFORMS, "transform")
        model.at_least(0, "blocks", "noise", "analysis_blocks", "synthesis_blocks")
        model.at_least(1, "fold_in", "fold_out", "map_stride", "context", "heads", "radius", "synthesis")
        model.between(1, 2, "skew")
        model.lists("E", "G")
        model.require("after", m.transform == "residual" or not m.after, "[] (no part of a pretrained G)")
        found = m.latent_stride * 2 ** max(len(m.after) - 1, 0)
        model.require("G", found == m.stride, f"the stride of E and after, {found}, not {m.stride},")
        if m.F:
            found = m.map_stride * 2 ** (len(m.F) - 1)
            model.require("F", found == m.stride, f"G's stride, {m.stride}, not {found},")
            model.require(
                "map_stride", m.latent_stride % m.map_stride == 0, f"a divisor of {m.latent_stride}"
            )
        selective = "above 0 to 1 (there is a model.F)" if m.F else "0 (there is no model.F)"
        fits = 0 <= t.selective <= 1 and (t.selective > 0) == bool(m.F)
        train.require("selective", fits, selective)
        train.between(0, 1, "keep", "boxes")
        weights = ("mse_weight", "feature_weight", "perceptual_weight", "lpips_weight", "rate_weight")
        train.at_least(0, "adversarial_weight", "label_mix_weight", *weights)
        train.one_of(DISCRIMINATORS, "discriminator")
        train.one_of(LABELS, "labels")
        train.at_least(2, "codes")
        for name in ("rate_factors", "steps"):
            if values := getattr(t, name):
                train.counts(m.levels, name, "model.C")
                train.require(name, min(values) > 0, "a list of values above 0")
        train.require("ignored", set(t.ignored) <= set(m.classes), "names of model.classes")
        if t.labels == "codebook":
            fixed = m.transform == "pretrained" and "E.pixels.".startswith(tuple(t.frozen))
            needed = "maps (or oasis, a pretrained transform and E.pixels among train.frozen)"
            train.require("labels", fixed and t.discriminator == "oasis", needed)
        train.above(0, "sigma", "level_power")
        train.at_least(1, "scales")
        train.lists("D")
        train.counts(len(t.backbone_layers), "layer_weights", "train.backbone_layers")
