"""Street scenes with labels, and files of them by codecs: what the table of extreme semantic compression is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules import DataConfig, make_datamodule
from datamodules.images import read_label
from eval.provenance import versions
from experiments.paper_tables.files import Encoded
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.codec.errors import DataError
from lightning_modules.codec.files import write_atomic
from lightning_modules.codec.rate_control import largest_within
from lightning_modules.registry import open_codec

# Ascending in rate; what a classical codec may be asked for at these rates.
QUALITIES = {"hevc": range(51, 20, -1), "avif": range(0, 50, 2), "webp": range(0, 50)}


@dataclass(frozen=True)
class Pictures:
    """A data set's evaluation pictures by name; ``labels`` is empty where it has none.

    Attributes:
        name: of the data set.
        cache: folder of files that classical codecs wrote. Each is named by a hash of all that it depends on: the
            picture's pixels, codec, quality and the libraries' versions.
    """

    name: str
    images: Mapping[str, Image]
    labels: Mapping[str, np.ndarray]
    cache: Path
    _codecs: dict[str, Codec] = field(default_factory=dict)

    def encoded(self, scheme: str, encode: Callable[[str, Image], bytes]) -> Encoded:
        """A row whose files ``encode(name, image)`` makes."""
        return Encoded(
            scheme, self.images, {name: encode(name, image) for name, image in self.images.items()}
        )

    def at_quality(self, codec: str, quality: int, scheme: str | None = None) -> Encoded:
        """A classical codec's row at one quality."""
        return self.encoded(
            scheme or f"{codec} {quality}", lambda name, _: self._classical(codec, quality, name)
        )

    def within(self, codec: str, limits: Mapping[str, int], scheme: str) -> Encoded:
        """The best quality, picture by picture, within ``limits`` bytes; the smallest file where none is."""
        steps = QUALITIES[codec]

        def fitted(name: str, _: Image) -> bytes:
            # From near the coarsest: at these rates it is among the first few.
            return largest_within(
                lambda q: self._classical(codec, q, name), steps, limits[name], steps[2]
            ).data

        return self.encoded(scheme, fitted)

    def _classical(self, codec: str, quality: int, name: str) -> bytes:
        image = self.images[name]
        made_of = json.dumps([codec, quality, image.shape, self._versions]).encode()
        key = hashlib.sha256(made_of + image.tobytes()).hexdigest()[:32]
        path = self.cache / codec / f"{key}.gnc"
        if not path.is_file():
            if codec not in self._codecs:
                self._codecs[codec] = open_codec(codec)
            write_atomic(path, self._codecs[codec].encode(image, quality))
        return path.read_bytes()

    @cached_property
    def _versions(self) -> Mapping[str, str]:
        return versions()


def load_pictures(data: str, root: str | None, limit: int | None, cache: Path) -> Pictures:
    """The evaluation pictures of a data set, ``limit`` of them evenly spaced, and their labels where it has any."""
    module = make_datamodule(DataConfig(name=data, root=root))
    items = module.evaluation_images()
    if not items:
        raise DataError(f"data set {data!r} has no pictures to evaluate on: set GENIC_DATA or --root")
    count = min(limit or len(items), len(items))
    chosen = [items[k * len(items) // count] for k in range(count)]
    names = [item.name.replace("/", "-").rpartition(".")[0] for item in chosen]
    paths = [module.label_path("semantic", item.name) if data == "camvid" else None for item in chosen]
    labels = {name: read_label(path) for name, path in zip(names, paths, strict=True) if path is not None}
    return Pictures(data, {n: item.read() for n, item in zip(names, chosen, strict=True)}, labels, cache)


def sizes(entry: Encoded) -> dict[str, int]:
    """Bytes of each picture's file."""
    return {name: len(data) for name, data in entry.files.items()}


def mean_bpp(entry: Encoded) -> float:
    """Mean over pictures of 8·bytes/pixels."""
    bits = [8 * len(data) / entry.images[name][..., 0].size for name, data in entry.files.items()]
    return float(np.mean(bits))


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
