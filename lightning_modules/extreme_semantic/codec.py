"""The codec: GC, and SC where something is to be synthesised."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError, DamagedFileError
from lightning_modules.codec.learned import LearnedCodec, padded, ready, to_image, to_tensor, without
from lightning_modules.extreme_semantic.config import ExtremeSemanticConfig
from lightning_modules.extreme_semantic.map_coding import decode_map, encode_map
from lightning_modules.extreme_semantic.maps import class_numbers, merge
from lightning_modules.extreme_semantic.prior import SymbolCoder
from lightning_modules.extreme_semantic.system import System, noise_of

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
    config_class = ExtremeSemanticConfig

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.load_state_dict(without(tensors, TABLES))
        self.coder = SymbolCoder(system.H, tensors[TABLES], self.device)
        del system.H
        self.system = ready(system, self.device)
        self.qualities = tuple(float(c) for c in self.config.C)
        self.default_quality = self.qualities[-1]

    def cap(self, quality: float) -> float:
        """dim(ŵ)·log2 L in bits per pixel, which entropy coding stays below (equation 3)."""
        return quality * np.log2(5) / self.config.latent_stride**2

    def indexed_map(
        self,
        image: Image,
        labels: np.ndarray | None,
        preserve: str | Sequence[str] | np.ndarray | None,
        synthesise: str | Sequence[str] | None = None,
    ) -> np.ndarray | None:
        """The map that a file of these arguments carries (`maps.merge`), or None where all is preserved.

        Raises:
            ConfigError: the network does no SC, or the arguments do not go together; see `_encode`.
        """
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
        labels = np.minimum(labels, self.system.classes - 1)
        if isinstance(preserve, np.ndarray):
            if preserve.shape != size or preserve.dtype != bool:
                raise ConfigError(
                    f"a heat map is bool {size[0]}×{size[1]}, not {preserve.dtype} {preserve.shape}"
                )
        else:
            names = preserve if synthesise is None else synthesise
            preserve = np.isin(labels, class_numbers(names, self.config.classes)) ^ (synthesise is not None)
        c = self.config
        merged = merge(
            padded(labels, c.stride),
            padded(preserve, c.stride),
            self.system.classes,
            c.map_stride,
            c.latent_stride,
        )
        return None if (merged == self.system.classes).all() else merged

    @torch.inference_mode()
    def analyse(self, image: Image) -> Tensor:
        """w [1, C, h, w] before the quantiser."""
        return self.system.latents(2 * to_tensor(padded(image, self.config.stride), self.device) - 1)

    def _encode(
        self,
        image: Image,
        quality: float,
        *,
        labels: np.ndarray | None = None,
        preserve: str | Sequence[str] | np.ndarray | None = None,
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
            ConfigError: quality is no C of the network, or see `indexed_map`.
        """
        if quality not in self.qualities:
            known = ", ".join(f"{q:g}" for q in self.qualities)
            raise ConfigError(f"quality {quality:g} is no number of channels C: there are {known}")
        if not 0 <= seed <= 255:
            raise ConfigError(f"seed {seed} is out of range: it is one byte, 0 to 255")
        level = self.qualities.index(quality)
        found = self.indexed_map(image, labels, preserve, synthesise)
        w = self.analyse(image)
        at, indexed, heat = self._side(level, found, w)
        w_hat, wanted = self.system.hard(w, at, heat)[0], self.system.wanted(at, heat)[0]
        stream = self.coder.encode(w_hat, wanted, self.system.psi(indexed, w)[0], level)
        section = b"" if found is None else encode_map(found, self.system.classes + 1)
        parameters = bytes([level]) + (bytes([seed]) if self.config.noise else b"")
        parameters += _check(parameters, stream, section, *image.shape[:2])
        sections = {"parameters": parameters, "latents": stream}
        return sections if found is None else sections | {"semantic_map": section}

    @torch.inference_mode()
    def _decode(self, container: Container) -> Image:
        c, size = self.config, (container.height, container.width)
        parameters, stream = container.section("parameters"), container.section("latents")
        section = container.sections.get("semantic_map", b"")
        if len(parameters) != (4 if c.noise else 3) or parameters[0] >= len(c.C):
            raise DamagedFileError("the parameters are not a number of channels and a check of two bytes")
        # Before anything is allocated for the size that the header claims.
        if parameters[-2:] != _check(parameters[:-2], stream, section, *size):
            raise DamagedFileError(
                "the latents are not those of a picture of this size: fetch the file again"
            )
        level, rows, columns = parameters[0], *(-(-side // c.stride) for side in size)
        found = None
        if section:
            if self.system.F is None:
                raise DamagedFileError("the file has a semantic map, the network has no use for one")
            ratio = c.stride // c.map_stride
            found = decode_map(section, (ratio * rows, ratio * columns), self.system.classes + 1)
        ratio = c.stride // c.latent_stride
        like = torch.empty(1, c.C[-1], ratio * rows, ratio * columns)
        at, indexed, heat = self._side(level, found, like)
        wanted = self.system.wanted(at, heat)[0]
        w_hat = self.coder.decode(stream, wanted, self.system.psi(indexed, like)[0], level)[None]
        noise = noise_of(parameters[1], c.noise, rows, columns) if c.noise else None
        noise = None if noise is None else noise.to(self.device)
        x_hat = self.system.reconstruct(w_hat.to(self.device), at, indexed, noise)
        x_hat = x_hat[0, :, : size[0], : size[1]]
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


def _check(parameters: bytes, stream: bytes, section: bytes, height: int, width: int) -> bytes:
    """Binds the streams to the picture's size; damage as such is the container's CRC's to find."""
    size = height.to_bytes(2, "little") + width.to_bytes(2, "little")
    return zlib.crc32(size + parameters + stream + section).to_bytes(4, "little")[:2]
