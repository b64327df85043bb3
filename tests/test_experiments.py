"""Every experiment, at its ``nano`` preset: trains, resumes, and is a codec."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("omegaconf")
pytest.importorskip("pytorch_lightning")

import torch

from genic.datamodules.images import write_png
from genic.eval.schema import CodecResult
from genic.experiments.config import load_config
from genic.experiments.run import Run, train
from genic.experiments.training.devices import Placement
from genic.experiments.training.loggers import read_metrics
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.weights import load_weights, weights_identity
from genic.lightning_modules.registry import PAPERS, learned, open_codec
from tests.helpers import photograph

ROOT = Path(__file__).resolve().parent.parent


def run_nano(experiment: str, out: Path, *settings: str, **options) -> Run:
    config = load_config(experiment, ["preset=nano", *settings])
    return train(config, out=out, placement=Placement("cpu", 1), **options)


@pytest.fixture(scope="module", params=PAPERS)
def experiment(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def alone(experiment, tmp_path_factory) -> Run:
    """A whole run in this process."""
    return run_nano(experiment, tmp_path_factory.mktemp(experiment))


def test_it_trains(alone):
    assert alone.reason == "finished"
    lines = read_metrics(alone.folder / "metrics.jsonl")
    losses = [line["loss/total"] for line in lines if "loss/total" in line]
    assert len(losses) == alone.batches and np.isfinite(losses).all()
    assert any(name.startswith("validation/") for line in lines for name in line)
    assert list((alone.folder / "panels").glob("*.png"))


def test_every_parameter_has_one_optimiser_or_is_frozen(experiment):
    config = load_config(experiment, ["preset=nano"])
    module = PAPERS[experiment].module_class()(config.paper(), config.seed)
    owners = {name: 0 for name, _ in module.named_parameters()}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for optimiser in module.configure_optimizers():
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                owners[names[id(parameter)]] += 1
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {name: count for name, count in owners.items() if count != (name in trained)} == {}


def test_every_trained_parameter_moves(alone, experiment):
    """Within the few batches of the preset, unless its gradient is exactly zero: then something is unconnected."""
    config = load_config(experiment, ["preset=nano"])
    torch.manual_seed(config.seed)
    fresh = PAPERS[experiment].module_class()(config.paper(), config.seed)
    after = dict(alone.module.named_parameters())
    still = [n for n, p in fresh.named_parameters() if p.requires_grad and torch.equal(p, after[n])]
    assert not still


def test_it_resumes_to_the_same_weights(alone, experiment, tmp_path):
    half = run_nano(experiment, tmp_path, f"train.batches={alone.batches // 2}")
    rest = run_nano(experiment, tmp_path, resume="auto")
    assert rest.folder == half.folder and rest.batches == alone.batches
    state = alone.module.state_dict()
    changed = [
        name for name, tensor in rest.module.state_dict().items() if not torch.equal(tensor, state[name])
    ]
    assert not changed
    assert (rest.folder / "last.safetensors").read_bytes() == (alone.folder / "last.safetensors").read_bytes()


def test_its_weights_are_a_codec(alone, experiment):
    path = alone.folder / "last.safetensors"
    codec = open_codec(f"{experiment}:{path}")
    tensors, metadata = load_weights(path)
    assert codec.weights_id == weights_identity(tensors, metadata) == alone.module.codec().weights_id
    assert codec.id == learned()[experiment][0]
    image = photograph(45, 70)
    for quality in (codec.qualities[0], codec.qualities[-1]):
        data = codec.encode(image, quality)
        decoded = codec.decode(data)
        assert decoded.shape == image.shape and decoded.dtype == np.uint8
        assert Container.from_bytes(data).weights == codec.weights_id
        assert np.array_equal(decoded, codec.decode(data))


def test_a_run_ends_with_its_rate_distortion_result(experiment, tmp_path):
    for name, top in {"a": 20, "b": 120}.items():
        write_png(tmp_path / "pictures" / f"{name}.png", photograph(72, 88, top))
    settings = ["train.evaluate=folder", f"data.root={tmp_path / 'pictures'}", "train.validate_every=0"]
    run = run_nano(experiment, tmp_path, "train.batches=1", *settings)
    result = CodecResult.from_json((run.folder / "rd" / "folder.json").read_text())
    assert result.codec == f"{experiment}:{run.folder / 'last.safetensors'}" and result.data == "folder"
    assert len(result.points) == len(open_codec(result.codec).qualities)
    assert all(len(point.images) == 2 and point.mean.bpp > 0 for point in result.points)
    assert "evaluate: folder" in (run.folder / "config.yaml").read_text()
