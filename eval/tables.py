"""Tables of a set of curves: a page of Markdown, and LaTeX for print."""

from __future__ import annotations

from collections.abc import Sequence

from genic.eval.bjontegaard_delta import CONFIDENCE, RESAMPLES, Comparison, bd_quality, bd_rate
from genic.eval.curves import Curve
from genic.eval.measures import MEASURES, Measure
from genic.eval.schema import CodecResult

RATES = (0.1, 0.15, 0.25, 0.5, 0.75, 1.0)
OVERVIEW = (0.1, 0.15, 0.25, 0.5)
COMPARED = [
    measure for key in ("lpips_alex", "ms_ssim_db", "psnr_rgb") for measure in MEASURES if measure.key == key
]


def report(results: Sequence[CodecResult], curves: Sequence[Curve], anchor: Curve, data: str) -> str:
    """Markdown: BD-rates against the anchor, values at equal rates, every point, provenance.

    Args:
        results: measured here.
        curves: of ``results``, and published ones.
        anchor: one of ``curves``.
        data: name of the data set.
    """
    parts = [
        f"# Rate and distortion on {data}",
        "Rate is the whole file's bits over the picture's pixels. Figures are of the decoded 8-bit pictures: "
        "computed for each picture, then averaged (PSNR too); MS-SSIM in dB is −10·log10(1 − mean MS-SSIM). "
        "Curves in italics are published figures.",
        f"## Against {anchor.name}",
        "BD-rate: rate at equal quality in percent (negative: smaller files). BD-quality: the measure at equal rate. "
        "Both by Akima interpolation over what the two curves share, which is stated. In brackets the "
        f"{100 * CONFIDENCE:.0f} % interval over pictures (paired bootstrap, {RESAMPLES} resamples); 'better' and "
        "'worse' stand only where it excludes 0.",
        *_bd_tables(curves, anchor),
    ]
    for measure in MEASURES:
        if rows := _rate_rows(curves, measure):
            parts += [f"## {measure.title} at equal rate", table(["bpp", *map(str, RATES)], rows)]
    parts += ["## Every point", *(_points(result) for result in results)]
    return "\n\n".join(parts) + "\n"


def latex(curves: Sequence[Curve], anchor: Curve, data: str) -> str:
    """BD figures and values at equal rates as LaTeX tables (package ``booktabs``); arguments as of `report`."""
    parts = [f"% {data}, BD figures against {anchor.name}; published curves are emphasised."]
    for measure in MEASURES:
        if measure.key in anchor.points:
            title = f"{measure.title}: Bjøntegaard differences to {anchor.name} on {data}"
            parts.append(_tabular(title, _bd_header(measure), _bd_rows(curves, anchor, measure)))
        if rows := _rate_rows(curves, measure):
            parts.append(
                _tabular(f"{measure.title} at equal rate on {data}", ["bpp", *map(str, RATES)], rows)
            )
    return "\n\n".join(parts) + "\n"


def overview(curves: Sequence[Curve], names: Sequence[Sequence[str]], *also: str) -> str:
    """A short table: a codec a row, at the rates `OVERVIEW` by the measures `COMPARED`.

    Args:
        curves: of a codec with none of the rates, or fewer than three points, its last point stands instead.
        names: what stands on the left of each row, its name and what belongs to the columns ``also``.
    """
    rates = " / ".join(f"{rate:g}" for rate in OVERVIEW)
    header = [f"at {rates} bpp", *also, *(measure.title for measure in COMPARED)]
    rows = [[*name, *_overview(curve)] for name, curve in zip(names, curves, strict=True)]
    return table(header, rows, 1 + len(also))


def losses(curve: Curve, rivals: Sequence[Curve]) -> str:
    """Where some rival is better at equal rate, by the measures `COMPARED`: the rates and the best rival there.

    The rates are those of `OVERVIEW` that the curve has, else its own points'; between points linear in log rate.
    """
    parts, compared = [], False
    for measure in COMPARED:
        if measure.key not in curve.points:
            continue
        sign = -1 if measure.falls else 1
        behind = []
        for rate in _rates(curve, measure):
            own = curve.at(measure.key, rate)
            there = [
                (value, rival.name) for rival in rivals if (value := rival.at(measure.key, rate)) is not None
            ]
            if own is None or not there:
                continue
            compared = True
            best, name = max(there, key=lambda pair: sign * pair[0])
            if sign * best > sign * own:
                digits = _few(measure)
                behind.append(f"{rate:.3g} bpp {number(own, digits)}, {name} {number(best, digits)}")
        if behind:
            parts.append(f"{measure.label} at {'; at '.join(behind)}")
    return ". ".join(parts) or ("nowhere at these rates" if compared else "none is measured at its rates")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table, the first ``left`` columns flush left, the others flush right."""
    lines = [header, [*["---"] * left, *["---:"] * (len(header) - left)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int) -> str:
    """Fixed-point, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}".replace("inf", "∞")


def _bd_tables(curves: Sequence[Curve], anchor: Curve) -> list[str]:
    """A heading and a table for each measure that the anchor has."""
    parts = []
    for measure in MEASURES:
        if measure.key not in anchor.points:
            continue
        parts += [f"### {measure.title}", table(_bd_header(measure), _bd_rows(curves, anchor, measure))]
    return parts


def _bd_header(measure: Measure) -> list[str]:
    return ["", "BD-rate, %", f"over {measure.unit}".strip(), "BD-quality", "over bpp"]


def _bd_rows(curves: Sequence[Curve], anchor: Curve, measure: Measure) -> list[list[str]]:
    rows = []
    for curve in curves:
        if curve is not anchor and measure.key in curve.points:
            rate, quality = bd_rate(anchor, curve, measure), bd_quality(anchor, curve, measure)
            rows.append(
                [_name(curve), *_compared(rate, 1, measure.digits), *_compared(quality, measure.digits, 3)]
            )
    return rows


def _rate_rows(curves: Sequence[Curve], measure: Measure) -> list[list[str]]:
    rows = [[_name(curve), *_at(curve, measure)] for curve in curves if measure.key in curve.points]
    return [row for row in rows if set(row[1:]) != {"–"}]


# Other letters are LaTeX's own input today.
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {"∞": r"$\infty$", "β": r"$\beta$", "−": "$-$", "^": r"\^{}"}
)


def _tabular(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_escaped, cells)) + r" \\"

    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(title)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", line(header), r"\midrule"]
    return "\n".join([*lines, *map(line, rows), r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _escaped(cell: str) -> str:
    if cell.startswith("*"):
        return rf"\emph{{{_escaped(cell.strip('*'))}}}"
    return cell.translate(_LATEX)


def _compared(found: Comparison, digits: int, over: int) -> tuple[str, str]:
    if found.value is None or found.over is None:
        return found.refused, "–"
    text = f"{found.value:+.{digits}f}"
    if found.interval is not None:
        low, high = found.interval
        text += f" [{low:+.{digits}f}, {high:+.{digits}f}] {found.verdict}".rstrip()
    return text, f"{found.over[0]:.{over}f} … {found.over[1]:.{over}f}"


def _at(curve: Curve, measure: Measure) -> list[str]:
    return [number(curve.at(measure.key, bpp), measure.digits) for bpp in RATES]


def _rates(curve: Curve, measure: Measure) -> list[float]:
    """Of `OVERVIEW` those that the curve has; its own points' where it has none, or is no curve of three points."""
    own = [float(rate) for rate in curve.points[measure.key][:, 0]]
    grid = [rate for rate in OVERVIEW if curve.at(measure.key, rate) is not None]
    return grid if grid and len(own) > 2 else own


def _few(measure: Measure) -> int:
    """Digits in a short table."""
    return 3 if measure.falls else 1


def _overview(curve: Curve) -> list[str]:
    cells = []
    for measure in COMPARED:
        digits = _few(measure)
        if measure.key not in curve.points:
            cells.append("–")
        elif _rates(curve, measure)[0] in OVERVIEW:
            cells.append(" / ".join(number(curve.at(measure.key, rate), digits) for rate in OVERVIEW))
        else:
            rate, value = curve.points[measure.key][-1]
            cells.append(f"{value:.{digits}f} at {rate:.3f}")
    return cells


def _name(curve: Curve) -> str:
    return f"*{curve.name}*" if curve.published else curve.name


def points_table(result: CodecResult) -> str:
    """Every point of a result by every measure that it has."""
    columns = [("bpp", "bpp", 4)]
    columns += [
        (measure.label, measure.key, measure.digits + 1) for measure in MEASURES if result.has(measure.key)
    ]
    times = [("encode s", "encode_seconds", 3), ("decode s", "decode_seconds", 3)]
    columns += [column for column in times if result.has(column[1])]
    rows = []
    for point in result.points:
        rows.append(
            [point.label, *(number(getattr(point.mean, name), digits) for _, name, digits in columns)]
        )
    return table(["quality", *(label for label, _, _ in columns)], rows)


def _points(result: CodecResult) -> str:
    lines = [f"### {result.codec}", points_table(result)]
    if result.distances is not None:
        lines.append(f"Distances of sets: {result.distances}")
    lines += [f"{name}: unavailable: {reason}" for name, reason in result.unavailable.items()]
    if result.provenance is not None:
        where, count = result.provenance, len(result.points[0].images)
        lines.append(
            f"{count} pictures (manifest {(result.manifest or '')[:12]}), {where.date}, commit "
            f"{(where.commit or 'unknown')[:12]}, {where.machine}, {where.processes} × {where.threads} threads"
        )
    return "\n\n".join(lines)
