"""Run folders: ``<out>/<experiment>/<preset>``, then ``<preset>-2``, ``<preset>-3``, …"""

from __future__ import annotations

import re
from pathlib import Path

from genic.lightning_modules.codec.errors import WeightsError

CHECKPOINT = "last.ckpt"
WEIGHTS = "last.safetensors"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"


def choose_folder(
    out: Path, experiment: str, preset: str, resume: str | Path | None
) -> tuple[Path, Path | None]:
    """The run's folder, and the checkpoint to start from, if any.

    Every process of a run calls this before any of them writes, so that all arrive at the same answer.

    Args:
        out: folder of all runs.
        resume: None for a new run; ``auto`` for the newest of this experiment and preset, or a new one where
            there is none; else a run's folder or a checkpoint in it.

    Raises:
        WeightsError: ``resume`` names nothing.
    """
    if resume is None or resume == "auto":
        runs = _runs(out / experiment, preset)
        checkpoints = [folder / CHECKPOINT for folder in runs.values() if (folder / CHECKPOINT).is_file()]
        if resume and checkpoints:
            newest = max(checkpoints, key=lambda path: path.stat().st_mtime_ns)
            return newest.parent, newest
        number = max(runs, default=0) + 1
        return out / experiment / (preset if number == 1 else f"{preset}-{number}"), None
    path = Path(resume)
    if path.is_dir():
        path = path / CHECKPOINT
    if not path.is_file():
        raise WeightsError(
            f"--resume {resume}: no checkpoint there; give a run's folder, its {CHECKPOINT}, or auto"
        )
    return path.parent, path


def _runs(parent: Path, preset: str) -> dict[int, Path]:
    """Folders of runs of a preset by number."""
    found = {}
    for folder in parent.glob(f"{preset}*"):
        match = re.fullmatch(re.escape(preset) + r"(?:-(\d+))?", folder.name)
        if match and folder.is_dir():
            found[int(match[1] or 1)] = folder
    return found
