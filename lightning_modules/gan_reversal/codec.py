"""The codec of GAN reversal: a picture to the latent that generates it, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image, check_image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.codec.learned import LearnedCodec, ready, to_image, without
from lightning_modules.codec.rate_control import Found, geometric
from lightning_modules.entropy.gaussian import GaussianTables
from lightning_modules.gan_reversal.config import GanReversalConfig
from lightning_modules.gan_reversal.lanes import run_lanes
from lightning_modules.gan_reversal.pictures import generate, search_latents
from lightning_modules.gan_reversal.prior import PriorCoder, shifted, step_of
from lightning_modules.gan_reversal.residual import add_residual, encode_residual
from lightning_modules.gan_reversal.reversal import Loss, Search, distortion
from lightning_modules.gan_reversal.system import System

PIXELS = 1 << 22
"""Most pixels, over all pictures and starts, of one search."""
BATCH = 16
"""Most pictures of one search on a CPU: more of them no longer share overhead, but leave the cache."""
_FLUSH = 24  # bits that the range coder's end may take
_LEAST = 24  # bytes of latents that even the smallest picture may take at a quality
_SHARES = (0.5,)  # of the bytes that the latents get when a residual is coded


class GanReversalCodec(LearnedCodec):
    """::

        x ── E ──> z ── gradient descent through G ── round(z/Δ) ── range coder under N(0, 1) ──> file
        file ──> k ── Δ·k ── G ── (+ residual) ── round, crop ──> x̂

    ``quality`` is the rate in bits per pixel of the whole file, which is met from below. A small picture gets 24
    bytes of latents whatever the quality.
    """

    id = "gr"
    paper = "gan_reversal"
    config_class = GanReversalConfig
    quality_steps = geometric(0.001, 24)
    quality_meaning = "the most bits per pixel of the file"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        system.restore(without(tensors, "gaussian_tables."))
        self.index = tensors["prior.index"].float().to(self.device)
        self.coder = PriorCoder(tensors["prior.index"], GaussianTables.from_state(tensors))
        self.system = ready(system, self.device)
        self.qualities = tuple(self.config.rates)
        self.default_quality = self.config.default_rate

    def encode_batch(
        self, images: Sequence[Image], quality: float | None = None, **options: object
    ) -> list[bytes]:
        """Files of many pictures, those of one size searched together: see `encode` and `_encode`.

        Batches differ in rounding, so a file may differ from the one that `encode` gives.
        """
        for image in images:
            check_image(image)
        quality = self.default_quality if quality is None else quality
        restarts = options.get("restarts")
        parts = self._parts(images, self.config.restarts if restarts is None else restarts)

        def encode(part: list[int]) -> list[bytes]:
            stack = np.stack([images[at] for at in part])
            return [
                self._container(sections, *stack.shape[1:3]).to_bytes()
                for sections in self._sections(stack, quality, **options)
            ]

        found = run_lanes(encode, parts) if self.device == "cpu" else list(map(encode, parts))
        files = {
            at: data
            for part, those in zip(parts, found, strict=True)
            for at, data in zip(part, those, strict=True)
        }
        limit = options.get("target_bytes")
        if limit is not None:
            for at, data in files.items():
                self._check_budget(data, limit, *images[at].shape[:2])
        return [files[at] for at in range(len(images))]

    def _parts(self, images: Sequence[Image], restarts: int) -> list[list[int]]:
        """Numbers of the pictures that are searched together: of one size, in parts that fit memory and lanes."""
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

    def _encode(self, image: Image, quality: float, **options: object) -> dict[str, bytes]:
        return self._sections(image[None], quality, **options)[0]

    def _encode_within(self, image: Image, limit: int, **options: object) -> Found:
        bpp = 8 * limit / (image.shape[0] * image.shape[1])
        (sections,) = self._sections(image[None], bpp, target_bytes=limit, **options)
        return Found(self._container(sections, *image.shape[:2]).to_bytes(), bpp)

    def _sections(
        self,
        images: np.ndarray,
        quality: float,
        *,
        target_bytes: int | None = None,
        steps: int | None = None,
        restarts: int | None = None,
        loss: Loss = "ssim",
        seed: int = 0,
        layered: bool | None = None,
    ) -> list[dict[str, bytes]]:
        """Sections of each of the pictures uint8 [B, H, W, 3].

        Args:
            target_bytes: most bytes of the file, in place of ``quality``.
            steps, restarts: of the search; the configuration's where None. 0 steps keep E's guess.
            loss: ``ssim``, or ``mse`` for pictures that were trained on.
            seed: of everything random. Equal seeds give equal files on one machine.
            layered: with a coded residual (True), without (False), or whichever comes closer from
                ``layer_from`` bits per pixel on (None).

        Raises:
            ConfigError: an option is out of range.
        """
        c = self.config
        steps, restarts = (
            (c.steps if steps is None else steps),
            (c.restarts if restarts is None else restarts),
        )
        if loss not in ("ssim", "mse") or steps < 0 or restarts < 0 or not quality > 0:
            raise ConfigError(
                f"loss={loss!r}, steps={steps}, restarts={restarts}, quality={quality}: loss is 'ssim' or "
                "'mse', steps and restarts start at 0, quality is a positive number of bits per pixel"
            )
        search = Search(steps, restarts, c.continuous, c.search_rate, c.box, c.lambda_rate, c.mse, loss, seed)
        height, width = images.shape[1:3]
        overhead = self._overhead(height, width)
        limit = target_bytes
        if limit is None:
            limit = max(int(quality * height * width / 8), overhead + _LEAST)
        plain = self._latent_sections(images, limit, search)
        bpp = quality if target_bytes is None else 8 * target_bytes / (height * width)
        wanted = bpp >= c.layer_from if layered is None else layered
        if not wanted:
            return plain
        choices = [] if layered else [plain]
        choices += [self._layered_sections(images, limit, share, search) for share in _SHARES]
        return [
            self._closest(image, [choice[n] for choice in choices] or [plain[n]], search) or plain[n]
            for n, image in enumerate(images)
        ]

    def _latent_sections(self, images: np.ndarray, limit: int, search: Search) -> list[dict[str, bytes]]:
        """Latents alone within ``limit`` bytes a file, or without any where none are as small."""
        height, width = images.shape[1:3]
        budget = max(0, 8 * (limit - self._overhead(height, width)) - _FLUSH)
        k, shift = search_latents(self.system, self.index, self._tensor(images), float(budget), search)
        return [self._fit(k[n], int(shift[n]), height, width, limit) for n in range(len(images))]

    def _layered_sections(
        self, images: np.ndarray, limit: int, share: float, search: Search
    ) -> list[dict[str, bytes] | None]:
        """Latents in a share of the bytes, a residual in the rest; None where no residual fits."""
        height, width = images.shape[1:3]
        found: list[dict[str, bytes] | None] = []
        for image, sections in zip(
            images, self._latent_sections(images, int(share * limit), search), strict=True
        ):
            whole = self.file_size(sections, height, width)
            base = self._picture(self._container(sections, height, width))
            residual = encode_residual(image, base, limit - whole - 4)
            found.append(None if residual is None else sections | {"residual": residual})
        return found

    def _closest(
        self, image: Image, choices: Sequence[dict[str, bytes] | None], search: Search
    ) -> dict[str, bytes] | None:
        """The sections that decode closest to the picture; None where there are none."""
        x, found = self._tensor(image[None]), []
        for sections in choices:
            if sections is not None:
                decoded = self._decode(self._container(sections, *image.shape[:2]))
                found.append((float(distortion(x, self._tensor(decoded[None]), search)), sections))
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def _decode(self, container: Container) -> Image:
        image = self._picture(container)
        residual = container.sections.get("residual")
        return image if residual is None else add_residual(image, residual)

    @torch.inference_mode()
    def _picture(self, container: Container) -> Image:
        """The generator's picture alone."""
        G, size = self.system.G, (container.height, container.width)
        k, shift = self.coder.decode(container, G.grid(*size))
        index = shifted(self.index, torch.tensor([float(shift)], device=self.device))
        z = k[None].to(self.device) * step_of(index)
        return to_image(generate(self.system, z)[0, :, : size[0], : size[1]])

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
        empty = {"parameters": bytes(3), "latents": bytes(128)}
        return self.file_size(empty, height, width) - 128

    def _tensor(self, images: np.ndarray) -> Tensor:
        """uint8 [B, H, W, 3] to [B, 3, H, W] in [0, 1]."""
        x = torch.from_numpy(images.copy()).to(self.device).permute(0, 3, 1, 2)
        return x.float() / 255
