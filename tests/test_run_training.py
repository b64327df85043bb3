"""The run, on a toy experiment and the bundled photographs: clock, files, precision, processes, loggers."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch
from PIL import Image

from genic.experiments.run import main
from genic.experiments.training.checkpoint import PROCESSES_KEY, read_checkpoint
from genic.experiments.training.loggers import read_metrics
from genic.experiments.training.precision import lightning_precision
from genic.lightning_modules.codec.errors import ConfigError, DataError, WeightsError
from genic.lightning_modules.codec.weights import load_weights, save_weights
from tests.helpers import OfflineRun
from tests.toy_fixtures import run_toy

pytestmark = pytest.mark.usefixtures("toy")


def test_a_run_counts_batches(whole):
    # Eleven steps of two optimisers in six batches.
    assert (whole.batches, whole.reason) == (6, "finished")
    checkpoint = read_checkpoint(whole.folder / "last.ckpt")
    assert checkpoint["batches_seen"] == 6
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
    assert torch.equal(tensors["0.weight"], whole.module.system[0].weight.detach().half())
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


def test_a_run_of_other_devices_goes_on_with_a_warning(tmp_path):
    run = run_toy(tmp_path, "train.batches=1")
    path = run.folder / "last.ckpt"
    torch.save(read_checkpoint(path) | {PROCESSES_KEY: 2}, path)
    with pytest.warns(UserWarning, match="was written by 2 processes: on 1 the run goes on"):
        assert run_toy(tmp_path, "train.batches=2", resume="auto").batches == 2


def start_from(weights: Path, out: Path, *settings: str):
    return run_toy(
        out, "train.batches=1", f"train.initialise_from={weights}", "train.learning_rate=1e-30", *settings
    )


def test_weights_to_start_from(whole, tmp_path, capsys):
    run = start_from(whole.folder, tmp_path)
    tensors, _ = load_weights(whole.folder / "last.safetensors")
    assert torch.equal(run.module.system[0].weight, tensors["0.weight"].float()) and run.batches == 1
    said = f"4 of 4 parameters start from {whole.folder / 'last.safetensors'}"
    assert capsys.readouterr().out.count(said) == 1


def test_weights_of_which_a_part_fits(whole, tmp_path, capsys):
    """Of another width: the second layer's bias, one for each colour, alone has the same shape."""
    run = start_from(whole.folder, tmp_path, "model.width=5")
    tensors, _ = load_weights(whole.folder / "last.safetensors")
    assert torch.equal(run.module.system[2].bias, tensors["2.bias"].float())
    assert "1 of 4 parameters start from" in capsys.readouterr().out


def test_weights_that_cannot_be_started_from(whole, tmp_path):
    tensors, metadata = load_weights(whole.folder / "last.safetensors")
    save_weights(tmp_path / "other.safetensors", tensors, metadata | {"paper": "gan_reversal"})
    with pytest.raises(WeightsError, match="weights of gan_reversal: toy starts from its own"):
        start_from(tmp_path / "other.safetensors", tmp_path)
    tensors = {f"renamed.{name}": tensor for name, tensor in tensors.items()}
    save_weights(tmp_path / "none.safetensors", tensors, metadata)
    with pytest.raises(WeightsError, match="no parameter fits"):
        start_from(tmp_path / "none.safetensors", tmp_path)


def test_bfloat16_and_channels_last(tmp_path):
    run = run_toy(tmp_path, "train.precision=bf16", "train.channels_last=true", "train.batches=2")
    weight = run.module.system[0].weight
    assert weight.dtype == torch.float32 and weight.is_contiguous(memory_format=torch.channels_last)
    # A convolution keeps the format of its weights.
    assert run.module.system[0](torch.rand(1, 3, 32, 32)).is_contiguous(memory_format=torch.channels_last)
    plain = run_toy(tmp_path, "train.batches=2")
    mine, its = (read_metrics(r.folder / "metrics.jsonl")[0]["loss/total"] for r in (run, plain))
    assert mine != its and mine == pytest.approx(its, rel=2e-2)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"avx512_f": True, "amx_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_automatic_precision_follows_the_hardware(monkeypatch, capabilities, expected):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities, raising=False)
    assert lightning_precision("auto", "cpu") == expected
    assert (
        lightning_precision("bf16", "cpu") == "bf16-mixed" and lightning_precision("32", "cpu") == "32-true"
    )


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


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A machine without an account, and nothing in W&B's environment."""
    pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_a_resumed_run_goes_on_in_weights_and_biases(tmp_path, monkeypatch, capsys, offline):
    run_toy(tmp_path, "train.batches=2", logger="wandb")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_NAME", "named")
    run = run_toy(tmp_path, "train.batches=4", logger="wandb", resume="auto")
    directories = sorted((run.folder / "wandb").glob("offline-run-*"))
    assert f"wandb sync {directories[0]} {directories[1]}" in capsys.readouterr().out
    first, second = map(OfflineRun, directories)
    identity = (run.folder / "wandb.id").read_text()
    assert (first.run.run_id, first.run.project, first.run.display_name) == (identity, "genic", "toy/nano")
    assert (second.run.run_id, second.run.project, second.run.display_name) == (identity, "theirs", "named")
    steps = [[step for step, row in part.rows if "loss/total" in row] for part in (first, second)]
    assert steps == [[1, 2], [1, 2, 3, 4]]  # the first may have been killed with much unsaid
    assert second.rows[1][1]["loss/total"] == pytest.approx(first.rows[1][1]["loss/total"], rel=1e-6)
    assert first.config["train"]["batches"] == 2 and second.config["train"]["batches"] == 4
    captions = [row["panels/captions"] for _, row in second.rows if "panels/captions" in row]
    assert captions == [["x | x_hat"] * 2] and len(list(directories[1].rglob("panels_*.png"))) == 2
    assert second.summary["parameters/system"] == 4 * 3 * 9 + 4 + 4 * 3 * 16 + 3
    # A stride of two each way: a quarter of the positions in, and as many times 16 taps out.
    assert second.summary["macs_per_pixel/system"] == (3 * 4 * 9 + 4 * 3 * 16) / 4
    weights = [key for key in second.artifacts if key[0] == "model"]
    assert weights == [("model", "weights-toy-nano")]
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert [line["batch"] for line in lines] == [1, 2, 2, 3, 4, 4]  # validated where each of the two ended


def test_weights_and_biases_turned_off(tmp_path, monkeypatch, offline, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = run_toy(tmp_path, "train.batches=1", logger="wandb")
    assert run.batches == 1 and "wandb sync" not in capsys.readouterr().out
    assert not list(run.folder.rglob("*.wandb"))


def test_wrong_data_leaves_nothing_behind(tmp_path, monkeypatch):
    for settings in (
        ["data=folder", f"data.root={tmp_path / 'absent'}"],
        ["data=kodak"],
        ["train.evaluate=nowhere"],
    ):
        with pytest.raises((DataError, ConfigError)):
            run_toy(tmp_path / "runs", *settings, logger="wandb")
    assert not (tmp_path / "runs").exists()
