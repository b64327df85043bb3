"""`experiments.tables PAPER training`: validation against hours."""

from __future__ import annotations

import json

import pytest

from genic.experiments import tables
from genic.experiments.paper_tables.training import read
from genic.lightning_modules.codec.errors import DataError


def logged(folder, lines) -> str:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def validation(batch, seconds, *levels) -> dict[str, float]:
    values = {"batch": batch, "seconds": seconds}
    for level, (bpp, lpips) in enumerate(levels):
        values |= {f"validation/bpp_{level}": bpp, f"validation/lpips_{level}": lpips}
    return values


def test_hours_of_stages_add_up_and_values_are_at_fixed_rates(tmp_path, capsys) -> None:
    first = [
        validation(5, 1800.0, (0.1, 0.4), (0.4, 0.2)),
        {"batch": 9, "seconds": 3600.0, "loss/total": 1.0},
    ]
    runs = [
        logged(tmp_path / "one", first),
        logged(tmp_path / "two", [validation(3, 900.0, (0.1, 0.3), (0.3, 0.1))]),
    ]
    assert (
        tables.main(["selective_detail", "training", *runs, "--bpp", "0.2,0.4", "--out", str(tmp_path)]) == 0
    )
    rows = json.loads((tmp_path / "training.json").read_text())["validations"]
    assert [(row["run"], row["batch"], row["hours"]) for row in rows] == [("one", 5, 0.5), ("two", 3, 1.25)]
    # Half-way between 0.1 and 0.4 bpp on a logarithmic scale; the second run's levels end below 0.4.
    assert rows[0]["lpips@0.2"] == pytest.approx(0.3) and rows[1]["lpips@0.4"] is None
    assert "| one | 5 | 0.50 | 0.3000 | 0.2000 |" in capsys.readouterr().out
    assert (tmp_path / "training.png").stat().st_size > 1000


def test_a_folder_that_is_no_run_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read([tmp_path])
