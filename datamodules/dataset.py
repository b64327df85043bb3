"""Map-style data sets: from a picture's index to a crop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset

from genic.datamodules.batch import Batch, Sample, collate
from genic.datamodules.config import DataConfig
from genic.datamodules.images import ImageItem, read_image, read_label
from genic.datamodules.transform import centre_window, cut, onto_label, random_window
from genic.lightning_modules.codec.errors import DataError, ImageError

logger = logging.getLogger(__name__)
_ATTEMPTS = 50

Before = Callable[[Sample, int], Sample]
"""What becomes of a whole picture before it is cut, by the number of the sample."""
BeforeStep = Callable[[Batch, int], Batch]
"""What becomes of a training batch, by the number of its first sample."""


@dataclass(frozen=True)
class LabelledItem(ImageItem):
    """A picture and its label maps: kind (``detail``, ``semantic``) to the path of an 8-bit PNG."""

    labels: Mapping[str, str] = field(default_factory=dict)

    def read_sample(self, min_side: int = 1) -> Sample:
        """The whole picture with its maps.

        Raises:
            ImageError: a file is damaged, the picture too small, or a map not of the picture's size.
            DataError: a file is gone.
        """
        maps = {kind: read_label(path) for kind, path in self.labels.items()}
        return checked(Sample(read_image(self.path), **maps), self.path, min_side)


def checked(sample: Sample, name: str, min_side: int) -> Sample:
    """The sample, or `ImageError` where it is too small or a map is not of the picture's size."""
    height, width = sample.image.shape[:2]
    if min(height, width) < min_side:
        raise ImageError(f"{name} is {height}×{width}, below the least side of {min_side}")
    for label in (sample.detail, sample.semantic):
        if label is not None and label.shape != (height, width):
            raise ImageError(
                f"a label map of {name} is {label.shape}, the picture {height}×{width}: annotate it again"
            )
    return sample


def augment(sample: Sample, config: DataConfig, key: int) -> Sample:
    """The training transform; its randomness is fixed by ``config.seed`` and ``key``."""
    rng = np.random.default_rng([config.seed, key])
    height, width = sample.image.shape[:2]
    scale = (config.scale_min, config.scale_max)
    window = random_window(height, width, config.crop, scale, config.flip, rng)
    if config.detail_share > 0 and sample.detail is not None and rng.random() < config.detail_share:
        window = onto_label(window, sample.detail, rng)
    return cut(sample, window)


class Pictures:
    """Whole pictures by index, from disk or from memory; unusable ones are counted.

    The flags live in shared memory, so that what reader processes find is known in the training process.
    """

    def __init__(self, items: Sequence[LabelledItem], config: DataConfig) -> None:
        self.items, self.min_side = items, config.min_side
        self._unusable = torch.zeros(len(items), dtype=torch.bool).share_memory_()
        # Filled before the readers fork, and so shared by them.
        self._cache = [self._read(k) for k in range(len(items))] if config.cache else None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def skipped(self) -> int:
        """Number of pictures found unusable so far."""
        return int(self._unusable.sum())

    def get(self, index: int) -> Sample | None:
        """The picture, or None where it is unusable."""
        return self._read(index) if self._cache is None else self._cache[index]

    def _read(self, index: int) -> Sample | None:
        try:
            return self.items[index].read_sample(self.min_side)
        except (ImageError, DataError) as error:
            if not self._unusable[index]:
                self._unusable[index] = True
                logger.warning("skipped (%d so far): %s", self.skipped, error)
            return None


class TrainSet(Dataset):
    """Training crops by (index, key), and batches by lists of these, as `StreamSampler` gives them.

    An unusable picture is replaced by one that ``seed`` and ``key`` choose, so the stream stays reproducible.
    """

    def __init__(
        self,
        pictures: Pictures,
        config: DataConfig,
        before_crop: Before | None = None,
        before_step: BeforeStep | None = None,
    ) -> None:
        self.pictures, self.config = pictures, config
        self.before_crop, self.before_step = before_crop, before_step

    def __getitems__(self, pairs: Sequence[tuple[int, int]]) -> Batch:
        batch = collate([self[pair] for pair in pairs])
        return batch if self.before_step is None else self.before_step(batch, pairs[0][1])

    def __getitem__(self, index_and_key: tuple[int, int]) -> Sample:
        index, key = index_and_key
        others = None
        for _ in range(_ATTEMPTS):
            sample = self.pictures.get(index)
            if sample is not None:
                return augment(_before(sample, key, self.before_crop), self.config, key)
            others = np.random.default_rng([self.config.seed, key, 1]) if others is None else others
            index = int(others.integers(len(self.pictures)))
        raise DataError(
            f"{_ATTEMPTS} pictures in a row are unusable, the last {self.pictures.items[index].path}"
        )


class CentreSet(Dataset):
    """Validation crops by index; None where the picture is unusable (`collate` leaves those out)."""

    def __init__(self, pictures: Pictures, config: DataConfig, before_crop: Before | None = None) -> None:
        self.pictures, self.crop, self.before_crop = pictures, config.crop, before_crop

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample | None:
        sample = self.pictures.get(index)
        if sample is None:
            return None
        sample = _before(sample, index, self.before_crop)
        height, width = sample.image.shape[:2]
        return cut(sample, centre_window(height, width, self.crop))


def _before(sample: Sample, key: int, before_crop: Before | None) -> Sample:
    return sample if before_crop is None else before_crop(sample, key)
