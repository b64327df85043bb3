"""The commands as a user meets them: options of codecs, folders, processes, and what goes wrong in one line."""

import errno
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from genic.datamodules.images import list_images, read_image, write_png
from genic.experiments import codecs, compress, decompress, demo
from genic.experiments.command import command
from genic.experiments.convert import settings
from genic.experiments.training.callbacks import Meters
from genic.experiments.training.progress import ProgressDisplay
from genic.lightning_modules.codec.errors import ConfigError, DataError
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.codec.options import HeatMap, options_of, parsed
from genic.lightning_modules.config import TrainConfig
from genic.lightning_modules.registry import CLASSICAL, learned, open_codec
from tests.helpers import photograph

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tree(tmp_path) -> Path:
    """``tree/a/x.png`` and ``tree/b/x.png``, of equal names, beside a broken picture."""
    for name, top in {"a": 0, "b": 64}.items():
        write_png(tmp_path / "tree" / name / "x.png", photograph(40, 56, top))
    (tmp_path / "tree" / "a" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "tree"


@dataclass
class Own(TrainConfig):
    """Settings of a test.

    Attributes:
        first, second: of two words;
            over two lines. third: inside a line.

    Raises:
        fourth: no meaning.
    """

    first: int = 1
    second: float | None = None
    third: tuple[str, ...] = ("a", "b")
    fourth: bool = True


class TestOptions:
    def test_they_are_read_off_a_dataclass_and_those_below_it(self):
        found = options_of(Own(first=3))
        assert {name: (o.type_name, o.shown_default, o.meaning) for name, o in found.items() if name in vars(Own)} == {
            "first": ("int", "3", "of two words; over two lines"),
            "second": ("float | null", "null", "of two words; over two lines"),
            "third": ("list[str]", "[a,b]", "inside a line"),
            "fourth": ("bool", "true", "no meaning"),
        }  # fmt: skip
        assert found["batches"].meaning == "length of the run" and found["batches"].default == 100_000

    def test_they_are_read_off_a_function(self):
        def encode(image, quality, extra=1, *, heat: HeatMap | None = None, **options: object):
            """What it does.

            Args:
                heat: 0 to 1.
                **options: others.
            """

        found = options_of(encode)
        assert list(found) == ["extra", "heat"]
        assert found["heat"].meaning == "0 to 1" and found["heat"].is_map and not found["extra"].is_map

    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            (int, "30", 30),
            (int | None, "null", None),
            (bool | None, "true", True),
            (str | float, "best", "best"),
            (str | float, "2.5", 2.5),
            (str | None, "none", None),
            (str | float, "none", "none"),
            (list[float], "[0.1,2]", [0.1, 2.0]),
            (tuple[str, ...], "edge,style", ["edge", "style"]),
            (str | list[str] | HeatMap, "car,road", "car,road"),
        ],
    )
    def test_text_becomes_a_value_of_the_kind(self, kind, text, value):
        found = parsed("x", text, kind)
        assert found == value and type(found) is type(value)

    @pytest.mark.parametrize(("kind", "text"), [(int, "2.5"), (bool, "yes"), (list[int], "1,b"), (float, "")])
    def test_text_of_another_kind_is_refused(self, kind, text):
        with pytest.raises(ConfigError, match=r"x=.*is needed"):
            parsed("x", text, kind)

    def test_a_map_is_a_path(self, tmp_path):
        write_png(tmp_path / "heat.png", np.array([[0, 51], [255, 102]], np.uint8))
        found = parsed("heat", str(tmp_path / "heat.png"), HeatMap | None)
        np.testing.assert_allclose(found, [[0, 0.2], [1, 0.4]], atol=1e-6)
        with pytest.raises(DataError, match="no file"):
            parsed("heat", str(tmp_path / "none.png"), HeatMap)

    @pytest.mark.parametrize("name", learned())
    def test_every_learned_codec_declares_what_it_takes(self, name):
        codec = open_codec(name)
        for option, told in codec.options().items():
            assert told.meaning, option
            if told.from_text and not told.is_map and told.shown_default:
                assert np.array_equal(parsed(option, told.shown_default, told.kind), _plain(told.default)), (
                    option
                )
        assert {"selective_detail": 0, "hyperprior": 0}.get(name, 1) == bool(codec.options())

    def test_settings_reach_the_codec(self, tmp_path):
        codec = open_codec("gdae")
        assert settings(codec.options(), ["latents=learned"], Path("x.png")) == {"latents": "learned"}
        with pytest.raises(ConfigError, match="did you mean 'latents'"):
            settings(codec.options(), ["latent=learned"], Path("x.png"))
        with pytest.raises(ConfigError, match="it has none"):
            settings(open_codec("jpeg").options(), ["steps=3"], Path("x.png"))
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            settings(codec.options(), ["latents"], Path("x.png"))
        for name in "xy":
            write_png(tmp_path / f"{name}.png", np.full((2, 2), ord(name), np.uint8))
        codec = open_codec("extreme_semantic")
        assert settings(codec.options(), [f"labels={tmp_path}"], Path("in/y.jpg"))["labels"][0, 0] == ord("y")


def _plain(value):
    return (
        list(value)
        if isinstance(value, tuple)
        else value
        if not isinstance(value, float)
        else float(f"{value:.6g}")
    )


class TestCodecs:
    def test_all_are_listed(self, capsys):
        assert codecs.main([]) == 0
        printed = capsys.readouterr().out
        assert all(f"\n{name}: " in f"\n{printed}" for name in (*CLASSICAL, *learned()))
        assert "  options  effort, steps" in printed and "  weights  small" in printed

    def test_help_of_a_codec_lists_its_options(self, capsys):
        for call in (
            lambda: compress.main(["gan_reversal", "--help"]),
            lambda: codecs.main(["gan_reversal"]),
        ):
            try:
                call()
            except SystemExit as end:
                assert end.code == 0
            printed = capsys.readouterr().out
            assert "--set effort=9  (int)" in printed and "gradient steps, in place of effort's" in printed
            assert "--set rates" not in printed
        assert codecs.main(["selective_detail"]) == 0
        assert "  decompress --set detail=1  (float)\n      factor on the mask" in capsys.readouterr().out


class TestFiles:
    def test_a_tree_there_and_back_but_for_what_is_broken(self, tree, tmp_path, capsys):
        how = ["--quality", "50", "--jobs", "2", "--batch", "2"]
        assert compress.main(["jpeg", str(tree), "-o", str(tmp_path / "out"), *how]) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1 and "broken.png cannot be decoded" in printed.err
        files = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.gnc"))
        assert files == [Path("a/x.gnc"), Path("b/x.gnc")] and printed.out.count(" bpp") == 2
        (tmp_path / "out" / "a" / "bad.gnc").write_bytes(b"no file of ours")
        assert decompress.main([str(tmp_path / "out"), "-o", str(tmp_path / "back"), "--batch", "4"]) == 2
        assert "bad.gnc" in capsys.readouterr().err
        for name in "ab":
            data = (tmp_path / "out" / name / "x.gnc").read_bytes()
            assert data == open_codec("jpeg").encode(read_image(tree / name / "x.png"), 50)
            decoded = read_image(tmp_path / "back" / name / "x.png")
            np.testing.assert_array_equal(decoded, open_codec("jpeg").decode(data))

    def test_a_slow_codec_says_so_beforehand(self, tree, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(type(open_codec("jpeg")), "seconds", lambda self, h, w, bpp=None: 45.0)
        assert compress.main(["jpeg", str(tree / "b"), str(tree / "a" / "x.png"), "-o", str(tmp_path)]) == 2
        assert "several inputs" in capsys.readouterr().err
        assert compress.main(["jpeg", str(tree / "b"), "-o", str(tmp_path)]) == 0
        assert "jpeg takes about 0:00:45 for 1 picture; " in capsys.readouterr().err

    def test_pictures_together_have_a_quality_and_nothing_of_their_own(self, tree, tmp_path, capsys):
        how = [str(tree / "b"), "-o", str(tmp_path / "out"), "--batch"]
        for wrong in (["2", "--bpp", "1"], ["2", "--alpha"], ["0"]):
            assert compress.main(["jpeg", *how, *wrong]) == 2
            assert "--batch" in capsys.readouterr().err

    def test_options_are_checked_before_anything_is_done(self, tree, tmp_path, capsys):
        for option in ("strength=x", "strenght=1", "strength=99"):
            arguments = ["gdae_sprc", str(tree / "b"), "-o", str(tmp_path / "out"), "--set", option]
            assert compress.main(arguments) == 2
            assert capsys.readouterr().err.count("\n") == 1
        assert not list(tmp_path.rglob("*.gnc"))

    def test_a_file_is_shown_as_its_codec_can(self, tmp_path, capsys):
        codec, source = open_codec("selective_detail"), tmp_path / "x.gnc"
        source.write_bytes(codec.encode(photograph(40, 56)))
        assert decompress.main([str(source), "-o", str(tmp_path / "out"), "--set", "detail=0"]) == 0
        shown = read_image(tmp_path / "out" / "x.png")
        np.testing.assert_array_equal(shown, codec.decode(source.read_bytes(), detail=0))
        assert not np.array_equal(shown, codec.decode(source.read_bytes()))
        for wrong, told in {"detial=0": "did you mean 'detail'?", "detail=3": "0 (main decoder)"}.items():
            assert decompress.main([str(source), "-o", str(tmp_path / "no"), "--set", wrong]) == 2
            assert told in capsys.readouterr().err and not list((tmp_path / "no").glob("*"))


class TestOneLine:
    """What is wrong is told in a line, with exit status 2."""

    @pytest.mark.parametrize("taken", ["out", "out/below"])
    def test_a_folder_that_cannot_be_made(self, taken, tree, tmp_path, capsys):
        (tmp_path / "out").write_text("a file")
        assert compress.main(["jpeg", str(tree / "b"), "-o", str(tmp_path / taken)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and str(tmp_path / "out") in error

    def test_a_full_disk_names_the_file_that_was_wanted(self, tmp_path, monkeypatch, capsys):
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        assert command(lambda _: write_atomic(tmp_path / "x.bin", b"1"))() == 2
        assert capsys.readouterr().err == f"error: {tmp_path / 'x.bin'}: No space left on device\n"

    def test_weights_of_another_paper(self, tree, tmp_path, capsys):
        weights = ROOT / "lightning_modules" / "gdae_sprc" / "weights" / "small.safetensors"
        assert compress.main([f"hyperprior:{weights}", str(tree / "b"), "-o", str(tmp_path)]) == 2
        assert "weights of gdae_sprc, not of hyperprior" in capsys.readouterr().err

    def test_errors_that_are_not_the_systems_keep_their_traceback(self):
        def broken(_: object) -> int:
            raise OSError("a library's")

        with pytest.raises(OSError, match="a library's"):
            command(broken)()


def test_warnings_are_a_line_and_told_once(capsys):
    def inner(_: object) -> int:
        for _ in range(2):
            warnings.warn("again", stacklevel=2)
            warnings.warn("and again", stacklevel=1)
        return 0

    def outer(_: object) -> int:
        return command(inner)() or inner(None)

    for _ in range(2):
        assert command(outer)() == 0
        assert capsys.readouterr().err == "warning: again\nwarning: and again\n"


def test_an_ascii_terminal(tree, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}

    def run(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *arguments], capture_output=True, timeout=240, cwd=ROOT, env=environment
        )

    done = run("experiments.compress", "--help")
    assert done.returncode == 0 and not done.stderr and b"-o DIR" in done.stdout
    assert compress.main(["jpeg", str(tree / "b"), "-o", str(tmp_path / "out")]) == 0
    done = run("experiments.decompress", str(tmp_path / "out"), "-o", str(tmp_path / "back"))
    assert done.returncode == 0 and b"56?40" in done.stdout


class TestDemo:
    def test_its_parts_from_training_to_the_page(self, tmp_path, capsys, monkeypatch):
        """On two small pictures and with two codecs; what it says is what it does."""
        for name, top in {"a": 0, "b": 120}.items():
            write_png(tmp_path / "pictures" / f"{name}.png", photograph(176, 200, top))
        items = list_images(tmp_path / "pictures")
        monkeypatch.setattr(demo.evaluate, "pictures", lambda *_: ("own", items))
        monkeypatch.setattr(demo, "SWEEPS", {"jpeg": [5.0, 10.0, 30.0], "hevc": [45.0, 41.0, 37.0]})
        monkeypatch.setattr(demo, "_train", lambda out, minutes: print("trained") or None)
        monkeypatch.setattr(demo, "_losses", lambda run: "its losses")
        assert demo.main(["--out", str(tmp_path / "out")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "about 2.5 minutes on two cores, 1 of them training"
        assert [line.strip()[:4] for line in lines[1:]] == [
            *("1/3 ", "trai", "its ", "2/3 ", "jpeg", "hevc", "3/3 ", "comp", "repo"),
        ]
        assert lines[-1] == f"report: {tmp_path / 'out' / 'report.html'}"
        assert Path(lines[-1].removeprefix("report: ")).stat().st_size > 1e6
        assert read_image(tmp_path / "out" / "comparison.png").shape[1] >= 3 * demo.CROP


def test_a_run_that_time_ends_shows_the_time():
    display = ProgressDisplay(100, Meters(), timedelta(minutes=1))
    display._started = time.monotonic() - 30
    part, words = display._done(10)
    assert part == pytest.approx(0.5, abs=0.05) and words == "10/100, 0:00:30 of 0:01:00 at most"
    assert ProgressDisplay(100, Meters())._done(10) == (0.1, "10/100")
