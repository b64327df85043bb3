"""Training crops from tar shards: sequential reading for runs at scale, with the folder layouts' transform.

Shards lie wherever fsspec reads: in a folder, behind HTTP, in S3 (``pip install 'genic[s3]'``) and so on.

Reading order, a pure function of the seed, of the number of ranks and of `DataConfig.workers`: each pass
permutes the shards; the readers of all ranks ("lanes") take every n-th one; a shard is read whole and its
samples are permuted. So a resumed run passes over whole shards without opening them, and goes on exactly.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import fsspec
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from genic.datamodules.batch import Batch, Sample, collate, unchanged
from genic.datamodules.config import DataConfig
from genic.datamodules.dataset import BeforeStep, augment, checked
from genic.datamodules.images import read_image, read_label
from genic.lightning_modules.codec.errors import ConfigError, DataError, ImageError, ToolError, needs

with needs("train"):
    from webdataset.tariterators import group_by_keys, tar_file_expander


logger = logging.getLogger(__name__)
INDEX = "index.json"


@dataclass(frozen=True)
class ShardIndex:
    """What `datamodules.pack` wrote.

    Attributes:
        folder: path or URL without a trailing slash.
        shards: file name and number of samples of each shard.
        labels: kinds of maps that every sample has.
        semantic_classes: of t_s.
    """

    folder: str
    shards: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]
    semantic_classes: int

    @classmethod
    def read(cls, folder: str) -> ShardIndex:
        """Parse ``index.json``; `DataError` where there is none or it is not one of ours."""
        folder = folder.rstrip("/")
        try:
            found = json.loads(_fetched(f"{folder}/{INDEX}"))
            shards = tuple((str(name), int(count)) for name, count in found["shards"])
            index = cls(folder, shards, tuple(found["labels"]), int(found["semantic_classes"]))
        except OSError as error:
            raise DataError(
                f"no {INDEX} in {folder} ({error}): write shards with `python -m datamodules.pack`"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}/{INDEX} is damaged ({error!r}): pack the shards again") from error
        if not shards or any(count < 1 for _, count in shards):
            raise DataError(f"{folder}/{INDEX} lists an empty shard, or none: pack the shards again")
        return index


class ShardStream(IterableDataset):
    """Endless collated batches from ``start_batch`` on.

    An unusable sample is replaced by the next usable one of its shard.
    """

    def __init__(
        self,
        index: ShardIndex,
        config: DataConfig,
        start_batch: int = 0,
        rank: int = 0,
        world: int = 1,
        before_step: BeforeStep | None = None,
    ) -> None:
        missing = sorted(set(config.labels) - set(index.labels))
        if missing:
            raise ConfigError(
                f"the shards in {index.folder} hold no {' and '.join(missing)} maps: pack them with --labels"
            )
        self.index, self.config = index, config
        self.start_batch, self.rank, self.world = start_batch, rank, world
        self.before_step = before_step

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        # The loader takes batches from its readers in turn, beginning with reader 0; which lane a batch
        # belongs to must not depend on where the run started.
        number = self.start_batch + worker
        lane = self.rank * workers + number % workers
        size = self.config.batch_size
        samples = self._samples(lane, self.world * workers, skip=number // workers * size)
        while True:
            first = (number * self.world + self.rank) * size
            batch = collate([augment(next(samples), self.config, first + slot) for slot in range(size)])
            yield batch if self.before_step is None else self.before_step(batch, first)
            number += workers

    def _samples(self, lane: int, lanes: int, skip: int) -> Iterator[Sample]:
        """Whole pictures of one lane, without the first ``skip``."""
        turn = lane
        while True:
            turns, place = divmod(turn, len(self.index.shards))
            order = np.random.default_rng([self.config.seed, turns]).permutation(len(self.index.shards))
            name, count = self.index.shards[order[place]]
            if skip >= count:
                skip -= count
            else:
                shard = self._read(name, count)
                for k in np.random.default_rng([self.config.seed, turn, 1]).permutation(count)[skip:]:
                    yield self._usable(shard, int(k), name)
                skip = 0
            turn += lanes

    def _read(self, name: str, count: int) -> list[dict[str, bytes]]:
        url = f"{self.index.folder}/{name}"
        try:
            # Splitting among ranks and readers is done above; samples stay bytes, so nothing is unpickled.
            files = tar_file_expander([{"url": url, "stream": BytesIO(_fetched(url))}])
            shard = list(group_by_keys(files))
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"shard {url} cannot be read ({error}): fetch or pack it again") from error
        if len(shard) != count:
            raise DataError(f"shard {url} holds {len(shard)} samples, its index says {count}: pack it again")
        return shard

    def _usable(self, shard: list[dict[str, bytes]], start: int, name: str) -> Sample:
        for k in range(len(shard)):
            member = shard[(start + k) % len(shard)]
            maps = {}
            try:
                for label in self.config.labels:
                    maps[label] = read_label(member[f"{label}.png"])
                sample = Sample(read_image(member["image"]), **maps)
                return checked(sample, f"{name}:{member['__key__']}", self.config.min_side)
            except (ImageError, KeyError) as error:
                logger.warning("skipped %s:%s: %r", name, member["__key__"], error)
        raise DataError(f"no usable sample in shard {name}: pack the shards again")


def shard_loader(
    config: DataConfig,
    classes: int,
    start_batch: int,
    rank: int,
    world: int,
    before_step: BeforeStep | None = None,
) -> DataLoader:
    """The training loader over ``config.shards``; `ConfigError` unless their t_s has ``classes`` classes."""
    assert config.shards is not None, "called where there are shards"
    index = ShardIndex.read(config.shards)
    if "semantic" in config.labels and index.semantic_classes != classes:
        raise ConfigError(
            f"t_s in {config.shards} has {index.semantic_classes} classes, that of {config.name} {classes}: "
            "set data.name to the data set that was packed"
        )
    stream = ShardStream(index, config, start_batch, rank, world, before_step)
    return DataLoader(
        stream,
        batch_size=None,
        collate_fn=unchanged,
        num_workers=config.workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=config.workers > 0,
    )


def _fetched(url: str) -> bytes:
    """A whole file; ToolError where fsspec wants another package for this kind of address."""
    try:
        with fsspec.open(url, "rb") as stream:
            return stream.read()  # pyright: ignore[reportAttributeAccessIssue]  # typed as a list, too
    except ImportError as error:
        raise ToolError(f"{url} cannot be read: {error}; for S3 pip install 'genic[s3]'") from error
