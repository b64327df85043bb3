"""The networks: E with C, G, the feed-forward U-Net, D. Leaky ReLU of slope 0.3, as in the released PPGN."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.codec.weights import weights_identity
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingModel
from genic.losses.perceptual import FrozenFeatures
from genic.losses.pretrained import classifier_weights

SLOPE = 0.3
_FIRST = 4  # side of the map that a vector is reshaped to


class Features(NamedTuple):
    """h1 [B, C1, ·, ·], h [B, C, a, b] (1×1 for a vector) and class logits [B, K]."""

    h1: Tensor
    h: Tensor
    logits: Tensor


class Encoder(nn.Module):
    """x -> h1 -> h -> classes: E1, E2 and C of PPGN are one network.

    Raises:
        ConfigError: the classifier has no such modules.
        WeightsError: its weights are not there.
    """

    def __init__(self, config: PpgnInpaintingModel) -> None:
        super().__init__()
        otherwise = "keep to schemes without sampling (steps=0)"
        weights, options = classifier_weights(config.classifier_weights, otherwise)
        self.frozen = FrozenFeatures(config.classifier, weights, **options)
        self.vector = config.vector
        modules = dict(self.frozen.network.named_modules())
        missing = [name for name in (config.h1, config.h, config.style) if name not in modules]
        if missing:
            raise ConfigError(
                f"{config.classifier} has no module {missing[0]!r}: see network.named_modules()"
            )
        self.names, self.style_name = (config.h1, config.h), config.style

    def train(self, mode: bool = True) -> Encoder:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, x: Tensor, noise_h1: float = 0.0, noise_h: float = 0.0) -> Features:
        """Features of ``x`` [B, 3, H, W] about [0, 1]; noise on h1 travels on to h, as in joint PPGN-h.

        float32 whatever the caller's autocast: sampling follows small differences of features.
        """
        noises = dict(zip(self.names, (noise_h1, noise_h), strict=True))
        logits, found = self._captured(x, noises)
        h1, h = (found[name] for name in self.names)
        if self.vector:
            h = h.reshape(len(h), h.shape[1], -1).mean(-1)[..., None, None]
        return Features(h1, h, logits)

    def style(self, x: Tensor) -> Tensor:
        """Features [B, C, ·, ·] of the early layer whose Gram matrix is the style."""
        return self._captured(x, {self.style_name: 0.0})[1][self.style_name]

    def identity(self) -> bytes:
        """4 bytes that differ with the weights; a file that was sampled through this classifier names them."""
        state = {name: tensor.half() for name, tensor in self.frozen.network.state_dict().items()}
        return weights_identity(state, {"paper": "classifier", "config": "{}"})

    def _captured(self, x: Tensor, noises: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits, and outputs by module's name; each with its noise, which travels on."""
        modules = dict(self.frozen.network.named_modules())
        found: dict[str, Tensor] = {}

        def hook(name: str, sigma: float) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
            def take(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
                found[name] = output + sigma * torch.randn_like(output) if sigma > 0 else output
                return found[name]

            return take

        handles = [modules[name].register_forward_hook(hook(name, sigma)) for name, sigma in noises.items()]
        try:
            with torch.autocast(x.device.type, enabled=False):
                return self.frozen.network((x.float() - self.frozen.mean) / self.frozen.std), found
        finally:
            for handle in handles:
                handle.remove()


class Generator(nn.Module):
    """h -> x̂ (Dosovitskiy and Brox 2016, as in PPGN-h): no normalisation, no bounding function at the end.

    A vector [B, h_channels] goes through ``dense``, becomes a map of dense[-1]/16×4×4, and 256×256 after six
    deconvolutions; a map [B, h_channels, a, b] becomes a·2ⁿ×b·2ⁿ. The last layer of ``up`` and ``after`` makes the
    picture if it has 3 channels, else one more 3×3 convolution does. Where the release has a 3×3 deconvolution of
    stride 1, this has the equivalent convolution; its frozen biases are trained here.
    """

    def __init__(self, config: PpgnInpaintingModel) -> None:
        super().__init__()
        self.vector = config.vector
        layers: list[nn.Module] = []
        channels = config.h_channels
        for width in config.dense:
            layers += [nn.Conv2d(channels, width, 1), nn.LeakyReLU(SLOPE)]
            channels = width
        self.dense = nn.Sequential(*layers)
        channels, layers = (channels // _FIRST**2 if config.vector else channels), []
        for width, then in zip(config.up, config.after, strict=True):
            layers += [nn.ConvTranspose2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE)]
            channels = width
            if then:
                layers += [nn.Conv2d(channels, then, 3, padding=1), nn.LeakyReLU(SLOPE)]
                channels = then
        if channels == 3:
            layers.pop()  # the activation: this layer makes the picture
        else:
            layers.append(nn.Conv2d(channels, 3, 3, padding=1))
        self.up = nn.Sequential(*layers)
        self._initialise()

    def _initialise(self) -> None:
        """He et al. 2015: variance kept through all layers, so that h shows in the first pictures already."""
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                # A deconvolution of 4×4 with stride 2 sums 2×2 taps for each output.
                taps = 4 if isinstance(layer, nn.ConvTranspose2d) else layer.kernel_size[0] ** 2
                nn.init.normal_(layer.weight, std=(2 / (1 + SLOPE**2) / (layer.in_channels * taps)) ** 0.5)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        last = self.up[-1]
        assert isinstance(last, nn.Conv2d | nn.ConvTranspose2d)
        last.weight.data.mul_(0.1)

    def forward(self, h: Tensor) -> Tensor:
        """[B, h_channels, a, b] (1×1 for a vector) -> pictures about [0, 1]."""
        x = self.dense(h)
        if self.vector:
            x = x.reshape(len(x), -1, _FIRST, _FIRST)
        return self.up(x) + 0.5


class Residual(nn.Module):
    """x + 3×3(leaky ReLU(3×3(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.body = nn.Sequential(first, nn.LeakyReLU(SLOPE), last)
        with torch.no_grad():  # begin near the identity: without normalisation, depth would not train
            last.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FeedForward(nn.Module):
    """A U-Net on a first guess: x̂ = guess + residual. The filler and the restorer are one each.

    The publications name no architecture. The finest features are at half the picture's resolution, by pixel
    (un)shuffling, which is where the time goes.

    Args:
        widths, blocks: of the scales 1/2, 1/4, …
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.multiple = 2 ** len(widths)
        self.first = nn.Conv2d(16, widths[0], 3, padding=1)
        self.down, self.inner, self.lift, self.outer = (nn.ModuleList() for _ in range(4))
        for k, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            self.inner.append(nn.Sequential(*(Residual(width) for _ in range(count))))
            if k + 1 < len(widths):
                self.down.append(nn.Conv2d(width, widths[k + 1], 2, 2))
                self.lift.append(nn.Sequential(nn.Conv2d(widths[k + 1], 4 * width, 1), nn.PixelShuffle(2)))
                self.outer.append(Residual(width))
        self.last = nn.Conv2d(widths[0], 12, 3, padding=1)
        assert self.last.bias is not None
        with torch.no_grad():  # begin near the guess
            self.last.weight.mul_(0.1)
            self.last.bias.zero_()

    @property
    def reach(self) -> int:
        """Pixels, a bound on how far a pixel's input acts: for cutting large pictures into tiles."""
        total = 4
        for k, inner in enumerate(self.inner):
            blocks = len(list(inner.children())) + (k < len(self.outer))
            total += 2 ** (k + 1) * (2 * blocks + 1)
        return total

    def forward(self, guess: Tensor, plane: Tensor) -> Tensor:
        """Guess [B, 3, H, W] and plane [B, 1, H, W] -> x̂ [B, 3, H, W], about [0, 1]; any size."""
        height, width = guess.shape[2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x = F.pad(torch.cat((guess - 0.5, plane), 1), pad, mode="replicate")
        x = self.first(F.pixel_unshuffle(x, 2))
        kept = []
        for inner, down in zip(self.inner, self.down):  # noqa: B905 - one scale fewer goes down
            x = inner(x)
            kept.append(x)
            x = down(x)
        x = self.inner[-1](x)
        for k in reversed(range(len(kept))):
            x = self.outer[k](self.lift[k](x) + kept[k])
        residual = F.pixel_shuffle(self.last(x), 2)[..., :height, :width]
        return guess + residual.float()
