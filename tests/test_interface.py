"""`import genic`: what codecs take from users, what they say of a file, and that they leave each other alone."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import genic
from genic.datamodules.images import read_image, write_png
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    ImageError,
    PictureWarning,
    TargetError,
    WeightsError,
)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def jpeg() -> genic.Codec:
    return genic.open_codec("jpeg")


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "[name for name in ('torch', 'numpy', 'PIL', 'genic.eval') if name in sys.modules]"
    code = f"import sys, genic; print({heavy}, sorted(genic.__all__), set(genic.__all__) <= set(dir(genic)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {sorted(genic.__all__)} True"


def test_every_name_is_there() -> None:
    for name in genic.__all__:
        assert getattr(genic, name).__doc__, name
    with pytest.raises(AttributeError, match="opn_codec"):
        genic.opn_codec  # noqa: B018
    assert {"jpeg", "selective_detail", "gdae", "folder"} < set(genic.list_codecs())


def test_whatever_a_picture_is_the_file_is_the_same(
    tmp_path: Path, jpeg: genic.Codec, image: np.ndarray
) -> None:
    write_png(tmp_path / "a.png", image)
    data = jpeg.encode(image, 30)
    x = torch.from_numpy(image).permute(2, 0, 1) / 255
    same = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(image),
        x,
        x.double(),
        x.requires_grad_(),
    ]
    assert [jpeg.encode(one, 30) == data for one in same] == [True] * len(same)
    other = 1 - x
    files = jpeg.encode(torch.stack([x, other]), 30)
    assert isinstance(files, list) and files == [data, jpeg.encode(other, 30)]
    assert jpeg.encode(x[None], 30) == [data], "a batch of one is a batch"
    assert np.abs(jpeg.decode(data).astype(int) - image).mean() < 8


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        3,
        b"gnc",
        [[0, 0, 0]],
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3)),
        np.full((8, 8, 3), 2.0, np.float32),
        np.zeros((8, 8, 4), np.uint8),
        torch.full((3, 8, 8), 1.01),
        torch.full((3, 8, 8), math.nan),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 3),
        torch.zeros(2, 1, 8, 8),
    ],
    ids=lambda wrong: (
        f"{type(wrong).__name__} {getattr(wrong, 'dtype', '')} {tuple(getattr(wrong, 'shape', ()))}"
    ),
)
def test_what_is_no_picture_is_a_typed_error(jpeg: genic.Codec, wrong: Any) -> None:
    with pytest.raises(ImageError):
        jpeg.encode(wrong)


@pytest.mark.parametrize("value", [math.nan, math.inf, "2", True, [30], np.bool_(True)], ids=repr)
def test_what_is_no_number_is_a_typed_error(jpeg: genic.Codec, image: np.ndarray, value: Any) -> None:
    for name in ("quality", "target_bpp", "target_bytes"):
        with pytest.raises(ConfigError, match=f"{name}=.*number is needed"):
            jpeg.encode(image, **{name: value})
    assert jpeg.encode(image, np.float32(30)) == jpeg.encode(image, np.int64(30)) == jpeg.encode(image, 30)


def test_a_missing_file_and_an_unknown_name_are_typed_errors(jpeg: genic.Codec) -> None:
    with pytest.raises(DataError, match="absent"):
        jpeg.encode("absent.png")
    with pytest.raises(ConfigError, match="did you mean 'jpeg'"):
        genic.open_codec("jpg")
    with pytest.raises(ConfigError, match="text, not int"):
        genic.open_codec(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no codec"):
        genic.open_codec("jpeg:small")


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:99", 3.5])
def test_a_device_that_is_not_there_is_a_typed_error(device: Any) -> None:
    with pytest.raises(ConfigError, match="no device"):
        genic.open_codec("hyperprior", device=device)
    with pytest.raises(ConfigError, match="runs on the CPU"):
        genic.open_codec("jpeg", device="cuda")
    assert genic.open_codec("jpeg", device="cpu").id == "jpeg"


class TestLearned:
    def test_what_is_set_on_one_codec_does_not_touch_another(self) -> None:
        one, other = (genic.open_codec("gan_reversal", device="cpu") for _ in range(2))
        before = dataclasses.asdict(other.coding), dataclasses.asdict(other.config), other.default_quality
        told = other.coding_options()
        one.coding.steps, one.config.latents, one.default_quality, one.qualities = 1, 1, 1.0, (1.0,)
        one.coding.rates.append(9.0)
        for codec in (other, genic.open_codec("gan_reversal", device="cpu")):
            found = dataclasses.asdict(codec.coding), dataclasses.asdict(codec.config), codec.default_quality
            assert found == before and codec.coding_options() == told
        assert one.coding_options() != told
        assert one.system is other.system, "networks are shared"

    def test_info_says_what_is_in_a_file(self, image: np.ndarray) -> None:
        codec = genic.open_codec("hyperprior", device="cpu")
        data = codec.encode(image, 1.5)
        info = codec.info(data)
        assert (info.codec, info.height, info.width, info.bytes) == ("hp", 40, 56, len(data))
        assert info.bpp == 8 * len(data) / (40 * 56) and info.settings == {"level": 1.5}
        assert info.weights == codec.weights_id.hex() and sum(info.ledger.values()) == len(data)
        foreign = dataclasses.replace(Container.from_bytes(data), weights=b"\1\2\3\4").to_bytes()
        assert codec.info(foreign).weights == "01020304", "its weights are not needed"
        with pytest.raises(WeightsError):
            codec.decode(foreign)
        with pytest.raises(DamagedFileError):
            codec.info(data[:-1])


class TestTransparency:
    @pytest.fixture
    def rgba(self, image: np.ndarray) -> np.ndarray:
        return np.dstack([image, np.clip(np.mgrid[:40, :56][1] * 8, 0, 255).astype(np.uint8)])

    @pytest.mark.parametrize("name", ["jpeg", "selective_detail"])
    def test_it_is_kept_without_loss_beside_any_codecs_sections(self, name: str, rgba: np.ndarray) -> None:
        codec = genic.open_codec(name)
        plain = codec.encode(rgba[..., :3])
        data = codec.encode(rgba, alpha=True)
        decoded = codec.decode(data, alpha=True)
        assert np.array_equal(decoded[..., 3], rgba[..., 3])
        assert np.array_equal(decoded[..., :3], codec.decode(plain)) and codec.decode(data).shape == (
            40,
            56,
            3,
        )
        ledger = codec.info(data).ledger
        assert ledger == codec.info(plain).ledger | {"alpha": ledger["alpha"], "header": ledger["header"]}
        assert codec.decode(plain, alpha=True).shape == (40, 56, 3)

    def test_a_target_includes_it(self, jpeg: genic.Codec, rgba: np.ndarray) -> None:
        least = len(jpeg.encode(rgba, 1, alpha=True))
        for limit in (least, least + 400):
            data = jpeg.encode(rgba, target_bytes=limit, alpha=True)
            assert len(data) <= limit and jpeg.info(data).ledger["alpha"] > 0
        with pytest.raises(TargetError) as refused:
            jpeg.encode(rgba, target_bytes=least - 1, alpha=True)
        assert refused.value.best == least

    def test_opaque_pictures_have_none(self, jpeg: genic.Codec, rgba: np.ndarray) -> None:
        rgba[..., 3] = 255
        assert jpeg.encode(rgba, alpha=True) == jpeg.encode(rgba[..., :3])

    def test_without_asking_an_array_decodes_to_three_channels(
        self, jpeg: genic.Codec, rgba: np.ndarray
    ) -> None:
        assert jpeg.decode(jpeg.encode(rgba, alpha=True)).shape == (40, 56, 3)

    def test_what_is_lost_is_told(self, tmp_path: Path, jpeg: genic.Codec, rgba: np.ndarray) -> None:
        Image.fromarray(rgba).save(tmp_path / "a.png", dpi=(300, 300))
        with pytest.warns(PictureWarning, match=r"DPI \(300\), transparency \(laid over white"):
            data = jpeg.encode(tmp_path / "a.png")
        assert data == jpeg.encode(read_image(tmp_path / "a.png"))
        with pytest.warns(PictureWarning, match=r"DPI \(300\)$"):
            kept = jpeg.encode(tmp_path / "a.png", alpha=True)
        assert kept == jpeg.encode(rgba, alpha=True)

    def test_damage_is_a_typed_error(self, jpeg: genic.Codec, rgba: np.ndarray) -> None:
        container = Container.from_bytes(jpeg.encode(rgba, alpha=True))
        plane = container.sections["alpha"]
        small = Container.from_bytes(jpeg.encode(rgba[:20], alpha=True)).sections["alpha"]
        for payload in (b"", plane[: len(plane) // 2], b"\0" * 20, small):
            sections = container.sections | {"alpha": payload}
            damaged = dataclasses.replace(container, sections=sections).to_bytes()
            with pytest.raises(DamagedFileError):
                jpeg.decode(damaged, alpha=True)
