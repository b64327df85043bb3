"""What the datamodules share: loaders over the files of a data set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from genic.datamodules.batch import collate, unchanged
from genic.datamodules.config import DataConfig
from genic.datamodules.dataset import Before, BeforeStep, CentreSet, Pictures, TrainSet
from genic.datamodules.files import Part, PictureFiles
from genic.datamodules.sampler import OnceSampler, StreamSampler, rank_and_world

logger = logging.getLogger(__name__)


class PhotoDataModule(PictureFiles, pl.LightningDataModule):
    """Crops for training and validation, whole pictures for evaluation.

    The training loader is endless (bound it by steps, not epochs) and shares batches out by itself: give
    the trainer ``use_distributed_sampler=False``.

    Attributes:
        start_batch: number of the first training batch; set it before `train_dataloader` to resume.
        before_crop: what becomes of whole pictures, see `dataset.Before`; a module sets it in its ``check_data``.
        before_step: likewise of training batches, see `dataset.BeforeStep`: what a step would do on the host is done
            by the readers.
    """

    before_crop: Before | None = None
    before_step: BeforeStep | None = None

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self.start_batch = 0
        self._pictures: dict[Part, Pictures] = {}

    @property
    def skipped(self) -> int:
        """Number of unusable pictures found so far by this process and its readers."""
        return sum(pictures.skipped for pictures in self._pictures.values())

    def train_dataloader(self) -> DataLoader:
        """Endless batches of random crops from `start_batch` on."""
        rank, world = rank_and_world()
        if self.config.shards is not None:
            from genic.datamodules.shards import shard_loader

            classes = self.semantic_classes
            return shard_loader(self.config, classes, self.start_batch, rank, world, self.before_step)
        pictures = self._open("train")
        sampler = StreamSampler(
            len(pictures), self.config.batch_size, self.config.seed, self.start_batch, rank, world
        )
        dataset = TrainSet(pictures, self.config, self.before_crop, self.before_step)
        return self._loader(dataset, sampler, unchanged)

    def val_dataloader(self) -> DataLoader:
        """Central crops of the validation part, each picture on exactly one rank."""
        pictures = self._open("val")
        sampler = OnceSampler(len(pictures), self.config.batch_size, *rank_and_world())
        return self._loader(CentreSet(pictures, self.config, self.before_crop), sampler, collate)

    def teardown(self, stage: str) -> None:
        """Log how many pictures were skipped."""
        if self.skipped:
            logger.warning("%s: %d unusable pictures were skipped", self.name, self.skipped)

    def _open(self, part: Part) -> Pictures:
        if part not in self._pictures:
            self._pictures[part] = Pictures(self.labelled(self.items(part)), self.config)
        return self._pictures[part]

    def _loader(
        self,
        dataset: TrainSet | CentreSet,
        sampler: StreamSampler | OnceSampler,
        collate_fn: Callable[[Any], Any],
    ) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=self.config.workers,
            collate_fn=collate_fn,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.config.workers > 0,
        )
