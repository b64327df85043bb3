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

import json
import math
import re
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from genic.eval.measures import DISTANCES, RECOGNITION, ms_ssim_db
from genic.lightning_modules.codec.errors import DataError
from genic.lightning_modules.codec.files import write_atomic

SCHEMA = 2
STRICT = ConfigDict(strict=True, extra="forbid")
Figure = Annotated[
    float,
    BeforeValidator(lambda value: math.inf if value == "inf" else value),
    PlainSerializer(lambda value: "inf" if value == math.inf else value, when_used="json"),
]
"""A number; infinity is the string ``"inf"`` in JSON."""
PARTIAL = frozenset(name for names in RECOGNITION.values() for name in names)


@dataclass(frozen=True, config=STRICT)
class ImageResult:
    """One picture at one quality.

    Attributes:
        name: of the picture, unique in its data set.
        bytes: of the file.
        ledger: bytes by section; they sum to ``bytes``.
        psnr_rgb to dists, psnr_inside to agreement: see `eval.measures.Metrics`.
        encode_seconds, decode_seconds: wall clock, without reading the picture or starting up; None where files were
            made elsewhere, and in results that are kept for good, since times hang on what else a machine does.
    """

    name: str
    bytes: int
    bpp: Figure
    ledger: dict[str, int]
    psnr_rgb: Figure
    ssim: Figure | None
    ms_ssim: Figure | None
    ms_ssim_db: Figure | None
    encode_seconds: Figure | None = None
    decode_seconds: Figure | None = None
    lpips_alex: Figure | None = None
    lpips_squeeze: Figure | None = None
    lpips_vgg: Figure | None = None
    dists: Figure | None = None
    psnr_inside: Figure | None = None
    psnr_outside: Figure | None = None
    ms_ssim_inside: Figure | None = None
    ms_ssim_outside: Figure | None = None
    lpips_inside: Figure | None = None
    lpips_outside: Figure | None = None
    face_confidence: Figure | None = None
    face_error: Figure | None = None
    text_distance: Figure | None = None
    agreement: Figure | None = None


@dataclass(frozen=True, config=STRICT)
class Means:
    """Over the pictures of one quality; None where a picture lacks the figure, but for those of `RECOGNITION`, whose
    means are over the pictures that have one.

    ``frechet`` to ``kid`` are no means but distances of all pictures at once, see `eval.distances`.
    """

    bpp: Figure
    psnr_rgb: Figure | None
    ssim: Figure | None
    ms_ssim: Figure | None
    ms_ssim_db: Figure | None
    encode_seconds: Figure | None = None
    decode_seconds: Figure | None = None
    lpips_alex: Figure | None = None
    lpips_squeeze: Figure | None = None
    lpips_vgg: Figure | None = None
    dists: Figure | None = None
    frechet: Figure | None = None
    kernel: Figure | None = None
    fid: Figure | None = None
    kid: Figure | None = None
    psnr_inside: Figure | None = None
    psnr_outside: Figure | None = None
    ms_ssim_inside: Figure | None = None
    ms_ssim_outside: Figure | None = None
    lpips_inside: Figure | None = None
    lpips_outside: Figure | None = None
    face_confidence: Figure | None = None
    face_error: Figure | None = None
    text_distance: Figure | None = None
    agreement: Figure | None = None

    @classmethod
    def of(cls, images: list[ImageResult]) -> Means:
        """Means of at least one picture."""

        def mean(name: str) -> float | None:
            values = [getattr(image, name) for image in images]
            if name in PARTIAL:
                values = [value for value in values if value is not None] or [None]
            return None if None in values else math.fsum(values) / len(values)

        ms_ssim = mean("ms_ssim")
        own = {field.name for field in fields(ImageResult)}
        means: dict[str, Any] = {field.name: mean(field.name) for field in fields(cls) if field.name in own}
        means["ms_ssim_db"] = None if ms_ssim is None else ms_ssim_db(ms_ssim)
        return cls(**means)


@dataclass(frozen=True, config=STRICT)
class Point:
    """A codec at one of its qualities or, with ``target_bpp``, each picture at the best one within that rate;
    ``images`` is empty where only means are known."""

    quality: Figure | None
    mean: Means
    images: list[ImageResult] = field(default_factory=list)
    target_bpp: Figure | None = None

    @property
    def label(self) -> str:
        """The quality or the target, as tables have it."""
        if self.target_bpp is not None:
            return f"≤ {self.target_bpp:g} bpp"
        return "–" if self.quality is None else f"{self.quality:g}"


@dataclass(frozen=True, config=STRICT)
class Provenance:
    """Where figures come from; see `eval.provenance`."""

    date: str
    commit: str | None
    machine: str
    threads: int
    processes: int
    versions: dict[str, str]


@dataclass(frozen=True, config=STRICT)
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
        distances: what ``frechet`` to ``kid`` are of: backbone, number and side of patches; None without them.
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
    schema: Literal[2] = SCHEMA

    def has(self, measure: str) -> bool:
        """Whether some point has the figure."""
        return any(getattr(point.mean, measure) is not None for point in self.points)

    def to_json(self) -> str:
        """Strict JSON, a picture a line; figures that were not measured are left out."""
        content: Any = _RESULT.dump_python(self, mode="json", exclude_defaults=True)
        text = json.dumps(content | {"schema": SCHEMA}, indent=1, allow_nan=False)
        return re.sub(r"\n {4,}(?=[^ {])", " ", text) + "\n"

    @classmethod
    def from_json(cls, text: str) -> CodecResult:
        """The inverse of `to_json`; `DataError` where the text is something else."""
        try:
            return _RESULT.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise DataError(
                f"not a result of experiments.evaluate, schema {SCHEMA} ({where}: {first['msg']}); evaluate again"
            ) from error

    def lasting(self) -> CodecResult:
        """What is worth keeping for good: without times, figures to six digits behind the point, means of those."""

        def kept(image: ImageResult) -> ImageResult:
            times = {"encode_seconds": None, "decode_seconds": None}
            figures = {
                name: round(value, 6) for name, value in vars(image).items() if isinstance(value, float)
            }
            return replace(image, **figures | times)

        points = []
        for point in self.points:
            images = [kept(image) for image in point.images]
            distances = {name: getattr(point.mean, name) for name in DISTANCES}
            points.append(replace(point, images=images, mean=replace(Means.of(images), **distances)))
        return replace(self, points=points)

    def with_points_of(self, older: CodecResult) -> CodecResult:
        """This result and an older one's points at other qualities; without these where the two are not of one codec on
        the same pictures, with the same weights, options, libraries and machine."""

        def identity(result: CodecResult) -> tuple:
            where = result.provenance
            made = None if where is None else (where.machine, where.versions)
            return result.codec, result.manifest, result.weights, result.options, made, result.distances

        if self.provenance is None or identity(self) != identity(older):
            return self
        own = {point.label for point in self.points}
        points = [*self.points, *(point for point in older.points if point.label not in own)]
        return replace(self, points=sorted(points, key=lambda point: point.mean.bpp))

    def save(self, path: Path) -> None:
        """Write atomically; folders are made."""
        write_atomic(path, self.to_json().encode())


_RESULT = TypeAdapter(CodecResult)
