"""Coverage-guided fuzzing of the container and of every codec's sections (atheris, which is libFuzzer).

::

    python -m tests.stress.fuzz container -max_total_time=60
    python -m tests.stress.fuzz hyperprior -max_total_time=60

An input for ``container`` is a file without its checksum. One for a codec is a byte that chooses a file that decodes,
a byte that chooses one of its sections, and what stands in that section instead. Any error but the contract's own ends
the run and leaves the input as ``crash-…``. What reached new code is kept in ``corpus/TARGET``; every test run decodes
it again (`test_corpus`).
"""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def container(data: bytes) -> None:
    """One input of the target ``container``."""
    from genic.lightning_modules.codec.container import Container
    from genic.lightning_modules.codec.errors import BitstreamError

    try:
        found = Container.from_bytes(data + zlib.crc32(data).to_bytes(4, "little"))
    except BitstreamError:
        return
    # LEB128 has several forms of a number; what was read is written in the shortest.
    assert Container.from_bytes(found.to_bytes()) == found


def sections(name: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    """One input of a codec's target, and inputs to start from: the files as they are."""
    from genic.lightning_modules.codec.container import Container
    from genic.lightning_modules.codec.errors import BitstreamError, WeightsError
    from tests.stress.subjects import subject_of

    subject = subject_of(name)
    files = [Container.from_bytes(data) for data in subject.files.values()]
    seeds = [
        bytes([k, i]) + payload
        for k, file in enumerate(files)
        for i, payload in enumerate(file.sections.values())
    ]

    def run(data: bytes) -> None:
        if len(data) < 2:
            return
        file = files[data[0] % len(files)]
        section = list(file.sections)[data[1] % len(file.sections)]
        changed = dataclasses.replace(file, sections=dict(file.sections) | {section: data[2:]})
        try:
            picture = subject.codec.decode(changed.to_bytes())
        except (BitstreamError, WeightsError):
            return
        assert picture.shape == (file.height, file.width, 3)

    return run, seeds


def target(name: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    """By name, ``container`` or a codec's."""
    if name != "container":
        return sections(name)
    from tests.stress.subjects import subject_of

    return container, [data[:-4] for data in subject_of("jpeg").files.values()]


def main(arguments: list[str]) -> None:
    """A target and options of libFuzzer; does not return."""
    import atheris

    name, *options = arguments
    with atheris.instrument_imports(include=["genic.lightning_modules"], enable_loader_override=False):
        run, seeds = target(name)
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"seed-{zlib.crc32(seed):08x}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(folder), *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
