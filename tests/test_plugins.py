"""Codecs and papers of other packages, classes by their module, folders of files: through the harness's processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import genic
from genic.datamodules.images import ImageItem, write_png
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.schema import ImageResult
from genic.experiments.config import load_config
from genic.lightning_modules import registry
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DamagedFileError,
    DataError,
    ForeignFileError,
    ImageError,
    ToolError,
)

PLUGIN = Path(__file__).parent / "plugin"


def install(folder: Path, groups: dict[str, dict[str, str]], name: str = "genic-mini") -> Path:
    """What an installer leaves in ``folder``: the package's name and its entry points."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    return install(tmp_path_factory.mktemp("site"), project["entry-points"])


@pytest.fixture
def plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture(scope="module")
def weights(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of the plugin's paper by the command line, in two processes that train together."""
    out = tmp_path_factory.mktemp("runs")
    path = os.pathsep.join([str(PLUGIN), str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        "mini",
        "preset=nano",
        "--cpus",
        "2",
        "--logger",
        "csv",
    ]
    done = subprocess.run(
        [*command, "--out", str(out)],
        env=os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mini, preset nano, on sample: 2 × CPU" in done.stdout
    return out / "mini" / "nano" / "last.safetensors"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path, image: np.ndarray) -> Path:
    """Two qualities of one picture, in a subfolder as its data set has it."""
    for quality, coded in ((10, b"x" * 70), (2.5, b"y" * 7)):
        write_png(tmp_path / "files" / f"{quality:g}" / "set" / "a.png", image + np.uint8(quality))
        (tmp_path / "files" / f"{quality:g}" / "set" / "a.bin").write_bytes(coded)
    return tmp_path / "files"


@pytest.mark.usefixtures("plugin")
class TestPackage:
    def test_it_adds_a_codec_and_a_paper(self, image: np.ndarray) -> None:
        assert {"flat", "mini"} < set(genic.list_codecs()) and {"mini", "hyperprior"} < set(registry.papers())
        data = genic.open_codec("flat").encode(image, 4)
        assert genic.codec_for(data).decode(data).std((0, 1)).max() == 0
        config = load_config("mini", ["preset=nano", "train.batches=3"])
        assert (config.train.batches, config.model.levels) == (3, 2)
        with pytest.raises(ConfigError, match=r"did you mean 'nano'"):
            load_config("mini", ["preset=nanno"])
        with pytest.raises(ConfigError, match=r"did you mean 'mini'"):
            load_config("miny")

    @pytest.mark.timeout(900)
    def test_all_of_it_reaches_other_processes(self, weights: Path, files: Path, image: np.ndarray) -> None:
        """Trained in two processes; then measured in two, beside a class by its module and a folder of files."""
        names = [
            "flat",
            "mini.flat:Flat",
            f"mini:{weights}",
            f"mini.codec:MiniCodec:{weights}",
            f"folder:{files}",
        ]
        write_png(files.parent / "set" / "a.png", image)
        item = ImageItem("set/a.png", str(files.parent / "set" / "a.png"))
        with WorkerPairs() as workers:
            measured: list[Any] = measure_files([Task(item, name) for name in names], workers)
        flat, by_module, mini, mini_by_module, folder = measured
        assert flat.bytes == by_module.bytes == len(genic.open_codec("flat").encode(image))
        assert flat.psnr_rgb == by_module.psnr_rgb and mini.bytes == mini_by_module.bytes
        assert mini.ledger["latents"] > 0 and mini.psnr_rgb == mini_by_module.psnr_rgb
        check_folder_result(folder)

    def test_a_name_that_is_taken_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install(tmp_path, {"genic.codecs": {"jpeg": "mini.flat:Flat"}}, "thief")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert genic.open_codec("jpeg").id == "jpeg", "genic's own are found without it"
        with pytest.raises(
            ConfigError, match=r"the package thief adds 'jpeg' to genic.codecs, a name that is taken"
        ):
            genic.list_codecs()

    def test_what_is_broken_touches_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = {
            "genic.codecs": {"gone": "mini.gone:Gone", "text": "mini:__doc__"},
            "genic.experiments": {"lost": "mini.lost:PAPER", "other": "mini:PAPER"},
        }
        install(tmp_path, broken, "broken")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name, error, match in (
            ("gone", ToolError, "gone of the package broken cannot be imported: ModuleNotFoundError"),
            ("text", ConfigError, "no class derived from genic.Codec"),
        ):
            with pytest.raises(error, match=match):
                genic.open_codec(name)
        with pytest.warns(
            UserWarning, match=r"lost of the package broken cannot be imported|no Paper of that name"
        ):
            assert "mini" in genic.list_codecs()
        with pytest.raises(ConfigError, match=r"no Paper of that name"):
            registry.find_paper("other")


class TestClass:
    @pytest.mark.usefixtures("plugin")
    def test_one_of_the_program_itself_is_told_where_to_go(self) -> None:
        with pytest.raises(ConfigError, match=r"move the class into a module of its own"):
            genic.open_codec("__main__:Mine")
        for name in ("mini.flat:Round", "mini.config:MiniConfig"):
            with pytest.raises(ConfigError, match=r"no class derived from genic.Codec"):
                genic.open_codec(name)
        with pytest.raises(ConfigError, match=r"nothing to be loaded"):
            genic.open_codec("mini.flat:Flat:weights")
        for name in ("mini.absent:Flat", "absent:Flat", "a-b:Flat", "flatt"):
            with pytest.raises(ConfigError, match=r"no codec.*docs/plugins.md"):
                genic.open_codec(name)

    def test_one_put_into_the_registry_by_a_program_is_told_the_remedy(
        self, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is in this process alone."""
        monkeypatch.setitem(
            registry.CLASSICAL, "mine", ("mine", "genic.lightning_modules.classical.jpeg:Jpeg")
        )
        write_png(tmp_path / "a.png", image)
        with pytest.raises(ConfigError, match=r"no codec 'mine'.*in other processes: module:Class"):
            genic.evaluate("mine", [tmp_path / "a.png"], [30])


def check_folder_result(result: ImageResult) -> None:
    assert (result.bytes, result.bpp, result.ledger) == (70, 560 / (40 * 56), {"payload": 70})
    assert result.psnr_rgb == pytest.approx(20 * np.log10(255 / 10), abs=1), (
        "10 more in each sample, a few wrap"
    )
    assert result.encode_seconds is None and result.decode_seconds is None


class TestFolder:
    def test_rates_are_of_the_files_and_pictures_are_found_by_them(
        self, files: Path, image: np.ndarray
    ) -> None:
        codec: Any = genic.open_codec(f"folder:{files}")
        assert codec.qualities == (2.5, 10.0), "in the order of rate"
        data = codec.encode(image, 2.5, name="set/a.png")
        assert data == b"y" * 7 and np.array_equal(codec.decode(data), image + np.uint8(2))
        assert codec.encode(image, target_bytes=60, name="set/a.jpg") == data
        assert codec.info(data).bpp == 56 / (40 * 56)
        before = codec.coding_options()
        (files / "10" / "set" / "a.bin").write_bytes(b"z" * 70)
        assert codec.coding_options() != before, "a measurement of other files is another one"

    def test_one_quality_needs_no_subfolder(self, files: Path, image: np.ndarray) -> None:
        codec: Any = genic.open_codec(f"folder:{files / '10'}")
        assert codec.qualities == (0.0,) and codec.encode(image, name="set/a.png") == b"x" * 70

    def test_what_is_missing_or_amiss_is_a_typed_error(self, files: Path, image: np.ndarray) -> None:
        codec: Any = genic.open_codec(f"folder:{files}")
        with pytest.raises(DataError, match=r"no set/b.png at quality 10: the codec lacks this picture"):
            codec.encode(image, name="set/b.png")
        with pytest.raises(ImageError, match=r"is 40×56, the picture 39×56"):
            codec.encode(image[1:], name="set/a.png")
        with pytest.raises(ConfigError, match=r"no quality 3: there are 2.5, 10"):
            codec.encode(image, 3, name="set/a.png")
        with pytest.raises(ConfigError, match=r"looked up by name"):
            codec.encode(image)
        with pytest.raises(ForeignFileError, match=r"has these bytes"):
            codec.decode(b"w" * 70)
        (files / "2.5" / "set" / "a.bin").write_bytes(b"x" * 70)
        with pytest.raises(DamagedFileError, match=r"differ, though their coded files are the same"):
            codec.decode(b"x" * 70)
        (files / "2.5" / "set" / "a.bin").rename(files / "2.5" / "set" / "b.bin")
        with pytest.raises(DataError, match=r"has no coded file beside it"):
            genic.open_codec(f"folder:{files}")
        (files / "2.5" / "set" / "a.gz").write_bytes(b"")
        (files / "2.5" / "set" / "a.log").write_bytes(b"")
        with pytest.raises(ConfigError, match=r"a.gz, a.log\? Leave one"):
            genic.open_codec(f"folder:{files}")
        for name in ("folder", "folder:", f"folder:{files / 'absent'}", f"folder:{files.parent / 'set'}"):
            with pytest.raises((DataError, ConfigError)):
                genic.open_codec(name)
