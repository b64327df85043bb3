"""What the codecs of all papers share: weights that are loaded once, and pictures as tensors."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import WeightsError
from lightning_modules.codec.weights import find_weights, load_weights, weights_identity


class LearnedCodec(Codec):
    """A codec with weights. A subclass makes its networks and tables of them in `_open`.

    Args:
        tensors, metadata: of a weights file.
        device: of the networks.

    Attributes:
        paper: the package under ``lightning_modules``, where shipped weights are found.
        config: the paper's dataclass, a ``config_class``, as the weights' metadata has it.
        coding: defaults of `encode`'s options, a ``coding_class`` where a paper has one, as the weights' preset had
            them; not part of the identity, since nothing that decodes depends on them.
        identity: of the weights, from `weights_identity`.

    Raises:
        WeightsError: the weights are another paper's, or the tensors not those of a network of this configuration.
    """

    paper: ClassVar[str]
    config_class: ClassVar[type]
    coding_class: ClassVar[type | None] = None

    def __init__(
        self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], device: str = "cpu"
    ) -> None:
        if metadata["paper"] != self.paper:
            raise WeightsError(
                f"these are weights of {metadata['paper']}, not of {self.paper}: give {metadata['paper']}:WEIGHTS"
            )
        self.config: Any = self.config_class(**json.loads(metadata["config"]))
        if self.coding_class is not None:
            self.coding: Any = self.coding_class(**json.loads(metadata.get("coding", "{}")))
        self.device, self.identity = device, weights_identity(tensors, metadata)
        try:
            self._open(tensors)
        except (RuntimeError, KeyError) as error:
            raise WeightsError(f"the weights do not fit their own configuration: {error}") from error

    @abstractmethod
    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        """Set up networks, tables, ``qualities`` and ``default_quality``; a RuntimeError or a KeyError says that the
        tensors do not fit."""

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

    @staticmethod
    def _is_out_of_memory(error: Exception) -> bool:
        # Of a GPU, of cuDNN, and of the allocator on the CPU, which has no class of its own.
        words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
        return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            word in str(error) for word in words
        )


@lru_cache(maxsize=8)
def _load(cls: type[LearnedCodec], path: Path, mtime_ns: int) -> LearnedCodec:
    del mtime_ns  # part of the cache's key: a run's weights change while it trains
    return cls(*load_weights(path), device="cuda" if torch.cuda.is_available() else "cpu")


def without(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names do not start with ``prefix``."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}


def ready(network: nn.Module, device: str) -> nn.Module:
    """The network for use: evaluation, no gradients, on the device, channels last."""
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


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
