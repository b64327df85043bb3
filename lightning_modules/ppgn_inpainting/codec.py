"""The codec of ablative compression: a picture to a file and back, by seven schemes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genic.lightning_modules.classical.residual import MIDDLE, add_residual, residual_picture
from genic.lightning_modules.codec.container import Container, write_varint
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError, WeightsError
from genic.lightning_modules.codec.learned import RateCodec, to_image, to_tensor, without
from genic.lightning_modules.codec.options import Option, options_of
from genic.lightning_modules.codec.rate_control import last_within
from genic.lightning_modules.entropy.coder import GaussianModels
from genic.lightning_modules.entropy.gaussian import GaussianTables
from genic.lightning_modules.ppgn_inpainting.assistants import Assistants
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingModel
from genic.lightning_modules.ppgn_inpainting.masks import (
    block_sums,
    edge_strength,
    encode_mask,
    kept_by,
    mask_of,
)
from genic.lightning_modules.ppgn_inpainting.networks import Encoder
from genic.lightning_modules.ppgn_inpainting.pixel_coding import (
    Av1Layer,
    decode_pixels,
    encode_pixels,
    shrink,
    thumbnail_size,
)
from genic.lightning_modules.ppgn_inpainting.sampling import Sampler
from genic.lightning_modules.ppgn_inpainting.schemes import (
    ASSISTANTS,
    SCALES,
    SCHEMES,
    EdgePixels,
    Masked,
    Parameters,
    Pixels,
    Sampling,
    Scheme,
    Selective,
    Thumbnail,
    name_of,
    scale_index,
    scheme_of,
    suitable_scale,
)
from genic.lightning_modules.ppgn_inpainting.system import (
    ASSIST_QUALITY,
    System,
    enlarge,
    from_pixels,
    from_thumbnail,
    layer_picture,
    placed,
)
from genic.losses.ssim import WINDOW, ssim


class PpgnInpaintingCodec(RateCodec):
    """::

        x ── scheme ──> kept pixels, mask, thumbnail, the losses' targets ── AV1, JPEG XL, range coder ──> file
        file ──> kept pixels ── filler (── sampling) ──> x̂      file ──> thumbnail ── restorer (+ residual) ──> x̂

    ``quality`` is as of every `RateCodec`.
    """

    id = "ppgn"
    paper = "ppgn_inpainting"
    config_class = PpgnInpaintingModel
    qualities = (0.05, 0.088, 0.15, 0.25)
    system: System
    default_quality = 0.088  # of JPEG's quality 1 on photographs, the publication's comparison

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.load_state_dict(without(without(tensors, "gaussian_tables."), "E."))
        self.system = system.eval().requires_grad_(False).to(self.device)
        self.models = GaussianModels(GaussianTables.from_state(tensors))
        exported = {name: tensor for name, tensor in tensors.items() if name.startswith("E.")}
        self._classifier_tensors = {name.removeprefix("E."): tensor for name, tensor in exported.items()}

    def options(self) -> dict[str, Option]:
        found = options_of(self._sections_within)
        told: dict[str, dict[str, list[str]]] = {}  # name -> meaning -> schemes
        for scheme, kind in SCHEMES.items():
            for name, option in options_of(kind).items():
                found.setdefault(name, option)
                told.setdefault(name, {}).setdefault(option.meaning, []).append(scheme)
        for name, meanings in told.items():
            text = "; ".join(f"{', '.join(schemes)}: {meaning}" for meaning, schemes in meanings.items())
            found[name] = found[name]._replace(meaning=text)
        return found | options_of(Sampling)

    @cached_property
    def classifier(self) -> Encoder:
        """E and C, opened at the first sampling; `WeightsError` where it is not at hand."""
        encoder = Encoder(self.config)
        if self.config.classifier_weights == "random":
            encoder.load_state_dict(self._classifier_tensors)
        return encoder.to(self.device)

    def _sections_within(
        self,
        image: Image,
        limit: int,
        bpp: float,
        *,
        scheme: str | Scheme = "thumbnail",
        **options: object,
    ) -> dict[str, bytes]:
        """
        Args:
            scheme: one of `schemes`' classes, or its name (`schemes.SCHEMES`).
            **options: with a name, the class's attributes by keyword, those of `schemes.Sampling` among them.

        Raises:
            ConfigError: an option is out of range, or does not belong to the scheme.
            WeightsError: sampling needs a classifier that is not here.
        """
        scheme = scheme_of(scheme, options)
        importance = getattr(scheme, "importance", None)
        if importance is not None and importance.shape != image.shape[:2]:
            raise ConfigError(
                f"importance is {image.shape[0]}×{image.shape[1]} numbers, not {importance.shape}"
            )
        if isinstance(scheme, Thumbnail):
            return self._thumbnail(image, limit, scheme)
        if isinstance(scheme, Selective):
            return self._selective(image, limit, scheme)
        return self._masked(image, limit, scheme)

    def _thumbnail(self, image: Image, limit: int, scheme: Thumbnail) -> dict[str, bytes]:
        index = scale_index(scheme.scale)
        if index is None:
            index = suitable_scale(8 * limit / (image.shape[0] * image.shape[1]))
        if not scheme.search:
            return self._thumbnail_at(image, limit, index)

        def merit(sections: dict[str, bytes]) -> tuple[bool, float]:
            x, x_hat = (to_tensor(y, "cpu") for y in (image, self._picture(sections, *image.shape[:2])))
            like = ssim(x, x_hat) if min(image.shape[:2]) >= WINDOW else -(x - x_hat).square().mean()
            return self.file_size(sections, *image.shape[:2]) <= limit, float(like)

        tried = range(max(index - 1, 0), min(index + 2, len(SCALES)))
        return max((self._thumbnail_at(image, limit, at) for at in tried), key=merit)

    def _thumbnail_at(self, image: Image, limit: int, index: int) -> dict[str, bytes]:
        """The thumbnail of the scale in the budget; a smaller one where its least stream is too large."""
        while True:
            sections = {"parameters": Parameters("thumbnail", index).to_bytes(*image.shape[:2])}
            sections = self._filled_up(sections, "thumbnail", shrink(image, SCALES[index]), limit, image)
            index += 1
            if self.file_size(sections, *image.shape[:2]) <= limit or index == len(SCALES):
                return sections

    def _selective(self, image: Image, limit: int, scheme: Selective) -> dict[str, bytes]:
        size, share = image.shape[:2], round(scheme.share * limit)
        index = scale_index(scheme.scale)
        if index is None:
            index = suitable_scale(8 * share / (size[0] * size[1]))
        sections = self._thumbnail_at(image, share, index)
        base = self._picture(sections, *size)
        areas = block_sums(np.ones(size), scheme.block)
        grid = block_sums(scheme.importance.astype(np.float64), scheme.block) >= 0.5 * areas
        thumbnail = Parameters.from_bytes(sections["parameters"], *size).thumbnail
        p = Parameters("selective", thumbnail, block=scheme.block)
        sections |= {"parameters": p.to_bytes(*size), "mask": encode_mask(grid)}
        if not grid.any():
            return sections
        residual = residual_picture(image, base)
        residual[~mask_of(p, sections["mask"], *size)] = MIDDLE
        return self._filled_up(sections, "residual", residual, limit, image)

    def _masked(self, image: Image, limit: int, scheme: Masked) -> dict[str, bytes]:
        size, extra = image.shape[:2], {}
        thumbnail = scale_index(scheme.assist)
        if thumbnail is not None:
            extra["thumbnail"] = Av1Layer().compress(shrink(image, SCALES[thumbnail]), ASSIST_QUALITY)
        sampling, classifier = self._labelled(image, scheme.sampling), b""
        if sampling is not None:
            classifier = self.classifier.identity()
            extra |= self._assistants().encode(to_tensor(image, self.device), sampling.assistants)
        strength = edge_strength(image) if isinstance(scheme, EdgePixels) else None

        def described(count: int | None = None) -> tuple[np.ndarray, dict[str, bytes]]:
            kept = kept_by(scheme, image, count, strength)
            named: dict[str, Any] = {
                "seed": scheme.seed,
                "sampling": sampling,
                "classifier": classifier,
            } | kept.named
            p = Parameters(name_of(scheme), thumbnail, **named)
            mask = {"mask": kept.section} if kept.section else {}
            return kept.mask, {"parameters": p.to_bytes(*size)} | mask | extra

        if not isinstance(scheme, Pixels):
            mask, sections = described()
            return self._filled_up(sections, "kept_pixels", layer_picture(image, mask, scheme), limit, image)

        def with_pixels(count: int) -> dict[str, bytes]:
            mask, sections = described(count)
            stream, escapes = encode_pixels(image, mask, scheme.step, self.models)
            return sections | {"kept_pixels": stream} | ({"escapes": escapes} if escapes else {})

        pixels = size[0] * size[1]
        if scheme.count is not None:
            return with_pixels(min(scheme.count, pixels))
        tried: dict[int, dict[str, bytes]] = {}

        def bytes_of(place: int) -> float:
            tried[place] = with_pixels(place + 1)
            return self.file_size(tried[place], *size)

        # A pixel takes about a byte.
        found = last_within(
            pixels, bytes_of, limit, start=max(1, limit // 2), near=0.015 * limit, span=pixels
        )
        return tried[max(found, 0)]

    @torch.no_grad()
    def _labelled(self, image: Image, s: Sampling | None) -> Sampling | None:
        """With the class as a number, and assistants in the order of `ASSISTANTS`."""
        if s is None:
            return None
        names, label = tuple(name for name in ASSISTANTS if name in s.assistants), s.label
        if label == "best":
            encode = self.system.encoder_for(self.classifier, *image.shape[:2])
            label = int(encode(to_tensor(image, self.device)).logits.argmax())
        return replace(s, assistants=names, label=label)

    def _assistants(self) -> Assistants:
        return Assistants(self.config, self.classifier, self.models)

    def _filled_up(
        self, sections: dict[str, bytes], name: str, layer: Image, limit: int, image: Image
    ) -> dict[str, bytes]:
        """``sections`` with ``layer`` in AV1, as fine as the rest of the ``limit`` allows."""
        room = limit - self.file_size(sections | {name: b""}, *image.shape[:2])
        room -= len(write_varint(max(room, 0))) - 1  # of the section's own length
        return sections | {name: Av1Layer().within(layer, room)}

    def _settings(self, container: Container) -> dict[str, object]:
        p = Parameters.from_bytes(container.section("parameters"), container.height, container.width)
        scale = {} if p.thumbnail is None else {"scale": SCALES[p.thumbnail]}
        return {"scheme": p.scheme, **scale, **p.held()}

    def _decode(self, container: Container) -> Image:
        return self._picture(container.sections, container.height, container.width)

    @torch.no_grad()
    def _picture(self, sections: Mapping[str, bytes], height: int, width: int) -> Image:
        p = Parameters.from_bytes(_section(sections, "parameters"), height, width)
        if p.scheme in ("thumbnail", "selective"):
            small = self.decoded_thumbnail(p, sections, height, width)
            assert p.thumbnail is not None, "`decoded_thumbnail` wants it, too"
            ablated = from_thumbnail(to_tensor(small, self.device), height, width, SCALES[p.thumbnail])
            base = to_image(self.system.reconstruct(ablated).x_hat[0].clamp(0, 1))
            return base if p.scheme == "thumbnail" else self._detailed(base, p, sections)
        mask, image = self.kept_pixels(p, sections, height, width)
        x, m = to_tensor(image, self.device), torch.from_numpy(mask).to(self.device)[None, None].float()
        base = None
        if p.thumbnail is not None:
            small = self.decoded_thumbnail(p, sections, height, width)
            base = enlarge(to_tensor(small, self.device), height, width)
        filled = self.system.reconstruct(from_pixels(x, m, base)).x_hat.clamp(0, 1)
        if p.sampling is not None:
            filled = self._sampled(p, sections, filled, x, m)
        return np.where(mask[..., None], image, to_image(filled[0]))

    def _detailed(self, base: Image, p: Parameters, sections: Mapping[str, bytes]) -> Image:
        """The selective scheme: a residual on top where the mask is."""
        kept = mask_of(p, _section(sections, "mask"), *base.shape[:2])
        if not kept.any():
            return base
        residual = Av1Layer().decompress(_section(sections, "residual"), *base.shape[:2])
        return np.where(kept[..., None], add_residual(base, residual), base)

    def kept_pixels(
        self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int
    ) -> tuple[np.ndarray, Image]:
        """Mask bool H×W and what a file of a masked scheme holds of the picture, uint8 H×W×3.

        Raises:
            DamagedFileError: sections are missing or damaged.
        """
        stream = _section(sections, "kept_pixels")
        in_section = p.scheme not in ("square", "pixels")
        mask = mask_of(p, _section(sections, "mask") if in_section else b"", height, width)
        if p.scheme in ("pixels", "edges"):
            escapes = sections.get("escapes", b"")
            return mask, decode_pixels(stream, escapes, mask, p.step, self.models)
        side = min(p.side, height, width)
        size = (side, side) if p.scheme == "square" else (height, width)
        return mask, placed(Av1Layer().decompress(stream, *size), mask)

    def decoded_thumbnail(
        self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int
    ) -> Image:
        """The decoded thumbnail at its own size; `DamagedFileError` where there is none."""
        if p.thumbnail is None:
            raise DamagedFileError("the parameters name no thumbnail's scale")
        size = thumbnail_size(height, width, SCALES[p.thumbnail])
        return Av1Layer().decompress(_section(sections, "thumbnail"), *size)

    def _sampled(
        self, p: Parameters, sections: Mapping[str, bytes], filled: Tensor, x: Tensor, m: Tensor
    ) -> Tensor:
        """The filler's picture moved by sampling, or G's own."""
        c, s, E, size = self.config, p.sampling, self.classifier, x.shape[2:]
        assert s is not None and not isinstance(s.label, str), "files hold numbers of classes"
        if p.classifier != E.identity():
            raise WeightsError(
                f"the file was sampled through a classifier {p.classifier.hex()}, here is {E.identity().hex()}: "
                f"give the {c.classifier} that wrote it"
            )
        encode, generate = self.system.encoder_for(E, *size), self.system.generator_for(*size)
        assistant = self._assistants().loss(s.assistants, sections, x, m) if s.assistants else None
        h = encode(filled).h
        offset = filled - generate(h.clamp(c.h_low, c.h_high)) if s.refine else torch.zeros_like(filled)
        sampler = Sampler(c, encode, lambda z: generate(z) + offset, x, m, s.label, assistant, p.seed)
        return (generate(sampler.sample(h, s.steps)) + offset).clamp(0, 1)


def _section(sections: Mapping[str, bytes], name: str) -> bytes:
    if name not in sections:
        raise DamagedFileError(f"the file has no section {name!r}")
    return sections[name]
