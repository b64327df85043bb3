"""What the codecs of all papers share: weights that are loaded once, and pictures as tensors."""

from __future__ import annotations

import copy
import inspect
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from genic.lightning_modules.codec.rate_control import Found, budget, eighths, geometric
from genic.lightning_modules.codec.weights import (
    find_weights,
    load_weights,
    shipped_presets,
    weights_identity,
)
from genic.lightning_modules.entropy.gaussian import GaussianTables
from genic.lightning_modules.entropy.hyperprior import HyperpriorCoder
from genic.lightning_modules.layers.rounding import symbols

Network = TypeVar("Network", bound=nn.Module)


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
    has_networks = True
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
        self.stride = self.config.stride
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
    def load(cls, which: str | bytes | Path, device: str | None = None) -> Self:
        """From a preset's name, a path, or the identity in a file; read once a process.

        Networks are shared by what is loaded from one file. Whatever can be set on a codec is its own.

        Args:
            device: of the networks; by default a GPU if there is one.

        Raises:
            ConfigError: there is no such device.
            WeightsError: there are no such weights, or they are not this codec's.
        """
        path = find_weights(cls.paper, which, cls._package())
        codec = copy.copy(_load(cls, path, path.stat().st_mtime_ns, _device(device)))
        assert isinstance(codec, cls)
        for part in ("config", "coding"):
            if hasattr(codec, part):
                setattr(codec, part, copy.deepcopy(getattr(codec, part)))
        assert isinstance(codec, cls)
        return codec

    @classmethod
    def presets(cls) -> list[str]:
        return shipped_presets(cls.paper, cls._package())

    @classmethod
    def _package(cls) -> Path:
        return Path(inspect.getfile(cls)).resolve().parent

    @property
    def weights_id(self) -> bytes:
        return self.identity

    def _option_sources(self) -> Sequence[Any]:
        return (*super()._option_sources(), *([] if self.coding_class is None else [self.coding]))

    @staticmethod
    def _is_out_of_memory(error: Exception) -> bool:
        # Of a GPU, of cuDNN, and of the allocator on the CPU, which has no class of its own.
        words = ("out of memory", "ALLOC_FAILED", "can't allocate memory")
        return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            word in str(error) for word in words
        )


class LevelCodec(LearnedCodec):
    """A codec whose file is the rounded latents and hyper latents of a system with rate levels::

        x ── pad to the stride ── latents ── round ──> ẑ, ẑ_h ── exact range coder ──> file
        file ──> ẑ ── reconstruct ── crop, round ──> x̂

    ``quality`` is the rate level, 0 to levels − 1, in steps of ⅛. The model's configuration has ``levels``
    and ``stride``.

    Attributes:
        system_class: made of the configuration; with ``latents(x, level) -> (z, z_h)``,
            ``reconstruct(ẑ, level)`` and an `EntropyModel` ``H``.
        levels: number of rate levels.
    """

    system_class: ClassVar[type[nn.Module]]
    quality_meaning = "the rate level"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system: Any = self.system_class(self.config)
        system.load_state_dict(without(tensors, "gaussian_tables."))
        self.coder = HyperpriorCoder(system.H, GaussianTables.from_state(tensors), self.device)
        del system.H
        self.system = ready(system, self.device)
        self.levels = self.config.levels
        self.qualities = tuple(float(level) for level in range(self.levels))
        self.quality_steps = eighths(self.levels - 1)
        self.default_quality = float((self.levels - 1) // 2)

    @torch.inference_mode()
    def analyse(self, image: Image, quality: float) -> tuple[Tensor, Tensor, float]:
        """ẑ [latents, ⌈H/stride⌉, ⌈W/stride⌉], ẑ_h and the level, as a file carries them.

        Raises:
            ConfigError: the quality is out of range.
        """
        (z, z_h), level = self._latents([image], quality)
        z_hat, z_h_hat = (symbols(t[0]) for t in (z, z_h))
        return z_hat, z_h_hat, level

    @torch.inference_mode()
    def synthesise(self, z_hat: Tensor, level: float, height: int, width: int, **options: Any) -> Image:
        """The picture of ẑ [latents, ⌈H/stride⌉, ⌈W/stride⌉]; ``options`` are those of `_picture`."""
        return self._synthesised(z_hat[None], torch.tensor([level]), height, width, **options)[0]

    @torch.inference_mode()
    def _synthesised(
        self, z_hat: Tensor, level: Tensor, height: int, width: int, **options: Any
    ) -> list[Image]:
        """The pictures of ẑ [B, latents, ⌈H/stride⌉, ⌈W/stride⌉] at ``level`` [B]."""
        z_hat = z_hat.to(self.device).contiguous(memory_format=torch.channels_last)
        found = self._picture(z_hat, level.to(self.device), **options)
        return [to_image(x_hat[:, :height, :width]) for x_hat in found]

    def _latents(self, images: Sequence[Image], quality: float) -> tuple[Any, float]:
        """The system's latents of pictures of one size, and the level, a multiple of ⅛."""
        level = round(8 * quality) / 8
        if not 0 <= level <= self.levels - 1:
            raise ConfigError(f"rate level {quality} is out of range: it goes from 0 to {self.levels - 1}")
        x = torch.cat([to_tensor(padded(image, self.stride), self.device) for image in images])
        return self.system.latents(x, torch.full((len(x),), level, device=self.device)), level

    def _picture(self, z_hat: Tensor, level: Tensor) -> Tensor:
        """x̂ [B, 3, H, W]; for systems that reconstruct more than that."""
        return self.system.reconstruct(z_hat, level)

    def _settings(self, container: Container) -> dict[str, object]:
        parameters = container.sections.get("parameters")  # a variant may do without
        return {"level": parameters[0] / 8} if parameters else {}

    def _encode(self, image: Image, quality: float) -> dict[str, bytes]:
        return self._encode_equal([image], quality)[0]

    @torch.inference_mode()
    def _encode_equal(self, images: Sequence[Image], quality: float) -> list[dict[str, bytes]]:
        (z, z_h), level = self._latents(images, quality)
        return self.coder.encode_batch(symbols(z), symbols(z_h), level)

    def _decode(self, container: Container, **options: Any) -> Image:
        return self._decode_equal([container], **options)[0]

    def _decode_equal(self, containers: Sequence[Container], **options: Any) -> list[Image]:
        height, width, stride = containers[0].height, containers[0].width, self.stride
        z_hat, level = self.coder.decode_batch(containers, -(-height // stride), -(-width // stride))
        return self._synthesised(z_hat, level, height, width, **options)


class RateCodec(LearnedCodec):
    """A codec that aims at a size by itself: ``quality`` is bits per pixel of the whole file, met from below.

    A subclass implements `_sections_within`; a picture too small for the rate gets the smallest file.
    """

    quality_steps = geometric(0.001, 24)
    quality_meaning = "the most bits per pixel of the file"

    @abstractmethod
    def _sections_within(self, image: Image, limit: int, bpp: float, **options: Any) -> dict[str, bytes]:
        """Sections of the best file of ``limit`` bytes at most, or of the least one; ``bpp`` is what is aimed at."""

    def _option_sources(self) -> Sequence[Any]:
        return (self._sections_within, *super()._option_sources())

    def _encode(self, image: Image, quality: float, **options: Any) -> dict[str, bytes]:
        height, width = image.shape[:2]
        return self._sections_within(image, budget(height, width, None, quality), quality, **options)

    def _encode_within(self, image: Image, limit: int, **options: Any) -> Found:
        bpp = 8 * limit / (image.shape[0] * image.shape[1])
        sections = self._sections_within(image, limit, bpp, **options)
        return Found(self._container(sections, *image.shape[:2]).to_bytes(), bpp)


@lru_cache(maxsize=8)
def _load(cls: type[LearnedCodec], path: Path, mtime_ns: int, device: str) -> LearnedCodec:
    del mtime_ns  # part of the cache's key: a run's weights change while it trains
    return cls(*load_weights(path), device=device)


def _device(name: str | None) -> str:
    """Checked; by default a GPU if there is one."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ConfigError(f"no device {name!r}: there are cpu, cuda, and cuda:N for the Nth GPU")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ConfigError(
            f"no device {name!r}: torch finds {count} GPUs here; give cpu, or none to take what there is"
        )
    return str(device)


def without(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names do not start with ``prefix``."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}


def ready(network: Network, device: str) -> Network:
    """The network for use: evaluation, no gradients, on the device, channels last."""
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's omission


def padded(image: np.ndarray, stride: int) -> np.ndarray:
    """H×W(×C) continued by its edges to sides that are multiples of ``stride``."""
    sides = [(0, -image.shape[0] % stride), (0, -image.shape[1] % stride)]
    return np.pad(image, sides + [(0, 0)] * (image.ndim - 2), mode="edge")


def to_tensor(image: Image, device: str | torch.device) -> Tensor:
    """uint8 H×W×3 to [1, 3, H, W] in [0, 1], channels last."""
    x = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
    return x.contiguous(memory_format=torch.channels_last)


def to_image(x_hat: Tensor) -> Image:
    """[3, H, W], about [0, 1], to uint8 H×W×3: rounded, and clamped."""
    pixels = (x_hat.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
