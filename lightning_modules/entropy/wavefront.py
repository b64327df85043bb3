"""The order of decoding: anti-diagonals t = s·i + j, and feature maps laid out along them.

Position (i, j) may depend on every position whose t is smaller, so all positions of one diagonal decode at
once: a 48×32 grid takes 79 steps for s = 1 and 110 or 142 (by orientation) for s = 2. In the *skewed* layout
a diagonal is one contiguous row::

    skewed[t, i] = grid[i, t − s·i]        T = s·(H − 1) + W rows of H columns

and the neighbour at (di, dj) becomes (dt, di) = (s·di + dj, di): the causal rule is simply dt < 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.entropy.layers import Offset


def causal_offsets(radius: int, skew: int, include_same: bool) -> tuple[Offset, ...]:
    """Offsets (dt, di) of the (2r+1)² neighbours that are decoded before the position.

    ``include_same`` adds those on the same diagonal, the position itself among them: allowed for features,
    which are functions of earlier symbols, never for the symbols.
    """
    square = [(i, j) for i in range(-radius, radius + 1) for j in range(-radius, radius + 1)]
    offsets = [(skew * i + j, i) for i, j in square]
    return tuple(o for o in offsets if o[0] < 0 or (include_same and o[0] == 0))


@dataclass(frozen=True)
class Span:
    """A block of the skewed layout: diagonals t0 to t1, grid rows i0 to i1 (ends excluded)."""

    t0: int
    t1: int
    i0: int
    i1: int


class Wavefront:
    """Named, zero-padded feature maps of one batch in the skewed layout.

    Args:
        batch, height, width: of the latent grid.
        skew: s.
        margin: how far neighbours reach: (diagonals before, grid rows to either side).
        like: tensor whose dtype and device are used.
        incremental: write blocks in place (coding) or whole maps out of place (training, with gradients).
    """

    def __init__(
        self, batch: int, height: int, width: int, skew: int, margin: tuple[int, int], like: Tensor, incremental: bool
    ) -> None:
        self.batch, self.height, self.width, self.skew = batch, height, width, skew
        self.diagonals = skew * (height - 1) + width
        self.margin, self.incremental = margin, incremental
        self.options = {"dtype": like.dtype, "device": like.device}
        self.maps: dict[str, Tensor] = {}
        t = torch.arange(self.diagonals, device=like.device)[:, None]
        i = torch.arange(height, device=like.device)[None]
        self.j = t - skew * i
        self.inside = (self.j >= 0) & (self.j < width)  # [T, H]
        mt, mi = margin
        self.padded_inside = F.pad(self.inside, (mi, mi, mt, 0))

    @property
    def whole(self) -> Span:
        """Everything at once."""
        return Span(0, self.diagonals, 0, self.height)

    def diagonal(self, t: int) -> Span:
        """The positions of diagonal ``t`` that lie inside the grid."""
        first = max(0, -(-(t - self.width + 1) // self.skew))
        return Span(t, t + 1, first, min(self.height - 1, t // self.skew) + 1)

    def to_skewed(self, grid: Tensor) -> Tensor:
        """[B, H, W, ch] -> [B, T, H, ch], zeros outside the grid."""
        i = torch.arange(self.height, device=grid.device)[None].expand_as(self.j)
        skewed = grid[:, i, self.j.clamp(0, self.width - 1)]
        return skewed * self.inside[..., None].to(grid.dtype)

    def to_grid(self, skewed: Tensor) -> Tensor:
        """[B, T, H, ch] -> [B, H, W, ch]."""
        i = torch.arange(self.height, device=skewed.device)[:, None]
        j = torch.arange(self.width, device=skewed.device)[None]
        return skewed[:, self.skew * i + j, i.expand(self.height, self.width)]

    def write(self, name: str, value: Tensor, span: Span) -> None:
        """Store a block [B, t, i, ch] of map ``name``; positions outside the grid become zero."""
        mt, mi = self.margin
        if span.t1 - span.t0 > 1:
            inside = self.inside[span.t0 : span.t1, span.i0 : span.i1, None]
            value = value * inside.to(value.dtype)
        if not self.incremental:
            self.maps[name] = F.pad(value, (0, 0, mi, mi, mt, 0))
            return
        if name not in self.maps:
            self.allocate(name, value.shape[-1])
        self.maps[name][:, mt + span.t0 : mt + span.t1, mi + span.i0 : mi + span.i1] = value

    def allocate(self, name: str, channels: int) -> None:
        """Make map ``name`` of zeros, for maps whose neighbours are read before they are first written."""
        mt, mi = self.margin
        shape = (self.batch, mt + self.diagonals, self.height + 2 * mi, channels)
        self.maps[name] = torch.zeros(shape, **self.options)

    def read(self, name: str, span: Span) -> Tensor:
        """A block [B, t, i, ch] of map ``name``."""
        return self._shifted(self.maps[name], span, 0, 0)

    def neighbours(self, name: str, offsets: tuple[Offset, ...], span: Span) -> list[Tensor]:
        """The block shifted by each offset."""
        return [self._shifted(self.maps[name], span, dt, di) for dt, di in offsets]

    def neighbours_inside(self, offsets: tuple[Offset, ...], span: Span) -> Tensor:
        """bool [t, i, len(offsets)]: whether the neighbour lies inside the grid."""
        inside = self.padded_inside[None]
        return torch.stack([self._shifted(inside, span, dt, di)[0] for dt, di in offsets], -1)

    def _shifted(self, padded: Tensor, span: Span, dt: int, di: int) -> Tensor:
        t, i = self.margin[0] + dt, self.margin[1] + di
        return padded[:, t + span.t0 : t + span.t1, i + span.i0 : i + span.i1]
