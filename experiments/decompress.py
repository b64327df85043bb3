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

from genic.datamodules.images import write_png
from genic.experiments.command import command, make_parser
from genic.experiments.compress import add_output, convert, plan
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.registry import codec_for


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where a file could not be decompressed."""
    options = _parser().parse_args(arguments)
    missing = [str(path) for path in options.inputs if not path.is_file()]
    if missing:
        raise DataError(f"no file {', '.join(missing)}")
    codecs: dict[tuple[str, bytes], Codec] = {}

    def decompress(source: Path, target: Path) -> None:
        data = source.read_bytes()
        container = Container.from_bytes(data)
        key = container.codec, container.weights
        if key not in codecs:
            codecs[key] = codec_for(data, options.weights)
        image = codecs[key].decode(data)
        write_png(target, image)
        print(f"{target}  {image.shape[1]}×{image.shape[0]}")

    return convert(plan(options.inputs, options.output, ".png", options.force), decompress)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("decompress", __doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE", help="files of experiments.compress")
    parser.add_argument("--weights", type=Path, metavar="PATH", help="the checkpoint that wrote the files")
    add_output(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
