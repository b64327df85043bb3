"""The figure: original, GC and SC beside HEVC at equal and at twice the bytes, and what SC sends.

::

    python -m experiments.tables extreme_semantic figure --picture 0001TP_008550
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genic.datamodules.images import read_label
from genic.experiments.evaluate import dataset
from genic.experiments.paper_tables.common import log_figure, parser, save_figure, show
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import ConfigError, TargetError, needs
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
    codec = open_codec(f"extreme_semantic:{options.weights}")
    assert isinstance(codec, ExtremeSemanticCodec)
    path = options.out / "figure.png"
    draw(codec, item.read(), read_label(module.label_path("semantic", item.name)), path)
    print(path)
    log_figure(options, "extreme_semantic-figure", path)
    return 0


def draw(codec: ExtremeSemanticCodec, image: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Six panels of the picture [H, W, 3] with its label map [H, W]; GC is at the largest C."""
    with needs("eval"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure

    hevc = open_codec("hevc")
    gc = codec.encode(image, codec.qualities[-1])
    equal, twice = (_within(hevc, image, factor * len(gc)) for factor in (1, 2))
    sc = codec.encode(image, labels=labels, synthesise=SYNTHESISED)
    found, stride = codec.semantic_map(sc), codec.config.map_stride
    sent = image
    if found is not None:
        found = found.repeat(stride, 0).repeat(stride, 1)[: image.shape[0], : image.shape[1]]
        colours = colormaps["tab20"](found, bytes=True)[..., :3]
        sent = np.where((found == len(codec.config.classes))[..., None], image, colours)
    panels = (
        ("original", image),
        (f"GC, {len(gc)} bytes", codec.decode(gc)),
        (f"HEVC, {len(equal)} bytes", hevc.decode(equal)),
        (f"what SC sends: of {SYNTHESISED.replace(',', ', ')} labels", sent),
        (f"SC, {len(sc)} bytes, map included", codec.decode(sc)),
        (f"HEVC, {len(twice)} bytes", hevc.decode(twice)),
    )
    figure = Figure(figsize=(14.6, 7.7), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        show(axes, title, picture)
    save_figure(figure, path, 84)


def _within(codec: Codec, image: np.ndarray, limit: int) -> bytes:
    """The best file of at most so many bytes; the smallest where none is."""
    try:
        return codec.encode(image, target_bytes=limit)
    except TargetError as error:
        return codec.encode(image, target_bytes=int(error.best))
