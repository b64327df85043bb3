"""The codec of GDAE + SPRC: GDAE, and the residual that semantic-perceptual compensation adds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from torch import Tensor

from lightning_modules.classical import ycbcr
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.codec.rate_control import Found, eighths
from lightning_modules.gdae_sprc.autoencoder_codec import GdaeCodec
from lightning_modules.gdae_sprc.grad_cam import SHARED_CLASSIFIER, GradCam, open_classifier
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


class GdaeSprcCodec(GdaeCodec):
    """GDAE and the residual x − x̂ in HEVC, better where the heat map is hot.

    Quality is 51 − QP of the residual, 0 to 51. For a given quality or a byte budget, the level of the latents is
    chosen; the slides fix it by hand. Among the choices is a file without latents, whose residual is taken from
    mid-grey. Within a budget the residual's quality is chosen with the level, for the least squared error.

    The heat map is made by Grad-CAM of ``mobilenetv2_100`` with the weights below ``GENIC_DATA``, or of the classifier
    that `encode` is told. Without any, quality is uniform, and a warning says so; `coding_options` says which it was.
    """

    id = "sprc"
    quality_meaning = "51 − QP of the residual"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.qualities = (9.0, 12.0, 16.0, 20.0, 24.0, 27.0)
        self.quality_steps = eighths(MAX_QP)
        self.default_quality = 16.0

    def heat(self, image: Image, classifier: str | None = None, top_k: int = 1) -> np.ndarray | None:
        """The heat map, float32 H×W in [0, 1], or None where no classifier is at hand; see `encode`."""
        grad_cam = self._grad_cam(classifier, top_k)
        return None if grad_cam is None else grad_cam(image)

    def coding_options(self, classifier: str | None = None, top_k: int = 1, **_: object) -> dict[str, str]:
        """What makes the heat map where `encode` has these options, and is not in the file: it belongs to a result."""
        grad_cam = self._grad_cam(classifier, top_k)
        return {"heat": "none: uniform quality" if grad_cam is None else grad_cam.description}

    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        """See `_choices` for the options."""
        return least_cost(self._choices(image, **options), quality).sections

    def _encoder(self, image: Image, **options: object) -> Callable[[float], dict[str, bytes]]:
        choices = self._choices(image, **options)
        choices = choices._replace(bases=list(choices.bases))
        return lambda quality: least_cost(choices, quality).sections

    def _encode_within(self, image: Image, limit: int, **options: object) -> Found:
        best = least_error(self._choices(image, **options), limit)
        return Found(self._container(best.sections, *image.shape[:2]).to_bytes(), best.quality)

    def _choices(
        self,
        image: Image,
        *,
        level: float | Literal["best", "none"] = "best",
        heat: np.ndarray | None = None,
        strength: float = STRENGTH,
        classifier: str | None = None,
        top_k: int = 1,
        latents: str = "best",
        effort: str = "veryslow",
    ) -> Choices:
        """What a file can be made of.

        Args:
            level: of the latents, or ``none`` for no latents; ``best`` tries all of these.
            heat: H×W, 0 to 1, instead of the classifier's.
            strength: QP between the coldest and the hottest place; 0 is uniform quality and needs no heat map.
            classifier: makes the heat map, NAME or NAME:FILE, see `grad_cam.open_classifier`; ``vgg16`` is the slides'
                own. The default is ``mobilenetv2_100`` if its weights are at hand.
            top_k: classes that the heat map shows.
            latents: the lossless coder, one of `autoencoder_codec.LATENT_CODERS`.
            effort: x265's preset.

        Raises:
            ConfigError: the level is out of range, or the heat is not of the picture's size.
            WeightsError: there is no such classifier.
        """
        if strength == 0 and heat is None:
            heat = np.zeros(image.shape[:2], np.float32)
        elif heat is None:
            heat = self._found_heat(image, classifier, top_k)
        cells = cell_means(_checked(heat, image))
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

    def _grad_cam(self, classifier: str | None, top_k: int) -> GradCam | None:
        if classifier is None and shared_weights() is None:
            return None
        return open_classifier(classifier or SHARED_CLASSIFIER, top_k)

    def _found_heat(self, image: Image, classifier: str | None, top_k: int) -> np.ndarray:
        heat = self.heat(image, classifier, top_k)
        if heat is None:
            warnings.warn(
                "no classifier for the heat map, so the residual's quality is uniform: set GENIC_DATA to a folder "
                f"with {SHARED_WEIGHTS}, or give classifier='vgg16'",
                stacklevel=6,
            )
            return np.zeros(image.shape[:2], np.float32)
        return heat

    def _bases(self, image: Image, coder: str, level: float | Literal["best", "none"]) -> Iterator[Base]:
        """No latents, then every level, ascending; or the given one of these."""
        height, width = image.shape[:2]
        if level in ("best", "none"):
            yield Base({}, _grey(height, width))
        for at in {"best": range(self.levels), "none": ()}.get(level, (level,)):
            latents = self.analyse(image, at)
            yield Base(self.latent_sections(latents, coder), self.synthesise(latents, height, width))

    def _attempt(self, image: Image, base: Base, quality: float, qp: np.ndarray, effort: str) -> Attempt:
        height, width = image.shape[:2]
        difference = ycbcr.from_rgb(image).astype(np.int16) - ycbcr.from_rgb(base.x_hat)
        stream = encode_residual(difference, qp, effort)
        decoded = _add(base.x_hat, decode_residual(stream, height, width))
        sections = base.sections | {"residual": stream}
        error = image.astype(np.int32) - decoded
        size = self.file_size(sections, height, width)
        return Attempt(sections, size, float(np.sum(error * error, dtype=np.int64)), quality)


def _checked(heat: np.ndarray, image: Image) -> np.ndarray:
    if heat.shape != image.shape[:2] or not (heat.min() >= 0 and heat.max() <= 1):
        raise ConfigError(f"heat is {image.shape[0]}×{image.shape[1]} numbers from 0 to 1, not {heat.shape}")
    return heat


def _grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def _add(x_hat: Image, residual: np.ndarray) -> Image:
    planes = ycbcr.from_rgb(x_hat) + residual
    return ycbcr.to_rgb(np.clip(planes, 0, 255).astype(np.uint8))
