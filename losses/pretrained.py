"""Networks trained by others: where their files are, and what they want of their inputs.

Files below ``$GENIC_DATA/weights`` come first, so that work needs no network; torchvision's trunks are otherwise
fetched once into torch's hub folder, and checked against the digest in their name.
"""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genic.lightning_modules.codec.errors import ConfigError, WeightsError

SHARED_WEIGHTS = "weights/mobilenetv2_100_imagenet.safetensors"
SHARED_INPUT = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "pad_type": "same"}
"""What these weights want of `losses.perceptual.FrozenFeatures`: inputs in [−1, 1], and TensorFlow's padding."""

_TRUNKS = {"alexnet": "AlexNet_Weights", "squeezenet1_1": "SqueezeNet1_1_Weights", "vgg16": "VGG16_Weights"}
_SHARED_TRUNK = "weights/{}_features_float16.safetensors"


def shared_file(name: str) -> Path | None:
    """The file ``name`` below the folder ``GENIC_DATA``, if it is there."""
    root = os.environ.get("GENIC_DATA")
    path = Path(root).expanduser() / name if root else None
    return path if path is not None and path.is_file() else None


def shared_weights() -> Path | None:
    """The file of the ImageNet classifier ``mobilenetv2_100``, through which several systems look."""
    return shared_file(SHARED_WEIGHTS)


def classifier_weights(which: str, otherwise: str) -> tuple[str | Path | None, dict[str, Any]]:
    """``weights`` and further arguments of `losses.perceptual.FrozenFeatures`.

    Args:
        which: ``random``; ``shared``, those of ``mobilenetv2_100`` below ``GENIC_DATA``; ``hub`` or a file.
        otherwise: what else can be done, should they not be there.

    Raises:
        WeightsError: there are no shared weights.
    """
    if which != "shared":
        return (None if which == "random" else which), {}
    path = shared_weights()
    if path is None:
        raise WeightsError(
            f"a classifier is needed: set GENIC_DATA to a folder with {SHARED_WEIGHTS}, or {otherwise}"
        )
    return path, SHARED_INPUT


def trunk_features(name: str) -> dict[str, Tensor]:
    """State dict of ``features`` of torchvision's ``alexnet``, ``squeezenet1_1`` or ``vgg16``, float32.

    A shared file is a float16 copy; on the pictures that come with LPIPS its distances equal float32's to three digits.

    Raises:
        ConfigError: another name.
        WeightsError: the weights are not at hand and cannot be fetched, or are damaged.
    """
    path = shared_file(_SHARED_TRUNK.format(name)) or torchvision_file(name)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "features."
    return {key.removeprefix(prefix): t.float() for key, t in state.items() if key.startswith(prefix)}


def has_trunk(name: str) -> bool:
    """Whether `trunk_features` needs no network."""
    return shared_file(_SHARED_TRUNK.format(name)) is not None or _hub_file(name)[1].is_file()


def torchvision_file(name: str) -> Path:
    """torchvision's own file of a trunk, in torch's hub folder; fetched if need be; raises as `trunk_features`."""
    url, path = _hub_file(name)
    digest = path.stem.rpartition("-")[2]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{path} is missing and cannot be fetched ({error}): fetch it once from {url}"
            ) from error
        finally:
            socket.setdefaulttimeout(patience)
    if not _sha256(path).startswith(digest):
        raise WeightsError(
            f"{path} is damaged (SHA-256 does not begin with {digest}): delete it and fetch {url} anew"
        )
    return path


def load_taef(encoder: nn.Module, decoder: nn.Module) -> None:
    """Fill TAEF2's networks (`lightning_modules.layers.taef`) from the shared files; layers that are not TAEF2's (a
    light decoder's end) keep their values.

    Raises:
        WeightsError: the files are not at hand.
    """
    from safetensors.torch import load_file

    for name, network in (("encoder", encoder), ("decoder", decoder)):
        path = shared_file(f"weights/taef2/{name}.safetensors")
        if path is None:
            raise WeightsError(
                f"the pretrained auto-encoder is missing: put {name}.safetensors of madebyollin's taef2 under "
                "$GENIC_DATA/weights/taef2, or start from weights of a later stage (train.initialise_from)"
            )
        theirs, own = load_file(path), network.state_dict()
        fitting = {k: t.float() for k, t in theirs.items() if k in own and own[k].shape == t.shape}
        network.load_state_dict(own | fitting)


def _hub_file(name: str) -> tuple[str, Path]:
    """Where torchvision has a trunk's weights, and where torch keeps them."""
    from torchvision import models

    if name not in _TRUNKS:
        raise ConfigError(f"there are the trunks {', '.join(_TRUNKS)}, not {name!r}")
    url = getattr(models, _TRUNKS[name]).IMAGENET1K_V1.url
    return url, Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
