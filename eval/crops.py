"""A sheet of crops: one picture by several codecs at equal bytes, true to the pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genic.datamodules.images import ImageItem, read_image
from genic.eval.metrics import available
from genic.eval.runner import Task, WorkerPairs, measure_files

TITLE, LINE, GAP = 20, 22, 6
"""Pixels: of a label's type, of a line of it, between crops."""


def at_equal_bytes(
    item: ImageItem,
    first: Task,
    rivals: Mapping[str, str],
    box: tuple[int, int, int, int],
    title: str,
    columns: int = 3,
) -> Image.Image:
    """The original, a codec, and others at their best within its bytes; whole files, figures of the whole picture.

    Args:
        item: the picture. first: of it, whose bytes the others get.
        rivals: codec by title.
        box: left, top, right, bottom of the crop in pixels.
        title: of ``first``.
    """
    networks = available("lpips_alex")
    with TemporaryDirectory() as folder, WorkerPairs() as workers:
        how = {"networks": networks, "save_decoded": Path(folder)}
        [found] = measure_files([first], workers, **how)
        tasks = [Task(item, codec, target_bytes=found.bytes) for codec in rivals.values()]
        results = [found, *measure_files(tasks, workers, **how)]
        panels = [("original", "", item.read())]
        for name, task, result in zip([title, *rivals], [first, *tasks], results, strict=True):
            figures = f"{result.bpp:.3f} bpp, PSNR {result.psnr_rgb:.1f} dB"
            if result.lpips_alex is not None:
                figures = f"{result.bpp:.3f} bpp, LPIPS {result.lpips_alex:.3f}, {result.psnr_rgb:.1f} dB"
            panels.append((name, figures, read_image(task.saved(Path(folder)))))
    left, top, right, bottom = box
    crops = [(name, text, picture[top:bottom, left:right]) for name, text, picture in panels]
    return sheet(crops, columns)


def sheet(panels: Sequence[tuple[str, str, np.ndarray]], columns: int) -> Image.Image:
    """Pictures of one size in rows, each below its title and a line of text, on white; RGB, pixels as they are."""
    height, width = panels[0][2].shape[:2]
    rows = -(-len(panels) // columns)
    across, down = width + GAP, height + 2 * LINE + GAP
    page = Image.new("RGB", (columns * across - GAP, rows * down - GAP), "white")
    pen = ImageDraw.Draw(page)
    for k, (title, text, picture) in enumerate(panels):
        x, y = k % columns * across, k // columns * down
        pen.text((x, y), title, "black", ImageFont.load_default(TITLE))
        pen.text((x, y + LINE), text, "#444444", ImageFont.load_default(TITLE - 4))
        page.paste(Image.fromarray(picture), (x, y + 2 * LINE))
    return page
