"""SPRC: the residual as an HEVC intra picture whose quality follows a heat map.

The slides code it with BPG, whose quality is one value a picture; here it is x265 with an offset to the quantisation
parameter (QP) for every cell of 32×32 pixels. Offsets travel in the stream itself, the heat map does not.

Signed to unsigned is not specified: residuals of the 8-bit planes Y, Cb, Cr are shifted by 128 and clipped to
0 to 255. A residual beyond ±128 is lost; with any base worth the name there are hardly any.
"""

from __future__ import annotations

import math
from itertools import pairwise

import av
import numpy as np

from genic.lightning_modules.classical.ffmpeg import Region, decode_planes, encode_planes

MAX_QP = 51
CELL = 32
"""Pixels a side of x265's quantisation group."""
_MAX_CELLS = 32  # a side; cells grow on larger pictures
_BLOCK, _LEAST = 8, 16  # x265's smallest coding unit and picture
# A constant rate factor makes the slice's QP exactly this much larger, when nothing else adapts.
_RATE_FACTOR_TO_QP = 3

# As `classical.hevc` has it for stills at their best in PSNR; `qp` itself would switch offsets off. An adaptive
# quantisation of next to no strength lets them through unaltered.
_PARAMETERS = (
    "qcomp=1:ipratio=1:cutree=0:aq-mode=1:aq-strength=0.0001:qg-size=32:"
    "psy-rd=0:psy-rdoq=0:tskip=1:strong-intra-smoothing=0:"
    "info=0:hrd=0:aud=0:vui-timing-info=0:keyint=1:"
    "frame-threads=1:pools=none:wpp=0:log-level=none"
)


def coder(effort: str) -> str:
    """All that a stream depends on besides picture and QP: settings, and the build of x265 by that of PyAV."""
    return f"x265 of PyAV {av.__version__}, {effort}, {_PARAMETERS}"


def qp_map(quality: float, heat: np.ndarray, strength: float) -> np.ndarray:
    """QP of every cell, linear in the heat.

    QP = 51 − quality − strength·(heat − mean heat), fractions by ordered dither, so that quality is continuous.

    Args:
        quality: 0 to 51.
        heat: float, rows×columns of cells, 0 to 1.
        strength: QP between the coldest and the hottest possible cell; 0 is uniform quality.

    Returns:
        int, rows×columns, 0 to 51.
    """
    exact = MAX_QP - quality - strength * (heat - heat.mean())
    rows, columns = np.indices(heat.shape)
    # Roberts' R2 sequence: thresholds of neighbours far apart. Kept off 0 and 1, so that whole numbers stay.
    threshold = 0.001 + 0.998 * ((0.7548776662 * rows + 0.5698402910 * columns) % 1)
    return np.clip(np.floor(exact + threshold), 0, MAX_QP).astype(np.int64)


def cell_means(heat: np.ndarray) -> np.ndarray:
    """Heat H×W averaged over cells, rows×columns."""
    cell = cell_size(*heat.shape)
    rows = np.add.reduceat(heat.astype(np.float64), np.arange(0, heat.shape[0], cell), axis=0)
    sums = np.add.reduceat(rows, np.arange(0, heat.shape[1], cell), axis=1)
    heights = np.diff([*range(0, heat.shape[0], cell), heat.shape[0]])
    widths = np.diff([*range(0, heat.shape[1], cell), heat.shape[1]])
    return sums / (heights[:, None] * widths[None])


def cell_size(height: int, width: int) -> int:
    """Pixels a side of a cell: 32, or so many times 32 that at most 32×32 cells cover the picture."""
    return CELL * max(1, math.ceil(max(height, width) / (CELL * _MAX_CELLS)))


def encode_residual(residual: np.ndarray, qp: np.ndarray, effort: str = "veryslow") -> bytes:
    """A bare HEVC stream.

    Args:
        residual: int16 3×H×W, −255 to 255.
        qp: of every cell, from `qp_map`.
        effort: x265's preset.

    Raises:
        ToolError: this build of PyAV lacks x265.
    """
    height, width = residual.shape[1:]
    shifted = np.clip(residual + 128, 0, 255).astype(np.uint8)
    fill = ((0, 0), (0, _filled(height) - height), (0, _filled(width) - width))
    # The base's QP is what a slice can have by rate factor; offsets reach the rest.
    base = int(np.clip(np.median(qp), _RATE_FACTOR_TO_QP, MAX_QP))
    options = {
        "preset": effort,
        "tune": "psnr",
        "x265-params": f"crf={base - _RATE_FACTOR_TO_QP}:{_PARAMETERS}",
    }
    regions = _regions(qp - base, cell_size(height, width), _filled(height), _filled(width))
    return encode_planes(np.pad(shifted, fill, mode="edge"), "libx265", options, regions)


def decode_residual(stream: bytes, height: int, width: int) -> np.ndarray:
    """int16 3×height×width; `DamagedFileError` where the stream is not one such picture."""
    planes = decode_planes(stream, "hevc", _filled(height), _filled(width))
    return planes[:, :height, :width].astype(np.int16) - 128


def _regions(offsets: np.ndarray, cell: int, height: int, width: int) -> list[Region]:
    """Runs of equal offsets along rows; none where all are 0. The last ones reach into the filling."""
    regions = []
    for row, line in enumerate(offsets):
        y = row * cell
        bottom = height if row == len(offsets) - 1 else y + cell
        starts = [0, *(np.flatnonzero(np.diff(line)) + 1).tolist(), len(line)]
        for a, b in pairwise(starts):
            right = width if b == len(line) else b * cell
            if line[a]:
                regions.append(Region(a * cell, y, right - a * cell, bottom - y, int(line[a])))
    return regions


def _filled(side: int) -> int:
    return max(_LEAST, math.ceil(side / _BLOCK) * _BLOCK)
