"""Pictures with their labels, files of them measured in another process, and what codecs are compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genic.datamodules.images import ImageItem, read_image, read_label
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.schema import ImageResult
from genic.experiments.evaluate import dataset
from genic.experiments.paper_tables.common import spaced, within_or_smallest
from genic.lightning_modules.codec.contract import Image


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

    def at(self, scheme: str, codec: str, quality: float) -> Row:
        """Files of all pictures at a quality."""
        return self.row(scheme, [Task(item, codec, quality) for item in self.items.values()])

    def within(self, scheme: str, codec: str, limits: Mapping[str, int]) -> Row:
        """The finest quality, picture by picture, within ``limits`` bytes; the smallest file where none is."""
        tasks = [Task(item, codec, target_bytes=limits[name]) for name, item in self.items.items()]
        return self.row(scheme, within_or_smallest(tasks, **self._how))

    def row(self, scheme: str, tasks: Sequence[Task]) -> Row:
        """A task a picture, in their order."""
        files = {}
        results = measure_files(tasks, **self._how)
        for name, task, result in zip(self.items, tasks, results, strict=True):
            path = task.saved(self._how["save_decoded"])
            files[name] = Measured(result, path.with_suffix(".gnc").read_bytes(), read_image(path))
        return Row(scheme, files)

    @property
    def _how(self) -> dict[str, Any]:
        folders = {"store": self.folder / "measured", "save_decoded": self.folder / "decoded"}
        return {"workers": self.workers, "networks": self.networks, **folders}


def load_pictures(
    data: str,
    root: str | None,
    limit: int | None,
    folder: Path,
    workers: WorkerPairs,
    networks: Sequence[str] = (),
) -> Pictures:
    """The evaluation pictures of a data set, ``limit`` of them evenly spaced, and their labels where it has any."""
    module, items = dataset(data, root)
    named = {item.name.replace("/", "-").rpartition(".")[0]: item for item in spaced(items, limit)}
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
