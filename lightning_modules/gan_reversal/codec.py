"""The codec of GAN reversal: a picture to the latent that generates it, and back."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genic.lightning_modules.classical.avif import Avif
from genic.lightning_modules.classical.residual import add_residual
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image, check_image
from genic.lightning_modules.codec.learned import RateCodec, ready, to_image, without
from genic.lightning_modules.codec.options import Option
from genic.lightning_modules.codec.rate_control import budget
from genic.lightning_modules.config import require
from genic.lightning_modules.entropy.gaussian import GaussianTables
from genic.lightning_modules.gan_reversal.config import GanReversalCoding, GanReversalModel
from genic.lightning_modules.gan_reversal.inversion import distortion, invert
from genic.lightning_modules.gan_reversal.parallel import in_parallel
from genic.lightning_modules.gan_reversal.prior import SHIFTS, PriorCoder, shifted, step_of
from genic.lightning_modules.gan_reversal.residual import encode_residual
from genic.lightning_modules.gan_reversal.system import System
from genic.lightning_modules.layers.tiling import tiles

PIXELS = 1 << 22
"""Most pixels, over all pictures and starts, of one search."""
BATCH = 16
"""Most pictures of one search on a CPU: more of them no longer share overhead, but leave the cache."""
LONG = 60
"""Seconds of search from which `encode` says beforehand how many it will take."""
_FLUSH = 24  # bits that the range coder's end may take
_LEAST = 24  # bytes of latents that even the smallest picture may take at a quality
_SHARE = 0.5  # of the bytes that the latents get when a residual is coded
_STEP = 3.0  # passes of the generator that a gradient step costs: there, back and the distortion
_log = logging.getLogger(__name__)


class GanReversalCodec(RateCodec):
    """::

        x ── E ──> z ── gradient descent through G ── round(z/Δ) ── range coder under N(0, 1) ──> file
        file ──> k ── Δ·k ── G ── (+ residual) ── round, crop ──> x̂

    ``quality`` is the rate in bits per pixel of the whole file, which is met from below. A small picture gets 24
    bytes of latents whatever the quality. Options of `encode` are the fields of `GanReversalCoding`, ``effort`` above
    all; the defaults are those of the weights' preset.
    """

    id = "gr"
    paper = "gan_reversal"
    config_class = GanReversalModel
    coding_class = GanReversalCoding
    system: System

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.restore(without(tensors, "gaussian_tables."))
        self.index = tensors["prior.index"].float().to(self.device)
        self.coder = PriorCoder(tensors["prior.index"], GaussianTables.from_state(tensors))
        self.system = ready(system, self.device)
        self.qualities = tuple(self.coding.rates)
        self.default_quality = self.coding.default_rate

    def coding_options(self, **options: object) -> dict[str, str | float]:
        return {name: str(value) for name, value in asdict(self._search_of(options)).items()}

    def options(self) -> dict[str, Option]:
        offered = ("rates", "default_rate")  # what the codec offers is no option of one file
        return {name: option for name, option in super().options().items() if name not in offered}

    def encode_batch(self, images: Sequence[Image], *, target_bytes: int, **options: object) -> list[bytes]:
        """Files of many pictures, of ``target_bytes`` at most, those of one size searched together; see `encode`.

        Batches differ in rounding, so a file may differ from the one that `encode` gives.
        """
        for image in images:
            check_image(image)
        coding = self._search_of(options)

        def encode(part: list[int]) -> list[bytes]:
            stack = np.stack([images[at] for at in part])
            height, width = stack.shape[1:3]
            found = self._sections(stack, target_bytes, 8 * target_bytes / (height * width), coding)
            return [self._container(sections, height, width).to_bytes() for sections in found]

        parts = self._parts(images, coding.restarts)
        found = zip(parts, in_parallel(encode, parts, self.device), strict=True)
        files = {at: data for part, those in found for at, data in zip(part, those, strict=True)}
        for at, data in files.items():
            self._check_budget(data, target_bytes, *images[at].shape[:2])
        return [files[at] for at in range(len(images))]

    def seconds(self, height: int, width: int, bpp: float | None = None, **options: object) -> float:
        """About how long a search takes on this machine, for the arguments of `encode`."""
        coding, (h, w) = self._search_of(options), self.system.G.grid(height, width)
        side_by_side = min(torch.get_num_threads(), len(list(tiles(h, w, self.stride, 0, even=True))))
        starts = 1 + coding.continuous * (coding.restarts - (self.system.E is None))
        searches = 2 if self._tries_residual(self.default_quality if bpp is None else bpp, coding) else 1
        passes = _STEP * coding.gradient_steps * starts * searches
        return self._pass_seconds * h * w * passes / side_by_side

    @cached_property
    def _pass_seconds(self) -> float:
        """Of the generator, a position of z, on one thread of a CPU."""
        side = max(1, 128 // self.stride)
        z = torch.zeros(1, self.config.latents, side, side, device=self.device)

        def run(_: int) -> float:
            begin = time.perf_counter()
            self.system.G(z).sum().item()
            return (time.perf_counter() - begin) / side**2

        return min(in_parallel(run, range(3), self.device))

    def _parts(self, images: Sequence[Image], restarts: int) -> list[list[int]]:
        """Numbers of the pictures that are searched together: of one size, in parts that fit memory and threads."""
        groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for at, image in enumerate(images):
            groups[image.shape].append(at)
        parts = []
        for (height, width, _), places in groups.items():
            size = max(1, PIXELS // (height * width * (restarts + 1)))
            if self.device == "cpu":
                size = min(size, BATCH, -(-len(places) // torch.get_num_threads()))
            parts += [places[start : start + size] for start in range(0, len(places), size)]
        return parts

    def _sections_within(self, image: Image, limit: int, bpp: float, **options: object) -> dict[str, bytes]:
        """Sections of one picture; says beforehand when that takes long."""
        height, width = image.shape[:2]
        if (seconds := self.seconds(height, width, bpp, **options)) > LONG:
            _log.warning(
                "searching for a %d×%d picture takes about %.0f s: less effort is faster",
                width,
                height,
                seconds,
            )
        return self._sections(image[None], limit, bpp, self._search_of(options))[0]

    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        height, width = image.shape[:2]
        limit = max(budget(height, width, None, quality), self._overhead(height, width) + _LEAST)
        return self._sections_within(image, limit, quality, **options)

    def _search_of(self, options: Mapping[str, object]) -> GanReversalCoding:
        """The defaults with ``options`` in place, checked."""
        steps: dict[str, object] = (
            {"steps": None} if "effort" in options else {}
        )  # the defaults' steps give way to it
        coding = self.coding.changed(steps | dict(options))
        coding.check()
        startable = self.system.E is not None or coding.restarts >= 1
        needed = "1 or more (there is no encoder to start from)"
        require(startable, "coding.restarts", coding.restarts, needed)
        return coding

    def _tries_residual(self, bpp: float, coding: GanReversalCoding) -> bool:
        return bpp >= coding.layer_from if coding.layered is None else coding.layered

    def _sections(
        self, images: np.ndarray, limit: int, bpp: float, coding: GanReversalCoding
    ) -> list[dict[str, bytes]]:
        """Sections of each of the pictures uint8 [B, H, W, 3], within ``limit`` bytes a file or the least there are."""
        layered: list[dict[str, bytes] | None] = [None] * len(images)
        if self._tries_residual(bpp, coding):
            layered = self._layered_sections(images, limit, coding)
            made = [sections for sections in layered if sections]
            if coding.layered and len(made) == len(layered):
                return made
        plain = self._latent_sections(images, limit, coding)
        return [self._choose(*those, coding) for those in zip(images, plain, layered, strict=True)]

    def _latent_sections(
        self, images: np.ndarray, limit: int, coding: GanReversalCoding
    ) -> list[dict[str, bytes]]:
        """Latents alone within ``limit`` bytes a file, or zeros where none are as small."""
        height, width = images.shape[1:3]
        budget = max(0, 8 * (limit - self._overhead(height, width)) - _FLUSH)
        k, shift = invert(self.system, self.index, self._tensor(images), float(budget), coding)
        return [self._fit(k[n], int(shift[n]), height, width, limit) for n in range(len(images))]

    def _layered_sections(
        self, images: np.ndarray, limit: int, coding: GanReversalCoding
    ) -> list[dict[str, bytes] | None]:
        """Latents in a share of the bytes, a residual in the rest; None where no residual fits."""
        height, width = images.shape[1:3]
        found: list[dict[str, bytes] | None] = []
        latents = self._latent_sections(images, int(_SHARE * limit), coding)
        for image, sections in zip(images, latents, strict=True):
            base = self._picture(self._container(sections, height, width))
            residual = encode_residual(image, base, limit - self.file_size(sections, height, width) - 4)
            found.append(None if residual is None else sections | {"residual": residual})
        return found

    def _choose(
        self,
        image: Image,
        plain: dict[str, bytes],
        layered: dict[str, bytes] | None,
        coding: GanReversalCoding,
    ) -> dict[str, bytes]:
        """The sections with a residual where they are asked for or decode closer to the picture."""
        if layered is None or coding.layered:
            return layered or plain
        pictures = [self._decode(self._container(each, *image.shape[:2])) for each in (plain, layered)]
        x, *decoded = (self._tensor(picture[None]) for picture in (image, *pictures))
        errors = [float(distortion(x, x_hat, coding)) for x_hat in decoded]
        return plain if errors[0] <= errors[1] else layered

    def _settings(self, container: Container) -> dict[str, object]:
        return {"shift": container.section("parameters")[0] + SHIFTS.start}

    def _decode(self, container: Container) -> Image:
        image = self._picture(container)
        residual = container.sections.get("residual")
        return (
            image if residual is None else add_residual(image, Avif().decompress(residual, *image.shape[:2]))
        )

    @torch.inference_mode()
    def _picture(self, container: Container) -> Image:
        """The generator's picture alone."""
        height, width = container.height, container.width
        k, shift = self.coder.decode(container, self.system.G.grid(height, width))
        index = shifted(self.index, torch.tensor([float(shift)], device=self.device))
        z = k[None].to(self.device) * step_of(index)
        return to_image(self.system.reconstruct(z)[0, :, :height, :width])

    def _fit(self, k: Tensor, shift: int, height: int, width: int, limit: int) -> dict[str, bytes]:
        """Sections of a file within ``limit`` bytes: the symbols that cost most a unit are set to 0 until it is."""
        k = k.clone().cpu()
        while True:
            sections = self.coder.encode(k, shift, height, width)
            size = self.file_size(sections, height, width)
            nonzero = int((k != 0).sum())
            if size <= limit or nonzero == 0:
                return sections
            # Rare symbols, those of channels with the smallest σ, go first; 2 bits at least are saved with each.
            excess = max(1, min(nonzero, 2 * (size - limit)))
            order = torch.where(k != 0, self.coder.index[:, None, None].float() + k.abs(), torch.inf)
            k.view(-1)[order.flatten().argsort(stable=True)[:excess]] = 0

    def _overhead(self, height: int, width: int) -> int:
        """Bytes of a file but its latents."""
        return self.file_size({"parameters": bytes(3), "latents": bytes(128)}, height, width) - 128

    def _tensor(self, images: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] to [B, 3, H, W] in [0, 1]."""
        x = torch.from_numpy(images.copy()).to(self.device).permute(0, 3, 1, 2)
        return x.float() / 255
