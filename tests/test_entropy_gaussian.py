"""Likelihoods and integer tables of discretised Gaussians, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from genic.lightning_modules.entropy.coder import GaussianModels
from genic.lightning_modules.entropy.gaussian import (
    FRACTIONS,
    GROUPS,
    QUARTERS,
    TOTAL,
    GaussianTables,
    build_tables,
    gaussian_bits,
    lower_bound,
    sigma_of,
)
from genic.lightning_modules.entropy.grid import STEPS


@pytest.fixture(scope="module")
def tables() -> GaussianTables:
    return build_tables()


def scipy_sigma(index: np.ndarray) -> np.ndarray:
    return 0.11 * (64 / 0.11) ** (np.clip(index, 0, 63) / 63)


def test_bits_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    y, mu, index = rng.integers(-40, 41, 20_000), rng.normal(0, 15, 20_000), rng.uniform(-3, 66, 20_000)
    sigma = scipy_sigma(index)
    p = norm.cdf(-(np.abs(y - mu) - 0.5) / sigma) - norm.cdf(-(np.abs(y - mu) + 0.5) / sigma)
    expected = -np.log2(np.maximum(p, 2.0**-20))
    found = gaussian_bits(*(torch.from_numpy(np.asarray(a, np.float32)) for a in (y, mu, index))).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert found.max() <= 20 and found.min() >= 0


def test_gradients_reach_values_beyond_the_bounds() -> None:
    x = torch.tensor([-1.0, 0.5], requires_grad=True)
    lower_bound(x, 0.0).backward(torch.tensor([-1.0, 1.0]))  # descent raises the first: it may come back
    assert x.grad.tolist() == [-1.0, 1.0]
    x.grad = None
    lower_bound(x, 0.0).backward(torch.tensor([1.0, 1.0]))
    assert x.grad.tolist() == [0.0, 1.0]
    # A symbol far from its mean still pulls σ up and μ towards it.
    mu, index = torch.tensor([0.0], requires_grad=True), torch.tensor([10.0], requires_grad=True)
    gaussian_bits(torch.tensor([1.2]), mu, index).backward()
    assert mu.grad < 0 and index.grad < 0


def test_rows_are_positive_and_sum_to_the_total(tables: GaussianTables) -> None:
    assert [group.shape[1] for group in tables.groups] == [2 * g.half + 2 for g in GROUPS]
    for group in tables.groups:
        assert group.dtype == torch.int32 and group.min() >= 1
        assert torch.all(group.sum(1) == TOTAL)
    # Every row of every table but those of μ + ½ that no fraction rounds to is used.
    assert tables.rows.shape == (QUARTERS, FRACTIONS)
    assert torch.equal(tables.rows.unique(), torch.arange(sum(map(len, tables.groups)), dtype=torch.int32))


def test_tables_survive_their_file(tables: GaussianTables) -> None:
    again = GaussianTables.from_state(tables.state())
    assert all(map(torch.equal, again.groups, tables.groups)) and torch.equal(again.rows, tables.rows)


def test_tables_cost_at_most_a_fifth_of_a_percent(tables: GaussianTables) -> None:
    """Expected bits under the rows that are looked up, for μ and s of all sizes, against the Gaussian's own entropy."""
    rng = np.random.default_rng(1)
    models = GaussianModels(tables)
    mu = np.round(rng.uniform(-20, 20, 400) * STEPS)
    index = np.round(np.repeat(np.linspace(6, 63, 20), 20) * STEPS)
    centre, row = models.select(torch.from_numpy(mu), torch.from_numpy(index))
    sigma = scipy_sigma(index / STEPS)
    ideal = real = 0.0
    for m, c, r, s in zip(mu / STEPS, centre, row, sigma, strict=True):
        group = models.group_of_row[r]
        half = GROUPS[group].half
        k = np.arange(-half, half + 1)
        upper, lower = norm.sf((k + c - 0.5 - m) / s), norm.cdf((k + c + 0.5 - m) / s)
        p = np.where(
            k + c > m, upper - norm.sf((k + c + 0.5 - m) / s), lower - norm.cdf((k + c - 0.5 - m) / s)
        )
        q = tables.groups[group][r - models.first_row[group]].double().numpy() / TOTAL
        ideal -= np.sum(p * np.log2(np.maximum(p, 1e-300)))
        # What lies beyond the table costs the escape and at least a byte.
        real -= np.sum(p * np.log2(q[:-1])) + (1 - p.sum()) * (np.log2(q[-1]) - 8)
    assert 1 <= real / ideal <= 1.002


def test_rows_are_of_the_nearest_mean_and_scale(tables: GaussianTables) -> None:
    """For s below 19 (σ < 0.75), rows have μ within a 64th and s within an eighth of what was asked for."""
    models = GaussianModels(tables)
    rng = np.random.default_rng(2)
    mu, index = np.round(rng.uniform(-9, 9, 300) * STEPS), np.round(rng.uniform(0, 19, 300) * STEPS)
    centre, row = models.select(torch.from_numpy(mu), torch.from_numpy(index))
    for m, c, r, i in zip(mu / STEPS, centre, row, index / STEPS, strict=True):
        counts = tables.groups[0][r].double().numpy()[:-1]
        near_mu, near_index = np.floor(m * 32 + 0.5) / 32, np.floor(i * 4 + 0.5) / 4
        sigma = scipy_sigma(near_index)
        k = np.arange(-GROUPS[0].half, GROUPS[0].half + 1) + c
        p = norm.cdf((k + 0.5 - near_mu) / sigma) - norm.cdf((k - 0.5 - near_mu) / sigma)
        assert abs(m - near_mu) <= 1 / 64 and abs(i - near_index) <= 1 / 8
        np.testing.assert_allclose(counts, p * TOTAL, atol=20)


def test_scales_are_clamped() -> None:
    found = sigma_of(torch.tensor([-5.0, 0.0, 63.0, 80.0]))
    torch.testing.assert_close(found, torch.tensor([0.11, 0.11, 64.0, 64.0]))
