"""The codec of GDAE alone: a picture to quantised latents, these to bytes without loss, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError, SymbolMismatchError
from genic.lightning_modules.codec.learned import LevelCodec
from genic.lightning_modules.entropy.coder import symbol_check
from genic.lightning_modules.gdae_sprc.config import LATENT_CODERS, GdaeSprcModel
from genic.lightning_modules.gdae_sprc.latents_jpeg_xl import decode_latents, encode_latents
from genic.lightning_modules.gdae_sprc.system import System


class Latents(NamedTuple):
    """What a file carries of x̂.

    Attributes:
        index: whole numbers, float32 [latents, ⌈H/stride⌉, ⌈W/stride⌉].
        level: of the gains, a multiple of ⅛.
    """

    index: Tensor
    level: float


class GdaeCodec(LevelCodec):
    """GDAE without residual compensation, the ablation's other half. Quality is the level, 0 to levels − 1."""

    id = "gdae"
    quality_meaning = "the latents' level"
    paper = "gdae_sprc"
    config_class = GdaeSprcModel
    system_class = System
    system: System

    @torch.inference_mode()
    def analyse(self, image: Image, level: float) -> Latents:
        """Encoder and quantiser.

        Raises:
            ConfigError: the level is out of range.
        """
        z, level = self._latents([image], level)
        return Latents(self.system.Q.index(z)[0], level)

    @torch.inference_mode()
    def synthesise(self, latents: Latents, height: int, width: int) -> Image:
        """x̂, uint8 height×width×3."""
        z_hat = self.system.Q.values(latents.index.to(self.device))
        return super().synthesise(z_hat, latents.level, height, width)

    @torch.inference_mode()
    def latent_sections(self, latents: Latents, coder: str = "best") -> dict[str, bytes]:
        """Sections of the latents by ``jpeg_xl``, by the ``learned`` entropy model, or by the better of the two."""
        return self._coded(latents.index[None], latents.level, coder)[0]

    def _coded(self, index: Tensor, level: float, coder: str) -> list[dict[str, bytes]]:
        """`latent_sections` of whole-numbered indices [B, …]."""
        if coder not in LATENT_CODERS:
            raise ConfigError(f"no coder of latents {coder!r}: there are {', '.join(LATENT_CODERS)}")
        found: list[list[dict[str, bytes]]] = [[] for _ in index]
        if coder in ("best", "learned"):
            hyper = self.system.hyper_latents(index.to(self.device))
            for own, sections in zip(found, self.coder.encode_batch(index, hyper, level), strict=True):
                own.append(sections)
        if coder in ("best", "jpeg_xl"):
            for own, mine in zip(found, index.cpu(), strict=True):
                parameters = bytes([round(8 * level)]) + symbol_check(mine).to_bytes(4, "little")
                stream = encode_latents(mine.numpy(), self.system.Q.middle)
                own.append({"parameters": parameters, "latents": stream})
        return [min(own, key=_size) for own in found]

    def latent_sizes(self, image: Image, level: float) -> dict[str, int]:
        """Bytes of the latents' sections by each lossless coder: ``jpeg_xl`` and ``learned``."""
        latents = self.analyse(image, level)
        return {coder: _size(self.latent_sections(latents, coder)) for coder in LATENT_CODERS[1:]}

    def read_latents(self, container: Container) -> Latents:
        """The inverse of `latent_sections`; `DamagedFileError` where they are not such sections."""
        stride, middle = self.stride, self.system.Q.middle
        h, w = -(-container.height // stride), -(-container.width // stride)
        if "hyper_latents" in container.sections:
            index, level = self.coder.decode(container, h, w)
            if index.abs().max() > middle:
                raise DamagedFileError(f"an index lies beyond the {self.config.centres} centres")
            return Latents(index, level)
        parameters = container.section("parameters")
        if len(parameters) != 5 or parameters[0] > 8 * (self.levels - 1):
            raise DamagedFileError("the parameters are not a level and a check of the symbols")
        stream = container.section("latents")
        index = torch.from_numpy(decode_latents(stream, (self.config.latents, h, w), middle))
        if index.abs().max() > middle:
            raise DamagedFileError(f"an index lies beyond the {self.config.centres} centres")
        if symbol_check(index) != int.from_bytes(parameters[1:], "little"):
            raise SymbolMismatchError(
                "the indices fail the encoder's check: the file is altered; fetch it again"
            )
        return Latents(index.float(), parameters[0] / 8)

    def _encode(self, image: Image, quality: float, *, latents: str = "best") -> dict[str, bytes]:
        """
        Args:
            latents: the lossless coder, one of `config.LATENT_CODERS`.
        """
        return self._encode_equal([image], quality, latents=latents)[0]

    @torch.inference_mode()
    def _encode_equal(
        self, images: Sequence[Image], quality: float, *, latents: str = "best"
    ) -> list[dict[str, bytes]]:
        z, level = self._latents(images, quality)
        return self._coded(self.system.Q.index(z), level, latents)

    def _decode(self, container: Container) -> Image:
        return self.synthesise(self.read_latents(container), container.height, container.width)

    def _decode_equal(self, containers: Sequence[Container]) -> list[Image]:
        found = [self.read_latents(container) for container in containers]
        index, level = (
            torch.stack([each.index for each in found]),
            torch.tensor([each.level for each in found]),
        )
        z_hat = self.system.Q.values(index.to(self.device))
        return self._synthesised(z_hat, level, containers[0].height, containers[0].width)


def _size(sections: Mapping[str, bytes]) -> int:
    return sum(map(len, sections.values()))
