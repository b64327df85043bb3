"""Every codec and small files of it that decode; those of learned codecs are the golden ones."""

from __future__ import annotations

import shutil
from typing import NamedTuple

from genic.lightning_modules.codec.contract import Codec
from genic.lightning_modules.registry import CLASSICAL, learned, open_codec
from tests.golden.every import golden_codec, golden_files, procedural

SUBJECTS = (
    *(name for name in CLASSICAL if name != "bpg" or (shutil.which("bpgenc") and shutil.which("bpgdec"))),
    *learned(),
)


class Subject(NamedTuple):
    """A codec, and files of it that decode, by name."""

    name: str
    codec: Codec
    files: dict[str, bytes]


def subject_of(name: str) -> Subject:
    """One of `SUBJECTS`."""
    if name in learned():
        codec = golden_codec(name)
        golden = golden_files(name, codec.weights_id)
        return Subject(name, codec, {case: data for case, (data, *_) in golden.items()})
    codec = open_codec(name)
    sizes = ((1, 1), (17, 33), (64, 48))
    return Subject(name, codec, {f"{h}x{w}": codec.encode(procedural(h, w)) for h, w in sizes})
