"""The range coder: columns of rows of probabilities to bytes, and back.

constriction's, with 32-bit words and 24-bit probabilities. A row's probabilities are whole multiples of 2⁻²⁰ that sum
to 1, so that all of constriction's float32 sums of them are exact.
"""

from __future__ import annotations

import constriction
import numpy as np

from genic.lightning_modules.codec.errors import DamagedFileError

_stream = constriction.stream  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs
TOTAL = 1 << 20
"""What a row's integer frequencies sum to."""
_FAMILY = _stream.model.Categorical(perfect=False)


def probabilities(frequencies: np.ndarray) -> np.ndarray:
    """float32 of integers whose rows sum to `TOTAL`."""
    return frequencies.astype(np.float32) / np.float32(TOTAL)


class RangeEncoder:
    """Collects columns."""

    def __init__(self) -> None:
        self._coder = _stream.queue.RangeEncoder()

    def put(self, columns: np.ndarray, rows: np.ndarray) -> None:
        """Append ``columns`` [n] of the `probabilities` ``rows`` [n, alphabet]."""
        self._coder.encode(columns.astype(np.int32), _FAMILY, rows)

    def finish(self) -> bytes:
        """The coder's bytes. Up to three trailing zero bytes are dropped; the decoder completes the word.

        Never a whole word: constriction does not read a missing word as zero.
        """
        data = self._coder.get_compressed().astype("<u4").tobytes()
        return data[: max(len(data) - 3, len(data.rstrip(b"\0")))]


class RangeDecoder:
    """The inverse of `RangeEncoder`."""

    def __init__(self, stream: bytes) -> None:
        words = np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").astype(np.uint32)
        self._coder = _stream.queue.RangeDecoder(words)
        # What the columns may cost: the stream's bits, and some for the coder's own rounding. Past its end the coder
        # would go on for ever, for as many symbols as a header claims.
        self._bits_left = 8.08 * len(stream) + 128

    def get(self, rows: np.ndarray) -> np.ndarray:
        """The next columns, int64 [n], of the `probabilities` ``rows`` [n, alphabet].

        Raises:
            DamagedFileError: the stream is none of an encoder's, or holds fewer symbols.
        """
        try:
            columns = self._coder.decode(_FAMILY, rows).astype(np.int64)
        except AssertionError as error:  # constriction's word for data that no encoder wrote
            raise DamagedFileError(f"the entropy coded stream is invalid: {error}") from None
        self._bits_left += np.log2(rows[np.arange(len(columns)), columns]).sum(dtype=np.float64)
        if self._bits_left < 0:
            raise DamagedFileError("more symbols are claimed than the stream holds: the file is altered")
        return columns

    def close(self) -> None:
        """Raise `DamagedFileError` unless the stream was consumed."""
        if not self._coder.maybe_exhausted():
            raise DamagedFileError("data is left over after the last symbol")
