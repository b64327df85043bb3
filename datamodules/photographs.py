"""Sets of plain photographs in folders: ImageNet, BSDS500, all for training together, and any folder of one's own."""

from __future__ import annotations

import zlib
from pathlib import Path

from genic.datamodules.base import PhotoDataModule
from genic.datamodules.files import Part
from genic.datamodules.images import ImageItem, list_images
from genic.lightning_modules.codec.errors import DataError


class ImageNet(PhotoDataModule):
    """ImageNet in its folder layout: ``train/<wnid>/*.JPEG`` and ``val/``, by class or flat."""

    name = "imagenet"
    layout = "imagenet/train/<wnid>/*.JPEG and imagenet/val/"

    def items(self, part: Part) -> list[ImageItem]:
        return self.listed("train" if part == "train" else "val")


class Bsds(PhotoDataModule):
    """BSDS500: ``train/*.jpg`` and ``val/*.jpg``, 481×321."""

    name = "bsds"
    layout = "bsds/train/*.jpg and bsds/val/*.jpg"

    def items(self, part: Part) -> list[ImageItem]:
        return self.listed("train" if part == "train" else "val")


class Photographs(PhotoDataModule):
    """All photographs for training in one set: ImageNet's and BSDS500's training parts and the folder ``photos``.

    Validation is on BSDS500's, evaluation too. Names, and so the places of label maps, are those of the three sets:
    ``labels/<kind>/imagenet/train/….png``, ``labels/<kind>/photos/….png``.
    """

    name = "photographs"
    layout = "imagenet/train/, bsds/{train,val}/ and photos/**"

    @property
    def labels_folder(self) -> str:
        """Names already tell the set."""
        return ""

    def items(self, part: Part) -> list[ImageItem]:
        if part != "train":
            return self.listed("bsds", "val")
        folders = (("bsds", "train"), ("imagenet", "train"), ("photos",))
        return [item for folder in folders for item in self.listed(*folder)]


class Folder(PhotoDataModule):
    """Pictures in a folder of one's own, which is the root itself.

    With subfolders ``train`` and ``val``, and perhaps ``test``, these are the parts, and codecs are measured
    on ``test`` or else ``val``. Without them, one picture in ten (chosen by its name) is for validation and
    the rest for training (a lone picture is for both), while codecs are measured on all of them: honest only for
    codecs not trained here.
    """

    name = "folder"
    layout = "pictures"

    def folder(self) -> Path:
        if self.config.root is None:
            raise DataError("data.name=folder needs data.root=DIR, a folder of pictures")
        folder = Path(self.config.root).expanduser()
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: set data.root to a folder of pictures")
        return folder

    def items(self, part: Part) -> list[ImageItem]:
        folder = self.folder()
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            test = "test" if (folder / "test").is_dir() else "val"
            return self.listed({"train": "train", "val": "val", "evaluation": test}[part])
        found = list_images(folder, exclude=frozenset({"labels"}))
        if not found:
            raise DataError(f"no pictures under {folder}: put some there, or set data.root to another folder")
        if part == "evaluation":
            return found
        for_val = [zlib.crc32(item.name.encode()) % 10 == 0 for item in found]
        chosen = [item for item, val in zip(found, for_val, strict=True) if val == (part == "val")]
        return chosen or found[:1]
