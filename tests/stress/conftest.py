"""How much is tried, and where the figures go: a little in every test run, all with ``--stress``, which ``make stress``
gives and after which the rows of the tables of ``docs/reliability.md`` are those of the run, with its commit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genic.eval.provenance import provenance
from genic.eval.tables import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
Record = Callable[..., None]


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``count(few, many)``: many with ``--stress``."""
    stress = request.config.getoption("--stress")
    return lambda few, many: many if stress else few


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """``record(table's title, column=value, …)``: a row of the report."""
    return lambda title, **row: record_property("stress", (title, {k: str(v) for k, v in row.items()}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--stress"):
        return
    where, page = provenance(1, 1), PAGE.read_text()
    tables: dict[str, list[dict[str, str]]] = {}
    for title, row in _rows(terminalreporter):
        tables.setdefault(title, []).append(row | {"commit": (where.commit or "unknown")[:7]})
    for title, rows in tables.items():
        marks = re.compile(rf"(<!-- begin: {re.escape(title)} -->\n)(.*?)(\n<!-- end -->)", re.DOTALL)
        if not (found := marks.search(page)):
            terminalreporter.write_line(f"docs/reliability.md has no place for {title!r}")
            continue
        header, new = list(rows[0]), [list(row.values()) for row in rows]
        first, _, *old = [_cells(line) for line in found[2].splitlines() if line.startswith("|")] or [[], []]
        kept = [row for row in old if first == header and row[0] not in {row[0] for row in new}]
        text = table(header, sorted([*kept, *new])) + f"\n\n{where.date[:10]}, {where.machine}"
        page = page.replace(found[0], f"{found[1]}{text}\n{found[3]}")
        terminalreporter.write_line(f"\n{title}\n{text}")
    PAGE.write_text(page)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _rows(terminalreporter: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "stress" and report.when == "call":
                yield value
