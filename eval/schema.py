"""What an evaluation leaves behind: one `CodecResult`, one JSON file, a codec and data set.

``bpp`` is the whole file's bits over the picture's pixels. Means are over pictures, each counted once: PSNR
and SSIM are averaged as they are; ``ms_ssim_db`` of a mean is −10·log10(1 − mean MS-SSIM), as the published
curves have it, not the mean of the pictures' decibels. A figure that is not defined (MS-SSIM of a picture
with a side below 161) is null, and so is a mean over such a one. JSON has no infinity (PSNR of equal
pictures): it is written as the string ``"inf"``.

Two results may be compared where data set and manifest are the same; a result is that of one codec with one set of
weights and coding options, and names the versions of the libraries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from genic.eval.measures import RECOGNITION, ms_ssim_db
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.codec.files import write_atomic

SCHEMA = 2
PARTIAL = frozenset(name for names in RECOGNITION.values() for name in names)


@dataclass(frozen=True)
class ImageResult:
    """One picture at one quality.

    Attributes:
        name: of the picture, unique in its data set.
        bytes: of the file.
        ledger: bytes by section; they sum to ``bytes``.
        psnr_rgb to dists, psnr_inside to agreement: see `eval.measures.Metrics`.
        encode_seconds, decode_seconds: wall clock, without reading the picture or starting up; None where files were
            made elsewhere.
    """

    name: str
    bytes: int
    bpp: float
    ledger: dict[str, int]
    psnr_rgb: float
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    encode_seconds: float | None
    decode_seconds: float | None
    lpips_alex: float | None = None
    lpips_squeeze: float | None = None
    lpips_vgg: float | None = None
    dists: float | None = None
    psnr_inside: float | None = None
    psnr_outside: float | None = None
    ms_ssim_inside: float | None = None
    ms_ssim_outside: float | None = None
    lpips_inside: float | None = None
    lpips_outside: float | None = None
    face_confidence: float | None = None
    face_error: float | None = None
    text_distance: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Means:
    """Over the pictures of one quality; None where a picture lacks the figure, but for those of `RECOGNITION`, whose
    means are over the pictures that have one.

    ``frechet`` to ``kid`` are no means but distances of all pictures at once, see `eval.distances`.
    """

    bpp: float
    psnr_rgb: float | None
    ssim: float | None
    ms_ssim: float | None
    ms_ssim_db: float | None
    encode_seconds: float | None
    decode_seconds: float | None
    lpips_alex: float | None = None
    lpips_squeeze: float | None = None
    lpips_vgg: float | None = None
    dists: float | None = None
    frechet: float | None = None
    kernel: float | None = None
    fid: float | None = None
    kid: float | None = None
    psnr_inside: float | None = None
    psnr_outside: float | None = None
    ms_ssim_inside: float | None = None
    ms_ssim_outside: float | None = None
    lpips_inside: float | None = None
    lpips_outside: float | None = None
    face_confidence: float | None = None
    face_error: float | None = None
    text_distance: float | None = None
    agreement: float | None = None

    @classmethod
    def of(cls, images: list[ImageResult]) -> Means:
        """Means of at least one picture."""

        def mean(name: str) -> float | None:
            values = [getattr(image, name) for image in images]
            if name in PARTIAL:
                values = [value for value in values if value is not None] or [None]
            return None if None in values else math.fsum(values) / len(values)

        ms_ssim = mean("ms_ssim")
        own = {field.name for field in dataclasses.fields(ImageResult)}
        means = {field.name: mean(field.name) for field in dataclasses.fields(cls) if field.name in own}
        return cls(**means | {"ms_ssim_db": None if ms_ssim is None else ms_ssim_db(ms_ssim)})


@dataclass(frozen=True)
class Point:
    """A codec at one of its qualities or, with ``target_bpp``, each picture at the best one within that rate;
    ``images`` is empty where only means are known."""

    quality: float | None
    mean: Means
    images: list[ImageResult] = field(default_factory=list)
    target_bpp: float | None = None

    @property
    def label(self) -> str:
        """The quality or the target, as tables have it."""
        if self.target_bpp is not None:
            return f"≤ {self.target_bpp:g} bpp"
        return "–" if self.quality is None else f"{self.quality:g}"


@dataclass(frozen=True)
class Provenance:
    """Where figures come from; see `eval.provenance`."""

    date: str
    commit: str | None
    machine: str
    threads: int
    processes: int
    versions: dict[str, str]


@dataclass(frozen=True)
class CodecResult:
    """All points of a codec on a data set, in ascending order of rate.

    Attributes:
        codec: as `experiments.evaluate` was given it.
        data: name of the data set.
        manifest: SHA-256 over names and contents of its pictures; None for figures from elsewhere.
        provenance: None for figures from elsewhere.
        weights: identity of the codec's weights, hexadecimal; None where it has none, and for figures from elsewhere.
        options: what else the files depend on, see `Codec.coding_options`.
        unavailable: measures that were asked for and could not be had, and why.
        distances: what ``frechet`` and ``kernel`` are of: backbone and number of patches; None without them.
    """

    codec: str
    data: str
    manifest: str | None
    points: list[Point]
    description: str = ""
    provenance: Provenance | None = None
    weights: str | None = None
    options: dict[str, str | float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    distances: str | None = None
    schema: int = SCHEMA

    def has(self, measure: str) -> bool:
        """Whether some point has the figure."""
        return any(getattr(point.mean, measure) is not None for point in self.points)

    def to_json(self) -> str:
        """Strict JSON, indented."""
        return json.dumps(to_plain(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CodecResult:
        """The inverse of `to_json`; `DataError` where the text is something else."""
        try:
            content = json.loads(text)
            if content["schema"] != SCHEMA:
                raise DataError(
                    f"results of schema {content['schema']}, this genic reads {SCHEMA}: evaluate again"
                )
            return from_plain(cls, content)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"not a result of experiments.evaluate: {error}; evaluate again") from error

    def save(self, path: Path) -> None:
        """Write atomically; folders are made."""
        write_atomic(path, self.to_json().encode())


def to_plain(value: object) -> object:
    """Of a result or a part of it what JSON can hold."""
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    return "inf" if value == math.inf else value


def from_plain(kind: object, value: object) -> object:
    """The inverse of `to_plain`: ``value`` as type ``kind``; raises TypeError or KeyError where it does not fit."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise TypeError(f"unknown keys {', '.join(sorted(unknown))}")
        return kind(**{name: from_plain(hints[name], item) for name, item in value.items()})
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        for one in inner:
            with contextlib.suppress(TypeError):
                return from_plain(one, value)
        raise TypeError(f"{value!r} is not {kind}")
    if origin is list:
        return [from_plain(inner[0], item) for item in value]
    if origin is dict:
        return {key: from_plain(inner[1], item) for key, item in value.items()}
    if kind is float and (value == "inf" or type(value) in (int, float)):
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value
