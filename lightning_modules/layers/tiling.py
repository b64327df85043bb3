"""Large pictures piece by piece, with memory bounded and no seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

TILE = 512
"""Pixels a side of a tile, roughly; pictures up to this size are one tile. Part of the format: a tile's size decides
how its pixels are rounded."""
LARGE = 2048
"""The same for a network with nothing else to bound its memory: few pictures are larger, and a margin costs little."""


class Tile(NamedTuple):
    """A block of the latent grid, and the same with its surroundings: (top, bottom, left, right) each."""

    core: tuple[int, int, int, int]
    whole: tuple[int, int, int, int]

    def inner(self) -> tuple[slice, slice]:
        """The core within the whole."""
        (a, b, c, d), (top, _, left, _) = self.core, self.whole
        return slice(a - top, b - top), slice(c - left, d - left)


def tiles(
    h: int, w: int, stride: int, margin: int, even: bool = False, side: int | None = None
) -> Iterator[Tile]:
    """Cut a grid h×w of cells of ``stride`` pixels into tiles; ``margin`` cells around belong to the whole.

    ``even``: tiles about as large as one another, in place of full ones and a rest. ``side``: of a tile in pixels, in
    place of `TILE`.
    """
    most = max(1, (side or TILE) // stride)
    rows, columns = (-(-n // -(-n // most)) if even else most for n in (h, w))
    for a in range(0, h, rows):
        for c in range(0, w, columns):
            b, d = min(a + rows, h), min(c + columns, w)
            around = max(0, a - margin), min(h, b + margin), max(0, c - margin), min(w, d + margin)
            yield Tile((a, b, c, d), around)


def grid_of(x: Tensor, stride: int = 1) -> tuple[int, int]:
    """(h, w) of [B, C, H, W] in cells of ``stride``."""
    return x.shape[2] // stride, x.shape[3] // stride


def tiled(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    grid: tuple[int, int],
    stride: int,
    margin: int,
    up: bool,
    side: int | None = None,
) -> Tensor:
    """A convolutional network between pixels and a latent grid, tile by tile where the picture is larger than a tile:
    the whole's result but for rounding.

    Args:
        network: E (pixels to cells) or G (cells to pixels).
        x: [B, C, …] its input.
        grid: (h, w) of the latents.
        stride: pixels a cell.
        margin: cells that a cell's result depends on, each way.
        up: True for G.
        side: of a tile in pixels, in place of `LARGE`.
    """
    side = side or LARGE
    if max(grid) * stride <= side:
        return network(x)
    into, out = (1, stride) if up else (stride, 1)
    result = x.new_empty(0)
    for tile in tiles(*grid, stride, margin, side=side):
        top, bottom, left, right = (into * side for side in tile.whole)
        piece = network(x[..., top:bottom, left:right])
        if not result.numel():
            result = piece.new_empty(*piece.shape[:2], out * grid[0], out * grid[1])
        rows, columns = (slice(out * s.start, out * s.stop) for s in tile.inner())
        a, b, c, d = (out * side for side in tile.core)
        result[..., a:b, c:d] = piece[..., rows, columns]
    return result
