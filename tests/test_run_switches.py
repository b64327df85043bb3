"""Switches of training that leave losses as they are, for every paper; averaged weights; steps of several batches."""

from __future__ import annotations

import signal
from functools import partial

import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch
from torch.overrides import TorchFunctionMode

from genic.experiments.config import load_config
from genic.experiments.run import Run, train
from genic.experiments.training.checkpoint import read_checkpoint
from genic.experiments.training.devices import Placement
from genic.experiments.training.loggers import read_metrics
from genic.experiments.training.networks import checkpoint_activations
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.codec.weights import load_weights
from genic.lightning_modules.registry import PAPERS
from tests.helpers import nano
from tests.ranks import SampleNoise
from tests.test_ranks import HALVES, NO_HALVES
from tests.test_run_resume import assert_same, signal_at
from tests.toy_fixtures import run_toy

COMMON = ["preset=nano", "train.evaluate=null", "train.average_weights=0"]
COMMON += [f"train.{what}_every=0" for what in ("validate", "panels", "keep", "checkpoint")]


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    """Losses of a run of eight crops by batch; random numbers of a step belong to the sample."""
    step = CompressionModule.training_step

    def training_step(self, batch, batch_idx):
        turn, place = divmod(self.batches_seen, self.config.train.accumulate)
        torch.manual_seed(turn)
        with SampleNoise(len(batch.image), place, self.config.train.accumulate), HostReads() as waits:
            step(self, batch, batch_idx)

        of.waits[self.paper] = [name for name in waits.found]

    found: dict[tuple[str, ...], list[float]] = {}

    def of(paper: str, *settings: str, crops: int = 4, samples: int = 8) -> list[float]:
        if (paper, *settings) not in found:
            size = [f"data.batch_size={crops}", f"train.batches={samples // crops}"]
            config = load_config(paper, [*COMMON, *HALVES.get(paper, []), *size, *settings])
            run = train(config, out=tmp_path_factory.mktemp(paper), placement=Placement("cpu", 1))
            found[paper, *settings] = [m["loss/total"] for m in metrics(run) if "loss/total" in m]
        return found[paper, *settings]

    of.waits = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompressionModule, "training_step", training_step)
        yield of


class HostReads(TorchFunctionMode):
    """Notes what would wait for a GPU: reading a tensor on the host, and sizes that depend on values."""

    NAMES = ("item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "unique")
    NAMES += ("__bool__", "__int__", "__float__", "__index__")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if function is torch.randint and "device" not in (kwargs or {}):
            result.of_the_host = True
        name = getattr(function, "__name__", "")
        if name in self.NAMES and not hasattr(args[0], "of_the_host"):
            self.found.append(name)
        return result


def metrics(run: Run) -> list[dict]:
    return read_metrics(run.folder / "metrics.jsonl")


@pytest.mark.parametrize("paper", PAPERS)
def test_less_memory_and_an_average_change_no_loss(paper, losses):
    switches = ["train.checkpoint_activations=true", "train.average_weights=0.9", "train.channels_last=true"]
    assert losses(paper, *switches) == pytest.approx(losses(paper), rel=1e-3)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_step_waits_for_no_device(paper, losses):
    losses(paper)
    assert not losses.waits[paper]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("paper", PAPERS)
def test_a_step_on_a_gpu_does_not_wait_for_it(paper, tmp_path, monkeypatch):
    step = CompressionModule.training_step

    def training_step(self, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("error" if batch_idx else "default")  # the first allocates
        try:
            step(self, batch, batch_idx)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(CompressionModule, "training_step", training_step)
    config = load_config(paper, [*COMMON, *HALVES.get(paper, []), "train.batches=2"])
    assert train(config, out=tmp_path, placement=Placement("gpu", 1)).batches == 2


@pytest.mark.parametrize("paper", sorted({*PAPERS} - NO_HALVES))
def test_two_batches_a_step_are_one_of_twice_the_size(paper, losses):
    """But for D's step, which the first batch's generator loss does not see."""
    found = losses(paper, "train.accumulate=2", crops=2)
    assert (found[0] + found[1]) / 2 == pytest.approx(losses(paper)[0], rel=1e-2)
    assert (found[2] + found[3]) / 2 == pytest.approx(losses(paper)[1], rel=2e-2)


@pytest.mark.conformance
@pytest.mark.parametrize("paper", PAPERS)
def test_bfloat16(paper, losses):
    found = losses(paper, "train.precision=bf16")
    assert found != losses(paper) and found == pytest.approx(losses(paper), rel=5e-2)


@pytest.mark.conformance
@pytest.mark.parametrize("paper", PAPERS)
def test_compiled_networks_have_the_same_losses(paper, losses, monkeypatch):
    """As torch traces them; to make machine code of them takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert losses(paper, "train.compile=true") == pytest.approx(losses(paper), rel=1e-3)


def test_checkpointed_activations_keep_less():
    kept = []
    module = nano("hyperprior")
    for _ in range(2):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):  # noqa: B023
            module.system(torch.rand(1, 3, 64, 64), torch.zeros(1))
        kept.append(sum(sizes))
        checkpoint_activations(module)
    assert kept[1] < 0.8 * kept[0]


def test_batches_that_wait_for_their_step(toy, tmp_path, monkeypatch):
    signal_at(monkeypatch, 1, signal.SIGTERM)
    run = run_toy(tmp_path, "train.accumulate=2", "train.batches=4")
    assert (run.batches, run.reason) == (2, "SIGTERM")
    assert read_checkpoint(run.folder / "last.ckpt")["global_step"] == 2  # of two optimisers
    assert [m["batch"] for m in metrics(run) if "gradient/generator" in m] == [2]
    with pytest.raises(ConfigError, match=r"train.checkpoint_every is 3: a multiple of train.accumulate=2"):
        run_toy(tmp_path, "train.accumulate=2", "train.checkpoint_every=3")


def test_averaged_weights_are_exported_and_resumed(toy, tmp_path):
    weights, runs = {}, {}
    for decay in (0.0, 0.15):
        settings = [f"train.average_weights={decay}", "train.keep_every=1", "train.validate_every=0"]
        runs[decay] = run_toy(tmp_path / str(decay), *settings, "train.batches=4")
        files = sorted(runs[decay].folder.glob("0*.safetensors"))
        weights[decay] = [load_weights(file)[0]["0.weight"].float() for file in files]
    expected = weights[0.0][0]
    for batch, (own, average) in enumerate(zip(weights[0.0], weights[0.15], strict=True), 1):
        # A single batch behind it is no average; then the decay rises.
        decay = 0 if batch == 1 else min(0.15, (1 + batch) / (10 + batch))
        expected = decay * expected + (1 - decay) * own
        torch.testing.assert_close(average, expected, rtol=2e-3, atol=1e-4)
    assert not torch.equal(weights[0.0][3], weights[0.15][3])
    torch.testing.assert_close(runs[0.15].module.system[0].weight.detach(), expected, rtol=2e-3, atol=1e-4)

    run_toy(tmp_path / "part", *settings, "train.batches=2")
    with pytest.raises(ConfigError, match=r"give train\.average_weights"):
        run_toy(tmp_path / "part", "train.batches=4", resume="auto")
    rest = run_toy(tmp_path / "part", *settings, "train.batches=4", resume="auto")
    mine, its = (read_checkpoint(run.folder / "last.ckpt") for run in (rest, runs[0.15]))
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states"):
        assert_same(mine[part], its[part])
