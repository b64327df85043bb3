"""Distances between sets of pictures: Fréchet and kernel, on patches, in the feature space of a classifier.

Patches are HiFiC's (Mentzer et al. 2020): squares on a grid, and those of the grid shifted by half a square. ``fid``
and ``kid`` are the published measures, of squares of 256 pixels on Inception, which torchmetrics has from
torch-fidelity. ``frechet`` and ``kernel`` look through a named timm classifier, and only figures of one table compare;
their squares are of 128 pixels, so that the 24 pictures of Kodak make 936, more than the classifier has features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from genic.datamodules.images import ImageItem
from genic.eval.measures import DISTANCES
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError, GenicError, ToolError
from genic.lightning_modules.codec.files import atomic_file
from genic.losses.perceptual import FrozenFeatures
from genic.losses.pretrained import SHARED_INPUT, shared_weights

if TYPE_CHECKING:
    from genic.eval.runner import WorkerPairs

INCEPTION = "inception"
MIN_KERNEL = 100
"""Patches that a kernel distance needs: it is unbiased for any number, but below this mostly noise."""


def patches(image: Image, side: int) -> Iterator[Image]:
    """Squares of a grid, and those of the grid shifted by half a side."""
    height, width = image.shape[:2]
    for shift in (0, side // 2):
        for top in range(shift, height - side + 1, side):
            for left in range(shift, width - side + 1, side):
                yield image[top : top + side, left : left + side]


@torch.inference_mode()
def embed(
    backbone: Callable[[Tensor], Any], images: Iterable[Image], side: int, batch: int = 32
) -> np.ndarray:
    """float64 [N, features] of every patch: the last of the backbone's features, averaged over positions."""
    found: list[np.ndarray] = []
    waiting: list[Image] = []

    def flush() -> None:
        x = torch.from_numpy(np.stack(waiting)).permute(0, 3, 1, 2).float() / 255
        features: Tensor = backbone(x.contiguous(memory_format=torch.channels_last))[-1]
        found.append(features.mean((2, 3)).double().numpy())
        waiting.clear()

    for image in images:
        for patch in patches(image, side):
            waiting.append(patch)
            if len(waiting) == batch:
                flush()
    if waiting:
        flush()
    return np.concatenate(found) if found else np.zeros((0, 0))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ_a − μ_b‖² + Tr(Σ_a + Σ_b − 2·(Σ_a Σ_b)^½), Gaussians fitted to [N, d] and [M, d] (Heusel et al. 2017).

    Raises:
        ConfigError: not more samples than dimensions, so that a covariance is singular.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    fewest = min(len(a), len(b))
    if fewest <= a.shape[1]:
        raise ConfigError(
            f"{fewest} patches for {a.shape[1]} features: a Fréchet distance needs more patches"
        )
    return float(_filled(FrechetInceptionDistance(feature=_Given(a.shape[1])), a, b).compute())


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD under (x·y/d + 1)³ (Bińkowski et al. 2018); of all samples at once, no subsets.

    Raises:
        ConfigError: fewer than `MIN_KERNEL` samples, or not as many of both.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    if len(a) != len(b) or len(a) < MIN_KERNEL:
        raise ConfigError(
            f"{len(a)} and {len(b)} patches: a kernel distance needs at least {MIN_KERNEL} of each"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that features are kept in memory; they are already
        metric = KernelInceptionDistance(feature=_Given(a.shape[1]), subsets=1, subset_size=len(a))
    return float(_filled(metric, a, b).compute()[0])


def set_distances(
    originals: Sequence[ImageItem],
    decoded: Sequence[Path],
    measures: Sequence[str],
    backbone: str,
    workers: WorkerPairs,
    store: Path,
) -> tuple[dict[str, float], dict[str, str]]:
    """Distances of the decoded pictures of one point from their originals.

    Args:
        decoded: PNG files, in any order.
        measures: of `eval.measures.DISTANCES`.
        backbone: of ``frechet`` and ``kernel``, see `extractor`.
        workers: whose encoders compute the features.
        store: folder of features, by content of the picture, backbone and side of patches.

    Returns:
        Values by measure, and why the others are refused.
    """
    values, refused = {}, {}
    for measure in measures:
        name, side = _seen_through(measure, backbone)
        function = frechet if measure in ("frechet", "fid") else kernel_distance
        try:
            items = [ImageItem(path.name, str(path)) for path in decoded]
            a, b = (_features(part, name, side, workers, store) for part in (originals, items))
            values[measure] = function(a, b)
        except GenicError as error:
            refused[measure] = str(error)
    return values, refused


def described(items: Sequence[ImageItem], measures: Sequence[str], backbone: str) -> str:
    """What the measures are of: backbone, number and side of patches."""
    sizes = [item.read().shape[:2] for item in items]
    groups: dict[tuple[str, int], list[str]] = {}
    for measure in measures:
        groups.setdefault(_seen_through(measure, backbone), []).append(measure)
    parts = []
    for (name, side), those in groups.items():
        count = sum(len(list(patches(np.empty((*size, 0)), side))) for size in sizes)
        parts.append(f"{', '.join(those)}: {name}, {count} patches of {side}×{side}")
    return "; ".join(parts)


def unavailable(measure: str, backbone: str) -> str | None:
    """Why one of `eval.measures.DISTANCES` cannot be had here, one line; None where it can."""
    if measure not in DISTANCES:
        raise ConfigError(f"no measure {measure!r}: there are {', '.join(DISTANCES)}")
    try:
        extractor(_seen_through(measure, backbone)[0])
    except GenicError as error:
        return " ".join(str(error).split())
    return None


@lru_cache(maxsize=2)
def extractor(name: str) -> Callable[[Tensor], Any]:
    """[B, 3, side, side] in [0, 1] to a list whose last entry has the features [B, d, h, w].

    Args:
        name: a timm model, ``mobilenetv2_100`` with the shared weights where they are, others with timm's own; or
            ``inception``.

    Raises:
        ConfigError: timm has no such model.
        ToolError: a package is missing.
        WeightsError: the weights are not at hand.
    """
    if name == INCEPTION:
        return _inception()
    if name == "mobilenetv2_100" and (path := shared_weights()) is not None:
        return FrozenFeatures(name, path, [4], **SHARED_INPUT)
    return FrozenFeatures(name, "hub")


def _inception() -> Callable[[Tensor], Any]:
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        network = FrechetInceptionDistance(feature=2048).inception
    except ModuleNotFoundError:
        raise ToolError(
            "FID and KID need torch-fidelity, which is not installed: pip install torch-fidelity"
        ) from None
    except OSError as error:
        raise ToolError(
            f"Inception's weights cannot be fetched ({error}): run once with a network"
        ) from error
    return lambda x: [network((x * 255).round().to(torch.uint8))[:, :, None, None]]


def _seen_through(measure: str, backbone: str) -> tuple[str, int]:
    """The network of a measure, and the side of its patches."""
    return (INCEPTION, 256) if measure in ("fid", "kid") else (backbone, 128)


def _features(
    items: Sequence[ImageItem], name: str, side: int, workers: WorkerPairs, store: Path
) -> np.ndarray:
    from genic.eval import worker

    folder = store / "features" / f"{name.replace('/', '-')}-{side}"
    paths = [folder / f"{item.digest}.npy" for item in items]

    def do(call: Callable[..., Any], entry: tuple[ImageItem, Path]) -> None:
        item, path = entry
        found = call(0, worker.embed, item, name, side)
        with atomic_file(path) as file:
            np.save(file, found)

    workers.each([entry for entry in zip(items, paths, strict=True) if not entry[1].is_file()], do)
    found = [np.load(path) for path in paths]
    return np.concatenate([part for part in found if len(part)] or [np.zeros((0, 1))])


class _Given(nn.Module):
    """Stands where torchmetrics wants a network: what it is handed are features already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _filled(metric: Any, a: np.ndarray, b: np.ndarray) -> Any:
    """The metric with features of originals and of decoded pictures, float64."""
    metric.set_dtype(torch.float64)
    for features, real in ((a, True), (b, False)):
        metric.update(torch.from_numpy(features), real=real)
    return metric
