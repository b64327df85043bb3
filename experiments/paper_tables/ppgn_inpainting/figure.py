"""The figure: original, what is kept, the reconstruction, and JPEG at the same bytes.

::

    python -m experiments.tables ppgn_inpainting figure --picture kodim04 --steps 20
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genic.eval.metrics import measure
from genic.experiments.paper_tables.common import save_figure, show
from genic.experiments.paper_tables.ppgn_inpainting.common import CROP, codec_name, crop, parser, pictures
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import needs
from genic.lightning_modules.ppgn_inpainting.codec import PpgnInpaintingCodec
from genic.lightning_modules.ppgn_inpainting.schemes import Parameters
from genic.lightning_modules.registry import open_codec

_ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("central square", {"scheme": "square"}),
    ("random pixels", {"scheme": "pixels"}),
    ("edge pixels", {"scheme": "edges"}),
    ("blocks near edges", {"scheme": "blocks"}),
    ("blocks + random", {"scheme": "blocks_random"}),
    ("thumbnail", {"scheme": "thumbnail"}),
)


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables ppgn_inpainting figure``; returns the exit status."""
    found = parser("figure", __doc__)
    found.add_argument("--picture", default="kodim04", metavar="NAME", help="the one to draw, else the first")
    found.add_argument("--crop", type=int, default=CROP, metavar="N", help=f"its side (default: {CROP})")
    found.add_argument("--steps", type=int, default=20, metavar="N", help="of sampling (default: 20)")
    options = found.parse_args(arguments)
    items = pictures(options)
    item = next((item for item in items if Path(item.name).stem == options.picture), items[0])
    path = options.out / "figure.png"
    image = crop(item, options.crop).image
    codec = open_codec(codec_name(options))
    assert isinstance(codec, PpgnInpaintingCodec)
    draw(codec, image, Path(item.name).stem, options.steps, path)
    print(path)
    if options.wandb:
        from genic.experiments import dashboard

        with dashboard.opened("tables", options.out, "ppgn_inpainting-figure", {"picture": item.name}) as run:
            dashboard.log_figure(run, "ppgn_inpainting-figure", path)
    return 0


def draw(codec: PpgnInpaintingCodec, image: Image, name: str, steps: int, path: Path) -> None:
    """One row a scheme, each at the bytes of the picture's JPEG of quality 1."""
    with needs("eval"):
        from matplotlib.figure import Figure

    jpeg = open_codec("jpeg")
    data = jpeg.encode(image, 1)
    titled, budget = (f"JPEG 1, {len(data)} bytes", jpeg.decode(data)), {"target_bytes": len(data)}
    figure = Figure(figsize=(15, 3.2 * len(_ROWS)), layout="constrained")
    for row, (title, options) in zip(figure.subplots(len(_ROWS), 5), _ROWS, strict=True):
        files = [codec.encode(image, **budget, **options)]
        if options["scheme"] != "thumbnail" and steps:
            files.append(codec.encode(image, **budget, steps=steps, **options))
        shown = [(f"{name}, original", image), (f"{title}, kept", _kept(codec, files[0]))]
        for label, file in zip(("feed-forward", f"PPGN, {steps} steps"), files, strict=False):
            shown.append((f"{label}, {len(file)} bytes", codec.decode(file)))
        shown += [titled] + [("", np.full_like(image, 255))] * (4 - len(shown))
        for axes, (label, picture) in zip(row, shown, strict=True):
            ssim = measure(image, picture).ssim if label and "kept" not in label else None
            show(axes, label + (f", {ssim:.3f}" if ssim is not None and ssim < 1 else ""), picture)
            axes.title.set_fontsize(9)
    save_figure(figure, path, 80)


def _kept(codec: PpgnInpaintingCodec, data: bytes) -> Image:
    """What the file holds of the picture, the rest in black; a thumbnail as it is, in a corner."""
    container = Container.from_bytes(data)
    size, sections = (container.height, container.width), container.sections
    p = Parameters.from_bytes(sections["parameters"], *size)
    if p.scheme == "thumbnail":
        small = codec.decoded_thumbnail(p, sections, *size)
        out = np.zeros((*size, 3), np.uint8)
        out[: small.shape[0], : small.shape[1]] = small
        return out
    mask, image = codec.kept_pixels(p, sections, *size)
    return np.where(mask[..., None], image, np.uint8(0))
