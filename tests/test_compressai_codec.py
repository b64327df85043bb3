"""CompressAI's models as codecs: their own bytes in our container, checkpoints read without running code."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from genic.datamodules.images import write_png
from genic.experiments import evaluate
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import (
    BitstreamError,
    ConfigError,
    DamagedFileError,
    GenicError,
    ToolError,
    WeightsError,
)
from genic.lightning_modules.external import compressai
from genic.lightning_modules.registry import codec_for, open_codec
from tests.elsewhere import all_decoded, elsewhere

warnings.filterwarnings("ignore", module="compressai")
zoo = pytest.importorskip("compressai.zoo", reason="CompressAI is not installed")
NAME = "bmshj2018-factorized"


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.ascontiguousarray(load_sample_image("china.jpg")[100:170, 200:301])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As examples/train.py saves one: not updated, among other entries, under the names of DataParallel."""
    torch.manual_seed(5)
    net = zoo.image_models[NAME](quality=1, pretrained=False)
    with torch.no_grad():
        net.g_a[-1].weight *= 20
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    path = tmp_path_factory.mktemp("compressai") / "checkpoint.pth.tar"
    torch.save({"epoch": 3, "state_dict": state, "loss": 0.5, "optimizer": {"state": {}}}, path)
    return path


@pytest.fixture(scope="module")
def codec(checkpoint: Path) -> compressai.CompressAi:
    return open_codec(f"compressai:{NAME}:1:{checkpoint}")


def test_the_file_holds_what_compress_returns(codec, picture) -> None:
    data = codec.encode(picture)
    x = (
        torch.from_numpy(np.pad(picture, ((0, 58), (0, 27), (0, 0)), mode="edge")).permute(2, 0, 1)[None]
        / 255
    )
    with torch.inference_mode():
        coded = codec.net.compress(x)
        expected = codec.net.decompress(coded["strings"], coded["shape"])["x_hat"][0, :, :70, :101]
    ((string,),) = coded["strings"]
    assert len(string) > 100 and string in data
    assert len(data) - len(string) <= 32 and sum(Container.from_bytes(data).ledger().values()) == len(data)
    pixels = (expected * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(codec.decode(data), pixels)
    assert codec.trained and codec.qualities == (1.0,)


@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018"])
def test_two_strings_come_back(name, picture) -> None:
    codec = open_codec(f"compressai:{name}:1:random")
    data = codec.encode(picture[:20, :30])
    assert codec.decode(data).shape == (20, 30, 3) and not codec.trained
    assert open_codec(f"compressai:{name}:1:random").weights_id == codec.weights_id


def test_another_process_decodes_the_same(codec, checkpoint, picture) -> None:
    data = codec.encode(picture)
    (there,) = elsewhere(all_decoded, [data], checkpoint)
    assert np.array_equal(there, codec.decode(data))


def test_a_file_needs_its_own_checkpoint(codec, picture) -> None:
    data = codec.encode(picture)
    with pytest.raises(WeightsError, match="--weights"):
        codec_for(data)
    with pytest.raises(WeightsError, match="give the checkpoint"):
        open_codec(f"compressai:{NAME}:1:random").decode(data)


def test_damage_is_a_typed_error(codec, picture) -> None:
    container = Container.from_bytes(codec.encode(picture))
    payload, parameters = container.section("payload"), container.section("parameters")
    for sections in (
        {"payload": payload},
        {"parameters": bytes([200, 1]), "payload": payload},
        {"parameters": bytes([1, 1]), "payload": payload},
        {"parameters": parameters, "payload": payload[:-1]},
        {"parameters": parameters, "payload": payload + b"x"},
        {"parameters": parameters, "payload": bytes([99]) + payload[1:]},
        {"parameters": parameters, "payload": payload[:2] + b"\xff" * 9},
    ):
        damaged = Container(codec.id, 70, 101, sections, codec.weights_id).to_bytes()
        with pytest.raises(BitstreamError):
            codec.decode(damaged)
    with pytest.raises(DamagedFileError):
        codec.decode(codec.encode(picture)[:-3])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("compressai", ConfigError, "ARCHITECTURE:QUALITY:CHECKPOINT"),
        ("compressai:mbt2081:4:x", ConfigError, "did you mean 'mbt2018'"),
        ("compressai:mbt2018:best:x", ConfigError, "whole number"),
        ("compressai:mbt2018:4", ConfigError, "no checkpoint.*random"),
        ("compressai:mbt2018:99:random", ConfigError, "99"),
        ("compressai:mbt2018:4:none.pth.tar", WeightsError, "no checkpoint at none"),
    ],
)
def test_names_are_checked(name, kind, message) -> None:
    with pytest.raises(kind, match=message):
        open_codec(name)


class Runs:
    """Its pickle makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_runs_no_code_and_must_fit(checkpoint, tmp_path) -> None:
    torch.save({"state_dict": {}, "extra": Runs(tmp_path / "ran")}, tmp_path / "evil.pth.tar")
    (tmp_path / "plain.pth.tar").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    torch.save({"state_dict": {"a": 1}}, tmp_path / "none.pth.tar")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pth.tar")
    for name in ("evil", "plain", "none", "other"):
        with pytest.raises(WeightsError):
            open_codec(f"compressai:{NAME}:1:{tmp_path / name}.pth.tar")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(WeightsError, match="does not fit"):
        open_codec(f"compressai:{NAME}:8:{checkpoint}")


def test_quality_is_not_measured_of_random_weights(picture, tmp_path, capsys) -> None:
    write_png(tmp_path / "pictures/a.png", picture)
    arguments = [f"compressai:{NAME}:1:random", "--data", "folder", "--root", str(tmp_path / "pictures")]
    assert evaluate.main([*arguments, "--out", str(tmp_path / "results")]) == 2
    assert "random weights" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_without_compressai_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "compressai.zoo", None)
    with pytest.raises(ToolError, match="pip install"):
        open_codec(f"compressai:{NAME}:1:random")
    assert issubclass(ToolError, GenicError)
