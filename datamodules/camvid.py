"""Street scenes in CamVid's layout, with label maps."""

from __future__ import annotations

from pathlib import Path

from genic.datamodules.base import PhotoDataModule
from genic.datamodules.batch import CAMVID_CLASSES
from genic.datamodules.files import Part
from genic.datamodules.images import ImageItem


class CamVid(PhotoDataModule):
    """``{train,val,test}/`` and ``{train,val,test}annot/*.png``, 480×360; codecs are measured on test."""

    name = "camvid"
    layout = "camvid/{train,val,test}/ and camvid/{train,val,test}annot/"
    semantic_kind = "semantic_camvid"

    @property
    def semantic_classes(self) -> int:
        """The 11 classes of SegNet's split, and unlabelled (11)."""
        return len(CAMVID_CLASSES)

    def items(self, part: Part) -> list[ImageItem]:
        return self.listed("test" if part == "evaluation" else part)

    def label_path(self, label: str, name: str) -> Path | None:
        if label == "semantic":
            part, _, file = name.partition("/")
            path = (self.folder() / f"{part}annot" / file).with_suffix(".png")
            return path if path.is_file() else None
        return super().label_path(label, name)
