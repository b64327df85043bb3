"""The codec: GC, and SC where something is to be synthesised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError, SymbolMismatchError
from genic.lightning_modules.codec.learned import LearnedCodec, padded, ready, to_image, to_tensor, without
from genic.lightning_modules.codec.options import LabelMap, Mask
from genic.lightning_modules.entropy.coder import EscapeReader, symbol_check
from genic.lightning_modules.entropy.folded import FoldedModels
from genic.lightning_modules.entropy.grid import exact_copy
from genic.lightning_modules.entropy.latents import LatentCoder, channels_last
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel
from genic.lightning_modules.extreme_semantic.map_coding import decode_map, encode_map
from genic.lightning_modules.extreme_semantic.maps import (
    class_numbers,
    margin,
    merge,
    position_means,
    wanted_positions,
)
from genic.lightning_modules.extreme_semantic.system import System, noise_of

TABLES = "tables"


class ExtremeSemanticCodec(LearnedCodec):
    """::

        x ── pad ── E ── nearest centre, × heat ──> ŵ ── range coder ──> latents
        label map, heat map ── one indexed picture ──> semantic_map            (SC only)
        file ──> ŵ, map ── G ── round, crop ──> x̂

    ``quality`` is C, the number of channels of ŵ: one of `qualities`.
    """

    id = "es"
    paper = "extreme_semantic"
    config_class = ExtremeSemanticModel
    quality_meaning = "the number of channels C"
    system: System

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.load_state_dict(without(tensors, TABLES))
        context = exact_copy(system.H).to(self.device)
        self.coder = LatentCoder(context, FoldedModels(tensors[TABLES]), self.device)
        del system.H
        self.system = ready(system, self.device)
        self.qualities = tuple(float(c) for c in self.config.C)
        self.quality_steps, self.default_quality = self.qualities, self.qualities[-1]

    def cap(self, quality: float) -> float:
        """dim(ŵ)·log2 L in bits per pixel, which entropy coding stays below (equation 3)."""
        return quality * np.log2(5) / self.config.latent_stride**2

    def semantic_map(self, data: bytes) -> np.ndarray | None:
        """The indexed picture (`maps`) in a file, or None where all is preserved.

        Raises:
            DamagedFileError: the map is no map of this network.
        """
        return self._read_map(Container.from_bytes(data))

    @torch.inference_mode()
    def analyse(self, image: Image, level: int) -> Tensor:
        """w [1, C, h, w] before the quantiser."""
        x = 2 * to_tensor(padded(image, self.config.stride), self.device) - 1
        return self.system.latents(x, torch.tensor([level], device=self.device))

    def _encode(
        self,
        image: Image,
        quality: float,
        *,
        labels: LabelMap | None = None,
        preserve: str | Sequence[str] | Mask | None = None,
        synthesise: str | Sequence[str] | None = None,
        seed: int = 0,
    ) -> dict[str, bytes]:
        """
        Args:
            labels: class numbers H×W, which SC needs; those beyond the last class count as the last.
            preserve: a heat map bool H×W, or class names such as ``"car,pedestrian"``; ``""`` synthesises all, None
                preserves all (GC).
            synthesise: class names instead; all others are preserved.
            seed: 0 to 255, of the noise r.

        Raises:
            ConfigError: quality is no C of the network, the network does no SC, or the arguments do not go together.
        """
        if quality not in self.qualities:
            known = ", ".join(f"{q:g}" for q in self.qualities)
            raise ConfigError(f"quality {quality:g} is no number of channels C: there are {known}")
        if not 0 <= seed <= 255:
            raise ConfigError(f"seed {seed} is out of range: it is one byte, 0 to 255")
        level = self.qualities.index(quality)
        preserved = self._preserved(image, labels, preserve, synthesise)
        w = self.analyse(image, level)
        found = (
            None
            if preserved is None or labels is None
            else self._merged(image, labels, preserved, w, level, seed)
        )
        at, indexed, heat = self._side(level, found, w)
        symbols = channels_last(self.system.hard(w, at, heat)[0])
        wanted = channels_last(self.system.wanted(at, heat)[0])
        psi = self.coder.activations(self.system.psi(indexed, w))
        parameters = bytes([level]) + (bytes([seed]) if self.config.noise else b"")
        sections = {
            "parameters": parameters + _check(symbols, parameters, found, *image.shape[:2]),
            "latents": self.coder.encode(symbols, psi, at, bytearray(), wanted),
        }
        if found is None:
            return sections
        return sections | {"semantic_map": encode_map(found, self.system.classes + 1)}

    @torch.inference_mode()
    def _settings(self, container: Container) -> dict[str, object]:
        level = container.section("parameters")[0]
        return {"quality": self.qualities[level]} if level < len(self.qualities) else {}

    def _decode(self, container: Container) -> Image:
        c, size = self.config, (container.height, container.width)
        parameters, stream = container.section("parameters"), container.section("latents")
        if len(parameters) != (4 if c.noise else 3) or parameters[0] >= len(c.C):
            raise DamagedFileError("the parameters are not a number of channels and a check of two bytes")
        found = self._read_map(container)
        like = torch.empty(
            1, c.C[-1], *(-(-side // c.stride) * (c.stride // c.latent_stride) for side in size)
        )
        at, indexed, heat = self._side(parameters[0], found, like)
        wanted = channels_last(self.system.wanted(at, heat)[0])
        psi = self.coder.activations(self.system.psi(indexed, like))
        symbols = self.coder.decode(stream, psi, at, EscapeReader(b""), wanted)
        if parameters[-2:] != _check(symbols, parameters[:-2], found, *size):
            raise SymbolMismatchError(
                "the decoded symbols fail the encoder's check: the file is altered; fetch it again"
            )
        w_hat = symbols.permute(0, 3, 1, 2).to(self.device, torch.float32)
        return self._synthesise(w_hat, at, indexed, parameters[1], size)

    def _preserved(
        self,
        image: Image,
        labels: np.ndarray | None,
        preserve: str | Sequence[str] | np.ndarray | None,
        synthesise: str | Sequence[str] | None,
    ) -> np.ndarray | None:
        """The heat map in pixels, bool H×W, or None where all is preserved; ConfigError: see `_encode`."""
        if preserve is None and synthesise is None:
            return None
        if self.system.F is None:
            raise ConfigError("this network has no semantic encoder: use weights of a preset with SC")
        if preserve is not None and synthesise is not None:
            raise ConfigError("give preserve or synthesise, not both")
        size = image.shape[:2]
        if labels is None or labels.shape != size or labels.dtype.kind not in "iu" or labels.min() < 0:
            found = "None" if labels is None else f"{labels.dtype} {labels.shape}"
            raise ConfigError(f"labels is a map of class numbers, {size[0]}×{size[1]}, not {found}")
        if not isinstance(preserve, np.ndarray):
            names = preserve if synthesise is None else synthesise
            assert names is not None
            known = np.minimum(labels, self.system.classes - 1)
            preserve = np.isin(known, class_numbers(names, self.config.classes)) ^ (synthesise is not None)
        if preserve.shape != size or preserve.dtype != bool:
            raise ConfigError(
                f"a heat map is bool {size[0]}×{size[1]}, not {preserve.dtype} {preserve.shape}"
            )
        return preserve

    @torch.inference_mode()
    def _merged(
        self, image: Image, labels: np.ndarray, preserved: np.ndarray, w: Tensor, level: int, seed: int
    ) -> np.ndarray | None:
        """The file's map: what is wanted, and the margin that serves it (`maps.margin`). None if that is all."""
        c, (height, width) = self.config, image.shape[:2]
        labels = padded(np.minimum(labels, self.system.classes - 1), c.stride)
        preserved = padded(preserved, c.stride)
        wanted = wanted_positions(preserved, c.latent_stride)

        def error(found: np.ndarray | None) -> np.ndarray:
            at, indexed, heat = self._side(level, found, w)
            x_hat = self._synthesise(self.system.hard(w, at, heat), at, indexed, seed, (height, width))
            return position_means((image.astype(np.float32) - x_hat) ** 2, wanted.shape, c.latent_stride)

        found = merge(labels, preserved, wanted, self.system.classes, c.map_stride)
        if wanted.any() and not wanted.all():
            heat = wanted | margin(wanted, error(found) - error(None))
            found = merge(labels, preserved, heat, self.system.classes, c.map_stride)
        return None if (found == self.system.classes).all() else found

    def _read_map(self, container: Container) -> np.ndarray | None:
        c, section = self.config, container.sections.get("semantic_map")
        if not section:
            return None
        if self.system.F is None:
            raise DamagedFileError("the file has a semantic map, the network has no use for one")
        height, width = (
            -(-side // c.stride) * (c.stride // c.map_stride) for side in (container.height, container.width)
        )
        return decode_map(section, (height, width), self.system.classes + 1)

    def _synthesise(
        self, w_hat: Tensor, at: Tensor, indexed: Tensor | None, seed: int, size: tuple[int, int]
    ) -> Image:
        """G's picture of ŵ [1, C, h, w], cropped to ``size``; ``at`` and ``indexed`` are `_side`'s."""
        grid = (-(-side // self.config.stride) for side in size)
        noise = noise_of(seed, self.config.noise, *grid)
        noise = None if noise is None else noise.to(self.device)
        x_hat = self.system.reconstruct(w_hat, at, indexed, noise)[0, :, : size[0], : size[1]]
        return to_image((x_hat + 1) / 2)

    def _side(
        self, level: int, found: np.ndarray | None, like: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Level [1], map [1, ·, ·] and heat map [1, h, w] on the device."""
        indexed = None
        if found is not None:
            indexed = torch.from_numpy(found.astype(np.int64))[None].to(self.device)
        heat = self.system.heat(indexed, like).to(self.device)
        return torch.tensor([level], device=self.device), indexed, heat


def _check(symbols: Tensor, parameters: bytes, found: np.ndarray | None, height: int, width: int) -> bytes:
    """Two bytes that bind what was decoded to the picture's size."""
    start = height.to_bytes(2, "little") + width.to_bytes(2, "little") + parameters
    start += b"" if found is None else found.tobytes()
    return symbol_check(symbols, start=start).to_bytes(4, "little")[:2]
