"""The console command, the wheel, what is imported when, and the extras."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
import uv
from packaging.requirements import Requirement
from PIL import Image

import genic
from genic.datamodules import DataConfig, make_datamodule, sample
from genic.experiments.__main__ import COMMANDS, main
from genic.lightning_modules.codec.errors import DataError
from tests.helpers import photograph

ROOT = Path(__file__).parent.parent


def _run(*command: object, cwd: Path = ROOT) -> str:
    """Standard output of a command that succeeds, with no path but the interpreter's own."""
    environment = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "GENIC_DATA", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "tecnick" / "a.png"
    path.parent.mkdir()
    Image.fromarray(photograph(64, 64)).save(path)
    return path


class TestCommand:
    def test_help_lists_every_command(self, capsys):
        assert main(["--help"]) == 0
        listed = capsys.readouterr().out.splitlines()
        for name in COMMANDS:
            (line,) = (line for line in listed if line.startswith(f"  {name} "))
            assert len(line.split()) >= 3

    def test_version_and_slips(self, capsys):
        assert main(["--version"]) == 0 and capsys.readouterr().out == f"genic {genic.__version__}\n"
        assert main(["compres"]) == 2
        assert "did you mean 'compress'?" in capsys.readouterr().err

    @pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"tables"}))
    def test_every_command_says_how_it_was_called(self, name, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/genic", name])
        try:
            status = main([name, "--help"])
        except SystemExit as end:
            status = end.code
        assert not status and f"genic {name}" in capsys.readouterr().out


class TestImports:
    def test_a_classical_codec_needs_no_torch(self, picture, tmp_path):
        script = """if True:
            import sys
            from genic.experiments.__main__ import main
            assert main(["compress", "jpeg", sys.argv[1], "-o", sys.argv[2]]) == 0
            assert main(["decompress", sys.argv[2] + "/a.gnc", "-o", sys.argv[2]]) == 0
            assert main(["--help"]) == 0
            print(*sys.modules)"""
        loaded = _run(sys.executable, "-c", script, picture, tmp_path / "out").split()
        heavy = {
            "torch",
            "pytorch_lightning",
            "omegaconf",
            "scipy",
            "sklearn",
            "matplotlib",
            "cv2",
            "skimage",
        }
        assert not heavy & set(loaded) and "genic.lightning_modules.classical.jpeg" in loaded


def _core(site: Path) -> None:
    """Link the running environment's packages into another, but for the extras' and the installed checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = [Requirement(line).name for extra in ("train", "eval") for line in project[extra]]
    hidden = {file.parts[0] for name in extras for file in metadata.files(name)}
    for home in {Path(find_spec(name).origin).parents[1] for name in ("torch", "numpy", "uv")}:
        for path in home.iterdir():
            if path.name not in hidden and "genic" not in path.name and not (site / path.name).exists():
                (site / path.name).symlink_to(path)


@pytest.mark.timeout(600)
def test_the_wheel_and_the_core_suffice_to_code(picture, tmp_path):
    """Built through the sdist, without the extras, and used in a folder whose packages have our folders' names."""
    dist, env, folder = tmp_path / "dist", tmp_path / "env", tmp_path / "research"
    tool = (uv.find_uv_bin(), "--offline", "--quiet")
    _run(*tool, "build", "--no-build-isolation", "--python", sys.executable, "-o", dist, ROOT)
    (wheel,) = dist.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"genic"}
    assert "genic/py.typed" in names
    assert len(names) == len(set(names)) and not any("test" in Path(name).parts[1] for name in names)
    links = [path.name for path in (ROOT / "genic").iterdir() if path.is_symlink()]
    tracked = _run("git", "ls-files", *links)
    assert {f"genic/{path}" for path in tracked.splitlines()} <= set(names)

    _run(*tool, "venv", "--python", sys.executable, env)
    (site,) = env.rglob("site-packages")
    _core(site)
    bin = env / ("Scripts" if os.name == "nt" else "bin")
    _run(*tool, "pip", "install", "--python", bin / "python", "--no-deps", wheel)
    for name in links:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise RuntimeError('not the wheel')")

    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")  # of the repository around, which is not ours
    for arguments in (("init", "--quiet"), (*author, "commit", "--quiet", "--allow-empty", "-m", "theirs")):
        _run("git", *arguments, cwd=tmp_path)

    command = bin / "genic"
    _run(command, "compress", "jpeg", picture, "-o", "out", cwd=folder)
    _run(command, "decompress", "out/a.gnc", "-o", "out", cwd=folder)
    assert Image.open(folder / "out/a.png").size == (64, 64)
    measured = ("--data", "tecnick", "--root", tmp_path, "--qualities", "30", "--measures", "none")
    _run(command, "evaluate", "jpeg", *measured, cwd=folder)  # in worker processes
    result = json.loads((folder / "results/tecnick/jpeg.json").read_text())
    assert result["provenance"]["commit"] is None and len(result["points"]) == 1
    script = """if True:
        import sys
        import genic
        import numpy as np
        from genic.experiments.__main__ import main
        from genic.lightning_modules.registry import learned
        print(genic.__file__)
        image = np.full((64, 64, 3), 90, np.uint8)
        for name in ("kmeans", "hyperprior"):
            codec = genic.open_codec(name)
            assert abs(codec.decode(codec.encode(image)).mean() - 90) < 5
        for name in learned():
            genic.open_codec(name)
        sys.stderr = sys.stdout
        assert main(["rd_curves"]) == 2
        assert main(["pack", "bsds", "-o", "shards"]) == 2"""
    assert _run(bin / "python", "-c", script, cwd=folder).splitlines() == [
        str(site / "genic/__init__.py"),
        "error: matplotlib is not installed: pip install 'genic[eval]'",
        "error: webdataset is not installed: pip install 'genic[train]'",
    ]


def test_sample_pictures_name_the_extra_they_come_with(monkeypatch):
    monkeypatch.setattr(sample.importlib.util, "find_spec", lambda name: None)
    sample._package.cache_clear()
    with pytest.raises(DataError, match=r"skimage.*pip install 'genic\[train\]'"):
        make_datamodule(DataConfig("sample")).items("train")


def test_every_dependency_says_what_it_is_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = {"default": project["dependencies"], **project["optional-dependencies"]}
    found = {(Requirement(line).name, part) for part, lines in parts.items() for line in lines}
    section = (ROOT / "docs/dependencies.md").read_text().split("\n## ")[1]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    told = {(name, part) for row in rows for name in row[0][2:].split(", ") for part in row[1].split(", ")}
    assert told == {pair for pair in found if pair[0] != "genic"}


def test_no_registry_is_named():
    """Code and lock install from whatever registry the user has set."""
    hosts = "pypi[.]org|python[h]osted|conda[.]org|conda[.]io|index-url[ =]*http|find[-]links"
    found = subprocess.run(["git", "grep", "-nIE", hosts], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")  # git's status where nothing is found
    assert "://" not in (ROOT / "requirements.txt").read_text()
