"""The codec contract, for every codec there is; and the container on its own.

Learned codecs take part with random weights of preset `nano`; a line in the registry is all that a new one needs.
"""

from __future__ import annotations

import dataclasses
import resource
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_image

from genic.experiments.config import load_config
from genic.lightning_modules.codec.container import (
    MAX_SIDE,
    SECTIONS,
    VERSION,
    Container,
    read_varint,
    write_varint,
)
from genic.lightning_modules.codec.contract import Codec, bits_per_pixel, check_image
from genic.lightning_modules.codec.errors import (
    BitstreamError,
    ConfigError,
    DamagedFileError,
    ForeignFileError,
    ImageError,
    NewerFormatError,
    OutOfMemoryError,
    TargetError,
    WeightsError,
)
from genic.lightning_modules.codec.weights import save_weights
from genic.lightning_modules.registry import CLASSICAL, codec_for, find_paper, learned, open_codec
from tests.elsewhere import all_decoded, elsewhere
from tests.helpers import photograph

SIZES = [(1, 1), (1, 7), (7, 1), (17, 33), (64, 48), (161, 163)]
OVERHEAD = 32
USED = {
    "extreme_semantic": 0.1,
    "kmeans": 0.6,
    "ppgn_inpainting": 0.8,
}  # few steps between smallest and largest file
QUICK = 5.0  # seconds; damage is found in milliseconds, the rest is the machine's load


@dataclasses.dataclass(frozen=True)
class Subject:
    """A codec under test, and the file of its weights where it has one."""

    name: str
    codec: Codec
    weights: Path | None = None


def _classical(name: str) -> Callable[[Path], Subject]:
    return lambda _folder: Subject(name, open_codec(name))


def _learned(name: str) -> Callable[[Path], Subject]:
    def make(folder: Path) -> Subject:
        torch.manual_seed(0)
        paper = learned()[name][1].split(".")[2]
        module = find_paper(paper).module_class()(load_config(paper, ["preset=nano"]).paper())
        path = folder / "nano.safetensors"
        save_weights(path, module.export_weights(), module.metadata())
        return Subject(name, open_codec(f"{name}:{path}"), path)

    return make


# Name -> a function that makes the subject in an empty folder; learned codecs save their weights there, so that
# another process can open them.
CONTRACT_CODECS: dict[str, Callable[[Path], Subject]] = {
    name: _classical(name)
    for name in CLASSICAL
    if name != "bpg" or (shutil.which("bpgenc") and shutil.which("bpgdec"))
} | {name: _learned(name) for name in learned()}


@pytest.fixture(scope="module", params=list(CONTRACT_CODECS))
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return CONTRACT_CODECS[request.param](tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    """Cut-outs of a photograph in every size, and a grey and a flat one."""
    photograph = np.asarray(load_sample_image("china.jpg"))
    found = {f"{h}x{w}": photograph[100 : 100 + h, 200 : 200 + w].copy() for h, w in SIZES}
    found["grey"] = np.repeat(photograph[50:90, 60:121, 1:2], 3, axis=2)
    found["flat"] = np.full((40, 24, 3), (200, 30, 90), np.uint8)
    return found


@pytest.fixture(scope="module")
def files(subject: Subject, pictures: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: subject.codec.encode(picture) for name, picture in pictures.items()}


class TestEveryCodec:
    def test_a_picture_comes_back_in_shape(self, subject, pictures, files):
        for name, picture in pictures.items():
            decoded = subject.codec.decode(files[name])
            assert decoded.dtype == np.uint8 and decoded.shape == picture.shape, name

    def test_encoding_and_decoding_repeat(self, subject, pictures, files):
        picture = pictures["17x33"]
        assert subject.codec.encode(picture) == files["17x33"]
        first, second = subject.codec.decode(files["161x163"]), subject.codec.decode(files["161x163"])
        np.testing.assert_array_equal(first, second)

    def test_the_picture_is_left_alone_and_strides_do_not_matter(self, subject, pictures, files):
        wide = np.repeat(pictures["17x33"], 2, axis=1)
        strided = wide[:, ::2]
        before = wide.copy()
        assert subject.codec.encode(strided) == files["17x33"]
        np.testing.assert_array_equal(wide, before)

    def test_the_ledger_sums_to_the_file_and_the_overhead_is_small(self, files):
        for name, data in files.items():
            ledger = Container.from_bytes(data).ledger()
            assert sum(ledger.values()) == len(data), name
            assert set(ledger) - {"header"} <= set(SECTIONS)
            assert ledger["header"] <= OVERHEAD, name

    def test_qualities_ascend_in_rate(self, subject, pictures):
        picture = pictures["161x163"]
        ends = (subject.codec.qualities[0], subject.codec.qualities[-1])
        small, large = (bits_per_pixel(subject.codec.encode(picture, quality), picture) for quality in ends)
        # Random weights may code next to nothing at either end.
        assert small <= large if subject.weights else small < large
        assert min(ends) <= subject.codec.default_quality

    def test_another_process_decodes_the_same(self, subject, files):
        for (name, data), there in zip(
            files.items(), elsewhere(all_decoded, [*files.values()], subject.weights), strict=True
        ):
            np.testing.assert_array_equal(there, subject.codec.decode(data), err_msg=name)

    def test_file_size(self, subject, pictures, files):
        for name, data in files.items():
            sections = Container.from_bytes(data).sections
            assert subject.codec.file_size(sections, *pictures[name].shape[:2]) == len(data), name

    def test_a_byte_budget_is_kept_and_used(self, subject, pictures):
        """Between the smallest and the largest file; the share that is used is bounded by the codec's own steps."""
        picture, codec = pictures["161x163"], subject.codec
        small, large = (
            len(codec.encode(picture, quality)) for quality in (codec.qualities[0], codec.qualities[-1])
        )
        assert small < large
        for share in (0.1, 0.5):
            limit = round(small + share * (large - small))
            found = codec.encode_within(picture, limit)
            assert len(found.data) <= limit
            assert len(found.data) >= USED.get(subject.name, 0.9) * limit
            assert codec.encode(picture, target_bpp=8 * limit / (161 * 163)) == found.data
        with pytest.raises(TargetError) as caught:
            codec.encode(picture, target_bytes=20)
        assert 20 < caught.value.best <= small and str(caught.value.best) in str(caught.value)

    def test_a_quality_out_of_range_names_the_range(self, subject, pictures):
        ends = sorted((subject.codec.quality_steps[0], subject.codec.quality_steps[-1]))
        for quality in (ends[0] - 1, ends[1] + 1):
            with pytest.raises(ConfigError, match=f"{ends[0]:g} to {ends[1]:g}"):
                subject.codec.encode(pictures["17x33"], quality)
        with pytest.raises(ConfigError, match="quality=nan: a number is needed"):
            subject.codec.encode(pictures["17x33"], float("nan"))

    @pytest.mark.parametrize("kept", [0, 1, 3, 4, 12, 0.3, 0.6, 0.95, -4, -1])
    def test_truncation(self, subject, files, kept):
        data = files["64x48"]
        end = int(kept * len(data)) if isinstance(kept, float) else kept
        _must_refuse(subject.codec, data[:end])

    @pytest.mark.parametrize("place", [0, 2, 3, 4, 6, 12, 16, 0.2, 0.5, 0.8, -5, -4, -1])
    def test_flipped_bits(self, subject, files, place):
        data = bytearray(files["64x48"])
        data[int(place * len(data)) if isinstance(place, float) else place] ^= 0x10
        _must_refuse(subject.codec, bytes(data))

    def test_foreign_bytes(self, subject):
        for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(100), b"gnc", bytes(range(256))):
            _must_refuse(subject.codec, data)

    def test_lack_of_memory_is_no_damage(self, subject, files, monkeypatch):
        errors = [MemoryError()]
        if subject.weights:
            errors.append(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
            errors.append(
                RuntimeError(
                    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"
                )
            )
        for error in errors:
            monkeypatch.setattr(subject.codec, "_decode", Mock(side_effect=error))
            with pytest.raises(OutOfMemoryError, match="decode 64×48 pixels"):
                subject.codec.decode(files["64x48"])
            monkeypatch.setattr(subject.codec, "_encoder", Mock(side_effect=error))
            with pytest.raises(OutOfMemoryError, match="encode 8×8 pixels"):
                subject.codec.encoder(np.zeros((8, 8, 3), np.uint8))

    def test_bytes_after_the_end(self, subject, files):
        _must_refuse(subject.codec, files["64x48"] + b"\0")

    def test_a_newer_version(self, subject, files):
        body = bytearray(files["64x48"][:-4])
        body[3] = VERSION + 1
        with pytest.raises(NewerFormatError, match="upgrade"):
            subject.codec.decode(_sealed(body))

    def test_another_codec(self, subject, files):
        container = dataclasses.replace(Container.from_bytes(files["64x48"]), codec="other")
        with pytest.raises(ForeignFileError, match="other"):
            subject.codec.decode(container.to_bytes())
        with pytest.raises(ForeignFileError):
            codec_for(container.to_bytes())

    def test_other_weights(self, subject, files):
        container = dataclasses.replace(Container.from_bytes(files["64x48"]), weights=b"\xff\xfe\xfd\xfc")
        with pytest.raises(WeightsError, match="fffefdfc"):
            subject.codec.decode(container.to_bytes())

    @pytest.mark.parametrize("size", [(MAX_SIDE, MAX_SIDE), (1, MAX_SIDE), (512, 48), (64, 1024)])
    def test_a_false_size_with_a_true_checksum(self, subject, files, size):
        """Far off: a few pixels either way may be what a codec fills its blocks up with."""
        honest = Container.from_bytes(files["64x48"])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _must_refuse(subject.codec, dataclasses.replace(honest, height=size[0], width=size[1]).to_bytes())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
        assert grown < 100 * 1024, "memory was taken on the header's word"

    def test_an_absurd_section_length_with_a_true_checksum(self, subject, files):
        honest = Container.from_bytes(files["64x48"])
        empty = dataclasses.replace(honest, sections={}).to_bytes()[:-4]
        _must_refuse(subject.codec, _sealed(empty + b"\x00" + write_varint(2**34) + b"abc"))

    def test_missing_and_empty_sections(self, subject, files):
        honest = Container.from_bytes(files["64x48"])
        _must_refuse(subject.codec, dataclasses.replace(honest, sections={}).to_bytes())
        emptied = dict.fromkeys(honest.sections, b"")
        _must_refuse(subject.codec, dataclasses.replace(honest, sections=emptied).to_bytes())

    @pytest.mark.parametrize(
        "picture",
        [
            np.zeros((8, 8), np.uint8),
            np.zeros((8, 8, 4), np.uint8),
            np.zeros((8, 8, 3), np.float32),
            np.zeros((0, 8, 3), np.uint8),
            np.broadcast_to(np.uint8(0), (MAX_SIDE + 1, 1, 3)),
            [[1, 2, 3]],
            None,
        ],
        ids=["grey", "four channels", "float", "empty", "too large", "list", "none"],
    )
    def test_what_is_no_picture(self, subject, picture):
        with pytest.raises(ImageError):
            subject.codec.encode(picture)


def _must_refuse(codec: Codec, data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(BitstreamError) as caught:
        codec.decode(data)
    assert time.perf_counter() - start < QUICK
    assert len(str(caught.value)) > 10


def _sealed(body: bytes) -> bytes:
    return bytes(body) + zlib.crc32(bytes(body)).to_bytes(4, "little")


class TestContainer:
    def test_layout(self):
        """The bytes of format version 1, written out; they must not change."""
        container = Container("ab", 300, 5, {"payload": b"xyz", "palette": b""}, b"\1\2\3\4")
        body = b"gnc\x01\x02ab\x01\x02\x03\x04\xac\x02\x05\x00\x03xyz\x0b\x00"
        assert container.to_bytes() == _sealed(body)
        assert Container.from_bytes(_sealed(body)) == container

    def test_ledger(self):
        container = Container("jpeg", 8, 8, {"payload": bytes(200), "mask": bytes(7)})
        assert container.ledger() == {"header": 13 + 4 + 2 + 3 + 2, "payload": 200, "mask": 7}
        assert sum(container.ledger().values()) == len(container.to_bytes())

    def test_sections_keep_their_numbers(self):
        assert SECTIONS[:4] == ("payload", "parameters", "hyper_latents", "latents")
        assert SECTIONS[11] == "palette" and len(set(SECTIONS)) == len(SECTIONS) < 256

    @pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**35 - 1])
    def test_varints(self, value):
        assert read_varint(b"\xff" + write_varint(value) + b"\xff", 1) == (
            value,
            1 + len(write_varint(value)),
        )

    def test_endless_and_cut_varints(self):
        with pytest.raises(DamagedFileError, match="five bytes"):
            read_varint(b"\x80" * 20, 0)
        with pytest.raises(DamagedFileError, match="truncated"):
            read_varint(b"\x80\x80", 0)

    def test_every_single_bit_counts(self):
        data = Container("jpeg", 8, 8, {"payload": b"0123456789"}).to_bytes()
        for place in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[place // 8] ^= 1 << place % 8
            with pytest.raises(BitstreamError):
                Container.from_bytes(bytes(damaged))

    @pytest.mark.parametrize(
        ("tail", "error"),
        [
            (b"\x00\x05ab", DamagedFileError),  # a section longer than the file
            (b"\x00\x01a\x00\x01b", DamagedFileError),  # twice the same
            (b"\xfe\x01a", NewerFormatError),  # of a type yet to come
            (b"\x00", DamagedFileError),  # without a length
        ],
    )
    def test_false_sections(self, tail, error):
        with pytest.raises(error):
            Container.from_bytes(_sealed(Container("jpeg", 8, 8).to_bytes()[:-4] + tail))

    @pytest.mark.parametrize(
        "sides", [b"\x00\x08", b"\x08\x00", b"\x81\x40\x08", b"\x08\xff\xff\xff\xff\x7f"]
    )
    def test_false_sides(self, sides):
        with pytest.raises(DamagedFileError, match="sides are 1 to 8192"):
            Container.from_bytes(_sealed(b"gnc\x01\x04jpeg\0\0\0\0" + sides))

    def test_a_codec_id_beyond_ascii(self):
        with pytest.raises(DamagedFileError, match="ASCII"):
            Container.from_bytes(_sealed(b"gnc\x01\x02\xc3\xa4\0\0\0\0\x08\x08"))

    def test_what_cannot_be_written(self):
        for bad in (
            Container("", 8, 8),
            Container("a" * 17, 8, 8),
            Container("jpeg", 0, 8),
            Container("jpeg", 8, MAX_SIDE + 1),
            Container("jpeg", 8, 8, weights=b"abc"),
        ):
            with pytest.raises(ValueError):
                bad.to_bytes()

    def test_not_bytes(self):
        with pytest.raises(TypeError):
            Container.from_bytes("gnc")


class TestRegistry:
    def test_identifiers_are_unique_and_those_of_the_codecs(self):
        identifiers = [identifier for identifier, _ in [*CLASSICAL.values(), *learned().values()]]
        assert len(set(identifiers)) == len(identifiers)
        for name, (identifier, _) in CLASSICAL.items():
            assert open_codec(name).id == identifier

    def test_an_unknown_codec_names_the_nearest(self):
        with pytest.raises(ConfigError, match="'jpeg2000'"):
            open_codec("jpeg200")
        with pytest.raises(ConfigError, match="there are"):
            open_codec("zzzzzz")

    def test_the_largest_picture_is_a_picture(self):
        check_image(np.broadcast_to(np.uint8(0), (MAX_SIDE, MAX_SIDE, 3)))


@pytest.mark.parametrize("name", ["hyperprior", "selective_detail", "gdae", "jpeg"])
def test_many_pictures(name: str) -> None:
    """Of two sizes, each in its place; a batch codes the symbols of one picture to the bytes that they have alone."""
    codec = open_codec(name)
    images = [photograph(40, 56, top=10 * k) for k in range(3)] + [photograph(24, 40)]
    order = [3, 0, 1, 2]
    files = codec.encode_many([images[k] for k in order], codec.qualities[0])
    alone = [codec.encode(images[k], codec.qualities[0]) for k in order]
    assert [len(file) for file in files] == pytest.approx([len(file) for file in alone], abs=8)
    pictures = codec.decode_many(files)
    for file, picture, k in zip(files, pictures, order, strict=True):
        assert picture.shape == images[k].shape
        assert np.abs(codec.decode(file).astype(int) - picture).max() <= 1
    with pytest.raises(DamagedFileError):
        codec.decode_many([files[1], files[2][:-1] + bytes([files[2][-1] ^ 1]), files[3]])
    with pytest.raises(ConfigError, match="quality"):
        codec.encode_many(images, 1000)
