"""Label maps in cells, and heat maps: what to preserve.

In a file, and for G, both are one indexed picture: a cell's label where it is synthesised, and the number after the
last class where it is preserved. (What is preserved has ŵ; its labels would cost bytes for nothing. Agustsson et al.
give G the whole map.) A position of ŵ is preserved if all of its cells are: wanted ones and a
margin about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from genic.datamodules.batch import Batch
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel, ExtremeSemanticTraining
from genic.lightning_modules.extreme_semantic.networks import one_hot

_ABOUT = np.array([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]])
_WORTH = 400.0  # leaves 0.08 dB to the files with everything preserved on CamVid's val part


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


def position_means(error: np.ndarray, grid: tuple[int, ...], stride: int) -> np.ndarray:
    """An error H×W×3 averaged over the samples of each position of ŵ, float32 [h, w]; what lies beyond counts as 0."""
    sides = [(0, n * stride - side) for n, side in zip(grid, error.shape, strict=False)]
    whole = np.pad(error.mean(2), sides)
    return whole.reshape(grid[0], stride, grid[1], stride).mean((1, 3))


def margin(wanted: np.ndarray, harm: np.ndarray) -> np.ndarray:
    """The positions that a file preserves for the wanted ones' sake, bool [h, w].

    G paints a position from its neighbours, too: where those are synthesised, a wanted one suffers. A neighbour is
    preserved if the harm about it is worth its bytes.

    Args:
        wanted: bool [h, w]. harm: by how much the mean squared error of each wanted position (8-bit samples) grows when
            all others are synthesised; [h, w].
    """
    about = ndimage.convolve(np.where(wanted, harm, 0.0), _ABOUT, mode="constant")
    return (about >= _WORTH) & ~wanted


def merge(
    labels: np.ndarray, preserved: np.ndarray, heat: np.ndarray, classes: int, map_stride: int
) -> np.ndarray:
    """The indexed picture of a file.

    Args:
        labels: int H×W. preserved: bool H×W, wanted by the user; both padded.
        heat: bool [h, w], positions of ŵ that are preserved. map_stride: of the result's cells.

    Returns:
        uint8 [H/map_stride, W/map_stride].
    """
    # Preserved pixels in synthesised positions have no say in the position's label, where there are others.
    hot = one_hot(torch.from_numpy(labels.astype(np.int64))[None], classes)
    hot = hot * torch.from_numpy(1 - 0.999 * preserved.astype(np.float32))
    found = F.avg_pool2d(hot, map_stride).argmax(1)[0] if map_stride > 1 else hot.argmax(1)[0]
    indexed = found.numpy().astype(np.uint8)
    ratio = indexed.shape[0] // heat.shape[0]
    indexed[heat.repeat(ratio, 0).repeat(ratio, 1)] = classes
    return indexed


def random_heat(labels: Tensor, keep: float, boxes: float, generator: np.random.Generator) -> Tensor:
    """A heat map for training, bool [h, w], from the labels on ŵ's grid [h, w].

    With chance ``boxes`` one random box is preserved; else every instance (a connected region of one label) is, with
    chance ``keep``.
    """
    grid = labels.numpy()
    heat = np.zeros(grid.shape, bool)
    if generator.random() < boxes:
        (top, bottom), (left, right) = (np.sort(generator.integers(0, n + 1, 2)) for n in grid.shape)
        heat[top:bottom, left:right] = True
    else:
        for label in np.unique(grid):
            # Typed as the count alone, which it returns with an ``output``.
            regions, count = ndimage.label(grid == label)  # pyright: ignore[reportGeneralTypeIssues]
            chosen = np.flatnonzero(generator.random(count) < keep) + 1
            heat |= np.isin(regions, chosen)
    return torch.from_numpy(heat)


@dataclass(frozen=True)
class RandomMaps:
    """To be called by `PhotoDataModule` on training batches: ``prepared`` are the maps of `drawn`.

    Attributes:
        model, train: parts of the configuration.
        seed: of what is drawn, with the number of the batch's first sample.
    """

    model: ExtremeSemanticModel
    train: ExtremeSemanticTraining
    seed: int

    def __call__(self, batch: Batch, key: int) -> Batch:
        assert batch.semantic is not None, "`check_data` requires them"
        generator = np.random.default_rng([self.seed, key, 3])
        return batch._replace(prepared=self.drawn(batch.semantic, generator))

    def drawn(self, t_s: Tensor, generator: np.random.Generator) -> Tensor:
        """Maps of cells with random heat maps (SC), everything preserved in the other crops (GC).

        Args:
            t_s: labels, int64 [B, H, W], on the CPU.

        Returns:
            int64 [B, H/map_stride, W/map_stride], the number after the last class where preserved.
        """
        m, c, classes = self.model, self.train, len(self.model.classes)
        labels = cells(t_s, classes, m.map_stride)
        coarse = cells(t_s, classes, m.latent_stride)
        ratio = m.latent_stride // m.map_stride
        for k in range(len(labels)):
            preserved = torch.ones_like(coarse[k], dtype=torch.bool)
            if generator.random() < c.selective:
                preserved = random_heat(coarse[k], c.keep, c.boxes, generator)
            labels[k][preserved.repeat_interleave(ratio, 0).repeat_interleave(ratio, 1)] = classes
        return labels
