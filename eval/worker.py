"""What runs in the processes of `eval.runner`: codecs by name, opened on first use, and in an encoder its last picture.

Torch is imported only where it is needed, so that the decoder of a classical codec starts at once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genic.lightning_modules.codec.contract import Codec, FileInfo, Image
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.registry import open_codec

if TYPE_CHECKING:
    from pathlib import Path

    from genic.eval.measures import Metrics
    from genic.eval.runner import Picture

_threads = 1
_codecs: dict[str, Codec] = {}
_picture: tuple[str, Image] | None = None


def start(environment: Mapping[str, str], gpu: int | None, threads: int) -> None:
    """Use the ``gpu``-th of the visible GPUs where there are any; comes before anything else."""
    global _threads
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.clear()  # that of the server which this process was forked from, perhaps long ago
    os.environ.update(environment)
    if gpu is not None:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible else str(gpu)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _threads = threads


def _end_with_parent() -> None:
    # Of a program that was killed nothing tells this process to stop waiting for work.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def listening(function: Callable, *arguments: object) -> tuple[Any, list[str]]:
    """What the function returns, and what was warned of on the way, for the main process to tell."""
    with warnings.catch_warnings(record=True) as caught:
        result = function(*arguments)
    return result, [str(warning.message) for warning in caught]


def unavailable(names: Sequence[str], mapped: bool, backbone: str) -> dict[str, str]:
    """Of measures those that cannot be had here, and why, a line each.

    Args:
        names: of `NETWORKS`, `RECOGNITION` and `DISTANCES`.
        mapped: regions have maps, and need no detectors.
        backbone: of distances, see `eval.distances.extractor`.
    """
    from genic.eval import distances, metrics
    from genic.eval.measures import DISTANCES, NETWORKS

    _limit_threads()
    reasons: dict[str, str | None] = {}
    for name in names:
        if name in NETWORKS:
            reasons[name] = metrics.unavailable(name)
        elif name in DISTANCES:
            reasons[name] = distances.unavailable(name, backbone)
        else:
            reasons[name] = _unrecognised(name, mapped)
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _unrecognised(name: str, mapped: bool) -> str | None:
    try:
        from genic.eval import regions
    except ToolError as error:
        return str(error)
    return regions.unavailable(name, mapped)


def encode(
    picture: Picture, codec: str, wanted: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[bytes, FileInfo, float | None]:
    """File, what it says of itself, and seconds, where a picture is coded; ``wanted`` is a quality or a target."""
    image = _original(picture)
    opened = _opened(codec)
    named: dict[str, Any] = {"name": picture.name} if opened.looks_up else {}
    begin = time.perf_counter()
    data = opened.encode(image, **wanted, **options, **named)
    seconds = None if opened.looks_up else time.perf_counter() - begin
    return data, opened.info(data), seconds


def decode(data: bytes, codec: str, options: Mapping[str, Any]) -> tuple[Image, float | None]:
    """Picture and seconds, where it is decoded."""
    opened = _opened(codec)
    begin = time.perf_counter()
    image = opened.decode(data, **options)
    return image, None if opened.looks_up else time.perf_counter() - begin


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


def embed(picture: Picture, backbone: str, side: int) -> np.ndarray:
    """Features [patches, d] of a picture, see `eval.distances`."""
    from genic.eval import distances

    _limit_threads()
    return distances.embed(distances.extractor(backbone), [picture.read()], side)


def _opened(name: str) -> Codec:
    codec = open_codec(name)  # weights are loaded anew only where their file has changed
    kept = _codecs.get(name)
    if codec.looks_up or (kept is not None and kept.weights_id == codec.weights_id):
        return codec if kept is None else kept
    _limit_threads()
    # First calls import, compile and allocate; that is not the codec's time.
    codec.decode(codec.encode(np.full((64, 64, 3), 128, np.uint8)))
    _codecs[name] = codec
    return codec


def _limit_threads() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(_threads)


def _original(picture: Picture) -> Image:
    global _picture
    if _picture is None or _picture[0] != picture.digest:
        _picture = picture.digest, picture.read()
    return _picture[1]
