"""Training that is killed, again and again, ends with the weights of one that never was, to the bit, and with the same
history in Weights & Biases."""

from __future__ import annotations

import multiprocessing
import os
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

    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_INIT_TIMEOUT": "1000"}
    often = [
        f"train.batches={BATCHES}",
        "train.checkpoint_every=1",
        "train.log_every=1",
        "train.panels_every=0",
        "train.validate_every=0",  # a validation that is cut off is not made up for
    ]
    config = load_config(paper, ["preset=nano", *often])
    train(config, out=out, resume="auto", placement=Placement("cpu", 1), logger="wandb")


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("paper", PAPERS)
def test_killed_at_any_time(
    paper: str, tmp_path: Path, count: Callable[[int, int], int], record: Record
) -> None:
    kills, rng = count(0, 20), np.random.default_rng(0)
    if not kills:
        pytest.skip("minutes; with --stress (test_run_resume stops a run in this process)")
    pytest.importorskip("wandb")
    # The server's children start at once, and have not trained before.
    context = multiprocessing.get_context("forkserver")

    def start(out: Path) -> multiprocessing.process.BaseProcess:
        process = context.Process(target=train, args=(paper, out))
        process.start()
        return process

    whole = start(tmp_path / "whole")
    seconds = _wait(whole, tmp_path / "whole" / paper, 1, 0.0)
    whole.join()
    assert whole.exitcode == 0
    runs, at = 0, []
    while len(at) < kills:
        runs += 1
        out = tmp_path / f"run{runs}"
        done = 0
        while (attempt := start(out)).is_alive():
            checkpoints, after = int(rng.integers(BATCHES // 2)), float(rng.uniform())
            if len(at) == kills:
                attempt.join()
            elif checkpoints:
                _wait(attempt, out / paper, checkpoints, after)
            else:  # somewhere in the start
                attempt.join(after * seconds)
            if not attempt.is_alive():
                assert attempt.exitcode == 0
                break
            attempt.kill()
            attempt.join()
            at.append(done := _batch(out / paper))
        _same(out / paper, tmp_path / "whole" / paper)
        if done < BATCHES:  # else there was nothing left to do, nor to say
            assert _history(out / paper) == _history(tmp_path / "whole" / paper)
    record("kills", paper=paper, kills=len(at), runs=runs, batches=" ".join(map(str, sorted(at))))


def _wait(attempt: multiprocessing.process.BaseProcess, runs: Path, checkpoints: int, after: float) -> float:
    """Until the run has written so many checkpoints and ``after`` of the seconds that the last one took has passed; or
    it has ended. Gives the seconds that the last one took."""
    begin, last, state = time.monotonic(), 0.0, _state(runs)
    while attempt.is_alive() and checkpoints:
        time.sleep(0.005)
        if (now := _state(runs)) != state:
            state, checkpoints = now, checkpoints - 1
            begin, last = time.monotonic(), time.monotonic() - begin
    attempt.join(after * last)
    return last


def _state(runs: Path) -> tuple[Path, int] | None:
    folder = _newest(runs)
    return (folder, (folder / "last.ckpt").stat().st_mtime_ns) if folder else None


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


def _history(runs: Path) -> dict[int, dict[str, float]]:
    """Values by step in Weights & Biases: of a run's last part, which says what the parts before may have lost."""
    from tests.helpers import OfflineRun

    folder = _newest(runs)
    assert folder is not None
    part = OfflineRun(max((folder / "wandb").glob("offline-run-*")))
    assert part.run.run_id == (folder / "wandb.id").read_text()
    leave = ("_", "speed/", "memory/")  # the machine's
    return {
        step: {k: float(f"{v:.7g}") for k, v in row.items() if not k.startswith(leave)}
        for step, row in part.rows
    }
