"""Where the pictures and label maps of a data set are; needs no torch, which takes seconds to import."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn

from genic.datamodules.config import ROOT_VARIABLE, DataConfig
from genic.datamodules.images import ImageItem, list_images, manifest_hash
from genic.lightning_modules.codec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from genic.datamodules.dataset import LabelledItem

logger = logging.getLogger(__name__)
Part = Literal["train", "val", "evaluation"]


class PictureFiles:
    """A data set as files.

    Attributes:
        name: of the data set; also its folder below the root.
        layout: what a user is told to put where.
        semantic_kind: folder of t_s maps below a labels root.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    semantic_kind: ClassVar[str] = "semantic_voc21"

    def __init__(self, config: DataConfig) -> None:
        super().__init__()
        config.check()
        self.config = config

    @property
    def labels_folder(self) -> str:
        """Folder of its label maps below a kind's; the set's own name."""
        return self.name

    @property
    def semantic_classes(self) -> int:
        """Number of classes of t_s, background or unlabelled included."""
        return 21

    @abstractmethod
    def items(self, part: Part) -> list[ImageItem]:
        """The pictures of a part, sorted by name; `DataError` where they are missing."""

    def evaluation_images(self) -> list[ImageItem]:
        """Whole pictures on which codecs are measured, sorted by name."""
        return self.items("evaluation")

    def manifest_hash(self) -> str:
        """SHA-256 over names and contents of `evaluation_images`."""
        return manifest_hash(self.evaluation_images())

    def folder(self) -> Path:
        """The data set's folder: ``<root>/<name>``, or the root itself where that has no such folder.

        Raises:
            DataError: no root is known, or it is not there.
        """
        root = self.config.resolved_root()
        if root is None:
            raise DataError(
                f"no root for {self.name}: set data.root or {ROOT_VARIABLE} to a folder with {self.layout}"
            )
        if not root.is_dir():
            raise DataError(
                f"{root} is not a folder: set data.root or {ROOT_VARIABLE} to one with {self.layout}"
            )
        return root / self.name if (root / self.name).is_dir() else root

    def listed(self, *parts: str) -> list[ImageItem]:
        """Pictures below a subfolder of `folder`, named from `folder`; `DataError` where there are none."""
        folder = self.folder().joinpath(*parts)
        found = list_images(folder, "/".join((*parts, ""))) if folder.is_dir() else []
        if not found:
            raise DataError(f"no pictures under {folder}: {self.name} needs {self.layout} in the data root")
        return found

    def label_path(self, label: str, name: str) -> Path | None:
        """Where the map of a picture lies, None where there is none.

        ``<kind>/<data set>/<name>.png`` in `DataConfig.labels_root`, then in ``<root>/labels``.
        """
        kind = self.semantic_kind if label == "semantic" else label
        for folder in self.label_folders(kind):
            path = (folder / name).with_suffix(".png")
            if path.is_file():
                return path
        return None

    def labelled(self, items: Sequence[ImageItem]) -> list[LabelledItem]:
        """Items with the maps that the configuration wants; those that lack one are left out, with a count.

        Raises:
            DataError: none has all maps.
        """
        from genic.datamodules.dataset import LabelledItem

        kept, lacking = [], dict.fromkeys(self.config.labels, 0)
        for item in items:
            paths = {label: self.label_path(label, item.name) for label in self.config.labels}
            for label, path in paths.items():
                lacking[label] += path is None
            if None not in paths.values():
                kept.append(
                    LabelledItem(item.name, item.path, {label: str(path) for label, path in paths.items()})
                )
        for label, count in lacking.items():
            if count and kept:
                logger.warning(
                    "%s: %d of %d pictures have no %s map: left out", self.name, count, len(items), label
                )
        if items and not kept:
            missing = " and ".join(label for label, count in lacking.items() if count)
            raise DataError(
                f"no picture of {self.name} has a {missing} map: make them with "
                f"`python -m datamodules.annotate {self.name} --out DIR` and set data.labels_root=DIR"
            )
        return kept

    def label_folders(self, kind: str) -> list[Path]:
        """Where maps of a kind are looked for, in this order."""
        roots = [Path(self.config.labels_root).expanduser()] if self.config.labels_root else []
        root = self.config.resolved_root()
        if root is not None:
            roots.append(root / "labels")
        return [root / kind / self.labels_folder for root in roots]


class EvaluationOnly(PictureFiles):
    """A set of pictures that nothing is trained on: the part of evaluation is all there is."""

    def items(self, part: Part) -> list[ImageItem]:
        if part == "train":
            self.train_dataloader()
        return self.pictures()

    def train_dataloader(self) -> NoReturn:
        """Raises `ConfigError`."""
        raise ConfigError(f"{self.name} is an evaluation set: train on another, e.g. data.name=imagenet")

    @abstractmethod
    def pictures(self) -> list[ImageItem]:
        """All pictures."""
