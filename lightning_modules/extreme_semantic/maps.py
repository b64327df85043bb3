"""Label maps in cells, and heat maps: what to preserve.

In a file, and for G, both are one indexed picture: a cell's label where it is synthesised, and the number after the
last class where it is preserved. (What is preserved has ŵ; its labels would cost bytes for nothing. Agustsson et al.
give G the whole map.) A position of ŵ is preserved if all of its cells are; which are, `with_margin` says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from lightning_modules.codec.errors import ConfigError
from lightning_modules.extreme_semantic.networks import one_hot

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.uint8)


def cells(labels: Tensor, classes: int, stride: int) -> Tensor:
    """The commonest label of each cell: int64 [B, H, W], sides multiples of ``stride``, -> [B, H/stride, W/stride]."""
    labels = labels.clamp(max=classes - 1)
    return labels if stride == 1 else F.avg_pool2d(one_hot(labels, classes), stride).argmax(1)


def heat_of(labels: Tensor, classes: int, ratio: int) -> Tensor:
    """The heat map on ŵ's grid, bool [B, h, w], of a map of cells [B, ratio·h, ratio·w]."""
    return F.max_pool2d((labels != classes).float()[:, None], ratio)[:, 0] == 0


def class_numbers(names: str | Sequence[str], classes: Sequence[str]) -> list[int]:
    """Numbers of classes given as ``"car,pedestrian"`` or as a list; ConfigError for a name that is none."""
    names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    names = [n for n in names if n]
    unknown = [n for n in names if n not in classes]
    if unknown:
        raise ConfigError(f"no class {', '.join(unknown)}: there are {', '.join(classes)}")
    return [list(classes).index(n) for n in names]


def wanted_positions(preserved: np.ndarray, stride: int) -> np.ndarray:
    """Positions of ŵ of which half of the pixels or more are wanted, so that a third of a picture costs a third of its
    latents; bool H×W, sides multiples of ``stride``, -> [H/stride, W/stride]."""
    wanted = torch.from_numpy(preserved.astype(np.float32))[None]
    return (F.avg_pool2d(wanted, stride)[0] >= 0.5).numpy()


def with_margin(heat: np.ndarray) -> np.ndarray:
    """The positions [h, w] that a file preserves for the wanted ones' sake, these included.

    G paints a position from its neighbours, too: where they are synthesised, a wanted one suffers. Those with at least
    two wanted among their four neighbours serve the most for their bytes, and leave a smoother map to code.
    """
    return heat | (ndimage.convolve(heat.astype(np.uint8), _CROSS, mode="constant") >= 2)


def merge(
    labels: np.ndarray, preserved: np.ndarray, classes: int, map_stride: int, stride: int
) -> np.ndarray:
    """The indexed picture of a file.

    Args:
        labels: int H×W. preserved: bool H×W, wanted by the user; both padded to multiples of ``stride``.
        map_stride: of the result's cells. stride: of ŵ, of which `with_margin` of `wanted_positions` are preserved.

    Returns:
        uint8 [H/map_stride, W/map_stride].
    """
    wanted = torch.from_numpy(preserved.astype(np.float32))[None, None]
    heat = torch.from_numpy(with_margin(wanted_positions(preserved, stride)))
    # Preserved pixels in synthesised positions have no say in the position's label, where there are others.
    hot = one_hot(torch.from_numpy(labels.astype(np.int64))[None], classes) * (1 - 0.999 * wanted)
    found = F.avg_pool2d(hot, map_stride).argmax(1)[0] if map_stride > 1 else hot.argmax(1)[0]
    ratio = stride // map_stride
    found[heat.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)] = classes
    return found.numpy().astype(np.uint8)


def random_heat(labels: Tensor, keep: float, boxes: float, generator: np.random.Generator) -> Tensor:
    """A heat map for training, bool [h, w], from the labels on ŵ's grid [h, w].

    With chance ``boxes`` one random box is preserved; else every instance (a connected region of one label) is, with
    chance ``keep``.
    """
    grid = labels.cpu().numpy()
    heat = np.zeros(grid.shape, bool)
    if generator.random() < boxes:
        (top, bottom), (left, right) = (np.sort(generator.integers(0, n + 1, 2)) for n in grid.shape)
        heat[top:bottom, left:right] = True
    else:
        for label in np.unique(grid):
            regions, count = ndimage.label(grid == label)
            chosen = np.flatnonzero(generator.random(count) < keep) + 1
            heat |= np.isin(regions, chosen)
    return torch.from_numpy(heat).to(labels.device)
