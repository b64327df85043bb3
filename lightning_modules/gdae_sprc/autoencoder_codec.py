"""The codec of GDAE alone: a picture to quantised latents, these to bytes without loss, and back."""

from __future__ import annotations

from collections.abc import Mapping
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
        z, level = self._latents(image, level)
        return Latents(self.system.Q.index(z)[0], level)

    @torch.inference_mode()
    def synthesise(self, latents: Latents, height: int, width: int) -> Image:
        """x̂, uint8 height×width×3."""
        z_hat = self.system.Q.values(latents.index.to(self.device))
        return super().synthesise(z_hat, latents.level, height, width)

    @torch.inference_mode()
    def latent_sections(self, latents: Latents, coder: str = "best") -> dict[str, bytes]:
        """Sections of the latents by ``jpeg_xl``, by the ``learned`` entropy model, or by the better of the two."""
        if coder not in LATENT_CODERS:
            raise ConfigError(f"no coder of latents {coder!r}: there are {', '.join(LATENT_CODERS)}")
        found = []
        if coder in ("best", "learned"):
            hyper = self.system.hyper_latents(latents.index[None].to(self.device))[0]
            found.append(self.coder.encode(latents.index, hyper, latents.level))
        if coder in ("best", "jpeg_xl"):
            index = latents.index.cpu()
            parameters = bytes([round(8 * latents.level)]) + symbol_check(index).to_bytes(4, "little")
            stream = encode_latents(index.numpy(), self.system.Q.middle)
            found.append({"parameters": parameters, "latents": stream})
        return min(found, key=_size)

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
        return self.latent_sections(self.analyse(image, quality), latents)

    def _decode(self, container: Container) -> Image:
        return self.synthesise(self.read_latents(container), container.height, container.width)


def _size(sections: Mapping[str, bytes]) -> int:
    return sum(map(len, sections.values()))
