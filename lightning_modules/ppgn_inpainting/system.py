"""Ablative compression's trained networks: the feed-forward filler and restorer, and PPGN's G.

'Ablative Image Compression' (Kuznetsov and Singhal) on PPGN-h (Nguyen et al., CVPR 2017)::

    x ── mask ── kept pixels, blocks ──> bits ──> smooth guess ── filler ──┐
    x ── shrink ── thumbnail ──> bits ──> enlarged ── restorer ────────────┴─> x̂ (── sampler with G, E, C ──> x̂)

Published: masks, PPGN as it was trained by its authors, the assistant losses. Named there as future work: the
feed-forward filler, the boundary loss. From its appendix: the thumbnail in place of StackGAN's first stage. Ours: all
sizes, the coding, the classifier, the restorer's loss, and that sampling starts from the filler's picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.ppgn_inpainting.config import PpgnInpaintingConfig
from lightning_modules.ppgn_inpainting.features import Encoder, Features
from lightning_modules.ppgn_inpainting.fill import enlarge, guess
from lightning_modules.ppgn_inpainting.networks import FeedForward, Generator

PUBLISHED_SIDE = 256
_CORE = 1024


class System(nn.Module):
    """filler, restorer and G."""

    def __init__(self, config: PpgnInpaintingConfig) -> None:
        super().__init__()
        config.check()
        self.config = config
        self.filler = FeedForward(config.filler, config.filler_blocks)
        self.restorer = FeedForward(config.restorer, config.restorer_blocks)
        self.G = Generator(config.h_channels, config.vector, config.dense, config.up, config.after)

    def restore(self, thumbnail: Tensor, height: int, width: int, scale: float) -> Tensor:
        """The picture [1, 3, H, W] of a decoded thumbnail [1, 3, h, w] in [0, 1]."""
        enlarged = enlarge(thumbnail, height, width)
        return in_tiles(self.restorer, enlarged, torch.full_like(enlarged[:, :1], scale)).clamp(0, 1)

    def fill(self, values: Tensor, mask: Tensor, base: Tensor | None) -> Tensor:
        """The holes of kept pixels [1, 3, H, W], mask [1, 1, H, W], filled by the filler; kept ones pasted in."""
        filled = in_tiles(self.filler, guess(values, mask, base).clamp(0, 1), mask).clamp(0, 1)
        return mask * values + (1 - mask) * filled

    def generator_for(self, height: int, width: int) -> Callable[[Tensor], Tensor]:
        """G as a function from h to pictures of the size."""
        if self.config.vector:
            return lambda h: F.interpolate(self.G(h), (height, width), mode="bilinear", antialias=True)
        return lambda h: self.G(h)[..., :height, :width]

    def encoder_for(self, E: Encoder, height: int, width: int) -> Callable[[Tensor], Features]:
        """E as a function of pictures of the size: scaled to the published one, or filled up to whole positions."""
        if self.config.vector:
            size = (PUBLISHED_SIDE, PUBLISHED_SIDE)
            return lambda x: E(F.interpolate(x, size, mode="bilinear", antialias=True))
        stride = self.config.stride
        pad = (0, -width % stride, 0, -height % stride)
        return lambda x: E(F.pad(x, pad, mode="replicate"))


def in_tiles(network: FeedForward, guess: Tensor, plane: Tensor, core: int = _CORE) -> Tensor:
    """The network's result tile by tile, with what a tile's pixels depend on around it; so memory is bounded."""
    height, width = guess.shape[2:]
    if max(height, width) <= core:
        return network(guess, plane)
    margin = -(-network.reach // network.multiple) * network.multiple
    out = torch.empty_like(guess)
    for top in range(0, height, core):
        for left in range(0, width, core):
            a, c = max(0, top - margin), max(0, left - margin)
            b, d = min(height, top + core + margin), min(width, left + core + margin)
            piece = network(guess[..., a:b, c:d], plane[..., a:b, c:d])
            bottom, right = min(height, top + core), min(width, left + core)
            out[..., top:bottom, left:right] = piece[..., top - a : bottom - a, left - c : right - c]
    return out
