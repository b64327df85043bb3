"""Regenerate a publication's table: real bytes, decoded in a fresh process.

::

    python -m experiments.tables gan_reversal

What follows the paper's name is the table's own: ``python -m experiments.tables gan_reversal --help``.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from lightning_modules.codec.errors import ConfigError, GenicError

# Paper -> "module:function", which takes the rest of the command line and returns the exit status.
TABLES = {
    "extreme_semantic": "experiments.paper_tables.extreme_semantic:main",
    "gan_reversal": "experiments.paper_tables.gan_reversal:main",
    "gdae_sprc": "experiments.paper_tables.gdae_sprc:main",
    "ppgn_inpainting": "experiments.paper_tables.ppgn_inpainting:main",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _find(arguments[0] if arguments else "")(arguments[1:])
    except GenicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _find(name: str):
    if name in ("-h", "--help"):
        print(__doc__)
        return lambda _: 0
    if name not in TABLES:
        near = difflib.get_close_matches(name, TABLES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TABLES)}"
        raise ConfigError(f"no table of a paper {name!r}; {hint}")
    module, _, function = TABLES[name].partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    sys.exit(main())
