"""What is particular to each classical codec; `test_contract` has what they share."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import stat
from itertools import pairwise

import imagecodecs
import numpy as np
import pytest
from PIL import Image as PillowImage
from sklearn.datasets import load_sample_image

from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import bits_per_pixel
from genic.lightning_modules.codec.errors import BitstreamError, ConfigError, DamagedFileError, ToolError
from genic.lightning_modules.codec.lossless import claimed_size
from genic.lightning_modules.registry import CLASSICAL, open_codec

NAMES = [name for name in CLASSICAL if name != "bpg"]


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.asarray(load_sample_image("flower.jpg"))[120:312, 200:456].copy()


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def _payload(data: bytes) -> bytes:
    return Container.from_bytes(data).section("payload")


@pytest.mark.parametrize("name", NAMES)
def test_more_rate_is_more_quality(name, photograph):
    codec = open_codec(name)
    some = codec.qualities[:: max(1, len(codec.qualities) // 3)]
    files = [codec.encode(photograph, quality) for quality in some]
    assert all(len(a) < len(b) for a, b in pairwise(files))
    fidelity = [_psnr(photograph, codec.decode(data)) for data in files]
    assert all(a < b for a, b in pairwise(fidelity))


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_in_their_places(name):
    """Four flat colours come back, so that channels, matrix and range agree between the two directions."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :32], image[:32, 32:] = (220, 20, 40), (30, 180, 60)
    image[32:, :32], image[32:, 32:] = (20, 40, 200), (255, 255, 255)
    codec = open_codec(name)
    decoded = codec.decode(codec.encode(image, codec.qualities[-1]))
    for y, x in ((16, 16), (16, 48), (48, 16), (48, 48)):
        assert np.abs(decoded[y, x].astype(int) - image[y, x]).max() <= 12


@pytest.mark.parametrize("name", [name for name in NAMES if name != "hevc"])
@pytest.mark.parametrize("size", [(192, 255), (191, 256), (1, 1), (256, 192)])
def test_a_size_that_is_not_the_native_header_s(name, size, photograph):
    codec = open_codec(name)
    honest = Container.from_bytes(codec.encode(photograph))
    with pytest.raises(DamagedFileError):
        codec.decode(dataclasses.replace(honest, height=size[0], width=size[1]).to_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_altered_streams_under_a_true_checksum(name, photograph):
    """Whatever a library makes of bad bytes, it is a picture of the right size or a typed error."""
    codec = open_codec(name)
    honest = Container.from_bytes(codec.encode(photograph[:64, :48], codec.qualities[2]))
    payload, rng = honest.section("payload"), np.random.default_rng(7)
    refused = 0
    for trial in range(60):
        bad = bytearray(payload[: rng.integers(1, len(payload))] if trial % 3 == 0 else payload)
        bad[rng.integers(min(len(bad), 24 if trial % 3 == 1 else len(bad)))] ^= 1 << int(rng.integers(8))
        altered = dataclasses.replace(honest, sections={**honest.sections, "payload": bytes(bad)})
        try:
            assert codec.decode(altered.to_bytes()).shape == (64, 48, 3)
        except BitstreamError:
            refused += 1
    assert refused >= 10


@pytest.mark.parametrize("name", [*NAMES, "bpg"])
def test_a_quality_out_of_range(name, photograph):
    codec = open_codec(name)
    low, high = sorted((codec.quality_steps[0], codec.quality_steps[-1]))
    for bad in (high + 1, low - 1):
        with pytest.raises(ConfigError, match=r"quality is .+ to .+, not"):
            codec.encode(photograph, bad)
    with pytest.raises(ConfigError, match="quality=nan: a number is needed"):
        codec.encode(photograph, float("nan"))


class TestNativeStreams:
    def test_jpeg_is_a_jpeg_and_smaller_than_pillow_s(self, photograph):
        data = open_codec("jpeg").encode(photograph, 60)
        plain = io.BytesIO()
        PillowImage.fromarray(photograph).save(plain, "JPEG", quality=60)
        payload = _payload(data)
        assert payload[:2] == b"\xff\xd8" and len(payload) < plain.tell()
        with PillowImage.open(io.BytesIO(payload)) as ours, PillowImage.open(plain) as theirs:
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))

    def test_jpeg2000_meets_its_rate_without_a_comment(self, photograph):
        for target in (0.25, 1.0):
            data = open_codec("jpeg2000").encode(photograph, target)
            assert 0.9 * target < bits_per_pixel(_payload(data), photograph) <= target
            assert b"OpenJPEG" not in data
        np.testing.assert_array_equal(
            imagecodecs.jpeg2k_decode(_payload(data)), open_codec("jpeg2000").decode(data)
        )

    def test_avif_is_a_bare_stream_that_beats_the_boxed_default(self, photograph):
        tuned, default = open_codec("avif"), open_codec("avif-default")
        file = default.encode(photograph, 40)
        with PillowImage.open(io.BytesIO(_payload(file))) as picture:
            assert picture.format == "AVIF"
        ours = [tuned.encode(photograph, quality) for quality in (18, 30, 45)]
        rates = [bits_per_pixel(data, photograph) for data in ours]
        fidelity = [_psnr(photograph, tuned.decode(data)) for data in ours]
        assert rates[0] < bits_per_pixel(file, photograph) < rates[-1]
        at_equal_rate = np.interp(bits_per_pixel(file, photograph), rates, fidelity)
        assert at_equal_rate > _psnr(photograph, default.decode(file))

    def test_hevc_carries_no_advertisement(self, photograph):
        payload = _payload(open_codec("hevc").encode(photograph))
        assert payload.startswith(b"\0\0\0\1\x40\x01")  # a start code, then the video parameter set
        assert b"x265" not in payload

    def test_hevc_fills_its_blocks_by_repetition(self, photograph):
        """A crop decodes about as well as the whole, and its last rows and columns no worse than the rest."""
        codec = open_codec("hevc")
        crop = photograph[:101, :99]
        decoded = codec.decode(codec.encode(crop, 27))
        assert _psnr(crop[-3:], decoded[-3:]) > 30 and _psnr(crop[:, -3:], decoded[:, -3:]) > 30

    def test_kmeans_gives_k_colours_and_says_where_the_bits_are(self, photograph):
        codec = open_codec("kmeans")
        for k in (2, 5, 16):
            data = codec.encode(photograph, k)
            assert len(np.unique(codec.decode(data).reshape(-1, 3), axis=0)) == k
            assert Container.from_bytes(data).ledger()["palette"] == 3 * k

    def test_kmeans_is_lossless_where_the_picture_has_no_more_colours(self):
        image = np.random.default_rng(1).choice(np.array([3, 130, 250], np.uint8), (20, 30, 1)).repeat(3, 2)
        codec = open_codec("kmeans")
        np.testing.assert_array_equal(codec.decode(codec.encode(image, 16)), image)

    @pytest.mark.parametrize("palette", [b"", b"\1\2", b"\1\2\3", bytes(3 * 257)])
    def test_kmeans_refuses_a_false_palette(self, palette, photograph):
        codec = open_codec("kmeans")
        honest = Container.from_bytes(codec.encode(photograph, 6))
        with pytest.raises(DamagedFileError, match=r"palette|colours"):
            codec.decode(
                dataclasses.replace(honest, sections={**honest.sections, "palette": palette}).to_bytes()
            )


@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (256, 256), (300, 200), (512, 768), (767, 1023), (17, 2600), (1, 8192), (24, 32)]
)
def test_the_size_in_a_jpeg_xl_header(size):
    flat = imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8), distance=5, effort=1, usecontainer=False)
    assert claimed_size(flat) == size


class TestYCbCr:
    def test_known_colours(self):
        """Full-range BT.601 by hand: white, black, red, green, blue."""
        colours = [[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]
        planes = ycbcr.from_rgb(np.array([colours], np.uint8))
        expected = [[255, 128, 128], [0, 128, 128], [76, 85, 255], [150, 44, 21], [29, 255, 107]]
        np.testing.assert_array_equal(planes[:, 0].T, expected)

    def test_there_and_back(self):
        image = np.random.default_rng(0).integers(0, 256, (300, 40, 3), np.uint8)
        error = np.abs(ycbcr.to_rgb(ycbcr.from_rgb(image)).astype(int) - image)
        # Half a step in each plane: at most 0.5 + 1.772 · 0.5, rounded; more only where Cb or Cr is clipped.
        assert error.max() <= 2 and error.mean() < 0.6


class TestBpg:
    def test_without_the_programs_the_error_names_the_remedy(self, photograph, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolError, match="install libbpg"):
            open_codec("bpg").encode(photograph)

    def test_a_refusal_by_the_program_is_typed(self, photograph, monkeypatch, tmp_path):
        _program(tmp_path / "bpgenc", "echo out of cheese >&2; exit 3")
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        with pytest.raises(ToolError, match="out of cheese"):
            open_codec("bpg").encode(photograph)

    def test_the_claimed_size_is_read_before_the_program_runs(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        codec = open_codec("bpg")
        header = b"BPG\xfb\x20\x00" + b"\x81\x40" + b"\x40"  # width 192, height 64

        def file(payload: bytes, height: int = 64) -> bytes:
            return Container("bpg", height, 192, {"payload": payload}).to_bytes()

        with pytest.raises(DamagedFileError, match="claims 64×192"):
            codec.decode(file(header + bytes(20), height=65))
        for bad in (b"", b"BPG", b"PNG\xfb" + bytes(9), b"BPG\xfb\x20\x00" + b"\x81" * 40, header[:-1]):
            with pytest.raises(DamagedFileError):
                codec.decode(file(bad))
        with pytest.raises(ToolError, match="bpgdec"):
            codec.decode(file(header + bytes(20)))

    @pytest.mark.skipif(not shutil.which("bpgenc"), reason="bpgenc is not on the PATH")
    def test_the_real_one(self, photograph):
        codec = open_codec("bpg")
        assert _psnr(photograph, codec.decode(codec.encode(photograph, 27))) > 33


def _program(path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
