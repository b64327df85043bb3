"""NaN and infinity in a training: the run stops or leaves the step out, and says where they come from."""

from __future__ import annotations

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch
from torch import nn

from genic.experiments.config import load_config
from genic.experiments.run import train
from genic.experiments.training.checkpoint import read_checkpoint
from genic.experiments.training.devices import Placement
from genic.experiments.training.health import PATIENCE, Health
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import DivergedError
from genic.lightning_modules.registry import PAPERS
from tests.test_ranks import COMMON, DCGAN
from tests.test_run_resume import assert_same
from tests.toy_experiment import Toy
from tests.toy_fixtures import run_toy


def spoil(patch: pytest.MonkeyPatch, module: type[CompressionModule], at: int, how) -> None:
    """Have ``how(module, batch)`` give another batch at batch ``at``, counted from 1."""
    step = module.loss_step

    def loss_step(self, batch):
        step(self, how(self, batch) if self.batches_seen == at - 1 else batch)

    patch.setattr(module, "loss_step", loss_step)


def no_picture(module, batch):
    return batch._replace(image=batch.image * float("nan"))


def test_a_run_stops_before_it_is_spoilt(toy, whole, tmp_path, monkeypatch):
    """The last checkpoint is good, and the run that goes on from it is the whole one."""

    def through_the_layer(module, batch):
        module.system[1].forward = lambda x: x / 0
        return batch

    with monkeypatch.context() as patch:
        spoil(patch, Toy, 4, through_the_layer)
        with pytest.raises(DivergedError) as error:
            run_toy(tmp_path)
    for told in (
        "in batch 4: loss/", "loss/total", "the generator's gradient of system.0.weight (4 of 4",
        "the discriminator's gradient of D.", "begins in system.1 (GELU)", "train.non_finite=skip",
    ):  # fmt: skip
        assert told in str(error.value)
    folder = tmp_path / "toy" / "nano"
    assert read_checkpoint(folder / "last.ckpt")["batches_seen"] == 2
    rest = run_toy(tmp_path, resume="auto")
    assert_same(rest.module.state_dict(), whole.module.state_dict())


def test_a_step_is_left_out_and_counted(toy, tmp_path, monkeypatch):
    spoil(monkeypatch, Toy, 2, no_picture)
    with pytest.warns(
        UserWarning, match=r"left out, the 1\. so far: NaN or infinity in batch 2: .*loss/total"
    ):
        run = run_toy(tmp_path, "train.non_finite=skip", "train.batches=3", "train.checkpoint_every=1")
    counted = [
        line["health/skipped"]
        for line in read_metrics(run.folder / "metrics.jsonl")
        if "health/skipped" in line
    ]
    assert counted == [0, 1, 1]
    assert all(tensor.isfinite().all() for tensor in run.module.state_dict().values())
    checkpoint = read_checkpoint(run.folder / "last.ckpt")
    steps = [float(s["step"]) for part in checkpoint["optimizer_states"] for s in part["state"].values()]
    assert steps == [2] * 4 + [1] * 2  # D takes part from the second batch on
    assert checkpoint["callbacks"]["Health"] == {"skipped": 1}


def test_a_loss_alone_is_found(toy, tmp_path, monkeypatch):
    """Without a gradient that tells of it."""

    def infinite(module, batch):
        log = module.log

        def wrong(name, value, **options):
            log(name, value / 0 if name == "loss/total" else value, **options)

        monkeypatch.setattr(module, "log", wrong, raising=False)
        return batch

    spoil(monkeypatch, Toy, 1, infinite)
    with pytest.raises(DivergedError, match=r"batch 1: loss/total; every layer's output is finite"):
        run_toy(tmp_path)


@pytest.mark.parametrize("paper", PAPERS)
def test_no_paper_is_spoilt_by_a_batch(paper, tmp_path, monkeypatch):
    settings = ["train.batches=2", "train.checkpoint_every=0", "train.non_finite=skip"]
    settings += DCGAN if paper == "gan_reversal" else []  # which has batch norms
    module = PAPERS[paper].module_class()
    spoil(monkeypatch, module, 2, no_picture)
    monkeypatch.setattr(Health, "_warn", lambda *_: None)
    with pytest.warns(UserWarning, match="left out, the 1"):
        run = train(load_config(paper, [*COMMON, *settings]), out=tmp_path, placement=Placement("cpu", 1))
    assert all(tensor.isfinite().all() for tensor in run.module.state_dict().values())


def test_a_game_that_is_lost_and_dead_centres_are_told():
    health, logged = (
        Health(),
        {"loss/discriminator": torch.tensor(0.001), "loss/adversarial": torch.tensor(6.0)},
    )
    for _ in range(PATIENCE - 1):
        health._warn(logged | {"centres/used": torch.tensor(0.8)})
    health._warn(logged | {"loss/discriminator": torch.tensor(0.5)})  # the count begins anew
    with pytest.warns(UserWarning) as told:
        for _ in range(PATIENCE):
            health._warn(logged | {"centres/used": torch.tensor(0.8)})
    said = [str(warning.message) for warning in told]
    assert sum("the discriminator has won, with a loss below 1% of the other's" in text for text in said) == 1
    assert sum("centres of the quantiser are not used" in text for text in said) == 1


def test_batch_norms_keep_their_statistics():
    norm = nn.BatchNorm2d(2)
    from genic.lightning_modules.base import _finite_statistics

    with _finite_statistics(norm):
        norm(torch.full((2, 2, 3, 3), float("nan")))
    assert norm.running_mean.tolist() == [0, 0] and norm.running_var.tolist() == [1, 1]
