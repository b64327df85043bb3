"""Golden files decode to the committed symbols, encode to the committed bytes, and show the committed pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.entropy.coder import EscapeReader, GaussianModels, SymbolDecoder, SymbolEncoder
from genic.lightning_modules.entropy.gaussian import TOTAL, GaussianTables, build_tables
from genic.lightning_modules.entropy.grid import STEPS
from genic.lightning_modules.selective_detail.codec import SelectiveDetailCodec
from tests.conformance.paths import parameters
from tests.conformance.subjects import Latents
from tests.golden.make import ARRAYS, FOLDER, golden_codec, golden_tables
from tests.test_conformance import PIXEL_BOUND

# Of no learned codec, and of gdae_sprc (`tests.golden.every`).
NAMES = sorted(path.stem for path in FOLDER.glob("*.gnc") if path.stem not in ("alpha", "restored"))

# What constriction makes of `some_symbols`: a range coder that codes otherwise could not read any file of ours.
GOLDEN_STREAM = "a6f4ffff18dc2f6a79a07719f26da4f4bbeeed1b2eb5fc111ad71984"
GOLDEN_ESCAPES = "26"


@pytest.fixture(scope="module")
def codec() -> SelectiveDetailCodec:
    return golden_codec()


@pytest.fixture(scope="module")
def tables() -> GaussianTables:
    return golden_tables()


def golden(name: str) -> tuple[bytes, Latents, dict[str, np.ndarray]]:
    with np.load(ARRAYS) as file:
        arrays = {key.split("/")[1]: file[key] for key in file.files if key.split("/")[0] == name}
    z_hat, z_h_hat = (torch.from_numpy(arrays[key].astype(np.float32)) for key in ("z_hat", "z_h_hat"))
    return (FOLDER / f"{name}.gnc").read_bytes(), Latents(z_hat, z_h_hat, float(arrays["level"])), arrays


def test_there_are_golden_files() -> None:
    assert NAMES == ["escapes", "picture_17x33", "picture_1x1", "picture_48x64", "picture_64x40"]
    assert "escapes" in Container.from_bytes(golden("escapes")[0]).sections


@pytest.mark.parametrize("name", NAMES)
def test_bytes_decode_to_the_symbols(codec: SelectiveDetailCodec, name: str) -> None:
    data, x, _ = golden(name)
    z_hat, level = codec.coder.decode(Container.from_bytes(data), *x.z_hat.shape[1:])
    assert torch.equal(z_hat, x.z_hat) and level == x.level


@pytest.mark.parametrize("name", NAMES)
def test_symbols_encode_to_the_bytes(codec: SelectiveDetailCodec, name: str) -> None:
    data, x, arrays = golden(name)
    height, width = arrays["picture"].shape[:2]
    again = Container(codec.id, height, width, codec.coder.encode(*x), codec.weights_id).to_bytes()
    assert again == data


@pytest.mark.parametrize("name", NAMES)
def test_networks_predict_the_integers(codec: SelectiveDetailCodec, name: str) -> None:
    _, x, arrays = golden(name)
    for by_diagonal in (False, True):
        found = parameters(codec.coder, [x], by_diagonal)[0].numpy()
        assert np.array_equal(found, arrays["parameters"])
    assert np.unique(arrays["parameters"]).size > 5


@pytest.mark.parametrize("name", NAMES)
def test_pictures_differ_by_rounding_alone(codec: SelectiveDetailCodec, name: str) -> None:
    data, _, arrays = golden(name)
    found = codec.decode(data)
    assert found.shape == arrays["picture"].shape
    assert np.abs(found.astype(int) - arrays["picture"]).max() <= PIXEL_BOUND


def test_tables_built_today_are_the_stored_ones_but_for_rounding(tables: GaussianTables) -> None:
    """Tables travel with weights since the error function's last bits differ between libraries. They differ by no
    more: at most one count, and in the likeliest column, which takes up the remainder, one for every other."""
    built = build_tables()
    assert torch.equal(built.rows, tables.rows)
    for new, stored in zip(built.groups, tables.groups, strict=True):
        assert torch.all(stored.sum(1) == TOTAL)
        difference = (new - stored).abs()
        remainder = torch.zeros_like(difference, dtype=torch.bool).scatter_(
            1, stored.argmax(1, keepdim=True), True
        )
        assert difference[~remainder].max() <= 1
        assert difference.max() <= stored.shape[1]


def some_symbols() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Symbols, μ and s from integer arithmetic, in all three groups, with escapes."""
    n = torch.arange(48)
    mu = (n * 977 % 8192 - 4096).double()
    index = (n * 40503 % (64 * STEPS)).double()
    symbols = torch.div(mu, STEPS, rounding_mode="floor").to(torch.int64) + n % 3 - 1
    symbols[::16] += 20
    return symbols, mu, index


def test_the_range_coder_gives_the_golden_words(tables: GaussianTables) -> None:
    models, (symbols, mu, index), escapes = GaussianModels(tables), some_symbols(), bytearray()
    encoder = SymbolEncoder(models, escapes)
    encoder.put(symbols, mu, index)
    stream = encoder.finish()
    assert (stream.hex(), escapes.hex()) == (GOLDEN_STREAM, GOLDEN_ESCAPES)
    decoder = SymbolDecoder(models, bytes.fromhex(GOLDEN_STREAM), EscapeReader(bytes.fromhex(GOLDEN_ESCAPES)))
    assert torch.equal(decoder.get(mu, index), symbols)
