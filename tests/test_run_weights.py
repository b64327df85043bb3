"""Weights files: float16 and integers come back as they were, identities name contents, errors are typed."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genic.experiments.migrate import migrate
from genic.lightning_modules.codec import weights
from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.weights import find_weights, load_weights, save_weights, weights_identity
from genic.lightning_modules.registry import open_codec

METADATA = {"paper": "selective_detail", "config": json.dumps({"width": 4, "rates": [0.1, 0.2]})}


def some_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "gain": torch.tensor(1.5),
        "tables": torch.randint(-(2**31), 2**31 - 1, (5, 7), dtype=torch.int64, generator=generator),
        "empty": torch.zeros(0, 3),
    }


def test_round_trip(tmp_path):
    tensors = some_tensors()
    identity = save_weights(tmp_path / "a" / "w.safetensors", tensors, {**METADATA, "batches": "12"})
    loaded, metadata = load_weights(tmp_path / "a" / "w.safetensors")
    assert metadata == {**METADATA, "batches": "12"}
    assert loaded.keys() == tensors.keys()
    assert loaded["conv.weight"].dtype == torch.float16 and loaded["tables"].dtype == torch.int64
    for name, tensor in tensors.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(loaded[name], expected), name
    # What was stored once is stored again without change.
    assert save_weights(tmp_path / "b.safetensors", loaded, metadata) == identity
    assert weights_identity(loaded, metadata) == identity
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["w.safetensors"], (
        "temporary files are left behind"
    )


def test_identity_names_contents_and_config_only(tmp_path):
    path = tmp_path / "w.safetensors"
    identity = save_weights(path, some_tensors(), METADATA)
    assert len(identity) == 4
    assert save_weights(path, dict(reversed(some_tensors().items())), {**METADATA, "note": "x"}) == identity
    respelt = {**METADATA, "config": '{"rates":[0.1,0.2],  "width":4}'}
    assert save_weights(path, some_tensors(), respelt) == identity
    one = save_weights(path, some_tensors(), METADATA) and path.read_bytes()
    save_weights(path, dict(reversed(some_tensors().items())), dict(reversed(METADATA.items())))
    assert path.read_bytes() == one
    others = [save_weights(path, some_tensors(1), METADATA)]
    others.append(save_weights(path, some_tensors(), {**METADATA, "config": json.dumps({"width": 5})}))
    others.append(save_weights(path, some_tensors(), {**METADATA, "paper": "gan_reversal"}))
    renamed = {("renamed" if name == "gain" else name): tensor for name, tensor in some_tensors().items()}
    others.append(save_weights(path, renamed, METADATA))
    reshaped = {**some_tensors(), "empty": torch.zeros(3, 0)}
    others.append(save_weights(path, reshaped, METADATA))
    assert len({identity, *others}) == 6


def test_tensors_that_share_storage(tmp_path):
    one = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", {"a": one, "b": one, "c": one[0]}, METADATA)
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(loaded["a"], loaded["b"]) and torch.equal(loaded["c"], one[0].half())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_values_beyond_float16_are_refused(tmp_path, value):
    with pytest.raises(WeightsError, match="bad"):
        save_weights(tmp_path / "w.safetensors", {"bad": torch.tensor([value])}, METADATA)
    assert not (tmp_path / "w.safetensors").exists()


def test_damaged_and_foreign_files(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, some_tensors(), METADATA)
    whole = path.read_bytes()
    for name, content in {
        "cut": whole[:-9],
        "short": whole[:5],
        "none": b"",
        "claim": b"\xff" * 16 + whole,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="not a whole safetensors file"):
            load_weights(tmp_path / name)
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(WeightsError, match=r"last\.safetensors"):
        load_weights(tmp_path / "last.ckpt")
    with pytest.raises(WeightsError, match="no weights at"):
        load_weights(tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="paper and config"):
        load_weights(tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="not JSON"):
        save_weights(path, some_tensors(), {**METADATA, "config": "width: 4"})
    assert path.read_bytes() == whole


def test_found_by_name_path_and_identity(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MODULES", tmp_path / "modules")
    shipped = tmp_path / "modules" / "selective_detail" / "weights" / "small.safetensors"
    first = save_weights(shipped, some_tensors(0), METADATA)
    run = tmp_path / "runs" / "selective_detail" / "small"
    second = save_weights(run / "last.safetensors", some_tensors(1), METADATA)
    other = save_weights(run / "other.safetensors", some_tensors(2), {**METADATA, "paper": "gan_reversal"})

    assert find_weights("selective_detail", "small") == shipped
    assert find_weights("selective_detail", str(run)) == run / "last.safetensors"
    assert find_weights("selective_detail", run / "last.safetensors") == run / "last.safetensors"
    assert find_weights("selective_detail", first) == shipped
    with pytest.raises(WeightsError, match=f"{second.hex()}.*GENIC_WEIGHTS"):
        find_weights("selective_detail", second)
    (run / "broken.safetensors").write_bytes(b"broken")
    monkeypatch.setenv("GENIC_WEIGHTS", str(tmp_path / "runs"))
    assert find_weights("selective_detail", second) == run / "last.safetensors"
    assert find_weights("gan_reversal", other) == run / "other.safetensors"
    with pytest.raises(WeightsError):
        find_weights("selective_detail", other)
    # A file that was replaced is looked at again.
    third = save_weights(run / "last.safetensors", some_tensors(3), METADATA)
    assert find_weights("selective_detail", third) == run / "last.safetensors"


@pytest.mark.parametrize("kind", ["empty folder", "run", "file"])
def test_what_is_named_like_a_preset_in_the_working_directory_is_left_alone(tmp_path, monkeypatch, kind):
    shipped = find_weights("selective_detail", "small")
    monkeypatch.chdir(tmp_path)
    if kind == "file":
        Path("small").write_bytes(b"x")
    else:
        Path("small").mkdir()
    if kind == "run":
        save_weights("small/last.safetensors", {"w": torch.ones(2)}, METADATA)
    assert find_weights("selective_detail", "small") == shipped
    if kind == "run":
        for path in ("./small", Path("small"), "small/last.safetensors"):
            assert find_weights("selective_detail", path) == Path("small/last.safetensors")
        Path("small").rename("mine")
        with pytest.raises(WeightsError, match=r"\./mine"):
            find_weights("selective_detail", "mine")


def test_weights_of_another_paper_are_named():
    for paper, other in (("selective_detail", "gan_reversal"), ("gan_reversal", "extreme_semantic")):
        with pytest.raises(WeightsError, match=f"weights of {paper}, not of {other}"):
            open_codec(f"{other}:{find_weights(paper, 'small')}")


def test_missing_weights_name_the_command_that_trains_them():
    with pytest.raises(WeightsError, match=r"python -m experiments\.run selective_detail preset=absent"):
        find_weights("selective_detail", "absent")
    with pytest.raises(WeightsError, match="no weights at"):
        find_weights("selective_detail", "runs/selective_detail/absent.safetensors")


def test_shipped_weights_keep_to_their_sizes_and_have_cards():
    files = weights.shipped_weights()
    too_large = [f.name for f in files if f.stat().st_size > weights.MAX_FILE_BYTES]
    assert not too_large
    assert sum(f.stat().st_size for f in files) <= weights.MAX_TOTAL_BYTES
    for file in files:
        tensors, metadata = load_weights(file)
        assert metadata["paper"] == file.parent.parent.name
        assert not [
            name for name, tensor in tensors.items() if tensor.dtype in (torch.float32, torch.float64)
        ]
        assert file.with_suffix(".md").is_file(), f"{file} has no card"


def test_weights_of_before_the_parts_are_migrated_to_the_shipped_identity():
    """One table of all settings, as files had it, without those that came later."""
    tensors, metadata = load_weights(find_weights("selective_detail", "small"))
    model, training = (json.loads(metadata[key]) for key in ("config", "training"))
    old = {name: value for name, value in model.items() if name != "levels"} | training
    moved, told = migrate(tensors, {"paper": "selective_detail", "config": json.dumps(old)})
    assert weights_identity(moved, told) == weights_identity(tensors, metadata)
    del old["latents"]
    with pytest.raises(WeightsError, match="latents"):
        migrate(tensors, {"paper": "selective_detail", "config": json.dumps(old)})
