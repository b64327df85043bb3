"""`tests.stress.fuzz` for a while: nothing but a typed error ends a decoder."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stress.conftest import Record
from tests.stress.fuzz import CORPUS
from tests.stress.subjects import SUBJECTS


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("name", ["container", *SUBJECTS])
def test_no_input_ends_a_decoder(
    name: str, tmp_path: Path, count: Callable[[int, int], int], record: Record
) -> None:
    seconds = count(0, 60)
    if not seconds:
        pytest.skip("minutes; with --stress (test_corpus decodes what fuzzing has found)")
    pytest.importorskip("atheris")
    options = [f"-max_total_time={seconds}", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-m", "tests.stress.fuzz", name, *options]
    run = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    executed = re.search(r"number_of_executed_units:\s*(\d+)", run.stderr)
    covered = re.findall(r"cov: (\d+)", run.stderr)
    assert executed and covered
    inputs = [path.stat().st_size for path in (CORPUS / name).iterdir()]
    record(
        "fuzzing",
        target=name,
        executions=executed[1],
        edges=covered[-1],
        inputs=len(inputs),
        bytes=sum(inputs),
    )
