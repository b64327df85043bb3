"""Configuration of ablative compression; the values here are those of the publications, where they give any."""

from __future__ import annotations

from dataclasses import dataclass, field

from genic.lightning_modules.config import CodingConfig, Fields, PaperConfig, TrainConfig
from genic.lightning_modules.ppgn_inpainting.schemes import SCALES, scale_index
from genic.losses.gan import GAN_LOSSES

CLASSIFIER_WEIGHTS = ("hub", "shared", "random")


@dataclass
class PpgnInpaintingModel:
    """Kuznetsov and Singhal, 'Ablative Image Compression', on PPGN-h of Nguyen et al. 2017: all that decoding needs.

    Attributes:
        classifier: timm's name of the network that E and C are; CaffeNet as published, which timm lacks.
        classifier_weights: ``hub`` (timm's), ``shared`` (``mobilenetv2_100`` below ``GENIC_DATA``) or ``random``,
            which are exported with the rest; the others are not, being no work of ours.
        h1, h: modules of the classifier whose outputs are h1 and h (pool5 and fc6 as published).
        style: module whose Gram matrix is the style that a file can hold.
        vector: h is one vector a picture of 256×256, as published, other sizes being scaled; else a map, and any
            size is generated as it is.
        h_channels: of h.
        dense: widths of G's fully connected layers, 1×1 convolutions of a map; the last of a vector becomes a map of
            4×4 positions.
        up: widths of G's deconvolutions, each doubling the resolution.
        after: width of the 3×3 convolution after each deconvolution, 0 for none.
        filler, restorer: widths of the two feed-forward networks, each scale at half the resolution of the one before
            and the first at 1/2; filler_blocks, restorer_blocks: residual blocks at each.
        h_low, h_high: bounds of h in sampling.
        epsilon1, epsilon2, epsilon3, epsilon4: of sampling (`sampling`): towards E(G(h)), the class, noise, and the
            context. Published for pixels in 0 to 255; here for [0, 1].
        step_size: of sampling's first step; it falls linearly to about 0.
        edge_weight, style_weight, content_weight, boundary_weight: of the assistant losses in sampling.
    """

    classifier: str = "vgg16"
    classifier_weights: str = "hub"
    h1: str = "features.30"
    h: str = "pre_logits.act1"
    style: str = "features.3"
    vector: bool = True
    h_channels: int = 4096
    dense: list[int] = field(default_factory=lambda: [4096, 4096, 4096])
    up: list[int] = field(default_factory=lambda: [256, 256, 128, 64, 32, 3])
    after: list[int] = field(default_factory=lambda: [512, 256, 128, 0, 0, 0])
    filler: list[int] = field(default_factory=lambda: [64, 128, 256, 256])
    filler_blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    restorer: list[int] = field(default_factory=lambda: [64, 128, 256])
    restorer_blocks: list[int] = field(default_factory=lambda: [2, 2, 4])
    h_low: float = 0.0
    h_high: float = 30.0
    epsilon1: float = 1e-5
    epsilon2: float = 1.0
    epsilon3: float = 0.0
    epsilon4: float = 1e-4
    step_size: float = 1.0
    edge_weight: float = 1.0
    style_weight: float = 1.0
    content_weight: float = 1.0
    boundary_weight: float = 0.0

    @property
    def stride(self) -> int:
        """Pixels a side of one position of h, where it is a map."""
        return 2 ** len(self.up)


@dataclass
class PpgnInpaintingTraining(TrainConfig):
    """Losses of G (Nguyen et al. 2017, section S3) and of the two feed-forward networks.

    Attributes:
        D: widths of the discriminator of G's pictures, and of that of the feed-forward networks'.
        gan_loss: see `losses.gan`.
        mse_weight, h1_weight, h_weight, adversarial_weight: of G's losses, mean squares of pixels in [0, 1] and of
            features. Published ones refer to sums over pixels in 0 to 255.
        noise_x, noise_h1, noise_h: standard deviations of the joint variant's noise; 0 is the noiseless one.
        gate_low, gate_high: with r = loss of D / loss of G of the batch before, D pauses where r < gate_low and G
            where r > gate_high.
        fill_ssim_weight, fill_l1_weight, fill_edge_weight, fill_boundary_weight, fill_feature_weight,
            fill_adversarial_weight: of the feed-forward networks' losses; the features are the classifier's h1.
        adversarial_from: batch from which the feed-forward networks' discriminator takes part.
        parts: crops of each batch for the restorer, the filler and G.
        restore_scales, restore_quality: of the thumbnails that the restorer is trained on: scales, drawn evenly, and
            the range of AVIF's quality.
    """

    D: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 256])
    gan_loss: str = "softplus"
    mse_weight: float = 1.0
    h1_weight: float = 0.01
    h_weight: float = 0.01
    adversarial_weight: float = 0.01
    noise_x: float = 0.04
    noise_h1: float = 0.1
    noise_h: float = 0.1
    gate_low: float = 0.1
    gate_high: float = 10.0
    fill_ssim_weight: float = 1.0
    fill_l1_weight: float = 1.0
    fill_edge_weight: float = 0.1
    fill_boundary_weight: float = 0.5
    fill_feature_weight: float = 0.0
    fill_adversarial_weight: float = 0.01
    adversarial_from: int = 0
    parts: list[int] = field(default_factory=lambda: [8, 8, 8])
    restore_scales: list[float] = field(default_factory=lambda: [2 / 3, 1 / 2, 1 / 2, 1 / 3])
    restore_quality: list[int] = field(default_factory=lambda: [8, 45])


@dataclass
class PpgnInpaintingConfig(PaperConfig):
    """The paper's configuration in its parts."""

    model: PpgnInpaintingModel = field(default_factory=PpgnInpaintingModel)
    train: PpgnInpaintingTraining = field(default_factory=PpgnInpaintingTraining)
    coding: CodingConfig = field(default_factory=CodingConfig)

    def check(self) -> None:
        super().check()
        m, t = self.model, self.train
        model, train = Fields("model", m), Fields("train", t)
        model.one_of(CLASSIFIER_WEIGHTS, "classifier_weights")
        train.one_of(GAN_LOSSES, "gan_loss")
        for widths, blocks in (("up", "after"), ("filler", "filler_blocks"), ("restorer", "restorer_blocks")):
            model.lists(widths)
            model.counts(len(getattr(m, widths)), blocks, f"model.{widths}")
        whole = not m.vector or (m.dense and m.dense[-1] % 16 == 0)
        model.require("dense", whole, "a multiple of 16 at the end, which becomes 4×4 positions")
        model.require("h_low", m.h_low < m.h_high, "less than model.h_high")
        train.lists("parts")
        train.counts(3, "parts", "networks")
        good = len(t.restore_quality) == 2 and 0 <= t.restore_quality[0] <= t.restore_quality[1] <= 100
        train.require("restore_quality", good, "a range within 0 to 100")
        known = ", ".join(f"{scale:.3g}" for scale in SCALES)
        good = t.restore_scales and all(scale_index(scale) is not None for scale in t.restore_scales)
        train.require("restore_scales", good, f"some of {known}")
