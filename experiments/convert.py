"""Files through codecs, one after another or in several processes: what `compress` and `decompress` share."""

from __future__ import annotations

import argparse
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from genic.datamodules.images import read_picture, write_png
from genic.experiments.command import print_error, progress
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec, Image, bits_per_pixel
from genic.lightning_modules.codec.errors import (
    ConfigError,
    DataError,
    GenicError,
    ImageError,
    TargetError,
)
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.codec.options import Option, check_known, parsed
from genic.lightning_modules.codec.rate_control import Found, budget, reaching
from genic.lightning_modules.registry import codec_for, open_codec

SUFFIX = ".gnc"
open_once = lru_cache(open_codec)
_codecs: dict[tuple[str, bytes], Codec] = {}


def convert(targets: Mapping[Path, Path], work: Callable[[Path, Path], str], jobs: int) -> int:
    """``work(source, target)`` for each, in ``jobs`` processes; the exit status: 2 where something is wrong with one.

    Args:
        work: gives a line to print; a function of this module, or a `partial` of one, since it goes to other processes.

    Raises:
        ConfigError: an option is wrong, and not one file could be made.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}: at least 1")
    made, failed = [], []

    def attempt(run: Callable[..., str], pair: tuple[Path, Path]) -> None:
        source, target = pair
        try:
            line = run(work, source, target)
        except (GenicError, OSError) as error:
            if isinstance(error, ConfigError) and not isinstance(error, TargetError) and not made:
                raise
            failed.append(source)
            text = str(error) if isinstance(error, GenicError) else f"{error.filename}: {error.strerror}"
            print_error(text if str(source) in text else f"{source}: {text}")
        else:
            made.append(target)
            print(line, flush=True)
        advance()

    with progress(f"{len(targets)} files", len(targets)) as advance:
        if jobs == 1:
            for pair in targets.items():
                attempt(_here, pair)
        else:
            from genic.eval.runner import WorkerPairs

            with WorkerPairs(jobs, max(1, (os.cpu_count() or 1) // jobs)) as workers:
                workers.each(targets.items(), lambda call, pair: attempt(partial(call, 0), pair))
    return 2 if failed else 0


def compress_file(options: argparse.Namespace, source: Path, target: Path) -> str:
    """A picture to a file, with the options of `experiments.compress`."""
    codec, picture = open_once(options.codec), read_picture(source, options.alpha)
    if options.strict and picture.lost:
        raise ImageError(f"{source} would lose {picture.losses}: convert it yourself, or leave out --strict")
    picture.warn()
    image, kept = picture.image, {} if picture.alpha is None else {"alpha": picture.alpha}
    # What it logs is that a picture takes long, which was told for all of them together.
    logging.getLogger(type(codec).__module__).setLevel(logging.ERROR)
    data, quality = _encoded(codec, image, options, settings(codec.options(), options.set, source) | kept)
    write_atomic(target, data)
    at = "" if quality is None else f"  quality {quality:.6g}"
    return f"{target}  {len(data)} bytes  {bits_per_pixel(data, image):.4f} bpp{at}"


def decompress_file(options: argparse.Namespace, source: Path, target: Path) -> str:
    """A file to a picture, with the options of `experiments.decompress`."""
    data = source.read_bytes()
    container = Container.from_bytes(data)
    key = container.codec, container.weights
    if key not in _codecs:
        _codecs[key] = codec_for(data, options.weights)
    codec = _codecs[key]
    image = codec.decode(data, alpha=True, **settings(codec.decode_options(), options.set, source))
    write_png(target, image)
    return f"{target}  {image.shape[1]}×{image.shape[0]}"


def settings(options: Mapping[str, Option], pairs: Sequence[str], source: Path) -> dict[str, Any]:
    """Of ``name=value``, as a codec takes its options; a folder of maps stands for the one of the picture's name.

    Raises:
        ConfigError: no such option, or no such value.
    """
    known = {name: option for name, option in options.items() if option.from_text}
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: give NAME=VALUE")
        check_known([name], known, "the codec")
        if known[name].is_map and Path(text).is_dir():
            text = str(Path(text) / f"{source.stem}.png")
        found[name] = parsed(name, text, known[name].kind)
    return found


def gather(inputs: Sequence[Path], what: str, below: Callable[[Path], Sequence[Path]]) -> dict[Path, Path]:
    """Files and their names in the output: files as given by their own, those in folders with the path from there.

    Args:
        what: they are, for an error. below: the files of a folder and of those in it.

    Raises:
        DataError: something is not there, or a folder has nothing of the kind.
    """
    found: dict[Path, Path] = {}
    for path in inputs:
        if not path.exists():
            raise DataError(f"no file {path}")
        inside = below(path) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"no {what} in {path}")
        found |= {file: file.relative_to(path if path.is_dir() else path.parent) for file in inside}
    return found


def plan(names: Mapping[Path, Path], output: Path, suffix: str, force: bool) -> dict[Path, Path]:
    """Where each source's result goes; the folder is made.

    Raises:
        ConfigError: two would share a target, or a target exists and may not be replaced.
        OSError: the folder cannot be made.
    """
    targets = {source: output / name.with_suffix(suffix) for source, name in names.items()}
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
    output.mkdir(parents=True, exist_ok=True)  # now, and not after the first picture's work
    return targets


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--set``, ``--output``, ``--force`` and ``--jobs``."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the codec; repeatable"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the files"
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")


def _here(function: Callable[..., str], *arguments: Any) -> str:
    return function(*arguments)


def _encoded(codec: Codec, image: Image, wanted: argparse.Namespace, options: Mapping[str, Any]) -> Found:
    """The file that is wanted, and its quality."""
    if wanted.bytes is not None or wanted.bpp is not None:
        height, width = image.shape[:2]
        return codec.encode_within(image, budget(height, width, wanted.bytes, wanted.bpp), **options)
    if wanted.psnr is not None or wanted.ms_ssim_db is not None:
        return _reaching(codec, image, wanted, options)
    quality = codec.default_quality if wanted.quality is None else wanted.quality
    return Found(codec.encoder(image, **options)(quality), quality)


def _reaching(codec: Codec, image: Image, wanted: argparse.Namespace, options: Mapping[str, Any]) -> Found:
    from genic.eval import metrics  # imports torch, which no other option of a classical codec needs

    if wanted.psnr is not None:
        return reaching(
            codec, image, wanted.psnr, lambda decoded: metrics.psnr_rgb(image, decoded), **options
        )
    if metrics.measure(image, image).ms_ssim is None:
        raise ImageError("MS-SSIM is defined from sides of 161 pixels on: use --psnr")

    def similarity(decoded: Image) -> float:
        found = metrics.measure(image, decoded).ms_ssim_db
        assert found is not None, "defined for the original"
        return found

    return reaching(codec, image, wanted.ms_ssim_db, similarity, **options)
