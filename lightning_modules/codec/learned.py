"""What the codecs of all papers share: weights that are loaded once, and pictures as tensors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.weights import find_weights, load_weights


class LearnedCodec(Codec):
    """A codec with weights; its constructor takes a weights file's tensors and metadata, and a device.

    Attributes:
        paper: the package under ``lightning_modules``, where shipped weights are found.
        identity: of the weights, from `weights_identity`.
    """

    paper: ClassVar[str]
    identity: bytes

    @classmethod
    def load(cls, which: str | bytes | Path) -> Self:
        """From a preset's name, a path, or the identity in a file; loaded once a process, on a GPU if there is one.

        Raises:
            WeightsError: there are no such weights, or they are not this codec's.
        """
        path = find_weights(cls.paper, which)
        return _load(cls, path, path.stat().st_mtime_ns)

    @property
    def weights_id(self) -> bytes:
        return self.identity


@lru_cache(maxsize=8)
def _load(cls: type[LearnedCodec], path: Path, mtime_ns: int) -> LearnedCodec:
    del mtime_ns  # part of the cache's key: a run's weights change while it trains
    return cls(*load_weights(path), device="cuda" if torch.cuda.is_available() else "cpu")


def padded(image: np.ndarray, stride: int) -> np.ndarray:
    """H×W(×C) continued by its edges to sides that are multiples of ``stride``."""
    sides = [(0, -image.shape[0] % stride), (0, -image.shape[1] % stride)]
    return np.pad(image, sides + [(0, 0)] * (image.ndim - 2), mode="edge")


def to_tensor(image: Image, device: str) -> Tensor:
    """uint8 H×W×3 to [1, 3, H, W] in [0, 1], channels last."""
    x = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
    return x.contiguous(memory_format=torch.channels_last)


def to_image(x_hat: Tensor) -> Image:
    """[3, H, W], about [0, 1], to uint8 H×W×3: rounded, and clamped."""
    pixels = (x_hat.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
