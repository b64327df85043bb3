"""Figures inside and outside a region, and what detectors, a reader and a classifier still recognise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFilter

from genic.datamodules.images import write_png
from genic.eval import metrics, regions
from genic.eval.regions import recognised, unavailable
from genic.eval.runner import Loaded, Task, WorkerPairs, label_file, measure_files
from genic.eval.schema import ImageResult, Means
from genic.lightning_modules.codec.errors import DataError, ToolError
from tests.helpers import photograph

PICTURE = photograph(192, 208, 10, 120)  # a face in its middle
SAME = PICTURE.copy()


def needs(name: str) -> pytest.MarkDecorator:
    why = unavailable(name)
    return pytest.mark.skipif(why is not None, reason=str(why))


def needs_lpips() -> pytest.MarkDecorator:
    why = metrics.unavailable("lpips_alex")
    return pytest.mark.skipif(why is not None, reason=str(why))


def _noisy(place: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-20, 21, PICTURE.shape)
    return np.where(place[..., None], np.clip(PICTURE.astype(int) + noise, 0, 255), PICTURE).astype(np.uint8)


@pytest.fixture
def square(tmp_path: Path) -> Path:
    place = np.zeros(PICTURE.shape[:2], np.uint8)
    place[40:150, 50:170] = 7
    write_png(tmp_path / "square.png", place)
    return tmp_path / "square.png"


@needs_lpips()
def test_inside_and_outside_are_told_apart(square: Path) -> None:
    inside = regions.region(PICTURE, square)
    found = recognised("regions", PICTURE, _noisy(inside), square)
    error = (PICTURE[inside].astype(float) - _noisy(inside)[inside]) ** 2
    assert found["psnr_inside"] == pytest.approx(10 * np.log10(255**2 / error.mean()))
    assert found["psnr_outside"] == np.inf
    # Windows and receptive fields reach over the edge, so outside is not perfect.
    assert found["ms_ssim_inside"] < 0.98 < found["ms_ssim_outside"] <= 1
    assert found["lpips_inside"] > 2 * found["lpips_outside"] > 0


@needs_lpips()
def test_a_region_of_everything_has_the_whole_picture_s_figures(tmp_path: Path) -> None:
    write_png(tmp_path / "all.png", np.ones(PICTURE.shape[:2], np.uint8))
    decoded = _noisy(np.ones(PICTURE.shape[:2], bool))
    found = recognised("regions", PICTURE, decoded, tmp_path / "all.png")
    whole = metrics.measure(PICTURE, decoded, ["lpips_alex"])
    assert found["psnr_inside"] == pytest.approx(whole.psnr_rgb)
    assert found["ms_ssim_inside"] == pytest.approx(whole.ms_ssim)
    assert found["lpips_inside"] == pytest.approx(whole.lpips_alex, rel=1e-5)
    assert found["psnr_outside"] is found["ms_ssim_outside"] is found["lpips_outside"] is None


def test_maps_need_no_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_here() -> None:
        raise ToolError("no detectors")

    monkeypatch.setitem(regions._NEEDS, "regions", none_here)
    assert unavailable("regions") == "no detectors"
    assert unavailable("regions", mapped=True) == metrics.unavailable("lpips_alex")


def test_maps_are_found_by_the_picture_s_name(tmp_path: Path, square: Path) -> None:
    with pytest.raises(DataError, match=r"no map .*a/b\.png of a/b\.jpg"):
        label_file(tmp_path, "a/b.jpg")
    assert label_file(tmp_path, "square.jpg") == square
    with pytest.raises(DataError, match="make it anew"):
        regions.region(PICTURE[1:], square)


@needs("faces")
def test_faces_are_lost_and_found() -> None:
    same = recognised("faces", PICTURE, SAME, None)
    assert same["face_confidence"] > 0.7 and same["face_error"] == 0
    import PIL.Image

    blurred = np.asarray(PIL.Image.fromarray(PICTURE).filter(ImageFilter.GaussianBlur(3)))
    worse = recognised("faces", PICTURE, blurred, None)
    assert worse["face_confidence"] < same["face_confidence"] and worse["face_error"] > 0
    grey = np.full_like(PICTURE, 128)
    assert recognised("faces", PICTURE, grey, None) == {"face_confidence": 0.0, "face_error": None}
    assert recognised("faces", grey, PICTURE, None) == {"face_confidence": None, "face_error": None}


@needs("faces")
def test_without_a_map_the_annotator_says_where() -> None:
    found = regions.region(PICTURE, None)
    assert 0.02 < found.mean() < 0.6


@needs("text")
def test_words_are_read_again() -> None:
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("RGB", (420, 120), "white")
    ImageDraw.Draw(page).text((20, 30), "RATE DISTORTION", "black", ImageFont.load_default(44))
    there = np.asarray(page)
    assert recognised("text", there, there.copy(), None) == {"text_distance": 0.0}
    gone = np.asarray(page.filter(ImageFilter.GaussianBlur(9)))
    assert recognised("text", there, gone, None)["text_distance"] > 0.5


@needs("semantics")
def test_the_classifier_agrees_with_itself() -> None:
    assert recognised("semantics", PICTURE, SAME, None)["agreement"] == pytest.approx(1, abs=1e-5)
    assert recognised("semantics", PICTURE, np.full_like(PICTURE, 128), None)["agreement"] < 0.5


@needs_lpips()
def test_a_measurement_is_kept_with_the_map_that_it_is_of(square: Path, tmp_path: Path) -> None:
    tasks = [Task(Loaded("square.jpg", PICTURE), "jpeg", quality=20)]
    how = {"networks": ["regions"], "regions": square.parent, "store": tmp_path / "store"}
    with WorkerPairs() as workers:
        (first,) = measure_files(tasks, workers, **how)
        assert first.psnr_inside < 35 and first.face_error is None
        assert Means.of([first]).lpips_inside == first.lpips_inside
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(WorkerPairs, "each", lambda self, tasks, do: [pytest.fail() for _ in tasks])
            assert measure_files(tasks, workers, **how) == [first]
        write_png(square, 255 * (regions.region(PICTURE, square) == 0).astype(np.uint8))
        (second,) = measure_files(tasks, workers, **how)
    assert (second.psnr_inside, second.psnr_outside) == (first.psnr_outside, first.psnr_inside)


def test_means_are_over_the_pictures_that_have_the_thing() -> None:
    plain = dict(
        name="", bytes=1, bpp=1.0, ledger={}, psnr_rgb=30.0, ssim=None, ms_ssim=None, ms_ssim_db=None
    )
    times = dict(encode_seconds=0.0, decode_seconds=0.0)
    images = [ImageResult(**plain, **times, face_confidence=value) for value in (0.5, None, 1.0)]
    assert Means.of(images).face_confidence == 0.75
    assert Means.of(images[1:2]).face_confidence is None
