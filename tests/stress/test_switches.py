"""Twenty batches with each of the switches that leave losses as they are, for every paper."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch._inductor.config

from genic.lightning_modules.registry import PAPERS
from tests.stress.conftest import Record
from tests.test_ranks import NO_HALVES
from tests.test_run_switches import losses  # noqa: F401

SWITCHES = {
    "channels_last": "train.channels_last=true",
    "average_weights": "train.average_weights=0.9",
    "checkpoint_activations": "train.checkpoint_activations=true",
    "compile": "train.compile=true",
    "bf16": "train.precision=bf16",
}
MACHINE_CODE = ("hyperprior", "gan_reversal")
"""Papers compiled to machine code, which takes minutes; of the others the traced graph is run."""
ACCUMULATE = "train.accumulate=2"


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("paper", PAPERS)
def test_loss_curves(
    paper: str,
    losses: Any,  # noqa: F811
    count: Callable[[int, int], int],
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = count(0, 20)
    if not batches:
        pytest.skip("minutes; with --stress (test_run_switches goes through two batches)")
    torch.compiler.reset()
    if paper not in MACHINE_CODE:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    samples = 4 * batches
    plain = losses(paper, samples=samples)
    with torch._inductor.config.patch(fallback_random=True):  # torch's own random numbers
        found = {
            name: deviation(losses(paper, setting, samples=samples), plain)
            for name, setting in SWITCHES.items()
        }
    if paper not in NO_HALVES:
        halves = losses(paper, ACCUMULATE, crops=2, samples=samples)
        means = [(a + b) / 2 for a, b in zip(halves[::2], halves[1::2], strict=True)]
        found["accumulate"] = deviation(means, plain)
    assert len(plain) == batches and max(found[name] for name in found if name != "bf16") < 0.02, found
    assert 0 < found["bf16"] < 0.1
    row = {name: f"{found[name]:.1e}" if name in found else "–" for name in (*SWITCHES, "accumulate")}
    by = "machine code" if paper in MACHINE_CODE else "traced graph"
    record("switches", paper=paper, **row, compiled=by)


def deviation(one: list[float], other: list[float]) -> float:
    """The largest, relative to the other's loss of the batch."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True))
