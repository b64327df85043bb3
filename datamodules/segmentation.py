"""t_s from a segmentation network of torchvision, with weights from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from genic.lightning_modules.codec.errors import ConfigError, WeightsError

CLASSES = 21  # PASCAL VOC with background
SHORT_SIDE = 520  # torchvision's own evaluation size
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SemanticNetwork:
    """uint8 H×W×3 to uint8 H×W of VOC classes.

    Args:
        name: a model of `torchvision.models.segmentation`, e.g. ``deeplabv3_mobilenet_v3_large``.
        weights: its state dict, safetensors or torch's own file (read with ``weights_only``).
        device: where it runs.

    Raises:
        ConfigError: no such model.
        WeightsError: the file is missing or does not fit the model.
    """

    def __init__(self, name: str, weights: Path, device: str = "cpu") -> None:
        known = models.list_models(module=models.segmentation)
        if name not in known:
            raise ConfigError(f"no segmentation model {name!r}; torchvision has {', '.join(known)}")
        state = _load(weights)
        options: dict = {"weights": None, "weights_backbone": None, "num_classes": CLASSES}
        if any(key.startswith("aux_classifier.") for key in state):
            options["aux_loss"] = True
        network = models.get_model(name, **options)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"{weights} does not fit {name} with {CLASSES} classes: {error}") from error
        self.network: nn.Module = network.eval().to(device)
        self.device = device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        x = torch.from_numpy(image).to(self.device).permute(2, 0, 1)[None].float() / 255
        factor = SHORT_SIDE / min(height, width)
        size = (round(height * factor), round(width * factor))
        x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (_MEAN, _STD))
        logits = self.network((x - mean) / std)["out"]
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits.argmax(1)[0].to(torch.uint8).cpu().numpy()


def _load(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise WeightsError(f"no file {path}: give the segmentation network's weights with --weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both loaders raise several kinds on a damaged file
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
