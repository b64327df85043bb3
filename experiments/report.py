"""Show a data set's results in one HTML file that needs no network.

::

    python -m experiments.evaluate jpeg webp hevc --data kodak --save-decoded
    python -m experiments.report --data kodak --anchor hevc

Reads ``RESULTS/DATA/*.json`` as `experiments.rd_curves` does and writes ``RESULTS/DATA/report.html``: interactive
curves, BD figures with intervals, figures of every picture, bytes by section, and a viewer of the decoded pictures
that ``--save-decoded`` kept, with ``--bpp`` too (``RESULTS/budgets/DATA``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from genic.datamodules.images import ImageItem, manifest_hash
from genic.eval.curves import find_reference, load_results
from genic.eval.report import Source, html, page_data, viewer_data
from genic.experiments.command import add_data, command, make_parser
from genic.experiments.evaluate import numbers, pictures
from genic.experiments.rd_curves import DRAWN, gather
from genic.lightning_modules.codec.errors import ConfigError, DataError
from genic.lightning_modules.codec.files import write_atomic

PICTURES, RATES, SIDE, MEGABYTES = 4, (0.25, 0.1, 0.5), 768, 30.0


def write_report(
    results: Path,
    data: str,
    items: Sequence[ImageItem],
    out: Path | None = None,
    *,
    anchor: str | None = None,
    reference: Path | None = None,
    rates: Sequence[float] = RATES,
    side: int = SIDE,
    megabytes: float = MEGABYTES,
    maps: Path | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a data set's results.

    Args:
        results: folder of all results.
        data: the data set's.
        items: originals for the viewer; perhaps none.
        out: the file; by default ``report.html`` beside the results.
        anchor, reference: see `experiments.rd_curves.draw`.
        rates, side, megabytes, maps: see `eval.report.viewer_data`.
        notes: to stand above the viewer.

    Returns:
        The file.

    Raises:
        DataError: no results, or a file is not what it should be.
        ConfigError: no such anchor.
    """
    found, curves, published, against = gather(results, data, anchor, reference)
    sources = [Source(result, results / data / "decoded") for result in found]
    budgets = results / "budgets"
    if any((budgets / data).glob("*.json")):
        sources += [Source(result, budgets / data / "decoded") for result in load_results(budgets, data)]
    viewer = viewer_data(sources, items, rates, side, megabytes, maps, against.name)
    viewer["notes"] = [*notes, *viewer["notes"]]
    path = out or results / data / "report.html"
    page = html(page_data(found, published, curves, against, DRAWN, viewer))
    write_atomic(path, page.encode())
    return path


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    rates = numbers("--rates", options.rates)
    if min([options.pictures, options.crop, *rates]) <= 0:
        raise ConfigError("--pictures, --crop and --rates: more than 0")
    data, items, notes = _pictures(options)
    reference = options.reference
    if reference is None and data == "kodak":  # published figures are of all its pictures
        reference = find_reference()
    path = write_report(
        options.results,
        data,
        items[: options.pictures],
        options.out,
        anchor=options.anchor,
        reference=reference,
        rates=rates,
        side=options.crop,
        megabytes=options.megabytes,
        maps=options.maps,
        notes=notes,
    )
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("report", __doc__)
    add_data(parser, "as experiments.evaluate had it", default="kodak", help="data set (default: kodak)")
    parser.add_argument("--name", help="of the set in results (default: --data, or the folder's name)")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="default: report.html beside the results"
    )
    parser.add_argument("--anchor", metavar="CODEC", help="curve that BD figures are against (default: hevc)")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="published curves, JSON")
    parser.add_argument(
        "--pictures", type=int, default=PICTURES, metavar="N", help=f"in the viewer (default: {PICTURES})"
    )
    rates = ",".join(map(str, RATES))
    parser.add_argument("--rates", default=rates, metavar="A,B,…", help=f"in the viewer (default: {rates})")
    parser.add_argument(
        "--crop", type=int, default=SIDE, metavar="SIDE", help=f"of larger pictures (default: {SIDE})"
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=MEGABYTES,
        metavar="M",
        help=f"bound of the viewer's pictures (default: {MEGABYTES:g})",
    )
    parser.add_argument(
        "--maps",
        type=Path,
        metavar="DIR",
        help="heat maps or masks to lay over the viewer's pictures, PNG by their names",
    )
    return parser


def _pictures(options: argparse.Namespace) -> tuple[str, list[ImageItem], list[str]]:
    """Name of the results' folder, originals, and why there are none."""
    try:
        data, items = pictures(options.data, options.root, options.limit, options.name)
    except DataError as error:
        return options.name or options.data, [], [f"The original pictures are not at hand: {error}."]
    other = f"{data}-{manifest_hash(items)[:8]}"  # see experiments.evaluate.results_folder
    return (other if (options.results / other).is_dir() else data), items, []


if __name__ == "__main__":
    sys.exit(main())
