"""The configuration of every datamodule."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from genic.datamodules.batch import LABELS
from genic.lightning_modules.codec.errors import ConfigError

ROOT_VARIABLE = "GENIC_DATA"


@dataclass
class DataConfig:
    """Which pictures, and how crops are cut from them.

    Attributes:
        name: a data set known to `datamodules.make_datamodule`.
        root: folder that holds ``imagenet/``, ``kodak/``, …; for ``folder`` the folder of pictures itself.
            None stands for the environment variable ``GENIC_DATA``.
        labels: label maps wanted in a batch, of ``detail`` and ``semantic``.
        labels_root: folder of label maps searched before ``<root>/labels``, e.g. `annotate`'s output.
        crop: side of the square crops, pixels.
        scale_min, scale_max: range of the random scaling factor; the crop always fits.
        detail_share: share of the training crops that are moved onto a labelled pixel of ``detail``, in pictures that
            have one: faces and text are seen oftener.
        flip: mirror every other training crop, at random.
        batch_size: crops a rank and batch; the global batch is ``batch_size`` × number of ranks.
        workers: reader processes a rank; 0 reads in the training process.
        cache: keep the decoded pictures in memory (uint8; small sets only).
        shards: folder or URL of tar shards written by `datamodules.pack`, for training in place of files.
        min_side: pictures with a shorter side are skipped.
        seed: of everything random; with the number of a sample it fixes that sample.
    """

    name: str = "sample"
    root: str | None = None
    labels: list[str] = field(default_factory=list)
    labels_root: str | None = None
    crop: int = 256
    scale_min: float = 0.5
    scale_max: float = 2.0
    detail_share: float = 0.0
    flip: bool = True
    batch_size: int = 8
    workers: int = 2
    cache: bool = False
    shards: str | None = None
    min_side: int = 32
    seed: int = 0

    def check(self) -> None:
        """Raise `ConfigError` on a value out of range."""
        for key in ("crop", "batch_size", "min_side"):
            if getattr(self, key) < 1:
                raise ConfigError(f"data.{key} is {getattr(self, key)}: it must be at least 1")
        if not 0 < self.scale_min <= self.scale_max:
            raise ConfigError(
                f"data.scale_min={self.scale_min}, data.scale_max={self.scale_max}: 0 < min ≤ max needed"
            )
        if self.workers < 0 or self.seed < 0:
            raise ConfigError(f"data.workers={self.workers} and data.seed={self.seed} cannot be negative")
        if not 0 <= self.detail_share <= ("detail" in self.labels):
            raise ConfigError(
                f"data.detail_share={self.detail_share}: 0 to 1 with detail among data.labels, else 0"
            )
        unknown = sorted(set(self.labels) - set(LABELS))
        if unknown:
            raise ConfigError(f"data.labels names {', '.join(unknown)}; there are {' and '.join(LABELS)}")

    def resolved_root(self) -> Path | None:
        """`root`, else the environment variable, else None."""
        root = self.root or os.environ.get(ROOT_VARIABLE)
        return Path(root).expanduser() if root else None
