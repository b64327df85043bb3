"""Pictures with their labels, files of them measured in another process, and what codecs are compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules import DataConfig, make_datamodule
from datamodules.images import ImageItem, read_image, read_label
from eval.runner import Task, WorkerPairs, measure_files
from eval.schema import ImageResult
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import DataError, GenicError, TargetError

COARSEST = {"hevc": 51, "avif": 0, "webp": 0}
"""Quality of the least files that a classical codec makes here."""


class Measured(NamedTuple):
    """A file: its figures, its bytes, and the picture that another process decoded of it."""

    result: ImageResult
    data: bytes
    picture: Image


@dataclass(frozen=True)
class Row:
    """Files of all pictures by one scheme, by the pictures' names."""

    scheme: str
    files: Mapping[str, Measured]

    @property
    def bpp(self) -> float:
        """Mean over pictures."""
        return float(np.mean([one.result.bpp for one in self.files.values()]))

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each picture's file."""
        return {name: one.result.bytes for name, one in self.files.items()}


@dataclass(frozen=True)
class Pictures:
    """A data set's evaluation pictures by name; ``labels`` is empty where it has none.

    Attributes:
        name: of the data set. folder: of measurements, which are kept by content, and of decoded pictures.
        workers, networks: see `eval.runner.measure_files`.
    """

    name: str
    items: Mapping[str, ImageItem]
    labels: Mapping[str, np.ndarray]
    folder: Path
    workers: WorkerPairs
    networks: Sequence[str] = ()
    images: Mapping[str, Image] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", {name: item.read() for name, item in self.items.items()})

    def row(self, scheme: str, codec: str, options: Callable[[str], Mapping[str, object]]) -> Row:
        """Files of all pictures by ``codec``; ``options(name)``: of `Codec.encode`, quality or target among them."""
        tasks = [self._task(name, codec, options(name)) for name in self.items]
        return Row(scheme, dict(zip(self.items, self._measured(tasks), strict=True)))

    def within(self, scheme: str, codec: str, limits: Mapping[str, int]) -> Row:
        """The finest quality, picture by picture, within ``limits`` bytes; the coarsest where none is."""
        failed: set[str] = set()

        def coarsest(task: Task, error: GenicError) -> None:
            if not isinstance(error, TargetError):
                raise error
            failed.add(task.item.name)

        tasks = [Task(item, codec, target_bytes=limits[name]) for name, item in self.items.items()]
        how = {"store": self.folder / "measured", "save_decoded": self.folder / "decoded"}
        measure_files(tasks, self.workers, networks=self.networks, on_error=coarsest, **how)
        tasks = [
            Task(task.item, codec, COARSEST[codec]) if task.item.name in failed else task for task in tasks
        ]
        return Row(scheme, dict(zip(self.items, self._measured(tasks), strict=True)))

    def _task(self, name: str, codec: str, options: Mapping[str, object]) -> Task:
        own = {key: value for key, value in options.items() if key != "quality"}
        return Task(self.items[name], codec, options.get("quality"), options=own)

    def _measured(self, tasks: Sequence[Task]) -> list[Measured]:
        store, decoded = self.folder / "measured", self.folder / "decoded"
        how = {"store": store, "save_decoded": decoded}
        results = measure_files(tasks, self.workers, networks=self.networks, **how)
        paths = [task.saved(decoded) for task in tasks]
        return [
            Measured(result, path.with_suffix(".gnc").read_bytes(), read_image(path))
            for result, path in zip(results, paths, strict=True)
        ]


def load_pictures(
    data: str,
    root: str | None,
    limit: int | None,
    folder: Path,
    workers: WorkerPairs,
    networks: Sequence[str] = (),
) -> Pictures:
    """The evaluation pictures of a data set, ``limit`` of them evenly spaced, and their labels where it has any."""
    module = make_datamodule(DataConfig(name=data, root=root))
    items = module.evaluation_images()
    if not items:
        raise DataError(f"data set {data!r} has no pictures to evaluate on: set GENIC_DATA or --root")
    count = min(limit or len(items), len(items))
    chosen = [items[k * len(items) // count] for k in range(count)]
    named = {item.name.replace("/", "-").rpartition(".")[0]: item for item in chosen}
    labels = {}
    if data == "camvid":
        labels = {n: read_label(module.label_path("semantic", item.name)) for n, item in named.items()}
    return Pictures(data, named, labels, folder, workers, networks)


class SameRate(NamedTuple):
    """Bits per pixel; ``at_most`` where the curve's first point is better already, so that less might do."""

    bpp: float
    at_most: bool


def same_quality_rate(rates: Sequence[float], distances: Sequence[float], wanted: float) -> SameRate | None:
    """The rate at which a curve reaches the distance ``wanted``, linear in the logarithm of the rate.

    Args:
        rates: ascending. distances: of the same points, falling on the whole.

    Returns:
        None where the curve does not reach it.
    """
    for k in range(1, len(rates)):
        high, low = distances[k - 1], distances[k]
        if high > wanted >= low:
            share = (high - wanted) / (high - low)
            return SameRate(float(rates[k - 1] * (rates[k] / rates[k - 1]) ** share), False)
    return SameRate(float(rates[0]), True) if distances[0] <= wanted else None
