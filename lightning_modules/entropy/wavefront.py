"""The order of decoding: anti-diagonals t = s·i + j, and feature maps with one row a position in that order.

Position (i, j) may depend on every position whose t is smaller, so all positions of one diagonal decode at
once: a 48×32 grid takes 79 steps for s = 1 and 110 or 142 (by orientation) for s = 2. Maps hold their positions
sorted by t, so that a diagonal, or any run of diagonals, is one contiguous slice of rows, whatever s, the size or
the number of pictures; neighbours are found through a table of row numbers, whose border entries point at a row
of zeros behind the last.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int] | None
"""(di, dj): rows down, columns to the right. None is a neighbour that every position has: a row of zeros."""

BEYOND = -(2.0**40)
"""Added to attention's scores of neighbours beyond the border; no sum of scores comes near."""


def causal_offsets(radius: int, skew: int, include_same: bool) -> tuple[Offset, ...]:
    """Offsets of the (2r+1)² neighbours that are decoded before the position, row by row.

    ``include_same`` adds those on the same diagonal, the position itself among them: allowed for features,
    which are functions of earlier symbols, never for the symbols.
    """
    square = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)]
    return tuple((i, j) for i, j in square if skew * i + j < 0 or (include_same and skew * i + j == 0))


class Order:
    """Row numbers of the positions of ``batch`` pictures of one size, sorted by (t, picture, i).

    Attributes:
        rows: number of positions.
        starts: row at which each diagonal begins, and ``rows`` at the end.
        position: int64 [rows], index into the flattened [B, H, W] of each row.
        row: int64 [B, H, W], the inverse.
    """

    def __init__(self, batch: int, height: int, width: int, skew: int, device: torch.device) -> None:
        t = skew * torch.arange(height)[:, None] + torch.arange(width)
        flat = t.expand(batch, height, width).flatten()
        position = torch.argsort(flat, stable=True)
        self.rows = len(flat)
        self.starts = [0, *torch.bincount(flat).cumsum(0).tolist()]
        self.position = position.to(device)
        self.row = torch.empty_like(position).scatter_(0, position, torch.arange(self.rows))
        self.row = self.row.reshape(batch, height, width).to(device)
        self._neighbours: dict[tuple[Offset, ...], Tensor] = {}

    def neighbours(self, offsets: tuple[Offset, ...]) -> Tensor:
        """Row numbers of the neighbours, int64 [rows, len(offsets)]; ``rows`` beyond the border."""
        if offsets not in self._neighbours:
            # Tables outlive this call: they must not be inference tensors, which training could not use.
            with torch.inference_mode(False):
                self._neighbours[offsets] = torch.stack([self._shifted(o) for o in offsets], -1)
        return self._neighbours[offsets]

    def _shifted(self, offset: Offset) -> Tensor:
        if offset is None:
            return torch.full_like(self.position, self.rows)
        (i, j), (height, width) = offset, self.row.shape[1:]
        m = max(abs(i), abs(j))
        padded = F.pad(self.row, (m, m, m, m), value=self.rows)
        return padded[:, m + i : m + i + height, m + j : m + j + width].flatten()[self.position]


@lru_cache(maxsize=4)
def _order(batch: int, height: int, width: int, skew: int, device: torch.device) -> Order:
    with torch.inference_mode(False):
        return Order(batch, height, width, skew, device)


class Wavefront:
    """Named feature maps of one batch, [rows, channels] each, in the order of decoding.

    Args:
        batch, height, width: of the latent grid.
        skew: s.
        like: tensor whose dtype and device are used.
        incremental: write blocks in place (coding) or whole maps out of place (training, with gradients).

    Attributes:
        pending: features of the block in work, by name, which wait for its symbols.
    """

    def __init__(
        self, batch: int, height: int, width: int, skew: int, like: Tensor, incremental: bool
    ) -> None:
        self.order = _order(batch, height, width, skew, like.device)
        self.shape = (batch, height, width)
        self.diagonals = len(self.order.starts) - 1
        self.incremental = incremental
        self.options = {"dtype": like.dtype, "device": like.device}
        self.maps: dict[str, Tensor] = {}
        self.pending: dict[str, Tensor] = {}
        self._borders: dict[tuple[Offset, ...], Tensor] = {}

    def block(self, t0: int, t1: int) -> slice:
        """The rows of diagonals ``t0`` to ``t1``, the end excluded."""
        return slice(self.order.starts[t0], self.order.starts[t1])

    def lengths(self, t0: int, t1: int) -> list[int]:
        """Number of rows of each of diagonals ``t0`` to ``t1``, the end excluded."""
        return np.diff(self.order.starts[t0 : t1 + 1]).tolist()

    @property
    def whole(self) -> slice:
        """All rows."""
        return slice(0, self.order.rows)

    def to_rows(self, grid: Tensor) -> Tensor:
        """[B, H, W, ch] -> [rows, ch]."""
        return grid.flatten(0, 2).index_select(0, self.order.position)

    def to_grid(self, rows: Tensor) -> Tensor:
        """[rows, ch] -> [B, H, W, ch]."""
        return rows.index_select(0, self.order.row.flatten()).reshape(*self.shape, -1)

    def write(self, name: str, value: Tensor, at: slice) -> None:
        """Store rows ``at`` of map ``name``."""
        if not self.incremental:
            self.maps[name] = F.pad(value, (0, 0, 0, 1))
            return
        if name not in self.maps:
            self.allocate(name, value.shape[-1])
        self.maps[name][at] = value

    def allocate(self, name: str, channels: int) -> None:
        """Make map ``name`` of zeros, for maps whose neighbours are read before they are first written."""
        self.maps[name] = torch.zeros((self.order.rows + 1, channels), **self.options)

    def read(self, name: str, at: slice) -> Tensor:
        """Rows ``at`` of map ``name``, [rows, ch]."""
        return self.maps[name][at]

    def neighbours(self, name: str, offsets: tuple[Offset, ...], at: slice) -> Tensor:
        """Map ``name`` at each offset from rows ``at``: [rows, len(offsets), ch], zeros beyond the border."""
        # An embedding's gradient is one pass over the table; that of indexing is many times slower.
        return torch.embedding(self.maps[name], self.order.neighbours(offsets)[at])

    def border(self, offsets: tuple[Offset, ...], at: slice) -> Tensor:
        """[rows, len(offsets), 1]: `BEYOND` where the neighbour lies beyond the border, else 0."""
        if offsets not in self._borders:
            beyond = self.order.neighbours(offsets) == self.order.rows
            beyond &= torch.tensor([o is not None for o in offsets], device=beyond.device)
            self._borders[offsets] = beyond[..., None].to(self.options["dtype"]) * BEYOND
        return self._borders[offsets][at]
