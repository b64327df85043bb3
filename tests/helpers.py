"""What the tests of several files start from."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import data

from genic.experiments.config import load_config
from genic.lightning_modules.registry import find_paper

SHARED = Path(os.environ.get("GENIC_DATA", Path(__file__).resolve().parents[2] / "shared"))
"""Pictures and weights that the repository does not hold; not everywhere."""


def nano(paper: str, **changes: object) -> Any:
    """A paper's module at its nano preset, with seeded random weights.

    Args:
        changes: values of the configuration's fields, whichever part has them, the model before training and coding.
    """
    config = load_config(paper, ["preset=nano"])
    parts = ("model", "train", "coding")
    known = {f.name: part for part in reversed(parts) for f in fields(getattr(config, part))}
    config = load_config(paper, ["preset=nano", *(f"{known[k]}.{k}={v}" for k, v in changes.items())])
    torch.manual_seed(0)
    return find_paper(paper).module_class()(config.paper())


def photograph(height: int = 96, width: int = 128, top: int = 20, left: int = 130) -> np.ndarray:
    """A part of a portrait, uint8 [height, width, 3]."""
    return np.ascontiguousarray(data.astronaut()[top : top + height, left : left + width])
