"""Where a figure comes from: date, commit, machine, versions."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from genic.eval.schema import Provenance

_PACKAGES = (
    "genic",
    "torch",
    "torchvision",
    "torchmetrics",
    "compressai",
    "timm",
    "lpips",
    "numpy",
    "imagecodecs",
    "pillow",
    "av",
    "scikit-learn",
    "constriction",
)
_ROOT = Path(__file__).resolve().parent.parent
# What every file and figure may depend on, besides the package of its codec.
_CODE = (
    "lightning_modules/codec",
    "lightning_modules/entropy",
    "lightning_modules/layers",
    "lightning_modules/classical",
    "losses",
    "datamodules/images.py",
    "eval/metrics.py",
)


def provenance(threads: int, processes: int) -> Provenance:
    """Of a measurement made now, here, by ``processes`` processes of ``threads`` threads."""
    return Provenance(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=git_commit(),
        machine=machine(),
        threads=threads,
        processes=processes,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Of Python, the packages that the figures depend on, and the codec libraries inside them."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | _libraries()


def _libraries() -> dict[str, str]:
    from PIL import features

    names = {"libjpeg-turbo": "libjpeg_turbo", "openjpeg": "jpg_2000", "libwebp": "webp", "libavif": "avif"}
    found = {name: features.version(feature) for name, feature in names.items()}
    try:
        import imagecodecs

        found["libjxl"] = imagecodecs.jpegxl_version().rpartition(" ")[2]
    except ImportError:
        found["libjxl"] = None
    return {name: version for name, version in found.items() if version}


def git_commit() -> str | None:
    """The checked-out commit, ``+`` where tracked files differ from it; None outside a checkout."""

    file = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)  # else the repository is that of whoever installed this
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=32)
def code_digest(codec: type) -> str:
    """Hash of the code that a codec's files and figures depend on, blind to comments, docstrings and layout."""
    file = Path(inspect.getfile(codec)).resolve()
    own = file.parent if "." in codec.__module__ else file  # beside a module of no package lies anything
    digest = hashlib.sha256()
    for path in sorted(
        {file for place in (*(_ROOT / part for part in _CODE), own) for file in _sources(place)}
    ):
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            ):
                first = body[0]
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    del body[0]
        digest.update(f"{path.parent.name}/{path.name}\0{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _sources(place: Path) -> Iterator[Path]:
    return iter([place]) if place.is_file() else place.rglob("*.py")


@lru_cache(maxsize=1)
def gpus() -> int:
    """Number of GPUs that torch can use; torch is loaded only where the system has a driver."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")):
        return 0
    import torch

    return torch.cuda.device_count()


def machine() -> str:
    """Processor, number of cores and, where there are any, GPUs."""
    parts = [f"{_processor()}, {os.cpu_count()} cores"]
    if gpus():
        import torch

        parts += [torch.cuda.get_device_name(k) for k in range(gpus())]
    return ", ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
