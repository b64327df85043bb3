"""Pictures for training, validation and evaluation; see `make_datamodule`."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

from datamodules.batch import Batch
from datamodules.config import DataConfig
from lightning_modules.codec.errors import ConfigError, did_you_mean

if TYPE_CHECKING:  # Lightning takes seconds to import
    from datamodules.base import PhotoDataModule
    from datamodules.files import EvaluationOnly

__all__ = ["DATASETS", "Batch", "DataConfig", "make_datamodule"]

DATASETS = {
    "imagenet": "datamodules.photographs:ImageNet",
    "openimages": "datamodules.openimages:OpenImages",
    "kodak": "datamodules.kodak:Kodak",
    "clic2020": "datamodules.test_sets:Clic2020",
    "clic2021": "datamodules.test_sets:Clic2021",
    "div2k": "datamodules.test_sets:Div2k",
    "tecnick": "datamodules.test_sets:Tecnick",
    "cityscapes": "datamodules.test_sets:Cityscapes",
    "camvid": "datamodules.camvid:CamVid",
    "bsds": "datamodules.photographs:Bsds",
    "photographs": "datamodules.photographs:Photographs",
    "folder": "datamodules.photographs:Folder",
    "sample": "datamodules.sample:BundledSample",
}


def make_datamodule(config: DataConfig) -> PhotoDataModule | EvaluationOnly:
    """The datamodule that ``config.name`` stands for; a set for evaluation alone is none of Lightning's.

    Raises:
        ConfigError: no such data set, or a value out of range.
    """
    if config.name not in DATASETS:
        raise ConfigError(f"no data set {config.name!r}: {did_you_mean(config.name, DATASETS)}")
    return pkgutil.resolve_name(DATASETS[config.name])(config)
