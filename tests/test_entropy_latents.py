"""`HyperpriorCoder`: symbols to sections and back; what it refuses; how near its integers are to the trained ones."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DamagedFileError, SymbolMismatchError, WeightsError
from genic.lightning_modules.entropy import latents
from genic.lightning_modules.entropy.gaussian import build_tables
from genic.lightning_modules.entropy.grid import STEPS, WEIGHT_BITS, exact_copy
from genic.lightning_modules.entropy.hyperprior import EntropyEstimator, HyperpriorCoder
from tests.conformance.paths import FloatCoder, parameters
from tests.conformance.subjects import NANO, Latents, estimator, random_weights

LEVEL = 0.625


def network(skew: int = 1) -> EntropyEstimator:
    return estimator(*random_weights(dataclasses.replace(NANO, skew=skew)))


@pytest.fixture(scope="module", params=[1, 2])
def coder(request: pytest.FixtureRequest) -> HyperpriorCoder:
    return HyperpriorCoder(network(request.param), build_tables())


def symbols(height: int, width: int, spread: float = 3.0, seed: int = 0) -> Latents:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(NANO.latents, height, width, generator=generator) * spread
    z_h = torch.randn(NANO.hyper, -(-height // 4), -(-width // 4), generator=generator) * spread
    return Latents(z.round().clamp(-511, 511), z_h.round().clamp(-511, 511), LEVEL)


def container(sections: dict[str, bytes]) -> Container:
    return Container("sd", 1, 1, sections)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 8), (13, 6)])
@pytest.mark.parametrize("spread", [0.0, 2.0, 200.0])
def test_round_trip(coder: HyperpriorCoder, size: tuple[int, int], spread: float) -> None:
    x = symbols(*size, spread)
    sections = coder.encode(*x)
    assert "escapes" in sections or spread < 100
    z_hat, level = coder.decode(container(sections), *size)
    assert z_hat.dtype == torch.float32 and torch.equal(z_hat, x.z_hat) and level == LEVEL


@pytest.mark.parametrize("block", [1, 3, 1000])
def test_the_encoder_s_block_does_not_change_its_bytes(
    coder: HyperpriorCoder, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = symbols(21, 30)
    expected = coder.encode(*x)
    monkeypatch.setattr(latents, "ENCODE_BLOCK", block)
    assert coder.encode(*x) == expected


def test_a_batch_has_each_picture_s_bytes_and_symbols(coder: HyperpriorCoder) -> None:
    batch = [symbols(13, 6, spread) for spread in (2.0, 200.0, 0.0)]
    expected = [coder.encode(x.z_hat, x.z_h_hat, LEVEL) for x in batch]
    assert coder.encode_batch(*map(torch.stack, list(zip(*batch, strict=True))[:2]), LEVEL) == expected
    other = coder.encode(*batch[0][:2], 0.0)  # levels need not agree
    z_hat, level = coder.decode_batch([container(file) for file in (*expected, other)], 13, 6)
    assert all(torch.equal(mine, x.z_hat) for mine, x in zip(z_hat, (*batch, batch[0]), strict=True))
    assert level.tolist() == [LEVEL] * 3 + [0.0]


def test_symbols_are_checked(coder: HyperpriorCoder) -> None:
    x = symbols(6, 7)
    sections = coder.encode(*x)
    parameters_, crc = sections["parameters"][:1], sections["parameters"][1:]
    expected = 0
    for z in (x.z_h_hat, x.z_hat):
        expected = zlib.crc32(z.permute(1, 2, 0).numpy().astype("<i2").tobytes(), expected)
    assert int.from_bytes(crc, "little") == expected
    for at in range(4):
        altered = bytearray(crc)
        altered[at] ^= 0x10
        with pytest.raises(SymbolMismatchError, match="check"):
            coder.decode(container({**sections, "parameters": parameters_ + bytes(altered)}), 6, 7)


def test_damaged_sections_are_typed_errors(coder: HyperpriorCoder) -> None:
    """Behind a valid container: nothing but a `DamagedFileError` (of which a mismatch is one) ever leaves the coder."""
    x = symbols(8, 8)
    sections = coder.encode(*x)
    rng = np.random.default_rng(0)
    for name in sections:
        for _ in range(12):
            broken = bytearray(sections[name])
            broken[rng.integers(len(broken))] ^= int(rng.integers(1, 256))
            with pytest.raises(DamagedFileError):
                coder.decode(container({**sections, name: bytes(broken)}), 8, 8)
        with pytest.raises(DamagedFileError):
            coder.decode(container({k: v for k, v in sections.items() if k != name}), 8, 8)
        with pytest.raises(DamagedFileError):
            coder.decode(container({**sections, name: sections[name][: len(sections[name]) // 2]}), 8, 8)
    with pytest.raises(DamagedFileError):
        coder.decode(container(sections | {"escapes": b"\x02"}), 8, 8)
    with pytest.raises(DamagedFileError):
        coder.decode(container(sections), 9, 8)
    with pytest.raises(DamagedFileError, match="rate level"):
        coder.decode(container({**sections, "parameters": b"\xff" + sections["parameters"][1:]}), 8, 8)


def test_exact_networks_are_near_the_trained_ones() -> None:
    """μ and s of the integers, 2⁻¹⁰ apart, stay within a few hundredths of the float32 network's."""
    net = network()
    x = symbols(12, 12, 2.0)
    exact = parameters(HyperpriorCoder(net, build_tables()), [x], by_diagonal=False) / STEPS
    plain = parameters(FloatCoder(net, build_tables()), [x], by_diagonal=False)
    assert plain.dtype == torch.float32 and exact.dtype == torch.float64
    assert plain.std() > 1, "the network under test predicts nothing"
    assert (exact - plain).abs().mean() < 0.01
    assert (exact - plain).abs().max() < 0.1


def test_exact_weights_are_the_stored_ones_on_their_grid() -> None:
    net = network()
    exact, stored = exact_copy(net), exact_copy(net.half().float())
    for (name, a), b in zip(exact.named_parameters(), stored.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.dtype == torch.float64 and torch.equal(
            a * 2.0**WEIGHT_BITS, torch.round(a * 2.0**WEIGHT_BITS)
        )
    weight = net.context.out.weight.half().double()
    assert (exact.context.out.weight - weight).abs().max() <= 2.0 ** -(WEIGHT_BITS + 1)


def edited(change: float, at: str) -> EntropyEstimator:
    net = network()
    with torch.no_grad():
        net.get_parameter(at).view(-1)[0] = change
    return net


def test_weights_that_could_overflow_are_refused() -> None:
    net = network()
    with torch.no_grad():
        net.context.first.weight.fill_(6e4)
    with pytest.raises(WeightsError, match=r"CausalLinear: sums need \d+\.\d bits"):
        HyperpriorCoder(net, build_tables())
    for value in (float("nan"), float("inf"), 1e5):  # beyond float16
        with pytest.raises(WeightsError, match=r"context\.out\.bias is not finite"):
            HyperpriorCoder(edited(value, "context.out.bias"), build_tables())


def test_no_sum_within_the_checked_bound_is_rounded() -> None:
    """The bound of `check_sums` is true: the largest sums that it lets pass equal those of Python's integers."""
    net = exact_copy(edited(2000.0, "context.mix_in.weight"))
    layer = net.context.mix_in
    x = torch.full((1, layer.weight.shape[0]), 4.0 * 2**20 - 1, dtype=torch.float64)
    x[:, ::2] *= -1
    y = torch.addmm(layer.bias, x, layer.weight) * 2**WEIGHT_BITS
    scaled: Tensor = layer.weight * 2**WEIGHT_BITS
    for column in range(layer.weight.shape[1]):
        exact = sum(int(a) * int(b) for a, b in zip(x[0].tolist(), scaled[:, column].tolist(), strict=True))
        assert int(y[0, column]) == exact + int(layer.bias[column] * 2**WEIGHT_BITS)


def test_estimated_bits_are_those_of_the_file() -> None:
    """For symbols of the size that the network expects, σ = 2.3; for trained networks see `test_entropy_rate`."""
    net = network()
    net.context.out.weight *= 0.1
    net.context.out.bias[NANO.latents :] = 30
    net.prior.scale_index.fill_(30)
    x = symbols(24, 24, 2.3)
    with torch.inference_mode():
        z, z_h = x.z_hat[None], x.z_h_hat[None]
        rate = net(z, z, z_h, z_h, torch.tensor([LEVEL]))
    sections = HyperpriorCoder(net, build_tables()).encode(*x)
    latents = 8 * (len(sections["latents"]) + len(sections.get("escapes", b"")))
    assert latents == pytest.approx(rate.latents.item(), rel=0.01)
    assert 8 * len(sections["hyper_latents"]) == pytest.approx(rate.hyper_latents.item(), rel=0.01, abs=32)
