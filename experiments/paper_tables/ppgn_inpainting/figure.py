"""The figure: each scheme's pixels and fillings, all in the bytes of the picture's JPEG of quality 1.

::

    python -m experiments.tables ppgn_inpainting figure --picture kodim04 --steps 20
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genic.eval.metrics import measure
from genic.experiments.paper_tables.common import log_figure, pictures, save_figure, show
from genic.experiments.paper_tables.ppgn_inpainting.common import CROP, codec_name, crop, parser
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import needs
from genic.lightning_modules.ppgn_inpainting.codec import PpgnInpaintingCodec
from genic.lightning_modules.ppgn_inpainting.schemes import Parameters
from genic.lightning_modules.registry import open_codec

_SCHEMES = {
    "central square": "square",
    "random pixels": "pixels",
    "edge pixels": "edges",
    "blocks near edges": "blocks",
    "blocks + random": "blocks_random",
}


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
    log_figure(options, "ppgn_inpainting-figure", path)
    return 0


def draw(codec: PpgnInpaintingCodec, image: Image, name: str, steps: int, path: Path) -> None:
    """First the original, its JPEG of quality 1 and a thumbnail, then a column a scheme, within that JPEG's bytes."""
    with needs("eval"):
        from matplotlib.figure import Figure

    jpeg = open_codec("jpeg")
    data = jpeg.encode(image, 1)
    thumbnail = codec.encode(image, target_bytes=len(data), scheme="thumbnail")
    columns = [
        [
            (f"{name}, original", image),
            (f"JPEG 1, {len(data)} bytes", jpeg.decode(data)),
            (f"thumbnail, {len(thumbnail)} bytes", codec.decode(thumbnail)),
        ]
    ]
    for title, scheme in _SCHEMES.items():
        plain = codec.encode(image, target_bytes=len(data), scheme=scheme)
        sampled = codec.encode(image, target_bytes=len(data), scheme=scheme, steps=steps)
        columns.append(
            [
                (f"{title}, kept", _kept(codec, plain)),
                (f"feed-forward, {len(plain)} bytes", codec.decode(plain)),
                (f"PPGN, {steps} steps, {len(sampled)} bytes", codec.decode(sampled)),
            ]
        )
    figure = Figure(figsize=(2.66 * len(columns), 8.7), layout="constrained")
    for axes, panels in zip(figure.subplots(3, len(columns)).T, columns, strict=True):
        for place, (label, picture) in zip(axes, panels, strict=True):
            ssim = measure(image, picture).ssim if "kept" not in label else None
            show(place, label + (f", {ssim:.3f}" if ssim is not None and ssim < 1 else ""), picture)
            place.title.set_fontsize(8)
    save_figure(figure, path, 100)


def _kept(codec: PpgnInpaintingCodec, data: bytes) -> Image:
    """What the file holds of the picture, the rest in black."""
    container = Container.from_bytes(data)
    size, sections = (container.height, container.width), container.sections
    mask, image = codec.kept_pixels(Parameters.from_bytes(sections["parameters"], *size), sections, *size)
    return np.where(mask[..., None], image, np.uint8(0))
