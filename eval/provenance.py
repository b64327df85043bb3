"""Where a figure comes from: date, commit, machine, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from eval.schema import Provenance

_PACKAGES = ("genic", "torch", "numpy", "imagecodecs", "pillow", "av", "scikit-learn", "constriction")


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

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> str:
    """Processor, number of cores and, where there are any, GPUs."""
    import torch

    parts = [f"{_processor()}, {os.cpu_count()} cores"]
    parts += [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return ", ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
