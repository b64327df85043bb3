"""The publication's comparison, its table 1 and figure 4: two decoders against one alone that was trained on MS-SSIM.

::

    python -m experiments.tables selective_detail --codec selective_detail:small --alone runs/selective_detail/ms_ssim

Files of at most the same rate, the best of each system; figures of the whole picture, and inside and outside faces and
text. x̂, x̂_m and x̂_s are of the same files.
"""

from __future__ import annotations

from collections.abc import Sequence

from genic.eval.runner import Task
from genic.experiments.command import listed
from genic.experiments.paper_tables.common import pictures, save
from genic.experiments.paper_tables.selective_detail.common import (
    masked,
    measured,
    measures,
    opened,
    parser,
    rows_table,
)

DECODERS = {"x̂": 1.0, "x̂_m, main decoder": 0.0, "x̂_s, detail decoder": 2.0}
"""What is shown, and the dial's place for it."""


def main(arguments: Sequence[str]) -> int:
    """The command line after ``experiments.tables selective_detail table``; returns the exit status."""
    found = parser("table", __doc__)
    found.add_argument(
        "--alone",
        metavar="WEIGHTS",
        help="of preset=ms_ssim, the main decoder alone: preset, file or run (default: its rows are left out)",
    )
    found.add_argument(
        "--bpp", type=listed(float), default=[0.1, 0.15, 0.25], metavar="A,B,…", help="default: 0.1,0.15,0.25"
    )
    options = found.parse_args(arguments)
    weights = {options.codec: masked(options.codec).weights_id.hex()}
    shown = [(name, options.codec, {"detail": detail}) for name, detail in DECODERS.items()]
    if options.alone:
        alone = f"selective_detail:{options.alone}"
        weights[alone] = opened(alone).weights_id.hex()
        shown.append(("one decoder, MS-SSIM", alone, {}))
    items, (networks, notes) = pictures(options), measures(options)
    text = [f"# Selective detail decoding: decoders at equal rate, {len(items)} pictures of {options.data}"]
    record = {}
    for bpp in options.bpp:
        tasks = [Task(item, codec, target_bpp=bpp, decoding=how) for item in items for _, codec, how in shown]
        results = measured(options, tasks, networks)
        rows = [(name, results[k :: len(shown)]) for k, (name, *_) in enumerate(shown)]
        text += [f"Files of at most {bpp:g} bpp:", rows_table("shown", rows)]
        record[f"{bpp:g}"] = dict(rows)
    text += [*notes, ", ".join(f"{codec}: {identity}" for codec, identity in weights.items())]
    save(options, "table", "\n\n".join(text), {"weights": weights, "rows": record})
    return 0
