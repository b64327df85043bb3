"""Draw every rate-distortion curve found under the results.

::

    python -m experiments.rd_curves --data kodak --anchor hevc
    python -m experiments.rd_curves --check

Reads ``RESULTS/DATA/*.json`` (of `experiments.evaluate`, or in CompressAI's form) and writes beside them
``rd_MEASURE`` and, four measures together, ``rd_panel`` as PNG, SVG and PDF, and ``rd.md`` and ``rd.tex`` with BD
figures and values.

With ``--check`` nothing is drawn: a part of the results that the project keeps (``docs/results``) is measured anew, see
`eval.drift`, and where bytes or figures have drifted the exit status is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from genic.eval.curves import Curve, curve_of, find_reference, load_results, published_curves
from genic.eval.drift import PICTURES, drift
from genic.eval.plots import plot
from genic.eval.runner import WorkerPairs
from genic.eval.schema import CodecResult
from genic.eval.tables import latex, report
from genic.experiments.command import add_wandb, command, make_parser, print_error
from genic.experiments.evaluate import dataset
from genic.lightning_modules.codec.errors import ConfigError, did_you_mean
from genic.lightning_modules.codec.files import write_atomic

KEPT = Path(__file__).resolve().parent.parent / "docs" / "results"
"""Results that come with a checkout; README.md and docs/ are written from them, see `experiments.publish`."""
# Of them those that take a second or two a picture.
CHECKED = (
    "jpeg",
    "jpeg2000",
    "webp",
    "hevc",
    "selective_detail",
    "selective_detail:realistic",
    "hyperprior",
    "gdae",
    "extreme_semantic",
)

# Of the published curves these are drawn (at first, in a page); the tables have them all.
DRAWN = (
    "VTM 9.1 intra 4:4:4",
    "BPG 4:4:4 (x265)",
    "mbt2018-mean, MSE",
    "mbt2018, MS-SSIM",
    "HiFiC",
    "MS-ILLM",
    "CRDR, β = 3.84",
    "DC-VIC (OASIS)",
    "DiffEIC",
    "PerCo",
)


def gather(
    results: Path, data: str, anchor: str | None, reference: Path | None
) -> tuple[list[CodecResult], list[Curve], list[Curve], Curve]:
    """Results of a data set, their curves, the published ones, and the anchor; arguments and errors as `draw` has."""
    found = load_results(results, data)
    curves = [curve_of(result) for result in found]
    published = published_curves(data, reference)
    return found, curves, published, choose_anchor(anchor, [*curves, *published])


def draw(
    results: Path, data: str, anchor: str | None = None, reference: Path | None = None, max_bpp: float = 1.0
) -> list[Path]:
    """Write plots and tables of a data set's results beside them.

    Args:
        results: folder of all results.
        data: the data set's.
        anchor: name of the curve that BD-rates are against, a published one or ours; by default ``hevc``,
            or the first where that is missing.
        reference: file of published curves beside those that come with `eval`.
        max_bpp: right end of the plots.

    Returns:
        The files written.

    Raises:
        DataError: no results, or a file is not what it should be.
        ConfigError: no such anchor.
    """
    found, curves, published, against = gather(results, data, anchor, reference)
    drawn = [*curves, *(curve for curve in published if curve.name in DRAWN or curve is against)]
    written = plot(drawn, results / data, f"{data}, {_count(found)}", max_bpp)
    every = [*curves, *published]
    texts = {"rd.md": report(found, every, against, data), "rd.tex": latex(every, against, data)}
    for name, text in texts.items():
        write_atomic(results / data / name, text.encode())
    return [*written, *(results / data / name for name in texts)]


def check(data: str, codecs: Sequence[str]) -> int:
    """Measure a part of the kept results anew and print what has drifted; the exit status."""
    results = [result for result in load_results(KEPT, data) if result.codec in codecs]
    _, items = dataset(data, None)
    with WorkerPairs() as workers:
        problems, notes = drift(results, items, workers)
    for note in notes:
        print(note)
    for problem in problems:
        print_error(problem)
    names = ", ".join(result.codec for result in results)
    print(f"{'drift' if problems else 'no drift'} on {PICTURES} pictures of {data}: {names}")
    return 1 if problems else 0


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("rd_curves", __doc__)
    parser.add_argument("--data", default="kodak", help="data set (default: kodak)")
    parser.add_argument(
        "--results", type=Path, default=Path("results"), metavar="DIR", help="default: results"
    )
    parser.add_argument("--anchor", metavar="CODEC", help="curve that BD-rates are against (default: hevc)")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="published curves, JSON")
    parser.add_argument("--max-bpp", type=float, default=1.0, metavar="R", help="right end of the plots")
    parser.add_argument(
        "--check",
        nargs="?",
        const=",".join(CHECKED),
        metavar="A,B,…",
        help="measure a part of the results in docs/results anew, of these codecs (default: the quick ones)",
    )
    add_wandb(parser)
    options = parser.parse_args(arguments)
    if options.check is not None:
        return check(options.data, options.check.split(","))
    reference = options.reference
    if reference is None and options.data == "kodak":
        reference = find_reference()
    if options.max_bpp <= 0:
        raise ConfigError(f"--max-bpp {options.max_bpp:g}: more than 0")
    for path in draw(options.results, options.data, options.anchor, reference, options.max_bpp):
        print(path)
    if options.wandb:
        from genic.experiments import dashboard

        _, curves, published, _ = gather(options.results, options.data, options.anchor, reference)
        about = {"data": options.data, "curves": [curve.name for curve in curves]}
        with dashboard.opened("curves", options.results, f"curves of {options.data}", about) as run:
            dashboard.log_curves(run, options.data, [*curves, *published])
    return 0


def choose_anchor(anchor: str | None, curves: Sequence[Curve]) -> Curve:
    """The curve of that name; by default HEVC's, or the first. `ConfigError` where there is no such."""
    names = [curve.name for curve in curves]
    if anchor is None:
        return curves[names.index("hevc") if "hevc" in names else 0]
    if anchor not in names:
        raise ConfigError(f"no curve {anchor!r} to compare with: {did_you_mean(anchor, names)}")
    return curves[names.index(anchor)]


def _count(results: Sequence) -> str:
    counts = {len(point.images) for result in results for point in result.points if point.images}
    return f"mean of {counts.pop()} pictures" if len(counts) == 1 else "means"


if __name__ == "__main__":
    sys.exit(main())
