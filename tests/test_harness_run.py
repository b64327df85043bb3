"""The harness at work: processes, the command lines, and that nothing depends on how many share the work."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image as PillowImage
from sklearn.datasets import load_sample_image

from genic.datamodules.images import ImageItem, list_images, manifest_hash, read_image
from genic.eval import runner, speed_harness
from genic.eval.metrics import measure
from genic.eval.runner import Loaded, Task, WorkerPairs, evaluate, measure_files
from genic.eval.schema import CodecResult, Point
from genic.experiments import compress, dashboard, decompress, rd_curves
from genic.experiments import evaluate as evaluate_command
from genic.experiments.paper_tables.common import save
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import open_codec
from tests.helpers import OfflineRun

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
        with WorkerPairs(2) as workers:
            two = evaluate("webp", items, [10, 60], workers, advance=lambda: calls.append(None))
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
        with WorkerPairs(2) as workers, pytest.raises(ConfigError, match="1 to 100"):
            evaluate("jpeg", list_images(folder), [50, 101], workers)

    def test_nothing_to_do(self, folder):
        with pytest.raises(ConfigError):
            evaluate("jpeg", [], [10])
        with pytest.raises(ConfigError):
            evaluate("jpeg", list_images(folder), [])

    def test_the_command(self, folder, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
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
            "--wandb",
        ]
        assert evaluate_command.main([*arguments, "--name", "five", "--out", str(tmp_path)]) == 0
        path = tmp_path / "five-first2" / "jpeg.json"
        assert "jpeg on five-first2: means of 2 pictures" in capsys.readouterr().out
        result = CodecResult.from_json(path.read_text())
        assert [point.quality for point in result.points] == [20, 60]  # ascending in rate
        assert [image.name for image in result.points[0].images] == ["a.png", "b.png"]
        assert result.data == "five-first2" and len(result.manifest) == 64
        assert result.provenance.processes == 1 and result.provenance.versions["pillow"]

        shown = OfflineRun(next((tmp_path / "wandb").glob("offline-run-*")))
        assert shown.run.display_name == "jpeg on five-first2" and shown.run.job_type == "evaluate"
        bpp = [point.mean.bpp for point in result.points]
        assert [row[0] for row in shown.table("rd/five-first2/psnr_rgb_table")] == pytest.approx(bpp)
        assert [row[0] for row in shown.table("pictures/five-first2")] == ["a.png", "b.png"] * 2
        assert shown.summary["bd_rate/against"] == "no curve of HEVC on these pictures"
        assert {("dataset", "data-five-first2"), ("results", "results-jpeg-five-first2")} <= set(
            shown.artifacts
        )

    def test_online_the_weights_of_a_training_run_are_the_input(self, folder, one, tmp_path, monkeypatch):
        """As far as it goes without W&B's server, for which its client is told so: an artifact of the same name and
        content is the same there."""
        weights, item = tmp_path / "gdae_sprc" / "mine" / "last.safetensors", list_images(folder)[1]
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"any")
        training, evaluation = MagicMock(offline=False), MagicMock(offline=False, step=0)
        dashboard.log_weights(training, "gdae_sprc/mine", weights, {}, made=True)
        monkeypatch.setattr(dashboard, "opened", lambda *_: nullcontext(evaluation))
        result = CodecResult(
            f"gdae:{weights}", "five", manifest_hash([item]), [dataclasses.replace(one[0], images=[])]
        )
        result.save(tmp_path / "five" / "gdae.json")
        evaluate_command._show(tmp_path, result, [item], tmp_path / "five" / "decoded")
        made = training.log_artifact.call_args.args[0]
        used = {call.args[0].name: call.args[0] for call in evaluation.use_artifact.call_args_list}
        assert set(used) == {"data-five", made.name} and used[made.name].digest == made.digest
        assert [call.args[0].type for call in evaluation.log_artifact.call_args_list] == ["results"]
        assert not training.use_artifact.called

    def test_curves_and_tables_in_weights_and_biases(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        rates = [0.1, 0.2, 0.4]
        for name, gain in {"jpeg": 0.0, "hevc": 2.0}.items():
            curve = {"bpp": rates, "psnr": [28 + gain, 31 + gain, 34 + gain]}
            (tmp_path / "set").mkdir(exist_ok=True)
            (tmp_path / "set" / f"{name}.json").write_text(json.dumps({"name": name, "results": curve}))
        assert rd_curves.main(["--data", "set", "--results", str(tmp_path), "--wandb"]) == 0
        curves = OfflineRun(next((tmp_path / "wandb").glob("offline-run-*")))
        drawn = curves.table("rd/set/psnr_rgb_table")
        assert [row[0] for row in drawn if row[1] == "hevc"] == rates and {row[1] for row in drawn} == {
            "jpeg",
            "hevc",
        }
        options = argparse.Namespace(threads=1, out=tmp_path / "paper", wandb=True)
        save(
            options,
            "table",
            "a page",
            {"rows": [{"scheme": "one", "bpp": 0.5}, {"scheme": "two", "more": [1]}]},
        )
        table = OfflineRun(next((tmp_path / "paper" / "wandb").glob("offline-run-*")))
        assert table.table("tables/paper-table/rows") == [["one", 0.5, None], ["two", None, "[1]"]]
        assert table.artifacts[("table", "table-paper-table")] == ["table.md"]

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
        path = evaluate_command.result_path(Path("r/kodak"), "paper:runs/one/last.safetensors")
        assert path == Path("r/kodak/paper-runs-one-last.safetensors.json")


class TestMeasureFiles:
    @pytest.fixture
    def measured(self, monkeypatch) -> list[Task]:
        """The tasks that were measured, not read from the store."""
        done: list[Task] = []
        original = runner._measure_one

        def counted(call, task, *rest):
            done.append(task)
            return original(call, task, *rest)

        monkeypatch.setattr(runner, "_measure_one", counted)
        return done

    def test_a_run_that_was_ended_goes_on_where_it_was(self, folder, tmp_path, measured):
        items = list_images(folder)[:3]
        tasks = [Task(item, "jpeg", 30) for item in items]

        def end_after_two():
            if len(measured) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure_files(tasks, store=tmp_path, advance=end_after_two)
        assert measured == tasks[:2]
        results = measure_files(tasks, store=tmp_path)
        assert measured == tasks and [result.name for result in results] == [item.name for item in items]
        assert measure_files(tasks, store=tmp_path) == results and measured == tasks

    def test_the_store_knows_content_options_and_networks(self, folder, tmp_path, measured, monkeypatch):
        picture = list_images(folder)[1]
        again = Loaded("again.png", picture.read())
        with WorkerPairs() as workers:

            def count(*tasks: Task, **how) -> int:
                before = len(measured)
                measure_files(tasks, workers, store=tmp_path, **how)
                return len(measured) - before

            assert count(Task(picture, "jpeg", 30), Task(again, "jpeg", 30)) == 2
            assert count(Task(picture, "jpeg", 31), Task(again, "webp", 30)) == 2
            assert count(Task(picture, "jpeg", 30.0)) == 0
            assert count(Task(picture, "jpeg", 30), Task(Loaded("other name", again.image), "jpeg", 30)) == 0
            assert count(Task(Loaded("again.png", again.image[:, :-1]), "jpeg", 30)) == 1
            monkeypatch.setattr(runner, "_of_machine", lambda: ("another", [("libwebp", "0")]))
            assert count(Task(picture, "jpeg", 30)) == 1

    def test_options_have_an_identity(self):
        mask = np.eye(3)
        same, other = ({"mask": mask.copy()}, {"mask": mask.astype(np.float32)})
        assert runner._canonical({"mask": mask}) == runner._canonical(same) != runner._canonical(other)
        with pytest.raises(ConfigError, match="plain values"):
            runner._canonical({"codec": object()})

    def test_what_fails_is_handed_over_and_the_rest_measured(self, folder, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        items = [*list_images(tmp_path), list_images(folder)[1]]
        failed: list[str] = []
        tasks = [Task(item, "jpeg", quality) for item in items for quality in (30, 101)]
        results = measure_files(
            tasks, on_error=lambda task, error: failed.append(f"{task.item.name}: {error}")
        )
        assert [result is None for result in results] == [True, True, False, True]
        assert [text.partition(":")[0] for text in failed] == ["broken.png", "broken.png", "b.png"]

    def test_files_and_decoded_pictures_are_kept(self, folder, tmp_path, measured):
        item = list_images(folder)[1]
        tasks = [Task(item, "jpeg", 30), Task(item, "jpeg", 60)]
        results = measure_files(tasks, store=tmp_path / "s", save_decoded=tmp_path / "d")
        for task, result in zip(tasks, results, strict=True):
            path = task.saved(tmp_path / "d")
            data = path.with_suffix(".gnc").read_bytes()
            assert len(data) == result.bytes
            np.testing.assert_array_equal(read_image(path), open_codec("jpeg").decode(data))
        measure_files(tasks, store=tmp_path / "s", save_decoded=tmp_path / "d")
        assert len(measured) == 2
        tasks[0].saved(tmp_path / "d").unlink()
        measure_files(tasks, store=tmp_path / "s", save_decoded=tmp_path / "d")
        assert measured == [*tasks, tasks[0]]

    def test_processes_are_started_once_for_all_codecs(self, folder):
        items = list_images(folder)[1:3]
        with WorkerPairs() as workers:
            evaluate("jpeg", items, [30], workers)
            first = {at: set(process._processes) for at, process in workers._pairs.items()}
            evaluate("webp", items, [30], workers)
            assert {at: set(process._processes) for at, process in workers._pairs.items()} == first
        assert len(set.union(*first.values())) == 2

    def test_processes_have_the_environment_of_when_they_start(self, monkeypatch):
        found: list[str] = []
        for value in "ab":
            monkeypatch.setenv("GENIC_WEIGHTS", value)
            with WorkerPairs() as workers:
                workers.each([None], lambda call, _: found.append(call(1, os.getenv, "GENIC_WEIGHTS")))
        assert found == ["a", "b"]


class TestEvaluateCommand:
    def _run(self, root: Path, out: Path, *arguments: str) -> int:
        return evaluate_command.main(
            [
                "jpeg",
                "--data",
                "folder",
                "--root",
                str(root),
                "--qualities",
                "30,60",
                "--out",
                str(out),
                *arguments,
            ]
        )

    def test_sets_of_one_name_lie_side_by_side_and_do_not_mix(self, folder, tmp_path, capsys):
        """Formerly both went to results/folder, and rd_curves compared them without a word."""
        for k, name in enumerate("bd"):
            (tmp_path / str(k) / "set").mkdir(parents=True)
            (tmp_path / str(k) / "set" / "picture.png").write_bytes((folder / f"{name}.png").read_bytes())
            assert self._run(tmp_path / str(k) / "set", tmp_path / "out", "--measures", "none") == 0
        first = tmp_path / "out" / "set" / "jpeg.json"
        (second,) = (tmp_path / "out").glob("set-*/jpeg.json")
        manifests = [CodecResult.from_json(path.read_text()).manifest for path in (first, second)]
        assert second.parent.name == f"set-{manifests[1][:8]}" and manifests[0] != manifests[1]
        capsys.readouterr()
        second.rename(first.with_name("webp.json"))
        assert rd_curves.main(["--data", "set", "--results", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert "webp.json is of other pictures" in error and error.count("\n") == 1

    def test_an_unreadable_picture_is_left_out_and_said(self, folder, tmp_path, capsys):
        root = tmp_path / "some"
        root.mkdir()
        (root / "good.png").write_bytes((folder / "b.png").read_bytes())
        (root / "broken.png").write_bytes(b"no picture")
        assert self._run(root, tmp_path / "out", "--measures", "none", "--save-decoded") == 1
        assert "broken.png is left out" in capsys.readouterr().err
        result = CodecResult.from_json((tmp_path / "out" / "some" / "jpeg.json").read_text())
        assert [image.name for image in result.points[0].images] == ["good.png"]
        assert result.manifest == manifest_hash([ImageItem("good.png", str(root / "good.png"))])
        assert len(list((tmp_path / "out" / "some" / "decoded").rglob("good.png"))) == 2

    def test_one_that_was_killed_goes_on_where_it_was(self, folder, tmp_path, monkeypatch):
        """SIGKILL in the midst: nothing of it keeps running, and the result is that of one that was left alone."""
        how = ["jpeg", "--data", "folder", "--root", str(folder), "--name", "x", "--measures", "none"]
        program = [sys.executable, "-m", "experiments.evaluate", *how, "--qualities", "30,60"]
        root, store = Path(__file__).parent.parent, tmp_path / "killed" / "measured"
        process = subprocess.Popen([*program, "--out", store.parent], stdout=subprocess.PIPE, cwd=root)
        while len(list(store.rglob("*.json"))) < 2:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.communicate(timeout=120)  # ends when the last process that could write there has ended
        assert process.returncode == -signal.SIGKILL and not (store.parent / "x").exists()
        kept, done, measured = len(list(store.rglob("*.json"))), runner._measure_one, []
        monkeypatch.setattr(runner, "_measure_one", lambda *task: measured.append(task) or done(*task))
        for out in (store.parent, tmp_path / "whole"):
            assert self._run(folder, out, "--name", "x", "--measures", "none") == 0
        assert len(measured) == (10 - kept) + 10 < 20
        both = [
            CodecResult.from_json((tmp_path / out / "x" / "jpeg.json").read_text()).lasting()
            for out in ("killed", "whole")
        ]
        assert both[0] == dataclasses.replace(both[1], provenance=both[0].provenance)

    def test_networks_that_are_not_at_hand_say_so(self, folder, tmp_path, capsys, monkeypatch):
        for name, value in {
            "GENIC_DATA": "",
            "TORCH_HOME": str(tmp_path),
            "https_proxy": "http://127.0.0.1:9",
        }.items():
            monkeypatch.setenv(name, value)
        assert self._run(folder, tmp_path, "--limit", "1", "--name", "x") == 0
        result = CodecResult.from_json((tmp_path / "x-first1" / "jpeg.json").read_text())
        assert "alexnet-owt-7be5be79.pth is missing" in result.unavailable["lpips_alex"]
        assert result.points[0].images[0].lpips_alex is None
        assert "lpips_alex is unavailable: " in capsys.readouterr().out
        assert self._run(folder, tmp_path, "--measures", "lpips_alx") == 2
        assert "no measure 'lpips_alx'" in capsys.readouterr().err


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


def test_what_the_harness_costs_is_told(monkeypatch, capsys):
    asked = []

    def run(module: str, *how: str) -> tuple[str, float]:
        asked.append((module.rpartition(".")[2], *how[:2]))
        return "5.0", 12.0 if module.endswith("evaluate") else 10.0

    monkeypatch.setattr(speed_harness, "_run", run)
    assert speed_harness.main(["jpeg=25", "--repeats", "1"]) == 0
    assert asked == [("speed_harness", "jpeg=25", "--data"), ("evaluate", "jpeg", "--qualities")]
    row = next(line for line in capsys.readouterr().out.splitlines() if "jpeg" in line)
    assert [cell.strip() for cell in row.split("│")[3:-1]] == ["5.0", "10.0", "12.0", "+20.0", "+140.0"]
    assert speed_harness.main(["jpeg"]) == 2 and "jpeg=25" in capsys.readouterr().err


def test_what_needs_no_torch_starts_without():
    """The main process, and the decoder of a classical codec: a second or two of start-up for each, else."""
    modules = "genic.eval.worker, genic.experiments.evaluate, genic.datamodules.kodak"
    script = f"import sys, json, {modules}; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=240, cwd=Path(__file__).parent.parent
    )
    assert json.loads(done.stdout) is False
