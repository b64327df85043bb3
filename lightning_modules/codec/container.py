"""The file format: a self-describing container of named sections.

Layout (version 1, multi-byte integers little-endian, ``varint`` = unsigned LEB128)::

    magic     3  b"gnc"
    version   1  0x01
    codec id  1 + n   length, ASCII
    weights   4  first bytes of the weights' SHA-256; zeros for a codec without weights
    H, W      varint, varint
    sections  (type 1, length varint, payload)*
    CRC-32    4  of everything before it

A section's type is a number in the file and a name in the ledger: the table `SECTIONS` is part of the
format, so entries are only ever appended. Fixed overhead is 13 bytes + codec id + size varints +
2 to 4 bytes a section.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from genic.lightning_modules.codec.errors import DamagedFileError, ForeignFileError, NewerFormatError

MAGIC = b"gnc"
VERSION = 1
MAX_SIDE = 8192
MAX_ID = 16
NO_WEIGHTS = bytes(4)

SECTIONS = (
    "payload",  # 0: a classical codec's own stream
    "parameters",  # 1: operating point, seeds, symbol check
    "hyper_latents",  # 2
    "latents",  # 3
    "escapes",  # 4: symbols beyond the tables' support
    "residual",  # 5
    "mask",  # 6
    "semantic_map",  # 7
    "thumbnail",  # 8
    "kept_pixels",  # 9
    "edges",  # 10
    "palette",  # 11
    "alpha",  # 12: transparency without loss, beside any codec's sections
    "restoration",  # 13: a network restores what quantisation took: the strength it is told
)


@dataclass(frozen=True)
class Container:
    """One compressed picture.

    Attributes:
        codec: identifier of the codec, 1 to 16 ASCII characters.
        height, width: size of the picture in pixels, 1 to 8192.
        sections: payloads by name (a key of `SECTIONS`), in file order.
        weights: 4-byte identity of the weights needed for decoding.
    """

    codec: str
    height: int
    width: int
    sections: dict[str, bytes] = field(default_factory=dict)
    weights: bytes = NO_WEIGHTS

    def to_bytes(self) -> bytes:
        """Serialise; the inverse of `from_bytes`."""
        name = self.codec.encode("ascii")
        if not 1 <= len(name) <= MAX_ID or len(self.weights) != 4:
            raise ValueError(
                f"a codec id of 1 to {MAX_ID} characters and 4 bytes of weights id, not {self.codec!r}"
            )
        if not (1 <= self.height <= MAX_SIDE and 1 <= self.width <= MAX_SIDE):
            raise ValueError(f"sides of 1 to {MAX_SIDE} needed, not {self.height}×{self.width}")
        out = bytearray(MAGIC)
        out.append(VERSION)
        out.append(len(name))
        out += name + self.weights + write_varint(self.height) + write_varint(self.width)
        for section, payload in self.sections.items():
            out.append(SECTIONS.index(section))
            out += write_varint(len(payload)) + payload
        out += zlib.crc32(out).to_bytes(4, "little")
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> Container:
        """Parse and check.

        Raises:
            ForeignFileError: not a genic file.
            NewerFormatError: a later format version, or a section type unknown to this one.
            DamagedFileError: truncated or altered.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"bytes expected, not {type(data).__name__}")
        data = bytes(data)
        if len(data) < len(MAGIC) or not data.startswith(MAGIC):
            raise ForeignFileError("not a genic file (it does not begin with 'gnc'): use its own program")
        if len(data) < 16:
            raise DamagedFileError(f"truncated: {len(data)} bytes cannot hold a header; fetch the file again")
        if data[3] > VERSION:
            raise NewerFormatError(f"format version {data[3]}, known up to {VERSION}: upgrade genic")
        # The CRC comes before any length or size is believed.
        body, crc = data[:-4], int.from_bytes(data[-4:], "little")
        if zlib.crc32(body) != crc:
            raise DamagedFileError("the CRC does not match: the file is truncated or altered; fetch it again")
        reader = _Reader(body, 4)
        try:
            codec = reader.take(reader.take(1)[0]).decode("ascii")
        except UnicodeDecodeError:
            raise DamagedFileError("the codec id is not ASCII") from None
        weights = reader.take(4)
        height, width = reader.varint(), reader.varint()
        if not 1 <= len(codec) <= MAX_ID:
            raise DamagedFileError(
                f"the header claims a codec id of {len(codec)} characters, not 1 to {MAX_ID}"
            )
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise DamagedFileError(f"the header claims {height}×{width}; sides are 1 to {MAX_SIDE}")
        sections: dict[str, bytes] = {}
        while reader.position < len(body):
            kind = reader.take(1)[0]
            if kind >= len(SECTIONS):
                raise NewerFormatError(f"section type {kind} is unknown to this genic: upgrade genic")
            if SECTIONS[kind] in sections:
                raise DamagedFileError(f"section {SECTIONS[kind]!r} occurs twice")
            sections[SECTIONS[kind]] = reader.take(reader.varint())
        return cls(codec, height, width, sections, weights)

    def section(self, name: str) -> bytes:
        """A section that decoding needs; `DamagedFileError` where the file lacks it."""
        if name not in self.sections:
            raise DamagedFileError(f"the file has no section {name!r}")
        return self.sections[name]

    def ledger(self) -> dict[str, int]:
        """Bytes by name. ``header`` is everything but payloads; the values sum to the file's size."""
        payloads = {name: len(payload) for name, payload in self.sections.items()}
        return {"header": len(self.to_bytes()) - sum(payloads.values()), **payloads}


def write_varint(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Value and next position; at most five bytes, so at most 35 bits."""
    value = 0
    for k in range(5):
        if position + k >= len(data):
            raise DamagedFileError("truncated inside a number")
        byte = data[position + k]
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            return value, position + k + 1
    raise DamagedFileError("a number is longer than five bytes")


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def take(self, n: int) -> bytes:
        if self.position + n > len(self.data):
            raise DamagedFileError(f"a section claims {n} bytes, {len(self.data) - self.position} are left")
        self.position += n
        return self.data[self.position - n : self.position]

    def varint(self) -> int:
        value, self.position = read_varint(self.data, self.position)
        return value
