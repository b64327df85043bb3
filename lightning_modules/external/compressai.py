"""CompressAI's models as codecs: their own ``compress`` and ``decompress``, and a checkpoint of the user's.

::

    compressai:mbt2018:4:checkpoint_best_loss.pth.tar       architecture, quality (which fixes the widths), checkpoint
    compressai:mbt2018:4:random                             random weights: to measure times, and nothing else

A file's payload is what ``compress`` returns: the shape, and each string after its length. Their entropy coder computes
probabilities in floating point, so a file decodes where the arithmetic is the encoder's: networks run on the CPU, and
both processes need the same libraries and number of threads. Nothing in a file tells that they had not.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from genic.lightning_modules.codec.container import Container, read_varint, write_varint
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    ToolError,
    WeightsError,
    did_you_mean,
)
from genic.lightning_modules.codec.weights import weights_identity

ARCHITECTURES = (
    *("bmshj2018-factorized", "bmshj2018-factorized-relu", "bmshj2018-hyperprior"),
    *("mbt2018-mean", "mbt2018", "cheng2020-anchor", "cheng2020-attn"),
)
"""Part of the format: a file holds the place in it. Only appended to."""
RANDOM = "random"
FORM = "compressai:ARCHITECTURE:QUALITY:CHECKPOINT"


class CompressAi(Codec):
    """One network of CompressAI's, which has one operating point.

    Attributes:
        net: the network, with ``g_a``, ``g_s``, ``compress`` and ``decompress``.
    """

    id = "cai"
    stride = 64
    quality_meaning = "CompressAI's quality, which is in the codec's name"

    def __init__(self, architecture: str, quality: int, checkpoint: str | Path) -> None:
        """
        Raises:
            ConfigError: no such architecture or quality.
            ToolError: CompressAI is not installed.
            WeightsError: no such checkpoint, one that holds more than tensors, or that does not fit.
        """
        self.architecture, self.trained = architecture, str(checkpoint) != RANDOM
        self.net = _network(architecture, quality)
        if self.trained:
            state = _state(Path(checkpoint))
            try:
                self.net.load_state_dict(state)
            except (RuntimeError, KeyError) as error:
                raise WeightsError(
                    f"{checkpoint} does not fit {architecture} at quality {quality}: {error}"
                ) from error
        self.net.eval().requires_grad_(False).update()  # tables that the checkpoint has are kept
        described = {"paper": "compressai", "config": f'"{architecture}:{quality}"'}
        self.identity = weights_identity(self.net.state_dict(), described)
        self.default_quality = float(quality)
        self.qualities = self.quality_steps = (self.default_quality,)

    @classmethod
    def load(cls, which: str) -> Self:
        """From ``ARCHITECTURE:QUALITY:CHECKPOINT``."""
        architecture, _, rest = which.partition(":")
        quality, _, checkpoint = rest.partition(":")
        if architecture not in ARCHITECTURES:
            raise ConfigError(
                f"no architecture {architecture!r} in {FORM}: {did_you_mean(architecture, ARCHITECTURES)}"
            )
        if not quality.isdecimal():
            raise ConfigError(f"{FORM}: the quality is a whole number from 1, not {quality!r}")
        if not checkpoint:
            raise ConfigError(
                f"compressai:{which} has no checkpoint: give compressai:{architecture}:{quality}:FILE.pth.tar, or "
                f"compressai:{architecture}:{quality}:{RANDOM} to measure times alone"
            )
        return cls(architecture, int(quality), checkpoint)

    @classmethod
    def of_file(cls, container: Container, weights: str | Path | None) -> Self:
        """The codec that a file names, with the checkpoint ``weights``."""
        if weights is None:
            raise WeightsError(
                "the file needs the CompressAI checkpoint that wrote it: give it (--weights PATH)"
            )
        number, quality = _parameters(container)
        return cls(ARCHITECTURES[number], quality, weights)

    @property
    def weights_id(self) -> bytes:
        return self.identity

    def _settings(self, container: Container) -> dict[str, object]:
        number, quality = _parameters(container)
        return {"architecture": ARCHITECTURES[number], "quality": quality}

    @torch.inference_mode()
    def _encode(self, image: Image, quality: float) -> dict[str, bytes]:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        sides = (0, -x.shape[3] % self.stride, 0, -x.shape[2] % self.stride)
        coded = self.net.compress(torch.nn.functional.pad(x, sides, mode="replicate"))
        strings = [bytes(string) for (string,) in coded["strings"]]
        payload = b"".join(write_varint(n) for n in (*coded["shape"], len(strings), *map(len, strings)))
        parameters = bytes([ARCHITECTURES.index(self.architecture), int(self.default_quality)])
        return {"parameters": parameters, "payload": payload + b"".join(strings)}

    @torch.inference_mode()
    def _decode(self, container: Container) -> Image:
        if _parameters(container) != (ARCHITECTURES.index(self.architecture), self.default_quality):
            raise DamagedFileError("the file is of another architecture than its weights")
        shape, strings = _strings(container.section("payload"))
        # Networks of both kinds give one position for 64×64 or 16×16 pixels; another shape is no encoder's.
        padded = [-(-side // self.stride) * self.stride for side in (container.height, container.width)]
        if shape not in [tuple(side // stride for side in padded) for stride in (64, 16)]:
            raise DamagedFileError(f"latents of {shape} are not those of the picture's size")
        decoded = self.net.decompress([[string] for string in strings], shape)["x_hat"]
        pixels = (decoded[0, :, : container.height, : container.width] * 255).round().clamp(0, 255)
        return pixels.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _network(architecture: str, quality: int) -> Any:
    try:
        from compressai.zoo import image_models
    except ImportError as error:
        raise ToolError(
            f"CompressAI cannot be imported ({error}): pip install 'compressai>=1.2.6' (Python below 3.12)"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same in every process
        try:
            return image_models[architecture](quality=quality, pretrained=False)
        except ValueError as error:
            raise ConfigError(f"compressai:{architecture}:{quality}: {error}") from error


def _state(path: Path) -> Mapping[str, Tensor]:
    """The network's tensors of a checkpoint; nothing but tensors and plain values is read, and no code is run."""
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}: give a .pth.tar of CompressAI's")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone; where you trust it, save its state dict: "
            f"torch.save({{'state_dict': net.state_dict()}}, …) ({str(error).splitlines()[0]})"
        ) from error
    for key in ("state_dict", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not _are_tensors(content.values()):
        raise WeightsError(f"{path} holds no state dict: give a .pth.tar of CompressAI's")
    from compressai.zoo.pretrained import load_pretrained

    return load_pretrained(dict(content))


def _are_tensors(values: Iterable[object]) -> bool:
    values = list(values)
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _parameters(container: Container) -> tuple[int, int]:
    parameters = container.section("parameters")
    if len(parameters) != 2 or parameters[0] >= len(ARCHITECTURES):
        raise DamagedFileError(
            "the parameters are not an architecture known here and a quality: upgrade genic"
        )
    return parameters[0], parameters[1]


def _strings(payload: bytes) -> tuple[tuple[int, int], list[bytes]]:
    at, numbers = 0, []
    while len(numbers) < 3 or len(numbers) < 3 + numbers[2]:
        number, at = read_varint(payload, at)
        numbers.append(number)
    height, width, count, *lengths = numbers
    if not 1 <= count <= 2 or at + sum(lengths) != len(payload):
        raise DamagedFileError("the strings' lengths are not those of the payload")
    strings = []
    for length in lengths:
        strings.append(payload[at : at + length])
        at += length
    return (height, width), strings
