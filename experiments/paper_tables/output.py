"""Where tables go: a page for people and the same figures for programs, side by side."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from eval.provenance import provenance
from lightning_modules.codec.files import write_atomic


def save(folder: Path, name: str, text: str, record: Mapping[str, object], threads: int = 1) -> None:
    """Write ``name``.md and ``name``.json, which has the provenance beside ``record``; print the page.

    Args:
        folder: below ``results/tables``; made if need be.
        text: Markdown, which ends with where the figures come from.
        record: as JSON takes it; dataclasses are written as mappings.
        threads: that the figures were measured with.
    """
    where = provenance(threads, 1)
    text += f"\n\n{where.date}, commit {(where.commit or 'unknown')[:12]}, {where.machine}\n"
    record = {**record, "provenance": where}
    content = json.dumps(record, indent=1, default=dataclasses.asdict)
    write_atomic(folder / f"{name}.md", text.encode())
    write_atomic(folder / f"{name}.json", content.encode() + b"\n")
    print(f"{text}\n{folder / name}.md")
