"""Configurations and devices: what is asked for is what is given, or an error that says what to type."""

from pathlib import Path

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch

from genic.experiments import config
from genic.experiments.config import load_config, to_yaml
from genic.experiments.training.devices import choose_devices
from genic.experiments.training.folder import choose_folder
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import PAPERS

PAPER = "selective_detail"
PRESETS = [(name, path.stem) for name in PAPERS for path in sorted((config.PRESETS / name).glob("*.yaml"))]


def test_merge_order(tmp_path, monkeypatch):
    (tmp_path / PAPER).mkdir()
    (tmp_path / PAPER / "mine.yaml").write_text(
        "data: {crop: 96, name: kodak}\ntrain: {detail_weight: 2}\nseed: 4\n"
    )
    monkeypatch.setattr(config, "PRESETS", tmp_path)
    plain = load_config(PAPER, ["preset=mine"])
    assert (plain.preset, plain.data.crop, plain.data.name, plain.train.detail_weight) == (
        "mine",
        96,
        "kodak",
        2.0,
    )
    assert plain.data.batch_size == 8 and isinstance(plain.model, type(PAPERS[PAPER].config_class()().model))
    assert plain.seed == plain.data.seed == 4
    given = load_config(
        PAPER, ["preset=mine", "data=imagenet", "train.detail_weight=3.5", "data.seed=9", "data.crop=64"]
    )
    assert (given.data.name, given.train.detail_weight, given.data.crop) == ("imagenet", 3.5, 64)
    assert (given.seed, given.data.seed) == (4, 9)
    assert load_config(
        PAPER, ["preset=mine", "model.levels=2", "train.rate_weight=[0.1,0.2]"]
    ).train.rate_weight == [0.1, 0.2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.batchs=3"], "no key 'train.batchs'; did you mean 'train.batches'"),
        (["detail_weight=5"], "did you mean 'train.detail_weight'"),
        (["model.detail_weight=5"], "did you mean 'train.detail_weight'"),
        (["date.crop=5"], "did you mean 'data.crop'"),
        (["train.batches=abc"], "train.batches: Value 'abc' of type 'str' could not be converted to Integer"),
        (["train.detail_weight=null"], "train.detail_weight"),
        (["model.E=3"], "model.E=3: a list is needed"),
        (["model.E=[3,a]"], r"model.E\[1\]"),
        (["model=3"], "model is a group of keys"),
        (["data.labels.x.y=3"], "data.labels"),
        (["preset=nani"], "did you mean 'nano'"),
        (["nano"], "'nano' is not of the form key=value"),
        (["experiment=gan_reversal"], "give its name first"),
        (["train.precision=16"], "one of auto, 32, bf16"),
        (["train.batches=0"], "train.batches is 0: 1 or more"),
        (["train.validate_every=-1"], "train.validate_every is -1: 0 or more"),
        (["data.crop=0"], "at least 1"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ConfigError, match=message):
        load_config(PAPER, arguments)


def test_unknown_experiment_and_bad_preset_file(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="did you mean 'selective_detail'"):
        load_config("selective_details")
    (tmp_path / PAPER).mkdir()
    (tmp_path / PAPER / "bad.yaml").write_text("train: {batchs: 3}\n")
    monkeypatch.setattr(config, "PRESETS", tmp_path)
    with pytest.raises(ConfigError, match=r"bad\.yaml: no key 'train\.batchs'"):
        load_config(PAPER, ["preset=bad"])


@pytest.mark.parametrize(("experiment", "preset"), PRESETS)
def test_presets_load_and_come_back_from_yaml(experiment, preset, tmp_path, monkeypatch):
    loaded = load_config(experiment, [f"preset={preset}"])
    (tmp_path / experiment).mkdir()
    (tmp_path / experiment / f"{preset}.yaml").write_text(to_yaml(loaded))
    monkeypatch.setattr(config, "PRESETS", tmp_path)
    assert load_config(experiment, [f"preset={preset}"]) == loaded


@pytest.mark.parametrize("experiment", PAPERS)
def test_every_experiment_has_the_presets(experiment):
    assert {"paper", "small", "nano"} <= {preset for name, preset in PRESETS if name == experiment}


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda k: "Some GPU")
    with pytest.raises(
        ConfigError, match=r"--gpus 4: this machine has 2 \(Some GPU\); type --gpus 2 instead"
    ):
        choose_devices(gpus=4)
    assert (choose_devices(gpus=2).accelerator, choose_devices(gpus=2).devices) == ("gpu", 2)
    assert (choose_devices().accelerator, choose_devices().devices) == ("gpu", 1)
    assert choose_devices(cpus=3).accelerator == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="no GPU that torch can use; type --cpus 1 instead"):
        choose_devices(gpus=1)
    assert (choose_devices().accelerator, choose_devices().devices) == ("cpu", 1)


def test_other_impossible_devices(monkeypatch):
    for name in ("MASTER_ADDR", "NODE_RANK", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="exclude each other"):
        choose_devices(gpus=1, cpus=1)
    with pytest.raises(ConfigError, match="from 1 on"):
        choose_devices(cpus=0)
    with pytest.raises(ConfigError, match="torchrun --nnodes 2"):
        choose_devices(cpus=1, nodes=2)
    for name, value in {"TORCHELASTIC_RUN_ID": "1"}.items():
        monkeypatch.setenv(name, value)
    assert choose_devices(cpus=1, nodes=2).processes == 2


def test_folders(tmp_path):
    def choose(resume: str | Path | None):
        return choose_folder(tmp_path, PAPER, "small", resume)

    first = tmp_path / PAPER / "small"
    assert choose(None) == choose("auto") == (first, None)
    for name in ("small", "small-3", "smaller", "small-x"):
        (tmp_path / PAPER / name).mkdir(parents=True)
    assert choose(None) == (tmp_path / PAPER / "small-4", None)
    (tmp_path / PAPER / "smaller" / "last.ckpt").touch()
    assert choose("auto")[1] is None
    (first / "last.ckpt").touch()
    assert choose("auto") == choose(first) == choose(str(first / "last.ckpt")) == (first, first / "last.ckpt")
