"""What the tests of several files start from."""

from __future__ import annotations

import json
import os
import struct
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from genic.datamodules.detectors import FACE, TEXT, detector_file
from genic.experiments.config import load_config
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.registry import find_paper

SHARED = Path(os.environ.get("GENIC_DATA", Path(__file__).resolve().parents[2] / "shared"))
"""Pictures and weights that the repository does not hold; not everywhere."""


def nano(paper: str, **changes: object) -> Any:
    """A paper's module at its nano preset, with seeded random weights.

    Args:
        changes: values of the configuration's fields, whichever part has them, the model before training and coding.
    """
    config = load_config(paper, ["preset=nano"])
    parts = ("model", "train", "coding")
    known = {f.name: part for part in reversed(parts) for f in fields(getattr(config, part))}
    config = load_config(paper, ["preset=nano", *(f"{known[k]}.{k}={v}" for k, v in changes.items())])
    torch.manual_seed(0)
    return find_paper(paper).module_class()(config.paper())


def photograph(height: int = 96, width: int = 128, top: int = 20, left: int = 130) -> np.ndarray:
    """A part of a portrait, uint8 [height, width, 3]."""
    return np.ascontiguousarray(data.astronaut()[top : top + height, left : left + width])


class OfflineRun:
    """What a W&B run wrote offline: LevelDB's log of protocol buffers.

    Attributes:
        rows: of the history: the step, and values by key. summary, config: by key.
        artifacts: file names by type and name.
    """

    def __init__(self, directory: Path) -> None:
        self.files = directory / "files"
        self.rows: list[tuple[int, dict]] = []
        self.summary: dict = {}
        self.config: dict = {}
        self.artifacts: dict[tuple[str, str], list[str]] = {}
        for record in _all_records(next(directory.glob("*.wandb"))):
            if record.HasField("history"):
                self.rows.append((record.history.step.num, _values(record.history.item)))
            elif record.HasField("summary"):
                self.summary |= _values(record.summary.update)
            elif record.HasField("run"):
                self.config |= _values(record.run.config.update)
                self.run = record.run
            elif record.HasField("config"):
                self.config |= _values(record.config.update)
            elif record.HasField("artifact"):
                files = [entry.path for entry in record.artifact.manifest.contents]
                self.artifacts[record.artifact.type, record.artifact.name] = files

    @property
    def keys(self) -> set[str]:
        """Of the history."""
        return {key for _, row in self.rows for key in row}

    def table(self, key: str) -> list[list]:
        """The rows of a table."""
        path = next(row[f"{key}/path"] for _, row in self.rows if f"{key}/path" in row)
        return json.loads((self.files / path).read_text())["data"]


def _all_records(path: Path) -> list:
    """With the last one, which W&B's own process may write a moment after the run's end."""
    for _ in range(200):
        found = _records(path.read_bytes())
        if found and found[-1].HasField("exit"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def _records(data: bytes) -> list:
    from wandb.proto.wandb_internal_pb2 import Record

    at, whole, found = 7, b"", []
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:  # a block's end
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            found.append(Record.FromString(whole))
            whole = b""
    return found


def _values(items) -> dict:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _has_detectors() -> bool:
    try:
        return bool(detector_file(FACE) and detector_file(TEXT))
    except ToolError:
        return False


needs_detectors = pytest.mark.skipif(
    not _has_detectors(), reason="the detectors' files are not below GENIC_DATA"
)
