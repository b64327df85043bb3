"""The codec: seven schemes, each with its budget of bits per pixel as quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from eval.metrics import measure
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError
from lightning_modules.codec.learned import LearnedCodec
from lightning_modules.codec.rate_control import Found, geometric
from lightning_modules.entropy.gaussian import GaussianTables
from lightning_modules.gan_reversal.residual import MIDDLE
from lightning_modules.ppgn_inpainting import masks
from lightning_modules.ppgn_inpainting.assistants import Assistants
from lightning_modules.ppgn_inpainting.config import SCALES, PpgnInpaintingConfig
from lightning_modules.ppgn_inpainting.decoder import Decoder, image_of
from lightning_modules.ppgn_inpainting.fill import smooth_fill
from lightning_modules.ppgn_inpainting.parameters import ASSISTANTS, SCHEMES, Parameters, Sampled
from lightning_modules.ppgn_inpainting.stills import Still, fit, shrink
from lightning_modules.ppgn_inpainting.system import System
from lightning_modules.ppgn_inpainting.values import encode_values

_ASSIST_QUALITY = 40  # of a thumbnail beside kept pixels
_ATTEMPTS = 9  # of a search for a number of pixels
_SELECTIVE_SHARE = 0.5  # of the bytes, for the thumbnail of the selective scheme


class PpgnInpaintingCodec(LearnedCodec):
    """Ablative compression.

    Quality is bits per pixel of the whole file; a picture too small for its budget gets the smallest file.
    """

    id = "ppgn"
    paper = "ppgn_inpainting"
    config_class = PpgnInpaintingConfig
    quality_steps = geometric(0.001, 24)
    quality_meaning = "the most bits per pixel of the file"

    def _open(self, tensors: Mapping[str, Tensor]) -> None:
        system = System(self.config)
        kinds: dict[str, dict[str, Tensor]] = {"gaussian_tables": {}, "E": {}, "": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            kinds[kind if kind in kinds else ""][rest if kind == "E" else name] = tensor
        system.load_state_dict(kinds[""])
        tables = GaussianTables.from_state(kinds["gaussian_tables"])
        system = system.eval().requires_grad_(False).to(self.device)
        self.decoder = Decoder(self.config, system, tables, kinds["E"], self.device)
        self.qualities, self.default_quality = tuple(self.config.rates), self.config.default_rate

    def _encode(
        self,
        image: Image,
        quality: float,
        *,
        scheme: str = "thumbnail",
        scale: float | None = None,
        search: bool = False,
        assist: float | None = None,
        keep: float | None = None,
        count: int | None = None,
        importance: np.ndarray | None = None,
        share: float = _SELECTIVE_SHARE,
        steps: int = 0,
        refine: bool = True,
        assistants: Sequence[str] = (),
        label: int | str | None = "best",
        seed: int = 0,
    ) -> dict[str, bytes]:
        """
        Args:
            scheme: one of `SCHEMES`: ``thumbnail`` (the default and the best), ``square``, ``pixels`` (random ones),
                ``edges``, ``blocks`` (near edges), ``blocks_random`` (and far ones), ``selective`` (a thumbnail, and
                detail where ``importance`` is).
            scale: of the thumbnail, of `SCALES`; None for what suits the budget.
            search: try the neighbouring scales too and take the picture of highest SSIM.
            assist: scale of a thumbnail that goes with kept pixels; None for none, as published.
            keep: share of the blocks that is kept, or of the shorter side by the square, if not the configuration's.
            count: pixels to keep (``pixels``, ``edges``) whatever the budget.
            importance: H×W, 0 to 1; blocks of 0.5 or more on average get detail (``selective``), or are kept first
                (block schemes, in place of edges).
            share: of the budget for the thumbnail of the selective scheme.
            steps: of PPGN sampling in the decoder; 0 leaves the filler's picture.
            refine: sampling moves the filler's picture; False shows G's own, as published.
            assistants: losses of `ASSISTANTS` in sampling. Their targets take bytes of the budget.
            label: class of the condition C; ``best`` is the classifier's for the original, None leaves C out.
            seed: of random places and of noise, 0 to 255.

        Raises:
            ConfigError: an option is out of range, or does not belong to the scheme.
            WeightsError: sampling needs a classifier that is not here.
        """
        if scheme not in SCHEMES:
            raise ConfigError(f"no scheme {scheme!r}: there are {', '.join(SCHEMES)}")
        unknown = sorted(set(assistants) - set(ASSISTANTS))
        if unknown or not (quality > 0 and 0 <= seed <= 255 and 0 <= steps <= 255 and 0 < share < 1):
            raise ConfigError(
                f"quality={quality}, seed={seed}, steps={steps}, share={share}, assistants={list(assistants)}: "
                "quality is positive, seed and steps are 0 to 255, share is in (0, 1), assistants are of "
                f"{', '.join(ASSISTANTS)}"
            )
        if steps and scheme in ("thumbnail", "selective"):
            raise ConfigError(f"sampling needs kept pixels: use a scheme other than {scheme!r}, or steps=0")
        if assistants and not steps:
            raise ConfigError("assistant losses take part in sampling: give steps")
        if importance is not None and importance.shape != image.shape[:2]:
            raise ConfigError(
                f"importance is {image.shape[0]}×{image.shape[1]} numbers, not {importance.shape}"
            )
        limit = int(quality * image.shape[0] * image.shape[1] / 8)
        if scheme == "thumbnail":
            return self._thumbnail(image, limit, scale, search, quality)
        if scheme == "selective":
            return self._selective(image, limit, scale, importance, share, quality)
        sections = self._sampling_sections(image, steps, refine, assistants, label, seed)
        sampled = sections.pop("sampled")
        if assist is not None:
            sections["thumbnail"] = Still().compress(shrink(image, SCALES[_scale(assist)]), _ASSIST_QUALITY)
        common = {"thumbnail": None if assist is None else _scale(assist), "sampled": sampled}
        if scheme in ("pixels", "edges"):
            return self._single_pixels(image, limit, scheme, count, seed, common, sections)
        if scheme == "square":
            return self._square(image, limit, keep, common, sections)
        return self._blocks(image, limit, scheme, keep, importance, seed, common, sections)

    def _encode_within(self, image: Image, limit: int, **options: object) -> Found:
        quality = (8 * limit + 0.5) / (
            image.shape[0] * image.shape[1]
        )  # half a bit more, so that rounding loses none
        return Found(
            self._container(self._encode(image, quality, **options), *image.shape[:2]).to_bytes(), quality
        )

    def _decode(self, container: Container) -> Image:
        return self.decoder.decode(container.sections, container.height, container.width)

    def _thumbnail(
        self, image: Image, limit: int, scale: float | None, search: bool, bpp: float
    ) -> dict[str, bytes]:
        index = suitable_scale(bpp) if scale is None else _scale(scale)
        if not search:
            return self._thumbnail_at(image, limit, index)
        found = []
        for at in (index - 1, index, index + 1):
            if 0 <= at < len(SCALES):
                sections = self._thumbnail_at(image, limit, at)
                decoded = self.decoder.decode(sections, *image.shape[:2])
                found.append(
                    (
                        self.file_size(sections, *image.shape[:2]) <= limit,
                        measure(image, decoded).ssim or 0.0,
                        sections,
                    )
                )
        return max(found, key=lambda one: one[:2])[2]

    def _thumbnail_at(self, image: Image, limit: int, index: int) -> dict[str, bytes]:
        """The thumbnail of the scale in the budget; a smaller one where its least stream is too large."""
        while True:
            small, still = shrink(image, SCALES[index]), Still()
            sections = {"parameters": self._parameters(image, Parameters("thumbnail", index))}
            room = limit - self.file_size(sections | {"thumbnail": b""}, *image.shape[:2]) - 1
            sections["thumbnail"], _ = fit(room, lambda q, s=small, c=still: c.compress(s, q))
            if len(sections["thumbnail"]) <= room or index + 1 == len(SCALES):
                return sections
            index += 1

    def _selective(
        self,
        image: Image,
        limit: int,
        scale: float | None,
        importance: np.ndarray | None,
        share: float,
        bpp: float,
    ) -> dict[str, bytes]:
        if importance is None:
            raise ConfigError("the selective scheme wants a map: importance=H×W numbers from 0 to 1")
        index = suitable_scale(share * bpp) if scale is None else _scale(scale)
        sections = self._thumbnail_at(image, round(share * limit), index)
        p = Parameters.from_bytes(sections["parameters"], *image.shape[:2])
        block = self.config.block
        areas = masks.block_sums(np.ones(image.shape[:2]), block)
        grid = masks.block_sums(importance.astype(np.float64), block) >= 0.5 * areas
        p = Parameters("selective", p.thumbnail, block=block)
        sections |= {"parameters": self._parameters(image, p), "mask": masks.encode_mask(grid)}
        if not grid.any():
            return sections
        base = self.decoder.thumbnail_picture(p, sections, *image.shape[:2])
        kept = masks.to_pixels(grid, *image.shape[:2], block)
        residual = np.clip(image.astype(np.int16) - base + MIDDLE, 0, 255).astype(np.uint8)
        residual[~kept] = MIDDLE
        still = Still()
        room = limit - self.file_size(sections | {"residual": b""}, *image.shape[:2]) - 1
        sections["residual"], _ = fit(room, lambda q: still.compress(residual, q))
        return sections

    def _single_pixels(
        self,
        image: Image,
        limit: int,
        scheme: str,
        count: int | None,
        seed: int,
        common: Mapping[str, object],
        extra: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """As many pixels as fit, by bisection of their number."""
        height, width = image.shape[:2]
        step, models = self.config.step, self.decoder.models
        strength = masks.edge_strength(image) if scheme == "edges" else None

        def attempt(n: int) -> dict[str, bytes]:
            if strength is None:
                mask, named = masks.random_pixels(height, width, n, seed), {"count": n, "seed": seed}
            else:
                mask, named = masks.edge_pixels(strength, n), {}
            p = Parameters(scheme, step=step, **named, **common)
            sections = {"parameters": self._parameters(image, p), **extra}
            if strength is not None:
                sections["mask"] = masks.encode_mask(mask)
            stream, escapes = encode_values(image, mask, step, models)
            sections["kept_pixels"] = stream
            return sections | ({"escapes": escapes} if escapes else {})

        if count is not None:
            return attempt(min(max(count, 1), height * width))
        return self._most(image, limit, attempt, height * width)

    def _most(
        self, image: Image, limit: int, attempt: Callable[[int], dict[str, bytes]], highest: int
    ) -> dict[str, bytes]:
        """The file of the greatest number that fits; of 1 where none does. Bytes are about linear in the number."""
        low, best = 1, attempt(1)
        high, n = highest + 1, min(highest, max(2, limit // 2))
        for _ in range(_ATTEMPTS):
            if not low < n < high:
                break
            sections = attempt(n)
            size = self.file_size(sections, *image.shape[:2])
            if size <= limit:
                low, best = n, sections
                if size > 0.985 * limit:
                    break
            else:
                high = n
            n = max(low + 1, min(int(n * limit / size), high - 1)) if high - low > 1 else low
        return best

    def _square(
        self,
        image: Image,
        limit: int,
        keep: float | None,
        common: Mapping[str, object],
        extra: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        height, width = image.shape[:2]
        side = max(1, round((self.config.square if keep is None else keep) * min(height, width)))
        side = min(side, height, width)
        kept = image[masks.central_square(height, width, side)].reshape(side, side, 3)
        p = Parameters("square", side=side, **common)
        return self._with_still(image, limit, {"parameters": self._parameters(image, p), **extra}, kept)

    def _blocks(
        self,
        image: Image,
        limit: int,
        scheme: str,
        keep: float | None,
        importance: np.ndarray | None,
        seed: int,
        common: Mapping[str, object],
        extra: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        c, (height, width) = self.config, image.shape[:2]
        rows, columns = masks.grid_shape(height, width, c.block)
        count = max(1, round((c.keep if keep is None else keep) * rows * columns))
        far = min(round(c.far * count), count - 1) if scheme == "blocks_random" else 0
        strength = masks.edge_strength(image)
        if importance is not None:
            strength = strength + 1e6 * importance
        grid = masks.edge_blocks(strength, c.block, count - far)
        p = Parameters(scheme, count=far, block=c.block, seed=seed, **common)
        sections = {"parameters": self._parameters(image, p), "mask": masks.encode_mask(grid), **extra}
        grid = grid | masks.far_blocks(grid, far, seed)
        mask = torch.from_numpy(masks.to_pixels(grid, height, width, c.block))[None, None]
        # What stands in the holes costs least where it is smooth; nobody sees it.
        with torch.no_grad():
            smooth = image_of(smooth_fill(self.decoder.tensor(image).cpu(), mask).clamp(0, 1))
        return self._with_still(image, limit, sections, smooth)

    def _with_still(
        self, image: Image, limit: int, sections: dict[str, bytes], kept: Image
    ) -> dict[str, bytes]:
        still = Still()
        room = limit - self.file_size(sections | {"kept_pixels": b""}, *image.shape[:2]) - 1
        sections["kept_pixels"], _ = fit(room, lambda q: still.compress(kept, q))
        return sections

    @torch.no_grad()
    def _sampling_sections(
        self,
        image: Image,
        steps: int,
        refine: bool,
        assistants: Sequence[str],
        label: int | str | None,
        seed: int,
    ) -> dict:
        """Sections of assistant information, and ``sampled`` for the parameters."""
        if not steps:
            return {"sampled": None}
        E, x = self.decoder.classifier, self.decoder.tensor(image)
        if label == "best":
            label = int(self.decoder.system.encoder_for(E, *image.shape[:2])(x).logits.argmax())
        names = tuple(name for name in ASSISTANTS if name in assistants)
        sections: dict = Assistants(self.config, E, self.decoder.models).encode(x, names)
        sections["sampled"] = Sampled(steps, seed, label, E.identity(), names, refine)
        return sections

    @staticmethod
    def _parameters(image: Image, p: Parameters) -> bytes:
        return p.to_bytes(*image.shape[:2])


def suitable_scale(bpp: float) -> int:
    """Index of the thumbnail's scale that gave the highest SSIM on photographs at about this rate."""
    for index, least in enumerate((0.5, 0.2, 0.05, 0.02)):
        if bpp >= least:
            return index
    return 4


def _scale(scale: float) -> int:
    index = int(np.argmin([abs(scale - s) for s in SCALES]))
    if abs(SCALES[index] - scale) > 0.01:
        raise ConfigError(
            f"no thumbnails of scale {scale}: there are {', '.join(f'{s:.3g}' for s in SCALES)}"
        )
    return index
