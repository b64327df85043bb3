"""The range coder with escapes: round trips, order, damage, and its golden words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genic.lightning_modules.codec.errors import DamagedFileError
from genic.lightning_modules.entropy.coder import (
    MAX_SYMBOL,
    EscapeReader,
    GaussianModels,
    SymbolDecoder,
    SymbolEncoder,
)
from genic.lightning_modules.entropy.gaussian import build_tables, gaussian_bits
from genic.lightning_modules.entropy.grid import STEPS


@pytest.fixture(scope="module")
def models() -> GaussianModels:
    return GaussianModels(build_tables())


def drawn(count: int, seed: int, low: float = 0.0, high: float = 63.0) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols drawn from their own distributions; μ and s in steps, as exact networks give them."""
    rng = np.random.default_rng(seed)
    mu, index = rng.uniform(-30, 30, count), rng.uniform(low, high, count)
    sigma = 0.11 * (64 / 0.11) ** (index / 63)
    symbols = np.clip(np.round(rng.normal(mu, sigma)), -MAX_SYMBOL, MAX_SYMBOL).astype(np.int64)
    return (torch.from_numpy(symbols), *(torch.from_numpy(np.round(x * STEPS)) for x in (mu, index)))


def encode(models: GaussianModels, *arrays: tuple[Tensor, Tensor, Tensor]) -> tuple[bytes, bytes]:
    escapes = bytearray()
    encoder = SymbolEncoder(models, escapes)
    for symbols, mu, index in arrays:
        encoder.put(symbols, mu, index)
    return encoder.finish(), bytes(escapes)


def test_round_trip_at_nearly_the_estimated_size(models: GaussianModels) -> None:
    symbols, mu, index = drawn(20_000, 0)
    data, escapes = encode(models, (symbols, mu, index))
    reader = EscapeReader(escapes)
    decoder = SymbolDecoder(models, data, reader)
    assert torch.equal(decoder.get(mu, index), symbols)
    decoder.close()
    reader.close()
    estimated = gaussian_bits(symbols, mu / STEPS, index / STEPS).double().sum().item() / 8
    assert len(data) + len(escapes) == pytest.approx(estimated, rel=0.005)


def test_escapes_carry_any_symbol(models: GaussianModels) -> None:
    extremes = torch.tensor([-MAX_SYMBOL, MAX_SYMBOL, 8, -8, 0, 300, -300, 1, 7, -7])
    mu = torch.tensor([1024.0, -1024.0, 0, 0, 0, 0.25, -0.25, 0, 0, 0]) * STEPS
    index = torch.tensor([0.0, 63, 0, 0, 0, 30, 50, -9, 99, 0]) * STEPS
    data, escapes = encode(models, (extremes, mu, index))
    assert len(escapes) >= 4
    reader = EscapeReader(escapes)
    decoder = SymbolDecoder(models, data, reader)
    assert torch.equal(decoder.get(mu, index), extremes)
    decoder.close()
    reader.close()


def test_parts_are_what_the_decoder_gets_one_by_one(models: GaussianModels) -> None:
    lengths = [1, 3, 0, 7, 2]
    arrays = [tuple(x.reshape(n, 5) for x in drawn(5 * n, 10 + n)) for n in lengths]
    one_by_one = encode(models, *arrays)
    escapes = bytearray()
    encoder = SymbolEncoder(models, escapes)
    encoder.put(*(torch.cat(x) for x in zip(*arrays, strict=True)), parts=lengths)
    assert (encoder.finish(), bytes(escapes)) == one_by_one
    reader = EscapeReader(bytes(escapes))
    decoder = SymbolDecoder(models, one_by_one[0], reader)
    for symbols, mu, index in arrays:
        assert torch.equal(decoder.get(mu, index), symbols)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_streams_that_end_in_zero_bytes(models: GaussianModels, count: int) -> None:
    """Few likely symbols make streams of zeros, of which bytes are dropped."""
    symbols, steps = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.float64)
    data, escapes = encode(models, (symbols, steps, steps))
    decoder = SymbolDecoder(models, data, EscapeReader(escapes))
    assert torch.equal(decoder.get(steps, steps), symbols)
    decoder.close()


def test_damaged_streams_end_in_typed_errors_or_other_symbols(models: GaussianModels) -> None:
    symbols, mu, index = drawn(400, 3)
    data, escapes = encode(models, (symbols, mu, index))
    rng = np.random.default_rng(4)
    refused = altered = 0
    for _ in range(200):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            broken[at] ^= int(rng.integers(1, 256))
        reader = EscapeReader(escapes)
        decoder = SymbolDecoder(models, bytes(broken), reader)
        try:
            found = decoder.get(mu, index)
            decoder.close()
            reader.close()
        except DamagedFileError:
            refused += 1
        else:
            assert not torch.equal(found, symbols)
            altered += 1
    assert refused + altered == 200 and refused > 0


def test_cut_and_foreign_streams_are_refused(models: GaussianModels) -> None:
    symbols, mu, index = drawn(400, 5, 0, 40)
    data, _ = encode(models, (symbols, mu, index))
    for stream in (data + b"abcdefgh", b"\xff" * 64 + data):
        decoder = SymbolDecoder(models, stream, EscapeReader(b""))
        with pytest.raises(DamagedFileError):
            decoder.get(mu, index)
            decoder.close()
    with pytest.raises(DamagedFileError, match="left over"):
        EscapeReader(b"\x01").close()
    with pytest.raises(DamagedFileError, match="beyond"):
        EscapeReader(b"\xff\xff\x7f").next()
    with pytest.raises(DamagedFileError, match="truncated"):
        EscapeReader(b"").next()
