"""E and C: features and class scores of any timm classifier, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.codec.errors import ConfigError, WeightsError
from lightning_modules.codec.weights import weights_identity
from lightning_modules.ppgn_inpainting.config import PpgnInpaintingConfig
from losses.perceptual import FrozenFeatures
from losses.pretrained import SHARED_INPUT, SHARED_WEIGHTS, shared_weights


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

    def __init__(self, config: PpgnInpaintingConfig) -> None:
        super().__init__()
        weights, options = self._weights(config)
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
        with torch.autocast(x.device.type, enabled=False), self._captured(noises) as found:
            logits = self.frozen.network((x.float() - self.frozen.mean) / self.frozen.std)
        h1, h = (found[name] for name in self.names)
        if self.vector:
            h = h.reshape(len(h), h.shape[1], -1).mean(-1)[..., None, None]
        return Features(h1, h, logits)

    def style(self, x: Tensor) -> Tensor:
        """Features [B, C, ·, ·] of the early layer whose Gram matrix is the style."""
        with torch.autocast(x.device.type, enabled=False), self._captured({self.style_name: 0.0}) as found:
            self.frozen.network((x.float() - self.frozen.mean) / self.frozen.std)
        return found[self.style_name]

    def identity(self) -> bytes:
        """4 bytes that differ with the weights; a file that was sampled through this classifier names them."""
        state = {name: tensor.half() for name, tensor in self.frozen.network.state_dict().items()}
        return weights_identity(state, {"paper": "classifier", "config": "{}"})

    @contextmanager
    def _captured(self, noises: Mapping[str, float]):
        """Outputs by module's name of the forward pass inside; each with its noise, which travels on."""
        modules = dict(self.frozen.network.named_modules())
        found: dict[str, Tensor] = {}

        def hook(name: str, sigma: float):
            def take(module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
                found[name] = output + sigma * torch.randn_like(output) if sigma > 0 else output
                return found[name]

            return take

        handles = [modules[name].register_forward_hook(hook(name, sigma)) for name, sigma in noises.items()]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    @staticmethod
    def _weights(config: PpgnInpaintingConfig) -> tuple:
        if config.classifier_weights == "random":
            return None, {}
        if config.classifier_weights == "hub":
            return "hub", {}
        path = shared_weights()
        if path is None:
            raise WeightsError(
                f"the classifier {config.classifier} is needed: set GENIC_DATA to a folder with {SHARED_WEIGHTS}, "
                "or keep to schemes without sampling (steps=0)"
            )
        return path, SHARED_INPUT


def restored(config: PpgnInpaintingConfig, tensors: Mapping[str, Tensor]) -> Encoder:
    """The classifier of exported weights: found where it lies, or, where it was random, among ``tensors``."""
    encoder = Encoder(config)
    if config.classifier_weights == "random":
        encoder.load_state_dict(tensors)
    return encoder
