"""Two processes: equal to the bit after every batch, equal to one with their batches together, resumed exactly."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port

from genic.experiments.config import load_config
from genic.experiments.run import train
from genic.experiments.training.checkpoint import read_checkpoint
from genic.experiments.training.devices import Placement
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import PAPERS, find_paper
from tests.helpers import nano
from tests.ranks import COPIED_AFTER, COPY, install, start
from tests.toy_fixtures import register

COMMON = [
    "preset=nano",
    "train.validate_every=0",
    "train.panels_every=0",
    "train.keep_every=0",
    "train.evaluate=null",
]
# What makes halves of a batch add up to the whole.
HALVES = {
    # Batch norms see their process's samples alone, and the masked error is a ratio of sums over them.
    "extreme_semantic": ["train.freeze_from=0", "model.F=[]", "train.selective=0"],
}
# Its batch is shared out among three networks by number, so that other samples meet.
NO_HALVES = {"ppgn_inpainting"}
DCGAN = [
    *("model.generator=dcgan", "model.widths=[8,8,8,8,4]", "model.blocks=[]", "model.encoder=false"),
    *("train.ssim_weight=0", "train.mse_weight=0", "train.rate_weight=0", "train.r1_weight=0"),
    *("train.augment=false", "train.D=[4,4,4,4,4]", "data.crop=128"),
]


def two(experiment: str, folder: Path, *settings: str) -> Path:
    """Train on two processes; gives the run's folder. They are forked, which is faster than as users start them."""
    folder.mkdir()
    arguments = [experiment, *COMMON, *settings, "--cpus", "2", "--logger", "csv", "--out", str(folder)]
    environment = os.environ | {"RANKS_FOLDER": str(folder)}
    logs = [folder / f"{rank}.log" for rank in range(2)]
    port, fork = find_free_network_port(), multiprocessing.get_context("forkserver")
    ranks = [
        fork.Process(target=start, args=(rank, port, log, environment, arguments), daemon=True)
        for rank, log in enumerate(logs)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(280)
        rank.kill()
    told = "".join(log.read_text() for log in logs)
    assert [rank.exitcode for rank in ranks] == [0, 0], told
    assert told.count("finished at batch") == 1
    return folder / experiment / "nano"


def lines(folder: Path, rank: int) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{rank}.jsonl").read_text().splitlines()]


def assert_ranks_are_equal(folder: Path, batches: int) -> None:
    first, second = lines(folder, 0), lines(folder, 1)
    assert len(first) == len(second) == batches
    for batch, (one, other) in enumerate(zip(first, second, strict=True), 1):
        assert one.keys() == other.keys() and one
        assert not [name for name in one if one[name] != other[name]], f"after batch {batch}"
    assert first[0] != first[-1]


@pytest.mark.parametrize("experiment", [*PAPERS, "toy"])
def test_two_processes(experiment, tmp_path, monkeypatch):
    if experiment == "toy":
        register(monkeypatch)
    settings = [*HALVES.get(experiment, []), "train.batches=3", "train.learning_rate=0.01"]
    folder = two(experiment, tmp_path / "two", *settings, "data.batch_size=4")
    assert_ranks_are_equal(tmp_path / "two", 3)
    logged = [line["batch"] for line in read_metrics(folder / "metrics.jsonl") if "loss/total" in line]
    assert logged == [1, 2, 3]
    if experiment in NO_HALVES:
        return
    install(monkeypatch, witness=False)
    config = load_config(experiment, [*COMMON, *settings, "data.batch_size=8"])
    pl.seed_everything(config.seed, verbose=False)
    start = find_paper(experiment).module_class()(config.paper(), config.seed).state_dict()
    one = train(config, out=tmp_path / "one", placement=Placement("cpu", 1)).module.state_dict()
    both = read_checkpoint(folder / "last.ckpt")["state_dict"]
    moved = {
        name: (tensor - start[name]).abs().max().item() for name, tensor in one.items() if tensor.numel()
    }
    largest = max(moved.values())
    assert largest > 1e-4
    for name, way in moved.items():
        torch.testing.assert_close(both[name], one[name], rtol=0, atol=4e-3 * way + 1e-5 * largest, msg=name)


@pytest.mark.parametrize(
    "paper",
    [
        pytest.param(paper, marks=() if paper == "extreme_semantic" else pytest.mark.conformance)
        for paper in PAPERS
    ],
)
def test_a_resumed_run_on_two_processes_is_the_whole_one(paper, tmp_path):
    """In every test run with a batch norm in training, whose statistics are each process's own until they are
    averaged."""
    settings = ["train.batches=4", "train.checkpoint_every=2"]
    settings += ["train.freeze_from=9"] if paper == "extreme_semantic" else []
    assert_resumed(paper, tmp_path, settings)


def assert_resumed(paper: str, folder: Path, settings: list[str]) -> None:
    whole = two(paper, folder / "whole", *settings)
    assert_ranks_are_equal(folder / "whole", 4)
    run = folder / "copy"
    run.mkdir()
    (folder / "whole" / COPY).rename(run / "last.ckpt")
    assert read_checkpoint(run / "last.ckpt")["batches_seen"] == COPIED_AFTER
    two(paper, folder / "rest", *settings, "--resume", str(run))
    for rank in range(2):
        assert lines(folder / "rest", rank) == lines(folder / "whole", rank)[COPIED_AFTER:]
    assert (run / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


@pytest.mark.conformance
def test_a_network_that_is_shared_out(tmp_path, monkeypatch):
    """Two processes with half of each tensor make the steps of one, and go on exactly from a checkpoint."""
    settings = [
        "train.batches=4",
        "train.checkpoint_every=2",
        "train.learning_rate=0.01",
        "data.batch_size=2",
    ]
    settings += ["--strategy", "fsdp"]
    assert_resumed("hyperprior", tmp_path, settings)
    install(monkeypatch, witness=False, adam=True)
    config = load_config("hyperprior", [*COMMON, *settings[:3], "data.batch_size=4"])
    pl.seed_everything(config.seed, verbose=False)
    start = find_paper("hyperprior").module_class()(config.paper(), config.seed).state_dict()
    one = train(config, out=tmp_path / "one", placement=Placement("cpu", 1)).module.state_dict()
    both = read_checkpoint(tmp_path / "whole/hyperprior/nano/last.ckpt")["state_dict"]
    assert one.keys() == both.keys()
    # Adam's steps on gradients of nearly zero are not near one another; there are few.
    way, apart = (
        sum(float((tensor - other[name]).square().sum()) for name, tensor in one.items()) ** 0.5
        for other in (start, both)
    )
    assert apart < 0.02 * way


def test_what_cannot_be_shared_out():
    for paper, devices, settings, told in (
        ("gdae_sprc", 2, [], r"2 optimisers' \(generator, discriminator\).*leave it out for ddp"),
        ("hyperprior", 1, [], "--cpus of 2 or more"),
        ("hyperprior", 2, ["train.average_weights=0.9"], "train.average_weights: set it to 0.0"),
    ):
        config = load_config(paper, [*COMMON, *settings])
        with pytest.raises(ConfigError, match=told):
            Placement("cpu", devices, strategy="fsdp").check(nano(paper), config.train)


def test_batch_norms_of_generator_and_discriminator(tmp_path):
    two("gan_reversal", tmp_path / "two", *DCGAN, "train.batches=2")
    assert_ranks_are_equal(tmp_path / "two", 2)
