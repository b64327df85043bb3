"""Configuration of ablative compression; the values here are those of the publications, where they give any."""

from __future__ import annotations

from dataclasses import dataclass, field

from lightning_modules.codec.errors import ConfigError
from lightning_modules.schedule import Schedule
from losses.gan import GAN_LOSSES

CLASSIFIER_WEIGHTS = ("hub", "shared", "random")
SCALES = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16)
"""Scales of a thumbnail; a file holds the index."""


@dataclass
class PpgnInpaintingConfig(Schedule):
    """Kuznetsov and Singhal, 'Ablative Image Compression', on PPGN-h of Nguyen et al. 2017.

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
        D: widths of the discriminator of G's pictures, and of that of the feed-forward networks'.
        h_low, h_high: bounds of h in sampling.
        lambda_image, lambda_h1, lambda_h, lambda_gan: weights of G's losses, of mean squares of pixels in [0, 1] and
            of features. Published ones refer to sums over pixels in 0 to 255.
        noise_x, noise_h1, noise_h: standard deviations of the joint variant's noise; 0 is the noiseless one.
        gate_low, gate_high: with r = loss of D / loss of G of the batch before, D pauses where r < gate_low and G
            where r > gate_high.
        gan_loss: see `losses.gan`.
        epsilon1, epsilon2, epsilon3, epsilon4: of the sampler (`sampler`): towards E(G(h)), the class, noise, and the
            context. Published for pixels in 0 to 255; here for [0, 1].
        steps, rate: of the sampler; the rate falls linearly to about 0.
        lambda_edge, lambda_style, lambda_content, lambda_boundary: of the assistant losses in sampling.
        filler, restorer: widths of the two feed-forward networks, each scale at half the resolution of the one before
            and the first at 1/2; filler_blocks, restorer_blocks: residual blocks at each.
        fill_ssim, fill_l1, fill_edge, fill_boundary, fill_content, fill_gan: weights of their losses; content is of
            the classifier's h1.
        adversarial_from: batch from which the feed-forward networks' discriminator takes part.
        parts: crops of each batch for the restorer, the filler and G.
        restore_scales, restore_quality: of the thumbnails that the restorer is trained on: scales, drawn evenly, and
            the range of AVIF's quality.
        block: side of a kept block in pixels, a power of 2.
        square: side of the kept square over the picture's shorter side: 100 of 256.
        keep: share of the blocks that is kept. far: share of these that is random and far from edges.
        step: of the quantiser of single kept pixels, on the scale 0 to 255.
        rates: bits per pixel that the codec offers as qualities, ascending; default_rate: one of them.
        clip: bound on the norm of each network's gradient.
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
    D: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 256])
    h_low: float = 0.0
    h_high: float = 30.0
    lambda_image: float = 1.0
    lambda_h1: float = 0.01
    lambda_h: float = 0.01
    lambda_gan: float = 0.01
    noise_x: float = 0.04
    noise_h1: float = 0.1
    noise_h: float = 0.1
    gate_low: float = 0.1
    gate_high: float = 10.0
    gan_loss: str = "softplus"
    epsilon1: float = 1e-5
    epsilon2: float = 1.0
    epsilon3: float = 0.0
    epsilon4: float = 1e-4
    steps: int = 20
    rate: float = 1.0
    lambda_edge: float = 1.0
    lambda_style: float = 1.0
    lambda_content: float = 1.0
    lambda_boundary: float = 0.0
    filler: list[int] = field(default_factory=lambda: [64, 128, 256, 256])
    filler_blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    restorer: list[int] = field(default_factory=lambda: [64, 128, 256])
    restorer_blocks: list[int] = field(default_factory=lambda: [2, 2, 4])
    fill_ssim: float = 1.0
    fill_l1: float = 1.0
    fill_edge: float = 0.1
    fill_boundary: float = 0.5
    fill_content: float = 0.0
    fill_gan: float = 0.01
    adversarial_from: int = 0
    parts: list[int] = field(default_factory=lambda: [8, 8, 8])
    restore_scales: list[float] = field(default_factory=lambda: [2 / 3, 1 / 2, 1 / 2, 1 / 3])
    restore_quality: list[int] = field(default_factory=lambda: [8, 45])
    block: int = 16
    square: float = 100 / 256
    keep: float = 0.3
    far: float = 0.3
    step: int = 24
    rates: list[float] = field(default_factory=lambda: [0.05, 0.088, 0.15, 0.25])
    default_rate: float = 0.088
    clip: float = 1.0

    def check(self) -> None:
        """Raise `ConfigError` on values that do not go together."""
        if self.classifier_weights not in CLASSIFIER_WEIGHTS:
            raise ConfigError(
                f"model.classifier_weights is {self.classifier_weights!r}: there are {', '.join(CLASSIFIER_WEIGHTS)}"
            )
        if self.gan_loss not in GAN_LOSSES:
            raise ConfigError(f"model.gan_loss is {self.gan_loss!r}: there are {', '.join(GAN_LOSSES)}")
        for one, other in (("up", "after"), ("filler", "filler_blocks"), ("restorer", "restorer_blocks")):
            if len(getattr(self, one)) != len(getattr(self, other)) or not getattr(self, one):
                raise ConfigError(f"model.{one} and model.{other} need one number a stage each")
        if self.vector and (not self.dense or self.dense[-1] % 16):
            raise ConfigError(
                "model.dense must end in a multiple of 16, which becomes 4×4 positions of a vector"
            )
        if len(self.parts) != 3 or min(self.parts) < 1:
            raise ConfigError("model.parts is three numbers of crops of 1 or more")
        if self.default_rate not in self.rates or list(self.rates) != sorted(self.rates):
            raise ConfigError("model.rates must ascend and hold model.default_rate")
        if self.block & (self.block - 1) or not 2 <= self.block <= 128:
            raise ConfigError(f"model.block is {self.block}: a power of 2 from 2 to 128")
        if not (0 < self.keep <= 1 and 0 <= self.far < 1 and 0 < self.square <= 1 and 1 <= self.step <= 255):
            raise ConfigError("keep, square in (0, 1], far in [0, 1) and step from 1 to 255 needed")
        low, high = self.restore_quality
        if not (0 <= low <= high <= 100 and all(0 < s <= 1 for s in self.restore_scales)):
            raise ConfigError("restore_quality is a range within 0 to 100, restore_scales lie in (0, 1]")

    @property
    def stride(self) -> int:
        """Pixels a side of one position of h, where it is a map."""
        return 2 ** len(self.up)
