"""Write the figures of README.md and docs/ from the results that the project keeps.

::

    python -m experiments.publish results/kodak/*.json    # keep these results, beside or over older ones, and write
    python -m experiments.publish                         # write only
    python -m experiments.publish --crops                 # README's pictures, too: a minute, needs Kodak

For a checkout. Results lie in ``docs/results/kodak``, without times; points of an older one stay where codec, weights,
options, libraries, machine and pictures are the same, so that a curve grows by points. ``docs/kodak.md`` is written
whole, and in other pages what stands between ``<!-- written: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL.Image import Image

from genic.eval.crops import at_equal_bytes
from genic.eval.curves import Curve, curve_of, find_reference
from genic.eval.plots import plot
from genic.eval.runner import Task
from genic.eval.schema import CodecResult
from genic.eval.tables import losses, overview, points_table, report
from genic.experiments.command import command, make_parser
from genic.experiments.evaluate import dataset, result_path
from genic.experiments.rd_curves import DRAWN, KEPT, gather
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.codec.weights import shipped_presets
from genic.lightning_modules.registry import PAPERS, paper_of

DATA = "kodak"
ROOT = KEPT.parents[1]
OURS = "selective_detail:realistic"
RIVALS = {
    "AVIF": "avif-default",
    "AVIF, tuned for PSNR": "avif",
    "HEVC": "hevc",
    "JPEG": "jpeg",
}
CROP = ("kodim04", 0.11, (100, 110, 420, 430))
"""Picture, bits per pixel of ours at most, and box of the crop."""
_SECTION = re.compile(r"(<!-- written: ([\w: ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def pages(results: Sequence[CodecResult], curves: Sequence[Curve], anchor: Curve) -> dict[Path, str]:
    """``docs/kodak.md`` and every page that has written sections, as they should be; see `rd_curves.gather`."""
    found = {KEPT.parent / f"{DATA}.md": report(results, curves, anchor, DATA)}
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        if _SECTION.search(text):
            found[path] = _SECTION.sub(lambda match: f"{match[1]}{section(match[2], results)}\n", text)
    return found


def section(name: str, results: Sequence[CodecResult]) -> str:
    """Markdown of a section: ``systems``, ``losses``, ``classical``, or ``codec NAME``.

    Raises:
        DataError: there is no such section.
    """
    curves = {result.codec: curve_of(result) for result in results}
    learned = [codec for codec in curves if paper_of(codec)]
    classical = [curve for name, curve in curves.items() if name not in learned]
    kind, _, codec = name.partition(" ")
    if name == "classical":
        return overview(classical, [[f"`{curve.name}`"] for curve in classical])
    if name == "systems":
        shipped = [
            paper if preset == "small" else f"{paper}:{preset}"
            for paper in PAPERS
            for preset in shipped_presets(paper)
        ]
        systems = sorted({*learned, *shipped})
        shown = [*(curves.get(system, Curve(system, {})) for system in systems), *classical]
        names = [_linked(system) for system in systems]
        return overview(shown, [*names, *([f"`{curve.name}`", ""] for curve in classical)], "publication")
    if name == "losses":
        return "\n".join(f"- `{codec}`: {losses(curves[codec], classical)}." for codec in learned)
    if kind != "codec":
        raise DataError(f"no section {name!r}: systems, losses, classical, or codec NAME")
    result = next((result for result in results if result.codec == codec), None)
    if result is None:
        return f"Not measured: `python -m experiments.evaluate {codec} --data {DATA}`."
    return f"{points_table(result)}\n\nBehind the best classical codec: {losses(curves[codec], classical)}."


def _linked(codec: str) -> list[str]:
    paper = paper_of(codec) or ""
    return [f"[`{codec}`](docs/{paper}.md)", PAPERS[paper].publication]


def panel(curves: Sequence[Curve], results: Sequence[CodecResult]) -> Path:
    """Draw four measures of the curves in ``docs/kodak_panel.png``; the file."""
    count, path = len(results[0].points[0].images), KEPT.parent / f"{DATA}_panel.png"
    with TemporaryDirectory() as folder:
        plot(curves, Path(folder), f"{DATA}, mean of {count} pictures")
        write_atomic(path, (Path(folder) / "rd_panel.png").read_bytes())
    return path


def crops() -> Image:
    """A crop of the original, of ours, and of classical codecs at equal bytes."""
    _, items = dataset(DATA, None)
    name, bpp, box = CROP
    item = next((item for item in items if item.name.startswith(name)), None)
    if item is None:
        raise DataError(f"{DATA} has no picture {name}")
    return at_equal_bytes(item, Task(item, OURS, target_bpp=bpp), RIVALS, box, OURS)


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser("publish", __doc__)
    parser.add_argument(
        "results", nargs="*", type=Path, metavar="RESULT", help="of experiments.evaluate, to be kept"
    )
    parser.add_argument("--crops", action="store_true", help="README's pictures at equal bytes, too")
    options = parser.parse_args(arguments)
    for path in options.results:
        result = CodecResult.from_json(path.read_text()).lasting()
        if result.data != DATA:
            raise DataError(f"{path} is of {result.data}: results of {DATA} are kept")
        path = result_path(KEPT / DATA, result.codec)
        if path.is_file():
            result = result.with_points_of(CodecResult.from_json(path.read_text()))
        result.save(path)
    results, curves, published, anchor = gather(KEPT, DATA, None, find_reference())
    for path, content in pages(results, [*curves, *published], anchor).items():
        write_atomic(path, content.encode())
        print(path)
    drawn = [*curves, *(curve for curve in published if curve.name in DRAWN)]
    print(panel(drawn, results))
    if options.crops:
        path = KEPT.parent / "kodak_crops.png"
        crops().save(path, optimize=True)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
