"""Regenerate what a publication shows, its tables and figures: real bytes, decoded in another process.

::

    python -m experiments.tables gan_reversal
    python -m experiments.tables gdae_sprc ablation preset=nano --limit 4

A paper whose evaluation has several parts runs the first where none is named. What follows is the part's own:
``python -m experiments.tables gdae_sprc levels --help``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial

from genic.experiments.command import command
from genic.lightning_modules.codec.errors import ConfigError, did_you_mean

# Paper -> its parts, modules of the package `experiments.paper_tables.PAPER`, the first by default. Their `main` takes
# the rest of the command line and returns the exit status.
PARTS: dict[str, tuple[str, ...]] = {
    "extreme_semantic": ("gc", "figure"),
    "gan_reversal": ("table",),
    "gdae_sprc": ("levels", "restored", "ablation", "figure", "timing"),
    "hyperprior": (),
    "ppgn_inpainting": ("table", "figure", "regions"),
    "selective_detail": ("table", "dial", "mask"),
}
# Of every paper; its `main` takes the paper, too.
TRAINING = "training"


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in ("-h", "--help"):
        from genic.experiments.config import presets

        for line in (__doc__, "papers, parts and presets:"):
            print(line)
        for paper, parts in PARTS.items():
            print(f"    {paper} [{'|'.join((*parts, TRAINING))}]  {', '.join(presets(paper))}")
        return 0
    run, rest = _find(arguments)
    return run(rest)


def _find(arguments: list[str]) -> tuple[Callable[[Sequence[str]], int], list[str]]:
    """The part's `main`, and the arguments after its name."""
    paper, rest = (arguments[0] if arguments else ""), arguments[1:]
    if paper not in PARTS:
        raise ConfigError(f"no table of a paper {paper!r}; {did_you_mean(paper, PARTS)}")
    parts = (*PARTS[paper], TRAINING)
    part = rest.pop(0) if rest and not rest[0].startswith("-") else parts[0]
    if part not in parts:
        raise ConfigError(f"{paper} has no part {part!r}; {did_you_mean(part, parts)}")
    if part == TRAINING:
        from genic.experiments.paper_tables import training

        return partial(training.main, paper), rest
    return importlib.import_module(f"genic.experiments.paper_tables.{paper}.{part}").main, rest


if __name__ == "__main__":
    sys.exit(main())
