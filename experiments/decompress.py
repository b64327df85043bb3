"""Decompress files of `experiments.compress`; which codec wrote one stands in the file.

::

    python -m experiments.decompress out/*.gnc -o pictures

Each ``NAME.gnc`` becomes ``OUT/NAME.png``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.images import write_png
from experiments.compress import plan
from lightning_modules.codec.container import Container
from lightning_modules.codec.contract import Codec
from lightning_modules.codec.errors import DataError, GenicError
from lightning_modules.registry import codec_for


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where a file could not be decompressed."""
    options = _parser().parse_args(arguments)
    try:
        missing = [str(path) for path in options.inputs if not path.is_file()]
        if missing:
            raise DataError(f"no file {', '.join(missing)}")
        targets = plan(options.inputs, options.output, ".png", options.force)
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = False
    codecs: dict[tuple[str, bytes], Codec] = {}
    for source, target in targets.items():
        try:
            data = source.read_bytes()
            container = Container.from_bytes(data)
            key = container.codec, container.weights
            if key not in codecs:
                codecs[key] = codec_for(data, options.weights)
            image = codecs[key].decode(data)
            write_png(target, image)
            print(f"{target}  {image.shape[1]}×{image.shape[0]}")
        except GenicError as error:
            print(f"error: {source}: {error}", file=sys.stderr)
            failed = True
    return 2 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.decompress", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="files of experiments.compress")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the pictures"
    )
    parser.add_argument("--weights", type=Path, metavar="PATH", help="the checkpoint that wrote the files")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
