"""Faces and text by small networks that OpenCV runs: YuNet and a DB detector.

Faces: YuNet (Wu et al. 2023), ``yunet_n_640_640.onnx`` of libfacedetection. Text: DB (Liao et al. 2020),
``en_PP-OCRv3_det_infer.onnx`` of PaddleOCR. Both files lie below ``GENIC_DATA`` in ``weights/detectors``; maps are
made once, so that training needs neither file.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genic.datamodules.config import ROOT_VARIABLE
from genic.lightning_modules.codec.errors import ToolError, needs

with needs("train"):
    import cv2


Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom exclusive."""

LONG_SIDE = 1280  # larger pictures are searched at this size
FACE, TEXT = "yunet_n_640_640.onnx", "en_PP-OCRv3_det_infer.onnx"
_FACE_SCORE, _FACE_OVERLAP = 0.7, 0.3
# DB's published post-processing: pixels above the first are text, regions whose mean is above the second are kept, and
# grown, since the network is trained on shrunk ones.
_PIXEL, _REGION, _GROW = 0.3, 0.6, 1.6
_LEAST = 16  # sides below which nothing is searched
_LEAST_TEXT = 6  # pixels of the searched picture a shrunk region has at least
_ENLARGED = 960  # smaller pictures are enlarged for text, at most twice


class Face(NamedTuple):
    """A face as the detector has it.

    Attributes:
        box: around it, widened by a tenth.
        landmarks: float [5, 2], x and y in pixels of the eyes, the nose and the corners of the mouth.
        score: of the detector, 0 to 1.
    """

    box: Box
    landmarks: np.ndarray
    score: float


def find_faces(image: np.ndarray, score: float = _FACE_SCORE) -> list[Face]:
    """Faces of at least a score.

    Args:
        image: uint8 H×W×3 RGB.

    Raises:
        ToolError: the detector's file is not there, or this OpenCV cannot run it.
    """
    if min(image.shape[:2]) < _LEAST:
        return []
    picture, factor = _scaled(image, 1.0)
    detector = _face_detector()
    detector.setInputSize(picture.shape[1::-1])
    detector.setScoreThreshold(score)
    _, found = detector.detect(picture)
    faces = []
    for row in [] if found is None else found.astype(float):
        x, y, w, h = row[:4]
        box = _clipped((x - 0.1 * w, y - 0.1 * h, x + 1.1 * w, y + 1.1 * h), factor, image)
        if _has_area(box):
            faces.append(Face(box, row[4:14].reshape(5, 2) * factor, row[14]))
    return faces


def find_text(image: np.ndarray) -> list[Box]:
    """Boxes around words and lines; arguments and errors as of `find_faces`."""
    if min(image.shape[:2]) < _LEAST:
        return []
    picture, factor = _scaled(image, min(2.0, max(1.0, _ENLARGED / max(image.shape[:2]))))
    height, width = picture.shape[:2]
    padded = cv2.copyMakeBorder(picture, 0, -height % 32, 0, -width % 32, cv2.BORDER_REPLICATE)
    # ImageNet's means and deviations, in the order of OpenCV's channels.
    x = (padded.astype(np.float32) / 255 - (0.406, 0.456, 0.485)) / (0.225, 0.224, 0.229)
    network = _text_network()
    network.setInput(np.ascontiguousarray(x.transpose(2, 0, 1)[None], np.float32))
    probability = network.forward()[0, 0, :height, :width]
    contours, _ = cv2.findContours(
        (probability > _PIXEL).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    found = []
    for contour in contours:
        left, top, w, h = cv2.boundingRect(contour)
        inside = np.zeros((h, w), np.uint8)
        cv2.drawContours(inside, [contour], -1, (1,), cv2.FILLED, offset=(-left, -top))
        score = cv2.mean(probability[top : top + h, left : left + w], inside)[0]
        if min(w, h) < _LEAST_TEXT or score < _REGION:
            continue
        grow = cv2.contourArea(contour) * _GROW / max(cv2.arcLength(contour, True), 1)
        found.append(_clipped((left - grow, top - grow, left + w + grow, top + h + grow), factor, image))
    return [box for box in found if _has_area(box)]


def detail_map(shape: tuple[int, int], boxes: list[Box]) -> np.ndarray:
    """uint8 H×W: 255 inside any box, else 0."""
    out = np.zeros(shape, np.uint8)
    for left, top, right, bottom in boxes:
        out[top:bottom, left:right] = 255
    return out


def detector_file(name: str) -> Path:
    """The file of a detector; `ToolError` where it is not there."""
    root = os.environ.get(ROOT_VARIABLE)
    path = Path(root or ".").expanduser() / "weights" / "detectors" / name
    if root is None or not path.is_file():
        origin = "OpenCV's model zoo (face_detection_yunet)" if name == FACE else "PaddleOCR, as ONNX"
        raise ToolError(
            f"the detector {name} is missing: put it into ${ROOT_VARIABLE}/weights/detectors (from {origin}), or give "
            "label maps that are made already"
        )
    return path


@cache
def _face_detector() -> cv2.FaceDetectorYN:
    return cv2.FaceDetectorYN.create(str(detector_file(FACE)), "", (320, 320), _FACE_SCORE, _FACE_OVERLAP)


@cache
def _text_network() -> cv2.dnn.Net:
    return cv2.dnn.readNet(str(detector_file(TEXT)))


def _scaled(image: np.ndarray, factor: float) -> tuple[np.ndarray, float]:
    """BGR at ``factor`` times the size, `LONG_SIDE` at most, and what its coordinates are to be multiplied by."""
    height, width = image.shape[:2]
    factor = min(factor, LONG_SIDE / max(height, width))
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    if factor != 1:
        size = max(1, round(width * factor)), max(1, round(height * factor))
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return bgr, 1 / factor


def _clipped(box: tuple[float, float, float, float], factor: float, image: np.ndarray) -> Box:
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(v) * factor) for v in box)
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def _has_area(box: Box) -> bool:
    return box[2] > box[0] and box[3] > box[1]
