"""Transform, order of samples, exact resume, and what happens to unusable pictures."""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genic.datamodules import DataConfig, make_datamodule
from genic.datamodules.batch import Batch, Sample, collate
from genic.datamodules.images import write_png
from genic.datamodules.sampler import OnceSampler, StreamSampler
from genic.datamodules.transform import Window, centre_window, cut, onto_label, random_window
from genic.lightning_modules.codec.errors import ConfigError, DataError


def _noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _crop(array: np.ndarray, w: Window) -> np.ndarray:
    crop = array[w.top : w.top + w.side, w.left : w.left + w.side]
    return crop[:, ::-1] if w.mirror else crop


def _take(config: DataConfig, count: int, start: int = 0) -> list[Batch]:
    datamodule = make_datamodule(config)
    datamodule.start_batch = start
    return list(islice(iter(datamodule.train_dataloader()), count))


def _equal(a: Batch, b: Batch) -> bool:
    return all(x is y is None or torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", [(61, 97), (97, 61), (40, 64), (300, 200)])
@pytest.mark.parametrize("seed", range(6))
def test_cut_equals_scaling_all_and_cropping(size: tuple[int, int], seed: int) -> None:
    image = _noise(*size)
    label = image[..., 0].copy()
    w = random_window(*size, 40, (0.5, 2.0), True, np.random.default_rng(seed))
    got = cut(Sample(image, None, label), w)
    whole = np.asarray(Image.fromarray(image).resize((w.width, w.height), Image.Resampling.BICUBIC))
    # One grey level: Pillow keeps the filter's position in single precision.
    assert np.abs(got.image.astype(int) - _crop(whole, w)).max() <= 1
    rows = [int(Fraction(2 * k + 1, 2) * size[0] / w.height) for k in range(w.height)]
    columns = [int(Fraction(2 * k + 1, 2) * size[1] / w.width) for k in range(w.width)]
    assert np.array_equal(got.semantic, _crop(label[rows][:, columns], w))


def test_windows_fit_and_cover_the_range() -> None:
    rng = np.random.default_rng(0)
    windows = [random_window(400, 600, 128, (0.5, 2.0), True, rng) for _ in range(2000)]
    factors = np.array([w.height / 400 for w in windows])
    assert factors.min() >= 0.5 and factors.max() <= 2.0
    assert abs(factors.mean() - 1.25) < 0.05
    assert all(0 <= w.top <= w.height - 128 and 0 <= w.left <= w.width - 128 for w in windows)
    assert 0.45 < np.mean([w.mirror for w in windows]) < 0.55
    assert any(w.top == 0 for w in windows) and any(w.left == w.width - 128 for w in windows)


def test_small_pictures_are_enlarged_to_fit() -> None:
    w = random_window(50, 30, 128, (0.5, 0.5), False, np.random.default_rng(0))
    assert (w.height, w.width) == (213, 128)
    assert cut(Sample(_noise(50, 30)), w).image.shape == (128, 128, 3)


def test_a_crop_is_moved_onto_a_labelled_pixel() -> None:
    label = np.zeros((90, 120), np.uint8)
    label[80:84, 7:9] = 255
    sample, tops = Sample(_noise(90, 120), label), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        window = onto_label(random_window(90, 120, 32, (0.6, 2.0), False, rng), label, rng)
        out = cut(sample, window)
        assert out.image.shape == (32, 32, 3) and out.detail.any()
        tops.append(80 * window.height / 90 - window.top)
    assert np.ptp(tops) > 16  # the place within the crop varies
    window = random_window(90, 120, 32, (1.0, 1.0), False, np.random.default_rng(0))
    assert onto_label(window, np.zeros_like(label), np.random.default_rng(0)) == window


def test_labels_follow_the_picture() -> None:
    # A picture that is white exactly where the map is set stays so under every window, edges aside.
    mask = np.zeros((90, 120), np.uint8)
    mask[20:70, 30:80] = 255
    sample = Sample(np.repeat(mask[..., None], 3, -1), mask, mask)
    for seed in range(20):
        window = random_window(90, 120, 64, (0.75, 2.0), True, np.random.default_rng(seed))
        out = cut(sample, window)
        disagree = (out.image[..., 0] > 127) != (out.detail > 0)
        assert disagree.mean() < 0.03
        assert np.array_equal(out.detail, out.semantic)


def test_centre_crop_at_own_size_is_exact() -> None:
    image = _noise(70, 90)
    assert np.array_equal(cut(Sample(image), centre_window(70, 90, 50)).image, image[10:60, 20:70])
    assert centre_window(20, 40, 50) == Window(50, 100, 0, 25, 50)


def test_collate_gives_the_documented_tensors() -> None:
    image = _noise(4, 5)
    detail = np.array([[0, 255, 1, 0, 7]] * 4, np.uint8)
    batch = collate([Sample(image, detail, detail), None, Sample(image, detail, detail)])
    assert batch.image.dtype == torch.float32 and batch.image.shape == (2, 3, 4, 5)
    assert torch.equal(batch.image[1].permute(1, 2, 0) * 255, torch.from_numpy(image).float())
    assert batch.detail.shape == (2, 1, 4, 5) and batch.detail[0, 0, 0].tolist() == [0, 1, 1, 0, 1]
    assert batch.semantic.dtype == torch.int64 and batch.semantic[0, 0].tolist() == [0, 255, 1, 0, 7]
    assert collate([Sample(image)])[1:] == (None,) * 4
    with pytest.raises(DataError):
        collate([None])


def test_each_pass_holds_every_picture_once_and_in_another_order() -> None:
    sampler = StreamSampler(12, 4, seed=3)
    drawn = [index for batch in islice(sampler, 6) for index, _ in batch]
    assert sorted(drawn[:12]) == sorted(drawn[12:]) == list(range(12))
    assert drawn[:12] != drawn[12:]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_global_batch(world: int) -> None:
    alone = list(islice(StreamSampler(10, 2 * world, 1), 9))
    ranks = [list(islice(StreamSampler(10, 2, 1, rank=r, world=world), 9)) for r in range(world)]
    for b in range(9):
        assert [pair for r in range(world) for pair in ranks[r][b]] == alone[b]


@pytest.mark.parametrize(("length", "batch", "world"), [(9, 8, 2), (100, 8, 3), (5, 8, 5), (7, 1, 2)])
def test_validation_holds_each_picture_once_in_step(length: int, batch: int, world: int) -> None:
    ranks = [list(OnceSampler(length, batch, r, world)) for r in range(world)]
    assert len({len(r) for r in ranks}) == 1
    assert all(1 <= len(b) <= max(batch, 2) for r in ranks for b in r)
    assert sorted(i for r in ranks for b in r for i in b) == list(range(length))


def test_more_ranks_than_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 2"):
        OnceSampler(2, 8, 0, 3)


def test_resumed_stream_is_the_uninterrupted_one() -> None:
    config = DataConfig(crop=48, batch_size=3, workers=0, cache=True, labels=["detail", "semantic"], seed=5)
    whole = _take(config, 9)
    assert all(_equal(a, b) for a, b in zip(whole[6:], _take(config, 3, start=6), strict=True))
    assert not torch.equal(whole[0].image, whole[1].image)
    other = DataConfig(crop=48, batch_size=3, workers=0, labels=["detail", "semantic"], seed=6)
    assert not torch.equal(whole[0].image, _take(other, 1)[0].image)


def test_readers_and_cache_do_not_change_the_stream() -> None:
    plain, readers = (DataConfig(crop=48, batch_size=2, workers=w, cache=w > 0) for w in (0, 2))
    for a, b in zip(_take(plain, 5), _take(readers, 5), strict=True):
        assert torch.equal(a.image, b.image)


def _numbered(batch: Batch, key: int) -> Batch:
    return batch._replace(prepared={"first": torch.tensor(key), "mean": batch.image.mean()})


@pytest.mark.parametrize("workers", [0, 2])
def test_readers_prepare_batches(workers: int) -> None:
    datamodule = make_datamodule(DataConfig(crop=48, batch_size=3, workers=workers))
    datamodule.before_step, datamodule.start_batch = _numbered, 2
    made = list(islice(iter(datamodule.train_dataloader()), 3))
    assert [int(batch.prepared["first"]) for batch in made] == [6, 9, 12]
    assert all(torch.equal(batch.prepared["mean"], batch.image.mean()) for batch in made)
    assert next(iter(datamodule.val_dataloader())).prepared is None


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_unusable_pictures_are_counted_and_replaced(
    tmp_path: Path, workers: int, cache: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for k in range(4):
        write_png(tmp_path / "train" / f"{k}.png", np.full((40, 40, 3), 10 + k, np.uint8))
    (tmp_path / "train" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    write_png(tmp_path / "train" / "tiny.png", np.zeros((5, 40, 3), np.uint8))
    write_png(tmp_path / "val" / "0.png", np.full((40, 40, 3), 1, np.uint8))
    (tmp_path / "val" / "broken.png").write_bytes(b"")
    config = DataConfig("folder", str(tmp_path), crop=32, batch_size=4, workers=workers, cache=cache)
    datamodule = make_datamodule(config)
    batches = list(islice(iter(datamodule.train_dataloader()), 6))
    values = {round(v * 255) for b in batches for v in b.image.flatten(1).amax(1).tolist()}
    assert values == {10, 11, 12, 13}
    assert all(len(b.image) == 4 for b in batches)
    assert datamodule.skipped == 2
    crops = list(datamodule.val_dataloader())
    assert [b.image.shape[0] for b in crops] == [1]
    assert datamodule.skipped == 3
    with caplog.at_level(logging.WARNING):
        datamodule.teardown("fit")
    assert "3 unusable" in caplog.text


def test_nothing_usable_is_an_error_not_a_hang(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes(b"bad")
    config = DataConfig("folder", str(tmp_path), workers=0)
    with pytest.raises(DataError, match="unusable"):
        _take(config, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "imagnet"}, "'imagenet'"),
        ({"labels": ["faces"]}, "detail and semantic"),
        ({"scale_min": 3.0}, "min ≤ max"),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -1}, "workers"),
    ],
)
def test_bad_configuration_names_the_remedy(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_datamodule(DataConfig(**change))


def test_configuration_is_a_structured_omegaconf() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    schema = omegaconf.OmegaConf.structured(DataConfig)
    merged = omegaconf.OmegaConf.merge(
        schema, omegaconf.OmegaConf.from_dotlist(["crop=64", "labels=[detail]"])
    )
    assert omegaconf.OmegaConf.to_object(merged) == DataConfig(crop=64, labels=["detail"])
    with pytest.raises(omegaconf.errors.OmegaConfBaseException):
        omegaconf.OmegaConf.merge(schema, {"crop": "large"})
