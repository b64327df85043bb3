"""Random scaling, cropping and flipping; the labels follow the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from genic.datamodules.batch import Sample

_SUPPORT = 2.0  # of the bicubic filter, in pixels of the coarser grid


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


def onto_label(window: Window, label: np.ndarray, rng: np.random.Generator) -> Window:
    """The window moved so that a pixel of the map, drawn from those that are not 0, lies anywhere in it; where all are
    0, the window as it is."""
    places = np.flatnonzero(label)
    if len(places) == 0:
        return window
    place = divmod(int(rng.choice(places)), label.shape[1])
    sizes = (window.height, window.width)
    corner = [
        min(max(0, int((at + 0.5) * scaled / size - u * (window.side - 1))), scaled - window.side)
        for at, size, scaled, u in zip(place, label.shape, sizes, rng.random(2), strict=True)
    ]
    return replace(window, top=corner[0], left=corner[1])


def centre_window(height: int, width: int, side: int) -> Window:
    """The central crop at the picture's own size; a picture smaller than the crop is enlarged to fit it."""
    factor = max(1.0, side / min(height, width))
    h, w = max(side, round(height * factor)), max(side, round(width * factor))
    return Window(h, w, (h - side) // 2, (w - side) // 2, side)


def cut(sample: Sample, window: Window) -> Sample:
    """Scale and crop a whole picture (bicubic with antialiasing), its maps and planes (nearest).

    Equal to scaling everything and cropping, but touches only pixels that the crop depends on. JPEG's cheap
    decoding at half size is not used: it gives another picture than the bicubic filter.
    """
    maps = (None if m is None else _cut_map(m, window) for m in sample[1:])
    return Sample(_cut_image(sample.image, window), *maps)


def _cut_image(image: np.ndarray, window: Window) -> np.ndarray:
    top, bottom, y0, y1 = _span(image.shape[0], window.height, window.top, window.side)
    left, right, x0, x1 = _span(image.shape[1], window.width, window.left, window.side)
    piece = np.ascontiguousarray(image[top:bottom, left:right])
    if image.shape[:2] == (window.height, window.width):
        out = piece[int(y0) : int(y0) + window.side, int(x0) : int(x0) + window.side]
    else:
        picture, size = Image.fromarray(piece), (window.side, window.side)
        out = np.asarray(picture.resize(size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1)))
    return np.ascontiguousarray(out[:, ::-1] if window.mirror else out)


def _cut_map(label: np.ndarray, window: Window) -> np.ndarray:
    rows = _nearest(label.shape[0], window.height, window.top, window.side)
    columns = _nearest(label.shape[1], window.width, window.left, window.side)
    return label[rows[:, None], columns[::-1] if window.mirror else columns]


def _nearest(size: int, scaled: int, start: int, side: int) -> np.ndarray:
    """Source pixels of the crop along one axis: floor((k + ½) · size / scaled), in integers."""
    return (2 * np.arange(start, start + side) + 1) * size // (2 * scaled)


def _span(size: int, scaled: int, start: int, side: int) -> tuple[int, int, float, float]:
    """Source pixels [first, last) that the crop needs along one axis, and the crop's ends within them."""
    step = size / scaled
    begin, end = start * step, (start + side) * step
    margin = _SUPPORT * max(step, 1.0) + 1
    first, last = max(0, math.floor(begin - margin)), min(size, math.ceil(end + margin))
    return first, last, begin - first, min(end - first, last - first)
