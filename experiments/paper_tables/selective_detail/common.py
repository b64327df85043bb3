"""What the parts share: options, measures that can be had, and files measured in another process."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genic.datamodules.images import ImageItem
from genic.eval import regions, worker
from genic.eval.measures import MEASURES
from genic.eval.runner import Task, WorkerPairs, label_file, measure_files
from genic.eval.schema import ImageResult, Means
from genic.eval.tables import number, table
from genic.experiments.evaluate import BACKBONE
from genic.experiments.paper_tables import common
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.registry import open_codec
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec

WANTED = ("lpips_alex", "regions", "faces", "text")
SHOWN = (
    "psnr_rgb",
    "ms_ssim_db",
    "lpips_alex",
    "ms_ssim_inside",
    "ms_ssim_outside",
    "lpips_inside",
    "lpips_outside",
    "face_confidence",
    "text_distance",
)
"""Columns: a subset of `Means`."""


def parser(part: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that every part has."""
    found = common.parser("selective_detail", part, doc)
    found.add_argument(
        "--codec", default="selective_detail:realistic", metavar="selective_detail[:PRESET or checkpoint]"
    )
    found.add_argument(
        "--regions",
        type=Path,
        metavar="DIR",
        help="maps t_a, PNG by the pictures' names (default: annotator)",
    )
    return found


def opened(which: str) -> SelectiveDetailCodec:
    """The codec; `ConfigError` where it is another paper's."""
    codec = open_codec(which)
    if not isinstance(codec, SelectiveDetailCodec):
        raise ConfigError(f"this is a table of selective_detail, not of {which!r}")
    return codec


def masked(which: str) -> SelectiveDetailCodec:
    """The codec; `ConfigError` where it has no detail decoder, and so no mask."""
    codec = opened(which)
    if codec.system.G_s is None:
        raise ConfigError(
            f"{which} has no detail decoder: give weights that have, e.g. selective_detail:small"
        )
    return codec


def measures(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Those of `WANTED` that can be had here, and a line about each of the others."""
    why_not = worker.unavailable(WANTED, options.regions is not None, BACKBONE)
    found = [name for name in WANTED if name not in why_not]
    return found, [f"{name} is unavailable: {reason}" for name, reason in why_not.items()]


def measured(
    options: argparse.Namespace, tasks: Sequence[Task], networks: Sequence[str] = ()
) -> list[ImageResult]:
    """Every task, in order; files and decoded pictures are kept in the folder ``files`` of ``--out``."""
    store, files = options.out / "measured", options.out / "files"
    where = options.regions if "regions" in networks else None
    with WorkerPairs(options.devices, options.threads) as workers:
        return measure_files(
            tasks, workers, networks=networks, regions=where, store=store, save_decoded=files
        )


def t_a(options: argparse.Namespace, item: ImageItem, image: Image) -> np.ndarray:
    """bool H×W, true on faces and text."""
    return regions.region(image, None if options.regions is None else label_file(options.regions, item.name))


def rows_table(title: str, rows: Sequence[tuple[str, Sequence[ImageResult]]]) -> str:
    """Markdown: a row of means for each, of the columns that some row has."""
    means = {name: Means.of(list(results)) for name, results in rows}
    columns = [
        m for m in MEASURES if m.key in SHOWN and any(getattr(v, m.key) is not None for v in means.values())
    ]
    lines = [
        [name, number(mean.bpp, 4), *(number(getattr(mean, m.key), m.digits) for m in columns)]
        for name, mean in means.items()
    ]
    return table([title, "bpp", *(m.title for m in columns)], lines)
