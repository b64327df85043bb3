"""What goes through the coders while a codec works, whichever codec it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from genic.lightning_modules.entropy.latents import LatentCoder
from genic.lightning_modules.entropy.range_coder import RangeDecoder


class Decoded:
    """What range decoders gave.

    Attributes:
        columns: in their order. streams: bits of each decoder's stream, and −log2 P of all that was decoded of it.
    """

    def __init__(self) -> None:
        self.columns: list[np.ndarray] = []
        self.streams: dict[RangeDecoder, tuple[int, float]] = {}

    def all(self) -> np.ndarray:
        """The columns, int16, one after the other."""
        return np.concatenate([np.empty(0, np.int16), *self.columns]).astype(np.int16)


@contextmanager
def decoded() -> Iterator[Decoded]:
    """Every symbol that is decoded inside the block."""
    found, start, get = Decoded(), RangeDecoder.__init__, RangeDecoder.get

    def begin(self: RangeDecoder, stream: bytes) -> None:
        start(self, stream)
        found.streams[self] = 8 * len(stream), 0.0

    def record(self: RangeDecoder, rows: np.ndarray) -> np.ndarray:
        columns = get(self, rows)
        found.columns.append(columns.copy())
        size, bits = found.streams[self]
        probabilities = rows[np.arange(len(columns)), columns].astype(np.float64)
        found.streams[self] = size, bits - float(np.log2(probabilities).sum())
        return columns

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeDecoder, "__init__", begin)
        patch.setattr(RangeDecoder, "get", record)
        yield found


@contextmanager
def latent_calls() -> Iterator[list[tuple[LatentCoder, tuple[object, ...], bytes]]]:
    """Every picture that `LatentCoder` encodes inside the block: the coder, what `encode` takes, its result."""
    calls, encode = [], LatentCoder.encode_batch

    def record(self: LatentCoder, symbols: Tensor, psi: Tensor, level: Tensor, *rest: Any) -> list[bytes]:
        escapes, wanted = rest[0], rest[1] if len(rest) > 1 else None
        result = encode(self, symbols, psi, level, escapes, wanted)
        assert len(result) == 1
        calls.append((self, (symbols, psi, level, wanted), result[0]))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatentCoder, "encode_batch", record)
        yield calls
