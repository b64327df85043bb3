"""Range coding of Gaussian symbols: whole arrays in, bytes out.

The coder is constriction's range coder (32-bit words, 24-bit probabilities) with a row of an integer table for
each symbol. Symbols are coded group by group of the tables, in array order within a group.
"""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np
import torch
from torch import Tensor

from lightning_modules.codec.container import read_varint, write_varint
from lightning_modules.codec.errors import DamagedFileError
from lightning_modules.entropy.gaussian import FRACTIONS, GROUPS, QUARTERS, TOTAL, GaussianTables
from lightning_modules.entropy.grid import ACTIVATION_BITS, ACTIVATION_LIMIT

FRACTION_BITS = FRACTIONS.bit_length() - 1
MU_SHIFT, INDEX_SHIFT = ACTIVATION_BITS - FRACTION_BITS, ACTIVATION_BITS - 2
MU_STEPS, INDEX_STEPS = 1 << MU_SHIFT, 1 << INDEX_SHIFT
MAX_SYMBOL = 511
"""|ẑ| is at most this: within the activation grid, and far beyond what a trained model emits."""


class GaussianModels:
    """Rows of `GaussianTables` for arrays of (μ, s), as constriction takes them."""

    def __init__(self, tables: GaussianTables) -> None:
        # Multiples of 2⁻²⁰ that sum to 1: all of constriction's float32 sums of them are exact.
        self.groups = [group.numpy().astype(np.float32) / np.float32(TOTAL) for group in tables.groups]
        self.rows = tables.rows.numpy().astype(np.int64).ravel()
        sizes = [len(group) for group in self.groups]
        self.first_row = np.cumsum([0, *sizes[:-1]])
        self.group_of_row = np.repeat(np.arange(len(GROUPS)), sizes)
        self.half_of_row = np.array([group.half for group in GROUPS])[self.group_of_row]
        self.family = constriction.stream.model.Categorical(perfect=False)

    def select(self, mu: Tensor, index: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Centres and row numbers (counted over all groups), int64, flattened.

        ``mu`` and ``index`` are whole steps of the activation grid (`grid`), so this is integer arithmetic.
        Halves are rounded up.
        """
        mu, index = (x.numpy().ravel().astype(np.int64) for x in (mu, index))
        # Shifts round down, negative numbers too.
        parts = (mu + MU_STEPS // 2 >> MU_SHIFT) + FRACTIONS // 2
        quarter = (index + INDEX_STEPS // 2 >> INDEX_SHIFT).clip(0, QUARTERS - 1)
        return parts >> FRACTION_BITS, self.rows.take(quarter * FRACTIONS + (parts & FRACTIONS - 1))

    def probabilities(self, group: int, row: np.ndarray) -> np.ndarray:
        """float32 [len(row), columns]: the rows, which all lie in ``group``."""
        return self.groups[group].take(row - self.first_row[group], 0)


class GaussianEncoder:
    """Collects symbols; those beyond the tables go to ``escapes``, as zigzag varints."""

    def __init__(self, models: GaussianModels, escapes: bytearray) -> None:
        self.models, self.escapes = models, escapes
        self.coder = constriction.stream.queue.RangeEncoder()

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
        column = np.where(outside, 2 * half + 1, offset + half).astype(np.int32)
        for positions in np.split(order, np.flatnonzero(np.diff(run[order])) + 1):
            table = models.probabilities(group[positions[0]], row[positions])
            self.coder.encode(column[positions], models.family, table)
        for value in offset[order][outside[order]].tolist():
            self.escapes += write_varint(2 * value if value >= 0 else -2 * value - 1)

    def finish(self) -> bytes:
        """The range coder's bytes. Up to three trailing zero bytes are dropped; the decoder completes the word.

        Never a whole word: constriction does not read a missing word as zero.
        """
        data = self.coder.get_compressed().astype("<u4").tobytes()
        return data[: max(len(data) - 3, len(data.rstrip(b"\0")))]


class EscapeReader:
    """Reads the values that `GaussianEncoder` put into the escapes."""

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


class GaussianDecoder:
    """The inverse of `GaussianEncoder`."""

    def __init__(self, models: GaussianModels, stream: bytes, escapes: EscapeReader) -> None:
        self.models, self.escapes = models, escapes
        words = np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").astype(np.uint32)
        self.coder = constriction.stream.queue.RangeDecoder(words)
        # What the symbols may cost: the stream's bits, and some for the coder's own rounding.
        self.bits_left = 8.08 * len(stream) + 128

    def get(self, mu: Tensor, index: Tensor, bounded: bool = False) -> Tensor:
        """The next symbols, int64, of the shape of ``mu`` and ``index``.

        ``bounded``: refuse symbols that cost more than the stream holds, for the first array of a file, whose size
        is the header's claim.

        Raises:
            DamagedFileError: the stream decodes to something no encoder wrote.
        """
        centre, row = self.models.select(mu, index)
        group = self.models.group_of_row.take(row)
        for g in range(group.min(initial=len(GROUPS)), group.max(initial=-1) + 1):
            half = GROUPS[g].half
            positions = np.flatnonzero(group == g)
            table = self.models.probabilities(g, row.take(positions))
            try:
                k = self.coder.decode(self.models.family, table)
            except AssertionError as error:  # constriction's word for data that no encoder wrote
                raise DamagedFileError(f"the entropy coded stream is invalid: {error}") from None
            if bounded:
                self.bits_left += np.log2(table[np.arange(len(k)), k]).sum(dtype=np.float64)
                if self.bits_left < 0:  # past its end the coder goes on for ever
                    raise DamagedFileError(
                        "more symbols are claimed than the stream holds: the file is altered"
                    )
            k -= half
            if k.max(initial=0) > half:
                for at in np.flatnonzero(k > half):
                    k[at] = self.escapes.next()
            centre[positions] += k
        return torch.from_numpy(centre).reshape(mu.shape)

    def close(self) -> None:
        """Raise `DamagedFileError` unless the stream was consumed."""
        if not self.coder.maybe_exhausted():
            raise DamagedFileError("data is left over after the last symbol")
