"""A file's section ``parameters``."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from lightning_modules.codec.container import read_varint, write_varint
from lightning_modules.codec.errors import DamagedFileError
from lightning_modules.ppgn_inpainting.config import SCALES

SCHEMES = ("thumbnail", "square", "pixels", "edges", "blocks", "blocks_random", "selective")
ASSISTANTS = ("edge", "style", "content", "boundary")
_SAMPLED = 0x80
_REFINE = 1 << len(ASSISTANTS)
_NO_CLASS = 0xFFFF


@dataclass(frozen=True)
class Sampled:
    """How the decoder samples.

    Attributes:
        steps: 1 to 255. seed: of the noise, 0 to 255. label: class y, or None.
        classifier: identity of E's weights.
        assistants: of `ASSISTANTS`, the losses that take part.
        refine: sampling moves the feed-forward picture; else G's picture is shown, as published.
    """

    steps: int
    seed: int
    label: int | None
    classifier: bytes
    assistants: tuple[str, ...]
    refine: bool


@dataclass(frozen=True)
class Parameters:
    """Everything of a file that is no stream.

    Attributes:
        scheme: of `SCHEMES`.
        thumbnail: index into `SCALES` of the section ``thumbnail``, or None.
        side: of the kept square. count: of random pixels, or random blocks. step: of single pixels' quantiser.
        block: side of a block. seed: of random places, 0 to 255.
    """

    scheme: str
    thumbnail: int | None = None
    side: int = 0
    count: int = 0
    step: int = 0
    block: int = 1
    seed: int = 0
    sampled: Sampled | None = None

    def to_bytes(self, height: int, width: int) -> bytes:
        """Serialise; bound to the picture's size, so that a false one is found out at once."""
        s = self.sampled
        out = bytes([SCHEMES.index(self.scheme) | (_SAMPLED if s else 0)]) + _check(height, width)
        out += bytes([0 if self.thumbnail is None else self.thumbnail + 1])
        if self.scheme == "square":
            out += write_varint(self.side)
        if self.scheme in ("pixels", "blocks_random"):
            out += write_varint(self.count) + bytes([self.seed])
        if self.scheme in ("pixels", "edges"):
            out += bytes([self.step])
        if self.scheme in ("blocks", "blocks_random", "selective"):
            out += bytes([self.block.bit_length() - 1])
        if s is not None:
            bits = sum(1 << ASSISTANTS.index(name) for name in s.assistants) | (_REFINE if s.refine else 0)
            label = _NO_CLASS if s.label is None else s.label
            out += bytes([s.steps, s.seed, bits]) + label.to_bytes(2, "little") + s.classifier
        return out

    @classmethod
    def from_bytes(cls, data: bytes, height: int, width: int) -> Parameters:
        """The inverse of `to_bytes`; `DamagedFileError` for anything that it would not write."""
        try:
            found = cls._parsed(data)
            whole = found.to_bytes(height, width)
        except (IndexError, ValueError) as error:
            raise DamagedFileError(f"the parameters cannot be read: {error}") from None
        if whole != data:
            raise DamagedFileError("the parameters do not belong to a picture of this size")
        return found

    @classmethod
    def _parsed(cls, data: bytes) -> Parameters:
        scheme = SCHEMES[data[0] & ~_SAMPLED]
        thumbnail = data[3] - 1 if data[3] else None
        if thumbnail is not None and thumbnail >= len(SCALES):
            raise ValueError(f"no thumbnail's scale {thumbnail}")
        side = count = step = seed = 0
        block, at = 1, 4
        if scheme == "square":
            side, at = read_varint(data, at)
        if scheme in ("pixels", "blocks_random"):
            count, at = read_varint(data, at)
            seed, at = data[at], at + 1
        if scheme in ("pixels", "edges"):
            step, at = data[at], at + 1
        if scheme in ("blocks", "blocks_random", "selective"):
            block, at = 1 << min(data[at], 13), at + 1
        sampled = None
        if data[0] & _SAMPLED:
            steps, noise, bits = data[at : at + 3]
            label = int.from_bytes(data[at + 3 : at + 5], "little")
            names = tuple(name for k, name in enumerate(ASSISTANTS) if bits >> k & 1)
            classifier = data[at + 5 : at + 9]
            if len(classifier) != 4:
                raise ValueError("they are cut short")
            sampled = Sampled(
                steps, noise, None if label == _NO_CLASS else label, classifier, names, bool(bits & _REFINE)
            )
        return cls(scheme, thumbnail, side, count, step, block, seed, sampled)


def _check(height: int, width: int) -> bytes:
    return zlib.crc32(f"{height} {width}".encode()).to_bytes(4, "little")[:2]
