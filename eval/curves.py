"""Rate-distortion curves: ours from results, and published ones."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genic.eval.compressai import from_compressai
from genic.eval.measures import DISTANCES, MEASURES, Measure
from genic.eval.schema import CodecResult, Point
from genic.lightning_modules.codec.errors import DataError

REFERENCE = Path("reference", "kodak_published.json")


class PerPicture(NamedTuple):
    """What a curve's means are of.

    Attributes:
        names: of the pictures, N.
        rate: bits per pixel, [points, N]. value: the measure's summands, [points, N]; MS-SSIM, not its decibels.
    """

    names: list[str]
    rate: np.ndarray
    value: np.ndarray

    def curve(self, measure: Measure, weights: np.ndarray) -> np.ndarray:
        """[…, points, (rate, value)], ascending in rate, of means with ``weights`` […, N] that sum to 1."""
        points = np.stack([weights @ self.rate.T, weights @ self.value.T], -1)
        if measure.key == "ms_ssim_db":
            points[..., 1] = -10 * np.log10(1 - points[..., 1])
        return np.take_along_axis(points, np.argsort(points[..., :1], -2, kind="stable"), -2)


@dataclass(frozen=True)
class Curve:
    """Means over a data set, in ascending order of rate.

    Attributes:
        name: for legends.
        points: by measure's key, arrays of (bits per pixel, value), N×2; a measure may be absent.
        published: drawn from others' figures, not measured here.
        pictures: by measure's key; empty for published curves.
    """

    name: str
    points: dict[str, np.ndarray]
    published: bool = False
    pictures: dict[str, PerPicture] = field(default_factory=dict)

    def at(self, key: str, bpp: float) -> float | None:
        """The measure at a rate, linear in log rate between the neighbouring points; None outside them."""
        points = self.points.get(key)
        if points is None or not points[0, 0] <= bpp <= points[-1, 0]:
            return None
        return float(np.interp(math.log(bpp), np.log(points[:, 0]), points[:, 1]))


def curve_of(result: CodecResult) -> Curve:
    """The curve of a result's means."""
    points = sorted(result.points, key=lambda point: point.mean.bpp)
    rate = [point.mean.bpp for point in points]
    columns = {measure.key: [getattr(point.mean, measure.key) for point in points] for measure in MEASURES}
    columns = {key: values for key, values in columns.items() if _defined(values)}
    pictures = {}
    names = [image.name for image in points[0].images]
    if names and all([image.name for image in point.images] == names for point in points):
        for key in columns:
            if key in DISTANCES:
                continue
            value = _matrix(points, "ms_ssim" if key == "ms_ssim_db" else key)
            pictures[key] = PerPicture(names, _matrix(points, "bpp"), value)
    return Curve(
        result.codec,
        {key: _column(rate, values) for key, values in columns.items()},
        pictures=pictures,
    )


def load_results(folder: Path, data: str) -> list[CodecResult]:
    """Every result under ``folder``/``data``, of ours or in CompressAI's form, by file name.

    Raises:
        DataError: there is none, a file is something else, or is of other pictures than the rest; it is named.
    """
    paths = sorted((folder / data).glob("*.json"))
    if not paths:
        raise DataError(
            f"no results in {folder / data}: run python -m experiments.evaluate CODEC... --data {data}"
        )
    results = [_load(path, data) for path in paths]
    counts = Counter(result.manifest for result in results if result.manifest is not None)
    for path, result in zip(paths, results, strict=True):
        if result.manifest is not None and result.manifest != (usual := counts.most_common(1)[0][0]):
            raise DataError(
                f"{path} is of other pictures (manifest {result.manifest[:8]}) than the rest of its folder "
                f"({usual[:8]}): results of different pictures cannot be compared; move it into a folder of its own"
            )
    return results


def load_reference(path: Path) -> list[Curve]:
    """Published curves; the file's form is ``{"curves": {name: {"points": {"bpp": […], metric: […]}}}}``."""
    try:
        curves = json.loads(path.read_text())["curves"]
        return [_published(name, entry["points"]) for name, entry in curves.items()]
    except OSError as error:
        raise DataError(f"published curves cannot be read: {error}; give another --reference") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} does not hold published curves: {error!r}; give another --reference"
        ) from error


def shipped_reference(data: str) -> list[Curve]:
    """Others' published figures on a data set that come with this package, sources in the file; perhaps none."""
    path = Path(__file__).parent / "published" / f"{data}.json"
    return load_reference(path) if path.is_file() else []


def published_curves(data: str, reference: Path | None) -> list[Curve]:
    """Those that come with `eval`, and those of a file that have other names."""
    published = shipped_reference(data)
    known = {curve.name for curve in published}
    if reference is not None:
        published += [curve for curve in load_reference(reference) if curve.name not in known]
    return published


def find_reference() -> Path | None:
    """The published Kodak curves beside the data (``$GENIC_DATA``, or ``../shared``), where there are any."""
    roots = [Path(root) for root in (os.environ.get("GENIC_DATA"), "../shared") if root]
    return next((root / REFERENCE for root in roots if (root / REFERENCE).is_file()), None)


def _load(path: Path, data: str) -> CodecResult:
    try:
        content = json.loads(path.read_text())
        if isinstance(content, dict) and "results" in content:
            return from_compressai(content, data)
        return CodecResult.from_json(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; move it elsewhere or evaluate again") from error
    except DataError as error:
        raise DataError(f"{path}: {error}; if it is no result, move it elsewhere") from error


def _published(name: str, points: dict[str, list[float]]) -> Curve:
    found = {}
    for measure in MEASURES:
        if points.get(measure.key):
            rate = points.get("bpp_ms_ssim", points["bpp"]) if measure.key == "ms_ssim_db" else points["bpp"]
            found[measure.key] = _column(rate, points[measure.key])
    return Curve(name, found, published=True)


def _matrix(points: Sequence[Point], name: str) -> np.ndarray:
    return np.array([[getattr(image, name) for image in point.images] for point in points])


def _column(rate: list[float], values: list[float]) -> np.ndarray:
    points = np.array([rate, values], float).T
    return points[np.argsort(points[:, 0], kind="stable")]


def _defined(values: list[float | None]) -> bool:
    return bool(values) and all(value is not None and math.isfinite(value) for value in values)
