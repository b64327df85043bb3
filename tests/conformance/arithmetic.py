"""Ways to do the same arithmetic that differ in rounding wherever rounding occurs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from genic.lightning_modules.entropy.layers import GridLinear


@dataclass(frozen=True)
class Arithmetic:
    """Number of threads, oneDNN on or off, and the order in which every linear layer accumulates (0: as it comes)."""

    threads: int = 1
    onednn: bool = True
    shuffled: int = 0

    def __str__(self) -> str:
        parts = (
            f"{self.threads} thread" + "s" * (self.threads > 1),
            f"oneDNN {'on' if self.onednn else 'off'}",
        )
        return ", ".join((*parts, *([f"order {self.shuffled}"] if self.shuffled else [])))

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Compute in this way inside the block."""
        threads, forward = torch.get_num_threads(), GridLinear.forward
        torch.set_num_threads(self.threads)
        if self.shuffled:
            GridLinear.forward = _shuffled(self.shuffled)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "TF32"
                )  # of Intel GPUs; nothing to do with oneDNN on or off
                with torch.backends.mkldnn.flags(enabled=self.onednn):
                    yield
        finally:
            GridLinear.forward = forward
            torch.set_num_threads(threads)


ALL = [Arithmetic(*values) for values in itertools.product((1, 2), (True, False), (0, 1))]


def _shuffled(seed: int) -> Callable[[GridLinear, Tensor], Tensor]:
    def forward(self: GridLinear, x: Tensor) -> Tensor:
        fan_in = x.shape[-1]
        order = torch.randperm(fan_in, generator=torch.Generator().manual_seed(fan_in + 1000 * seed))
        y = torch.addmm(self.bias, x.reshape(-1, fan_in)[:, order], self.weight[order])
        return self.snap(y).reshape(*x.shape[:-1], -1)

    return forward
