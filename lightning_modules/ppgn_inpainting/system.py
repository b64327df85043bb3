"""Ablative compression: what is thrown away, and the feed-forward networks and PPGN's G that fill it in.

'Ablative Image Compression' (Kuznetsov and Singhal) on PPGN-h (Nguyen et al., CVPR 2017)::

    x ── mask ── kept pixels, blocks ──> bits ──> smooth guess ── filler ──┐
    x ── shrink ── thumbnail ──> bits ──> enlarged ── restorer ────────────┴─> x̂ (── sampling with G, E, C ──> x̂)

Published: masks, PPGN as it was trained by its authors, the assistant losses. Named there as future work: the
feed-forward filler, the boundary loss. From its appendix: the thumbnail in place of StackGAN's first stage. Ours: all
sizes, the coding, the classifier, the restorer's loss, and that sampling starts from the filler's picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.learned import to_image, to_tensor
from genic.lightning_modules.entropy.coder import GaussianModels
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.layers.tiling import tiles
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingModel
from genic.lightning_modules.ppgn_inpainting.masks import kept_by
from genic.lightning_modules.ppgn_inpainting.networks import Encoder, Features, FeedForward, Generator
from genic.lightning_modules.ppgn_inpainting.pixel_coding import (
    QuickAv1Layer,
    encode_pixels,
    quantised_pixels,
    shrink,
)
from genic.lightning_modules.ppgn_inpainting.schemes import Masked, Pixels, Scheme, Square, Thumbnail

PUBLISHED_SIDE = 256
ASSIST_QUALITY = 40  # of a thumbnail beside kept pixels
_CORE = 1024  # pixels a side of a tile


class Ablated(NamedTuple):
    """Pictures as files hold them: what the decoder's networks start from.

    Attributes:
        guess: [B, 3, H, W], kept pixels in a smooth filling, or an enlarged thumbnail.
        plane: [B, 1, H, W], the mask, or the thumbnail's scale.
        values: kept pixels [B, 3, H, W]; mask: where they are [B, 1, H, W]. None for thumbnails.
        bits: [B] of the streams, where they were coded for training.
    """

    guess: Tensor
    plane: Tensor
    values: Tensor | None = None
    mask: Tensor | None = None
    bits: Tensor | None = None


class Reconstruction(NamedTuple):
    """Pictures [B, 3, H, W] about [0, 1]: ``x_hat`` with the kept pixels as they are, ``generated`` everywhere."""

    x_hat: Tensor
    generated: Tensor


class Output(NamedTuple):
    """A pass through the whole system: what was kept, pictures, and bits [B] of the streams."""

    ablated: Ablated
    picture: Reconstruction
    rate: Tensor


class System(nn.Module):
    """filler, restorer and G."""

    def __init__(self, config: PpgnInpaintingModel) -> None:
        super().__init__()
        self.config = config
        self.filler = FeedForward(config.filler, config.filler_blocks)
        self.restorer = FeedForward(config.restorer, config.restorer_blocks)
        self.G = Generator(config)

    def reconstruct(self, ablated: Ablated) -> Reconstruction:
        """The pictures of the feed-forward networks, not yet clamped."""
        if ablated.mask is None or ablated.values is None:
            x_hat = in_tiles(self.restorer, ablated.guess, ablated.plane)
            return Reconstruction(x_hat, x_hat)
        generated = in_tiles(self.filler, ablated.guess, ablated.plane)
        return Reconstruction(ablated.mask * ablated.values + (1 - ablated.mask) * generated, generated)

    def forward(self, ablated: Ablated) -> Output:
        """Training, of what `ablate` gives: `reconstruct`."""
        assert ablated.bits is not None, "`ablate` counts them"
        return Output(ablated, self.reconstruct(ablated), ablated.bits)

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


def ablate(x: Tensor, schemes: Sequence[Scheme], qualities: Sequence[int]) -> Ablated:
    """Crops [B, 3, H, W] in [0, 1] through the coding of files, AV1 at speed 9, on the CPU.

    Args:
        schemes: one a crop, all `Thumbnail` or all `Masked`; single pixels with a count.
        qualities: of each crop's AV1 layer.
    """
    pixels = (x.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    images = [np.ascontiguousarray(image) for image in pixels.permute(0, 2, 3, 1).numpy()]
    parts = map(_ablated, images, schemes, qualities)
    joined: list[Any] = [None if each[0] is None else torch.cat(each) for each in zip(*parts, strict=True)]
    return Ablated(*joined)


def from_thumbnail(thumbnail: Tensor, height: int, width: int, scale: float) -> Ablated:
    """Of a decoded thumbnail [1, 3, h, w] in [0, 1] of a height×width picture."""
    guess = enlarge(thumbnail, height, width)
    return Ablated(guess, torch.full_like(guess[:, :1], scale))


def from_pixels(values: Tensor, mask: Tensor, base: Tensor | None = None) -> Ablated:
    """Of kept pixels [1, 3, H, W] in [0, 1] and their mask [1, 1, H, W]; ``base`` is an enlarged thumbnail.

    The guess is `smooth_fill` of the kept pixels, or of their difference to the thumbnail.
    """
    guess = smooth_fill(values, mask) if base is None else base + smooth_fill(values - base, mask)
    return Ablated(guess.clamp(0, 1), mask, values, mask)


def layer_picture(image: Image, mask: np.ndarray, scheme: Masked) -> Image:
    """What the AV1 layer of a square or of blocks codes: the square, or the picture with smooth holes."""
    if isinstance(scheme, Square):
        side = int(mask.sum() ** 0.5)
        return image[mask].reshape(side, side, 3)
    # What stands in the holes costs least where it is smooth; nobody sees it.
    values, m = to_tensor(image, "cpu").contiguous(), torch.from_numpy(mask)[None, None]
    return to_image(smooth_fill(values, m)[0])


def placed(layer: Image, mask: np.ndarray) -> Image:
    """A decoded layer at the picture's size: a square in its place, 0 around it."""
    if layer.shape[:2] == mask.shape:
        return layer
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[mask] = layer.reshape(-1, 3)
    return image


def smooth_fill(values: Tensor, mask: Tensor) -> Tensor:
    """Kept values as they are, and in the holes means of the kept ones around, the nearer the fewer.

    A pyramid of averages (push and pull, Gortler et al. 1996).

    Args:
        values: [B, C, H, W]; what stands in the holes does not matter.
        mask: [B, 1, H, W], 1 where kept, 0 in holes. Without any kept pixel the result is 0.
    """
    mask = mask.to(values.dtype)
    levels, sums, weights = [], values * mask, mask
    while True:
        levels.append((sums, weights))
        if max(weights.shape[2:]) == 1:
            break
        pad = (0, weights.shape[3] % 2, 0, weights.shape[2] % 2)
        sums, weights = (4 * F.avg_pool2d(F.pad(t, pad), 2) for t in (sums, weights))
    filled = None
    for sums, weights in reversed(levels):
        value = sums / weights.clamp_min(1e-6)
        known = weights.clamp(max=1.0)
        if filled is None:
            filled = value * (weights > 0)
        else:
            lifted = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
            lifted = lifted[..., : weights.shape[2], : weights.shape[3]]
            filled = known * value + (1 - known) * lifted
    assert filled is not None, "there is one level at least"
    return filled


def enlarge(thumbnail: Tensor, height: int, width: int) -> Tensor:
    """A thumbnail [B, 3, h, w] at the picture's size, bicubic, within [0, 1]."""
    if thumbnail.shape[2:] == (height, width):
        return thumbnail
    size = (height, width)
    return F.interpolate(thumbnail, size, mode="bicubic", align_corners=False, antialias=False).clamp(0, 1)


def in_tiles(network: FeedForward, guess: Tensor, plane: Tensor, core: int = _CORE) -> Tensor:
    """The network's result tile by tile, with what a tile's pixels depend on around it; so memory is bounded."""
    height, width = guess.shape[2:]
    if max(height, width) <= core:
        return network(guess, plane)
    margin = -(-network.reach // network.multiple) * network.multiple
    out = torch.empty_like(guess)
    for tile in tiles(height, width, 1, margin, side=core):
        (a, b, c, d), (top, bottom, left, right) = tile.whole, tile.core
        piece = network(guess[..., a:b, c:d], plane[..., a:b, c:d])
        out[..., top:bottom, left:right] = piece[(..., *tile.inner())]
    return out


def _ablated(image: Image, scheme: Scheme, quality: int) -> Ablated:
    height, width = image.shape[:2]
    if isinstance(scheme, Thumbnail):
        assert scheme.scale is not None, "training draws one"
        small, size = _coded(shrink(image, scheme.scale), quality)
        found = from_thumbnail(to_tensor(small, "cpu"), height, width, scheme.scale)
        return found._replace(bits=torch.tensor([8.0 * size]))
    assert isinstance(scheme, Masked), "training draws no other"
    kept = kept_by(scheme, image, getattr(scheme, "count", None))
    if isinstance(scheme, Pixels):
        stream, escapes = encode_pixels(image, kept.mask, scheme.step, _models())
        coded, size = quantised_pixels(image, scheme.step), len(stream) + len(escapes)
    else:
        layer, size = _coded(layer_picture(image, kept.mask, scheme), quality)
        coded = placed(layer, kept.mask)
    size, base = size + len(kept.section), None
    if scheme.assist is not None:
        small, more = _coded(shrink(image, scheme.assist), ASSIST_QUALITY)
        base, size = enlarge(to_tensor(small, "cpu"), height, width), size + more
    found = from_pixels(to_tensor(coded, "cpu"), torch.from_numpy(kept.mask)[None, None].float(), base)
    return found._replace(bits=torch.tensor([8.0 * size]))


def _coded(image: Image, quality: int) -> tuple[Image, int]:
    """The decoded layer and its stream's bytes."""
    codec = QuickAv1Layer()
    stream = codec.compress(image, quality)
    return codec.decompress(stream, *image.shape[:2]), len(stream)


@cache
def _models() -> GaussianModels:
    return GaussianModels(build_tables())
