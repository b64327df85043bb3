"""List the codecs: what each is, its scale of qualities, weights that come with it, and its options.

::

    python -m experiments.codecs                   # all, briefly
    python -m experiments.codecs gan_reversal      # everything about one
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Sequence

from genic.experiments.command import command, make_parser, program
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.codec.options import Option, shown
from genic.lightning_modules.registry import EXTERNAL, list_codecs, open_codec


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("codecs", __doc__)
    parser.add_argument("codecs", nargs="*", metavar="CODEC", help="tell everything about these")
    options = parser.parse_args(arguments)
    for name in options.codecs or [name for name in list_codecs() if name not in (*EXTERNAL, "folder")]:
        try:
            codec = open_codec(name)
        except ToolError as error:
            print(f"{name}: not here: {error}")
            continue
        print(describe(name, codec, brief=not options.codecs))
    if not options.codecs:
        print(f"With a checkpoint: {', '.join(EXTERNAL)}. Of files made elsewhere: folder:PATH.")
        print(f"Every option: {program('codecs')} CODEC")
    return 0


def describe(name: str, codec: Codec, brief: bool = False) -> str:
    """A codec in lines: with the names of its options alone, or everything about them."""
    ends = [shown(float(value)) for value in (codec.quality_steps[0], codec.quality_steps[-1])]
    scale = f"{' to '.join(ends)}, by default {shown(float(codec.default_quality))}: {codec.quality_meaning}"
    lines = [f"{name}: {_what(codec)}", f"  quality  {scale}"]
    if weights := codec.presets():
        lines.append(f"  weights  {', '.join(weights)}")
    names = [name for name, option in codec.options().items() if option.from_text]
    if brief and names:
        lines.append(f"  options  {', '.join(names)}")
    elif not brief:
        lines += option_lines(codec.options(), "--set ")
        lines += option_lines(codec.decode_options(), "decompress --set ")
    return "\n".join(lines)


def option_lines(options: dict[str, Option], prefix: str = "") -> list[str]:
    """A line for name, type and default of each that text can stand for, and its meaning below."""
    lines = []
    for name, option in options.items():
        if option.from_text:
            lines.append(f"  {prefix}{name}={option.shown_default}  ({option.type_name})")
            lines += textwrap.wrap(option.meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _what(codec: Codec) -> str:
    """A paper's codec by its module, a classical one by its class."""
    module = sys.modules[type(codec).__module__]
    text = inspect.getdoc(module if hasattr(codec, "paper") else type(codec)) or ""
    sentence = " ".join(text.partition("\n\n")[0].split()).partition(". ")[0].rstrip(".").replace("`", "")
    return sentence.removeprefix("The codec of ").removeprefix("The codec: ")


if __name__ == "__main__":
    sys.exit(main())
