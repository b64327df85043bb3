"""What runs in the processes of `eval.runner`: codecs by name, opened on first use, and in an encoder its last picture.

Torch is loaded only where it is needed, so that the decoder of a classical codec starts at once.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genic.lightning_modules.codec.contract import Codec, Image, bits_per_pixel
from genic.lightning_modules.registry import open_codec

if TYPE_CHECKING:
    from pathlib import Path

    from genic.eval.measures import Metrics
    from genic.eval.runner import Picture

_threads = 1
_warm: dict[str, bytes] = {}
_picture: tuple[str, Image] | None = None


def start(gpu: int | None, threads: int) -> None:
    """Use the ``gpu``-th of the visible GPUs where there are any; comes before anything else."""
    global _threads
    if gpu is not None:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible else str(gpu)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _threads = threads


def listening(function: Callable, *arguments: object) -> tuple[Any, list[str]]:
    """What the function returns, and what was warned of on the way, for the main process to tell."""
    with warnings.catch_warnings(record=True) as caught:
        result = function(*arguments)
    return result, [str(warning.message) for warning in caught]


def encode(
    picture: Picture, codec: str, wanted: Mapping[str, float], options: Mapping[str, object]
) -> tuple[bytes, float, float]:
    """File, bits per pixel and seconds; ``wanted`` is a quality or a target."""
    image = _original(picture)
    opened = _opened(codec)
    begin = time.perf_counter()
    data = opened.encode(image, **wanted, **options)
    return data, bits_per_pixel(data, image), time.perf_counter() - begin


def decode(data: bytes, codec: str) -> tuple[Image, float]:
    """Picture and seconds."""
    opened = _opened(codec)
    begin = time.perf_counter()
    image = opened.decode(data)
    return image, time.perf_counter() - begin


def measure(picture: Picture, decoded: Image, names: Sequence[str], label: Path | None) -> Metrics:
    """Figures of a decoded picture: of `NETWORKS` and `RECOGNITION` those asked for; ``label`` is a region's map."""
    from genic.eval import metrics
    from genic.eval.measures import NETWORKS

    _limit_threads()
    original = _original(picture)
    found = metrics.measure(original, decoded, [name for name in names if name in NETWORKS])
    for name in names:
        if name not in NETWORKS:
            from genic.eval.regions import recognised

            found = found._replace(**recognised(name, original, decoded, label))
    return found


def embed(picture: Picture, backbone: str) -> np.ndarray:
    """Features [patches, d] of a picture, see `eval.distances`."""
    from genic.eval import distances

    _limit_threads()
    return distances.embed(distances.extractor(backbone), [picture.read()])


def _opened(name: str) -> Codec:
    codec = open_codec(name)  # weights are loaded anew only where their file has changed
    if _warm.get(name) != codec.weights_id:
        _limit_threads()
        # First calls import, compile and allocate; that is not the codec's time.
        codec.decode(codec.encode(np.full((64, 64, 3), 128, np.uint8)))
        _warm[name] = codec.weights_id
    return codec


def _limit_threads() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(_threads)


def _original(picture: Picture) -> Image:
    global _picture
    if _picture is None or _picture[0] != picture.digest:
        _picture = picture.digest, picture.read()
    return _picture[1]
