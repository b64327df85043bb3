"""The codec of selective detail decoding: a picture to a file and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.codec.learned import LearnedCodec, padded, ready, to_image, to_tensor, without
from lightning_modules.codec.rate_control import eighths
from lightning_modules.entropy.coder import MAX_SYMBOL
from lightning_modules.entropy.gaussian import GaussianTables
from lightning_modules.entropy.hyperprior import HyperpriorCoder
from lightning_modules.selective_detail.config import SelectiveDetailModel
from lightning_modules.selective_detail.system import System


class SelectiveDetailCodec(LearnedCodec):
    """::

        x ── pad to 16 ── E, gain ── round ──> ẑ, ẑ_h ── exact range coder ──> file
        file ──> ẑ ── gain⁻¹ ── G_m, G_s, equation 1 ── crop, round ──> x̂

    ``quality`` is the rate level, 0 to levels − 1, in steps of ⅛.
    """

    id = "sd"
    paper = "selective_detail"
    config_class = SelectiveDetailModel
    quality_meaning = "the rate level"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.load_state_dict(without(tensors, "gaussian_tables."))
        self.coder = HyperpriorCoder(system.H, GaussianTables.from_state(tensors), self.device)
        del system.H
        self.system = ready(system, self.device)
        self.stride = self.config.stride
        self.qualities = tuple(float(level) for level in range(self.config.levels))
        self.quality_steps = eighths(self.config.levels - 1)
        self.default_quality = float((self.config.levels - 1) // 2)

    @torch.inference_mode()
    def analyse(self, image: Image, quality: float) -> tuple[Tensor, Tensor, float]:
        """ẑ [latents, ⌈H/16⌉, ⌈W/16⌉], ẑ_h and the level, as a file carries them.

        Raises:
            ConfigError: the quality is out of range.
        """
        level = round(8 * quality) / 8
        if not 0 <= level <= self.qualities[-1]:
            raise ConfigError(f"quality {quality} is out of range: it goes from 0 to {self.qualities[-1]:g}")
        x = to_tensor(padded(image, self.config.stride), self.device)
        z, z_h = self.system.latents(x, torch.tensor([level], device=self.device))
        z_hat, z_h_hat = (t[0].round().clamp(-MAX_SYMBOL, MAX_SYMBOL) for t in (z, z_h))
        return z_hat, z_h_hat, level

    @torch.inference_mode()
    def synthesise(self, z_hat: Tensor, level: float, height: int, width: int) -> Image:
        """The picture of ẑ [latents, ⌈H/16⌉, ⌈W/16⌉]."""
        at = torch.tensor([level], device=self.device)
        y = z_hat[None].to(self.device).contiguous(memory_format=torch.channels_last)
        x_hat = self.system.reconstruct(y, at).x_hat[0, :, :height, :width]
        return to_image(x_hat)

    def _encode(self, image: Image, quality: float) -> dict[str, bytes]:
        return self.coder.encode(*self.analyse(image, quality))

    def _decode(self, container: Container) -> Image:
        height, width, stride = container.height, container.width, self.config.stride
        z_hat, level = self.coder.decode(container, -(-height // stride), -(-width // stride))
        return self.synthesise(z_hat, level, height, width)
