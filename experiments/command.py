"""What the commands share: a parser, options that mean the same everywhere, and errors told without a traceback."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from genic.lightning_modules.codec.errors import GenicError


class Main(Protocol):
    """A command: arguments, by default those of the process, to its exit status."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


def command(main: Main) -> Main:
    """``main(arguments)`` with an error of ours printed, for which the exit status is 2."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except GenicError as error:
            print_error(error)
            return 2

    return run


def print_error(problem: object) -> None:
    """A line on standard error."""
    print(f"error: {problem}", file=sys.stderr)


def make_parser(name: str, doc: str | None, package: str = "experiments") -> argparse.ArgumentParser:
    """Of ``genic NAME`` or ``python -m PACKAGE.NAME``, as called; described by the first line of a docstring."""
    called = "genic " if Path(sys.argv[0]).stem == "genic" else f"python -m {package}."
    return argparse.ArgumentParser(prog=called + name, description=(doc or "").partition("\n")[0])


def add_data(parser: argparse.ArgumentParser, limit: str, **data: Any) -> None:
    """``--data``, ``--root`` and ``--limit``.

    Args:
        limit: help of ``--limit``.
        data: of ``--data``, as `add_argument` takes it.
    """
    parser.add_argument("--data", **data)
    parser.add_argument("--root", metavar="DIR", help="folder of the data sets (default: $GENIC_DATA)")
    parser.add_argument("--limit", type=int, metavar="K", help=limit)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """``--devices`` and ``--threads``, of `eval.runner.WorkerPairs`."""
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="GPUs, or processes without any")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="of each process (default: 1)")


def listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """For the ``type`` of an option: values with commas between."""

    def parse(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",") if part]

    parse.__name__ = "comma-separated"  # as argparse names it in errors
    return parse
