"""How much of a street scene a machine still recognises: mIoU of a small segmentation network on decoded pictures.

The network is trained here, on originals of the train part. Two kinds: ``scratch``, which has seen nothing else, and
``pretrained``, a head on a frozen classifier's features, more accurate, but akin to a codec trained with a perceptual
loss on the same classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from genic.datamodules import DataConfig, make_datamodule
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from genic.losses.perceptual import FrozenFeatures

KINDS = ("scratch", "pretrained")
_WIDTHS = (64, 96, 128, 160)  # at strides 4, 8, 16, 32
_HEAD = 64


class Trunk(nn.Module):
    """[B, 3, H, W] in [0, 1] to features at strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _unit(48, _WIDTHS[0])
        self.down = nn.ModuleList(
            nn.Sequential(_unit(a, b, stride=2), _unit(b, b), _unit(b, b)) for a, b in pairwise(_WIDTHS)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.first(F.pixel_unshuffle(2 * x - 1, 4))]
        for down in self.down:
            features.append(down(features[-1]))
        return features


class Segmenter(nn.Module):
    """A trunk and a head that sums its features at stride 4.

    Args:
        kind: one of `KINDS`. weights: of ``pretrained``'s mobilenetv2_100, a safetensors file.
        classes: number of classes.
    """

    def __init__(self, kind: str, classes: int, weights: Path | None = None) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(f"no segmentation network {kind!r}: there are {' and '.join(KINDS)}")
        if kind == "pretrained":
            options = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "pad_type": "same"}
            self.trunk: nn.Module = FrozenFeatures("mobilenetv2_100", weights, [1, 2, 3, 4], **options)
            widths = (24, 32, 96, 320)
        else:
            self.trunk, widths = Trunk(), _WIDTHS
        self.lateral = nn.ModuleList(nn.Conv2d(width, _HEAD, 1) for width in widths)
        self.norms = nn.ModuleList(nn.BatchNorm2d(_HEAD) for _ in widths)
        self.refine = nn.ModuleList(_unit(_HEAD, _HEAD) for _ in widths[1:])
        self.head = nn.Sequential(_unit(_HEAD, _HEAD), nn.Conv2d(_HEAD, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, 3, H, W] in [0, 1] -> logits [B, classes, H, W]."""
        size = x.shape[2:]
        x = F.pad(x, (0, -size[1] % 32, 0, -size[0] % 32), mode="replicate")
        features = [norm(c(f)) for norm, c, f in zip(self.norms, self.lateral, self.trunk(x), strict=True)]
        y = features[-1]
        for refine, finer in zip(self.refine, reversed(features[:-1]), strict=True):
            y = F.interpolate(refine(y), finer.shape[2:], mode="bilinear", align_corners=False) + finer
        logits = F.interpolate(self.head(y), x.shape[2:], mode="bilinear", align_corners=False)
        return logits[..., : size[0], : size[1]]


def train_segmenter(
    kind: str, classes: int, batches: int, weights: Path | None = None, root: str | None = None, seed: int = 0
) -> Segmenter:
    """Train on CamVid's train part: cross-entropy with rare classes raised, Adam, the rate falling to 0 by a cosine."""
    data = make_datamodule(
        DataConfig(
            "camvid",
            root,
            ["semantic"],
            crop=256,
            scale_min=0.7,
            scale_max=1.3,
            workers=0,
            cache=True,
            seed=seed,
        )
    )
    torch.manual_seed(seed)
    network = Segmenter(kind, classes, weights)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's omission
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, batches)
    frequency = torch.full((classes,), 1.0)
    for _, batch in zip(range(batches), data.train_dataloader(), strict=False):
        frequency += torch.bincount(batch.semantic.flatten(), minlength=classes + 1)[:classes]
        weight = (frequency / frequency.sum()).clamp_min(1e-4) ** -0.4
        jitter = 1 + 0.4 * (torch.rand(len(batch.image), 1, 1, 1) - 0.5)
        x = (batch.image * jitter).clamp(0, 1).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(network(x), batch.semantic, weight, ignore_index=classes)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


def save_segmenter(network: Segmenter, path: Path) -> None:
    """What is trained of it, as safetensors."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    state = {n: t.contiguous() for n, t in network.state_dict().items() if not _frozen(network, n)}
    save_file(state, path)


def load_segmenter(path: Path, kind: str, classes: int, weights: Path | None = None) -> Segmenter:
    """The inverse of `save_segmenter`; `WeightsError` where the file does not fit."""
    from safetensors.torch import load_file

    network = Segmenter(kind, classes, weights)
    frozen = {n: t for n, t in network.state_dict().items() if _frozen(network, n)}
    try:
        network.load_state_dict(frozen | load_file(path))
    except (RuntimeError, OSError) as error:
        raise WeightsError(
            f"{path} is no segmentation network of kind {kind}: delete it ({error})"
        ) from error
    return network.eval()


@torch.inference_mode()
def scores(
    network: Segmenter, pairs: Iterable[tuple[Image, np.ndarray]], classes: int
) -> Mapping[str, float]:
    """``miou``, intersection over union averaged over the classes that occur or are found, and ``accuracy`` of pixels;
    both 0 to 1.

    Args:
        pairs: decoded picture uint8 H×W×3 and the original's labels H×W; labels beyond the classes are left out.
    """
    # One class more than there are, for what is left out: an index beyond is not taken.
    options: dict[str, Any] = {"num_classes": classes + 1, "ignore_index": classes}
    miou, accuracy = MulticlassJaccardIndex(**options), MulticlassAccuracy(average="micro", **options)
    for image, labels in pairs:
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        found = network(x.contiguous(memory_format=torch.channels_last)).argmax(1)
        truth = torch.from_numpy(labels.astype(np.int64))[None].clamp(max=classes)
        miou.update(found, truth)
        accuracy.update(found, truth)
    return {"miou": float(miou.compute()), "accuracy": float(accuracy.compute())}


def _frozen(network: Segmenter, name: str) -> bool:
    return name.startswith("trunk.") and isinstance(network.trunk, FrozenFeatures)


def _unit(a: int, b: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
