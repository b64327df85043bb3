"""The codecs: GDAE alone, and GDAE with its residual."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from lightning_modules.classical import ycbcr
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.codec.rate_control import Found, eighths
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
    quality_meaning = "the latents' level"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.qualities = tuple(float(level) for level in range(self.levels))
        self.quality_steps = eighths(self.levels - 1)
        self.default_quality = float((self.levels - 1) // 2)

    def _encode(self, image: Image, quality: float, *, latents: str = "best") -> dict[str, bytes]:
        """
        Args:
            latents: the lossless coder, one of `base.LATENT_CODERS`.
        """
        return self.latent_sections(self.analyse(image, quality), latents)

    def _decode(self, container: Container) -> Image:
        return self.synthesise(self.read_latents(container), container.height, container.width)


class GdaeSprcCodec(GdaeBase):
    """GDAE and the residual x − x̂ in HEVC, better where the heat map is hot.

    Quality is 51 − QP of the residual, 0 to 51. For a given quality or a byte budget, the level of the latents is
    chosen; the slides fix it by hand. Among the choices is a file without latents, whose residual is taken from
    mid-grey. Within a budget the residual's quality is chosen with the level, for the least squared error.

    Attributes:
        classifier: makes the heat map where `encode` is given none. Found at the first use: ``mobilenetv2_100`` below
            ``GENIC_DATA``; set another, such as ``open_classifier("vgg16")``, the slides' own. Without any, quality
            is uniform, and a warning says so.
    """

    id = "sprc"
    qualities = (9.0, 12.0, 16.0, 20.0, 24.0, 27.0)
    default_quality = 16.0
    quality_steps = eighths(MAX_QP)
    quality_meaning = "51 − QP of the residual"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.classifier: GradCam | None = None

    def heat(self, image: Image) -> np.ndarray | None:
        """The heat map, float32 H×W in [0, 1], or None where no classifier is at hand."""
        if self.classifier is None and shared_weights() is not None:
            self.classifier = open_classifier("mobilenetv2_100")
        return None if self.classifier is None else self.classifier(image)

    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        """See `_choices` for the options."""
        return least_cost(self._choices(image, **options), quality).sections

    def _encode_within(self, image: Image, limit: int, **options: object) -> Found:
        best = least_error(self._choices(image, **options), limit)
        return Found(self._container(best.sections, *image.shape[:2]).to_bytes(), best.quality)

    def _choices(
        self,
        image: Image,
        *,
        level: float | None = None,
        heat: np.ndarray | None = None,
        strength: float = STRENGTH,
        latents: str = "best",
        effort: str = "veryslow",
    ) -> Choices:
        """What a file can be made of.

        Args:
            level: of the latents, instead of the best or none.
            heat: H×W, 0 to 1, instead of the classifier's.
            strength: QP between the coldest and the hottest place; 0 is uniform quality and needs no heat map.
            latents: the lossless coder, one of `base.LATENT_CODERS`.
            effort: x265's preset.

        Raises:
            ConfigError: the level is out of range, or the heat is not of the picture's size.
        """
        cells = cell_means(self._heat(image, heat, strength))
        return Choices(
            bases=self._bases(image, latents, level),
            attempt=lambda base, q: self._attempt(image, base, q, qp_map(q, cells, strength), effort),
            file_size=lambda sections: self.file_size(sections, *image.shape[:2]),
        )

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
                    stacklevel=6,
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
        size = self.file_size(sections, height, width)
        return Attempt(sections, size, float(np.sum(error * error, dtype=np.int64)), quality)


def _grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def _add(x_hat: Image, residual: np.ndarray) -> Image:
    planes = ycbcr.from_rgb(x_hat) + residual
    return ycbcr.to_rgb(np.clip(planes, 0, 255).astype(np.uint8))
