"""Range coding of Gaussian symbols: whole arrays in, bytes out.

The coder is constriction's range coder (32-bit words, 24-bit probabilities) with a row of an integer table for
each symbol. Symbols are coded group by group of the tables, in array order within a group.
"""

from __future__ import annotations

import constriction
import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.container import read_varint, write_varint
from lightning_modules.codec.errors import DamagedFileError
from lightning_modules.entropy.gaussian import FRACTIONS, HALF_WIDTHS, SCALES, TOTAL, GaussianTables

MAX_SYMBOL = 511
"""|ẑ| is at most this: within the activation grid, and far beyond what a trained model emits."""


class GaussianModels:
    """Rows of `GaussianTables` for arrays of (μ, s), as constriction takes them."""

    def __init__(self, tables: GaussianTables) -> None:
        # Multiples of 2⁻²⁰ that sum to 1: all of constriction's float32 sums of them are exact.
        self.rows = [group.numpy().astype(np.float32) / np.float32(TOTAL) for group in tables.groups]
        self.first_scale = np.array(tables.first_scale)
        self.family = constriction.stream.model.Categorical(perfect=False)

    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """Centres, and for each group the positions of its symbols and their row numbers.

        ``mu`` and ``index`` are exact (float64, on the grid); rounding them is exact too.
        """
        sixteenths = torch.floor(mu * FRACTIONS + 0.5).to(torch.int64).numpy().ravel() + FRACTIONS // 2
        centre = sixteenths // FRACTIONS
        fraction = sixteenths - centre * FRACTIONS
        scale = torch.round(index).clamp(0, SCALES - 1).to(torch.int64).numpy().ravel()
        row = scale * FRACTIONS + fraction
        bounds = [*(self.first_scale * FRACTIONS), SCALES * FRACTIONS]
        positions = [np.flatnonzero((row >= a) & (row < b)) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        return centre, positions, [row[p] - a for p, a in zip(positions, bounds[:-1], strict=True)]


class GaussianEncoder:
    """Collects symbols; those beyond the tables go to ``escapes``, as zigzag varints."""

    def __init__(self, models: GaussianModels, escapes: bytearray) -> None:
        self.models, self.escapes = models, escapes
        self.coder = constriction.stream.queue.RangeEncoder()

    def put(self, symbols: Tensor, mu: Tensor, index: Tensor) -> None:
        """Append integer ``symbols`` of the shape of ``mu`` and ``index``."""
        centre, positions, rows = self.models.select(mu, index)
        offset = symbols.to(torch.int64).numpy().ravel() - centre
        for table, half, position, row in zip(self.models.rows, HALF_WIDTHS, positions, rows, strict=True):
            if not len(position):
                continue
            k = offset[position]
            outside = np.abs(k) > half
            column = np.where(outside, 2 * half + 1, k + half).astype(np.int32)
            self.coder.encode(column, self.models.family, table[row])
            for value in k[outside].tolist():
                self.escapes += write_varint(2 * value if value >= 0 else -2 * value - 1)

    def finish(self) -> bytes:
        """The range coder's bytes. Trailing zero bytes are dropped; the decoder puts them back."""
        return self.coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


class EscapeReader:
    """Reads the values that `GaussianEncoder` put into the escapes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def next(self) -> int:
        code, self.position = read_varint(self.data, self.position)
        return code >> 1 if code % 2 == 0 else -(code + 1 >> 1)

    def close(self) -> None:
        """Raise `DamagedFileError` unless all were read."""
        if self.position != len(self.data):
            raise DamagedFileError("escapes are left over after the last symbol")


class GaussianDecoder:
    """The inverse of `GaussianEncoder`."""

    def __init__(self, models: GaussianModels, stream: bytes, escapes: EscapeReader) -> None:
        self.models, self.escapes = models, escapes
        words = np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").astype(np.uint32)
        self.coder = constriction.stream.queue.RangeDecoder(words)

    def get(self, mu: Tensor, index: Tensor) -> Tensor:
        """The next symbols, float64, of the shape of ``mu`` and ``index``.

        Raises:
            DamagedFileError: the stream decodes to something no encoder wrote.
        """
        centre, positions, rows = self.models.select(mu, index)
        out = np.empty(centre.shape, np.float64)
        for table, half, position, row in zip(self.models.rows, HALF_WIDTHS, positions, rows, strict=True):
            if not len(position):
                continue
            try:
                k = self.coder.decode(self.models.family, table[row]).astype(np.int64) - half
            except AssertionError as error:  # constriction's word for data that no encoder wrote
                raise DamagedFileError(f"the entropy coded stream is invalid: {error}") from None
            for at in np.flatnonzero(k > half):
                k[at] = self.escapes.next()
            out[position] = k + centre[position]
        if out.size and np.abs(out).max() > MAX_SYMBOL:
            raise DamagedFileError(f"a symbol lies beyond ±{MAX_SYMBOL}")
        return torch.from_numpy(out).reshape(mu.shape)

    def close(self) -> None:
        """Raise `DamagedFileError` unless the stream was consumed."""
        if not self.coder.maybe_exhausted():
            raise DamagedFileError("data is left over after the last symbol")
