"""`python -m eval.memory` measures real commands in processes of their own."""

from __future__ import annotations

import pytest

from genic.eval import memory
from genic.lightning_modules.codec.errors import ToolError


def test_the_mosaic_has_the_size_asked_for() -> None:
    assert memory.mosaic(700, 900).shape == (900, 700, 3)
    assert memory.mosaic(20, 10).shape == (10, 20, 3)


def test_a_picture_is_encoded_and_decoded(capsys: pytest.CaptureFixture) -> None:
    assert memory.main(["jpeg", "--size", "64", "48"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "jpeg" in line)
    values = [float(cell) for cell in row.replace("│", " ").replace(",", "").split()[1:]]
    size, encode_gib, _, decode_gib, _ = values
    assert 0 < size < 64 * 48 * 3 and encode_gib > 0 and decode_gib > 0


def test_a_failing_command_is_not_a_figure() -> None:
    with pytest.raises(ToolError, match=r"experiments\.compress ended with status"):
        memory.measure("jpeg:nothing", 8, 8)


def test_a_picture_too_large_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert memory.main(["jpeg", "--size", "9000", "20"]) == 2
    assert capsys.readouterr().err == "error: --size 9000 20: sides are 1 to 8192 pixels\n"
