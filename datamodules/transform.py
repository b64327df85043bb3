"""Random scaling, cropping and flipping; the labels follow the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from datamodules.batch import Sample

_SUPPORT = {Image.Resampling.BICUBIC: 2.0, Image.Resampling.NEAREST: 0.5}


@dataclass(frozen=True)
class Window:
    """A square crop of a scaled picture.

    Attributes:
        height, width: size of the scaled picture.
        top, left: corner of the crop in the scaled picture.
        side: of the crop.
        mirror: left and right are exchanged.
    """

    height: int
    width: int
    top: int
    left: int
    side: int
    mirror: bool = False


def random_window(
    height: int, width: int, side: int, scale: tuple[float, float], flip: bool, rng: np.random.Generator
) -> Window:
    """Draw a training window.

    The factor is uniform in ``scale`` (selective detail decoding gives the range, 0.5 to 2.0, and not the
    distribution) and raised where the crop would not fit. Four numbers are drawn whatever the arguments.
    """
    u = rng.random(4)
    factor = max(scale[0] + (scale[1] - scale[0]) * u[0], side / min(height, width))
    h, w = max(side, round(height * factor)), max(side, round(width * factor))
    return Window(h, w, int(u[1] * (h - side + 1)), int(u[2] * (w - side + 1)), side, flip and u[3] < 0.5)


def centre_window(height: int, width: int, side: int) -> Window:
    """The central crop at the picture's own size; a picture smaller than the crop is enlarged to fit it."""
    factor = max(1.0, side / min(height, width))
    h, w = max(side, round(height * factor)), max(side, round(width * factor))
    return Window(h, w, (h - side) // 2, (w - side) // 2, side)


def cut(sample: Sample, window: Window) -> Sample:
    """Scale and crop a whole picture (bicubic with antialiasing) and its maps (nearest)."""
    maps = (
        None if m is None else _cut(m, window, Image.Resampling.NEAREST)
        for m in (sample.detail, sample.semantic)
    )
    return Sample(_cut(sample.image, window, Image.Resampling.BICUBIC), *maps)


def _cut(array: np.ndarray, window: Window, method: Image.Resampling) -> np.ndarray:
    """Equal to scaling all of ``array`` and cropping, but touches only pixels that the crop depends on."""
    height, width = array.shape[:2]
    top, bottom, y0, y1 = _span(height, window.height, window.top, window.side, _SUPPORT[method])
    left, right, x0, x1 = _span(width, window.width, window.left, window.side, _SUPPORT[method])
    piece = array[top:bottom, left:right]
    if (height, width) == (window.height, window.width):
        out = piece[int(y0) : int(y0) + window.side, int(x0) : int(x0) + window.side]
    else:
        picture = Image.fromarray(np.ascontiguousarray(piece))
        out = np.asarray(picture.resize((window.side, window.side), method, box=(x0, y0, x1, y1)))
    return np.ascontiguousarray(out[:, ::-1] if window.mirror else out)


def _span(size: int, scaled: int, start: int, side: int, support: float) -> tuple[int, int, float, float]:
    """Source pixels [first, last) that the crop needs along one axis, and the crop's ends within them."""
    step = size / scaled
    begin, end = start * step, (start + side) * step
    margin = support * max(step, 1.0) + 1
    first, last = max(0, math.floor(begin - margin)), min(size, math.ceil(end + margin))
    return first, last, begin - first, min(end - first, last - first)
