"""What every datamodule yields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genic.lightning_modules.codec.errors import DataError

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import Tensor

LABELS = ("detail", "semantic")
CAMVID_CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign"),
    *("fence", "car", "pedestrian", "bicyclist", "unlabelled"),
)


class Sample(NamedTuple):
    """One crop before collation: uint8 h×w×3, and uint8 h×w maps or None; ``planes``: uint8 h×w×k."""

    image: np.ndarray
    detail: np.ndarray | None = None
    semantic: np.ndarray | None = None
    planes: np.ndarray | None = None


class Batch(NamedTuple):
    """A batch of crops.

    Attributes:
        image: x, float32 [B, 3, h, w], RGB in [0, 1].
        detail: t_a, float32 [B, 1, h, w], 1 on faces and text and 0 elsewhere; None where not asked for.
        semantic: t_s, int64 [B, h, w], class indices below the datamodule's `semantic_classes`; or None.
        planes: uint8 [B, k, h, w], what a paper adds to whole pictures (`PhotoDataModule.before_crop`); else None.
        prepared: tensors that a paper makes of a batch on the host (`PhotoDataModule.before_step`); else None.
    """

    image: Tensor
    detail: Tensor | None = None
    semantic: Tensor | None = None
    planes: Tensor | None = None
    prepared: Any = None


def collate(samples: Sequence[Sample | None]) -> Batch:
    """Stack samples of one size; None (an unusable picture) is left out.

    Any non-zero value in a detail map counts as 1.

    Raises:
        DataError: every sample is None.
    """
    import torch

    usable = [s for s in samples if s is not None]
    if not usable:
        raise DataError(
            "every picture of a validation batch is unusable: see the warnings above for their names"
        )
    image = torch.from_numpy(np.stack([s.image for s in usable])).permute(0, 3, 1, 2).contiguous()
    detail = semantic = planes = None
    if usable[0].detail is not None:
        detail = (torch.from_numpy(np.stack([_known(s.detail) for s in usable])) != 0).float().unsqueeze(1)
    if usable[0].semantic is not None:
        semantic = torch.from_numpy(np.stack([_known(s.semantic) for s in usable])).long()
    if usable[0].planes is not None:
        planes = (
            torch.from_numpy(np.stack([_known(s.planes) for s in usable])).permute(0, 3, 1, 2).contiguous()
        )
    return Batch(image.float().div_(255.0), detail, semantic, planes)


def unchanged(batch: Any) -> Any:
    """What loaders call in place of `collate` where batches are made already."""
    return batch


def _known(label: np.ndarray | None) -> np.ndarray:
    assert label is not None, "all samples of a data set have a kind of label, or none has"
    return label
