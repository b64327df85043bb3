"""The figure: original, GC and SC beside HEVC at equal and at twice the bytes, and what SC sends.

::

    python -m experiments.tables extreme_semantic figure --picture 0001TP_008550
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genic.datamodules.images import read_image, read_label
from genic.eval.runner import Task, WorkerPairs, measure_files
from genic.experiments.evaluate import dataset
from genic.experiments.paper_tables.common import log_figure, parser, save_figure, show, within_or_smallest
from genic.lightning_modules.codec.errors import ConfigError, needs
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec
from genic.lightning_modules.registry import open_codec

SYNTHESISED = "road,building,sky"


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables extreme_semantic figure``; returns the exit status."""
    kinds = {"default": "camvid", "choices": ["camvid"], "help": "pictures with label maps (default: camvid)"}
    found = parser("extreme_semantic", "figure", __doc__, **kinds)
    found.add_argument("--weights", default="small", help="preset, file or run")
    found.add_argument("--picture", metavar="NAME", help="the one to draw (default: the one in the middle)")
    options = found.parse_args(arguments)
    module, items = dataset(options.data, options.root)
    names = [Path(item.name).stem for item in items]
    name = options.picture or names[len(names) // 2]
    if name not in names:
        raise ConfigError(f"{options.data} has no picture {name!r}; the first is {names[0]}")
    item = items[names.index(name)]
    which = f"extreme_semantic:{options.weights}"
    codec, path, files = open_codec(which), options.out / "figure.png", options.out / "files"
    assert isinstance(codec, ExtremeSemanticCodec)
    how: dict[str, Any] = {"store": options.out / "measured", "save_decoded": files}
    labels = read_label(module.label_path("semantic", item.name))
    ours = [
        Task(item, which, codec.qualities[-1]),
        Task(item, which, options={"labels": labels, "synthesise": SYNTHESISED}),
    ]
    with WorkerPairs(options.devices, options.threads) as workers:
        size = measure_files(ours, workers, **how)[0].bytes
        limits = [Task(item, "hevc", target_bytes=factor * size) for factor in (1, 2)]
        hevc = within_or_smallest(limits, workers, **how)
        measure_files(hevc, workers, **how)
    draw(codec, item.read(), [task.saved(files) for task in (*ours, *hevc)], path)
    print(path)
    log_figure(options, "extreme_semantic-figure", path)
    return 0


def draw(codec: ExtremeSemanticCodec, image: np.ndarray, saved: Sequence[Path], path: Path) -> None:
    """Six panels of the picture [H, W, 3].

    Args:
        saved: decoded pictures, files beside them: GC at the largest C, SC, HEVC within GC's bytes and within twice.
    """
    with needs("eval"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure

    files = [found.with_suffix(".gnc").read_bytes() for found in saved]
    (gc, sc, equal, twice), decoded = map(len, files), [read_image(found) for found in saved]
    found, stride = codec.semantic_map(files[1]), codec.config.map_stride
    sent = image
    if found is not None:
        found = found.repeat(stride, 0).repeat(stride, 1)[: image.shape[0], : image.shape[1]]
        colours = colormaps["tab20"](found, bytes=True)[..., :3]
        sent = np.where((found == len(codec.config.classes))[..., None], image, colours)
    panels = (
        ("original", image),
        (f"GC, {gc} bytes", decoded[0]),
        (f"HEVC, {equal} bytes", decoded[2]),
        (f"what SC sends: of {SYNTHESISED.replace(',', ', ')} labels", sent),
        (f"SC, {sc} bytes, map included", decoded[1]),
        (f"HEVC, {twice} bytes", decoded[3]),
    )
    figure = Figure(figsize=(14.6, 7.7), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        show(axes, title, picture)
    save_figure(figure, path, 84)
