"""Tar shards: written once, read in an order that resumes exactly, and refused when they do not fit."""

from __future__ import annotations

import json
import sys
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread

import fsspec
import numpy as np
import pytest
import torch

from genic.datamodules import DataConfig, make_datamodule
from genic.datamodules.batch import Batch
from genic.datamodules.images import write_png

pytest.importorskip("webdataset")

from genic.datamodules.pack import main, pack
from genic.datamodules.shards import ShardIndex, ShardStream
from genic.lightning_modules.codec.errors import ConfigError, DataError, ToolError

PICTURES = 23


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flat pictures whose grey value is their number, with maps of the same value, and one broken picture."""
    root = tmp_path_factory.mktemp("data")
    for k in range(PICTURES):
        write_png(root / f"bsds/train/{k:02d}.png", np.full((32, 40, 3), 10 * k, np.uint8))
        write_png(root / f"labels/semantic_voc21/bsds/train/{k:02d}.png", np.full((32, 40), k, np.uint8))
    (root / "bsds/train/broken.png").write_bytes(b"bad")
    write_png(root / "labels/semantic_voc21/bsds/train/broken.png", np.zeros((32, 40), np.uint8))
    return root


@pytest.fixture(scope="module")
def shards(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "bsds"
    config = DataConfig("bsds", str(root), labels=["semantic"])
    assert pack(config, out, megabytes=0.001) == (PICTURES, 1)
    return out


def _config(shards: Path, **changes: object) -> DataConfig:
    values = {"name": "bsds", "shards": str(shards), "labels": ["semantic"], "crop": 16, "batch_size": 2}
    return DataConfig(**(values | {"workers": 0} | changes))


def _values(batch: Batch) -> list[int]:
    """Which pictures a batch holds; their maps must agree."""
    numbers = (batch.image[:, 0, 0, 0] * 25.5).round().int()
    assert torch.equal(numbers.long(), batch.semantic[:, 0, 0])
    return numbers.tolist()


def test_shards_hold_every_file_byte_for_byte(root: Path, shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    assert sum(count for _, count in index["shards"]) == PICTURES and index["left_out"] == 1
    assert len(index["shards"]) > 3
    found = set()
    for name, _ in index["shards"]:
        with tarfile.open(shards / name) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}
        for member, data in members.items():
            key, _, kind = member.partition(".")
            if kind == "name":
                found.add(data.decode())
                original = root / "bsds" / data.decode()
                assert members[f"{key}.image"] == original.read_bytes()
                label = root / "labels/semantic_voc21/bsds" / data.decode()
                assert members[f"{key}.semantic.png"] == label.read_bytes()
    assert found == {f"train/{k:02d}.png" for k in range(PICTURES)}


def test_one_pass_holds_every_picture_once(shards: Path) -> None:
    stream = ShardStream(ShardIndex.read(str(shards)), _config(shards, batch_size=1))
    drawn = [_values(batch)[0] for batch in islice(stream, 2 * PICTURES)]
    assert sorted(drawn[:PICTURES]) == sorted(drawn[PICTURES:]) == list(range(PICTURES))
    assert drawn[:PICTURES] != drawn[PICTURES:]


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_goes_on_exactly(shards: Path, workers: int) -> None:
    def take(start: int, count: int) -> list[Batch]:
        datamodule = make_datamodule(_config(shards, workers=workers))
        datamodule.start_batch = start
        return list(islice(iter(datamodule.train_dataloader()), count))

    whole = take(0, 40)
    for start in (7, 31):
        for a, b in zip(whole[start : start + 4], take(start, 4), strict=True):
            assert torch.equal(a.image, b.image) and torch.equal(a.semantic, b.semantic)


def test_the_same_stream_from_a_web_server(shards: Path) -> None:
    """By two readers, which share no connection."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(shards))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for workers in (0, 2):
            near, far = (make_datamodule(_config(at, workers=workers)) for at in (shards, address))
            near.start_batch = far.start_batch = 5
            for a, b in zip(*(islice(d.train_dataloader(), 4) for d in (near, far)), strict=True):
                assert torch.equal(a.image, b.image)
        with pytest.raises(DataError, match=r"no index\.json"):
            ShardIndex.read(f"{address}/absent")
        server.shutdown()
    with pytest.raises(DataError, match=r"no index\.json"):
        ShardIndex.read(address)


def test_the_same_stream_from_an_object_store(shards: Path) -> None:
    """fsspec's own in memory, addressed as S3's are."""
    store = fsspec.filesystem("memory")
    for file in shards.iterdir():
        store.pipe(f"/bucket/packed/{file.name}", file.read_bytes())
    near, far = (make_datamodule(_config(at)) for at in (shards, "memory://bucket/packed"))
    for a, b in zip(*(islice(d.train_dataloader(), 3) for d in (near, far)), strict=True):
        assert torch.equal(a.image, b.image)
    store.rm("/bucket", recursive=True)


def test_batches_from_shards_are_prepared(shards: Path) -> None:
    datamodule = make_datamodule(_config(shards))
    datamodule.before_step = lambda batch, key: batch._replace(prepared=key)
    assert [batch.prepared for batch in islice(datamodule.train_dataloader(), 3)] == [0, 2, 4]


def test_an_address_that_needs_another_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ToolError, match=r"genic\[s3\]"):
        ShardIndex.read("s3://bucket/packed")


def test_ranks_read_different_shards(shards: Path) -> None:
    index = ShardIndex.read(str(shards))
    first = {name: count for name, count in index.shards}
    drawn = []
    for rank in range(2):
        stream = ShardStream(index, _config(shards, batch_size=1), rank=rank, world=2)
        drawn.append({_values(batch)[0] for batch in islice(stream, min(first.values()))})
    assert drawn[0] and not drawn[0] & drawn[1]


def test_damage_is_typed(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"datamodules\.pack"):
        ShardIndex.read(str(tmp_path))
    (tmp_path / "index.json").write_text('{"shards": 3}')
    with pytest.raises(DataError, match="damaged"):
        ShardIndex.read(str(tmp_path))
    index = json.loads((shards / "index.json").read_text())
    index["shards"] = [[name, count + 1] for name, count in index["shards"]]
    (tmp_path / "index.json").write_text(json.dumps(index))
    for name, _ in index["shards"]:
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    with pytest.raises(DataError, match="its index says"):
        next(iter(make_datamodule(_config(tmp_path)).train_dataloader()))
    for name, _ in index["shards"]:
        (tmp_path / name).write_bytes((shards / name).read_bytes()[:700])
    with pytest.raises(DataError, match="cannot be read"):
        next(iter(make_datamodule(_config(tmp_path)).train_dataloader()))


def test_shards_must_fit_the_configuration(shards: Path) -> None:
    with pytest.raises(ConfigError, match="detail"):
        make_datamodule(_config(shards, labels=["detail"])).train_dataloader()
    with pytest.raises(ConfigError, match=r"21 classes, that of camvid 12"):
        make_datamodule(_config(shards, name="camvid")).train_dataloader()


def test_pack_command(root: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["bsds", "--root", str(root), "-o", str(tmp_path / "new")]) == 0
    assert f"{PICTURES} pictures" in capsys.readouterr().out
    assert main(["bsds", "--root", str(root), "-o", str(shards)]) == 2
    assert "not empty" in capsys.readouterr().err
