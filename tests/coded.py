"""What goes through the coders while a codec works, whichever codec it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from torch import Tensor

from lightning_modules.entropy.latents import LatentCoder
from lightning_modules.entropy.range_coder import RangeDecoder, RangeEncoder


class Decoded(list[np.ndarray]):
    """Columns that range decoders gave, in their order."""

    def all(self) -> np.ndarray:
        """int16, one after the other."""
        return np.concatenate([np.empty(0, np.int16), *self]).astype(np.int16)


@contextmanager
def decoded() -> Iterator[Decoded]:
    """Every symbol that is decoded inside the block."""
    found, get = Decoded(), RangeDecoder.get

    def record(self: RangeDecoder, rows: np.ndarray) -> np.ndarray:
        found.append(get(self, rows))
        return found[-1].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeDecoder, "get", record)
        yield found


@contextmanager
def encoded() -> Iterator[list[float]]:
    """−log2 P of all that each range coder coded inside the block, one number a stream."""
    bits: dict[RangeEncoder, float] = {}
    finished: list[float] = []
    put, finish = RangeEncoder.put, RangeEncoder.finish

    def record(self: RangeEncoder, columns: np.ndarray, rows: np.ndarray) -> None:
        put(self, columns, rows)
        cost = -np.log2(rows[np.arange(len(columns)), columns].astype(np.float64)).sum()
        bits[self] = bits.get(self, 0.0) + float(cost)

    def end(self: RangeEncoder) -> bytes:
        finished.append(bits.get(self, 0.0))
        return finish(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeEncoder, "put", record)
        patch.setattr(RangeEncoder, "finish", end)
        yield finished


@contextmanager
def latent_calls() -> Iterator[list[tuple[LatentCoder, tuple[object, ...], bytes]]]:
    """Every call of `LatentCoder.encode` inside the block: the coder, its arguments, its result."""
    calls, encode = [], LatentCoder.encode

    def record(self: LatentCoder, symbols: Tensor, psi: Tensor, level: Tensor, *rest: object) -> bytes:
        escapes, wanted = rest[0], rest[1] if len(rest) > 1 else None
        result = encode(self, symbols, psi, level, escapes, wanted)
        calls.append((self, (symbols, psi, level, wanted), result))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LatentCoder, "encode", record)
        yield calls
