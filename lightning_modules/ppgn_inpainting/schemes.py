"""What a file keeps of a picture: the schemes with their options, and the section ``parameters`` that names them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from genic.lightning_modules.codec.container import read_varint, write_varint
from genic.lightning_modules.codec.errors import ConfigError, DamagedFileError
from genic.lightning_modules.codec.options import HeatMap, check_known
from genic.lightning_modules.config import require

ASSISTANTS = ("edge", "style", "content", "boundary")
SCALES = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16)
"""Scales of a thumbnail; a file holds the index."""
_KNOWN_SCALES = f"one of the thumbnails' {', '.join(f'{scale:.3g}' for scale in SCALES)}"


def scale_index(scale: float | None) -> int | None:
    """Index into `SCALES`, None where there is no such scale."""
    near = (index for index, known in enumerate(SCALES) if scale is not None and abs(scale - known) <= 0.01)
    return next(near, None)


# Option -> what is right, and how an error says it.
_RIGHT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "steps": (lambda v: 1 <= v <= 255, "0 (no sampling) to 255"),
    "assistants": (lambda v: set(v) <= set(ASSISTANTS), f"some of {', '.join(ASSISTANTS)}"),
    "share": (lambda v: 0 < v < 1, "a number between 0 and 1"),
    "seed": (lambda v: 0 <= v <= 255, "0 to 255"),
    "keep": (lambda v: 0 < v <= 1, "above 0, to 1"),
    "far": (lambda v: 0 <= v < 1, "0 or more, below 1"),
    "count": (lambda v: v is None or v >= 1, "1 or more"),
    "step": (lambda v: 1 <= v <= 255, "1 to 255"),
    "block": (lambda v: 2 <= v <= 128 and not v & (v - 1), "a power of 2 from 2 to 128"),
    "scale": (lambda v: v is None or scale_index(v) is not None, _KNOWN_SCALES),
    "assist": (lambda v: v is None or scale_index(v) is not None, _KNOWN_SCALES),
}


@dataclass(frozen=True)
class _Checked:
    """Options that are checked when they are put together; `ConfigError` names the one that is wrong."""

    def __post_init__(self) -> None:
        for field in fields(self):
            right, needed = _RIGHT.get(field.name, (lambda _: True, ""))
            value = getattr(self, field.name)
            require(right(value), field.name, value, needed)


@dataclass(frozen=True)
class Sampling(_Checked):
    """PPGN sampling in the decoder.

    Attributes:
        steps: 1 to 255.
        refine: sampling moves the filler's picture; False shows G's own, as published.
        assistants: losses of `ASSISTANTS` that take part. Their targets take bytes of the budget.
        label: class of the condition C; ``best`` is the classifier's for the original, None leaves C out.
    """

    steps: int
    refine: bool = True
    assistants: tuple[str, ...] = ()
    label: int | str | None = "best"


@dataclass(frozen=True)
class Thumbnail(_Checked):
    """The shrunk picture; the default and the best.

    Attributes:
        scale: of `SCALES`; None for what suits the budget.
        search: try the neighbouring scales too and take the picture of highest SSIM.
    """

    scale: float | None = None
    search: bool = False


@dataclass(frozen=True)
class Selective(_Checked):
    """A thumbnail, and detail where ``importance`` is.

    Attributes:
        importance: H×W, 0 to 1; blocks of 0.5 or more on average get detail.
        scale: of the thumbnail, as in `Thumbnail`.
        share: of the budget for the thumbnail.
        block: side of a block in pixels, a power of 2.
    """

    importance: HeatMap
    scale: float | None = None
    share: float = 0.5
    block: int = 16


@dataclass(frozen=True, kw_only=True)
class Masked(_Checked):
    """Pixels that are kept as they are, and holes that the decoder fills.

    Attributes:
        assist: scale of a thumbnail that goes with them; None for none, as published.
        seed: of random places and of sampling's noise, 0 to 255.
        sampling: what follows the filler; None for nothing.
    """

    assist: float | None = None
    seed: int = 0
    sampling: Sampling | None = None


@dataclass(frozen=True, kw_only=True)
class Square(Masked):
    """The central square.

    Attributes:
        keep: its side over the picture's shorter side, 100 of 256 as published.
    """

    keep: float = 100 / 256


@dataclass(frozen=True, kw_only=True)
class Pixels(Masked):
    """Single pixels at random places.

    Attributes:
        count: of pixels, whatever the budget; None for as many as fit.
        step: of the quantiser of their colours, on the scale 0 to 255.
    """

    count: int | None = None
    step: int = 24


@dataclass(frozen=True, kw_only=True)
class EdgePixels(Pixels):
    """Single pixels on the strongest edges."""


@dataclass(frozen=True, kw_only=True)
class Blocks(Masked):
    """Blocks with the most edge in them.

    Attributes:
        keep: share of the blocks.
        block: side in pixels, a power of 2.
        importance: H×W, 0 to 1; blocks of more of it are kept first, before edges count.
    """

    keep: float = 0.3
    block: int = 16
    importance: HeatMap | None = None


@dataclass(frozen=True, kw_only=True)
class BlocksRandom(Blocks):
    """Some of the blocks near edges, and random ones far from them.

    Attributes:
        far: the random ones' share.
    """

    far: float = 0.3


Scheme = Thumbnail | Selective | Masked
SCHEMES: dict[str, type] = {
    "thumbnail": Thumbnail,
    "square": Square,
    "pixels": Pixels,
    "edges": EdgePixels,
    "blocks": Blocks,
    "blocks_random": BlocksRandom,
    "selective": Selective,
}
"""By name; a file holds the number in this order."""


def scheme_of(scheme: str | Scheme, options: Mapping[str, Any]) -> Scheme:
    """A scheme by its name and the options of its class by keyword, those of `Sampling` among them.

    Raises:
        ConfigError: no such scheme, an option that is not the scheme's, or a value out of range.
    """
    if not isinstance(scheme, str):
        require(not options, "scheme", scheme, f"either a scheme or its name with {', '.join(options)}")
        return scheme
    require(scheme in SCHEMES, "scheme", repr(scheme), f"one of {', '.join(SCHEMES)}")
    kind, options = SCHEMES[scheme], dict(options)
    known = [field.name for field in fields(kind)]
    if "sampling" in known and "sampling" not in options:
        given: dict[str, Any] = {f.name: options.pop(f.name) for f in fields(Sampling) if f.name in options}
        if given.get("steps"):
            given["assistants"] = tuple(given.get("assistants", ()))
            options["sampling"] = Sampling(**given)
        elif given.get("assistants"):
            raise ConfigError("assistant losses take part in sampling: give steps")
    elif options.get("steps") == 0:
        del options["steps"]
    if "steps" in options:
        raise ConfigError(f"sampling needs kept pixels: use a scheme other than {scheme!r}, or steps=0")
    check_known(options, known, f"the scheme {scheme!r}")
    if kind is Selective and options.get("importance") is None:
        raise ConfigError("the selective scheme wants a map: importance=H×W numbers from 0 to 1")
    return kind(**options)


def name_of(scheme: Scheme) -> str:
    """The scheme's name."""
    return next(name for name, kind in SCHEMES.items() if type(scheme) is kind)


def suitable_scale(bpp: float) -> int:
    """Index of the thumbnail's scale that gave the highest SSIM on photographs at about this rate."""
    return next((index for index, least in enumerate((0.5, 0.2, 0.05, 0.02)) if bpp >= least), 4)


_SAMPLED = 0x80
_REFINE = 1 << len(ASSISTANTS)
_NO_CLASS = 0xFFFF
# What the parameters of each scheme hold, in order.
_HELD = {
    "square": ("side",),
    "pixels": ("count", "seed", "step"),
    "edges": ("step",),
    "blocks": ("block",),
    "blocks_random": ("count", "seed", "block"),
    "selective": ("block",),
}


@dataclass(frozen=True)
class Parameters:
    """Everything of a file that is no stream.

    Attributes:
        scheme: of `SCHEMES`.
        thumbnail: index into `SCALES` of the section ``thumbnail``, or None.
        side: of the kept square. count: of random pixels, or random blocks. step: of single pixels' quantiser.
        block: side of a block. seed: of random places and of sampling's noise, 0 to 255.
        sampling: with a class's number or None as label. classifier: identity of E's weights, 4 bytes.
    """

    scheme: str
    thumbnail: int | None = None
    side: int = 0
    count: int = 0
    step: int = 0
    block: int = 1
    seed: int = 0
    sampling: Sampling | None = None
    classifier: bytes = b""

    def to_bytes(self, height: int, width: int) -> bytes:
        """Serialise; bound to the picture's size, so that a false one is found out at once."""
        s = self.sampling
        out = bytes([list(SCHEMES).index(self.scheme) | (_SAMPLED if s else 0)]) + _check(height, width)
        out += bytes([0 if self.thumbnail is None else self.thumbnail + 1])
        for name in _HELD.get(self.scheme, ()):
            value = getattr(self, name)
            if name in ("side", "count"):
                out += write_varint(value)
            else:
                out += bytes([value.bit_length() - 1 if name == "block" else value])
        if s is not None:
            bits = sum(1 << ASSISTANTS.index(name) for name in s.assistants) | (_REFINE if s.refine else 0)
            assert not isinstance(s.label, str), "the encoder has put the class's number there"
            label = _NO_CLASS if s.label is None else s.label
            out += bytes([s.steps, self.seed, bits]) + label.to_bytes(2, "little") + self.classifier
        return out

    @classmethod
    def from_bytes(cls, data: bytes, height: int, width: int) -> Parameters:
        """The inverse of `to_bytes`; `DamagedFileError` for anything that it would not write."""
        try:
            found = cls._parsed(data)
            whole = found.to_bytes(height, width)
        except (IndexError, ValueError, ConfigError) as error:
            raise DamagedFileError(f"the parameters cannot be read: {error}") from None
        if whole != data:
            raise DamagedFileError("the parameters do not belong to a picture of this size")
        return found

    def held(self) -> dict[str, object]:
        """What a file of this scheme holds beyond scheme and thumbnail."""
        sampling = {} if self.sampling is None else asdict(self.sampling)
        return {name: getattr(self, name) for name in _HELD.get(self.scheme, ())} | sampling

    @classmethod
    def _parsed(cls, data: bytes) -> Parameters:
        scheme = list(SCHEMES)[data[0] & ~_SAMPLED]
        thumbnail = data[3] - 1 if data[3] else None
        if thumbnail is not None and thumbnail >= len(SCALES):
            raise ValueError(f"no thumbnail's scale {thumbnail}")
        held, at = {}, 4
        for name in _HELD.get(scheme, ()):
            if name in ("side", "count"):
                held[name], at = read_varint(data, at)
            else:
                held[name], at = (1 << min(data[at], 13) if name == "block" else data[at]), at + 1
        if data[0] & _SAMPLED:
            steps, held["seed"], bits = data[at : at + 3]
            label = int.from_bytes(data[at + 3 : at + 5], "little")
            names = tuple(name for k, name in enumerate(ASSISTANTS) if bits >> k & 1)
            held["classifier"] = data[at + 5 : at + 9]
            if len(held["classifier"]) != 4:
                raise ValueError("they are cut short")
            known = None if label == _NO_CLASS else label
            held["sampling"] = Sampling(steps, bool(bits & _REFINE), names, known)
        return cls(scheme, thumbnail, **held)


def _check(height: int, width: int) -> bytes:
    return zlib.crc32(f"{height} {width}".encode()).to_bytes(4, "little")[:2]
