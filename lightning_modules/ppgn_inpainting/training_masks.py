"""What the feed-forward networks are trained on: damaged crops as the decoder will see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.contract import Image
from lightning_modules.ppgn_inpainting import masks
from lightning_modules.ppgn_inpainting.config import PpgnInpaintingConfig
from lightning_modules.ppgn_inpainting.fill import enlarge, guess
from lightning_modules.ppgn_inpainting.stills import degraded

KINDS = ("square", "pixels", "edges", "blocks", "blocks_random")
_ASSIST = (1 / 8, 1 / 16)  # scales of a thumbnail that goes with a mask
_ASSISTED = 0.25  # share of masked crops that have one


class Damaged(NamedTuple):
    """A first guess [B, 3, H, W] with its plane [B, 1, H, W] (mask, or scale), kept values and mask."""

    guess: Tensor
    plane: Tensor
    values: Tensor
    mask: Tensor


def shrunk(x: Tensor, config: PpgnInpaintingConfig, rng: np.random.Generator) -> Damaged:
    """Crops [B, 3, H, W] in [0, 1] through thumbnails of random scale and quality."""
    pictures, planes = [], []
    low, high = config.restore_quality
    for image in _images(x):
        scale = float(rng.choice(config.restore_scales))
        small = degraded(image, scale, int(rng.integers(low, high + 1)))
        pictures.append(enlarge(_tensor(small, x), *x.shape[2:]))
        planes.append(torch.full_like(x[:1, :1], scale))
    guesses = torch.cat(pictures)
    return Damaged(guesses, torch.cat(planes), guesses, torch.zeros_like(x[:, :1]))


def masked(
    x: Tensor, config: PpgnInpaintingConfig, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS
) -> Damaged:
    """Crops under random masks; values of blocks through AV1, single pixels quantised."""
    parts = [_masked(image, config, rng, str(rng.choice(kinds)), x) for image in _images(x)]
    return Damaged(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _masked(
    image: Image, config: PpgnInpaintingConfig, rng: np.random.Generator, kind: str, like: Tensor
) -> Damaged:
    height, width = image.shape[:2]
    seed, share = int(rng.integers(2**31)), float(np.exp(rng.uniform(np.log(0.01), np.log(0.08))))
    if kind == "square":
        mask = masks.central_square(height, width, round(config.square * min(height, width)))
    elif kind == "pixels":
        mask = masks.random_pixels(height, width, max(1, int(share * height * width)), seed)
    elif kind == "edges":
        mask = masks.edge_pixels(masks.edge_strength(image), max(1, int(share * height * width)))
    else:
        grid = masks.grid_shape(height, width, config.block)
        count = max(1, round(rng.uniform(0.15, 0.6) * grid[0] * grid[1]))
        far = round(config.far * count) if kind == "blocks_random" else 0
        near = masks.edge_blocks(masks.edge_strength(image), config.block, count - far)
        kept = near | masks.far_blocks(near, far, seed)
        mask = masks.to_pixels(kept, height, width, config.block)
    if kind in ("pixels", "edges"):
        coded = np.clip(image + rng.uniform(-0.5, 0.5, image.shape) * config.step, 0, 255)
    else:
        coded = degraded(image, 1.0, int(rng.integers(*config.restore_quality, endpoint=True)))
    values = _tensor(coded, like)
    m = torch.from_numpy(mask).to(like)[None, None]
    base = None
    if rng.random() < _ASSISTED:
        small = degraded(image, float(rng.choice(_ASSIST)), int(rng.integers(30, 60)))
        base = enlarge(_tensor(small, like), height, width)
    return Damaged(guess(values, m, base).clamp(0, 1), m, values, m)


def _images(x: Tensor) -> list[Image]:
    pixels = (x.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return [np.ascontiguousarray(image) for image in pixels.permute(0, 2, 3, 1).numpy()]


def _tensor(image: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(like) / 255
