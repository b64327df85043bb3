"""The ImageNet classifier that lies beside the data, for work without a network; several systems look through it."""

from __future__ import annotations

import os
from pathlib import Path

from datamodules.config import ROOT_VARIABLE

SHARED_WEIGHTS = "weights/mobilenetv2_100_imagenet.safetensors"
SHARED_INPUT = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "pad_type": "same"}
"""What these weights want of `FrozenFeatures`: inputs in [−1, 1], and TensorFlow's padding."""


def shared_weights() -> Path | None:
    """``mobilenetv2_100``'s file below the folder ``GENIC_DATA``, if it is there."""
    root = os.environ.get(ROOT_VARIABLE)
    path = Path(root).expanduser() / SHARED_WEIGHTS if root else None
    return path if path is not None and path.is_file() else None
