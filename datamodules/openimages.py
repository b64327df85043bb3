"""Open Images V7: photographs in ``{train,validation,test}/`` and the annotation files as published.

Files lie in the data set's folder or in ``annotations/`` below it, with their published names:
``*class-descriptions-boxable.csv``, ``*{split}-annotations-bbox.csv`` (for training ``oidv6-train-…``),
``{split}-annotations-object-segmentation.csv``, masks in ``masks/{split}/`` or ``masks/``, and the text masks
of OpenVINO's open_images_v5_text, ``text_spotting_openimages_v5_*.json``. `datamodules.annotate` turns them
into label maps, which is what training reads.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from genic.datamodules.base import PhotoDataModule
from genic.datamodules.files import Part
from genic.datamodules.images import ImageItem, read_label
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.codec.files import write_atomic

FACE = "Human face"
MAX_CLASSES = 255  # of an 8-bit map, besides background
CLASSES_FILE = "classes.json"
SPLITS = {"train": "train", "val": "validation", "evaluation": "test"}


class OpenImages(PhotoDataModule):
    """Codecs are measured on ``test``, or on ``validation`` where there is no ``test``.

    t_s has the classes of Open Images' own masks where `annotate` wrote those, else PASCAL VOC's.
    """

    name = "openimages"
    layout = "openimages/{train,validation,test}/*.jpg"

    @property
    def semantic_kind(self) -> str:
        return "semantic_voc21" if self._classes_file() is None else "semantic_openimages"

    @property
    def semantic_classes(self) -> int:
        if self.config.shards is not None:
            from genic.datamodules.shards import ShardIndex

            return ShardIndex.read(self.config.shards).semantic_classes
        path = self._classes_file()
        return 21 if path is None else 1 + len(json.loads(path.read_text()))

    def items(self, part: Part) -> list[ImageItem]:
        split = SPLITS[part]
        if part == "evaluation" and not (self.folder() / split).is_dir():
            split = "validation"
        return self.listed(split)

    def _classes_file(self) -> Path | None:
        for folder in self.label_folders("semantic_openimages"):
            if (folder / CLASSES_FILE).is_file():
                return folder / CLASSES_FILE
        return None


@dataclass(frozen=True)
class Region:
    """An instance mask: file, class (MID, e.g. ``/m/01g317``), area of its box as a share of the picture."""

    path: Path
    mid: str
    area: float


def face_boxes(folder: Path, split: str, ids: Collection[str]) -> dict[str, np.ndarray] | None:
    """Boxes of human faces for the pictures that the box file knows, even those without a face.

    Args:
        folder: of the data set.
        split: ``train``, ``validation`` or ``test``.
        ids: pictures of interest.

    Returns:
        By image id, float [n, 4]: left, top, right, bottom as shares of the sides; None without a file.

    Raises:
        DataError: a file lacks its columns, or the class descriptions are missing.
    """
    path = _file(folder, f"*{split}-annotations-bbox.csv")
    if path is None:
        return None
    face = next((mid for mid, name in class_names(folder).items() if name == FACE), None)
    if face is None:
        raise DataError(f"the class descriptions in {folder} name no {FACE!r}: fetch the published file")
    found: dict[str, list[list[float]]] = {}
    columns = ("ImageID", "LabelName", "XMin", "YMin", "XMax", "YMax")
    for image, mid, *box in _rows(path, columns):
        if image in ids:
            boxes = found.setdefault(image, [])
            if mid == face:
                boxes.append([float(v) for v in box])
    return {image: np.array(boxes).reshape(-1, 4) for image, boxes in found.items()}


def text_polygons(folder: Path, ids: Collection[str]) -> dict[str, list[np.ndarray]] | None:
    """Polygons around words for the pictures that the text files know.

    Returns:
        By image id, float [n, 2] arrays of (x, y) as shares of width and height; None without a file.

    Raises:
        DataError: a file is not in that format.
    """
    paths = sorted(p for place in _places(folder) for p in place.glob("text_spotting_openimages_v5_*.json"))
    if not paths:
        return None
    found: dict[str, list[np.ndarray]] = {}
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            pictures = {}
            for picture in content["images"]:
                stem = Path(picture["file_name"]).stem
                pictures[picture["id"]] = stem, picture["width"], picture["height"]
                if stem in ids:
                    found.setdefault(stem, [])
            for word in content["annotations"]:
                stem, width, height = pictures[word["image_id"]]
                if stem in ids:
                    for polygon in word["segmentation"]:
                        found[stem].append(np.array(polygon, float).reshape(-1, 2) / (width, height))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not in the format of open_images_v5_text ({error!r}): fetch it again"
            ) from error
    return found


def regions(folder: Path, split: str, ids: Collection[str]) -> dict[str, list[Region]] | None:
    """Instance masks by image id, larger ones first; None without the split's segmentation file."""
    path = _file(folder, f"*{split}-annotations-object-segmentation.csv")
    if path is None:
        return None
    found: dict[str, list[Region]] = {}
    columns = ("MaskPath", "ImageID", "LabelName", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
    for name, image, mid, x0, x1, y0, y1 in _rows(path, columns):
        if image in ids:
            split_path = folder / "masks" / split / name
            mask = split_path if split_path.is_file() else folder / "masks" / name
            area = (float(x1) - float(x0)) * (float(y1) - float(y0))
            found.setdefault(image, []).append(Region(mask, mid, area))
    for instances in found.values():
        instances.sort(key=lambda r: -r.area)
    return found


def semantic_map(shape: tuple[int, int], instances: list[Region], index: dict[str, int]) -> np.ndarray:
    """uint8 H×W: classes by ``index`` (MID to 1 … 255), smaller instances over larger ones, 0 elsewhere.

    Masks are scaled to the picture, nearest. Classes without an index stay background.

    Raises:
        DataError: a mask is missing.
    """
    height, width = shape
    out = np.zeros(shape, np.uint8)
    for instance in instances:
        if instance.mid in index:
            mask = Image.fromarray(read_label(instance.path)).resize(
                (width, height), Image.Resampling.NEAREST
            )
            out[np.array(mask) > 0] = index[instance.mid]
    return out


def stored_classes(out: Path, folder: Path, found: dict[str, list[Region]]) -> dict[str, int]:
    """MID to index; from ``classes.json`` in ``out``, which is written on the first call.

    The most frequent classes of ``found`` get an index, 255 at most, which is what an 8-bit map holds (Open
    Images has masks of 350).
    """
    path = out / CLASSES_FILE
    if not path.is_file():
        names = class_names(folder)
        count = Counter(r.mid for instances in found.values() for r in instances)
        ranked = sorted(count, key=lambda mid: (-count[mid], mid))[:MAX_CLASSES]
        write_atomic(path, json.dumps([[mid, names.get(mid, "")] for mid in ranked], indent=1).encode())
    return {mid: k for k, (mid, _) in enumerate(json.loads(path.read_text()), start=1)}


def class_names(folder: Path) -> dict[str, str]:
    """MID to name, from the class descriptions (with or without a heading, as in V7 and before)."""
    path = _file(folder, "*class-descriptions-boxable.csv")
    if path is None:
        raise DataError(f"no class-descriptions-boxable.csv in {folder} or its annotations/: fetch it")
    with open(path, newline="", encoding="utf-8") as file:
        return {row[0]: row[1] for row in csv.reader(file) if len(row) >= 2}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        heading = next(reader, [])
        missing = [c for c in columns if c not in heading]
        if missing:
            raise DataError(f"{path} has no column {', '.join(missing)}: fetch the published file")
        places = [heading.index(c) for c in columns]
        for row in reader:
            yield [row[k] for k in places]


def _places(folder: Path) -> tuple[Path, Path]:
    return folder, folder / "annotations"


def _file(folder: Path, pattern: str) -> Path | None:
    return next((p for place in _places(folder) for p in sorted(place.glob(pattern))), None)
