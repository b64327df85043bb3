"""The figure of ablative compression: original, what is kept, the reconstruction, and JPEG at the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eval.metrics import measure
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Codec, Image
from lightning_modules.ppgn_inpainting.schemes import Parameters
from lightning_modules.registry import open_codec

_ROWS = (
    ("central square", {"scheme": "square"}),
    ("random pixels", {"scheme": "pixels"}),
    ("edge pixels", {"scheme": "edges"}),
    ("blocks near edges", {"scheme": "blocks"}),
    ("blocks + random", {"scheme": "blocks_random"}),
    ("thumbnail", {"scheme": "thumbnail"}),
)


def draw(codec: Codec, image: Image, name: str, steps: int, path: Path) -> None:
    """One row a scheme, each at the bytes of the picture's JPEG of quality 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    jpeg = open_codec("jpeg")
    data = jpeg.encode(image, 1)
    titled = (f"JPEG 1, {len(data)} bytes", jpeg.decode(data))
    bpp = (8 * len(data) + 0.5) / (image.shape[0] * image.shape[1])
    figure, axes = plt.subplots(len(_ROWS), 5, figsize=(15, 3.2 * len(_ROWS)), layout="constrained")
    for axis, (title, options) in zip(axes, _ROWS, strict=True):
        files = [codec.encode(image, bpp, **options)]
        if options["scheme"] != "thumbnail":
            files.append(codec.encode(image, bpp, steps=steps, **options))
        shown = [(f"{name}, original", image), (f"{title}, kept", _kept(codec, files[0]))]
        for label, file in zip(("feed-forward", f"PPGN, {steps} steps"), files, strict=False):
            shown.append((f"{label}, {len(file)} bytes", codec.decode(file)))
        shown += [titled] + [("", np.full_like(image, 255))] * (4 - len(shown))
        for place, (label, picture) in zip(axis, shown, strict=True):
            ssim = measure(image, picture).ssim if label and "kept" not in label else None
            place.imshow(picture)
            place.set_title(label + (f", {ssim:.3f}" if ssim is not None and ssim < 1 else ""), fontsize=9)
            place.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _kept(codec: Codec, data: bytes) -> Image:
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
