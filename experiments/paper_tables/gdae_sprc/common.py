"""What the parts share: options, the codec, files measured in another process, and where tables go."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

from datamodules.images import ImageItem
from eval import worker
from eval.metrics import measure
from eval.schema import ImageResult
from experiments.paper_tables import output
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import bits_per_pixel
from lightning_modules.codec.errors import ConfigError
from lightning_modules.gdae_sprc.codec import GdaeSprcCodec
from lightning_modules.registry import open_codec


def parser(part: str, description: str) -> argparse.ArgumentParser:
    """The options that every part has."""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.tables gdae_sprc {part}", description=description.partition("\n")[0]
    )
    parser.add_argument("--data", default="kodak", help="data set to measure on (default: kodak)")
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help="the first K pictures only")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of the decoding process")
    parser.add_argument(
        "--out", type=Path, default=Path("results/tables"), metavar="DIR", help="default: results/tables"
    )
    return parser


def opened(which: str) -> GdaeSprcCodec:
    """The codec; `ConfigError` where it is another paper's."""
    if which.partition(":")[0] != "gdae_sprc":
        raise ConfigError(f"this is a table of gdae_sprc, not of {which!r}")
    return open_codec(which)


def measure_files(
    codec: str, items: Sequence[ImageItem], choice: Mapping[str, float], threads: int, decoder: Executor
) -> list[ImageResult]:
    """Files written here with the options ``choice`` of `encode`, decoded in the other process ``decoder``."""
    encoder, results = open_codec(codec), []
    decoder.submit(worker.start, codec, None, threads).result()
    for item in items:
        image = item.read()
        begin = time.perf_counter()
        data = encoder.encode(image, **choice)
        seconds = time.perf_counter() - begin
        decoded, decode_seconds = decoder.submit(worker.decode, data).result()
        results.append(
            ImageResult(
                item.name,
                len(data),
                bits_per_pixel(data, image),
                Container.from_bytes(data).ledger(),
                **measure(image, decoded)._asdict(),
                encode_seconds=seconds,
                decode_seconds=decode_seconds,
            )
        )
    return results


def folder(options: argparse.Namespace, data: str) -> Path:
    """Where the parts' files go."""
    return options.out / "gdae_sprc" / data


def save(options: argparse.Namespace, data: str, part: str, text: str, record: Mapping[str, object]) -> None:
    """``part``.md and ``part``.json in the `folder`; the text is printed."""
    output.save(folder(options, data), part, text, {"data": data, **record}, options.threads)
