"""What the commands share: a parser, options that mean the same everywhere, progress, and what is wrong in one line."""

from __future__ import annotations

import argparse
import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from genic.lightning_modules.codec.errors import GenicError


class Main(Protocol):
    """A command: arguments, by default those of the process, to its exit status."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int: ...


_told: set[str] = set()


def command(main: Main) -> Main:
    """``main(arguments)`` with an error of ours or of the system's printed in a line, for which the exit status is 2.

    Warnings are a line each, too, and are told once. What a terminal cannot show is ``?`` there.
    """

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            with warnings.catch_warnings():
                if warnings.showwarning is not _tell:  # else a command calls another
                    _told.clear()
                    warnings.showwarning = _tell
                return main(arguments)
        except GenicError as error:
            print_error(error)
        except BrokenPipeError:  # of ``… | head``
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            if error.strerror is None:  # a library's own
                raise
            print_error(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        except KeyboardInterrupt:
            return 130
        return 2

    return run


def _tell(message: Warning | str, *_: object, **__: object) -> None:
    if (text := str(message)) not in _told:
        _told.add(text)
        print(f"warning: {text}", file=sys.stderr)


def print_error(problem: object) -> None:
    """A line on standard error."""
    print(f"error: {problem}", file=sys.stderr)


def program(name: str, package: str = "experiments") -> str:
    """``genic NAME`` or ``python -m PACKAGE.NAME``, as this program was called."""
    return ("genic " if Path(sys.argv[0]).stem == "genic" else f"python -m {package}.") + name


def make_parser(
    name: str, doc: str | None, package: str = "experiments", **more: Any
) -> argparse.ArgumentParser:
    """Of the command ``name``, described by the first line of a docstring; ``more`` is of `ArgumentParser`."""
    description = (doc or "").partition("\n")[0]
    return argparse.ArgumentParser(prog=program(name, package), description=description, **more)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left on standard error, if that is a terminal; gives what is to be called after each part."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    how = {"disable": not console.is_terminal, "redirect_stdout": sys.stdout.isatty(), "transient": True}
    with Progress("{task.description}", *columns, console=console, **how) as bar:
        yield functools.partial(bar.advance, bar.add_task(what, total=total))


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


def add_wandb(parser: argparse.ArgumentParser) -> None:
    """``--wandb``, see `experiments.dashboard`."""
    parser.add_argument("--wandb", action="store_true", help="show the results in Weights & Biases, too")


def listed(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """For the ``type`` of an option: values with commas between."""

    def parse(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",") if part]

    parse.__name__ = "comma-separated"  # as argparse names it in errors
    return parse
