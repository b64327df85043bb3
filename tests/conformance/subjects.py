"""What is coded: the networks of the `small` preset, and pictures of Kodak size."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.weights import as_stored, find_weights, load_weights
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.entropy.hyperprior import EntropyEstimator
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from genic.lightning_modules.selective_detail.config import SelectiveDetailModel
from genic.lightning_modules.selective_detail.system import System
from tests.helpers import SHARED

KODAK = sorted((SHARED / "kodak").glob("kodim*.png"))
needs_kodak = pytest.mark.skipif(len(KODAK) < 24, reason="the 24 Kodak pictures are not under GENIC_DATA")

NANO = SelectiveDetailModel(
    latents=8,
    E=[3, 4, 8, 8, 16],
    E_blocks=[0, 0, 0, 1],
    G_m=[16, 8, 8, 4, 3],
    G_m_blocks=[1, 0, 0, 0],
    G_s=[16, 8, 8, 4, 4],
    G_s_blocks=[1, 0, 0, 0],
    hyper=4,
    hyper_blocks=0,
    psi=16,
    context=16,
    heads=1,
    radius=2,
    levels=2,
)


class Latents(NamedTuple):
    """Symbols of one picture as its file carries them: ẑ [symbols, H, W], ẑ_h [hyper, ⌈H/4⌉, ⌈W/4⌉], rate level."""

    z_hat: Tensor
    z_h_hat: Tensor
    level: float


@lru_cache(maxsize=1)
def small() -> tuple[EntropyEstimator, SelectiveDetailCodec]:
    """The float32 network and the codec of the shipped weights; where there are none, of random weights."""
    try:
        tensors, metadata = load_weights(find_weights("selective_detail", "small"))
    except WeightsError:
        pytest.importorskip("omegaconf", reason="without shipped weights the preset has to be read")
        from genic.experiments.config import load_config

        tensors, metadata = random_weights(load_config("selective_detail", ["preset=small"]).model)
    return estimator(tensors, metadata), SelectiveDetailCodec(tensors, metadata)


def estimator(tensors: dict[str, Tensor], metadata: dict[str, str]) -> EntropyEstimator:
    """The float32 network of a weights file."""
    system = System(SelectiveDetailModel(**json.loads(metadata["config"])))
    system.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("gaussian_tables.")})
    return system.H.eval().requires_grad_(False)


def random_weights(config: SelectiveDetailModel, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of an untrained codec that predicts varied means and scales."""
    torch.manual_seed(seed)
    system = System(config)
    with torch.no_grad():
        for parameter in system.H.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        out: nn.Module = system.H.context.out
        out.weight *= 8
        out.bias[config.latents :] += torch.linspace(16, 48, config.latents)
    metadata = {"paper": "selective_detail", "config": json.dumps(dataclasses.asdict(config))}
    return as_stored(system.state_dict() | build_tables().state()), metadata


def pictures(count: int) -> list[np.ndarray]:
    """``count`` Kodak pictures, of both orientations; without them photographs that ship with scikit-learn, continued
    by reflection to the same size."""
    if KODAK:
        # The first portrait pictures are 4 and 9; a few pictures shall hold both orientations.
        return [np.array(Image.open(path)) for path in KODAK[2 : 2 + count] + KODAK[: max(0, count - 22)]]
    photographs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    padded = [np.pad(p, ((0, 85), (0, 128), (0, 0)), mode="reflect") for p in photographs]
    return [np.roll(padded[k % 2], 32 * k, axis=1) for k in range(count)]


def latents(count: int) -> list[Latents]:
    """Symbols of ``count`` pictures, at the codec's rate levels in turn."""
    codec = small()[1]
    levels = codec.qualities
    return [Latents(*codec.analyse(p, levels[k % len(levels)])) for k, p in enumerate(pictures(count))]
