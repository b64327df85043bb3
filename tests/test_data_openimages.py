"""Open Images' published formats, on a data set of three pictures made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from genic.datamodules import DataConfig, make_datamodule, openimages
from genic.datamodules.annotate import main
from genic.datamodules.images import read_label, write_png
from genic.lightning_modules.codec.errors import DataError
from tests.helpers import needs_detectors

FACE, CAR, WHEEL = "/m/0dzct", "/m/0k4j", "/m/083wq"
BOX_COLUMNS = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
MASK_COLUMNS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``aa`` has a face, a word, a car and its wheel; ``bb`` a car's box only; ``cc`` no annotation. 60×80, grey."""
    folder = tmp_path / "openimages"
    for split, name in (("train", "aa"), ("train", "bb"), ("train", "cc"), ("validation", "dd")):
        write_png(folder / split / f"{name}.png", np.full((60, 80, 3), 90, np.uint8))
    (folder / "annotations").mkdir()
    (folder / "annotations/oidv7-class-descriptions-boxable.csv").write_text(
        f"LabelName,DisplayName\n{FACE},Human face\n{CAR},Car\n{WHEEL},Wheel\n"
    )
    (folder / "annotations/oidv6-train-annotations-bbox.csv").write_text(
        f"{BOX_COLUMNS}\n"
        f"aa,xclick,{FACE},1,0.25,0.5,0.1,0.6,0,0,0,0,0\n"
        f"aa,xclick,{CAR},1,0.0,1.0,0.5,1.0,0,0,0,0,0\n"
        f"bb,xclick,{CAR},1,0.0,1.0,0.5,1.0,0,0,0,0,0\n"
        f"zz,xclick,{FACE},1,0.0,1.0,0.5,1.0,0,0,0,0,0\n"
    )
    (folder / "train-annotations-object-segmentation.csv").write_text(
        f"{MASK_COLUMNS}\n"
        f"aa_m083wq_2.png,aa,{WHEEL},2,0.0,0.25,0.5,1.0,0.8,\n"
        f"aa_m0k4j_1.png,aa,{CAR},1,0.0,1.0,0.5,1.0,0.8,\n"
        f"zz_m0k4j_1.png,zz,{CAR},1,0.0,1.0,0.5,1.0,0.8,\n"
    )
    car = np.zeros((30, 40), np.uint8)  # masks are not of the picture's size
    car[15:] = 255
    wheel = np.zeros((30, 40), np.uint8)
    wheel[15:, :10] = 255
    write_png(folder / "masks/train/aa_m0k4j_1.png", car)
    write_png(folder / "masks/train/aa_m083wq_2.png", wheel)
    text = {
        "images": [{"id": 7, "file_name": "train/train_1/aa.jpg", "width": 160, "height": 120}],
        "annotations": [{"image_id": 7, "segmentation": [[120, 100, 140, 100, 140, 110, 120, 110]]}],
    }
    (folder / "text_spotting_openimages_v5_train_1.json").write_text(json.dumps(text))
    return tmp_path


@needs_detectors
def test_annotations_become_maps_and_maps_train(root: Path, capsys: pytest.CaptureFixture) -> None:
    before = make_datamodule(DataConfig("openimages", str(root)))
    assert before.semantic_classes == 21
    arguments = ["openimages", "--root", str(root), "--parts", "train", "--labels", "detail", "semantic"]
    assert main(arguments) == 0
    assert "detail: 3 maps made" in capsys.readouterr().out
    detail = read_label(root / "labels/detail/openimages/train/aa.png")
    expected = np.zeros((60, 80), np.uint8)
    expected[6:36, 20:40] = 255  # the face
    expected[50:56, 60:71] = 255  # the word, its outline included
    assert np.array_equal(detail, expected)
    assert not read_label(root / "labels/detail/openimages/train/bb.png").any()
    semantic = read_label(root / "labels/semantic_openimages/openimages/train/aa.png")
    # Both classes occur once; ties go by identifier, so the wheel (/m/083wq) is 1 and the car 2.
    assert semantic[:30].max() == 0
    assert (semantic[30:, :20] == 1).all() and (semantic[30:, 20:] == 2).all()

    config = DataConfig("openimages", str(root), labels=["detail", "semantic"], crop=40, workers=0)
    datamodule = make_datamodule(config)
    assert datamodule.semantic_classes == 3
    batch = next(iter(datamodule.train_dataloader()))
    assert set(batch.semantic.unique().tolist()) <= {0, 1, 2}
    assert batch.detail.max() == 1
    assert [i.name for i in datamodule.evaluation_images()] == ["validation/dd.png"]


def test_boxes_are_shares_and_know_pictures_without_faces(root: Path) -> None:
    boxes = openimages.face_boxes(root / "openimages", "train", {"aa", "bb", "cc"})
    assert boxes["aa"].tolist() == [[0.25, 0.1, 0.5, 0.6]]
    assert boxes["bb"].shape == (0, 4)
    assert "cc" not in boxes and "zz" not in boxes
    assert openimages.face_boxes(root / "openimages", "test", {"aa"}) is None


def test_older_descriptions_without_a_heading(root: Path) -> None:
    (root / "openimages/annotations/oidv7-class-descriptions-boxable.csv").unlink()
    (root / "openimages/class-descriptions-boxable.csv").write_text(f"{FACE},Human face\n")
    assert openimages.class_names(root / "openimages") == {FACE: "Human face"}


def test_at_most_255_classes_the_most_frequent(root: Path, tmp_path: Path) -> None:
    found = {
        str(k): [openimages.Region(Path("x"), f"/m/{k:03d}", 0.5)] * (2 if k == 299 else 1)
        for k in range(300)
    }
    index = openimages.stored_classes(tmp_path / "out", root / "openimages", found)
    assert len(index) == 255 and index["/m/299"] == 1 and index["/m/253"] == 255
    assert openimages.stored_classes(tmp_path / "out", root / "openimages", {}) == index


def test_foreign_files_are_refused(root: Path) -> None:
    folder = root / "openimages"
    (folder / "annotations/oidv6-train-annotations-bbox.csv").write_text("ImageID,LabelName\naa,x\n")
    with pytest.raises(DataError, match="XMin"):
        openimages.face_boxes(folder, "train", {"aa"})
    (folder / "text_spotting_openimages_v5_train_1.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="open_images_v5_text"):
        openimages.text_polygons(folder, {"aa"})
    (folder / "annotations/oidv7-class-descriptions-boxable.csv").unlink()
    with pytest.raises(DataError, match="class-descriptions"):
        openimages.class_names(folder)


def test_a_missing_mask_leaves_its_picture_out(root: Path, capsys: pytest.CaptureFixture) -> None:
    (root / "openimages/masks/train/aa_m0k4j_1.png").unlink()
    assert main(["openimages", "--root", str(root), "--parts", "train", "--labels", "semantic"]) == 0
    printed = capsys.readouterr()
    assert "0 maps made, 1 pictures left out" in printed.out
    assert "aa_m0k4j_1.png" in printed.err
