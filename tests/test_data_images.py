"""Reading of every kind of picture through one function, and what becomes of bad ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genic.datamodules.images import ImageItem, list_images, manifest_hash, read_image, read_label, write_png
from genic.lightning_modules.codec.errors import DataError, ImageError


@pytest.fixture
def ramp() -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return np.stack([x * 8, y * 12, (x + y) * 5], -1).astype(np.uint8)


def test_png_round_trip_is_exact(tmp_path: Path, ramp: np.ndarray) -> None:
    write_png(tmp_path / "new" / "a.png", ramp)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), ramp)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


def test_bytes_read_as_the_file_does(tmp_path: Path, ramp: np.ndarray) -> None:
    write_png(tmp_path / "a.png", ramp)
    assert np.array_equal(read_image((tmp_path / "a.png").read_bytes()), ramp)


def test_grey_becomes_rgb(tmp_path: Path, ramp: np.ndarray) -> None:
    Image.fromarray(ramp[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(ramp[..., :1], 3, -1))


def test_16_bit_grey_is_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [30000, 65280, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 1], np.rint(values / 257))


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 0, 0, 255], [200, 0, 0, 0]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_image(tmp_path / "a.jpg")
    assert red.shape == (16, 16, 3)
    assert np.abs(red.astype(int) - (255, 0, 0)).max() <= 4


def test_exif_orientation_turns_the_picture(tmp_path: Path, ramp: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(ramp).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.rot90(ramp, -1))


def test_palette_labels_keep_their_indices(tmp_path: Path) -> None:
    indices = np.array([[0, 3], [20, 255]], np.uint8)
    picture = Image.frombytes("P", (2, 2), indices.tobytes())
    picture.putpalette([k % 251 for k in range(768)])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_label(tmp_path / "a.png"), indices)


def test_rgb_is_no_label_map(tmp_path: Path, ramp: np.ndarray) -> None:
    write_png(tmp_path / "a.png", ramp)
    with pytest.raises(ImageError, match="one 8-bit channel"):
        read_label(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_every_truncation_is_a_typed_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    for length in (0, 1, 10, len(data) // 4, len(data) // 2):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_image(data[:length])


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="floating"):
        read_image(tmp_path / "a.tif")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png"):
        read_image(tmp_path / "none.png")


def test_writing_refuses_floats(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="float64"):
        write_png(tmp_path / "a.png", np.zeros((2, 2, 3)))
    assert list(tmp_path.iterdir()) == []


def test_listing_is_sorted_and_passes_over_the_rest(tmp_path: Path, ramp: np.ndarray) -> None:
    for name in ("b/2.PNG", "b/1.jpg", "a.png", ".hidden/x.png", "labels/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(ramp).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    names = [item.name for item in list_images(tmp_path, "p/", frozenset({"labels"}))]
    assert names == ["p/a.png", "p/b/1.jpg", "p/b/2.PNG"]


def test_manifest_hash_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    items = [ImageItem("b", str(tmp_path / "b")), ImageItem("a", str(tmp_path / "a"))]
    lines = "".join(f"{n}\0{hashlib.sha256(c).hexdigest()}\n" for n, c in (("a", b"one"), ("b", b"two")))
    before = manifest_hash(items)
    assert before == hashlib.sha256(lines.encode()).hexdigest() == manifest_hash(items[::-1])
    (tmp_path / "a").write_bytes(b"One")
    assert manifest_hash(items) != before
