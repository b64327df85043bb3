"""The viewer's dial: distortion against LPIPS of the same files as the mask is scaled, 0 (x̂_m) to 2 (x̂_s).

After Agustsson, Minnen, Toderici, Mentzer, *Multi-Realism Image Compression with a Conditional Generator*, CVPR 2023,
figure 1, where a decoder takes the weight of realism. Here the file does not change either, but both ends are networks
of their own, and the way between them is a blend of pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genic.eval.runner import Task
from genic.eval.schema import Means
from genic.experiments.command import listed
from genic.experiments.paper_tables.common import pictures, save, save_figure
from genic.experiments.paper_tables.selective_detail.common import (
    masked,
    measured,
    measures,
    parser,
    rows_table,
)
from genic.lightning_modules.codec.errors import needs


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables selective_detail dial``; returns the exit status."""
    found = parser("dial", __doc__)
    found.add_argument("--qualities", type=listed(float), metavar="A,B,…", help="default: the codec's sweep")
    found.add_argument(
        "--details",
        type=listed(float),
        default=[0, 0.5, 1, 1.5, 2],
        metavar="A,B,…",
        help="default: 0,0.5,1,1.5,2",
    )
    options = found.parse_args(arguments)
    codec, items, (networks, notes) = masked(options.codec), pictures(options), measures(options)
    text = [f"# The dial of {options.codec}, {len(items)} pictures of {options.data}"]
    record: dict[str, dict[str, Means]] = {}
    for quality in options.qualities or codec.qualities:
        tasks = [
            Task(item, options.codec, quality, decoding={"detail": detail})
            for item in items
            for detail in options.details
        ]
        results = measured(options, tasks, networks)
        rows = [(f"{d:g}", results[k :: len(options.details)]) for k, d in enumerate(options.details)]
        text += [f"Quality {quality:g}:", rows_table("detail", rows)]
        record[f"{quality:g}"] = {name: Means.of(list(found)) for name, found in rows}
    text += [*notes, f"{options.codec}: {codec.weights_id.hex()}"]
    if "lpips_alex" in networks:
        draw(record, options.out / "dial.png")
    save(options, "dial", "\n\n".join(text), {"weights": codec.weights_id.hex(), "qualities": record})
    return 0


def draw(curves: dict[str, dict[str, Means]], path: Path) -> None:
    """A line a quality: PSNR to the right, LPIPS upwards, lower is better; a mark at each place of the dial."""
    with needs("eval"):
        from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for means in curves.values():
        points = [(mean.psnr_rgb, mean.lpips_alex) for mean in means.values()]
        bpp = next(iter(means.values())).bpp
        (line,) = axes.plot(*zip(*points, strict=True), marker="o")
        for name, point in zip(means, points, strict=True):
            axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=7)
        axes.annotate(
            f"{bpp:.3f} bpp",
            points[-1],
            xytext=(8, -4),
            textcoords="offset points",
            color=line.get_color(),
        )
    axes.set_xlabel("PSNR (RGB), dB")
    axes.set_ylabel("LPIPS (Alex), lower is better")
    axes.margins(x=0.12)
    axes.grid(True, color="#e4e4e4")
    save_figure(figure, path, 150)
