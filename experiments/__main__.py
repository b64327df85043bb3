"""The console command ``genic``: each command is a module of its own, imported when it is called."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import genic
from genic.experiments.command import command
from genic.lightning_modules.codec.errors import ConfigError, did_you_mean

COMMANDS = {
    **{name: f"genic.experiments.{name}" for name in ("compress", "decompress", "codecs", "run", "evaluate")},
    **{name: f"genic.experiments.{name}" for name in ("rd_curves", "report", "tables", "demo", "migrate")},
    **{name: f"genic.eval.{name}" for name in ("speed", "memory")},
    **{name: f"genic.datamodules.{name}" for name in ("annotate", "pack")},
}
"""Command -> its module; ``main`` takes the rest of the command line and returns the exit status."""


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"genic {genic.__version__}")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"no command {name!r}; {did_you_mean(name, COMMANDS)}")
    return importlib.import_module(COMMANDS[name]).main(rest)


def _help() -> str:
    lines = [f"  {name:<12}{_purpose(module)}" for name, module in COMMANDS.items()]
    return "\n".join(
        ("usage: genic COMMAND …", "", *lines, "", "genic COMMAND --help tells more; --version.")
    )


def _purpose(module: str) -> str:
    """First line of a module's docstring, read without importing it: some take seconds to import."""
    source = Path(genic.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return (ast.get_docstring(ast.parse(source.read_bytes())) or "").partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
