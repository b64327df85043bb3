"""The field's test sets beside Kodak, each in a folder of its name below the root; none is fetched.

A folder may hold more of its set than codecs are measured on; where the usual subfolder is there, it alone counts.
"""

from __future__ import annotations

from typing import ClassVar

from genic.datamodules.files import EvaluationOnly
from genic.datamodules.images import ImageItem


class TestSet(EvaluationOnly):
    """All pictures of the first of ``parts`` that is there, else of the whole folder.

    Attributes:
        parts: subfolders, as the set's archives have them.
    """

    __test__ = False
    parts: ClassVar[tuple[str, ...]] = ()

    def pictures(self) -> list[ImageItem]:
        for part in self.parts:
            if (self.folder() / part).is_dir():
                return self.listed(*part.split("/"))
        return self.listed()


class Clic2020(TestSet):
    """The 428 pictures of the test part, professional and mobile, on which HiFiC and its successors report."""

    name = "clic2020"
    layout = "clic2020/test/*.png, or clic2020/{professional,mobile}/*.png of the test part"
    parts = ("test",)


class Clic2021(TestSet):
    """The 60 pictures of the professional test part."""

    name = "clic2021"
    layout = "clic2021/test/*.png"
    parts = ("test",)


class Div2k(TestSet):
    """The 100 pictures of the validation part."""

    name = "div2k"
    layout = "div2k/DIV2K_valid_HR/*.png"
    parts = ("DIV2K_valid_HR", "valid")


class Tecnick(TestSet):
    """The 100 pictures of 1200×1200 of the sampling part."""

    name = "tecnick"
    layout = "tecnick/RGB/RGB_OR_1200x1200/*.png, or tecnick/*.png"
    parts = ("RGB/RGB_OR_1200x1200", "RGB_OR_1200x1200")


class Cityscapes(TestSet):
    """The 500 street scenes of the validation part, 2048×1024."""

    name = "cityscapes"
    layout = "cityscapes/leftImg8bit/val/<city>/*_leftImg8bit.png"
    parts = ("leftImg8bit/val", "val")
