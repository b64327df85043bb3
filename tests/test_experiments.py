"""Every experiment, at its ``nano`` preset: trains, resumes, and is a codec."""

import re
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
from genic.losses.ssim import MIN_SIDE
from tests.helpers import OfflineRun, photograph

IN_WANDB = ("hyperprior", "gdae_sprc")
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
    keys = {key for line in lines for key in line}
    # The names that all papers share; by level, or by what else a picture's rate is of.
    levels = {
        key.removeprefix("validation/bpp_") for key in keys if re.match(r"validation/bpp_(?!hyper)", key)
    }
    assert levels and keys >= {f"validation/psnr_{level}" for level in levels}
    side = load_config(alone.module.paper, ["preset=nano"]).data.crop
    assert all((f"validation/ms_ssim_db_{level}" in keys) == (side >= MIN_SIDE) for level in levels)
    lpips = alone.module.validation_lpips is not None
    assert all((f"validation/lpips_{level}" in keys) == lpips for level in levels)
    assert keys >= {"rate/bpp_estimated", "loss/total", "speed/images_per_second", "memory/peak_gib"}
    assert keys >= {f"gradient/{name}" for name in alone.module.optimiser_names}
    assert ("balance/discriminator_to_generator" in keys) == ("loss/adversarial" in keys)
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


def test_a_run_ends_with_its_rate_distortion_result(experiment, tmp_path, monkeypatch):
    for name, top in {"a": 20, "b": 120}.items():
        write_png(tmp_path / "pictures" / f"{name}.png", photograph(72, 88, top))
    shown = experiment in IN_WANDB
    settings = [
        "train.evaluate=folder",
        f"data.root={tmp_path / 'pictures'}",
        f"train.validate_every={int(shown)}",
    ]
    if shown:
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        settings.append("train.panels_every=1")
    logger = "wandb" if shown else "csv"
    run = run_nano(experiment, tmp_path, "train.batches=1", *settings, logger=logger)
    result = CodecResult.from_json((run.folder / "rd" / "folder.json").read_text())
    assert result.codec == f"{experiment}:{run.folder / 'last.safetensors'}" and result.data == "folder"
    assert len(result.points) == len(open_codec(result.codec).qualities)
    assert all(len(point.images) == 2 and point.mean.bpp > 0 for point in result.points)
    assert "evaluate: folder" in (run.folder / "config.yaml").read_text()
    if shown:
        _check_offline_run(OfflineRun(next((run.folder / "wandb").glob("offline-run-*"))), run, result)


def _check_offline_run(found: OfflineRun, run: Run, result: CodecResult) -> None:
    """Everything that the documentation promises of a run in Weights & Biases, by names without the paper's."""
    promised = {"loss/total", "rate/bpp_estimated", "validation/bpp_0", "validation/psnr_0"}
    promised |= {"speed/images_per_second", "memory/peak_gib"}
    for name in run.module.optimiser_names:
        promised |= {f"gradient/{name}", f"learning_rate/{name}"}
    if run.module.validation_lpips is not None:
        promised.add("validation/lpips_0")
    if "loss/discriminator" in found.keys:
        promised |= {"loss/adversarial", "balance/discriminator_to_generator"}
    assert found.keys >= promised
    captions = [row["panels/captions"] for _, row in found.rows if "panels/captions" in row]
    assert len(captions) == 1 and all(
        re.search(r"x_hat \d\.\d{4} bpp, \d+\.\d\d dB", line) for line in captions[0]
    )
    measures = ["psnr_rgb", *(["lpips_alex"] if run.module.validation_lpips is not None else [])]
    for measure in measures:
        chart = found.config[f"_wandb/visualize/rd/folder/{measure}"]["panel_config"]
        assert chart["panelDefId"] == "wandb/lineseries/v0"
        curves = {row[1] for row in found.table(f"rd/folder/{measure}_table")}
        assert curves == {f"{run.module.paper}/nano", "hevc"}
        assert (f"bd_rate/{measure}" in found.summary) != (f"bd_rate_refused/{measure}" in found.summary)
    assert found.summary["bd_rate/against"] == "hevc"
    assert [row[1] for row in found.table("rd/folder/table")] == [point.mean.bpp for point in result.points]
    pictures = found.table("pictures/folder")
    assert [row[0] for row in pictures] == ["a.png", "b.png"] * len(result.points)
    assert [row[4] for row in pictures] == [i.bytes for point in result.points for i in point.images]
    tables = [files for (kind, _), files in found.artifacts.items() if kind == "run_table"]
    thumbnails = next(files for files in tables if "pictures/folder.table.json" in files)
    assert sum(name.endswith(".jpg") for name in thumbnails) == 2 + 2 * len(result.points)
    networks = {name for name, network in run.module.named_children() if list(network.parameters())}
    assert all(found.summary[f"parameters/{name}"] > 0 for name in networks | {"system"})
    assert found.summary["macs_per_pixel/system"] > 0
    name = f"{run.module.paper}-nano"
    assert found.artifacts[("model", f"weights-{name}")] == ["weights.safetensors"]
    assert found.artifacts[("results", f"results-{name}-folder")] == ["result.json"]
    assert {("dataset", "data-sample-training"), ("dataset", "data-folder")} <= set(found.artifacts)
