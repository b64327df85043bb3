"""Measuring a codec on a data set, each picture and quality exactly once.

::

            ┌ encoder: reads the picture, encode ──bytes──> decoder ┐
    lane i ─┤                                                       ├─ × N
            └          measure <──── uint8 H×W×3 ──── decode        ┘

A lane is a pair of processes on one device. The decoder is handed bytes and nothing else: it never sees a
picture before it has decoded it. Lanes take pictures off one queue, so none is measured twice or padded
in, and what is measured depends neither on the number of lanes nor on which lane took the picture. For
that, the number of threads a process is a setting, not the machine's cores divided by the lanes.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack

import torch

from datamodules.images import ImageItem
from eval import worker
from eval.metrics import Metrics
from eval.schema import ImageResult, Means, Point
from lightning_modules.codec.container import Container
from lightning_modules.codec.errors import ConfigError, ToolError


def evaluate(
    codec: str,
    items: Sequence[ImageItem],
    qualities: Sequence[float],
    *,
    devices: int = 1,
    threads: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Point]:
    """Encode, decode and measure every picture at every quality.

    Args:
        codec: for `open_codec`; its weights must be found in other processes, too.
        items: the pictures; at least one.
        qualities: the codec's own.
        devices: lanes; with GPUs, lane i uses the i-th, modulo their number.
        threads: of each process.
        advance: called after each measurement, from several threads.

    Returns:
        One point a quality, in the order of ``qualities``, its pictures in the order of ``items``.

    Raises:
        ConfigError: nothing to measure, or no such codec or quality.
        GenicError: what the codec raised.
        ToolError: a process died.
    """
    if not items or not qualities or devices < 1 or threads < 1:
        raise ConfigError("at least one picture, quality, device and thread are needed")
    work: queue.SimpleQueue[ImageItem] = queue.SimpleQueue()
    for item in items:
        work.put(item)
    results: dict[tuple[str, float], ImageResult] = {}
    gpus = torch.cuda.device_count()
    with ThreadPoolExecutor(devices) as lanes:
        running = [
            lanes.submit(_lane, codec, work, qualities, results, i % gpus if gpus else None, threads, advance)
            for i in range(min(devices, len(items)))
        ]
        try:
            for lane in running:
                lane.result()
        except BaseException:
            _drain(work)
            raise
    points = [[results[item.name, quality] for item in items] for quality in qualities]
    return [
        Point(quality, Means.of(images), images) for quality, images in zip(qualities, points, strict=True)
    ]


def _lane(
    codec: str,
    work: queue.SimpleQueue[ImageItem],
    qualities: Sequence[float],
    results: dict[tuple[str, float], ImageResult],
    gpu: int | None,
    threads: int,
    advance: Callable[[], None],
) -> None:
    """Measure pictures off the queue until it is empty."""
    with ExitStack() as stack:
        encoder, decoder = (stack.enter_context(_process()) for _ in range(2))
        try:
            for started in [
                process.submit(worker.start, codec, gpu, threads) for process in (encoder, decoder)
            ]:
                started.result()
            while True:
                try:
                    item = work.get_nowait()
                except queue.Empty:
                    return
                for quality in qualities:
                    results[item.name, quality] = _measure_one(encoder, decoder, item, quality)
                    advance()
        except BrokenProcessPool as error:
            _drain(work)
            raise ToolError(
                f"a process of {codec} died, perhaps for lack of memory: try fewer devices"
            ) from error
        except BaseException:
            _drain(work)
            raise


def _measure_one(encoder: Executor, decoder: Executor, item: ImageItem, quality: float) -> ImageResult:
    data, bpp, encode_seconds = encoder.submit(worker.encode, item, quality).result()
    decoded, decode_seconds = decoder.submit(worker.decode, data).result()
    metrics: Metrics = encoder.submit(worker.measure, item, decoded).result()
    ledger = Container.from_bytes(data).ledger()
    return ImageResult(
        name=item.name,
        bytes=len(data),
        bpp=bpp,
        ledger=ledger,
        **metrics._asdict(),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _drain(work: queue.SimpleQueue[ImageItem]) -> None:
    while not work.empty():
        try:
            work.get_nowait()
        except queue.Empty:
            return
