"""Decompress files of `experiments.compress`; which codec wrote one stands in the file.

::

    python -m experiments.decompress out/*.gnc -o pictures
    python -m experiments.decompress out -o pictures --jobs 2
    python -m experiments.decompress photo.gnc -o pictures --set detail=0     # of selective_detail

Each ``NAME.gnc`` becomes ``OUT/NAME.png``, those of a folder with its tree. How a codec's files can be shown otherwise
is among what ``codecs CODEC`` lists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from genic.experiments.command import command, make_parser, program
from genic.experiments.convert import SUFFIX, add_options, convert, decompress_files, gather, plan


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 2 where a file could not be decompressed."""
    options = _parser().parse_args(arguments)
    names = gather(options.inputs, f"{SUFFIX} files", lambda folder: sorted(folder.rglob(f"*{SUFFIX}")))
    targets = plan(names, options.output, ".png", options.force)
    return convert(targets, partial(decompress_files, options), options.jobs, options.batch)


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("decompress", __doc__)
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IN", help="files of compress, or folders of them"
    )
    parser.add_argument("--weights", type=Path, metavar="PATH", help="the checkpoint that wrote the files")
    add_options(parser)
    parser.epilog = f"{program('codecs')} CODEC lists what can be set."
    return parser


if __name__ == "__main__":
    sys.exit(main())
