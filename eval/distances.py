"""Distances between sets of pictures: Fréchet and kernel, on patches, in the feature space of a timm classifier.

Not comparable with published FID and KID, which use Inception: only figures of one table are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.contract import Image
from losses.perceptual import FrozenFeatures


def patches(image: Image, side: int) -> Iterator[Image]:
    """Squares of a grid, and those of the grid shifted by half a side (as HiFiC measures, Mentzer et al. 2020)."""
    height, width = image.shape[:2]
    for shift in (0, side // 2):
        for top in range(shift, height - side + 1, side):
            for left in range(shift, width - side + 1, side):
                yield image[top : top + side, left : left + side]


@torch.inference_mode()
def embed(backbone: FrozenFeatures, images: Iterable[Image], side: int, batch: int = 32) -> np.ndarray:
    """float64 [N, features]: the last of the backbone's features of every patch, averaged over positions."""
    found, waiting = [], []

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
    return np.concatenate(found)


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ_a − μ_b‖² + Tr(Σ_a + Σ_b − 2·(Σ_a Σ_b)^½), Gaussians fitted to [N, d] and [M, d] (Heusel et al. 2017)."""
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of (Σ_a Σ_b)^½ is that of the symmetric (Σ_a^½ Σ_b Σ_a^½)^½.
    values, vectors = np.linalg.eigh(sigma_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root).clip(0)).sum()
    mean = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(mean + np.trace(sigma_a) + np.trace(sigma_b) - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared MMD under (x·y/d + 1)³ (Bińkowski et al. 2018); of all samples at once, no subsets."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    within_a, within_b = kernel(a, a), kernel(b, b)
    same = (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
    same += (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
    return float(same - 2 * kernel(a, b).mean())
