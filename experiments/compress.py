"""Compress pictures.

::

    python -m experiments.compress selective_detail:small photo.png -o out
    python -m experiments.compress jpeg holiday -o out --quality 40 --jobs 2
    python -m experiments.compress hyperprior holiday -o out --batch 8       # pictures of one size together
    python -m experiments.compress hevc photo.png -o out --bpp 0.15          # or --bytes 5000: never more
    python -m experiments.compress hevc photo.png -o out --psnr 32           # or --ms-ssim-db 13: never less
    python -m experiments.compress extreme_semantic street.png -o out --set labels=map.png --set preserve=car

Each picture ``NAME.ext`` becomes ``OUT/NAME.gnc``, those of a folder with its tree; `experiments.decompress` undoes it.
``compress CODEC --help`` lists what the codec can be told. What a picture has beyond 8 bits of sRGB is converted as a
viewer shows it, and said once; ``--strict`` refuses instead, ``--alpha`` keeps transparency.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

from genic.datamodules.images import image_size, list_images
from genic.experiments.codecs import describe
from genic.experiments.command import command, make_parser, program
from genic.experiments.convert import (
    SUFFIX,
    add_options,
    compress_files,
    convert,
    gather,
    open_once,
    plan,
    settings,
)
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import ConfigError, GenicError

TELL = 10.0
"""Seconds of work, as far as they can be foretold, from which they are told beforehand."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where a picture could not be compressed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(arguments).parse_args(arguments)
    wanted = (options.bytes, options.bpp, options.psnr, options.ms_ssim_db)
    if options.batch > 1 and (options.set or options.alpha or any(target is not None for target in wanted)):
        raise ConfigError(
            "--batch goes with --quality alone: each picture's target, map or transparency is its own"
        )
    codec = open_once(options.codec)
    names = gather(
        options.inputs, "pictures", lambda folder: [Path(item.path) for item in list_images(folder)]
    )
    settings(codec.options(), options.set, next(iter(names)))  # what is wrong with them is wrong with all
    targets = plan(names, options.output, SUFFIX, options.force)
    _foretell(codec, options, list(targets))
    return convert(targets, partial(compress_files, options), options.jobs, options.batch)


def _foretell(codec: Codec, options: argparse.Namespace, sources: Sequence[Path]) -> None:
    """Say how long it takes where the codec knows, and it is long."""
    seconds = 0.0
    for source in sources:
        with suppress(GenicError):  # it is told of when its turn comes
            height, width = image_size(source)
            bpp = 8 * options.bytes / (height * width) if options.bytes else options.bpp or options.quality
            seconds += (
                codec.seconds(height, width, bpp, **settings(codec.options(), options.set, source)) or 0.0
            )
    if seconds / options.jobs >= TELL:
        time, count = timedelta(seconds=round(seconds / options.jobs)), len(sources)
        pictures = f"{count} picture{'s' * (count > 1)}"
        faster = f"{program('compress')} {options.codec} --help tells options, of which some are faster"
        print(f"{options.codec} takes about {time} for {pictures}; {faster}", file=sys.stderr)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = make_parser("compress", __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", metavar="CODEC", help="jpeg, hevc, …, or PAPER[:PRESET or checkpoint]")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures, or folders of them")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--quality", type=float, metavar="Q", help="on the codec's own scale")
    wanted.add_argument("--bytes", type=int, metavar="N", help="the best file of at most N bytes")
    wanted.add_argument("--bpp", type=float, metavar="R", help="the best file of at most R bits per pixel")
    wanted.add_argument("--psnr", type=float, metavar="DB", help="the least file that reaches this PSNR")
    wanted.add_argument(
        "--ms-ssim-db", type=float, metavar="DB", help="the least file that reaches −10·log10(1 − MS-SSIM)"
    )
    parser.add_argument("--alpha", action="store_true", help="keep transparency, without loss")
    parser.add_argument(
        "--strict", action="store_true", help="refuse what would lose transparency, 16 bits, a profile, …"
    )
    add_options(parser)
    parser.epilog = (
        f"CODEC --help tells a codec's qualities and options; {program('codecs')} lists all codecs."
    )
    if {"-h", "--help"} & set(arguments) and not arguments[0].startswith("-"):
        parser.epilog = describe(arguments[0], open_once(arguments[0]))
    return parser


if __name__ == "__main__":
    sys.exit(main())
