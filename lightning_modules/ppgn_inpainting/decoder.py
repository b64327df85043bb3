"""From sections to a picture; encoder and decoder share this, since the encoder looks at what it will give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import DamagedFileError, WeightsError
from lightning_modules.entropy.gaussian import GaussianTables
from lightning_modules.gan_reversal.residual import add_residual
from lightning_modules.ppgn_inpainting import masks
from lightning_modules.ppgn_inpainting.assistants import Assistants
from lightning_modules.ppgn_inpainting.config import SCALES, PpgnInpaintingConfig
from lightning_modules.ppgn_inpainting.features import Encoder, restored
from lightning_modules.ppgn_inpainting.fill import enlarge
from lightning_modules.ppgn_inpainting.parameters import Parameters, Sampled
from lightning_modules.ppgn_inpainting.sampler import Sampling, sample
from lightning_modules.ppgn_inpainting.stills import Still, thumbnail_size
from lightning_modules.ppgn_inpainting.system import System
from lightning_modules.ppgn_inpainting.values import decode_values


class Decoder:
    """Everything that decoding needs.

    Args:
        system: in eval mode.
        tables: of the range coder.
        classifier_tensors: of a random classifier; empty where it lies elsewhere. It is opened at the first sampling.
    """

    def __init__(
        self,
        config: PpgnInpaintingConfig,
        system: System,
        tables: GaussianTables,
        classifier_tensors: Mapping[str, Tensor],
        device: str,
    ) -> None:
        self.config, self.system, self.tables, self.device = config, system, tables, device
        self._tensors, self._E, self._models = classifier_tensors, None, None

    @property
    def classifier(self) -> Encoder:
        """The classifier; `WeightsError` where it is not at hand."""
        if self._E is None:
            self._E = restored(self.config, self._tensors).to(self.device)
        return self._E

    @property
    def models(self):
        """Tables as the range coder takes them."""
        if self._models is None:
            from lightning_modules.entropy.coder import GaussianModels

            self._models = GaussianModels(self.tables)
        return self._models

    def decode(self, sections: Mapping[str, bytes], height: int, width: int) -> Image:
        """The picture.

        Raises:
            DamagedFileError: sections are missing or damaged.
            WeightsError: sampling needs a classifier that is not here.
        """
        p = Parameters.from_bytes(sections.get("parameters", b""), height, width)
        if p.scheme in ("thumbnail", "selective"):
            base = self.thumbnail_picture(p, sections, height, width)
            if p.scheme == "thumbnail":
                return base
            return self.detailed(base, p, sections)
        mask, image = self.kept(p, sections, height, width)
        return self.picture(p, sections, mask, image)

    @torch.inference_mode()
    def thumbnail_picture(
        self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int
    ) -> Image:
        """The restorer's picture."""
        small = self.tensor(self.thumbnail(p, sections, height, width))
        return image_of(self.system.restore(small, height, width, SCALES[p.thumbnail]))

    def detailed(self, base: Image, p: Parameters, sections: Mapping[str, bytes]) -> Image:
        """The selective scheme: a residual on top where the mask is."""
        height, width = base.shape[:2]
        kept = self._block_mask(p, sections, height, width)
        if not kept.any():
            return base
        return np.where(kept[..., None], add_residual(base, _section(sections, "residual")), base)

    def kept(
        self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int
    ) -> tuple[np.ndarray, Image]:
        """Mask bool H×W and the decoded kept pixels, uint8 H×W×3."""
        stream = _section(sections, "kept_pixels")
        if p.scheme in ("pixels", "edges"):
            if p.scheme == "pixels":
                if p.count > height * width:
                    raise DamagedFileError("more pixels are kept than there are")
                mask = masks.random_pixels(height, width, p.count, p.seed)
            else:
                mask = masks.decode_mask(_section(sections, "mask"), height, width)
            return mask, decode_values(stream, sections.get("escapes", b""), mask, p.step, self.models)
        image = Still()
        if p.scheme == "square":
            mask = masks.central_square(height, width, p.side)
            side = min(p.side, height, width)
            full = np.zeros((height, width, 3), np.uint8)
            full[mask] = image.decompress(stream, side, side).reshape(-1, 3)
            return mask, full
        decoded = image.decompress(stream, height, width)
        return self._block_mask(p, sections, height, width), decoded

    def picture(self, p: Parameters, sections: Mapping[str, bytes], mask: np.ndarray, image: Image) -> Image:
        """Holes filled, and sampled where the file says so; kept pixels are exactly ``image``'s."""
        height, width = mask.shape
        x = self.tensor(image)
        m = torch.from_numpy(mask).to(x)[None, None]
        base = None
        if p.thumbnail is not None:
            base = enlarge(self.tensor(self.thumbnail(p, sections, height, width)), height, width)
        with torch.no_grad():
            filled = self.system.fill(x, m, base)
        if p.sampled is not None:
            filled = self._sampled(p.sampled, sections, filled, x, m)
        return np.where(mask[..., None], image, image_of(filled))

    def tensor(self, image: Image) -> Tensor:
        """uint8 H×W×3 to [1, 3, H, W] in [0, 1]."""
        return (
            torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float() / 255
        )

    def _sampled(
        self, s: Sampled, sections: Mapping[str, bytes], filled: Tensor, x: Tensor, m: Tensor
    ) -> Tensor:
        c, E = self.config, self.classifier
        if s.classifier != E.identity():
            raise WeightsError(
                f"the file was sampled through a classifier {s.classifier.hex()}, here is {E.identity().hex()}: "
                f"give the {c.classifier} that wrote it"
            )
        height, width = x.shape[2:]
        encode, generate = self.system.encoder_for(E, height, width), self.system.generator_for(height, width)
        settings = Sampling(
            c.epsilon1, c.epsilon2, c.epsilon3, c.epsilon4, s.steps, c.rate, c.h_low, c.h_high, s.seed
        )
        assistant = None
        if s.assistants:
            helper = Assistants(c, E, self.models)
            assistant = helper.loss(s.assistants, sections, x, m)
        with torch.no_grad():
            h = encode(filled).h
            offset = filled - generate(h.clamp(c.h_low, c.h_high)) if s.refine else torch.zeros_like(filled)
        moved = sample(h, settings, encode, lambda z: generate(z) + offset, x, m, s.label, assistant)
        with torch.no_grad():
            return (generate(moved) + offset).clamp(0, 1)

    def thumbnail(self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int) -> Image:
        """The decoded thumbnail at its own size."""
        if p.thumbnail is None:
            raise DamagedFileError("the parameters name no thumbnail's scale")
        size = thumbnail_size(height, width, SCALES[p.thumbnail])
        return Still().decompress(_section(sections, "thumbnail"), *size)

    def _block_mask(
        self, p: Parameters, sections: Mapping[str, bytes], height: int, width: int
    ) -> np.ndarray:
        shape = masks.grid_shape(height, width, p.block)
        grid = masks.decode_mask(_section(sections, "mask"), *shape)
        if p.scheme == "blocks_random":
            if p.count > grid.size:
                raise DamagedFileError("more blocks are kept than there are")
            grid = grid | masks.far_blocks(grid, p.count, p.seed)
        return masks.to_pixels(grid, height, width, p.block)


def image_of(x: Tensor) -> Image:
    """[1, 3, H, W] in [0, 1] to uint8 H×W×3."""
    return (x[0] * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()


def _section(sections: Mapping[str, bytes], name: str) -> bytes:
    if name not in sections:
        raise DamagedFileError(f"the file has no section {name!r}")
    return sections[name]
