"""What becomes of the places that matter: figures inside and outside a region, and what machines still recognise.

A region is a map of a picture: the annotator's (faces and text, `datamodules.detectors`), or a file of the user's.
Faces are judged by the detector that finds them in the original, words by an optical character reader, the whole
picture by a classifier: each compares what it sees in the decoded picture with what it sees in the original, and none
needs labels.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from genic.datamodules.detectors import Box, detail_map, find_faces, find_text
from genic.datamodules.images import read_label
from genic.eval import metrics
from genic.eval.measures import RECOGNITION
from genic.eval.metrics import lpips_alex, planes, psnr
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DataError, GenicError, ToolError
from genic.losses.perceptual import FrozenFeatures
from genic.losses.pretrained import classifier_weights
from genic.losses.ssim import MIN_SIDE, weighted_ms_ssim

Seen = TypeVar("Seen")
_OVERLAP = 0.3  # intersection over union from which two faces are the same
_LOST = 0.1  # the detector's score below which a face counts as lost
_CLASSIFIER_SIDE = 224


def recognised(name: str, original: Image, decoded: Image, label: Path | None) -> dict[str, float | None]:
    """The figures of one measure; None where the picture has nothing that they could be of.

    ``regions``: PSNR (dB), MS-SSIM and LPIPS (Alex) inside and outside the region, MS-SSIM as `weighted_ms_ssim`
    without a background, LPIPS with each layer's distances weighted by the region's share of a position.

    ``faces``: mean score of the detector for the original's faces, 0 for a lost one; mean distance of the five
    landmarks in eye distances, of the faces that are found again.

    ``text``: 1 − similarity (`difflib`, 0 to 1) of what is read in the original's and in the decoded lines, mean over
    lines in which something is read.

    ``semantics``: overlap Σ min(p, q) of a classifier's probabilities for both pictures; 1 where it sees the same.

    Args:
        original, decoded: uint8 H×W×3 of one size.
        label: of ``regions``, the map, uint8 H×W, not 0 inside; None asks the annotator.

    Raises:
        DataError: the map is missing, or not of the picture's size.
        ToolError, WeightsError: see `unavailable`.
    """
    return dict(zip(RECOGNITION[name], _MEASURES[name](original, decoded, label), strict=True))


def unavailable(name: str, mapped: bool = False) -> str | None:
    """Why a measure cannot be had here, one line; None where it can. ``mapped`` regions need no detectors."""
    try:
        if not (mapped and name == "regions"):
            _NEEDS[name]()
    except GenicError as error:
        return " ".join(str(error).split())
    return metrics.unavailable("lpips_alex") if name == "regions" else None


def region(image: Image, label: Path | None) -> np.ndarray:
    """bool H×W, true inside; see `recognised`."""
    if label is None:
        boxes = [face.box for face in _faces_of_original(image)] + _lines_of_original(image)
        return detail_map((image.shape[0], image.shape[1]), boxes) > 0
    found = read_label(label)
    if found.shape != image.shape[:2]:
        raise DataError(f"{label} is {found.shape}, its picture {image.shape[:2]}: make it anew")
    return found > 0


def _regions(original: Image, decoded: Image, label: Path | None) -> list[float | None]:
    inside = region(original, label)
    x, y = planes(original), planes(decoded)
    found: list[float | None] = []
    for place in (inside, ~inside):
        found += _at(x, y, torch.from_numpy(place)[None, None])
    return [found[k] for k in (0, 3, 1, 4, 2, 5)]


def _at(x: Tensor, y: Tensor, place: Tensor) -> tuple[float | None, float | None, float | None]:
    """PSNR, MS-SSIM and LPIPS of [1, 3, H, W], 0 to 255, at the places, bool [1, 1, H, W]."""
    if not place.any():
        return None, None, None
    error = (x - y)[:, :, place[0, 0]]
    db = psnr(error.square().sum().item() / error.numel())
    similarity = None
    with torch.inference_mode():
        if min(x.shape[2:]) >= MIN_SIDE:
            similarity = weighted_ms_ssim(x, y, place, background=0, data_range=255, floor=0).item()
        distance = lpips_alex(x, y, place.float())
    # A region of the margin alone is in no whole window.
    return db, None if similarity is None or math.isnan(similarity) else similarity, distance


def _faces(original: Image, decoded: Image, _label: Path | None) -> tuple[float | None, float | None]:
    seen = find_faces(decoded, _LOST)
    scores, errors = [], []
    for face in _faces_of_original(original):
        again = max(seen, key=lambda other: _overlap(face.box, other.box), default=None)
        if again is None or _overlap(face.box, again.box) < _OVERLAP:
            scores.append(0.0)
            continue
        scores.append(again.score)
        eyes = np.linalg.norm(face.landmarks[0] - face.landmarks[1])
        errors.append(np.linalg.norm(face.landmarks - again.landmarks, axis=1).mean() / max(eyes, 1.0))
    return _mean(scores), _mean(errors)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / max(sum(areas) - common, 1)


def _text(original: Image, decoded: Image, _label: Path | None) -> tuple[float | None]:
    distances = []
    lines = zip(_words_of_original(original), _words(decoded, _lines_of_original(original)), strict=True)
    for there, seen in lines:
        if there:
            distances.append(1 - difflib.SequenceMatcher(None, there, seen, autojunk=False).ratio())
    return (_mean(distances),)


def _words(image: Image, boxes: Sequence[Box]) -> list[str]:
    return [_read(image[top:bottom, left:right]) for left, top, right, bottom in boxes]


def _read(line: Image) -> str:
    import pytesseract
    from PIL import Image as Pictures

    picture = Pictures.fromarray(np.ascontiguousarray(line))
    if picture.height < 32:  # it reads capitals of about thirty pixels
        picture = picture.resize(
            (round(picture.width * 32 / picture.height), 32), Pictures.Resampling.BICUBIC
        )
    return "".join(pytesseract.image_to_string(picture, config="--psm 7").split())


def _semantics(original: Image, decoded: Image, _label: Path | None) -> tuple[float]:
    p, q = _probabilities_of_original(original), _probabilities(decoded)
    return (torch.minimum(p, q).sum().item(),)


@torch.inference_mode()
def _probabilities(image: Image) -> Tensor:
    classifier = _classifier()
    x = planes(image).float() / 255
    size = [round(side * _CLASSIFIER_SIDE / min(x.shape[2:])) for side in x.shape[2:]]
    x = torch.nn.functional.interpolate(x, size, mode="bicubic", antialias=True)
    return classifier.network((x - classifier.mean) / classifier.std)[0].softmax(0)


@lru_cache(maxsize=1)
def _classifier() -> FrozenFeatures:
    weights, options = classifier_weights("shared", "leave semantics out")
    return FrozenFeatures("mobilenetv2_100", weights, **options)


def _reader() -> None:
    if shutil.which("tesseract") is None or importlib.util.find_spec("pytesseract") is None:
        raise ToolError(
            "text is read by tesseract: install it (Debian: tesseract-ocr) and pip install pytesseract"
        )
    _detectors()


def _detectors() -> None:
    blank = np.zeros((64, 64, 3), np.uint8)
    find_faces(blank)
    find_text(blank)


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _once(see: Callable[[Image], Seen]) -> Callable[[Image], Seen]:
    """``see`` of originals, of which one is measured against many decoded pictures, one after another."""

    @lru_cache(maxsize=2)
    def seen(pixels: bytes, shape: tuple[int, ...]) -> Seen:
        return see(np.frombuffer(pixels, np.uint8).reshape(shape))

    return lambda original: seen(original.tobytes(), original.shape)


_faces_of_original = _once(find_faces)
_lines_of_original = _once(find_text)
_words_of_original = _once(lambda image: _words(image, _lines_of_original(image)))
_probabilities_of_original = _once(_probabilities)

_MEASURES: Mapping[str, Callable] = {
    "regions": _regions,
    "faces": _faces,
    "text": _text,
    "semantics": _semantics,
}
_NEEDS: Mapping[str, Callable[[], object]] = {
    "regions": _detectors,
    "faces": _detectors,
    "text": _reader,
    "semantics": _classifier,
}
