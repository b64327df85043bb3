"""Conformance: the same integers and the same bytes under any arithmetic, where the plain float path fails.

`make test` runs a reduced set, `make conformance` all 24 Kodak pictures, and prints what was found. Networks are the
shipped ones, or random ones of their configuration where none are shipped.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.entropy.hyperprior import HyperpriorCoder
from tests.conformance.arithmetic import ALL, Arithmetic
from tests.conformance.paths import FloatCoder, parameters, table_rows
from tests.conformance.subjects import KODAK, Latents, latents, needs_kodak, pictures, small

# A couple of pictures in `make test`, all of Kodak in `make conformance`.
COUNTS = [2, pytest.param(24, marks=[pytest.mark.conformance, pytest.mark.timeout(3600), needs_kodak])]
REFERENCE = Arithmetic()
REDUCED = [Arithmetic(2), Arithmetic(1, False), Arithmetic(2, False, shuffled=1)]
PIXEL_BOUND = 1
"""Grey levels by which reconstructions of the same symbols may differ between devices and settings."""


def container(sections: dict[str, bytes]) -> Container:
    return Container("sd", 1, 1, sections)


def in_batches(subjects: list[Latents], size: int) -> list[list[Latents]]:
    """Batches of pictures of one shape; the last of each shape is filled up from its start."""
    shapes = defaultdict(list)
    for subject in subjects:
        shapes[subject.z_hat.shape].append(subject)
    batches = []
    for same in shapes.values():
        full = itertools.islice(itertools.cycle(same), -(-len(same) // size) * size)
        batches += [list(batch) for batch in zip(*[full] * size, strict=True)]
    return batches


def show(capsys: pytest.CaptureFixture, title: str, columns: list[str], rows: list[list[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*map(str, row))
    with capsys.disabled():
        Console().print("", table)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # what float streams decode to
@pytest.mark.parametrize("count", COUNTS)
def test_the_plain_float_path_fails(count: int, capsys: pytest.CaptureFixture) -> None:
    coder = FloatCoder(small()[0], build_tables())
    subjects = latents(count)
    with REFERENCE():
        expected = [table_rows(coder, parameters(coder, [x], by_diagonal=False)) for x in subjects]
        streams = [coder.encode(*x) for x in subjects]
    # Each order of accumulation moves a row or so of a picture over a boundary: a few orders make up for few pictures.
    changed = ALL if count > 2 else [Arithmetic(shuffled=seed) for seed in range(1, 6)]
    rows, all_differing, all_wrong = [], 0, 0
    for arithmetic in changed:
        counts = {}
        with arithmetic():
            for size, by_diagonal in itertools.product((1, 4) if count > 2 else (1,), (False, True)):
                differing = 0
                for x, e in zip(subjects, expected, strict=True):
                    found = table_rows(coder, parameters(coder, [x] * size, by_diagonal))
                    differing += np.any(found.reshape(2, size, -1)[:, 0] != e, axis=0).sum()
                counts[size, by_diagonal] = differing
            wrong = sum(not decodes_to(coder, stream, x) for stream, x in zip(streams, subjects, strict=True))
        rows.append([arithmetic, *counts.values(), f"{wrong} of {count}"])
        all_differing, all_wrong = all_differing + sum(counts.values()), all_wrong + wrong
    columns = [
        "decoder's arithmetic",
        *(f"{'diagonals' if d else 'whole'}, batch {b}" for b, d in counts),
        "wrong streams",
    ]
    if count > 2:
        total = sum(e.shape[1] for e in expected)
        title = f"Plain float32: rows of {total} that differ from 1 thread, oneDNN on, whole, batch 1"
        show(capsys, title, columns, rows)
    assert all_differing > 0
    assert all_wrong > 0


def decodes_to(coder: HyperpriorCoder, stream: dict[str, bytes], x: Latents) -> bool:
    try:
        z_hat, level = coder.decode(container(stream), *x.z_hat.shape[1:])
    except DamagedFileError:
        return False
    return torch.equal(z_hat, x.z_hat.float()) and level == x.level


@pytest.mark.parametrize("count", COUNTS)
def test_the_exact_path_gives_the_same_integers_and_bytes(count: int, capsys: pytest.CaptureFixture) -> None:
    coder, subjects = small()[1].coder, latents(count)
    with REFERENCE():
        expected = {id(x): parameters(coder, [x], by_diagonal=False) for x in subjects}
        streams = [coder.encode(*x) for x in subjects]
    assert all(torch.equal(p, p.round()) for p in expected.values())
    rows = []
    for arithmetic in ALL if count > 2 else REDUCED:
        compared = 0
        with arithmetic():
            for size, by_diagonal in itertools.product((1, 4), (False, True)):
                for batch in in_batches(subjects, size):
                    predicted = parameters(coder, batch, by_diagonal)
                    for x, p in zip(batch, predicted, strict=True):
                        assert torch.equal(p, expected[id(x)][0]), (arithmetic, size, by_diagonal)
                        compared += p.numel()
            for x, stream in zip(subjects, streams, strict=True):
                assert coder.encode(*x) == stream, arithmetic
                assert decodes_to(coder, stream, x), arithmetic
        rows.append([arithmetic, compared, 0, f"0 of {count}"])
    if count > 2:
        columns = ["arithmetic", "integers compared", "that differ", "wrong streams"]
        show(capsys, "Exact: whole and by diagonals, batches of 1 and 4", columns, rows)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_files_go_from_gpu_to_cpu_and_back() -> None:
    network, codec = small()
    on_gpu = HyperpriorCoder(network, build_tables(), "cuda")
    on_cpu = HyperpriorCoder(network, build_tables())
    for x in latents(2):
        for by_diagonal in (False, True):
            there = parameters(on_gpu, [Latents(x.z_hat, x.z_h_hat, x.level)], by_diagonal)
            assert torch.equal(there.cpu(), parameters(on_cpu, [x], by_diagonal))
        stream = on_cpu.encode(*x)
        assert on_gpu.encode(*x) == stream
        assert decodes_to(on_gpu, stream, x) and decodes_to(on_cpu, stream, x)
    assert codec.qualities


@pytest.mark.parametrize("count", COUNTS)
def test_reconstructions_differ_by_rounding_alone(count: int, capsys: pytest.CaptureFixture) -> None:
    """Pixels come from float32 networks: threads and libraries may round them differently, within `PIXEL_BOUND`."""
    codec, rows = small()[1], []
    sizes = [picture.shape[:2] for picture in pictures(count)]
    subjects = latents(count)
    with REFERENCE():
        expected = [
            codec.synthesise(x.z_hat, x.level, *size) for x, size in zip(subjects, sizes, strict=True)
        ]
    for arithmetic in [Arithmetic(2), Arithmetic(1, False), Arithmetic(2, False)]:
        largest, differing = 0, 0
        with arithmetic():
            for x, size, e in zip(subjects, sizes, expected, strict=True):
                error = np.abs(codec.synthesise(x.z_hat, x.level, *size).astype(int) - e)
                largest, differing = max(largest, error.max()), differing + np.count_nonzero(error)
        rows.append([arithmetic, largest, f"{differing} of {sum(e.size for e in expected)}"])
        assert largest <= PIXEL_BOUND, arithmetic
    if count > 2:
        show(
            capsys,
            "Reconstruction against 1 thread, oneDNN on",
            ["arithmetic", "largest difference", "samples"],
            rows,
        )


def test_both_orientations_are_among_the_pictures() -> None:
    if not KODAK:
        pytest.skip("the Kodak pictures are not under GENIC_DATA")
    assert {p.shape[:2] for p in pictures(2)} == {(512, 768), (768, 512)}
