"""What runs in the processes of `eval.runner`: each has one codec, an encoder also its last picture.

Torch is loaded only where it is needed, so that the decoder of a classical codec starts at once.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from lightning_modules.codec.contract import Codec, Image, bits_per_pixel
from lightning_modules.registry import open_codec

if TYPE_CHECKING:
    from datamodules.images import ImageItem
    from eval.metrics import Metrics

_codec: Codec
_picture: tuple[str, Image] | None = None


def start(codec: str, gpu: int | None, threads: int) -> None:
    """Open the codec, on the ``gpu``-th of the visible GPUs where there are any."""
    global _codec
    if gpu is not None:
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[gpu] if visible else str(gpu)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _codec = open_codec(codec)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    # First calls import, compile and allocate; that is not the codec's time.
    _codec.decode(_codec.encode(np.full((64, 64, 3), 128, np.uint8)))


def encode(item: ImageItem, quality: float) -> tuple[bytes, float, float]:
    """File, bits per pixel and seconds."""
    image = _original(item)
    begin = time.perf_counter()
    data = _codec.encode(image, quality)
    return data, bits_per_pixel(data, image), time.perf_counter() - begin


def decode(data: bytes) -> tuple[Image, float]:
    """Picture and seconds."""
    begin = time.perf_counter()
    image = _codec.decode(data)
    return image, time.perf_counter() - begin


def measure(item: ImageItem, decoded: Image) -> Metrics:
    """Figures of a decoded picture."""
    from eval import metrics

    return metrics.measure(_original(item), decoded)


def _original(item: ImageItem) -> Image:
    global _picture
    if _picture is None or _picture[0] != item.path:
        _picture = item.path, item.read()
    return _picture[1]
