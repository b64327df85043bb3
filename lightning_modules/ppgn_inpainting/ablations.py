"""What the feed-forward networks are trained on: crops as files of random schemes hold them.

Coding takes the host's time, so the data's readers do it, and a step finds tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genic.datamodules.batch import Batch
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingTraining
from genic.lightning_modules.ppgn_inpainting.schemes import (
    Blocks,
    BlocksRandom,
    EdgePixels,
    Pixels,
    Scheme,
    Square,
    Thumbnail,
)
from genic.lightning_modules.ppgn_inpainting.system import Ablated, ablate

MASKED = (Square, Pixels, EdgePixels, Blocks, BlocksRandom)
_ASSIST = (1 / 8, 1 / 16)  # scales of a thumbnail that goes with kept pixels
_ASSISTED = 0.25  # share of masked crops that have one


@dataclass(frozen=True)
class Ablations:
    """To be called by `PhotoDataModule` on training batches: ``prepared`` is what the restorer and the filler start
    from, by name.

    Attributes:
        config: of the training.
        seed: of what is drawn, with the number of the batch's first sample.
    """

    config: PpgnInpaintingTraining
    seed: int

    def __call__(self, batch: Batch, key: int) -> Batch:
        rng = np.random.default_rng([self.seed, key, 3])
        for_restorer, for_filler, _ = shared_out(batch.image, self.config.parts)
        prepared = {
            "restorer": self.drawn(for_restorer, rng, (Thumbnail,)),
            "filler": self.drawn(for_filler, rng, MASKED),
        }
        return batch._replace(prepared=prepared)

    def drawn(self, x: Tensor, rng: np.random.Generator, kinds: tuple[type[Scheme], ...]) -> Ablated:
        """Crops [B, 3, H, W], each by a random scheme of ``kinds`` and at a random quality; on the CPU."""
        low, high = self.config.restore_quality
        schemes = [self._scheme(kinds[rng.integers(len(kinds))], x[0, 0].numel(), rng) for _ in x]
        return ablate(x, schemes, [int(rng.integers(low, high + 1)) for _ in x])

    def _scheme(self, kind: type[Scheme], pixels: int, rng: np.random.Generator) -> Scheme:
        if kind is Thumbnail:
            return Thumbnail(float(rng.choice(self.config.restore_scales)))
        named: dict[str, Any] = {"seed": int(rng.integers(256))}
        if issubclass(kind, Pixels):
            share = math.exp(rng.uniform(math.log(0.01), math.log(0.08)))
            named["count"] = max(1, round(share * pixels))
        elif issubclass(kind, Blocks):
            named["keep"] = float(rng.uniform(0.15, 0.6))
        if rng.random() < _ASSISTED:
            named["assist"] = float(rng.choice(_ASSIST))
        return kind(**named)


def shared_out(x: Tensor, parts: Sequence[int]) -> list[Tensor]:
    """The crops of restorer, filler and G; a batch with fewer crops than ``parts`` wants begins anew."""
    shared, start = [], 0
    for count in parts:
        shared.append(x[(torch.arange(count, device=x.device) + start) % len(x)])
        start += count
    return shared
