"""Draw label maps for training.

::

    python -m datamodules.annotate imagenet --labels detail --out DIR

t_a (``detail``: 255 on faces and text) comes from the annotations of Open Images where there are some, else
from `datamodules.detectors`. t_s (``semantic``) comes from the masks of Open Images, from given maps
(``--masks``) or from a segmentation network (``--model``, ``--weights``). Maps that exist are passed over and
each is written whole or not at all, so a stopped run goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import Progress

from genic.datamodules import DATASETS, make_datamodule
from genic.datamodules.batch import LABELS
from genic.datamodules.config import DataConfig
from genic.datamodules.detectors import detail_map, find_faces, find_text
from genic.datamodules.files import Part, PictureFiles
from genic.datamodules.images import ImageItem, read_image, read_label, write_png
from genic.experiments.command import command, make_parser
from genic.lightning_modules.codec.errors import ConfigError, DataError, ImageError, needs

with needs("train"):
    import cv2

if TYPE_CHECKING:  # Lightning, which it imports, takes seconds in every process
    from genic.datamodules.openimages import Region

PARTS = ("train", "val", "evaluation")


@dataclass(frozen=True)
class Task:
    """One map to make.

    Attributes:
        source, target: the picture and the map.
        faces: float [n, 4] boxes as shares of the sides; None asks the detector.
        text: float [n, 2] polygons likewise; None asks the detector.
        instances: masks of Open Images.
        given: a map to take over.
    """

    source: str
    target: Path
    faces: np.ndarray | None = None
    text: list[np.ndarray] | None = None
    instances: tuple[Region, ...] = ()
    given: Path | None = None


Draw = Callable[[np.ndarray, Task], np.ndarray]
"""From a picture, uint8 H×W×3, to its map, uint8 H×W."""


def detail(image: np.ndarray, task: Task) -> np.ndarray:
    """t_a, uint8 H×W, 0 or 255."""
    height, width = image.shape[:2]
    faces = task.faces
    if faces is None:
        boxes = [face.box for face in find_faces(image)]
    else:
        scaled = np.clip(faces, 0, 1) * (width, height, width, height)
        boxes = [(*np.floor(b[:2]).astype(int), *np.ceil(b[2:]).astype(int)) for b in scaled]
    if task.text is None:
        boxes = boxes + find_text(image)
    out = detail_map((height, width), boxes)
    polygons = [np.round(p * (width, height)).astype(np.int32) for p in task.text or []]
    if polygons:
        cv2.fillPoly(out, polygons, (255,))
    return out


def given(image: np.ndarray, task: Task) -> np.ndarray:
    """A given map, checked to be of the picture's size."""
    assert task.given is not None
    found = read_label(task.given)
    if found.shape != image.shape[:2]:
        raise ImageError(
            f"{task.given} is {found.shape}, its picture {image.shape[:2]}: give maps of equal size"
        )
    return found


def from_instances(image: np.ndarray, task: Task, index: dict[str, int]) -> np.ndarray:
    """t_s from the masks of Open Images."""
    from genic.datamodules import openimages

    height, width = image.shape[:2]
    return openimages.semantic_map((height, width), list(task.instances), index)


def detail_tasks(datamodule: PictureFiles, items: list[ImageItem], place: Path) -> list[Task]:
    """Tasks for t_a, with what Open Images knows about faces and text where that is the data set."""
    if datamodule.name != "openimages":
        return [Task(item.path, _target(place, item.name)) for item in items]
    from genic.datamodules import openimages

    folder, ids = datamodule.folder(), {Path(item.name).stem for item in items}
    splits = {item.name.split("/")[0] for item in items}
    faces = {}
    for split in splits:
        faces |= openimages.face_boxes(folder, split, ids) or {}
    text = openimages.text_polygons(folder, ids) or {}
    stems = [Path(item.name).stem for item in items]
    return [
        Task(item.path, _target(place, item.name), faces.get(stem), text.get(stem))
        for item, stem in zip(items, stems, strict=True)
    ]


def make(tasks: list[Task], draw: Draw, workers: int, title: str) -> tuple[int, int]:
    """Make the maps that are missing, showing progress; numbers of maps made and of pictures left out."""
    todo = [task for task in tasks if not task.target.is_file()]
    made = 0
    with Progress(disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(title, total=len(tasks), completed=len(tasks) - len(todo))
        for fault in _results(partial(_one, draw), todo, workers):
            made += fault is None
            if fault is not None:
                print(f"left out: {fault}", file=sys.stderr)
            progress.advance(bar)
    return made, len(todo) - made


def annotate(
    config: DataConfig,
    out: Path,
    parts: tuple[Part, ...] = ("train", "val"),
    workers: int = 1,
    masks: Path | None = None,
    network: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, tuple[int, int]]:
    """Make ``config.labels`` for a data set.

    Args:
        out: labels root; maps go to ``<out>/<kind>/<data set>/<name>.png``.
        parts: of ``train``, ``val`` and ``evaluation``.
        workers: processes for detectors.
        masks: folder of given semantic maps, ``<name>.png``.
        network: uint8 H×W×3 to uint8 H×W of VOC classes.

    Returns:
        By label, numbers of maps made now and of pictures left out because they are unusable.

    Raises:
        ConfigError: the data set has its own maps, or nothing is given to make t_s from.
        DataError: the data set is not there.
    """
    if config.name == "sample":
        raise ConfigError(
            "the maps of the bundled pictures are drawn by hand already: annotate another data set"
        )
    datamodule = make_datamodule(config)
    items = list({item.name: item for part in parts for item in datamodule.items(part)}.values())
    counts = {}
    for label in config.labels:
        if label == "detail":
            tasks = detail_tasks(datamodule, items, out / "detail" / datamodule.labels_folder)
            counts[label] = make(tasks, detail, workers, "detail")
        else:
            counts[label] = _semantic(datamodule, items, out, masks, network)
    return counts


def _semantic(
    datamodule: PictureFiles,
    items: list[ImageItem],
    out: Path,
    masks: Path | None,
    network: Callable[[np.ndarray], np.ndarray] | None,
) -> tuple[int, int]:
    if datamodule.name == "camvid":
        raise ConfigError("CamVid has its own semantic maps: ask for --labels detail only")
    if masks is not None:
        place = out / "semantic_voc21" / datamodule.labels_folder
        paths = {item.name: (masks / item.name).with_suffix(".png") for item in items}
        tasks = [Task(item.path, _target(place, item.name), given=paths[item.name]) for item in items]
        return make(tasks, given, 1, "semantic")
    if network is not None:
        place = out / "semantic_voc21" / datamodule.labels_folder
        tasks = [Task(item.path, _target(place, item.name)) for item in items]
        return make(tasks, lambda image, task: network(image), 1, "semantic")
    if datamodule.name != "openimages":
        raise ConfigError("semantic maps need --masks DIR, or --model NAME --weights FILE")
    from genic.datamodules import openimages

    folder, ids = datamodule.folder(), {Path(item.name).stem for item in items}
    found: dict[str, list[Region]] = {}
    for split in sorted({item.name.split("/")[0] for item in items}):
        found |= openimages.regions(folder, split, ids) or {}
    if not found:
        raise DataError(f"no *-annotations-object-segmentation.csv for these pictures in {folder}: fetch it")
    place = out / "semantic_openimages" / datamodule.labels_folder
    index = openimages.stored_classes(place, folder, found)
    # Pictures without masks were not looked at by Open Images, so they get no map.
    tasks = [
        Task(item.path, _target(place, item.name), instances=tuple(found[stem]))
        for item in items
        if (stem := Path(item.name).stem) in found
    ]
    return make(tasks, partial(from_instances, index=index), 1, "semantic")


def _target(folder: Path, name: str) -> Path:
    return (folder / name).with_suffix(".png")


def _one(draw: Draw, task: Task) -> str | None:
    """Make one map; the reason where the picture or its annotation cannot be used."""
    try:
        write_png(task.target, draw(read_image(task.source), task))
    except (ImageError, DataError) as error:
        return str(error)
    return None


def _results(work: Callable[[Task], str | None], tasks: list[Task], workers: int) -> Iterator[str | None]:
    if workers <= 1:
        yield from map(work, tasks)
        return
    # A forked copy of a process whose OpenMP or OpenCV threads have run waits for ever on their locks.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        yield from pool.map(work, tasks, chunksize=8)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = make_parser("annotate", __doc__, "datamodules")
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--root", help="data root (default: $GENIC_DATA)")
    parser.add_argument("--out", type=Path, help="labels root to write to (default: <root>/labels)")
    parser.add_argument("--labels", nargs="+", default=["detail"], choices=LABELS)
    parser.add_argument("--parts", nargs="+", default=["train", "val"], choices=PARTS)
    parser.add_argument("--masks", type=Path, help="folder of given semantic maps")
    parser.add_argument(
        "--model", default="deeplabv3_mobilenet_v3_large", help="torchvision segmentation model"
    )
    parser.add_argument("--weights", type=Path, help="its weights: safetensors or a torch state dict")
    parser.add_argument("--device", default="cpu", help="where the network runs (default cpu)")
    parser.add_argument("--workers", type=int, default=1, help="processes for the detectors (default 1)")
    a = parser.parse_args(arguments)
    config = DataConfig(name=a.dataset, root=a.root, labels=a.labels)
    network = None
    if a.weights is not None and "semantic" in a.labels:
        from genic.datamodules.segmentation import SemanticNetwork

        network = SemanticNetwork(a.model, a.weights, a.device)
    out = a.out or (config.resolved_root() or Path()) / "labels"
    counts = annotate(config, out, tuple(a.parts), a.workers, a.masks, network)
    for label, (made, left_out) in counts.items():
        print(f"{label}: {made} maps made, {left_out} pictures left out; train with data.labels_root={out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
