"""Files that somebody changed: a typed error, or the right picture, in bounded time and memory."""

from __future__ import annotations

import dataclasses
import resource
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.codec.errors import BitstreamError, WeightsError
from tests.stress.conftest import Record
from tests.stress.fuzz import CORPUS, target
from tests.stress.mutations import mutated
from tests.stress.subjects import SUBJECTS, Subject, subject_of

SECONDS = 10.0
"""Of one decoding, on a loaded machine; these files decode in milliseconds."""
MEBIBYTES = 300
"""That all decodings of a codec may add to the process's peak."""


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


class Decoded(NamedTuple):
    """What became of a file: the error's name or ``decoded``, the picture, seconds."""

    outcome: str
    picture: np.ndarray | None
    seconds: float


def decoded(codec: Codec, data: bytes) -> Decoded:
    """Any error but these two ends the test."""
    begin = time.perf_counter()
    try:
        picture, outcome = codec.decode(data), "decoded"
    except (BitstreamError, WeightsError) as error:
        assert len(str(error)) > 10
        picture, outcome = None, type(error).__name__
    return Decoded(outcome, picture, time.perf_counter() - begin)


def peak() -> float:
    """MiB that the process has taken at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_whole_files(subject: Subject, count: Callable[[int, int], int], record: Record) -> None:
    """Every truncation, and changes anywhere: the checksum refuses them, or the picture is the right one."""
    rng, tries = np.random.default_rng(1), count(60, 20_000)
    files = list(subject.files.values())
    before, outcomes, slowest = peak(), Counter(), 0.0
    shortest = min(files, key=len)
    for end in range(len(shortest)):
        found = decoded(subject.codec, shortest[:end])
        assert found.picture is None, end
        outcomes[found.outcome] += 1
    for _ in range(tries):
        k = int(rng.integers(len(files)))
        data = mutated(files[k], rng, files[rng.integers(len(files))])
        found = decoded(subject.codec, data)
        outcomes[found.outcome] += 1
        slowest = max(slowest, found.seconds)
        assert found.picture is None or data in files  # two changes undid each other
    _bounded(subject, slowest, before)
    record(
        "whole files",
        codec=subject.name,
        truncations=len(shortest),
        mutations=tries,
        **_errors(outcomes),
        seconds=f"{slowest:.2f}",
        MiB=f"{peak() - before:.0f}",
    )


def test_sections_behind_a_true_checksum(
    subject: Subject, count: Callable[[int, int], int], record: Record
) -> None:
    """As somebody would who knows the format: a typed error, or some picture of the size that the header says."""
    rng, tries = np.random.default_rng(2), count(12, 5_000)
    files = [Container.from_bytes(data) for data in subject.files.values()]
    before, outcomes, slowest = peak(), Counter(), 0.0
    for _ in range(tries):
        container, other = (files[rng.integers(len(files))] for _ in range(2))
        name = str(rng.choice(list(container.sections)))
        source = other.sections.get(name, b"") or b"\0"
        sections = dict(container.sections) | {name: mutated(container.sections[name], rng, source)}
        changed = dataclasses.replace(container, sections=sections)
        if rng.random() < 0.2:
            changed = dataclasses.replace(
                changed, **{str(rng.choice(["height", "width"])): int(rng.integers(1, 97))}
            )
        found = decoded(subject.codec, changed.to_bytes())
        outcomes[found.outcome] += 1
        slowest = max(slowest, found.seconds)
        if found.picture is not None:
            assert found.picture.shape == (changed.height, changed.width, 3)
    _bounded(subject, slowest, before)
    record(
        "sections",
        codec=subject.name,
        mutations=tries,
        **_errors(outcomes),
        seconds=f"{slowest:.2f}",
        MiB=f"{peak() - before:.0f}",
    )


def test_headers_that_lie(count: Callable[[int, int], int], record: Record) -> None:
    """Changed headers with a true checksum: the container refuses, or has sides that a picture may have."""
    rng, tries, outcomes = np.random.default_rng(3), count(300, 20_000), Counter()
    data = Container("jpeg", 300, 500, {"payload": bytes(40), "mask": b"abc"}, b"\1\2\3\4").to_bytes()
    before = peak()
    for _ in range(tries):
        body = mutated(data[:-4], rng, data)
        try:
            found = Container.from_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
        except BitstreamError as error:
            outcomes[type(error).__name__] += 1
        else:
            outcomes["decoded"] += 1
            assert 1 <= found.height <= 8192 and 1 <= found.width <= 8192
            assert sum(map(len, found.sections.values())) <= len(body)
    assert peak() - before < 10
    record("headers", mutations=tries, **_errors(outcomes), MiB=f"{peak() - before:.0f}")


def _bounded(subject: Subject, slowest: float, before: float) -> None:
    assert slowest < SECONDS, f"{subject.name} took {slowest:.1f} s"
    assert peak() - before < MEBIBYTES, f"{subject.name} took {peak() - before:.0f} MiB"


def _errors(outcomes: Counter[str]) -> dict[str, int]:
    """Columns: what came of the files."""
    names = (
        "ForeignFileError",
        "NewerFormatError",
        "DamagedFileError",
        "SymbolMismatchError",
        "WeightsError",
        "decoded",
    )
    assert outcomes.keys() <= set(names)
    return {name.removesuffix("Error"): outcomes[name] for name in names}


@pytest.mark.parametrize("name", sorted(path.name for path in CORPUS.iterdir()))
def test_corpus(name: str) -> None:
    """What fuzzing found to reach code of its own, once more."""
    run, _ = target(name)
    paths = sorted((CORPUS / name).iterdir())
    assert len(paths) >= 5
    for path in paths:
        run(path.read_bytes())
