"""The annotator: what its detectors find on known pictures, and that it goes on where it was."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from genic.datamodules import DataConfig, make_datamodule, segmentation
from genic.datamodules.annotate import annotate, main
from genic.datamodules.detectors import FACE, detail_map, detector_file, find_faces, find_text
from genic.datamodules.images import read_image, read_label, write_png
from genic.lightning_modules.codec.errors import ConfigError, ToolError, WeightsError
from tests.helpers import needs_detectors


def _bundled(name: str) -> np.ndarray:
    datamodule = make_datamodule(DataConfig())
    items = datamodule.items("train") + datamodule.items("evaluation")
    return next(item.read() for item in items if item.name.endswith(name))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return ((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum()


def test_missing_files_are_told_with_their_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENIC_DATA", str(tmp_path))
    with pytest.raises(ToolError, match=r"yunet.*weights/detectors"):
        detector_file(FACE)


@needs_detectors
@pytest.mark.parametrize(("number", "faces"), [(4, 1), (14, 9), (15, 1), (18, 1), (3, 0), (20, 0), (23, 0)])
def test_kodak_s_faces_are_counted(number: int, faces: int) -> None:
    image = _kodak(number)
    assert len(find_faces(image)) == faces


@needs_detectors
@pytest.mark.parametrize(
    ("number", "words"),
    [(8, [(553, 321, 647, 349), (693, 305, 746, 340)]), (14, [(518, 401, 629, 436)]), (3, [])],
)
def test_kodak_s_words_are_found(number: int, words: list[tuple[int, int, int, int]]) -> None:
    image = _kodak(number)
    found = detail_map(image.shape[:2], find_text(image))
    truth = detail_map(image.shape[:2], words)
    assert not words or (found[truth > 0] > 0).mean() > 0.8
    assert (found[truth == 0] > 0).mean() < 0.02


def _kodak(number: int) -> np.ndarray:
    path = Path(os.environ["GENIC_DATA"], f"kodak/kodim{number:02d}.png")
    if not path.is_file():
        pytest.skip("Kodak is not below GENIC_DATA")
    return read_image(path)


@needs_detectors
@pytest.mark.parametrize(
    ("name", "face"), [("astronaut.png", (177, 73, 278, 190)), ("camera.png", (180, 99, 262, 198))]
)
def test_the_one_face_is_found(name: str, face: tuple[int, int, int, int]) -> None:
    image = _bundled(name)
    found = detail_map(image.shape[:2], [face.box for face in find_faces(image)])
    assert _overlap(found, detail_map(image.shape[:2], [face])) > 0.55


@needs_detectors
@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg", "flower.jpg"])
def test_no_face_where_there_is_none(name: str) -> None:
    assert find_faces(_bundled(name)) == []


def _with_text(
    background: np.ndarray, words: str, size: int, at: tuple[int, int]
) -> tuple[np.ndarray, tuple]:
    picture = Image.fromarray(background.copy())
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    box = pen.textbbox(at, words, font=font)
    pen.rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), fill=(240, 240, 235))
    pen.text(at, words, font=font, fill=(20, 20, 30))
    return np.array(picture), box


@needs_detectors
@pytest.mark.parametrize("size", [14, 24, 48])
@pytest.mark.parametrize("name", ["flower.jpg", "rocket.jpg"])
def test_rendered_text_is_found_and_little_else(name: str, size: int) -> None:
    plain = _bundled(name)
    image, box = _with_text(plain, "Museum Station 42", size, (60, 70))
    truth = detail_map(image.shape[:2], [box])
    found = detail_map(image.shape[:2], find_text(image))
    assert (found[truth > 0] > 0).mean() > 0.7
    assert (found[truth == 0] > 0).mean() < 0.02
    assert (detail_map(plain.shape[:2], find_text(plain)) > 0).mean() < 0.01


@needs_detectors
def test_boxes_scale_with_large_pictures() -> None:
    image, box = _with_text(np.full((1500, 2400, 3), 128, np.uint8), "Platform 7", 96, (900, 700))
    found = detail_map(image.shape[:2], find_text(image))
    assert _overlap(found, detail_map(image.shape[:2], [box])) > 0.6


@needs_detectors
@pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (20, 20)])
def test_any_size_goes_through_the_detectors(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for left, top, right, bottom in [face.box for face in find_faces(image)] + find_text(image):
        assert 0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, names in (("train", "abc"), ("val", "d")):
        for name in names:
            write_png(tmp_path / "data" / part / f"{name}.png", np.full((40, 50, 3), 80, np.uint8))
    (tmp_path / "data/train/broken.png").write_bytes(b"bad")
    return tmp_path / "data"


@needs_detectors
@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "labels"
    kept = np.full((40, 50), 255, np.uint8)
    write_png(out / "detail/folder/train/b.png", kept)
    config = DataConfig("folder", str(folder), labels=["detail"])
    assert annotate(config, out, workers=workers) == {"detail": (3, 1)}
    assert np.array_equal(read_label(out / "detail/folder/train/b.png"), kept)
    assert read_label(out / "detail/folder/val/d.png").tolist() == np.zeros((40, 50)).tolist()
    assert annotate(config, out) == {"detail": (0, 1)}
    datamodule = make_datamodule(
        DataConfig("folder", str(folder), labels=["detail"], labels_root=str(out), crop=32, workers=0)
    )
    assert datamodule.train_dataloader() is not None
    assert [i.name for i in datamodule.labelled(datamodule.items("train"))] == [
        f"train/{name}.png" for name in "abc"
    ]


def test_given_masks_are_checked_and_taken_over(folder: Path, tmp_path: Path) -> None:
    for name, shape in (("a", (40, 50)), ("b", (40, 51))):
        write_png(tmp_path / f"masks/train/{name}.png", np.full(shape, 15, np.uint8))
    config = DataConfig("folder", str(folder), labels=["semantic"])
    counts = annotate(config, tmp_path / "out", ("train",), masks=tmp_path / "masks")
    assert counts == {"semantic": (1, 3)}  # b of another size, c without a mask, one broken
    made = [p.name for p in (tmp_path / "out").rglob("*.png")]
    assert made == ["a.png"]
    assert (read_label(tmp_path / "out/semantic_voc21/folder/train/a.png") == 15).all()


class _ByBrightness(nn.Module):
    """Class 3 where the (normalised) red channel is positive, else class 7."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        assert min(x.shape[-2:]) == segmentation.SHORT_SIDE
        logits = torch.full((1, segmentation.CLASSES, *x.shape[-2:]), -9.0)
        logits[:, 3], logits[:, 7] = self.gain * x[:, 0], -self.gain * x[:, 0]
        return {"out": logits}


def test_network_maps_have_the_picture_s_size(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmentation.models, "get_model", lambda name, **options: _ByBrightness())
    torch.save({"gain": torch.ones(1)}, tmp_path / "weights.pth")
    network = segmentation.SemanticNetwork("lraspp_mobilenet_v3_large", tmp_path / "weights.pth")
    image = np.zeros((40, 70, 3), np.uint8)
    image[:, 30:] = 255
    made = network(image)
    assert made.shape == (40, 70) and made.dtype == np.uint8
    assert (made[:, :29] == 7).all() and (made[:, 31:] == 3).all()
    counts = annotate(DataConfig("folder", str(folder), labels=["semantic"]), tmp_path / "o", network=network)
    assert counts == {"semantic": (4, 1)}


def test_a_real_network_loads_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    made = segmentation.SemanticNetwork("lraspp_mobilenet_v3_large", tmp_path / "w.safetensors")(
        np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
    )
    assert made.shape == (30, 45) and made.max() < 21
    with pytest.raises(WeightsError, match="does not fit"):
        segmentation.SemanticNetwork("fcn_resnet50", tmp_path / "w.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"bad")
    with pytest.raises(WeightsError, match="cannot be read"):
        segmentation.SemanticNetwork("fcn_resnet50", tmp_path / "bad.safetensors")
    with pytest.raises(ConfigError, match="lraspp"):
        segmentation.SemanticNetwork("unet", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample"], "drawn by hand"),
        (["folder", "--labels", "semantic"], "--weights FILE"),
        (["folder", "--labels", "semantic", "--weights", "none.pth"], "no file none.pth"),
        (["camvid", "--labels", "semantic"], "own semantic maps"),
    ],
)
def test_the_command_says_what_is_missing(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    if arguments[0] == "camvid":
        for part in ("train", "val"):
            write_png(folder / f"camvid/{part}/a.png", np.zeros((4, 4, 3), np.uint8))
    assert main([*arguments, "--root", str(folder)]) == 2
    assert message in capsys.readouterr().err
