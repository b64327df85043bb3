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
_Paths = Sequence[Path]


def convert(
    targets: Mapping[Path, Path], work: Callable[[_Paths, _Paths], list[str]], jobs: int, batch: int
) -> int:
    """``work(sources, targets)`` for ``batch`` of them at a time, in ``jobs`` processes; the exit status: 2 where
    something is wrong with one.

    Args:
        work: gives lines to print; a function of this module, or a `partial` of one, since it goes to other processes.

    Raises:
        ConfigError: an option is wrong, and not one file could be made.
    """
    for name, count in {"jobs": jobs, "batch": batch}.items():
        if count < 1:
            raise ConfigError(f"--{name} {count}: at least 1")
    pairs, made, failed = list(targets.items()), [], []

    def attempt(run: Callable[..., list[str]], part: Sequence[tuple[Path, Path]]) -> None:
        sources, goals = zip(*part, strict=True)
        try:
            lines = run(work, sources, goals)
        except (GenicError, OSError) as error:
            if len(part) > 1:
                for pair in part:  # which of them it is
                    attempt(run, [pair])
                return
            [source] = sources
            if isinstance(error, ConfigError) and not isinstance(error, TargetError) and not made:
                raise
            failed.append(source)
            text = str(error) if isinstance(error, GenicError) else f"{error.filename}: {error.strerror}"
            print_error(text if str(source) in text else f"{source}: {text}")
        else:
            made.extend(goals)
            print(*lines, sep="\n", flush=True)
        for _ in part:
            advance()

    parts = [pairs[k : k + batch] for k in range(0, len(pairs), batch)]
    with progress(f"{len(targets)} files", len(targets)) as advance:
        if jobs == 1:
            for part in parts:
                attempt(_here, part)
        else:
            from genic.eval.runner import WorkerPairs

            with WorkerPairs(jobs, max(1, (os.cpu_count() or 1) // jobs)) as workers:
                workers.each(parts, lambda call, part: attempt(partial(call, 0), part))
    return 2 if failed else 0


def compress_files(options: argparse.Namespace, sources: _Paths, targets: _Paths) -> list[str]:
    """Pictures to files, with the options of `experiments.compress`; several of them by quality alone."""
    codec, pictures = open_once(options.codec), []
    for source in sources:
        pictures.append(picture := read_picture(source, options.alpha))
        if options.strict and picture.lost:
            raise ImageError(
                f"{source} would lose {picture.losses}: convert it yourself, or leave out --strict"
            )
        picture.warn()
    # What it logs is that a picture takes long, which was told for all of them together.
    logging.getLogger(type(codec).__module__).setLevel(logging.ERROR)
    if len(sources) == 1:
        kept = {} if pictures[0].alpha is None else {"alpha": pictures[0].alpha}
        given = settings(codec.options(), options.set, sources[0]) | kept
        found = [_encoded(codec, pictures[0].image, options, given)]
    else:
        quality = codec.default_quality if options.quality is None else options.quality
        files = codec.encode_many([picture.image for picture in pictures], quality)
        found = [Found(data, quality) for data in files]
    lines = []
    for target, picture, (data, quality) in zip(targets, pictures, found, strict=True):
        write_atomic(target, data)
        at = "" if quality is None else f"  quality {quality:.6g}"
        lines.append(f"{target}  {len(data)} bytes  {bits_per_pixel(data, picture.image):.4f} bpp{at}")
    return lines


def decompress_files(options: argparse.Namespace, sources: _Paths, targets: _Paths) -> list[str]:
    """Files to pictures, with the options of `experiments.decompress`."""
    files = [source.read_bytes() for source in sources]
    containers = [Container.from_bytes(data) for data in files]
    together: dict[tuple[str, bytes], list[int]] = {}
    images: dict[int, Image] = {}
    for k, container in enumerate(containers):
        key = container.codec, container.weights
        if key not in _codecs:
            _codecs[key] = codec_for(files[k], options.weights)
        if len(files) > 1 and not options.set and "alpha" not in container.sections:
            together.setdefault(key, []).append(k)
        else:
            given = settings(_codecs[key].decode_options(), options.set, sources[k])
            images[k] = _codecs[key].decode(files[k], alpha=True, **given)
    for key, places in together.items():
        images |= zip(places, _codecs[key].decode_many([files[k] for k in places]), strict=True)
    for k, target in enumerate(targets):
        write_png(target, images[k])
    return [f"{target}  {c.width}×{c.height}" for target, c in zip(targets, containers, strict=True)]


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
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        metavar="N",
        help="files at a time, those of one size through a learned codec's networks together (default: 1)",
    )


def _here(function: Callable[..., list[str]], *arguments: Any) -> list[str]:
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
