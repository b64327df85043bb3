"""Each data set's layout, parts and labels."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from genic.datamodules import DataConfig, kodak, make_datamodule
from genic.datamodules.annotate import annotate
from genic.datamodules.images import write_png
from genic.lightning_modules.codec.errors import ConfigError, DataError
from tests.helpers import SHARED

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="no reference data: set GENIC_DATA to a folder with kodak/, imagenet/, …"
)


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GENIC_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _picture(path: Path, value: int = 0, size: tuple[int, int] = (36, 48)) -> None:
    write_png(path, np.full((*size, 3), value, np.uint8))


def test_sample_parts_are_apart_and_natural() -> None:
    datamodule = make_datamodule(DataConfig(labels=["detail", "semantic"]))
    train, evaluation = datamodule.items("train"), datamodule.evaluation_images()
    assert len(train) == 10 and len(evaluation) == 3
    assert not {i.name for i in train} & {i.name for i in evaluation}
    for item in datamodule.labelled(train + evaluation):
        sample = item.read_sample()
        assert min(sample.image.shape[:2]) >= 300 and sample.image.std() > 10
        assert sample.semantic.max() < datamodule.semantic_classes == 21


def test_sample_labels_mark_the_face_and_the_cat() -> None:
    datamodule = make_datamodule(DataConfig(labels=["detail", "semantic"]))
    items = datamodule.labelled(datamodule.items("train") + datamodule.items("evaluation"))
    samples = {item.name: item.read_sample() for item in items}
    astronaut = samples["skimage/astronaut.png"]
    assert astronaut.detail[120, 225] == 255 and astronaut.semantic[120, 225] == 15  # her nose
    assert astronaut.detail[20, 480] == 0 and astronaut.semantic[20, 480] == 0
    assert samples["skimage/chelsea.png"].semantic[120, 170] == 8
    assert samples["skimage/chelsea.png"].detail.max() == 0


def test_imagenet_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _picture(tmp_path / "imagenet/train/n01/n01_1.JPEG")
    _picture(tmp_path / "imagenet/train/n02/n02_1.JPEG")
    _picture(tmp_path / "imagenet/val/ILSVRC2012_val_1.JPEG")
    monkeypatch.setenv("GENIC_DATA", str(tmp_path))
    datamodule = make_datamodule(DataConfig("imagenet"))
    assert [i.name for i in datamodule.items("train")] == ["train/n01/n01_1.JPEG", "train/n02/n02_1.JPEG"]
    assert [i.name for i in datamodule.evaluation_images()] == ["val/ILSVRC2012_val_1.JPEG"]
    own = make_datamodule(DataConfig("imagenet", root=str(tmp_path / "imagenet")))
    assert own.items("train") == datamodule.items("train")


def test_photographs_are_those_of_three_sets_and_their_labels(tmp_path: Path) -> None:
    names = ["bsds/train/1.jpg", "imagenet/train/n01/n01_1.JPEG", "photos/coco/2.jpg"]
    for name in (*names, "bsds/val/3.jpg", "imagenet/val/n01/4.JPEG"):
        _picture(tmp_path / name)
    datamodule = make_datamodule(DataConfig("photographs", str(tmp_path)))
    assert [i.name for i in datamodule.items("train")] == names
    assert [i.name for i in datamodule.items("val")] == ["bsds/val/3.jpg"]
    write_png(tmp_path / "labels/semantic_voc21/imagenet/train/n01/n01_1.png", np.full((36, 48), 7, np.uint8))
    labelled = make_datamodule(DataConfig("photographs", str(tmp_path), labels=["semantic"]))
    kept = labelled.labelled(labelled.items("train"))
    assert [i.name for i in kept] == names[1:2] and kept[0].read_sample().semantic.max() == 7
    made = annotate(
        DataConfig("photographs", str(tmp_path), labels=["semantic"]),
        tmp_path / "made",
        masks=tmp_path / "masks",
    )
    assert made == {"semantic": (0, 4)}  # all four pictures are asked for, and none has a mask
    write_png(tmp_path / "masks/photos/coco/2.png", np.zeros((36, 48), np.uint8))
    annotate(
        DataConfig("photographs", str(tmp_path), labels=["semantic"]),
        tmp_path / "made",
        masks=tmp_path / "masks",
    )
    assert (tmp_path / "made/semantic_voc21/photos/coco/2.png").is_file()


def test_photographs_need_all_three_sets(tmp_path: Path) -> None:
    _picture(tmp_path / "bsds/train/1.jpg")
    with pytest.raises(DataError, match="imagenet/train"):
        make_datamodule(DataConfig("photographs", str(tmp_path))).items("train")


def test_labels_root_goes_before_the_default(tmp_path: Path) -> None:
    root, own = tmp_path / "data", tmp_path / "own"
    for k in range(3):
        _picture(root / f"bsds/train/{k}.jpg")
    full, empty = np.full((36, 48), 9, np.uint8), np.zeros((36, 48), np.uint8)
    for k in range(2):
        write_png(root / f"labels/semantic_voc21/bsds/train/{k}.png", empty)
    write_png(own / "semantic_voc21/bsds/train/0.png", full)
    config = DataConfig("bsds", str(root), labels=["semantic"], labels_root=str(own))
    datamodule = make_datamodule(config)
    items = datamodule.labelled(datamodule.items("train"))
    assert [i.name for i in items] == ["train/0.jpg", "train/1.jpg"]
    assert [int(i.read_sample().semantic.max()) for i in items] == [9, 0]


def test_pictures_without_labels_are_left_out_with_a_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(3):
        _picture(tmp_path / f"bsds/train/{k}.jpg")
    write_png(tmp_path / "labels/detail/bsds/train/1.png", np.zeros((36, 48), np.uint8))
    datamodule = make_datamodule(DataConfig("bsds", str(tmp_path), labels=["detail"]))
    with caplog.at_level(logging.WARNING):
        assert [i.name for i in datamodule.labelled(datamodule.items("train"))] == ["train/1.jpg"]
    assert "2 of 3" in caplog.text


def test_no_labels_at_all_names_the_annotator(tmp_path: Path) -> None:
    _picture(tmp_path / "bsds/train/0.jpg")
    datamodule = make_datamodule(DataConfig("bsds", str(tmp_path), labels=["detail"]))
    with pytest.raises(DataError, match=r"datamodules\.annotate bsds"):
        datamodule.train_dataloader()


def test_a_map_of_another_size_is_unusable(tmp_path: Path) -> None:
    for k in range(2):
        _picture(tmp_path / f"bsds/train/{k}.jpg", value=10 * k)
        write_png(tmp_path / f"labels/detail/bsds/train/{k}.png", np.zeros((36, 48 + k), np.uint8))
    config = DataConfig("bsds", str(tmp_path), labels=["detail"], crop=32, workers=0, batch_size=4)
    datamodule = make_datamodule(config)
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.image.max() == 0
    assert datamodule.skipped == 1


def test_camvid_layout(tmp_path: Path) -> None:
    for part, value in (("train", 3), ("val", 4), ("test", 11)):
        _picture(tmp_path / f"camvid/{part}/a.jpg")
        write_png(tmp_path / f"camvid/{part}annot/a.png", np.full((36, 48), value, np.uint8))
    config = DataConfig("camvid", str(tmp_path), labels=["semantic"], crop=32, workers=0)
    datamodule = make_datamodule(config)
    assert datamodule.semantic_classes == 12
    assert next(iter(datamodule.train_dataloader())).semantic.unique().tolist() == [3]
    assert next(iter(datamodule.val_dataloader())).semantic.unique().tolist() == [4]
    assert [i.name for i in datamodule.evaluation_images()] == ["test/a.jpg"]


def test_plain_folder_holds_out_by_name(tmp_path: Path) -> None:
    for k in range(60):
        _picture(tmp_path / f"{k}.png", value=k)
    datamodule = make_datamodule(DataConfig("folder", str(tmp_path)))
    train, val = ({i.name for i in datamodule.items(part)} for part in ("train", "val"))
    assert train | val == {i.name for i in datamodule.evaluation_images()}
    assert not train & val and 1 <= len(val) <= 15


@pytest.mark.parametrize("name", ["imagenet", "bsds", "camvid", "openimages"])
def test_missing_data_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"GENIC_DATA.*{name}/"):
        make_datamodule(DataConfig(name)).evaluation_images()
    with pytest.raises(DataError, match="not a folder"):
        make_datamodule(DataConfig(name, str(tmp_path / "none"))).evaluation_images()
    with pytest.raises(DataError, match=rf"{name}/"):
        make_datamodule(DataConfig(name, str(tmp_path))).evaluation_images()


def test_folder_needs_a_root() -> None:
    with pytest.raises(DataError, match=r"data\.root"):
        make_datamodule(DataConfig("folder")).evaluation_images()


@pytest.mark.parametrize(
    ("name", "wanted", "other"),
    [
        ("clic2020", "test/a.png", "train/b.png"),
        ("clic2020", "professional/a.png", None),
        ("clic2021", "test/a.png", "train/b.png"),
        ("div2k", "DIV2K_valid_HR/0801.png", "DIV2K_train_HR/0001.png"),
        ("tecnick", "RGB/RGB_OR_1200x1200/a.png", "RGB/RGB_OR_0600x0600/a.png"),
        ("tecnick", "a.png", None),
        ("cityscapes", "leftImg8bit/val/ulm/a_leftImg8bit.png", "leftImg8bit/train/ulm/b_leftImg8bit.png"),
    ],
)
def test_test_sets_by_folder(name: str, wanted: str, other: str | None, tmp_path: Path) -> None:
    for path in (wanted, other):
        if path is not None:
            _picture(tmp_path / name / path)
    datamodule = make_datamodule(DataConfig(name, str(tmp_path)))
    assert [item.name for item in datamodule.evaluation_images()] == [wanted]
    with pytest.raises(ConfigError, match="evaluation set"):
        datamodule.items("train")


def test_kodak_is_not_for_training() -> None:
    with pytest.raises(ConfigError, match="evaluation set"):
        make_datamodule(DataConfig("kodak")).train_dataloader()


def test_half_a_kodak_is_refused(tmp_path: Path) -> None:
    _picture(tmp_path / "kodak/kodim01.png")
    with pytest.raises(DataError, match=r"kodim02\.png"):
        make_datamodule(DataConfig("kodak", str(tmp_path))).evaluation_images()


def test_kodak_is_fetched_checked_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    asked = []

    def fake(self: object, url: str, output_file: str, pooch: object) -> None:
        asked.append(url)
        Path(output_file).write_bytes(buffer.getvalue())

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", fake)
    datamodule = make_datamodule(DataConfig("kodak"))
    with pytest.raises(DataError, match=r"kodim01\.png.* does not match"):
        datamodule.evaluation_images()
    hashes = dict.fromkeys(kodak.NAMES, hashlib.sha256(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(kodak, "HASHES", tmp_path / "hashes.json")
    kodak.HASHES.write_text(json.dumps(hashes))
    asked.clear()
    assert [i.name for i in datamodule.evaluation_images()] == list(kodak.NAMES)
    assert asked == [kodak.URL + name for name in kodak.NAMES]
    asked.clear()
    items = datamodule.evaluation_images()
    assert len(items) == 24 and not asked
    Path(items[4].path).write_bytes(b"damaged")
    datamodule.evaluation_images()
    assert asked == [kodak.URL + "kodim05.png"]


def test_kodak_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no route")

    monkeypatch.setattr("requests.get", refuse)
    with pytest.raises(DataError, match=r"no route.*kodak/"):
        make_datamodule(DataConfig("kodak")).evaluation_images()


@needs_shared
def test_shared_kodak_is_the_published_set() -> None:
    items = make_datamodule(DataConfig("kodak", str(SHARED))).evaluation_images()
    hashes = {item.name: hashlib.sha256(Path(item.path).read_bytes()).hexdigest() for item in items}
    assert hashes == json.loads(kodak.HASHES.read_text())
    assert items[3].read().shape == (768, 512, 3)


@needs_shared
@pytest.mark.parametrize(
    ("name", "train", "val", "evaluation"),
    [("imagenet", 800, 100, 100), ("bsds", 200, 100, 100), ("camvid", 367, 101, 59)],
)
def test_shared_sets_train_with_labels(name: str, train: int, val: int, evaluation: int) -> None:
    config = DataConfig(name, str(SHARED), labels=["semantic"], workers=0, batch_size=4)
    datamodule = make_datamodule(config)
    assert len(datamodule.evaluation_images()) == evaluation
    batch = next(iter(datamodule.train_dataloader()))
    assert batch.image.shape == (4, 3, 256, 256) and batch.semantic.shape == (4, 256, 256)
    assert 0 <= batch.image.min() < batch.image.max() <= 1
    assert batch.semantic.max() < datamodule.semantic_classes
    assert len(datamodule.labelled(datamodule.items("train"))) == train
    loader = datamodule.val_dataloader()
    assert sum(len(indices) for indices in loader.batch_sampler) == val
    assert torch.equal(next(iter(loader)).image, next(iter(loader)).image)
