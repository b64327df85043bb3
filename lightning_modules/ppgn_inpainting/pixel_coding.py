"""Pixels as bytes: AV1 layers of whole pictures, and colours of single kept pixels by the exact range coder.

Single pixels are coded in levels, each four times as many as the one before, in a random order. A pixel is predicted
from those of earlier levels around it: weighted means over 3×3 cells of the finest grid whose cells hold some. All is
integer arithmetic on YCoCg-R values (Malvar and Sullivan 2003) in units of the quantiser, chroma twice as coarse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from genic.lightning_modules.classical.avif import Avif
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.random_words import random_choice
from genic.lightning_modules.codec.rate_control import largest_within, whole
from genic.lightning_modules.entropy.coder import (
    MU_SHIFT,
    EscapeReader,
    GaussianModels,
    SymbolDecoder,
    SymbolEncoder,
)
from genic.lightning_modules.entropy.gaussian import SCALES, SIGMA_MAX, SIGMA_MIN
from genic.lightning_modules.entropy.grid import ACTIVATION_BITS

_LEAST_LEVEL = 24
_RATIO = 4
_PARTS = 32  # of a symbol, in predictions
_KERNEL = ((1, 2, 1), (2, 4, 2), (1, 2, 1))
_WEIGHT = 3  # least weight of neighbours that make a prediction
_FINEST = 90  # quality of an AV1 layer; beyond it nobody sees more


class Av1Layer(Avif):
    """A layer of a file: bare AV1 tuned for structure, which is what the publication measures; 6 of 10 in speed."""

    tune = "ssim"
    speed = 6

    def within(self, image: Image, limit: int) -> bytes:
        """The finest stream of at most ``limit`` bytes; the coarsest where none is so small."""
        return largest_within(lambda q: self.compress(image, q), whole(0, _FINEST), limit, 25).data


class QuickAv1Layer(Av1Layer):
    """The same artefacts sooner, for training."""

    speed = 9


def thumbnail_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Sides of a thumbnail."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(image: Image, scale: float) -> Image:
    """The thumbnail (Lanczos, antialiased)."""
    height, width = image.shape[:2]
    height, width = thumbnail_size(height, width, scale)
    if scale == 1:
        return image
    return np.array(PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.LANCZOS))


def encode_pixels(image: Image, mask: np.ndarray, step: int, models: GaussianModels) -> tuple[bytes, bytes]:
    """Stream and escapes of the pixels of uint8 ``image`` [H, W, 3] where ``mask``.

    Args:
        step: of the quantiser, 1 to 255.
    """
    positions, symbols = np.flatnonzero(mask), _quantised(image[mask], step)
    escapes = bytearray()
    encoder, scales = SymbolEncoder(models, escapes), bytearray()
    known = _Known(mask.shape)
    for level in _levels(len(positions)):
        at, k = positions[level], symbols[level]
        predicted = known.predict(at)
        for channel in range(3):
            error = k[:, channel] - predicted[:, channel] / _PARTS
            scales.append(_scale(error))
            encoder.put(*_coded(k[:, channel], predicted[:, channel], scales[-1]))
        known.add(at, k)
    return bytes(scales) + encoder.finish(), bytes(escapes)


def quantised_pixels(image: Image, step: int) -> Image:
    """uint8 [H, W, 3]: all pixels as `decode_pixels` gives them back."""
    return _dequantised(_quantised(image.reshape(-1, 3), step), step).reshape(image.shape)


def decode_pixels(
    stream: bytes, escapes: bytes, mask: np.ndarray, step: int, models: GaussianModels
) -> Image:
    """uint8 [H, W, 3], 0 where not kept.

    Raises:
        DamagedFileError: not such a stream.
    """
    positions = np.flatnonzero(mask)
    levels = _levels(len(positions))
    scales, reader = stream[: 3 * len(levels)], EscapeReader(escapes)
    if len(scales) < 3 * len(levels) or max(scales, default=0) >= SCALES or step < 1:
        raise DamagedFileError("the kept pixels begin with scales that no encoder wrote")
    decoder = SymbolDecoder(models, stream[len(scales) :], reader)
    known, symbols = _Known(mask.shape), np.zeros((len(positions), 3), np.int64)
    for n, level in enumerate(levels):
        predicted = known.predict(positions[level])
        for channel in range(3):
            _, mu, index = _coded(symbols[level, channel], predicted[:, channel], scales[3 * n + channel])
            symbols[level, channel] = decoder.get(mu, index).numpy()
        known.add(positions[level], symbols[level])
    decoder.close()
    reader.close()
    image = np.zeros((*mask.shape, 3), np.uint8)
    image[mask] = _dequantised(symbols, step)
    return image


class _Known:
    """Coded pixels, and predictions from them, in 1/32 symbols."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.width = shape[1]
        # Channels Y, Co, Cg and a count, with the margin that 3×3 cells want.
        self.grids = [np.zeros((4, shape[0] + 2, shape[1] + 2), np.int64)]
        while max(shape) > 1:
            shape = (-(-shape[0] // 2), -(-shape[1] // 2))
            self.grids.append(np.zeros((4, shape[0] + 2, shape[1] + 2), np.int64))

    def add(self, positions: np.ndarray, symbols: np.ndarray) -> None:
        rows, columns = np.divmod(positions, self.width)
        values = np.concatenate((symbols.T, np.ones((1, len(positions)), np.int64)))
        for k, grid in enumerate(self.grids):
            for plane, value in zip(grid, values, strict=True):
                np.add.at(plane, ((rows >> k) + 1, (columns >> k) + 1), value)

    def predict(self, positions: np.ndarray) -> np.ndarray:
        """int64 [n, 3]; 0 before anything is known."""
        rows, columns = np.divmod(positions, self.width)
        out = np.zeros((len(positions), 3), np.int64)
        open_ = np.arange(len(positions))
        for k, grid in enumerate(self.grids):
            if not len(open_):
                break
            r, c = (rows[open_] >> k) + 1, (columns[open_] >> k) + 1
            total: Any = sum(
                weight * grid[:, r + i - 1, c + j - 1]
                for i, line in enumerate(_KERNEL)
                for j, weight in enumerate(line)
            )
            enough = total[3] >= (_WEIGHT if k + 1 < len(self.grids) else 1)
            done = open_[enough]
            out[done] = (_PARTS * total[:3, enough] // total[3, enough]).T
            open_ = open_[~enough]
        return out


def _levels(count: int) -> list[np.ndarray]:
    """Numbers of the pixels of each level, coarsest first."""
    ends = [count]
    while ends[-1] > _LEAST_LEVEL * _RATIO:
        ends.append(ends[-1] // _RATIO)
    order = random_choice(count, count, 1)
    starts = [0, *reversed(ends[1:])]
    return [order[a:b] for a, b in zip(starts, reversed(ends), strict=True)] if count else []


def _coded(
    symbols: np.ndarray, predicted: np.ndarray, scale: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Symbols, centres and scale indices as the range coder takes them."""
    mu = torch.from_numpy(predicted << MU_SHIFT)
    return torch.from_numpy(np.ascontiguousarray(symbols)), mu, torch.full_like(mu, scale << ACTIVATION_BITS)


def _scale(error: np.ndarray) -> int:
    """The scale index nearest to the errors' deviation; a stream holds it, so rounding does no harm."""
    sigma = np.sqrt(np.mean(error**2)) if len(error) else SIGMA_MIN
    ratio = np.log(np.clip(sigma, SIGMA_MIN, SIGMA_MAX) / SIGMA_MIN) / np.log(SIGMA_MAX / SIGMA_MIN)
    return round(float(ratio) * (SCALES - 1))


def _quantised(pixels: np.ndarray, step: int) -> np.ndarray:
    """uint8 [n, 3] RGB to symbols int64 [n, 3]."""
    r, g, b = pixels.astype(np.int64).T
    co = r - b
    t = b + (co >> 1)
    cg = g - t
    y = t + (cg >> 1)
    return np.stack([(2 * v + s) // (2 * s) for v, s in ((y, step), (co, 2 * step), (cg, 2 * step))], 1)


def _dequantised(symbols: np.ndarray, step: int) -> np.ndarray:
    y, co, cg = (symbols * (step, 2 * step, 2 * step)).T
    t = y - (cg >> 1)
    g = cg + t
    b = t - (co >> 1)
    return np.clip(np.stack([b + co, g, b], 1), 0, 255).astype(np.uint8)
