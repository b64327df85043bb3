"""Pictures of any size: guessed, searched and generated, whole or in tiles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.gan_reversal.prior import bits, shifted, step_of
from lightning_modules.gan_reversal.reversal import START, Reversal, Search, fitting_shift
from lightning_modules.gan_reversal.system import System
from lightning_modules.gan_reversal.tiles import CORE, tiled, tiles

_MARGIN = 2  # cells around a tile that are searched with it, where the cells' pictures depend on each other


def generate(system: System, z: Tensor) -> Tensor:
    """[B, latents, h, w] -> [B, 3, H, W], about [0, 1]. DCGAN itself goes row by row."""
    G = system.G
    if max(z.shape[2:]) * G.stride <= CORE or system.E is None:
        return G(z)
    return tiled(G, z, z.shape[2:], G.stride, G.reach, up=True)


@torch.no_grad()
def guess(system: System, x: Tensor) -> Tensor | None:
    """E's z, [B, latents, h, w], of pictures [B, 3, H, W] in [0, 1]; None without E."""
    E, G = system.E, system.G
    if E is None:
        return None
    grid = G.grid(*x.shape[2:])
    pad = (0, G.span(grid[1]) - x.shape[3], 0, G.span(grid[0]) - x.shape[2])
    padded = F.pad(x, pad, mode="replicate")
    if max(padded.shape[2:]) <= CORE:
        return E(padded)
    return tiled(E, padded, grid, G.stride, G.reach, up=False)


def search_latents(
    system: System, index: Tensor, x: Tensor, budget: float, search: Search
) -> tuple[Tensor, Tensor]:
    """Search for the latents of pictures of one size; tile by tile where they are large.

    Args:
        index: s of the quantiser, [latents].
        x: [B, 3, H, W] in [0, 1].
        budget: most bits of the symbols of each picture, by the prior.

    Returns:
        k [B, latents, h, w] and shifts [B]. Tiles may exceed the budget together by a little.
    """
    G, start = system.G, guess(system, x)
    budgets = torch.full((len(x),), budget, device=x.device)
    grid = G.grid(*x.shape[2:])
    if max(grid) * G.stride <= CORE:
        return Reversal(G, index, x, start, budgets, search).run()
    # One quantiser a file; each tile may take the part of the bits that the start takes there.
    margin = 0 if start is None else _MARGIN
    whole = start
    if whole is None:
        random = torch.Generator().manual_seed(search.seed)
        whole = torch.randn(1, len(index), *grid, generator=random).to(x.device).expand(len(x), -1, -1, -1)
    shift = fitting_shift(whole, index, START * budgets)
    fitted = shifted(index, shift)
    taken = bits((whole / step_of(fitted)).round(), fitted)
    k = torch.empty_like(whole)
    for tile in tiles(*grid, G.stride, margin):
        top, bottom, left, right = tile.whole
        z = whole[..., top:bottom, left:right]
        share = budgets * bits((z / step_of(fitted)).round(), fitted) / taken
        rows = slice(G.stride * top, G.stride * top + G.span(bottom - top))
        columns = slice(G.stride * left, G.stride * left + G.span(right - left))
        begin = None if start is None else z
        found, _ = Reversal(G, index, x[..., rows, columns], begin, share, search, shift).run()
        a, b, c, d = tile.core
        k[..., a:b, c:d] = found[(..., *tile.inner())]
    return k, shift
