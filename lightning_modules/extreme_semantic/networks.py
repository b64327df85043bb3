"""Encoder, semantic encoder, generator and discriminator, in the notation of Johnson et al. 2016.

c7s1-k: 7×7 convolution, stride 1, k channels; d k: 3×3, stride 2; R k: residual block of two 3×3; u k: 3×3 of
fractional stride ½. Each is followed by a norm and ReLU, pads by reflection, and where a picture is smaller than the
padding, by repeating its edge.

Ours beside them: E and G around a pretrained auto-encoder (`layers.pretrained`), and a U-Net for D.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel, ExtremeSemanticTraining
from genic.lightning_modules.layers.patch_discriminator import patch_layers
from genic.lightning_modules.layers.pretrained import PretrainedDecoder, PretrainedEncoder


class ChannelNorm(nn.Module):
    """Normalises each position over its channels, then scales and shifts; [B, C, H, W] to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias)
        return y.permute(0, 3, 1, 2)


class InstanceNorm(ChannelNorm):
    """Normalises each channel over its positions instead; a lone position becomes the shift."""

    def forward(self, x: Tensor) -> Tensor:
        # Not by torch.nn.functional, which refuses a lone position.
        return torch.group_norm(x, x.shape[1], self.weight, self.bias)


def make_norm(kind: str, channels: int) -> nn.Module:
    """One of `config.NORMS`."""
    return ChannelNorm(channels) if kind == "channel" else InstanceNorm(channels)


class Conv(nn.Module):
    """A convolution that keeps the size (divided by ``stride``), padded by reflection."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[2:]) > self.pad else "replicate"
        return self.conv(F.pad(x, (self.pad,) * 4, mode=mode))


def block(norm: str, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """c k s1 (``stride`` 1) or d (2)."""
    return nn.Sequential(
        Conv(in_channels, out_channels, kernel, stride), make_norm(norm, out_channels), nn.ReLU()
    )


class Up(nn.Module):
    """u: transposed 3×3 of stride 2, norm, ReLU; twice the size."""

    def __init__(self, norm: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, output_padding=1)
        self.norm = make_norm(norm, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """R: x + norm(3×3(ReLU(norm(3×3(x)))))."""

    def __init__(self, norm: str, channels: int) -> None:
        super().__init__()
        self.first = block(norm, channels, channels)
        self.second = nn.Sequential(Conv(channels, channels, 3), make_norm(norm, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


def downwards(norm: str, in_channels: int, widths: list[int], kernel: int) -> list[nn.Module]:
    """c``kernel``s1-widths[0] and d's."""
    first = block(norm, in_channels, widths[0], kernel)
    return [first, *(block(norm, a, b, stride=2) for a, b in pairwise(widths))]


class Encoder(nn.Module):
    """E: x [B, 3, H, W] in [−1, 1] -> w [B, C, H/stride, W/stride].

    Behind the last convolution there is no ReLU, since the quantiser has negative centres, and its norm is over the
    batch: w keeps to the centres' range, beyond which the quantiser has no gradient, and keeps a picture's means, which
    an instance norm would lose.
    """

    def __init__(self, config: ExtremeSemanticModel) -> None:
        super().__init__()
        fold = config.fold_in
        layers: list[nn.Module] = [nn.PixelUnshuffle(fold)] if fold > 1 else []
        layers += downwards(config.norm, 3 * fold**2, config.E, 7 if fold == 1 else 3)
        self.body = nn.Sequential(*layers)
        self.last = Conv(config.E[-1], config.C[-1], 3)
        self.norm = nn.BatchNorm2d(config.C[-1])
        nn.init.constant_(self.norm.weight, 1.2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.last(self.body(x)).float())


class AroundEncoder(PretrainedEncoder):
    """E around TAEF2's encoder; as `Encoder`, but that gains follow in place of the norm."""

    def __init__(self, config: ExtremeSemanticModel) -> None:
        super().__init__(config.C[-1], config.analysis_blocks)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 2).float()


class AroundGenerator(PretrainedDecoder):
    """G around TAEF2's decoder; as `Generator`. Only the attention blocks see what stands ``beside`` ŵ."""

    def __init__(self, config: ExtremeSemanticModel, beside: int) -> None:
        c = config
        super().__init__(c.C[-1], c.synthesis, c.synthesis_blocks, c.light_decoder, beside)

    def forward(self, y: Tensor, beside: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return 2 * super().forward(y, beside, bias)


class Generator(nn.Module):
    """G: features at its stride -> x̂ about [−1, 1], linear at the end (the source is silent on a tanh).

    Args:
        in_channels: of ŵ, or of what follows it. beside: of F's features and of the noise together.
    """

    def __init__(self, config: ExtremeSemanticModel, in_channels: int, beside: int) -> None:
        super().__init__()
        norm, fold, widths = config.norm, config.fold_out, config.G
        self.first = Conv(in_channels + beside, widths[0], 3)
        layers: list[nn.Module] = [make_norm(norm, widths[0]), nn.ReLU()]
        layers += [Residual(norm, widths[0]) for _ in range(config.blocks)]
        layers += [Up(norm, a, b) for a, b in pairwise(widths)]
        layers.append(Conv(widths[-1], 3 * fold**2, 7 if fold == 1 else 3))
        self.rest = nn.Sequential(*layers, *([nn.PixelShuffle(fold)] if fold > 1 else []))

    def forward(self, y: Tensor, beside: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """``bias``: [B, G[0]] added to the first layer's output, or None."""
        whole = y if beside is None else torch.cat((y, beside), 1)
        y = self.first(whole.contiguous(memory_format=torch.channels_last))
        return self.rest(y if bias is None else y + bias[:, :, None, None])


class ScaleDiscriminator(nn.Module):
    """D at one scale (pix2pixHD): 4×4 convolutions, stride 2 but for the last two, instance norm but for the first."""

    def __init__(self, in_channels: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for k, (a, b) in enumerate(pairwise([in_channels, *widths])):
            stride = 2 if k < max(len(widths) - 1, 1) else 1
            norm = [InstanceNorm(b)] if k else []
            layers.append(nn.Sequential(nn.Conv2d(a, b, 4, stride, padding=2), *norm, nn.LeakyReLU(0.2)))
        self.layers = nn.ModuleList([*layers, nn.Conv2d(widths[-1], 1, 4, padding=2)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Every layer's output; the last is the score."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return outputs


class Discriminator(nn.Module):
    """Multi-scale D: a `ScaleDiscriminator` for the picture and for each halving of it; high means real.

    Args:
        widths: of each scale. scales: their number.
        classes: of the label map, whose one-hot is concatenated to the picture; 0 for an unconditional D.
    """

    def __init__(self, widths: list[int], scales: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.scales = nn.ModuleList(ScaleDiscriminator(3 + classes, widths) for _ in range(scales))

    def forward(self, x: Tensor, labels: Tensor | None) -> list[list[Tensor]]:
        """x [B, 3, H, W] in [−1, 1], labels int64 [B, H, W] -> outputs of the layers, a list a scale.

        Raises:
            ValueError: a conditional D is given no labels.
        """
        if self.classes:
            if labels is None:
                raise ValueError("a conditional discriminator needs the label map")
            x = torch.cat((x, one_hot(labels, self.classes).to(x.dtype)), 1)
        outputs = []
        for k, scale in enumerate(self.scales):
            if k:
                x = F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False)
            outputs.append(scale(x))
        return outputs


class UNetDiscriminator(nn.Module):
    """D of OASIS (Sushko et al. 2021): scores of each class and, last, of 'fake' for every pixel.

    The label map is no input but the target: D has to find every pixel's class, and G is asked for pictures in which
    it does. Ours: shuffles of pixels in front and at the end, strided convolutions in place of residual blocks.

    Args:
        widths: of the features at 1/4 of the sides, and at each halving; sides are even.
        classes: without 'fake'.
    """

    def __init__(self, widths: list[int], classes: int) -> None:
        super().__init__()
        layers = patch_layers(12, widths)
        self.down = nn.ModuleList(nn.Sequential(*layers[k : k + 2]) for k in range(0, len(layers), 2))
        inputs = [12, *widths]
        self.up = nn.ModuleList(
            nn.Sequential(spectral_norm(nn.Conv2d(below + beside, width, 3, padding=1)), nn.LeakyReLU(0.2))
            for below, beside, width in zip(widths, inputs, [widths[0], *widths], strict=False)
        )
        self.last = nn.Sequential(nn.Conv2d(widths[0], 4 * (classes + 1), 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> list[list[Tensor]]:
        """x [B, 3, H, W] in [−1, 1] -> outputs of the layers, of one scale; the last is [B, classes + 1, H, W]."""
        del labels
        features = [F.pixel_unshuffle(x, 2)]
        for layer in self.down:
            features.append(layer(features[-1]))
        outputs, y = features[1:], features[-1]
        for layer, beside in zip(reversed(self.up), features[-2::-1], strict=True):
            larger = F.interpolate(y, size=beside.shape[2:], mode="nearest")
            y = layer(torch.cat((larger, beside), 1))
            outputs.append(y)
        return [[*outputs, self.last(y)]]


def discriminator(train: ExtremeSemanticTraining, classes: int) -> Discriminator | UNetDiscriminator:
    """D as ``train`` says, for label maps of ``classes``."""
    if train.discriminator == "oasis":
        return UNetDiscriminator(train.D, train.codes if train.labels == "codebook" else classes)
    return Discriminator(train.D, train.scales, classes if train.conditional else 0)


def scores(outputs: list[list[Tensor]]) -> list[Tensor]:
    """The score of each scale."""
    return [layers[-1] for layers in outputs]


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """int64 [B, H, W] -> float32 [B, classes, H, W]; labels beyond count as the last."""
    return F.one_hot(labels.clamp(max=classes - 1), classes).permute(0, 3, 1, 2).float()
