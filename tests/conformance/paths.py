"""The plain float path, and the evaluation of either path by diagonals or at once, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genic.lightning_modules.entropy.coder import GaussianModels
from genic.lightning_modules.entropy.gaussian import GaussianTables
from genic.lightning_modules.entropy.grid import STEPS
from genic.lightning_modules.entropy.hyperprior import EntropyEstimator, HyperpriorCoder
from tests.conformance.subjects import Latents


class FloatModels(GaussianModels):
    """Rows of the tables by μ and s in floating point."""

    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return super().select(torch.round(mu * STEPS), torch.round(index * STEPS))


class FloatCoder(HyperpriorCoder):
    """What other codecs do: the trained float32 network decides, with the same tables and the same range coder."""

    def __init__(self, estimator: EntropyEstimator, tables: GaussianTables) -> None:
        self._set_up(estimator, FloatModels(tables), "cpu")


@torch.inference_mode()
def parameters(coder: HyperpriorCoder, batch: Sequence[Latents], by_diagonal: bool) -> Tensor:
    """(μ, s) of pictures of one size, [B, H, W, 2·symbols], as the coder's network predicts them."""
    z_hat, z_h_hat = (
        torch.stack([getattr(x, n) for x in batch]).permute(0, 2, 3, 1) for n in Latents._fields[:2]
    )
    z_hat, z_h_hat = (coder.latents.activations(x.contiguous()) for x in (z_hat, z_h_hat))
    context, levels = coder.estimator.context, torch.tensor([x.level for x in batch])
    psi = coder.estimator.H_d(z_h_hat, *z_hat.shape[1:3])
    front = context.wavefront(psi, levels, incremental=True)
    symbols = front.to_rows(z_hat)
    if not by_diagonal:
        front.write("z_hat", symbols, front.whole)
        return front.to_grid(context.predict(front, front.whole, known=True))
    predicted = []
    for t in range(front.diagonals):
        rows = front.block(t, t + 1)
        predicted.append(context.predict(front, rows, known=False))
        context.observe(front, symbols[rows], rows)
    return front.to_grid(torch.cat(predicted))


def table_rows(coder: HyperpriorCoder, predicted: Tensor) -> np.ndarray:
    """(centre, row) of every symbol for (μ, s) as `parameters` gives them, [2, …]."""
    return np.stack(coder.models.select(*predicted.chunk(2, -1)))
