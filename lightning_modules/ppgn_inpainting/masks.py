"""What is kept: the publication's five ablation masks.

Edges are zero crossings of the Laplacian of the Gaussian (Marr and Hildreth 1980), strongest first; the publication
says no more than "Laplacian of Gaussian". Blocks lie on a grid; "near edges" is by the strength of the edges inside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_laplace

from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.lossless import decode_lossless, encode_lossless
from genic.lightning_modules.codec.random_words import random_choice
from genic.lightning_modules.ppgn_inpainting.schemes import (
    Blocks,
    BlocksRandom,
    EdgePixels,
    Masked,
    Parameters,
    Pixels,
    Square,
)

SIGMA = 1.5


def central_square(height: int, width: int, side: int) -> np.ndarray:
    """bool H×W, True in the middle ``side``×``side`` pixels."""
    mask = np.zeros((height, width), bool)
    side = min(side, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    mask[top : top + side, left : left + side] = True
    return mask


def random_pixels(height: int, width: int, count: int, seed: int) -> np.ndarray:
    """bool H×W with ``count`` pixels that ``seed`` chooses."""
    mask = np.zeros(height * width, bool)
    mask[random_choice(height * width, min(count, height * width), seed)] = True
    return mask.reshape(height, width)


def edge_strength(image: Image, sigma: float = SIGMA) -> np.ndarray:
    """float64 H×W: how far the Laplacian of the Gaussian of luma jumps over a zero crossing; 0 off edges."""
    luma = image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    response = gaussian_laplace(luma, sigma, mode="nearest")
    strength = np.zeros_like(luma)
    for axis in (0, 1):
        a, b = (np.moveaxis(x, axis, 0) for x in (response, strength))
        jump = np.where(a[:-1] * a[1:] < 0, np.abs(a[1:] - a[:-1]), 0)
        np.maximum(b[:-1], jump, out=b[:-1])
    return strength


def edge_pixels(strength: np.ndarray, count: int) -> np.ndarray:
    """bool H×W with the ``count`` strongest edge pixels, or all where there are fewer."""
    mask = np.zeros(strength.size, bool)
    best = np.argsort(-strength, axis=None, kind="stable")[:count]
    mask[best] = strength.ravel()[best] > 0
    return mask.reshape(strength.shape)


def edge_blocks(strength: np.ndarray, block: int, count: int) -> np.ndarray:
    """bool rows×columns of blocks: the ``count`` with the most edge in them (first ones of equals)."""
    energy = block_sums(strength, block)
    grid = np.zeros(energy.size, bool)
    grid[np.argsort(-energy, axis=None, kind="stable")[:count]] = True
    return grid.reshape(energy.shape)


def far_blocks(near: np.ndarray, count: int, seed: int) -> np.ndarray:
    """bool rows×columns: ``count`` random blocks that do not touch ``near``; of all others where these are too few.

    A function of ``near`` and ``seed`` alone, so a file holds only those.
    """
    free = np.flatnonzero(~np.asarray(binary_dilation(near, np.ones((3, 3), bool)), bool))
    if len(free) < count:
        free = np.flatnonzero(~near)
    grid = np.zeros(near.size, bool)
    grid[free[random_choice(len(free), min(count, len(free)), seed)]] = True
    return grid.reshape(near.shape)


def block_sums(values: np.ndarray, block: int) -> np.ndarray:
    """Sums over the blocks of a grid that covers H×W values; border blocks may be smaller."""
    rows = np.add.reduceat(values, np.arange(0, values.shape[0], block), axis=0)
    return np.add.reduceat(rows, np.arange(0, values.shape[1], block), axis=1)


def grid_shape(height: int, width: int, block: int) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return -(-height // block), -(-width // block)


def to_pixels(grid: np.ndarray, height: int, width: int, block: int) -> np.ndarray:
    """bool H×W of a mask of blocks."""
    return grid.repeat(block, 0).repeat(block, 1)[:height, :width]


def encode_mask(mask: np.ndarray) -> bytes:
    """A mask as a bilevel picture in a lossless JPEG XL codestream."""
    return encode_lossless(mask.astype(np.uint8), bits=1)


def decode_mask(stream: bytes, height: int, width: int) -> np.ndarray:
    """bool height×width; `DamagedFileError` where the stream is no such mask."""
    mask = decode_lossless(stream, height, width).squeeze()
    if mask.size != height * width or mask.max(initial=0) > 1:
        raise DamagedFileError("the mask is not a bilevel picture")
    return mask.reshape(height, width).astype(bool)


class Kept(NamedTuple):
    """Which pixels are kept, and what a file says of them.

    Attributes:
        mask: bool H×W. section: of the file, empty where the parameters say it all. named: those parameters.
    """

    mask: np.ndarray
    section: bytes
    named: dict[str, int]


def kept_by(
    scheme: Masked, image: Image, count: int | None = None, strength: np.ndarray | None = None
) -> Kept:
    """What the scheme keeps of ``image``, ``count`` single pixels; ``strength`` is its `edge_strength` if at hand."""
    height, width = image.shape[:2]
    if isinstance(scheme, Square):
        side = min(max(1, round(scheme.keep * min(height, width))), height, width)
        return Kept(central_square(height, width, side), b"", {"side": side})
    if isinstance(scheme, Pixels) and not isinstance(scheme, EdgePixels):
        assert count is not None, "asked for with single pixels"
        mask = random_pixels(height, width, count, scheme.seed)
        return Kept(mask, b"", {"count": count, "seed": scheme.seed, "step": scheme.step})
    edges: np.ndarray = edge_strength(image) if strength is None else strength
    if isinstance(scheme, EdgePixels):
        assert count is not None
        mask = edge_pixels(edges, count)
        return Kept(mask, encode_mask(mask), {"step": scheme.step})
    assert isinstance(scheme, Blocks), "the last there is"
    rows, columns = grid_shape(height, width, scheme.block)
    wanted = max(1, round(scheme.keep * rows * columns))
    far = min(round(scheme.far * wanted), wanted - 1) if isinstance(scheme, BlocksRandom) else 0
    if scheme.importance is not None:
        edges = edges + 1e6 * scheme.importance
    near = edge_blocks(edges, scheme.block, wanted - far)
    mask = to_pixels(near | far_blocks(near, far, scheme.seed), height, width, scheme.block)
    return Kept(mask, encode_mask(near), {"count": far, "block": scheme.block, "seed": scheme.seed})


def mask_of(p: Parameters, section: bytes, height: int, width: int) -> np.ndarray:
    """bool H×W: the mask that `kept_by` described, or that of the selective scheme.

    Raises:
        DamagedFileError: there is no such mask.
    """
    if p.scheme == "square":
        return central_square(height, width, p.side)
    if p.scheme == "pixels":
        if p.count > height * width:
            raise DamagedFileError("more pixels are kept than there are")
        return random_pixels(height, width, p.count, p.seed)
    if p.scheme == "edges":
        return decode_mask(section, height, width)
    grid = decode_mask(section, *grid_shape(height, width, p.block))
    if p.scheme == "blocks_random":
        if p.count > grid.size:
            raise DamagedFileError("more blocks are kept than there are")
        grid = grid | far_blocks(grid, p.count, p.seed)
    return to_pixels(grid, height, width, p.block)
