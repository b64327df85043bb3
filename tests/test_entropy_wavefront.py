"""The order of decoding and the causal layers, against independent references on the ordinary grid."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.entropy.context import CausalAttention, CausalLinear, ContextModel
from genic.lightning_modules.entropy.grid import exact_copy
from genic.lightning_modules.entropy.wavefront import Wavefront, causal_offsets

SIZES = [(1, 1, 1), (1, 1, 6), (2, 5, 1), (3, 4, 7), (1, 7, 4)]


def front_of(batch: int, height: int, width: int, skew: int) -> Wavefront:
    return Wavefront(batch, height, width, skew, torch.zeros((), dtype=torch.float64), incremental=False)


@pytest.mark.parametrize("skew", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_rows_are_sorted_by_diagonal_and_come_back(size: tuple[int, int, int], skew: int) -> None:
    batch, height, width = size
    front = front_of(*size, skew)
    places = torch.stack(
        torch.meshgrid(*map(torch.arange, size), indexing="ij"), -1
    )  # (b, i, j) of each position
    rows = front.to_rows(places)
    assert torch.equal(front.to_grid(rows), places)
    times = (skew * places[..., 1] + places[..., 2]).unique()
    assert front.diagonals == len(times)
    seen = 0
    for k, t in enumerate(times):
        here = rows[front.block(k, k + 1)]
        assert torch.all(skew * here[:, 1] + here[:, 2] == t)
        assert front.lengths(k, k + 1) == [len(here)]
        seen += len(here)
    assert seen == batch * height * width
    assert front.block(0, front.diagonals) == front.whole


@pytest.mark.parametrize("skew", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_neighbours_are_those_of_the_grid(size: tuple[int, int, int], skew: int) -> None:
    batch, height, width = size
    front, offsets = front_of(*size, skew), (*causal_offsets(2, skew, include_same=True), None)
    grid = torch.arange(1, 1 + batch * height * width).reshape(*size, 1).double()
    front.write("map", front.to_rows(grid), front.whole)
    found = front.to_grid(front.neighbours("map", offsets, front.whole).flatten(1))
    beyond = front.to_grid(front.border(offsets, front.whole).flatten(1))
    for b, i, j in (
        torch.cartesian_prod(*map(torch.arange, size)).tolist() if batch * height * width > 1 else [(0, 0, 0)]
    ):
        for n, offset in enumerate(offsets):
            inside = offset is not None and 0 <= i + offset[0] < height and 0 <= j + offset[1] < width
            assert found[b, i, j, n] == (grid[b, i + offset[0], j + offset[1], 0] if inside else 0)
            assert (beyond[b, i, j, n] == 0) == (inside or offset is None)


def test_offsets_of_the_past() -> None:
    assert causal_offsets(1, 1, include_same=False) == ((-1, -1), (-1, 0), (0, -1))
    assert causal_offsets(1, 2, include_same=False) == ((-1, -1), (-1, 0), (-1, 1), (0, -1))
    # s = 1: (-1, 1) is on the same diagonal; of features it may be seen, of symbols not.
    assert causal_offsets(1, 1, include_same=True) == ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (1, -1))
    assert causal_offsets(1, 2, include_same=True) == ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0))


@pytest.mark.parametrize("skew", [1, 2])
@pytest.mark.parametrize("include_same", [False, True])
def test_causal_linear_is_a_masked_convolution(skew: int, include_same: bool) -> None:
    torch.manual_seed(0)
    layer = CausalLinear(3, 5, 2, skew, include_same).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 9, 3, dtype=torch.float64)
    kernel = torch.zeros(5, 3, 5, 5, dtype=torch.float64)
    taps = iter(layer.weight.detach().split(3))
    for i in range(5):
        for j in range(5):
            t = skew * (i - 2) + j - 2
            if t < 0 or (t == 0 and include_same):
                kernel[:, :, i, j] = next(taps).T
    assert next(taps, None) is None
    expected = F.conv2d(x.permute(0, 3, 1, 2), kernel, layer.bias, padding=2).permute(0, 2, 3, 1)
    front = front_of(2, 6, 9, skew)
    front.write("x", front.to_rows(x), front.whole)
    torch.testing.assert_close(front.to_grid(layer(front, "x", front.whole)), expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("skew", [1, 2])
def test_attention_is_a_softmax_over_the_causal_window(skew: int) -> None:
    """Dense reference: every position attends to all, with −∞ outside the window, plus the null key."""
    torch.manual_seed(0)
    height, width, heads, radius = 5, 6, 2, 2
    layer = CausalAttention("a", 8, 3, heads, radius, skew).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, height, width, 8, dtype=torch.float64)
    z = torch.randn(1, height, width, 3, dtype=torch.float64)
    front = front_of(1, height, width, skew)
    front.write("z_hat", front.to_rows(z), front.whole)
    found = front.to_grid(layer(front, front.to_rows(x), front.whole, known=True))[0].flatten(0, 1)

    x, z = x.flatten(0, 2), z.flatten(0, 2)
    q = (x @ layer.query.weight + layer.query.bias).reshape(-1, heads, 16)
    kv = torch.cat((x, z), -1) @ layer.key_value.weight + layer.key_value.bias
    k, v = (part.reshape(-1, heads, 16) for part in kv.chunk(2, -1))
    offsets = causal_offsets(radius, skew, include_same=False)
    mixed = torch.zeros(height * width, heads, 16, dtype=torch.float64)
    for at in range(height * width):
        for h in range(heads):
            scores, values = [0.0], [torch.zeros(16, dtype=torch.float64)]
            for n, (di, dj) in enumerate(offsets):
                i, j = at // width + di, at % width + dj
                if 0 <= i < height and 0 <= j < width:
                    other = i * width + j
                    scores.append(
                        float(q[at, h] @ (k[other, h] + layer.attend.offset_key[n, h]) / math.sqrt(16))
                    )
                    values.append(v[other, h])
            mixed[at, h] = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0) @ torch.stack(values)
    expected = layer.gate(x, mixed.flatten(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def model(skew: int) -> ContextModel:
    torch.manual_seed(1)
    network = ContextModel(symbols=4, hyper=6, channels=16, heads=2, radius=2, skew=skew, levels=3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.25)
    return network


def inputs(batch: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    z_hat = torch.randint(-6, 7, (batch, height, width, 4)).float()
    return z_hat, torch.randn(batch, height, width, 6), torch.linspace(0, 2, batch)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("skew", [1, 2])
def test_only_later_diagonals_depend_on_a_symbol(skew: int, exact: bool) -> None:
    """Perturb one position: what is predicted for it and for all with t up to its own stays, to the last bit. Of the
    later ones those within reach of the four layers move, and its direct successors all do."""
    network = model(skew)
    z_hat, psi, level = inputs(1, 9, 10)
    if exact:
        network = exact_copy(network)
        z_hat, psi = z_hat.double() * network.unit, torch.round(psi.double() * network.unit)
    i, j = 4, 4
    changed = z_hat.clone()
    changed[0, i, j] += 3 * network.unit
    with torch.no_grad():
        before, after = (torch.cat(network(z, psi, level), -1)[0] for z in (z_hat, changed))
    moved = (before != after).any(-1)
    row, column = torch.arange(9)[:, None], torch.arange(10)[None]
    t = skew * row + column
    later = t > skew * i + j
    assert not moved[~later].any()
    # The 5×5 of the symbols, the 3×3 of the features (same diagonal included) and two windows of radius 2.
    reach = 2 + 1 + 2 + 2
    assert not moved[(row - i).abs().expand_as(t) > reach].any()
    near = later & ((row - i).abs() <= 2) & ((column - j).abs() <= 2)
    assert moved[near].all()


@pytest.mark.parametrize("skew", [1, 2])
def test_diagonal_by_diagonal_equals_the_whole(skew: int) -> None:
    network = exact_copy(model(skew))
    z_hat, psi, level = inputs(3, 5, 7)
    z_hat, psi = z_hat.double() * network.unit, torch.round(psi.double() * network.unit)
    with torch.inference_mode():
        expected = torch.cat(network(z_hat, psi, level), -1)
        front = network.wavefront(psi, level, incremental=True)
        symbols, predicted = front.to_rows(z_hat), []
        for t in range(front.diagonals):
            rows = front.block(t, t + 1)
            predicted.append(network.predict(front, rows, known=False))
            network.observe(front, symbols[rows], rows)
        assert torch.equal(front.to_grid(torch.cat(predicted)), expected)


def test_training_after_coding_of_the_same_size() -> None:
    """All fronts of a size share tables of neighbours; made in inference mode they must still serve training."""
    network = model(1)
    z_hat, psi, level = inputs(1, 11, 3)
    with torch.inference_mode():
        network(z_hat, psi, level)
    mu, index = network(z_hat, psi, level)
    (mu.sum() + index.sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
