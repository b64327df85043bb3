"""Configurations and devices: what is asked for is what is given, or an error that says what to type."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch
import yaml
from omegaconf import OmegaConf

from genic.experiments import config, run
from genic.experiments.config import combinations, load_config, to_yaml
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


def test_no_configuration_runs_code(tmp_path):
    mark, file = tmp_path / "executed", tmp_path / "config.yaml"
    for call in (f"os.system ['touch {mark}']", f"subprocess.check_call [[touch, {mark}]]"):
        file.write_text(f"seed: !!python/object/apply:{call}\n")
        with pytest.raises(ConfigError, match=r"config\.yaml"):
            load_config(PAPER, [], file)
    texts = [f"$(touch {mark})", f"`touch {mark}`", f"__import__('os').system('touch {mark}')"]
    for text in texts:
        file.write_text(yaml.safe_dump({"data": {"root": text}}))
        assert load_config(PAPER, ["preset=nano"], file).data.root == text
    with pytest.raises(ConfigError):
        load_config(PAPER, ["preset=nano", "data.root=${eval:1+1}"])
    assert not mark.exists()


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


class TestFiles:
    def test_a_preset_of_any_path(self, tmp_path):
        (tmp_path / "mine.yaml").write_text("train: {clip: 3}\n")
        found = load_config(PAPER, [f"preset={tmp_path / 'mine.yaml'}"])
        assert (found.train.clip, found.name) == (3.0, "mine")

    def test_a_file_comes_between_preset_and_arguments(self, tmp_path):
        path = tmp_path / "my.yaml"
        path.write_text("preset: nano\ntrain: {clip: 3, batches: 9}\n")
        found = load_config(PAPER, ["train.batches=8"], path)
        assert (found.preset, found.data.crop, found.train.clip, found.train.batches) == ("nano", 176, 3.0, 8)
        assert load_config(PAPER, ["preset=small"], path).data.crop == 192

    def test_a_runs_configuration_gives_that_run_again(self, tmp_path):
        wanted = load_config(PAPER, ["preset=nano", "seed=3", "train.clip=7"])
        (tmp_path / "config.yaml").write_text(to_yaml(wanted))
        assert load_config(PAPER, [], tmp_path / "config.yaml") == wanted
        with pytest.raises(ConfigError, match="is of selective_detail, not of hyperprior"):
            load_config("hyperprior", [], tmp_path / "config.yaml")

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("none.yaml", None, "no settings in .*none.yaml: No such file"),
            ("folder.yaml", "", "no settings in .*folder.yaml: Is a directory"),
            ("list.yaml", "[1, 2]", "list.yaml has no keys"),
            ("bad.yaml", "a: [1", "bad.yaml is not YAML"),
            ("bytes.yaml", b"\xff\x00", "bytes.yaml is not YAML"),
            ("typo.yaml", "train: {batchs: 3}", "typo.yaml: no key 'train.batchs'; did you mean"),
        ],
    )
    def test_a_wrong_file_is_one_line(self, name, content, message, tmp_path):
        path = tmp_path / name
        if content:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        elif content is not None:
            path.mkdir()
        for how in ({"arguments": [f"preset={path}"]}, {"file": path}):
            with pytest.raises(ConfigError, match=message) as error:
                load_config(PAPER, **how)
            assert "\n" not in str(error.value)


class TestSweeps:
    def test_values_with_commas_are_combined_and_lists_are_not(self):
        found = combinations(["preset=nano", "a=1,2", "b=[1,2],[3]", "c=[x,y]"])
        assert found == [
            ["preset=nano", f"a={a}", f"b={b}", "c=[x,y]"] for a in (1, 2) for b in ("[1,2]", "[3]")
        ]

    @pytest.fixture
    def called(self, monkeypatch) -> list[list[str]]:
        """What would have been run; the second run fails."""
        calls = []
        monkeypatch.setattr(run.subprocess, "call", lambda program: calls.append(program) or len(calls) == 2)
        return calls

    def test_each_combination_is_a_run_of_its_own_folder(self, called, capsys):
        arguments = ["preset=nano", "train.clip=1,3", "seed=0,1", "--cpus", "2", "--multirun"]
        assert run.main([PAPER, *arguments]) == 2
        assert "1 of 4 runs failed: nano,train.clip=1,seed=1" in capsys.readouterr().err
        own = [program[program.index(PAPER) :] for program in called]
        assert own == [
            [PAPER, "--cpus", "2", "preset=nano", f"train.clip={clip}", f"seed={seed}", "--name", name]
            for clip, seed in ((1, 0), (1, 1), (3, 0), (3, 1))
            for name in [f"nano,train.clip={clip},seed={seed}"]
        ]
        assert called[0][: called[0].index(PAPER)] == [sys.executable, "-m", "genic.experiments.run"]

    def test_a_name_stays_in_front(self, called):
        assert run.main([PAPER, "preset=nano,small", "--multirun", "--name", "mine"]) == 2
        assert [program[-1] for program in called] == ["mine,preset=nano", "mine,preset=small"]
        called.clear()
        assert run.main([PAPER, "preset=nano,small", "--multirun"]) == 2
        assert [program[-1] for program in called] == ["nano", "small"]

    def test_a_wrong_value_of_one_starts_none(self, called, capsys):
        assert run.main([PAPER, "train.clip=1,0", "--multirun"]) == 2
        assert "train.clip is 0" in capsys.readouterr().err and not called

    @pytest.mark.parametrize("experiment", PAPERS)
    def test_a_sweep_file_has_keys_of_the_paper(self, experiment, capsys):
        assert run.main([experiment, "preset=small", "--sweep-file"]) == 0
        found = yaml.safe_load(capsys.readouterr().out)
        assert found["command"][-3:] == [experiment, "preset=small", "${args_no_hyphens}"]
        small = load_config(experiment)
        for key, values in found["parameters"].items():
            part, name = key.split(".")
            assert values["min"] < getattr(getattr(small, part), name) < values["max"]
            load_config(experiment, [f"{key}={values['min']}"])
        assert len(found["parameters"]) > 1


@pytest.mark.parametrize("experiment", PAPERS)
def test_help_of_a_paper_lists_every_key_and_its_meaning(experiment, capsys):
    with pytest.raises(SystemExit):
        run.main([experiment, "--help"])
    printed = capsys.readouterr().out
    keys = {key for key in config._keys(OmegaConf.structured(load_config(experiment))) if "." in key}
    assert keys and all(f"  {key}=" in printed for key in keys)
    assert [key for key, told in config.all_options(experiment).items() if not told.meaning] == []
    assert "  nano: " in printed


def test_help_lists_papers_and_presets(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    assert "  hyperprior: nano, paper, small" in capsys.readouterr().out
