"""Training that is killed, again and again, ends with the weights of one that never was, to the bit."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genic.lightning_modules.registry import PAPERS
from tests.stress.conftest import Record

BATCHES = 8
STATES = ("state_dict", "optimizer_states", "global_step", "batches_seen")


def train(paper: str, out: Path) -> None:
    """To the end, or on from where a run in ``out`` stopped; a checkpoint after every batch."""
    from genic.experiments.config import load_config
    from genic.experiments.run import train
    from genic.experiments.training.devices import Placement

    often = [
        f"train.batches={BATCHES}",
        "train.checkpoint_every=1",
        "train.log_every=1",
        "train.panels_every=0",
    ]
    config = load_config(paper, ["preset=nano", *often])
    train(config, out=out, resume="auto", placement=Placement("cpu", 1), logger="csv")


@pytest.mark.timeout(3000)
def test_killed_at_any_time(tmp_path: Path, count: Callable[[int, int], int], record: Record) -> None:
    kills, rng = count(0, 20), np.random.default_rng(0)
    if not kills:
        pytest.skip("minutes; with --stress (test_run_resume stops a run in this process)")
    # The server's children start at once, and have not trained before.
    context = multiprocessing.get_context("forkserver")

    def start(paper: str, out: Path) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=train, args=(paper, out))
        process.start()
        return process

    for paper in PAPERS:
        begin = time.monotonic()
        whole = start(paper, tmp_path / paper / "whole")
        whole.join()
        assert whole.exitcode == 0
        seconds, killed, runs, at = time.monotonic() - begin, 0, 0, []
        while killed < kills:
            runs += 1
            out = tmp_path / paper / f"run{runs}"
            while (attempt := start(paper, out)).is_alive():
                attempt.join(float(rng.uniform(0, seconds)) if killed < kills else None)
                if attempt.is_alive():
                    attempt.kill()
                    attempt.join()
                    killed += 1
                    at.append(_batch(out / paper))
                else:
                    assert attempt.exitcode == 0
                    break
            _same(out / paper, tmp_path / paper / "whole" / paper)
        record("kills", paper=paper, kills=killed, runs=runs, batches=" ".join(map(str, sorted(at))))


def _newest(runs: Path) -> Path | None:
    """The folder that goes on; one that was killed before its first checkpoint is left behind by the next."""
    found = sorted(runs.glob("*/last.ckpt"), key=lambda path: path.stat().st_mtime)
    return found[-1].parent if found else None


def _batch(runs: Path) -> int:
    """Batches of the last checkpoint."""
    from genic.experiments.training.checkpoint import read_checkpoint

    folder = _newest(runs)
    return read_checkpoint(folder / "last.ckpt")["batches_seen"] if folder else 0


def _same(mine: Path, its: Path) -> None:
    """Weights, optimisers' states and the log's values of two runs."""
    from genic.experiments.training.checkpoint import read_checkpoint
    from tests.test_run_resume import assert_same, steady

    one, other = _newest(mine), _newest(its)
    assert one is not None and other is not None
    assert (one / "last.safetensors").read_bytes() == (other / "last.safetensors").read_bytes()
    checkpoints = [{k: read_checkpoint(f / "last.ckpt")[k] for k in STATES} for f in (one, other)]
    assert_same(*checkpoints)
    trained = [[line for line in steady(f / "metrics.jsonl") if "loss/total" in line] for f in (one, other)]
    assert trained[0] == trained[1]
