"""The harness at work: processes, the command lines, and that nothing depends on how many share the work."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from sklearn.datasets import load_sample_image

from datamodules.images import list_images, read_image
from eval.metrics import measure
from eval.runner import evaluate
from eval.schema import CodecResult, Point
from experiments import compress, decompress
from experiments import evaluate as evaluate_command
from lightning_modules.codec.container import Container
from lightning_modules.codec.errors import ConfigError
from lightning_modules.registry import open_codec

SIZES = {"a": (170, 161), "b": (48, 64), "c": (33, 180), "d": (90, 71), "e": (1, 5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five pictures: an odd number, so that two processes cannot share them evenly."""
    photograph = np.asarray(load_sample_image("china.jpg"))
    folder = tmp_path_factory.mktemp("pictures")
    for k, (name, (height, width)) in enumerate(SIZES.items()):
        PillowImage.fromarray(photograph[20 * k :][:height, 30 * k :][:, :width]).save(folder / f"{name}.png")
    return folder


def _untimed(points: list[Point]) -> list:
    def strip(figures):
        return dataclasses.replace(figures, encode_seconds=0, decode_seconds=0)

    return [(p.quality, strip(p.mean), [strip(image) for image in p.images]) for p in points]


@pytest.fixture(scope="module")
def one(folder) -> list[Point]:
    """Measured by one process."""
    return evaluate("webp", list_images(folder), [10, 60])


class TestEvaluate:
    def test_one_and_two_processes_agree_and_measure_each_once(self, folder, one):
        items = list_images(folder)
        calls: list[None] = []
        two = evaluate("webp", items, [10, 60], devices=2, advance=lambda: calls.append(None))
        assert _untimed(one) == _untimed(two)
        assert len(calls) == 2 * len(items)
        for point in two:
            assert [image.name for image in point.images] == [item.name for item in items]

    def test_the_figures_are_those_of_the_files(self, folder, one):
        items, codec, point = list_images(folder), open_codec("webp"), one[1]
        for item, figures in zip(items, point.images, strict=True):
            image = item.read()
            data = codec.encode(image, 60)
            assert figures.bytes == len(data) == sum(figures.ledger.values())
            assert figures.ledger == Container.from_bytes(data).ledger()
            assert figures.bpp == 8 * len(data) / (image.shape[0] * image.shape[1])
            expected = measure(image, codec.decode(data))
            assert figures.psnr_rgb == expected.psnr_rgb
            for name in ("ssim", "ms_ssim", "ms_ssim_db"):  # threads may differ by a rounding
                value = getattr(expected, name)
                assert getattr(figures, name) == (None if value is None else pytest.approx(value, rel=1e-9))
            assert figures.encode_seconds > 0 and figures.decode_seconds > 0
        assert point.images[0].ms_ssim is not None and point.images[1].ms_ssim is None
        assert point.mean.ms_ssim is None and point.mean.bpp == pytest.approx(
            np.mean([image.bpp for image in point.images])
        )

    def test_an_error_in_a_process_arrives_typed(self, folder):
        with pytest.raises(ConfigError, match="1 to 100"):
            evaluate("jpeg", list_images(folder), [50, 101], devices=2)

    def test_nothing_to_do(self, folder):
        with pytest.raises(ConfigError):
            evaluate("jpeg", [], [10])
        with pytest.raises(ConfigError):
            evaluate("jpeg", list_images(folder), [])

    def test_the_command(self, folder, tmp_path, capsys):
        arguments = [
            "jpeg",
            "--data",
            "folder",
            "--root",
            str(folder),
            "--limit",
            "2",
            "--qualities",
            "60,20",
        ]
        assert evaluate_command.main([*arguments, "--out", str(tmp_path)]) == 0
        path = tmp_path / "folder-first2" / "jpeg.json"
        assert "jpeg on folder-first2: means of 2 pictures" in capsys.readouterr().out
        result = CodecResult.from_json(path.read_text())
        assert [point.quality for point in result.points] == [20, 60]  # ascending in rate
        assert [image.name for image in result.points[0].images] == ["a.png", "b.png"]
        assert result.data == "folder-first2" and len(result.manifest) == 64
        assert result.provenance.processes == 1 and result.provenance.versions["pillow"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["jpge", "--data", "sample"], "did you mean 'jpeg'"),
            (["jpeg", "--data", "kodka"], "did you mean 'kodak'"),
            (["jpeg", "--data", "sample", "--qualities", "low"], "numbers with commas"),
            (["jpeg", "--data", "sample", "--limit", "0"], "at least 1"),
            (["jpeg", "--data", "sample", "--devices", "0"], "at least one"),
        ],
    )
    def test_mistakes_are_one_line(self, arguments, message, tmp_path, capsys):
        assert evaluate_command.main([*arguments, "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
        assert not list(tmp_path.rglob("*.json"))

    def test_file_names_of_codecs_with_weights(self):
        path = evaluate_command.result_path(Path("r"), "kodak", "paper:runs/one/last.safetensors")
        assert path == Path("r/kodak/paper-runs-one-last.safetensors.json")


class TestCompressAndDecompress:
    def test_files_and_folders_there_and_back(self, folder, tmp_path, capsys):
        assert compress.main(["hevc", str(folder), "-o", str(tmp_path), "--quality", "30"]) == 0
        printed = capsys.readouterr().out
        files = sorted(tmp_path.glob("*.gnc"))
        assert [file.stem for file in files] == list(SIZES)
        assert f"{files[0]}  {files[0].stat().st_size} bytes" in printed
        assert decompress.main([*map(str, files), "-o", str(tmp_path / "out")]) == 0
        codec = open_codec("hevc")
        for file in files:
            data = file.read_bytes()
            assert data == codec.encode(read_image(folder / f"{file.stem}.png"), 30)
            np.testing.assert_array_equal(
                read_image(tmp_path / "out" / f"{file.stem}.png"), codec.decode(data)
            )

    def test_nothing_is_overwritten_unasked(self, folder, tmp_path, capsys):
        arguments = ["jpeg", str(folder / "b.png"), "-o", str(tmp_path)]
        assert compress.main([*arguments, "--quality", "20"]) == 0
        before = (tmp_path / "b.gnc").read_bytes()
        assert compress.main([*arguments, "--quality", "70"]) == 2
        assert "--force" in capsys.readouterr().err and (tmp_path / "b.gnc").read_bytes() == before
        assert compress.main([*arguments, "--quality", "70", "--force"]) == 0
        assert len((tmp_path / "b.gnc").read_bytes()) > len(before)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["jpeg", "absent.png"], "no file absent.png"),
            (["jpge", "{folder}/b.png"], "did you mean"),
            (["jpeg", "{folder}/b.png", "--quality", "900"], "1 to 100"),
            (["jpeg", "{folder}/b.png", "{folder}/../{name}/b.png"], "several inputs"),
            (["jpeg", "{folder}/note.txt"], "note.txt"),
            (["jpeg", "{empty}"], "no pictures in"),
        ],
    )
    def test_mistakes_in_compressing_are_one_line(self, arguments, message, folder, tmp_path, capsys):
        (folder / "note.txt").write_text("no picture")
        empty = tmp_path / "empty"
        empty.mkdir()
        names = {"folder": folder, "name": folder.name, "empty": empty}
        filled = [argument.format(**names) for argument in arguments]
        assert compress.main([*filled, "-o", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1

    def test_a_damaged_file_does_not_keep_the_others_back(self, folder, tmp_path, capsys):
        pictures = [str(folder / f"{name}.png") for name in "bd"]
        assert compress.main(["jpeg", *pictures, "-o", str(tmp_path)]) == 0
        damaged = bytearray((tmp_path / "b.gnc").read_bytes())
        damaged[30] ^= 1
        (tmp_path / "b.gnc").write_bytes(damaged)
        capsys.readouterr()
        files = [str(tmp_path / f"{name}.gnc") for name in "bd"]
        assert decompress.main([*files, "-o", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "b.gnc: the CRC does not match" in error and error.count("\n") == 1
        assert (tmp_path / "d.png").exists() and not (tmp_path / "b.png").exists()

    def test_foreign_and_missing_files(self, folder, tmp_path, capsys):
        assert decompress.main([str(folder / "b.png"), "-o", str(tmp_path)]) == 2
        assert "not a genic file" in capsys.readouterr().err
        assert decompress.main([str(tmp_path / "none.gnc"), "-o", str(tmp_path)]) == 2
        assert "no file" in capsys.readouterr().err

    def test_as_a_program_without_a_traceback(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "experiments.decompress", "absent.gnc", "-o", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=Path(__file__).parent.parent,
        )
        assert done.returncode == 2 and done.stderr.strip() == "error: no file absent.gnc"


def test_the_decoder_of_a_classical_codec_starts_without_torch():
    """A second of start-up for every process, else."""
    script = "import sys, json, eval.worker; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=240, cwd=Path(__file__).parent.parent
    )
    assert json.loads(done.stdout) is False
