"""A run that was stopped, killed or is lengthened goes on as if nothing had happened, from files that are safe."""

import errno
import os
import pickle
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch

from genic.experiments.config import load_config
from genic.experiments.run import train
from genic.experiments.training.checkpoint import read_checkpoint
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.errors import ConfigError, WeightsError
from tests.toy_experiment import Toy
from tests.toy_fixtures import run_toy

pytestmark = pytest.mark.usefixtures("toy")


def signal_at(monkeypatch, batch: int, number: signal.Signals) -> None:
    """Have the process get a signal while it trains on a batch, counted from 1."""
    step = Toy.loss_step

    def loss_step(self, data):
        step(self, data)
        if self.batches_seen == batch - 1:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Toy, "loss_step", loss_step)


def assert_same(one, other, where=""):
    """Two nested containers with equal contents, to the bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for k, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}.{k}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def steady(path: Path) -> list[dict]:
    """Logged lines without what depends on the machine's speed."""
    return [
        {k: v for k, v in line.items() if not k.startswith(("seconds", "speed/", "memory/"))}
        for line in read_metrics(path)
    ]


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_resuming_after_a_signal_repeats_the_run(whole, tmp_path, monkeypatch, batch):
    with monkeypatch.context() as patch:
        signal_at(patch, batch, signal.SIGTERM)
        part = run_toy(tmp_path)
    assert (part.batches, part.reason) == (batch, "SIGTERM")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    rest = run_toy(tmp_path, resume="auto")
    assert rest.folder == part.folder and rest.batches == 6
    assert_same(rest.module.state_dict(), whole.module.state_dict())
    mine, its = (read_checkpoint(run.folder / "last.ckpt") for run in (rest, whole))
    assert_same(mine["optimizer_states"], its["optimizer_states"])
    assert mine["global_step"] == its["global_step"]
    assert (rest.folder / "last.safetensors").read_bytes() == (whole.folder / "last.safetensors").read_bytes()
    trained = [
        [line for line in steady(r.folder / "metrics.jsonl") if "loss/total" in line] for r in (rest, whole)
    ]
    assert trained[0] == trained[1]
    assert read_metrics(rest.folder / "metrics.jsonl")[-1]["batch"] == 6


def test_resuming_after_a_crash_repeats_the_run(whole, tmp_path, monkeypatch):
    step = Toy.loss_step

    def loss_step(self, data):
        step(self, data)
        if self.batches_seen == 4:
            raise ZeroDivisionError("as if the power failed in batch 5")

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(Toy, "loss_step", loss_step)
        run_toy(tmp_path)
    folder = tmp_path / "toy" / "nano"
    # Lines after the checkpoint, and one cut short, are those of a lost attempt.
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"batch": 5, "seconds": 9.0, "loss/total": 123.0}\n{"batch": 5, "sec')
    rest = run_toy(tmp_path, resume=folder)
    assert_same(rest.module.state_dict(), whole.module.state_dict())
    assert steady(rest.folder / "metrics.jsonl") == steady(whole.folder / "metrics.jsonl")


def test_a_full_disk_leaves_the_last_good_checkpoint(whole, tmp_path, monkeypatch):
    written, fsync = [], os.fsync

    def full_after_three(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left") as caught:
        patch.setattr(os, "fsync", full_after_three)
        run_toy(tmp_path, "train.checkpoint_every=1")
    folder = tmp_path / "toy" / "nano"
    assert Path(caught.value.filename).parent == folder and not list(folder.glob(".*.part"))
    assert 0 < read_checkpoint(folder / "last.ckpt")["batches_seen"] < 6
    assert_same(run_toy(tmp_path, resume="auto").module.state_dict(), whole.module.state_dict())


def test_a_longer_run_goes_on_from_a_finished_one(whole, tmp_path):
    first = run_toy(tmp_path, "train.batches=3")
    assert run_toy(tmp_path, "train.batches=3", resume="auto").batches == 3  # nothing is left to do
    longer = run_toy(tmp_path, resume=first.folder / "last.ckpt")
    assert longer.folder == first.folder
    assert_same(longer.module.state_dict(), whole.module.state_dict())
    assert "batches: 6" in (longer.folder / "config.yaml").read_text()


def test_folders_are_numbered_and_auto_takes_the_newest(tmp_path):
    runs = [run_toy(tmp_path, "train.batches=1", f"seed={seed}") for seed in range(3)]
    assert [run.folder.name for run in runs] == ["nano", "nano-2", "nano-3"]
    states = {run.module.system[0].weight.sum().item() for run in runs}
    assert len(states) == 3, "the seed does nothing"
    os.utime(runs[1].folder / "last.ckpt", (time.time() + 9, time.time() + 9))
    assert run_toy(tmp_path, "train.batches=2", resume="auto").folder == runs[1].folder
    other = train(load_config("toy", ["preset=small", "train.batches=1"]), out=tmp_path, resume="auto")
    assert other.folder.name == "small" and other.batches == 1


def test_time_runs_out(tmp_path):
    run = run_toy(tmp_path, max_time=timedelta(0))
    assert (run.batches, run.reason) == (1, "out of time")
    assert read_checkpoint(run.folder / "last.ckpt")["batches_seen"] == 1


def test_checkpoints_of_another_model_are_refused(whole, tmp_path):
    with pytest.raises(ConfigError, match=r"another model: model\.width differ"):
        run_toy(tmp_path, "model.width=5", resume=whole.folder)


class Malice:
    """Runs code where it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_checkpoint_runs_code(whole, tmp_path):
    mark = tmp_path / "executed"
    plain, archive, wrapped = (tmp_path / name for name in ("plain.ckpt", "archive.ckpt", "wrapped.ckpt"))
    plain.write_bytes(pickle.dumps(Malice(mark)))
    torch.save({"state_dict": {}, "extra": Malice(mark)}, archive)
    torch.save({**read_checkpoint(whole.folder / "last.ckpt"), "extra": Malice(mark)}, wrapped)
    pickle.loads(plain.read_bytes())
    assert mark.exists()  # it would
    mark.unlink()
    for path in (plain, archive, wrapped):
        with pytest.raises(WeightsError, match="damaged or holds more than tensors"):
            run_toy(tmp_path, resume=path)
    assert not mark.exists()


def test_damaged_and_missing_checkpoints(whole, tmp_path):
    content = (whole.folder / "last.ckpt").read_bytes()
    for name, damaged in {"cut": content[:-100], "empty": b"", "short": content[:200]}.items():
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(WeightsError, match="damaged"):
            run_toy(tmp_path, resume=tmp_path / name)
    with pytest.raises(WeightsError, match="no checkpoint there"):
        run_toy(tmp_path, resume=tmp_path / "absent")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises((WeightsError, ConfigError)):
        run_toy(tmp_path, resume=tmp_path / "foreign.ckpt")
