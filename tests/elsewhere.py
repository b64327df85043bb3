"""Work in a process of its own, which has what it is given and files, and nothing else of the test's."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from genic.lightning_modules.registry import codec_for


def elsewhere(work: Callable[..., Any], *arguments: object) -> Any:
    """What ``work`` gives there; a function of a module that imports little. Packages are imported already."""
    how = {"initializer": _start, "initargs": (dict(os.environ),)}
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"), **how) as process:
        return process.submit(work, *arguments).result(240)


def _start(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def all_decoded(files: Sequence[bytes], weights: Path | None) -> list[np.ndarray]:
    """Their pictures, by what each file says."""
    return [codec_for(data, weights).decode(data) for data in files]
