"""The codec of GDAE + SPRC: GDAE, and the residual that semantic-perceptual compensation adds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError
from genic.lightning_modules.codec.learned import to_image
from genic.lightning_modules.codec.options import HeatMap
from genic.lightning_modules.codec.rate_control import Found, eighths
from genic.lightning_modules.gdae_sprc.autoencoder_codec import GdaeCodec
from genic.lightning_modules.gdae_sprc.config import GdaeSprcCoding
from genic.lightning_modules.gdae_sprc.grad_cam import GradCam, classifier_at_hand
from genic.lightning_modules.gdae_sprc.rate_allocation import Attempt, Base, Choices, least_cost, least_error
from genic.lightning_modules.gdae_sprc.residual import (
    MAX_QP,
    cell_means,
    decode_residual,
    encode_residual,
    qp_map,
)
from genic.lightning_modules.layers.tiling import TILE, grid_of, tiled
from genic.losses.pretrained import SHARED_WEIGHTS

_STRENGTHS = 5  # a QP; 0 to 51 in a byte


class GdaeSprcCodec(GdaeCodec):
    """GDAE and the residual x − x̂ in HEVC, better where the heat map is hot.

    Quality is 51 − QP of the residual, 0 to 51. For a given quality or a byte budget, the level of the latents is
    chosen; the slides fix it by hand. Among the choices is a file without latents, whose residual is taken from
    mid-grey. Within a budget the residual's quality is chosen with the level, for the least squared error. Where the
    weights have the network R, each of these is tried with restoration as well.

    The heat map is made by Grad-CAM of ``mobilenetv2_100`` with the weights below ``GENIC_DATA``, or of the classifier
    that `encode` is told. Without any, quality is uniform, and a warning says so; `coding_options` says which it was.
    """

    id = "sprc"
    coding_class = GdaeSprcCoding
    quality_meaning = "51 − QP of the residual"
    # Its time is HEVC's, a picture after another.
    _encode_equal, _decode_equal = Codec._encode_equal, Codec._decode_equal

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        super()._open(tensors)
        self.qualities = (9.0, 12.0, 16.0, 20.0, 24.0, 27.0)
        self.quality_steps = eighths(MAX_QP)
        self.default_quality = 16.0

    def heat(self, image: Image, **options: Any) -> np.ndarray | None:
        """The heat map that `encode` makes with these options, float32 H×W in [0, 1]; None without a classifier."""
        grad_cam = self._grad_cam(self._coding(options))
        return None if grad_cam is None else grad_cam(image)

    def coding_options(self, **options: Any) -> dict[str, str | float]:
        """The options of `encode` in use, and ``heat``: what makes the heat map, the classifier's weights included."""
        coding = self._coding(options)
        grad_cam = self._grad_cam(coding)
        told = {name: value for name, value in asdict(coding).items() if value is not None}
        if self.system.R is None:
            del told["restore"]  # nothing depends on it
        return told | {"heat": "none: uniform quality" if grad_cam is None else grad_cam.description}

    def _option_sources(self) -> Sequence[Any]:
        return (self._choices, self.coding)

    def _encode(self, image: Image, quality: float, **options: Any) -> dict[str, bytes]:
        """See `_choices` for the options."""
        return least_cost(self._choices(image, **options), quality).sections

    def _encoder(self, image: Image, **options: Any) -> Callable[[float], dict[str, bytes]]:
        choices = self._choices(image, **options)
        choices = choices._replace(bases=list(choices.bases))
        return lambda quality: least_cost(choices, quality).sections

    def _encode_within(self, image: Image, limit: int, **options: Any) -> Found:
        best = least_error(self._choices(image, **options), limit)
        return Found(self._container(best.sections, *image.shape[:2]).to_bytes(), best.quality)

    def _choices(self, image: Image, heat: HeatMap | None = None, **options: Any) -> Choices:
        """What a file can be made of.

        Args:
            heat: H×W, 0 to 1, instead of the classifier's.
            **options: of `GdaeSprcCoding`, in place of the weights' own.

        Raises:
            ConfigError: an option is out of range, or the heat is not of the picture's size.
            WeightsError: there is no such classifier.
        """
        coding = self._coding(options)
        if heat is None:
            heat = np.zeros(image.shape[:2]) if coding.strength == 0 else self._found_heat(image, coding)
        if heat.shape != image.shape[:2] or not (heat.min() >= 0 and heat.max() <= 1):
            raise ConfigError(
                f"heat is {image.shape[0]}×{image.shape[1]} numbers from 0 to 1, not {heat.shape}"
            )
        cells = cell_means(heat)

        def attempt(base: Base, quality: float) -> list[Attempt]:
            return self._attempts(image, base, quality, qp_map(quality, cells, coding.strength), coding)

        return Choices(
            bases=self._bases(image, coding),
            attempt=attempt,
            file_size=lambda sections: self.file_size(sections, *image.shape[:2]),
        )

    def _decode(self, container: Container) -> Image:
        height, width = container.height, container.width
        # The residual first: it is where a false size shows before anything large is allocated.
        stream = container.sections.get("residual")
        residual = None if stream is None else decode_residual(stream, height, width)
        if residual is not None and set(container.sections) <= {"residual", "restoration"}:
            x_hat = _grey(height, width)
        else:
            x_hat = self.synthesise(self.read_latents(container), height, width)
        strength = container.sections.get("restoration")
        if residual is None:
            if strength is not None:
                raise DamagedFileError("the file has a restoration and no residual")
            return x_hat
        planes = _planes(x_hat, residual)
        if strength is None:
            return ycbcr.to_rgb(planes)
        if self.system.R is None or len(strength) != 1:
            raise DamagedFileError("the restoration is one byte, for weights that have the network for it")
        return self.restore(planes, strength[0])

    @torch.inference_mode()
    def restore(self, planes: np.ndarray, strength: int) -> Image:
        """The picture that R makes of decoded planes. Float arithmetic: pixels may differ by rounding between machines;
        no symbol of a file depends on them.

        Args:
            planes: uint8 3×H×W, full-range Y, Cb, Cr.
            strength: the residual's QP, in fifths.
        """
        R, (height, width) = self.system.R, planes.shape[1:]
        assert R is not None
        x = torch.from_numpy(planes).to(self.device)[None].float()
        x = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        qp = torch.tensor([strength / _STRENGTHS], device=self.device)
        features = R.features(x, qp).contiguous(memory_format=torch.channels_last)
        steps = tiled(R.body, features, grid_of(features), 1, R.margin, up=False, side=TILE)
        return to_image(R.corrected(x, qp, steps)[0, :, :height, :width])

    def _settings(self, container: Container) -> dict[str, object]:
        strength = container.sections.get("restoration")
        told = {} if strength is None else {"restored at QP": strength[0] / _STRENGTHS}
        return super()._settings(container) | told

    def _coding(self, options: Mapping[str, object]) -> GdaeSprcCoding:
        """The weights' own options with others in place, checked."""
        coding = self.coding.changed(options)
        coding.check(self.levels)
        return coding

    def _grad_cam(self, coding: GdaeSprcCoding) -> GradCam | None:
        return classifier_at_hand(coding.classifier, coding.top_k)

    def _found_heat(self, image: Image, coding: GdaeSprcCoding) -> np.ndarray:
        heat = self.heat(image, **asdict(coding))
        if heat is None:
            warnings.warn(
                "no classifier for the heat map, so the residual's quality is uniform: set GENIC_DATA to a folder "
                f"with {SHARED_WEIGHTS}, or give classifier='vgg16'",
                stacklevel=6,
            )
            return np.zeros(image.shape[:2])
        return heat

    def _bases(self, image: Image, coding: GdaeSprcCoding) -> Iterator[Base]:
        """No latents, then every level, ascending; or the given one of these."""
        height, width = image.shape[:2]
        if coding.level in ("best", "none"):
            yield Base({}, _grey(height, width))
        given = () if isinstance(coding.level, str) else (coding.level,)
        for level in range(self.levels) if coding.level == "best" else given:
            latents = self.analyse(image, level)
            yield Base(self.latent_sections(latents, coding.latents), self.synthesise(latents, height, width))

    def _attempts(
        self, image: Image, base: Base, quality: float, qp: np.ndarray, coding: GdaeSprcCoding
    ) -> list[Attempt]:
        """With the residual of that quality as it is, and with restoration where that may be."""
        height, width = image.shape[:2]
        difference = ycbcr.from_rgb(image).astype(np.int16) - ycbcr.from_rgb(base.x_hat)
        stream = encode_residual(difference, qp, coding.effort)
        planes = _planes(base.x_hat, decode_residual(stream, height, width))
        sections = base.sections | {"residual": stream}
        found = [(sections, ycbcr.to_rgb(planes))]
        if coding.restore and self.system.R is not None:
            strength = round(_STRENGTHS * (MAX_QP - quality))
            restored = self.restore(planes, strength)
            found.append((sections | {"restoration": bytes([strength])}, restored))
        attempts = []
        for sections, decoded in found:
            error = image.astype(np.int32) - decoded
            size = self.file_size(sections, height, width)
            attempts.append(Attempt(sections, size, float(np.sum(error * error, dtype=np.int64)), quality))
        return attempts


def _grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def _planes(x_hat: Image, residual: np.ndarray) -> np.ndarray:
    """x̂ and its residual, uint8 3×H×W."""
    return np.clip(ycbcr.from_rgb(x_hat) + residual, 0, 255).astype(np.uint8)
