"""Grad-CAM: where a classifier sees its class (Selvaraju et al., ICCV 2017, equations 1 and 2).

Used by the encoder only: the heat map sets the residual's quality and is not sent. The library pytorch-grad-cam has the
same formula (a test compares them); it is not used, since it runs the gradient through the whole network instead of
its head, and resizes with OpenCV.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.codec.contract import Image, check_image
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.codec.weights import weights_identity
from genic.losses.perceptual import FrozenFeatures
from genic.losses.pretrained import SHARED_INPUT, SHARED_WEIGHTS, classifier_weights, shared_weights

SHARED_CLASSIFIER = "mobilenetv2_100"
VGG16_LAYER = "features.29"
"""The last convolution's ReLU, 14×14 for a picture of 224×224."""
_MULTIPLE = 32


class GradCam:
    """Heat maps of any timm classifier.

    α_k = mean over positions of ∂y_c/∂A_k, heat = ReLU(Σ_k α_k A_k), scaled to [0, 1]. The slides use the most
    prominent class and name MS-ROI (several classes) as future work: here the greatest heat over the ``top_k``
    classes, each scaled on its own. MS-ROI proper needs a network trained for it.

    Args:
        name, weights, mean, std, **options: of `FrozenFeatures`.
        top_k: number of classes.
        layer: name of the module whose output is A; None for the classifier's last features.
        side: the picture's shorter side is scaled to about this, sides to multiples of 32.

    Attributes:
        description: name, identity of the weights and settings: all that a heat map depends on.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None,
        top_k: int = 1,
        layer: str | None = None,
        side: int = 320,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        **options: Any,
    ) -> None:
        if top_k < 1 or side < _MULTIPLE:
            raise ConfigError(
                f"top_k={top_k}, side={side}: at least 1 class and {_MULTIPLE} pixels are needed"
            )
        self.classifier = FrozenFeatures(name, weights, mean=mean, std=std, **options)
        self.top_k, self.side = top_k, side
        state = self.classifier.network.state_dict()
        identity = weights_identity(state, {"paper": name, "config": json.dumps([layer, mean, std, options])})
        self.description = f"Grad-CAM of {name} {identity.hex()}, top {top_k}, side {side}"
        modules = dict(self.classifier.network.named_modules())
        if layer is not None and layer not in modules:
            raise ConfigError(f"{name} has no layer {layer!r}: choose one of network.named_modules()")
        self.layer = None if layer is None else modules[layer]

    def __call__(self, image: Image) -> np.ndarray:
        """Heat of a uint8 H×W×3 picture: float32 H×W, 0 to 1; all 0 where no position speaks for a class."""
        check_image(image)
        x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        x = F.interpolate(x, self._input_size(*image.shape[:2]), mode="bilinear", antialias=True)
        heat = F.interpolate(self.map(x)[None, None], image.shape[:2], mode="bilinear")
        return heat[0, 0].numpy()

    def map(self, x: Tensor) -> Tensor:
        """Heat [h, w] at the features' resolution, of a picture [1, 3, H, W] in [0, 1]."""
        with torch.inference_mode(False), torch.enable_grad():
            features, scores = self._features_and_scores(x.clone())
            top = scores.topk(self.top_k, dim=1).indices[0]
            gradients = [torch.autograd.grad(scores[0, c], features, retain_graph=True)[0] for c in top]
        maps = [(g.mean((2, 3), keepdim=True) * features).sum(1)[0].detach().relu() for g in gradients]
        return torch.stack([_to_unit(m) for m in maps]).amax(0)

    def _features_and_scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        network = self.classifier.network
        x = (x - self.classifier.mean) / self.classifier.std
        if self.layer is None:
            features = network.forward_features(x).detach().requires_grad_()
            return features, network.forward_head(features)
        seen: list[Tensor] = []

        def keep(_module: object, _inputs: object, output: Tensor) -> Tensor:
            # A copy, since an in-place ReLU may follow; from here on there is a gradient.
            seen.append(output.detach().clone().requires_grad_())
            return seen[0].clone()

        handle = self.layer.register_forward_hook(keep)
        try:
            scores = network(x)
        finally:
            handle.remove()
        return seen[0], scores

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        scale = self.side / min(height, width)
        # Extreme shapes are squeezed: no side beyond four times the shorter one.
        sides = (min(max(s * scale, _MULTIPLE), 4 * self.side) for s in (height, width))
        height, width = (max(round(s / _MULTIPLE), 1) * _MULTIPLE for s in sides)
        return height, width


def classifier_at_hand(name: str | None, top_k: int) -> GradCam | None:
    """`open_classifier`; without a name that of ``mobilenetv2_100``, or None where its weights are not there."""
    if name is None and shared_weights() is None:
        return None
    return open_classifier(name or SHARED_CLASSIFIER, top_k)


def open_classifier(name: str, top_k: int = 1) -> GradCam:
    """Grad-CAM by name, made once a process.

    Args:
        name: NAME or NAME:FILE. NAME is timm's; ``vgg16`` is the slides' choice. FILE holds the weights, safetensors;
            by default they are from timm's hub, and for ``mobilenetv2_100`` the file below ``GENIC_DATA``.
        top_k: see `GradCam`.

    Raises:
        WeightsError: the weights are not there.
    """
    name, _, file = name.partition(":")
    path = Path(file) if file else None
    if name == SHARED_CLASSIFIER and path is None:
        shared, _ = classifier_weights("shared", "name another classifier")
        path = None if shared is None else Path(shared)
    changed = path.stat().st_mtime_ns if path is not None and path.is_file() else 0
    return _open_classifier(name, path, top_k, changed)


@lru_cache(maxsize=4)
def _open_classifier(name: str, path: Path | None, top_k: int, _changed: int) -> GradCam:
    shared = name == SHARED_CLASSIFIER and path is not None and path.name == Path(SHARED_WEIGHTS).name
    options = SHARED_INPUT if shared else {}
    layer = VGG16_LAYER if name == "vgg16" else None
    return GradCam(name, "hub" if path is None else path, top_k, layer, **options)


def _to_unit(heat: Tensor) -> Tensor:
    heat = heat - heat.min()
    return heat / heat.max().clamp_min(1e-7)
