"""How much is tried, and where the figures go: a little in every test run, all with ``--stress``, which ``make stress``
gives and after which the tables of ``docs/reliability.md`` are those of the run."""

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
    tables: dict[str, list[dict[str, str]]] = {}
    for title, row in _rows(terminalreporter):
        tables.setdefault(title, []).append(row)
    page = PAGE.read_text()
    for title, rows in tables.items():
        where = provenance(1, 1)
        text = table(
            list(rows[0]), [list(row.values()) for row in sorted(rows, key=lambda row: [*row.values()])]
        )
        text += f"\n\n{where.date[:10]}, commit {(where.commit or 'unknown')[:12]}, {where.machine}"
        marks = re.compile(rf"(<!-- begin: {re.escape(title)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
        page, found = marks.subn(lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page)
        if not found:
            terminalreporter.write_line(f"docs/reliability.md has no place for {title!r}")
        terminalreporter.write_line(f"\n{title}\n{text}")
    PAGE.write_text(page)


def _rows(terminalreporter: Any) -> Iterator[tuple[str, dict[str, str]]]:
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", []):
            if name == "stress" and report.when == "call":
                yield value
