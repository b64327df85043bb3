"""What a picture has beyond 8 bits of sRGB: converted as a viewer shows it, said, refused, and transparency kept."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from genic.datamodules.images import read_image, read_picture, write_png
from genic.experiments import compress, decompress
from genic.lightning_modules.codec.errors import ImageError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile() -> bytes:
    """sRGB whose red is green, and green red: the tags of the two colorants point to each other's values."""
    profile = bytearray(SRGB)
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * profile[131], 12)}
    red, green = (slice(entries[tag] + 4, entries[tag] + 8) for tag in (b"rXYZ", b"gXYZ"))
    profile[red], profile[green] = profile[green], profile[red]
    return bytes(profile)


def saved(array: np.ndarray, format: str = "PNG", **parameters: Any) -> bytes:
    out = BytesIO()
    Image.fromarray(array).save(out, format, **parameters)
    return out.getvalue()


@pytest.fixture(scope="module")
def ramp() -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return np.stack([x * 8, y * 12, (x + y) * 5], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def deep() -> np.ndarray:
    """16 bits a sample, with transparency."""
    return np.random.default_rng(0).integers(0, 65536, (20, 30, 4)).astype(np.uint16)


def rounded(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples / 257).astype(np.uint8)


def test_a_plain_picture_loses_nothing(ramp: np.ndarray) -> None:
    for data in (
        saved(ramp),
        saved(ramp, icc_profile=SRGB),
        saved(np.dstack([ramp, 0 * ramp[..., :1] + 255])),
    ):
        picture = read_picture(data, alpha=True)
        assert np.array_equal(picture.image, ramp) and picture.alpha is None and picture.lost == {}


def test_colours_are_converted_to_srgb(ramp: np.ndarray) -> None:
    data = saved(ramp, icc_profile=swapped_profile(), dpi=(300, 300))
    picture = read_picture(data)
    assert set(picture.lost) == {"ICC profile", "DPI"} and "converted to sRGB" in picture.losses
    assert np.abs(picture.image.astype(int) - ramp[..., [1, 0, 2]]).max() <= 2
    assert np.array_equal(read_image(data), picture.image)


def test_a_profile_that_cannot_be_used_leaves_the_samples(ramp: np.ndarray) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (b"no profile", lab):
        picture = read_picture(saved(ramp, icc_profile=profile))
        assert np.array_equal(picture.image, ramp) and "not usable" in picture.lost["ICC profile"]


@pytest.mark.parametrize(
    ("encode", "channels"),
    [(imagecodecs.png_encode, n) for n in (1, 2, 3, 4)] + [(imagecodecs.tiff_encode, n) for n in (1, 3, 4)],
)
def test_16_bits_are_rounded(deep: np.ndarray, encode: Any, channels: int) -> None:
    samples = np.ascontiguousarray(deep[..., 0] if channels == 1 else deep[..., :channels])
    picture = read_picture(encode(samples), alpha=True)
    assert picture.lost == {"16 bits": "rounded to 8"}
    colour = channels >= 3
    expected = rounded(deep[..., :3] if colour else deep[..., :1].repeat(3, -1))
    assert np.array_equal(picture.image, expected)
    assert (picture.alpha is None) == bool(channels % 2)
    if picture.alpha is not None:
        assert np.array_equal(picture.alpha, rounded(samples[..., -1]))


def test_orientation_is_applied_to_transparency_and_16_bits_too(deep: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    picture = read_picture(saved(rounded(deep), exif=exif), alpha=True)
    assert picture.lost == {"EXIF orientation": "applied"} and picture.alpha is not None
    turned = np.rot90(rounded(deep), -1)
    assert np.array_equal(np.dstack([picture.image, picture.alpha]), turned)


def test_of_several_frames_the_first_is_taken(ramp: np.ndarray) -> None:
    frames = [Image.fromarray(ramp // 2), Image.fromarray(ramp // 4)]
    for format in ("PNG", "TIFF", "WEBP"):
        data = saved(ramp, format, save_all=True, append_images=frames, lossless=True)
        picture = read_picture(data)
        assert picture.lost["frames"] == "the first of 3 is taken", format
        assert np.array_equal(picture.image, ramp)


def test_transparency_of_a_palette_is_kept(ramp: np.ndarray) -> None:
    palette = Image.fromarray(ramp).quantize(8)
    out = BytesIO()
    palette.save(out, "PNG", transparency=3)
    picture, plain = read_picture(out.getvalue(), alpha=True), read_picture(out.getvalue())
    assert np.array_equal(picture.alpha == 0, np.array(palette) == 3)
    assert picture.lost == {} and set(plain.lost) == {"transparency"}
    assert np.array_equal(plain.image, np.where((picture.alpha == 0)[..., None], 255, picture.image))


def test_samples_without_an_8_bit_reading_are_refused() -> None:
    for samples in (np.full((8, 8), 0.5, np.float32), np.full((8, 8), 70_000, np.int32)):
        with pytest.raises(ImageError, match=r"no .*8-bit reading"):
            read_picture(saved(samples, "TIFF"))


class TestCompress:
    @pytest.fixture
    def folder(self, tmp_path: Path, deep: np.ndarray) -> Path:
        for name in ("a", "b"):
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / f"{name}.png").write_bytes(saved(rounded(deep), dpi=(300, 300)))
        write_png(tmp_path / "in" / "plain.png", rounded(deep)[..., :3])
        return tmp_path / "in"

    def test_what_is_lost_is_said_once(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert compress.main(["jpeg", str(folder), "-o", str(tmp_path / "out")]) == 0
        told = "warning: a picture loses DPI (300), transparency (laid over white)\n"
        assert capsys.readouterr().err == told

    def test_strict_refuses_it(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert compress.main(["jpeg", str(folder), "-o", str(tmp_path / "out"), "--strict"]) == 2
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["plain.gnc"]
        error = capsys.readouterr().err
        assert error.count("would lose DPI (300), transparency (laid over white): ") == 2

    @pytest.mark.parametrize(
        "wanted", [["--quality", "30"], ["--bytes", "2500"], ["--psnr", "8"]], ids=" ".join
    )
    def test_alpha_keeps_transparency(
        self, folder: Path, tmp_path: Path, deep: np.ndarray, wanted: list[str]
    ) -> None:
        out = tmp_path / "out"
        assert compress.main(["jpeg", str(folder), "-o", str(out), "--alpha", *wanted]) == 0
        assert decompress.main([str(out), "-o", str(tmp_path / "back")]) == 0
        with (
            Image.open(tmp_path / "back" / "a.png") as back,
            Image.open(tmp_path / "back" / "plain.png") as plain,
        ):
            assert (back.mode, plain.mode) == ("RGBA", "RGB")
            assert np.array_equal(np.array(back)[..., 3], rounded(deep)[..., 3])
        if wanted[0] == "--bytes":
            assert (out / "a.gnc").stat().st_size <= 2500
