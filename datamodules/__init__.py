"""Pictures for training, validation and evaluation; see `make_datamodule`."""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from datamodules.batch import Batch
from datamodules.config import DataConfig
from lightning_modules.codec.errors import ConfigError

if TYPE_CHECKING:  # Lightning takes seconds to import
    from datamodules.base import PhotoDataModule

__all__ = ["DATASETS", "Batch", "DataConfig", "make_datamodule"]

DATASETS = {
    "imagenet": "datamodules.photographs:ImageNet",
    "openimages": "datamodules.openimages:OpenImages",
    "kodak": "datamodules.kodak:Kodak",
    "camvid": "datamodules.camvid:CamVid",
    "bsds": "datamodules.photographs:Bsds",
    "photographs": "datamodules.photographs:Photographs",
    "folder": "datamodules.photographs:Folder",
    "sample": "datamodules.sample:BundledSample",
}


def make_datamodule(config: DataConfig) -> PhotoDataModule:
    """The datamodule that ``config.name`` stands for.

    Raises:
        ConfigError: no such data set, or a value out of range.
    """
    if config.name not in DATASETS:
        near = difflib.get_close_matches(config.name, DATASETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(DATASETS)}"
        raise ConfigError(f"no data set {config.name!r}: {hint}")
    module, _, name = DATASETS[config.name].partition(":")
    return getattr(importlib.import_module(module), name)(config)
