"""Where the time goes: the parts of a paper's codec, in seconds a picture by the clock and of the processor.

::

    python -m experiments.timing gdae_sprc --data kodak --limit 4

On a machine that is busy with other work the processor's seconds are the ones to believe.

What the slides leave as future work: encoder, quantiser, lossless coders, decoder, heat map and residual.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from eval.provenance import provenance
from experiments.evaluate import pictures
from lightning_modules.classical import ycbcr
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Image
from lightning_modules.codec.errors import ConfigError, GenicError
from lightning_modules.gdae_sprc.codec import STRENGTH, GdaeSprcCodec
from lightning_modules.gdae_sprc.residual import cell_means, decode_residual, encode_residual, qp_map
from lightning_modules.registry import open_codec

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
    qp = qp_map(quality, cell_means(heat), STRENGTH)
    difference = ycbcr.from_rgb(image).astype(np.int16) - ycbcr.from_rgb(x_hat)
    stream = timed("residual to HEVC", lambda: encode_residual(difference, qp))
    timed("residual from HEVC", lambda: decode_residual(stream, height, width))
    data = timed("whole encode", lambda: codec.encode(image, quality, level=level))
    timed("whole decode", lambda: codec.decode(data))
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.timing", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("codec", metavar="PAPER[:PRESET or checkpoint]", help="gdae_sprc")
    parser.add_argument("--level", type=float, default=0.0, help="of the latents (default: 0)")
    parser.add_argument("--quality", type=float, default=15.0, help="of the residual (default: 15)")
    parser.add_argument("--data", default="kodak", help="data set (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, default=4, metavar="K", help="the first K pictures (default: 4)")
    parser.add_argument("--threads", type=int, default=1, metavar="T")
    options = parser.parse_args(arguments)
    try:
        if options.codec.partition(":")[0] != "gdae_sprc":
            raise ConfigError(f"no timing of {options.codec!r}: there is gdae_sprc")
        torch.set_num_threads(options.threads)
        codec = open_codec(options.codec)
        _, items = pictures(options.data, options.root, options.limit)
        images = [item.read() for item in items]
        part_seconds(codec, images[0], options.level, options.quality)  # imports and allocations
        runs = [part_seconds(codec, image, options.level, options.quality) for image in images]
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    machine = provenance(options.threads, 1).machine
    print(f"medians of {len(images)} pictures, {options.threads} thread(s), {machine}\n")
    print("| part | s | processor, s |\n|---|---:|---:|")
    for part in runs[0]:
        clock, processor = (statistics.median(run[part][k] for run in runs) for k in range(2))
        print(f"| {part} | {clock:.3f} | {processor:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
