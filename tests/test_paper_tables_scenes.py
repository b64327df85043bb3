"""Street scenes of the tables: files of classical codecs are kept as long as nothing that they depend on changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.paper_tables import scenes
from experiments.paper_tables.scenes import Pictures


class Counted:
    """A codec whose files are its pixels and the number of the call."""

    def __init__(self) -> None:
        self.calls = 0

    def encode(self, image: np.ndarray, quality: int) -> bytes:
        self.calls += 1
        return bytes([self.calls, quality]) + image.tobytes()


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Counted:
    codec = Counted()
    monkeypatch.setattr(scenes, "open_codec", lambda name: codec)
    return codec


def written(cache: Path, value: int, quality: int = 7) -> bytes:
    """The file of a grey picture that is always called ``a``."""
    pictures = Pictures("sample", {"a": np.full((2, 3, 3), value, np.uint8)}, {}, cache)
    return pictures.at_quality("jpeg", quality).files["a"]


def test_a_file_is_written_once(codec, tmp_path):
    assert written(tmp_path, 1) == written(tmp_path, 1) and codec.calls == 1


def test_another_picture_of_the_same_name_gets_its_own_file(codec, tmp_path):
    assert written(tmp_path, 1)[2:] == bytes([1] * 18)
    assert written(tmp_path, 2)[2:] == bytes([2] * 18)
    assert written(tmp_path, 1, quality=9)[1] == 9 and codec.calls == 3


def test_another_version_of_a_library_writes_anew(codec, tmp_path, monkeypatch):
    for version in ("1.0", "2.0", "1.0"):
        monkeypatch.setattr(scenes, "versions", lambda version=version: {"libaom": version})
        written(tmp_path, 1)
    assert codec.calls == 2
