"""Pictures for training, validation and evaluation; see `make_datamodule`."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from genic.datamodules.batch import Batch
from genic.datamodules.config import DataConfig
from genic.lightning_modules.codec.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # Lightning takes seconds to import
    from genic.datamodules.base import PhotoDataModule
    from genic.datamodules.files import EvaluationOnly

__all__ = ["DATASETS", "Batch", "DataConfig", "make_datamodule"]

DATASETS = {
    "imagenet": "genic.datamodules.photographs:ImageNet",
    "openimages": "genic.datamodules.openimages:OpenImages",
    "kodak": "genic.datamodules.kodak:Kodak",
    "clic2020": "genic.datamodules.test_sets:Clic2020",
    "clic2021": "genic.datamodules.test_sets:Clic2021",
    "div2k": "genic.datamodules.test_sets:Div2k",
    "tecnick": "genic.datamodules.test_sets:Tecnick",
    "cityscapes": "genic.datamodules.test_sets:Cityscapes",
    "camvid": "genic.datamodules.camvid:CamVid",
    "bsds": "genic.datamodules.photographs:Bsds",
    "photographs": "genic.datamodules.photographs:Photographs",
    "folder": "genic.datamodules.photographs:Folder",
    "sample": "genic.datamodules.sample:BundledSample",
}


def make_datamodule(config: DataConfig) -> PhotoDataModule | EvaluationOnly:
    """The datamodule that ``config.name`` stands for; a set for evaluation alone is none of Lightning's.

    Raises:
        ConfigError: no such data set, or a value out of range.
    """
    if config.name not in DATASETS:
        raise ConfigError(f"no data set {config.name!r}: {did_you_mean(config.name, DATASETS)}")
    return pkgutil.resolve_name(DATASETS[config.name])(config)
