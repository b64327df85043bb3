"""The codecs: GDAE alone, and GDAE with its residual."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from lightning_modules.classical import ycbcr
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.gdae_sprc.base import GdaeBase, Latents
from lightning_modules.gdae_sprc.heat import GradCam, open_classifier
from lightning_modules.gdae_sprc.rate_allocation import Attempt, Base, Choices, least_cost, least_error
from lightning_modules.gdae_sprc.residual import (
    MAX_QP,
    cell_means,
    decode_residual,
    encode_residual,
    qp_map,
)
from losses.pretrained import SHARED_WEIGHTS, shared_weights

STRENGTH = 4.0
"""QP between the coldest and the hottest place. On Kodak the heat's standard deviation is about a quarter, so this is
one QP of deviation, which costs about 0.1 dB of the whole picture's PSNR."""


class GdaeCodec(GdaeBase):
    """GDAE without residual compensation, the ablation's other half. Quality is the level, 0 to levels − 1."""

    id = "gdae"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.qualities = tuple(float(level) for level in range(self.levels))
        self.default_quality = float((self.levels - 1) // 2)

    def _encode(
        self, image: Image, quality: float, *, latents: str = "best", target_bpp: float | None = None
    ) -> dict[str, bytes]:
        """
        Args:
            latents: the lossless coder, one of `base.LATENT_CODERS`.
            target_bpp: the highest level whose file is within this, instead of ``quality``.
        """
        if target_bpp is None:
            return self.latent_sections(self.analyse(image, quality), latents)
        budget = _budget(target_bpp, image)
        low, high, best = 0, 8 * (self.levels - 1), None
        while low <= high:
            middle = (low + high) // 2
            sections = self.latent_sections(self.analyse(image, middle / 8), latents)
            if self._file_size(image, sections) <= budget:
                low, best = middle + 1, sections
            else:
                high = middle - 1
        if best is None:
            raise ConfigError(f"target_bpp={target_bpp}: the lowest level takes more; give more")
        return best

    def _decode(self, container: Container) -> Image:
        return self.synthesise(self.read_latents(container), container.height, container.width)


class GdaeSprcCodec(GdaeBase):
    """GDAE and the residual x − x̂ in HEVC, better where the heat map is hot.

    Quality is 51 − QP of the residual, 0 to 51. For a given quality or a byte budget (``target_bpp``), the level of
    the latents is chosen; the slides fix it by hand. Among the choices is a file without latents, whose residual is
    taken from mid-grey.

    Attributes:
        classifier: makes the heat map where `encode` is given none. Found at the first use: ``mobilenetv2_100`` below
            ``GENIC_DATA``; set another, such as ``open_classifier("vgg16")``, the slides' own. Without any, quality
            is uniform, and a warning says so.
    """

    id = "sprc"
    qualities = (9.0, 12.0, 16.0, 20.0, 24.0, 27.0)
    default_quality = 16.0

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.classifier: GradCam | None = None

    def heat(self, image: Image) -> np.ndarray | None:
        """The heat map, float32 H×W in [0, 1], or None where no classifier is at hand."""
        if self.classifier is None and shared_weights() is not None:
            self.classifier = open_classifier("mobilenetv2_100")
        return None if self.classifier is None else self.classifier(image)

    def _encode(
        self,
        image: Image,
        quality: float,
        *,
        target_bpp: float | None = None,
        level: float | None = None,
        heat: np.ndarray | None = None,
        strength: float = STRENGTH,
        latents: str = "best",
        effort: str = "veryslow",
    ) -> dict[str, bytes]:
        """
        Args:
            target_bpp: bits per pixel that the file may take, instead of ``quality``; the split between latents and
                residual and the residual's quality are chosen for the least squared error.
            level: of the latents, instead of the best or none.
            heat: H×W, 0 to 1, instead of the classifier's.
            strength: QP between the coldest and the hottest place; 0 is uniform quality and needs no heat map.
            latents: the lossless coder, one of `base.LATENT_CODERS`.
            effort: x265's preset.

        Raises:
            ConfigError: quality or level is out of range, the heat is not of the picture's size, or the least file is
                beyond the budget.
        """
        if not 0 <= quality <= MAX_QP:
            raise ConfigError(f"quality {quality} is out of range: it is 51 − QP, 0 to 51")
        cells = cell_means(self._heat(image, heat, strength))
        choices = Choices(
            bases=self._bases(image, latents, level),
            attempt=lambda base, q: self._attempt(image, base, q, qp_map(q, cells, strength), effort),
            file_size=lambda sections: self._file_size(image, sections),
        )
        if target_bpp is None:
            return least_cost(choices, quality).sections
        budget = _budget(target_bpp, image)
        best = least_error(choices, budget)
        if best.size > budget:
            least = math.ceil(8000 * best.size / (image.shape[0] * image.shape[1])) / 1000
            raise ConfigError(f"the byte budget is too small: this picture takes {least} bpp or more")
        return best.sections

    def _decode(self, container: Container) -> Image:
        height, width = container.height, container.width
        # The residual first: it is where a false size shows before anything large is allocated.
        stream = container.sections.get("residual")
        residual = None if stream is None else decode_residual(stream, height, width)
        if residual is not None and set(container.sections) == {"residual"}:
            return _add(_grey(height, width), residual)
        x_hat = self.synthesise(self.read_latents(container), height, width)
        return x_hat if residual is None else _add(x_hat, residual)

    def _heat(self, image: Image, heat: np.ndarray | None, strength: float) -> np.ndarray:
        if heat is None and strength != 0:
            heat = self.heat(image)
            if heat is None:
                warnings.warn(
                    "no classifier for the heat map, so the residual's quality is uniform: set GENIC_DATA to a folder "
                    f"with {SHARED_WEIGHTS}, or codec.classifier = open_classifier('vgg16')",
                    stacklevel=4,
                )
        if heat is None:
            return np.zeros(image.shape[:2], np.float32)
        if heat.shape != image.shape[:2] or not (heat.min() >= 0 and heat.max() <= 1):
            raise ConfigError(
                f"heat is {image.shape[0]}×{image.shape[1]} numbers from 0 to 1, not {heat.shape}"
            )
        return heat

    def _bases(self, image: Image, coder: str, level: float | None) -> Iterator[Base]:
        """No latents, then every level, ascending; that level alone where it is given."""
        if level is None:
            yield Base({}, _grey(*image.shape[:2]))
        for at in range(self.levels) if level is None else [level]:
            found: Latents = self.analyse(image, at)
            yield Base(self.latent_sections(found, coder), self.synthesise(found, *image.shape[:2]))

    def _attempt(self, image: Image, base: Base, quality: float, qp: np.ndarray, effort: str) -> Attempt:
        height, width = image.shape[:2]
        difference = ycbcr.from_rgb(image).astype(np.int16) - ycbcr.from_rgb(base.x_hat)
        stream = encode_residual(difference, qp, effort)
        decoded = _add(base.x_hat, decode_residual(stream, height, width))
        sections = base.sections | {"residual": stream}
        error = image.astype(np.int32) - decoded
        size = self._file_size(image, sections)
        return Attempt(sections, size, float(np.sum(error * error, dtype=np.int64)), quality)


def _grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def _add(x_hat: Image, residual: np.ndarray) -> Image:
    planes = ycbcr.from_rgb(x_hat) + residual
    return ycbcr.to_rgb(np.clip(planes, 0, 255).astype(np.uint8))


def _budget(target_bpp: float, image: Image) -> int:
    """Bytes of a picture at that rate; `ConfigError` unless it is positive."""
    if not target_bpp > 0:
        raise ConfigError(f"target_bpp={target_bpp}: a positive number of bits per pixel is needed")
    return int(target_bpp * image.shape[0] * image.shape[1] / 8)
