"""The search for an operating point: how well it uses a budget, and how many files it writes."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from genic.datamodules.images import write_png
from genic.eval.metrics import measure
from genic.eval.schema import CodecResult
from genic.experiments import compress, evaluate
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, bits_per_pixel
from genic.lightning_modules.codec.errors import ConfigError, TargetError
from genic.lightning_modules.codec.rate_control import (
    budget,
    eighths,
    geometric,
    last_within,
    reaching,
    whole,
)
from genic.lightning_modules.registry import open_codec


class Sized(Codec):
    """Files of given sizes; the picture is brighter by the step, so that a measure of it can be aimed at."""

    id = "sized"
    quality_meaning = "a step"
    qualities = ()

    def __init__(self, sizes, start=None) -> None:
        self.payloads = [round(size) for size in sizes]
        self.sizes = [self.file_size({"payload": bytes(size)}, *IMAGE.shape[:2]) for size in self.payloads]
        self.quality_steps = whole(len(self.sizes) - 1, 0)  # descending, as HEVC's
        self.default_quality = len(self.sizes) // 2 if start is None else start
        self.written: list[float] = []

    def _encode(self, image, quality):
        self.written.append(quality)
        step = len(self.sizes) - 1 - round(quality)
        return {"payload": bytes([step]) * self.payloads[step]}

    def _decode(self, container: Container):
        return np.full((container.height, container.width, 3), container.section("payload")[0], np.uint8)


IMAGE = np.zeros((64, 64, 3), np.uint8)
EXPONENTIAL = [100 * 1.12**step for step in range(52)]


def test_scales() -> None:
    assert whole(3, 1) == (3.0, 2.0, 1.0) and eighths(0.5) == (0, 0.125, 0.25, 0.375, 0.5)
    steps = geometric(25, 0.05)
    assert steps[0] == 25 and steps[-1] == 0.05
    ratios = [a / b for a, b in itertools.pairwise(steps)]
    assert min(ratios) > 1 and max(ratios) < 1.0101


@pytest.mark.parametrize(
    "sizes",
    [
        EXPONENTIAL,
        [100 + 30 * step for step in range(101)],
        [100 + step**2 for step in range(101)],
        [2000 / (53 - step) for step in range(52)],
        [100 * 1.2 ** (step // 4 * 4) for step in range(52)],  # as AVIF's, in flat pieces
        [100, 100, 100, 5000, 5000, 90000],
    ],
    ids=["exponential", "linear", "square", "hyperbola", "stairs", "leaps"],
)
def test_it_finds_the_largest_file_within_the_budget(sizes) -> None:
    """By comparison with all files, at any start; files within 1 % of the budget are as good."""
    counts = []
    for start in (0, len(sizes) // 2, len(sizes) - 1):
        codec = Sized(sizes, start)
        for limit in np.geomspace(codec.sizes[0], 1.1 * codec.sizes[-1], 23).astype(int):
            codec.written.clear()
            found = codec.encode_within(IMAGE, int(limit))
            best = max(size for size in codec.sizes if size <= limit)
            assert len(found.data) <= limit and (len(found.data) == best or len(found.data) >= 0.99 * limit)
            assert len(codec.written) == len(set(codec.written))
            assert (
                found.data
                == codec.encode(IMAGE, found.quality)
                == codec.encode(IMAGE, target_bytes=int(limit))
            )
            counts.append(len(set(codec.written)))
    assert np.mean(counts) <= 6.5 and max(counts) <= 2 * math.log2(len(sizes)) + 2


def test_it_goes_past_a_step_that_is_a_little_too_large() -> None:
    codec = Sized([200, 300, 500, 900, 1005, 998, 1010, 2000])
    assert len(codec.encode(IMAGE, target_bytes=codec.sizes[5] + 2)) == codec.sizes[5]


@pytest.mark.parametrize("seed", range(5))
def test_uneven_sizes_stay_within_the_budget(seed) -> None:
    random = np.random.default_rng(seed)
    sizes = np.array(EXPONENTIAL) * np.exp(random.normal(0, 0.05, len(EXPONENTIAL)))
    codec = Sized(sizes)
    for limit in np.geomspace(max(codec.sizes[:3]), codec.sizes[-1], 20).astype(int):
        assert 0.7 * limit < len(codec.encode(IMAGE, target_bytes=int(limit))) <= limit


def test_a_budget_that_cannot_be_met_names_the_least_size() -> None:
    codec = Sized(EXPONENTIAL)
    least = codec.sizes[0]
    with pytest.raises(TargetError, match=f"smallest file of this 64×64 picture has {least} bytes") as caught:
        codec.encode(IMAGE, target_bytes=least - 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.best == least
    assert caught.value.best == least == len(codec.encode(IMAGE, target_bytes=least))


def test_one_choice_at_a_time_and_positive_ones() -> None:
    codec = Sized(EXPONENTIAL)
    for both in ({"quality": 3, "target_bpp": 1.0}, {"target_bytes": 300, "target_bpp": 1.0}):
        with pytest.raises(ConfigError, match="one of"):
            codec.encode(IMAGE, **both)
    for target in (0, -1, math.nan, math.inf):
        with pytest.raises(ConfigError, match="positive"):
            codec.encode(IMAGE, target_bpp=target)
    with pytest.raises(ConfigError, match="a step, 0 to 51, not 52"):
        codec.encode(IMAGE, 52)


def test_bits_per_pixel_of_a_file_are_a_budget_for_that_file() -> None:
    for size in range(1, 4000, 7):
        assert budget(511, 767, None, bits_per_pixel(bytes(size), np.empty((511, 767, 3)))) == size


@pytest.mark.parametrize("target", [0, 3, 17.5, 51])
def test_the_least_file_that_reaches_a_measure(target) -> None:
    codec = Sized(EXPONENTIAL)
    found = reaching(codec, IMAGE, target, lambda image: float(image.mean()))
    assert found.data == codec.encode(IMAGE, 51 - math.ceil(target))


def test_a_measure_that_cannot_be_reached_names_the_highest() -> None:
    with pytest.raises(TargetError, match=r"best file of this picture has 51\.00") as caught:
        reaching(Sized(EXPONENTIAL), IMAGE, 52, lambda image: float(image.mean()))
    assert caught.value.best == 51


def test_nothing_is_asked_for_twice() -> None:
    asked = []
    assert last_within(9, lambda at: asked.append(at) or float(at), 4.5, start=0, near=0.1, span=9) == 4
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize(
    ("option", "value"), [("--bpp", 0.8), ("--bytes", 4000), ("--psnr", 30), ("--ms-ssim-db", 14)]
)
def test_the_command_meets_a_target(option, value, tmp_path, capsys):
    image = load_sample_image("china.jpg")[100:300, 200:400]
    write_png(tmp_path / "in.png", image)
    assert compress.main(["webp", str(tmp_path / "in.png"), "-o", str(tmp_path), option, str(value)]) == 0
    data, codec = (tmp_path / "in.gnc").read_bytes(), open_codec("webp")
    quality = float(capsys.readouterr().out.split()[-1])
    assert codec.encode(image, quality) == data
    found = measure(image, codec.decode(data))
    reached = {"--bpp": 8 * len(data) / 200**2, "--bytes": len(data), "--psnr": found.psnr_rgb}.get(
        option, found.ms_ssim_db
    )
    if option in ("--bpp", "--bytes"):
        assert 0.97 * value <= reached <= value
    else:
        assert value <= reached < value + 0.1


def test_a_data_set_at_a_rate(tmp_path, capsys):
    image = load_sample_image("china.jpg")
    for name, picture in (("a", image[100:270, 200:370]), ("flat", np.full((40, 56, 3), 90, np.uint8))):
        write_png(tmp_path / "in" / f"{name}.png", picture)
    data = [
        "--data",
        "folder",
        "--root",
        str(tmp_path / "in"),
        "--name",
        "two",
        "--out",
        str(tmp_path),
        "--measures",
        "none",
    ]
    assert evaluate.main(["webp", *data, "--bpp", "0.9,0.1"]) == 1
    assert "webp: 2 of 2 pictures have no file within 0.1 bpp" in capsys.readouterr().err
    result = CodecResult.from_json((tmp_path / "budgets" / "two" / "webp.json").read_text())
    (point,) = result.points
    assert point.quality is None and point.target_bpp == 0.9 and point.label == "≤ 0.9 bpp"
    assert all(image.bpp <= 0.9 for image in point.images) and point.images[0].bpp > 0.85


def test_a_target_out_of_reach_is_one_line(tmp_path, capsys):
    write_png(tmp_path / "b.png", load_sample_image("china.jpg")[:48, :64])
    for option, value, message in (
        ("--bytes", "30", "smallest file"),
        ("--psnr", "90", "best file"),
        ("--ms-ssim-db", "9", "161"),
        ("--bpp", "0", "positive"),
    ):
        assert compress.main(["jpeg", str(tmp_path / "b.png"), "-o", str(tmp_path), option, value]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
