"""What the parts share: options, the codec, files measured in another process, and where tables go."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.eval.schema import ImageResult
from genic.experiments.paper_tables import common
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.registry import open_codec


def parser(part: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that every part has; ``--limit`` is the first so many pictures, as in `experiments.evaluate`."""
    found = common.parser("gdae_sprc", part, doc, "the first K pictures only")
    found.set_defaults(out=common.TABLES)
    return found


def codec_parser(part: str, doc: str | None) -> argparse.ArgumentParser:
    """With ``--codec`` besides, for `opened`."""
    found = parser(part, doc)
    found.add_argument("--codec", default="gdae_sprc", metavar="gdae_sprc[:PRESET or checkpoint]")
    return found


def opened(which: str) -> GdaeSprcCodec:
    """The codec; `ConfigError` where it is another paper's."""
    if which.partition(":")[0] != "gdae_sprc":
        raise ConfigError(f"this is a table of gdae_sprc, not of {which!r}")
    codec = open_codec(which)
    assert isinstance(codec, GdaeSprcCodec)
    return codec


@overload
def measured(
    options: argparse.Namespace, tasks: Sequence[Task], decoded: Path | None = None
) -> list[ImageResult]: ...


@overload
def measured(
    options: argparse.Namespace,
    tasks: Sequence[Task],
    decoded: Path | None = None,
    *,
    may_fail: Literal[True],
) -> list[ImageResult | None]: ...


def measured(
    options: argparse.Namespace, tasks: Sequence[Task], decoded: Path | None = None, *, may_fail: bool = False
) -> list[ImageResult] | list[ImageResult | None]:
    """Every task, in order; what was measured before is read from ``measured`` beside the tables.

    Args:
        decoded: folder for files and decoded pictures, see `Task.saved`.
        may_fail: a budget that a picture cannot meet gives None instead of an error.
    """
    how: dict[str, Any] = {"store": options.out / "measured", "save_decoded": decoded}
    with WorkerPairs(options.devices, options.threads) as workers:
        return measure_files(tasks, workers, on_error=common.unmet if may_fail else None, **how)


def folder(options: argparse.Namespace, data: str) -> Path:
    """Where the parts' files go."""
    return options.out / "gdae_sprc" / data


def save(options: argparse.Namespace, data: str, part: str, text: str, record: Mapping[str, object]) -> None:
    """``part``.md and ``part``.json in the `folder`; the text is printed."""
    common.save(options, part, text, {"data": data, **record}, folder(options, data))
