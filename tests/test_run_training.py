"""The run, on a toy experiment and the bundled photographs: clock, resumption, files, signals, processes."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

from experiments.config import load_config
from experiments.run import Run, main, train
from experiments.training.checkpoint import read_checkpoint
from experiments.training.devices import Placement
from experiments.training.loggers import read_metrics
from lightning_modules.codec.errors import ConfigError, WeightsError
from lightning_modules.codec.weights import load_weights
from tests import toy_experiment
from tests.toy_experiment import Toy

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    from experiments import config, registry

    monkeypatch.setattr(config, "PRESETS", config.PRESETS)
    monkeypatch.setattr(registry, "EXPERIMENTS", registry.EXPERIMENTS)
    monkeypatch.setitem(registry.EXPERIMENTS, "toy", None)
    toy_experiment.install()


def run_toy(out: Path, *settings: str, **options) -> Run:
    config = load_config("toy", ["preset=nano", *settings])
    return train(config, out=out, placement=Placement("cpu", 1), **options)


def signal_at(monkeypatch, batch: int, number: signal.Signals) -> None:
    """Have the process get a signal while it trains on a batch, counted from 1."""
    step = Toy.loss_step

    def loss_step(self, data):
        step(self, data)
        if int(self.batches_seen) == batch - 1:
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
        {k: v for k, v in line.items() if k not in ("seconds", "speed/images_per_second")}
        for line in read_metrics(path)
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of six batches."""
    with pytest.MonkeyPatch.context() as patch:
        from experiments import config, registry

        patch.setattr(config, "PRESETS", config.PRESETS)
        patch.setitem(registry.EXPERIMENTS, "toy", None)
        toy_experiment.install()
        return run_toy(tmp_path_factory.mktemp("runs"))


def test_a_run_counts_batches(whole):
    # Eleven steps of two optimisers in six batches.
    assert (whole.batches, whole.reason) == (6, "finished")
    checkpoint = read_checkpoint(whole.folder / "last.ckpt")
    assert checkpoint["state_dict"]["batches_seen"] == 6
    assert checkpoint["global_step"] == 11
    lines = read_metrics(whole.folder / "metrics.jsonl")
    assert [line["batch"] for line in lines if "loss/total" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["batch"] for line in lines if "validation/mse" in line] == [4, 6]
    # The schedule of the toy halves the rates from batch 3 (counted from 0) on.
    assert [line["learning_rate/generator"] for line in lines if "loss/total" in line] == [1e-3] * 3 + [
        5e-4
    ] * 3


def test_a_run_folder_holds_everything(whole):
    files = {str(path.relative_to(whole.folder)) for path in whole.folder.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "metrics.jsonl", "metrics.csv", "last.ckpt", "last.safetensors", "0000004.safetensors",
        "panels/0000004.png",
    }  # fmt: skip
    lines = [json.loads(line) for line in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["seconds"] >= 0 and isinstance(line["batch"], int) for line in lines)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    with open(whole.folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batch"]) for row in rows] == [line["batch"] for line in lines]
    tensors, metadata = load_weights(whole.folder / "last.safetensors")
    assert torch.equal(tensors["0.weight"], whole.module.G[0].weight.detach().half())
    assert metadata["batches"] == "6" and metadata["preset"] == "nano" and metadata["data"] == "sample"
    assert json.loads(metadata["config"])["width"] == 4
    assert load_weights(whole.folder / "0000004.safetensors")[1]["batches"] == "4"
    # Two panels of two 32×32 crops below a title.
    panel = np.asarray(Image.open(whole.folder / "panels" / "0000004.png"))
    assert panel.shape[1:] == (64, 3) and panel.shape[0] > 64 and panel.std() > 0


def test_the_resolved_configuration_reproduces_the_run(whole, tmp_path):
    import yaml

    saved = yaml.safe_load((whole.folder / "config.yaml").read_text())

    def flatten(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from flatten(value, f"{prefix}{key}.")
            elif value is not None:
                yield f"{prefix}{key}={value}"

    again = run_toy(tmp_path, *flatten(saved))
    assert (again.folder / "last.safetensors").read_bytes() == (
        whole.folder / "last.safetensors"
    ).read_bytes()
    assert (again.folder / "config.yaml").read_bytes() == (whole.folder / "config.yaml").read_bytes()


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
        if int(self.batches_seen) == 4:
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
    states = {run.module.G[0].weight.sum().item() for run in runs}
    assert len(states) == 3, "the seed does nothing"
    os.utime(runs[1].folder / "last.ckpt", (time.time() + 9, time.time() + 9))
    assert run_toy(tmp_path, "train.batches=2", resume="auto").folder == runs[1].folder
    other = train(load_config("toy", ["preset=small", "train.batches=1"]), out=tmp_path, resume="auto")
    assert other.folder.name == "small" and other.batches == 1


def test_time_runs_out(tmp_path):
    run = run_toy(tmp_path, max_time=timedelta(0))
    assert (run.batches, run.reason) == (1, "out of time")
    assert read_checkpoint(run.folder / "last.ckpt")["state_dict"]["batches_seen"] == 1


def test_two_processes_equal_one_with_their_batches_together(tmp_path):
    """And neither optimiser's pass disturbs the other's parameters."""
    settings = ["preset=nano", "model.noise=0", "train.panels_every=0", "train.keep_every=0"]
    command = [
        sys.executable,
        "-m",
        "tests.toy_experiment",
        "toy",
        *settings,
        "--cpus",
        "2",
        "--logger",
        "csv",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert "nused" not in done.stderr
    assert done.stdout.count("finished at batch 6 of 6") == 1
    one = run_toy(tmp_path / "one", *settings[1:], "data.batch_size=4")
    two = read_checkpoint(tmp_path / "toy" / "nano" / "last.ckpt")["state_dict"]
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-6)
    lines = read_metrics(tmp_path / "toy" / "nano" / "metrics.jsonl")
    assert [line["batch"] for line in lines if "loss/total" in line] == [1, 2, 3, 4, 5, 6]


def test_weights_to_start_from(whole, tmp_path):
    run = run_toy(
        tmp_path, "train.batches=1", f"train.initialise_from={whole.folder}", "model.learning_rate=0"
    )
    tensors, _ = load_weights(whole.folder / "last.safetensors")
    assert torch.equal(run.module.G[0].weight, tensors["0.weight"].float()) and run.batches == 1


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


def test_bfloat16_and_channels_last(tmp_path):
    run = run_toy(tmp_path, "train.precision=bf16", "train.channels_last=true", "train.batches=2")
    weight = run.module.G[0].weight
    assert weight.dtype == torch.float32 and weight.is_contiguous(memory_format=torch.channels_last)
    # A convolution keeps the format of its weights.
    assert run.module.G[0](torch.rand(1, 3, 32, 32)).is_contiguous(memory_format=torch.channels_last)
    plain = run_toy(tmp_path, "train.batches=2")
    mine, its = (read_metrics(r.folder / "metrics.jsonl")[0]["loss/total"] for r in (run, plain))
    assert mine != its and mine == pytest.approx(its, rel=2e-2)


def test_command_line(tmp_path, capsys):
    arguments = [
        "toy",
        "preset=nano",
        "--cpus",
        "1",
        "train.batches=1",
        "--logger",
        "csv",
        "--out",
        str(tmp_path),
    ]
    assert main([*arguments, "--max-time", "00:10", "--precision", "bf16"]) == 0
    printed = capsys.readouterr().out
    assert (
        "finished at batch 1 of 1" in printed
        and str(tmp_path / "toy" / "nano" / "last.safetensors") in printed
    )
    assert "precision: bf16" in (tmp_path / "toy" / "nano" / "config.yaml").read_text()
    for wrong, expected in {
        "train.batchs=3": "did you mean 'train.batches'",
        "--max-time=90": "hours and minutes",
    }.items():
        assert main([*arguments, wrong]) == 2
        assert expected in capsys.readouterr().err


def test_weights_and_biases_offline(tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = run_toy(tmp_path, "train.batches=4", logger="wandb")
    directory = next((run.folder / "wandb").glob("offline-run-*"))
    assert f"wandb sync {directory}" in capsys.readouterr().out
    assert next(directory.glob("*.wandb")).stat().st_size > 0
    assert list(directory.rglob("panels_*.png"))
    identity = (run.folder / "wandb.id").read_text()
    assert directory.name.endswith(identity)
    assert len(read_metrics(run.folder / "metrics.jsonl")) == 5
