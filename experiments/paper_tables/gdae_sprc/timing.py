"""Where the time goes: the parts of the codec, in seconds a picture by the clock and of the processor.

::

    python -m experiments.tables gdae_sprc timing --data kodak --limit 4

On a machine that is busy with other work the processor's seconds are the ones to believe.

What the slides leave as future work: encoder, quantiser, lossless coders, decoder, heat map and residual.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from genic.eval.tables import number, table
from genic.experiments.evaluate import pictures
from genic.experiments.paper_tables.gdae_sprc.common import codec_parser, opened, save
from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from genic.lightning_modules.gdae_sprc.residual import cell_means, decode_residual, encode_residual, qp_map

T = TypeVar("T")


class Seconds(NamedTuple):
    """By the clock, and of this process on its processors."""

    clock: float
    processor: float


def part_seconds(codec: GdaeSprcCodec, image: Image, level: float, quality: float) -> dict[str, Seconds]:
    """Seconds of every part on one picture, and of a whole encode and decode at that level and quality."""
    seconds: dict[str, Seconds] = {}

    def timed(part: str, work: Callable[[], T]) -> T:
        begin, used = time.perf_counter(), time.process_time()
        result = work()
        seconds[part] = Seconds(time.perf_counter() - begin, time.process_time() - used)
        return result

    height, width = image.shape[:2]
    with torch.inference_mode():
        z = torch.zeros(1, codec.config.latents, *(-(-s // codec.config.stride) for s in (height, width)))
        latents = timed("encoder and quantiser", lambda: codec.analyse(image, level))
        timed("of which quantiser", lambda: codec.system.Q.index(z))
    timed("latents to JPEG XL", lambda: codec.latent_sections(latents, "jpeg_xl"))
    learned = timed("latents to the learned coder", lambda: codec.latent_sections(latents, "learned"))
    container = Container(codec.id, height, width, learned, codec.weights_id)
    timed("latents from the learned coder", lambda: codec.read_latents(container))
    x_hat = timed("decoder", lambda: codec.synthesise(latents, height, width))
    heat = timed("heat map", lambda: codec.heat(image))
    if heat is None:
        del seconds["heat map"]
        heat = np.zeros((height, width), np.float32)
    qp = qp_map(quality, cell_means(heat), codec.coding.strength)
    difference = ycbcr.from_rgb(image).astype(np.int16) - ycbcr.from_rgb(x_hat)
    stream = timed("residual to HEVC", lambda: encode_residual(difference, qp))
    timed("residual from HEVC", lambda: decode_residual(stream, height, width))
    data = timed("whole encode", lambda: codec.encode(image, quality, level=level))
    timed("whole decode", lambda: codec.decode(data))
    return seconds


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables gdae_sprc timing``; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    codec = opened(options.codec)
    data, items = pictures(options.data, options.root, options.limit)
    images = [item.read() for item in items]
    part_seconds(codec, images[0], options.level, options.quality)  # imports and allocations
    runs = [part_seconds(codec, image, options.level, options.quality) for image in images]
    seconds = {part: Seconds(*np.median([run[part] for run in runs], axis=0).tolist()) for part in runs[0]}
    rows = [[part, number(s.clock, 3), number(s.processor, 3)] for part, s in seconds.items()]
    text = f"Medians of {len(images)} pictures, {options.threads} thread(s).\n\n"
    text += table(["part", "s", "processor, s"], rows)
    save(options, data, "timing", text, {part: s._asdict() for part, s in seconds.items()})
    return 0


def _parser() -> argparse.ArgumentParser:
    found = codec_parser("timing", __doc__)
    found.set_defaults(limit=4)
    found.add_argument("--level", type=float, default=0.0, help="of the latents (default: 0)")
    found.add_argument("--quality", type=float, default=15.0, help="of the residual (default: 15)")
    return found
