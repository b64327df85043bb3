"""Distortion of one decoded picture against its original, both uint8: the same figures on every run.

Fidelity is computed in float64, networks' distances in float32 on the CPU, where sums do not change their order.

Averages over a data set are the harness's: the mean of these figures, each picture counted once. (PSNR
of the mean error of all pixels is another number.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from genic.eval.measures import NETWORKS, Metrics, ms_ssim_db
from genic.lightning_modules.codec.contract import Image, check_image
from genic.lightning_modules.codec.errors import ConfigError, GenicError, ImageError
from genic.losses import ssim as similarity
from genic.losses.perceptual import Lpips
from genic.losses.pretrained import torchvision_file


def measure(original: Image, decoded: Image, networks: Sequence[str] = ()) -> Metrics:
    """Figures of a pair of pictures, uint8 H×W×3; of `NETWORKS` those that are asked for.

    Raises:
        ImageError: not such pictures, or their sizes differ.
        ConfigError: no such network.
        ToolError, WeightsError: it is not available (see `unavailable`).
    """
    db = psnr_rgb(original, decoded)
    side = min(original.shape[:2])
    structure = 1.0 if side >= similarity.WINDOW else None
    multiscale = 1.0 if side >= similarity.MIN_SIDE else None
    if db < math.inf:  # Equal pictures have 1 exactly, however a machine rounds.
        x, y = planes(original), planes(decoded)
        with torch.no_grad():
            if structure is not None:
                structure = similarity.ssim(x, y, data_range=255).item()
            if multiscale is not None:
                multiscale = similarity.ms_ssim(x, y, data_range=255, floor=0).item()
    decibels = None if multiscale is None else ms_ssim_db(multiscale)
    distances = {name: _distance(name, original, decoded) for name in networks}
    return Metrics(db, structure, multiscale, decibels, **distances)


def unavailable(network: str) -> str | None:
    """Why one of `NETWORKS` cannot be used here, one line; None where it can.

    Raises:
        ConfigError: there is no such network.
    """
    if network not in NETWORKS:
        raise ConfigError(f"no measure {network!r}: there are {', '.join(NETWORKS)}")
    try:
        _network(network)
    except GenicError as error:
        return " ".join(str(error).split())
    return None


def available(*networks: str) -> list[str]:
    """Those of some `NETWORKS` that can be used here."""
    return [network for network in networks if unavailable(network) is None]


def psnr_rgb(original: Image, decoded: Image) -> float:
    """See `Metrics`."""
    check_image(original)
    check_image(decoded)
    if original.shape != decoded.shape:
        raise ImageError(
            f"the decoded picture is {decoded.shape[0]}×{decoded.shape[1]}, its original "
            f"{original.shape[0]}×{original.shape[1]}: compare pictures of one size"
        )
    error = original.astype(np.int32) - decoded
    # A sum of integers: the same on every machine.
    return psnr(int(np.sum(error * error, dtype=np.int64)) / error.size)


def psnr(mse: float) -> float:
    """Decibels of a mean squared error of values of 0 to 255."""
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def _distance(name: str, original: Image, decoded: Image) -> float | None:
    network, least = _network(name)
    if min(original.shape[:2]) < least:
        return None
    x, y = (planes(image).float() / 255 for image in (original, decoded))
    with torch.inference_mode():
        return max(0.0, network(x, y).item())  # DISTS of equal pictures is off by a rounding


@lru_cache(maxsize=len(NETWORKS))
def _network(name: str) -> tuple[Callable[..., Tensor], int]:
    """Distance of two pictures [1, 3, H, W] in [0, 1], and the shortest side it is defined for."""
    if name.startswith("lpips_"):
        lpips = Lpips(cast("Any", name.removeprefix("lpips_")))  # which checks it
        return lpips, lpips.min_side
    if name == "dists":
        torchvision_file("vgg16")  # in place and whole, before torchmetrics loads it
        from torchmetrics.functional.image.dists import DISTSNetwork

        return DISTSNetwork().eval(), 16
    raise ConfigError(f"no measure {name!r}: there are {', '.join(NETWORKS)}")


def lpips_alex(x: Tensor, y: Tensor, weight: Tensor) -> float | None:
    """LPIPS of [1, 3, H, W] in 0 to 255 weighted by a map [1, 1, H, W] (see `Lpips.forward`); None where too small."""
    network, least = _network("lpips_alex")
    return None if min(x.shape[2:]) < least else network(x.float() / 255, y.float() / 255, weight).item()


def planes(image: Image) -> Tensor:
    """uint8 H×W×3 to float64 [1, 3, H, W], 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float64))[None]
