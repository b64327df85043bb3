"""Losses in the feature space of a frozen classifier: feature distance, content, style, and LPIPS.

Classifiers come from a safetensors file, or from timm's hub where the caller says ``weights="hub"``; LPIPS's trunks
from where `losses.pretrained` finds them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.codec.errors import ConfigError, ToolError, WeightsError
from genic.losses.pretrained import trunk_features


class FrozenFeatures(nn.Module):
    """Intermediate features of a timm classifier: eval mode for good, no parameter trainable.

    Args:
        name: timm's name of the model, one with ``forward_intermediates``.
        weights: a safetensors file of the whole model's state dict; ``"hub"`` for timm's own pretrained
            weights, from its cache or else fetched; None for random ones (tests).
        layers: indices of the intermediate features to return, None for all. What the indices are is
            the model's own: for most, 0 has stride 2, 1 stride 4, and so on.
        mean, std: normalisation of RGB in [0, 1] that the weights were trained with; None for the model's
            own from timm. The shared ``mobilenetv2_100`` wants (0.5, 0.5, 0.5) for both, i.e. [−1, 1],
            and ``pad_type="same"``.
        **options: passed on to the model (``pad_type`` …).

    Raises:
        ConfigError: timm has no such model, or the model has no intermediate features.
        WeightsError: no such file, not a safetensors file of this model, or the hub is out of reach.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        weights: str | Path | None,
        layers: Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.network: Any = _timm_model(name, weights, options)
        if not hasattr(self.network, "forward_intermediates"):
            raise ConfigError(
                f"timm's {name} gives no intermediate features: choose a model that does (vgg16, resnet50)"
            )
        self.layers = None if layers is None else list(layers)
        config = self.network.pretrained_cfg
        for key, values in (("mean", mean), ("std", std)):
            values = config[key] if values is None else values
            self.register_buffer(
                key, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False
            )
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Stay in eval mode, whatever the module around does."""
        return super().train(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of ``x`` [B, 3, H, W] in [0, 1], a tensor [B, C_l, H_l, W_l] a layer."""
        x = (x - self.mean) / self.std
        return self.network.forward_intermediates(x, indices=self.layers, intermediates_only=True)


def feature_distance(
    x: Sequence[Tensor], y: Sequence[Tensor], weights: Sequence[float] | None = None
) -> Tensor:
    """Σ_l w_l · mean |φ_l(x) − φ_l(x̂)|, the perceptual loss as pix2pixHD has it; w = 1 by default; scalar."""
    return _over_layers(x, y, weights, F.l1_loss)


def content_loss(x: Sequence[Tensor], y: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Σ_l w_l · ½ Σ (F_l − P_l)² (Gatys, Ecker, Bethge 2016, equation 1), mean over the batch; scalar.

    Ablative image compression prints it without the square and under the name of style loss.
    """
    return _over_layers(x, y, weights, lambda a, b: 0.5 * (a - b).square().sum() / a.shape[0])


def style_loss(x: Sequence[Tensor], y: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Σ_l w_l · ‖G_l − A_l‖²_F / (4 N_l² M_l²) of Gram matrices (Gatys et al. 2016, eq. 3 to 5); scalar.

    N_l channels, M_l = H_l · W_l positions; the mean over the batch. Ablative image compression prints the
    norm without its square, a further factor ½, and the name of content loss.
    """

    def energy(a: Tensor, b: Tensor) -> Tensor:
        B, N, H, W = a.shape
        return (_gram(a) - _gram(b)).square().sum() / (B * 4 * N**2 * (H * W) ** 2)

    return _over_layers(x, y, weights, energy)


class Lpips(nn.Module):
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018); frozen, differentiable.

    d(x, x̂) = Σ_l mean over positions of w_l · (φ_l(x) − φ_l(x̂))², features φ_l of unit length over channels. The
    linear layers w_l are the package lpips's; the few lines around them are ours, since the package's have no
    gradient (NaN) where a position's features are all zero. Autocast is obeyed by the trunk (bfloat16 halves a
    training step's share), never by lengths and sums; without it, as in `eval`, all is float32.

    Args:
        net: the trunk: ``alex`` for measurements, ``squeeze`` for training on small machines (``vgg`` is its authors'
            advice where time allows).

    Attributes:
        min_side: the shortest side of a picture that it is defined for.

    Raises:
        ConfigError: no such trunk.
        ToolError: the package lpips is not installed.
        WeightsError: the trunk's ImageNet weights are not at hand (see `losses.pretrained`).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: Literal["alex", "squeeze", "vgg"] = "alex") -> None:
        super().__init__()
        if net not in _LPIPS:
            raise ConfigError(f"LPIPS has the trunks {', '.join(_LPIPS)}, not {net!r}")
        trunk, self.taps, self.min_side = _LPIPS[net]
        self.trunk = _trunk(trunk, 1 + self.taps[-1])
        self.w = nn.ParameterList(_linear_layers(net))
        # Of [0, 1]: the package's are of [−1, 1].
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        self.register_buffer("mean", ((1 + shift) / 2).view(3, 1, 1), persistent=False)
        self.register_buffer("std", (scale / 2).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Lpips:
        """Stay in eval mode, whatever the module around does."""
        return super().train(False)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """[B] distances, 0 for equal, of ``x`` and ``y`` [B, 3, H, W] in [0, 1].

        With ``weight`` [B, 1, H, W], not negative and not all 0, each mean over positions is one weighted by the map's
        mean over a position's share of the picture; ours, and with a constant map the same.
        """
        total = torch.zeros(len(x), device=x.device)
        for w, a, b in zip(self.w, self._features(x), self._features(y), strict=True):
            with torch.autocast(x.device.type, enabled=False):
                d = F.conv2d((_unit(a) - _unit(b)).square(), w)
                if weight is None:
                    total = total + d.mean((1, 2, 3))
                else:
                    at = F.adaptive_avg_pool2d(weight, (d.shape[2], d.shape[3]))
                    total = total + (at * d).sum((1, 2, 3)) / at.sum((1, 2, 3))
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        x, found = (x - self.mean) / self.std, []
        for k, layer in enumerate(self.trunk):
            x = layer(x)
            if k in self.taps:
                found.append(x)
        return found


# Trunk, its layers whose outputs are compared, and the least side from which the last of them is not empty.
_LPIPS = {
    "alex": ("alexnet", (1, 4, 7, 9, 11), 31),
    "squeeze": ("squeezenet1_1", (1, 4, 7, 9, 10, 11, 12), 17),
    "vgg": ("vgg16", (3, 8, 15, 22, 29), 16),
}


def _trunk(name: str, layers: int) -> nn.Sequential:
    from torchvision import models

    features = getattr(models, name)(weights=None).features
    features.load_state_dict(trunk_features(name))
    return features[:layers]


def _linear_layers(net: str) -> list[Tensor]:
    """w_l, float32 [1, C_l, 1, 1], from the package's own file; the package is found, not imported, for speed."""
    package = importlib.util.find_spec("lpips")
    if package is None or package.origin is None:
        raise ToolError("LPIPS needs the package lpips, which is not installed: pip install lpips")
    path = Path(package.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{k}.model.1.weight"] for k in range(len(_LPIPS[net][1]))]


def _unit(features: Tensor) -> Tensor:
    """Of unit length over channels, float32; zero, with a zero gradient, where all are zero."""
    features = features.float()
    return features / (features.square().sum(1, keepdim=True) + 1e-20).sqrt()


def _over_layers(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    weights: Sequence[float] | None,
    distance: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    weights = [1.0] * len(x) if weights is None else weights
    if not len(x) == len(y) == len(weights) > 0:
        raise ValueError(f"{len(x)} and {len(y)} layers, {len(weights)} weights: give as many of each")
    total = torch.zeros((), device=x[0].device)
    for a, b, weight in zip(x, y, weights, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"a layer's features differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
        with torch.autocast(a.device.type, enabled=False):
            a, b = (t if t.dtype == torch.float64 else t.float() for t in (a, b))
            total = total + weight * distance(a, b)
    return total


def _gram(features: Tensor) -> Tensor:
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2)


def _timm_model(name: str, weights: str | Path | None, options: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}: see timm.list_models()")
    model = timm.create_model(name, pretrained=False, **options)
    if weights == "hub":
        try:
            return timm.create_model(name, pretrained=True, **options)
        except Exception as error:  # Which one depends on the source and on the client's version.
            raise WeightsError(
                f"pretrained weights of {name} are neither in timm's cache nor to be had ({error}): run once "
                "with a network, or give a safetensors file of the model (weights=PATH)"
            ) from error
    if weights is not None:
        _load_safetensors(model, name, Path(weights))
    return model


def _load_safetensors(model: nn.Module, name: str, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(
            f"no weights of {name} at {path}: put a safetensors file there, or ask for weights='hub'"
        )
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold the weights of timm's {name}: {error}") from error
