"""Distances between sets: against their formulae, on too few patches, and through the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data

from genic.datamodules.images import ImageItem, write_png
from genic.eval import distances
from genic.eval.distances import frechet, kernel_distance, patches
from genic.eval.schema import CodecResult
from genic.experiments import evaluate
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import open_codec

BACKBONE = "mobilenetv2_100"


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(12, 12)) / 3
    return generator.normal(size=(300, 12)) @ mix, generator.normal(0.2, 1.3, (300, 12)) @ mix


def test_frechet_by_formula(pair) -> None:
    """The trace of (Σ_a Σ_b)^½ is that of the symmetric (Σ_a^½ Σ_b Σ_a^½)^½."""
    a, b = pair
    sigma_a, sigma_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(sigma_a)
    root = (vectors * np.sqrt(values)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ sigma_b @ root)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sigma_a) + np.trace(sigma_b) - 2 * cross
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)


def test_kernel_by_hand(pair) -> None:
    """Unbiased: pairs of a sample with itself are left out."""
    a, b = (part[:120] for part in pair)

    def kernel(x, y):
        return (x @ y.T / 12 + 1) ** 3

    apart = ~np.eye(120, dtype=bool)
    expected = kernel(a, a)[apart].mean() + kernel(b, b)[apart].mean() - 2 * kernel(a, b).mean()
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_too_few_are_refused(pair) -> None:
    a, b = pair
    with pytest.raises(ConfigError, match="12 patches for 12 features"):
        frechet(a[:12], b)
    with pytest.raises(ConfigError, match="at least 100"):
        kernel_distance(a[:99], b[:99])


def test_patches_of_the_grid_and_of_half_a_shift() -> None:
    image = np.arange(512 * 768 * 3, dtype=np.uint32).reshape(512, 768, 3).astype(np.uint8)
    found = list(patches(image, 256))
    assert len(found) == 2 * 3 + 1 * 2 and all(patch.shape == (256, 256, 3) for patch in found)
    np.testing.assert_array_equal(found[6], image[128:384, 128:384])


def test_the_command_states_patches_and_refuses_too_few(tmp_path, monkeypatch, capsys) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    for k in range(2):
        write_png(tmp_path / "set" / f"{k}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
    monkeypatch.setattr(evaluate, "_unavailable", lambda *_: {})

    def features(items, name, side, workers, store):  # of a backbone with 3 features, 120 patches a picture
        generator = np.random.default_rng(len(items[0].read().tobytes()))
        return generator.normal(size=(120 * len(items), 3)) + items[0].read().mean() / 255

    monkeypatch.setattr(distances, "_features", features)
    command = ["jpeg", "--data", "folder", "--root", str(tmp_path / "set"), "--qualities", "5,90"]
    command += ["--out", str(tmp_path / "out"), "--measures"]
    assert evaluate.main([*command, "frechet,kernel"]) == 0
    result = CodecResult.from_json((tmp_path / "out/set/jpeg.json").read_text())
    assert result.distances == "frechet, kernel: mobilenetv2_100, 0 patches of 128×128"
    assert all(point.mean.frechet is not None and point.mean.kernel is not None for point in result.points)
    monkeypatch.setattr(distances, "_features", lambda *_: np.zeros((2, 3)))
    assert evaluate.main([*command, "frechet,kernel"]) == 0
    result = CodecResult.from_json((tmp_path / "out/set/jpeg.json").read_text())
    assert (
        result.points[0].mean.frechet is None and "2 patches for 3 features" in result.unavailable["frechet"]
    )
    assert "at least 100" in result.unavailable["kernel"]
    assert "frechet is unavailable: 2 patches" in " ".join(capsys.readouterr().out.split())


class _Here:
    """In place of worker processes, which would load torch once more."""

    def each(self, tasks, do) -> None:
        for task in tasks:
            do(lambda _, function, *arguments: function(*arguments), task)


def test_a_real_backbone_on_real_pictures(tmp_path) -> None:
    if (why := distances.unavailable("kernel", BACKBONE)) is not None:
        pytest.skip(why)
    items, paths, jpeg = [], [], open_codec("jpeg")
    for name, flips in (("astronaut", (1, -1)), ("coffee", (1, -1)), ("rocket", (1,))):
        for flip in flips:
            picture = np.ascontiguousarray(getattr(data, name)()[:, ::flip])
            items.append(ImageItem(f"{name}{flip}.png", str(tmp_path / f"{name}{flip}.png")))
            paths.append(tmp_path / f"{name}{flip}-decoded.png")
            write_png(Path(items[-1].path), picture)
            write_png(paths[-1], jpeg.decode(jpeg.encode(picture, 8)))
    wanted, found = ("frechet", "kernel"), []
    for decoded in (paths, [Path(item.path) for item in items]):
        values, refused = distances.set_distances(
            items, decoded, wanted, BACKBONE, _Here(), tmp_path / "store"
        )
        assert list(refused) == ["frechet"] and "113 patches for 320 features" in refused["frechet"]
        found.append(values["kernel"])
    assert found[0] > 0 > found[1]  # unbiased: a set is nearer to itself than two of one kind are
    assert distances.described(items, wanted, BACKBONE) == (
        f"frechet, kernel: {BACKBONE}, 113 patches of 128×128"
    )
