"""Measuring files: every program that measures does it through `measure_files`.

::

    from genic.eval.runner import Task, WorkerPairs, measure_files

    tasks = [Task(item, "hevc", quality=30) for item in items]
    tasks += [Task(item, "gdae_sprc", target_bytes=5000, options={"effort": 2}) for item in items]
    with WorkerPairs(2) as workers:
        results = measure_files(tasks, workers, store=Path("results/measured"))

            ┌ encoder: reads the picture, encode ──bytes──> decoder ┐
    pair i ─┤                                                       ├─ × N
            └          measure <──── uint8 H×W×3 ──── decode        ┘

A pair of processes works on one device. The decoder is handed bytes and the codec's name and nothing else: it never
sees a picture before it has decoded it. Pairs take tasks off one queue, so none is measured twice or padded in, and
what is measured depends neither on the number of pairs nor on which one took the task. For that, the number of threads
a process is a setting, not the machine's cores divided by the pairs.

Each measurement is written to the store as it comes, under a hash of all that it depends on: the picture's content,
the codec, its code, its weights' identity and coding options, the task's options, the libraries' versions, and, for
the times, machine and threads. A command that was killed goes on where it was; asked again, it only reads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import queue
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass as checked

from genic.datamodules.images import ImageItem, write_png
from genic.eval import worker
from genic.eval.provenance import code_digest, gpus, machine, versions
from genic.eval.schema import SCHEMA, STRICT, CodecResult, ImageResult, Means, Point, Provenance
from genic.lightning_modules.codec.container import NO_WEIGHTS
from genic.lightning_modules.codec.contract import Codec, Image
from genic.lightning_modules.codec.errors import ConfigError, DataError, GenicError, ToolError
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.registry import open_codec


@dataclass(frozen=True)
class Loaded:
    """A picture in memory, such as a crop; use an `ImageItem` for a whole file."""

    name: str
    image: Image

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(repr(self.image.shape).encode() + self.image.tobytes()).hexdigest()

    def read(self) -> Image:
        return self.image


Picture = ImageItem | Loaded


@dataclass(frozen=True)
class Task:
    """One file to be made, decoded and measured.

    Attributes:
        item: the picture.
        codec: for `open_codec`; its weights must be found in other processes, too.
        quality, target_bytes, target_bpp: at most one, as `Codec.encode` takes them; the codec's default without.
        options: more of `Codec.encode`: numbers, strings, arrays, and lists, tuples and mappings of such.
        decoding: options of `Codec.decode`.
    """

    item: Picture
    codec: str
    quality: float | None = None
    target_bytes: int | None = None
    target_bpp: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    decoding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def wanted(self) -> dict[str, float]:
        """Of quality and targets what is given."""
        values = {name: getattr(self, name) for name in ("quality", "target_bytes", "target_bpp")}
        return {name: value for name, value in values.items() if value is not None}

    def saved(self, folder: Path) -> Path:
        """Where `measure_files` keeps the decoded picture, PNG; the file lies beside it as ``.gnc``."""
        words = [f"{name.removeprefix('target_')}={value:g}" for name, value in self.wanted.items()]
        words += [_hash(_canonical(options))[:8] for options in (self.options, self.decoding) if options]
        codec, label, name = (
            re.sub(r"[^\w.=-]+", "-", text)
            for text in (self.codec, "-".join(words) or "default", self.item.name)
        )
        return folder / codec / label / f"{name.rpartition('.')[0] or name}.png"


@checked(config=STRICT)
class _Stored:
    """A measurement as the store has it: with which networks, and what was found."""

    networks: dict[str, str]
    result: ImageResult


_STORED = TypeAdapter(_Stored)


class WorkerPairs:
    """Pairs of processes, one to encode and measure, one to decode; started on first use, ended with the block.

    Args:
        count: pairs; with GPUs, pair i uses the i-th, modulo their number.
        threads: of each process.
    """

    def __init__(self, count: int = 1, threads: int = 1) -> None:
        if count < 1 or threads < 1:
            raise ConfigError(f"{count} worker pairs of {threads} threads: at least one of each is needed")
        self.count, self.threads = count, threads
        self._pairs: dict[tuple[int, int], ProcessPoolExecutor] = {}

    def __enter__(self) -> WorkerPairs:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._pairs.values():
            process.shutdown()

    def each(self, tasks: Iterable[Any], do: Callable[[_Call, Any], None]) -> None:
        """``do(call, task)`` for every task, on whichever pair is free; the first error ends it, and is raised.

        ``call(0 or 1, function, …)`` runs a function in the pair's encoder or decoder, and warns here of what it did
        there.
        """
        work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        count = 0
        for count, task in enumerate(tasks, 1):  # noqa: B007
            work.put(task)
        with ThreadPoolExecutor(self.count) as threads:
            running = [threads.submit(self._serve, k, work, do) for k in range(min(self.count, count))]
            try:
                for thread in running:
                    thread.result()
            finally:
                _drain(work)

    def _serve(self, k: int, work: queue.SimpleQueue[Any], do: Callable[[_Call, Any], None]) -> None:
        def call(which: int, function: Callable, *arguments: object) -> Any:
            result, warned = self._one(k, which).submit(worker.listening, function, *arguments).result()
            for message in warned:
                warnings.warn(message, stacklevel=2)
            return result

        try:
            while True:
                try:
                    task = work.get_nowait()
                except queue.Empty:
                    return
                do(call, task)
        except BrokenProcessPool as error:
            _drain(work)
            for which in (0, 1):
                self._pairs.pop((k, which), None)
            raise ToolError("a worker process died, perhaps for lack of memory: try fewer devices") from error
        except BaseException:
            _drain(work)
            raise

    def _one(self, k: int, which: int) -> ProcessPoolExecutor:
        if (k, which) not in self._pairs:
            self._pairs[k, which] = _process(k % gpus() if gpus() else None, self.threads)
        return self._pairs[k, which]


PRELOADED = ["torch"]
"""Packages that are imported once for all processes; none of genic's own, which may lie elsewhere there."""

_Call = Callable[..., Any]
_starting = threading.Lock()


def _process(gpu: int | None, threads: int) -> ProcessPoolExecutor:
    """A process that has imported `eval.worker` and nothing of the program that started it, which may be heavy."""
    # Elsewhere what a package's import has started need not survive a fork.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    context.set_forkserver_preload(PRELOADED)
    executor = ProcessPoolExecutor(1, context)
    with _starting:
        program, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            executor.submit(worker.start, dict(os.environ), gpu, threads)
        finally:
            sys.modules["__main__"] = program
    return executor


@overload
def measure_files(
    tasks: Sequence[Task],
    workers: WorkerPairs | None = None,
    *,
    networks: Sequence[str] = (),
    regions: Path | None = None,
    store: Path | None = None,
    save_decoded: Path | None = None,
    on_error: None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[ImageResult]: ...


@overload
def measure_files(
    tasks: Sequence[Task],
    workers: WorkerPairs | None = None,
    *,
    networks: Sequence[str] = (),
    regions: Path | None = None,
    store: Path | None = None,
    save_decoded: Path | None = None,
    on_error: Callable[[Task, GenicError], None] | None,
    advance: Callable[[], None] = lambda: None,
) -> list[ImageResult | None]: ...


def measure_files(
    tasks: Sequence[Task],
    workers: WorkerPairs | None = None,
    *,
    networks: Sequence[str] = (),
    regions: Path | None = None,
    store: Path | None = None,
    save_decoded: Path | None = None,
    on_error: Callable[[Task, GenicError], None] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[ImageResult] | list[ImageResult | None]:
    """Encode, decode in another process, and measure: every task exactly once.

    Args:
        tasks: of any codecs; those of one picture are best together, since it is read once then.
        workers: processes to use; by default one pair for this call.
        networks: of `eval.measures.NETWORKS` and `RECOGNITION` those wanted, each available.
        regions: folder of regions' maps, see `label_file`; by default the annotator's are used.
        store: folder of measurements, read and written; None to measure anew and keep nothing.
        save_decoded: folder for files and decoded pictures, see `Task.saved`.
        on_error: takes what a codec or a picture raised (`TargetError` where a budget cannot be met); the others are
            measured nevertheless. By default the first error ends all.
        advance: called after each task, from several threads.

    Returns:
        A result a task, in their order; None only where ``on_error`` had it.

    Raises:
        ConfigError: no such codec, quality, option or network.
        GenicError: what a codec raised.
        ToolError: a process died.
    """
    results: dict[int, ImageResult] = {}
    todo = []
    for k, task in enumerate(tasks):
        path = None if store is None else _record(store, task, 1 if workers is None else workers.threads)
        label = None if regions is None else label_file(regions, task.item.name)
        asked = {name: _of_label(label) if name == "regions" else "" for name in networks}
        found = None if path is None else _stored(path, task, asked)
        if found is None or not (save_decoded is None or task.saved(save_decoded).is_file()):
            todo.append((k, task, path, label, asked))
        else:
            results[k] = found
            advance()

    def do(call: _Call, entry: tuple[int, Task, Path | None, Path | None, dict[str, str]]) -> None:
        k, task, path, label, asked = entry
        try:
            results[k] = result = _measure_one(call, task, networks, label, save_decoded)
        except ToolError:
            raise
        except GenicError as error:
            if on_error is None:
                raise
            on_error(task, error)
        else:
            if path is not None:
                write_atomic(path, _STORED.dump_json(_Stored(dict(asked), result)))
        advance()

    if workers is None:
        with WorkerPairs() as own:
            own.each(todo, do)
    else:
        workers.each(todo, do)
    return [results.get(k) for k in range(len(tasks))]


def label_file(folder: Path, picture: str) -> Path:
    """The map of a picture by its name in the data set, ``FOLDER/NAME.png``; `DataError` where there is none."""
    path = folder / PurePosixPath(picture).with_suffix(".png")
    if not path.is_file():
        raise DataError(f"no map {path} of {picture}: put one there, not 0 inside the region")
    return path


def evaluate(
    codec: str,
    items: Sequence[Picture | str | os.PathLike[str]],
    qualities: Sequence[float] | None = None,
    workers: WorkerPairs | None = None,
    *,
    rates: Sequence[float] = (),
    networks: Sequence[str] = (),
    regions: Path | None = None,
    store: Path | None = None,
    save_decoded: Path | None = None,
    on_error: Callable[[Task, GenicError], None] | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Point]:
    """A codec on pictures, each picture and quality exactly once; decoded in another process than encoded.

    Args:
        codec: for `open_codec`.
        items: pictures or their paths, at least one.
        qualities: by default, and without rates, the codec's own.
        rates: bits per pixel that files may take, beside the qualities or in their place.
        workers, networks, regions, store, save_decoded, on_error, advance: see `measure_files`.

    Returns:
        One point a quality, then one a rate, in the order given, its pictures in the order of ``items``; none where
        ``on_error`` had one of its pictures.

    Raises:
        ConfigError: nothing to measure; else as `measure_files`.
    """
    if qualities is None:
        qualities = () if rates else open_codec(codec).qualities
    sweep = [(quality, None) for quality in qualities] + [(None, rate) for rate in rates]
    items = [
        ImageItem(Path(item).name, str(item)) if isinstance(item, str | os.PathLike) else item
        for item in items
    ]
    if not items or not sweep:
        raise ConfigError("at least one picture and one quality are needed")
    tasks = [Task(item, codec, quality, target_bpp=rate) for item in items for quality, rate in sweep]
    how: dict[str, Any] = {
        "networks": networks,
        "regions": regions,
        "store": store,
        "save_decoded": save_decoded,
    }
    results = measure_files(tasks, workers, **how, on_error=on_error, advance=advance)
    points = []
    for k, (quality, rate) in enumerate(sweep):
        images = [image for image in results[k :: len(sweep)] if image is not None]
        if len(images) == len(items):
            points.append(Point(quality, Means.of(images), images, rate))
    return points


def with_distances(
    codec: str,
    items: Sequence[ImageItem],
    points: Sequence[Point],
    measures: Sequence[str],
    backbone: str,
    workers: WorkerPairs,
    store: Path,
    saved: Path,
) -> tuple[list[Point], dict[str, str], str]:
    """Points with distances of sets added, why some are refused, and what they are of (`eval.distances.described`).

    Args:
        codec, items, points: as `evaluate` measured them, with ``save_decoded=saved``.
        measures, backbone, store: see `eval.distances.set_distances`.
    """
    from genic.eval.distances import described, set_distances

    found, refused = [], {}
    for point in points:
        tasks = [Task(item, codec, point.quality, target_bpp=point.target_bpp) for item in items]
        paths = [task.saved(saved) for task in tasks]
        values, why = set_distances(items, paths, measures, backbone, workers, store)
        refused |= why
        found.append(dataclasses.replace(point, mean=dataclasses.replace(point.mean, **values)))
    return found, refused, described(items, measures, backbone)


def codec_result(
    name: str,
    codec: Codec,
    data: str,
    manifest: str,
    points: Sequence[Point],
    provenance: Provenance,
    unavailable: Mapping[str, str],
    distances: str | None = None,
) -> CodecResult:
    """Points of a codec, sorted by rate, with all that identifies them."""
    return CodecResult(
        name,
        data,
        manifest,
        sorted(points, key=lambda point: point.mean.bpp),
        provenance=provenance,
        weights=None if codec.weights_id == NO_WEIGHTS else codec.weights_id.hex(),
        options=codec.coding_options(),
        unavailable=dict(unavailable),
        distances=distances,
    )


def _measure_one(
    call: _Call, task: Task, networks: Sequence[str], label: Path | None, folder: Path | None
) -> ImageResult:
    data, info, encode_seconds = call(0, worker.encode, task.item, task.codec, task.wanted, task.options)
    decoded, decode_seconds = call(1, worker.decode, data, task.codec, task.decoding)
    metrics = call(0, worker.measure, task.item, decoded, networks, label)
    if folder is not None:
        path = task.saved(folder)
        write_atomic(path.with_suffix(".gnc"), data)
        write_png(path, decoded)
    return ImageResult(
        name=task.item.name,
        bytes=len(data),
        bpp=info.bpp,
        ledger=info.ledger,
        **metrics._asdict(),
        encode_seconds=encode_seconds,
        decode_seconds=decode_seconds,
    )


def _record(store: Path, task: Task, threads: int) -> Path:
    options = [_canonical(task.options), _canonical(task.decoding)]
    wanted = {name: float(value) for name, value in task.wanted.items()}  # 30 and 30.0 are one quality
    content = [task.item.digest, wanted, *options, *_of_codec(task.codec)]
    key = _hash([*content, _of_machine(), threads, SCHEMA])
    return store / key[:2] / f"{key}.json"


def _stored(path: Path, task: Task, asked: Mapping[str, str]) -> ImageResult | None:
    """The measurement, under this task's name for the picture; None where there is none, or without the networks."""
    try:
        stored = _STORED.validate_json(path.read_bytes())
        if not asked.items() <= stored.networks.items():
            return None
        return dataclasses.replace(stored.result, name=task.item.name)
    except (OSError, ValueError):  # whatever it is, it is measured again
        return None


def _of_label(label: Path | None) -> str:
    return "annotator" if label is None else hashlib.sha256(label.read_bytes()).hexdigest()


def _of_codec(name: str) -> tuple:
    codec = open_codec(name)
    return (
        name.partition(":")[0],
        codec.weights_id.hex(),
        _canonical(codec.coding_options()),
        code_digest(type(codec)),
    )


@lru_cache(maxsize=1)
def _of_machine() -> tuple:
    return machine(), sorted(versions().items())


def _canonical(value: object) -> object:
    """As JSON has it, arrays by their hash."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return ["array", str(value.dtype), list(value.shape), hashlib.sha256(content).hexdigest()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, _canonical(dataclasses.asdict(value))]
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in sorted(value.items())}
    if isinstance(value, Sequence):
        return [_canonical(item) for item in value]
    raise ConfigError(
        f"an option of {type(value).__name__} cannot be part of a result's identity: give plain values"
    )


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _drain(work: queue.SimpleQueue[Any]) -> None:
    while not work.empty():
        try:
            work.get_nowait()
        except queue.Empty:
            return
