"""Coding of integer symbols under (μ, s): whole arrays in, bytes out.

A symbol model (`GaussianModels`, `entropy.folded.FoldedModels`) chooses a row of integer tables for each symbol.
Symbols are coded group by group of the tables, in array order within a group.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genic.lightning_modules.codec.container import read_varint, write_varint
from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.entropy.gaussian import FRACTIONS, GROUPS, QUARTERS, GaussianTables
from genic.lightning_modules.entropy.grid import ACTIVATION_BITS, ACTIVATION_LIMIT
from genic.lightning_modules.entropy.range_coder import RangeDecoder, RangeEncoder, probabilities

FRACTION_BITS = FRACTIONS.bit_length() - 1
MU_SHIFT, INDEX_SHIFT = ACTIVATION_BITS - FRACTION_BITS, ACTIVATION_BITS - 2
MU_STEPS, INDEX_STEPS = 1 << MU_SHIFT, 1 << INDEX_SHIFT
MAX_SYMBOL = 511
"""|ẑ| is at most this: within the activation grid, and far beyond what a trained model emits."""


class SymbolModel(ABC):
    """Which row of which table a symbol is coded under.

    A row's columns are the symbols −half to half about a centre and, where the row is longer, an escape for all others.

    Args:
        groups: integer tables [rows, columns], every row of which sums to `range_coder.TOTAL`.
        halves: of each group.
    """

    def __init__(self, groups: Sequence[Tensor], halves: Sequence[int]) -> None:
        self.groups = [probabilities(group.numpy()) for group in groups]
        self.halves = halves
        sizes = [len(group) for group in self.groups]
        self.first_row = np.cumsum([0, *sizes[:-1]])
        self.group_of_row = np.repeat(np.arange(len(groups)), sizes)
        self.half_of_row = np.array(halves)[self.group_of_row]

    @abstractmethod
    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Centres and row numbers (counted over all groups), int64, flattened.

        ``mu`` and ``index`` are whole steps of the activation grid (`grid`), so this is integer arithmetic.
        Halves are rounded up.
        """

    def probabilities(self, group: int, row: np.ndarray) -> np.ndarray:
        """float32 [len(row), columns]: the rows, which all lie in ``group``."""
        return self.groups[group].take(row - self.first_row[group], 0)


class GaussianModels(SymbolModel):
    """Rows of `GaussianTables`."""

    def __init__(self, tables: GaussianTables) -> None:
        super().__init__(tables.groups, [group.half for group in GROUPS])
        self.rows = tables.rows.numpy().astype(np.int64).ravel()

    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
        centre, scale = (x.numpy().ravel().astype(np.int64) for x in (mu, index))
        # Shifts round down, negative numbers too.
        parts = (centre + MU_STEPS // 2 >> MU_SHIFT) + FRACTIONS // 2
        quarter = (scale + INDEX_STEPS // 2 >> INDEX_SHIFT).clip(0, QUARTERS - 1)
        return parts >> FRACTION_BITS, self.rows.take(quarter * FRACTIONS + (parts & FRACTIONS - 1))


class SymbolEncoder:
    """Collects symbols; those beyond the tables go to ``escapes``, as zigzag varints."""

    def __init__(self, models: SymbolModel, escapes: bytearray) -> None:
        self.models, self.escapes = models, escapes
        self.coder = RangeEncoder()

    def put(self, symbols: Tensor, mu: Tensor, index: Tensor, parts: Sequence[int] | None = None) -> None:
        """Append ``symbols``, int64, of the shape of ``mu`` and ``index``.

        ``parts``: lengths, along the first axis, of the arrays that the decoder will get one by one; all at once
        where it is None.
        """
        if not len(symbols):
            return
        models = self.models
        centre, row = models.select(mu, index)
        group, half = models.group_of_row[row], models.half_of_row[row]
        if parts is None:
            part = np.zeros_like(group)
        else:
            part = np.repeat(np.arange(len(parts)), np.array(parts) * (len(group) // symbols.shape[0]))
        run = part * len(models.groups) + group
        order = np.argsort(run, kind="stable")
        offset = symbols.numpy().ravel() - centre
        outside = np.abs(offset) > half
        column = np.where(outside, 2 * half + 1, offset + half)
        for positions in np.split(order, np.flatnonzero(np.diff(run[order])) + 1):
            table = models.probabilities(int(group[positions[0]]), row[positions])
            self.coder.put(column[positions], table)
        for value in offset[order][outside[order]].tolist():
            self.escapes += write_varint(2 * value if value >= 0 else -2 * value - 1)

    def finish(self) -> bytes:
        """The range coder's bytes."""
        return self.coder.finish()


class EscapeReader:
    """Reads the values that `SymbolEncoder` put into the escapes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def next(self) -> int:
        code, self.position = read_varint(self.data, self.position)
        if code > 2 * (MAX_SYMBOL + ACTIVATION_LIMIT):
            raise DamagedFileError(f"an escape codes a symbol beyond ±{MAX_SYMBOL}")
        return code >> 1 if code % 2 == 0 else -(code + 1 >> 1)

    def close(self) -> None:
        """Raise `DamagedFileError` unless all were read."""
        if self.position != len(self.data):
            raise DamagedFileError("escapes are left over after the last symbol")


class SymbolDecoder:
    """The inverse of `SymbolEncoder`."""

    def __init__(self, models: SymbolModel, stream: bytes, escapes: EscapeReader) -> None:
        self.models, self.escapes = models, escapes
        self.coder = RangeDecoder(stream)

    def get(self, mu: Tensor, index: Tensor) -> Tensor:
        """The next symbols, int64, of the shape of ``mu`` and ``index``.

        Raises:
            DamagedFileError: the stream decodes to something no encoder wrote, or holds fewer symbols.
        """
        models = self.models
        centre, row = models.select(mu, index)
        group = models.group_of_row.take(row)
        for g in range(group.min(initial=len(models.groups)), group.max(initial=-1) + 1):
            half = models.halves[g]
            positions = np.flatnonzero(group == g)
            k = self.coder.get(models.probabilities(g, row.take(positions))) - half
            if k.max(initial=0) > half:
                for at in np.flatnonzero(k > half):
                    k[at] = self.escapes.next()
            centre[positions] += k
        return torch.from_numpy(centre).reshape(mu.shape)

    def close(self) -> None:
        """Raise `DamagedFileError` unless the stream was consumed."""
        self.coder.close()


def symbol_check(*symbols: Tensor, start: bytes = b"") -> int:
    """CRC-32 of integer arrays as little-endian int16, after the bytes ``start``.

    The decoder's symbols hang on a network's arithmetic: a file says what they shall be.
    """
    crc = zlib.crc32(start)
    for x in symbols:
        crc = zlib.crc32(x.numpy().astype("<i2").tobytes(), crc)
    return crc
