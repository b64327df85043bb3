"""Pictures after HEVC, which restoration is trained on: coded as `codec` codes them, once, and kept on disk.

A file is a container of the stream and of each cell's quantisation parameter (QP). Its name is a hash of the pixels,
the QP and everything else that the stream depends on (`residual.coder`, the heat map's classifier), so that nothing
stale is ever read. Streams, and not pictures, are kept: they are small, and decode quickly.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genic.datamodules.batch import Sample
from genic.lightning_modules.classical import ycbcr
from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.contract import Image
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.codec.files import write_atomic
from genic.lightning_modules.gdae_sprc.config import GdaeSprcCoding
from genic.lightning_modules.gdae_sprc.grad_cam import classifier_at_hand
from genic.lightning_modules.gdae_sprc.residual import (
    MAX_QP,
    cell_means,
    cell_size,
    coder,
    decode_residual,
    encode_residual,
    qp_map,
)


class Coded(NamedTuple):
    """A picture's stream, and the QP of every cell, uint8 rows×columns."""

    stream: bytes
    cells: np.ndarray


@dataclass(frozen=True)
class CodedPictures:
    """To be called by `PhotoDataModule` on whole pictures.

    Attributes:
        folder: of the streams.
        qps: one of them is drawn for each sample.
        side: of a picture that is longer the middle is taken.
        seed: of what is drawn, with the number of the sample.
        coding: strength and classifier of the heat map, and x265's preset. Without classifier quality is uniform.
    """

    folder: Path
    qps: tuple[int, ...]
    side: int
    seed: int
    coding: GdaeSprcCoding

    def __call__(self, sample: Sample, key: int) -> Sample:
        """The picture (or its middle) with planes uint8 H×W×5: Y, Cb, Cr as decoded, QP of the place, QP of the
        picture. Label maps are left out."""
        image = _middle(sample.image, self.side)
        qp = int(np.random.default_rng([self.seed, key, 2]).choice(self.qps))
        coded, (height, width) = self.coded(image, qp), image.shape[:2]
        decoded = (decode_residual(coded.stream, height, width) + 128).astype(np.uint8)
        cell = cell_size(height, width)
        places = coded.cells.repeat(cell, 0).repeat(cell, 1)[:height, :width]
        planes = np.stack([*decoded, places, np.full_like(places, qp)], -1)
        return Sample(image, planes=planes)

    def coded(self, image: Image, qp: int) -> Coded:
        """From the folder, or coded now and put there; `ToolError` where this build of PyAV lacks x265."""
        height, width = image.shape[:2]
        cell, c = cell_size(height, width), self.coding
        classifier = None if c.strength == 0 else classifier_at_hand(c.classifier, c.top_k)
        made_by = "uniform" if classifier is None else f"{classifier.description}, strength {c.strength}"
        text = f"{height}×{width}, QP {qp}, {made_by}, {coder(c.effort)}"
        name = hashlib.sha256(np.ascontiguousarray(image).tobytes() + text.encode()).hexdigest()
        path = self.folder / name[:2] / f"{name}.gnc"
        with suppress(FileNotFoundError, DamagedFileError):  # a damaged one is made again
            sections = Container.from_bytes(path.read_bytes()).sections
            cells = np.frombuffer(sections["mask"], np.uint8).reshape(-(-height // cell), -(-width // cell))
            return Coded(sections["residual"], cells)
        heat = np.zeros((height, width)) if classifier is None else classifier(image)
        cells = qp_map(MAX_QP - qp, cell_means(heat), c.strength).astype(np.uint8)
        difference = ycbcr.from_rgb(image).astype(np.int16) - 128
        stream = encode_residual(difference, cells.astype(np.int64), c.effort)
        sections = {"residual": stream, "mask": cells.tobytes()}
        write_atomic(path, Container("coded", height, width, sections).to_bytes())
        return Coded(stream, cells)


def _middle(image: Image, side: int) -> Image:
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])
