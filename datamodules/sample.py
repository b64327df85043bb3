"""Photographs that ship inside scikit-image and scikit-learn: something to run on with no data at hand.

Their label maps are drawn from outlines by hand (`sample_outlines`), good enough to exercise what labels are
for. Classes are those of PASCAL VOC, as for the other photographs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from genic.datamodules.base import PhotoDataModule
from genic.datamodules.batch import Sample
from genic.datamodules.dataset import LabelledItem, checked
from genic.datamodules.files import Part
from genic.datamodules.images import ImageItem, read_image
from genic.datamodules.sample_outlines import DETAIL, SEMANTIC, Outline
from genic.lightning_modules.codec.errors import DataError

# Pictures of evaluation are never trained on. The two motorcycles are one scene, so they stay together.
PARTS = {
    "train": (
        *("skimage/chelsea.png", "skimage/rocket.jpg", "skimage/motorcycle_left.png"),
        *("skimage/motorcycle_right.png", "skimage/camera.png", "skimage/coins.png", "skimage/brick.png"),
        *("skimage/grass.png", "skimage/gravel.png", "sklearn/flower.jpg"),
    ),
    "evaluation": ("skimage/astronaut.png", "skimage/coffee.png", "sklearn/china.jpg"),
}


@dataclass(frozen=True)
class OutlinedItem(LabelledItem):
    """A picture whose maps are drawn; the values of ``labels`` are not used."""

    def read_sample(self, min_side: int = 1) -> Sample:
        image = read_image(self.path)
        detail = _draw(image, tuple((255, o) for o in DETAIL.get(self.name, ())))
        semantic = _draw(image, (SEMANTIC[self.name],) if self.name in SEMANTIC else ())
        maps = {"detail": detail, "semantic": semantic}
        return checked(Sample(image, **{label: maps[label] for label in self.labels}), self.path, min_side)


class BundledSample(PhotoDataModule):
    """Ten photographs for training, three for validation and evaluation; needs no root."""

    name = "sample"
    layout = "nothing: the pictures ship with scikit-image and scikit-learn"

    def items(self, part: Part) -> list[ImageItem]:
        names = PARTS["train" if part == "train" else "evaluation"]
        return sorted((ImageItem(name, str(_locate(name))) for name in names), key=lambda item: item.name)

    def labelled(self, items: list[ImageItem]) -> list[LabelledItem]:
        labels = dict.fromkeys(self.config.labels, "")
        return [OutlinedItem(item.name, item.path, labels) for item in items]


def _locate(name: str) -> Path:
    package, file = name.split("/")
    path = _package(package) / {"skimage": "data", "sklearn": "datasets/images"}[package] / file
    if not path.is_file():
        raise DataError(f"this {package} ships no {file}: install the version in requirements.txt")
    return path


@cache
def _package(package: str) -> Path:
    # Found without importing it: both take a second to import.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"the sample pictures are {package}'s, not installed: pip install 'genic[train]'")
    return Path(spec.origin).parent


def _draw(image: np.ndarray, polygons: tuple[tuple[int, Outline], ...]) -> np.ndarray:
    canvas = Image.new("L", (image.shape[1], image.shape[0]))
    pen = ImageDraw.Draw(canvas)
    for value, outline in polygons:
        pen.polygon(outline, fill=value)
    return np.array(canvas)
