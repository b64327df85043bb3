"""The figure of extreme semantic compression: original, maps, GC, SC, and HEVC at equal and at twice the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genic.experiments.paper_tables.common import save_figure, show
from genic.experiments.paper_tables.extreme_semantic.scenes import Pictures, Row
from genic.lightning_modules.codec.errors import ConfigError, needs
from genic.lightning_modules.extreme_semantic.codec import ExtremeSemanticCodec

SYNTHESISED = "road,building,sky"


def draw(
    codec: ExtremeSemanticCodec, pictures: Pictures, name: str | None, best: Mapping[str, Row], out: Path
) -> None:
    """``figure.png`` in ``out``.

    Args:
        name: of the picture; None for the one in the middle.
        best: GC's row at the largest C, and HEVC's within its bytes and within twice as many, by scheme.
    """
    with needs("eval"):
        from matplotlib.figure import Figure

    names = list(pictures.images)
    name = names[len(names) // 2] if name is None else name
    if name not in pictures.images:
        raise ConfigError(f"{pictures.name} has no picture {name!r}; the first is {names[0]}")
    image, labels = pictures.images[name], pictures.labels[name]
    gc, hevc, twice = (best[scheme].files[name] for scheme in ("GC", "HEVC", "HEVC, twice"))
    sc = codec.encode(image, labels=labels, synthesise=SYNTHESISED)
    found = codec.semantic_map(sc)
    stride = codec.config.map_stride
    heat = np.ones(image.shape[:2], bool)
    if found is not None:
        heat = (found == len(codec.config.classes)).repeat(stride, 0).repeat(stride, 1)
    panels = (
        ("original", image),
        ("label map", labels),
        (f"heat map ({SYNTHESISED} synthesised)", heat[: image.shape[0], : image.shape[1]]),
        (f"GC, {len(gc.data)} bytes", gc.picture),
        (f"SC, {len(sc)} bytes, map included", codec.decode(sc)),
        (f"HEVC, {len(hevc.data)} bytes", hevc.picture),
        (f"HEVC, {len(twice.data)} bytes", twice.picture),
    )
    figure = Figure(figsize=(16, 6.6), layout="constrained")
    axes = figure.subplots(2, 4).flatten()
    axes[-1].set_axis_off()
    for axis, (title, picture) in zip(axes, panels, strict=False):
        flat = {"cmap": "tab20" if picture.dtype != bool else "gray", "interpolation": "nearest"}
        show(axis, title, picture, **(flat if picture.ndim == 2 else {}))
    save_figure(figure, out / "figure.png", 80)
