"""Compress pictures.

::

    python -m experiments.compress selective_detail:small photo.png -o out
    python -m experiments.compress jpeg holiday/*.png -o out --quality 40
    python -m experiments.compress hevc photo.png -o out --bpp 0.15          # or --bytes 5000: never more
    python -m experiments.compress hevc photo.png -o out --psnr 32           # or --ms-ssim-db 13: never less

Each picture ``NAME.ext`` becomes ``OUT/NAME.gnc``; `experiments.decompress` undoes it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from genic.datamodules.images import list_images, read_image
from genic.experiments.command import command, make_parser, print_error
from genic.lightning_modules.codec.contract import Codec, Image, bits_per_pixel
from genic.lightning_modules.codec.errors import ConfigError, DataError, GenicError, ImageError, TargetError
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.codec.rate_control import Found, budget, reaching
from genic.lightning_modules.registry import open_codec

SUFFIX = ".gnc"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where a picture could not be compressed."""
    options = _parser().parse_args(arguments)
    codec = open_codec(options.codec)

    def compress(source: Path, target: Path) -> None:
        image = read_image(source)
        data, quality = _encode(codec, image, options)
        write_atomic(target, data)
        at = "" if quality is None else f"  quality {quality:.6g}"
        print(f"{target}  {len(data)} bytes  {bits_per_pixel(data, image):.4f} bpp{at}")

    return convert(plan(gather(options.inputs), options.output, SUFFIX, options.force), compress)


def convert(targets: Mapping[Path, Path], work: Callable[[Path, Path], None]) -> int:
    """``work(source, target)`` for each; what is wrong with one is printed, and the exit status is then 2."""
    failed = False
    for source, target in targets.items():
        try:
            work(source, target)
        except GenicError as error:
            if isinstance(error, ConfigError) and not isinstance(error, TargetError):
                raise  # an option: no picture would do better
            print_error(f"{source}: {error}")
            failed = True
    return 2 if failed else 0


def gather(inputs: Sequence[Path]) -> list[Path]:
    """Files as given, folders as the pictures below them.

    Raises:
        DataError: something is not there, or a folder has no picture.
    """
    found: list[Path] = []
    for path in inputs:
        if not path.exists():
            raise DataError(f"no file {path}")
        inside = [Path(item.path) for item in list_images(path)] if path.is_dir() else [path]
        if not inside:
            raise DataError(f"no pictures in {path}")
        found += inside
    return found


def plan(sources: Sequence[Path], output: Path, suffix: str, force: bool) -> dict[Path, Path]:
    """Where each source's result goes.

    Raises:
        ConfigError: two would share a target, or a target exists and may not be replaced.
    """
    targets = {source: output / (source.stem + suffix) for source in sources}
    shared = [str(target) for target, count in Counter(targets.values()).items() if count > 1]
    if shared:
        raise ConfigError(
            f"several inputs would become {', '.join(shared)}: give them one at a time, or rename"
        )
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is not a folder: give another -o")
    existing = [str(target) for target in targets.values() if target.exists()]
    if existing and not force:
        raise ConfigError(f"{', '.join(existing)} would be overwritten: give --force, or another -o")
    return targets


def _encode(codec: Codec, image: Image, options: argparse.Namespace) -> Found:
    """The file that the options ask for, and its quality."""
    if options.bytes is not None or options.bpp is not None:
        return codec.encode_within(image, budget(*image.shape[:2], options.bytes, options.bpp))
    if options.psnr is not None or options.ms_ssim_db is not None:
        return _reaching(codec, image, options)
    quality = codec.default_quality if options.quality is None else options.quality
    return Found(codec.encode(image, quality), quality)


def _reaching(codec: Codec, image: Image, options: argparse.Namespace) -> Found:
    from genic.eval import metrics  # imports torch, which no other option of a classical codec needs

    if options.psnr is not None:
        return reaching(codec, image, options.psnr, lambda decoded: metrics.psnr_rgb(image, decoded))
    if metrics.measure(image, image).ms_ssim is None:
        raise ImageError("MS-SSIM is defined from sides of 161 pixels on: use --psnr")
    return reaching(
        codec, image, options.ms_ssim_db, lambda decoded: metrics.measure(image, decoded).ms_ssim_db
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("compress", __doc__)
    parser.add_argument("codec", metavar="CODEC", help="jpeg, hevc, …, or PAPER[:PRESET or checkpoint]")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IN", help="pictures, or folders of them")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument(
        "--quality", type=float, metavar="Q", help="the codec's own scale (see its docstring)"
    )
    wanted.add_argument("--bytes", type=int, metavar="N", help="the best file of at most N bytes")
    wanted.add_argument("--bpp", type=float, metavar="R", help="the best file of at most R bits per pixel")
    wanted.add_argument("--psnr", type=float, metavar="DB", help="the least file that reaches this PSNR")
    wanted.add_argument(
        "--ms-ssim-db", type=float, metavar="DB", help="the least file that reaches −10·log10(1 − MS-SSIM)"
    )
    add_output(parser)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """``--output`` and ``--force``, of `plan`."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


if __name__ == "__main__":
    sys.exit(main())
