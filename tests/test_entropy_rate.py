"""What exactness costs, over Kodak: real bits of the files against the float32 network's own bits of the same symbols.

At the ends and in the middle of the rate range; all 24 pictures each, since the cost is that of the sum.
"""

from __future__ import annotations

import json

import pytest
import torch

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import WeightsError
from genic.lightning_modules.codec.weights import find_weights, load_weights
from genic.lightning_modules.extreme_semantic.config import ExtremeSemanticModel
from genic.lightning_modules.extreme_semantic.system import System
from genic.lightning_modules.registry import learned, open_codec
from tests.coded import decoded
from tests.conformance.subjects import Latents, needs_kodak, pictures, small
from tests.golden.every import OPTIONS

CONTAINER = 32
"""Bytes a file may have beyond its coded payloads."""


@needs_kodak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "position",
    [0, pytest.param(1, marks=pytest.mark.conformance), pytest.param(2, marks=pytest.mark.conformance)],
)
def test_exactness_costs_at_most_half_a_percent(position: int, capsys: pytest.CaptureFixture) -> None:
    network, codec = small()
    quality = codec.qualities[position * (len(codec.qualities) - 1) // 2]
    real, ideal, pixels = 0, 0.0, 0
    for picture in pictures(24):
        x = Latents(*codec.analyse(picture, quality))
        sections = codec.coder.encode(*x)
        payloads = 8 * sum(len(data) for name, data in sections.items() if name != "parameters")
        with torch.inference_mode():
            z, z_h = x.z_hat[None], x.z_h_hat[None]
            rate = network(z, z, z_h, z_h, torch.tensor([x.level]))
        estimated = rate.latents.item() + rate.hyper_latents.item()
        size = 8 * len(Container("sd", *picture.shape[:2], sections, codec.weights_id).to_bytes())
        # File by file: within 1 %, the container, and what the two streams' ends take up.
        assert abs(size - estimated) <= 0.01 * estimated + 8 * (CONTAINER + 8), picture.shape
        real, ideal, pixels = real + payloads, ideal + estimated, pixels + picture.size // 3
    if position:
        with capsys.disabled():
            print(
                f"\nquality {quality:g}: {real / pixels:.5f} bpp real, {ideal / pixels:.5f} ideal, "
                f"{real / ideal - 1:+.3%}"
            )
    assert abs(real / ideal - 1) <= 0.005


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(learned()))
def test_a_file_is_no_smaller_than_its_estimate_and_hardly_larger(name: str) -> None:
    """Stream by stream against −log2 P of its symbols: up to four bytes at the end, and 1 % where it is above 1 kB."""
    try:
        codec = open_codec(name)
    except WeightsError:
        pytest.skip(f"{name} has no weights yet")
    picture = pictures(1)[0][:256, :384].copy()
    data = codec.encode(picture, codec.qualities[-1], **OPTIONS.get(name, {}))
    with decoded() as found:
        codec.decode(data)
    assert 8 * len(data) >= sum(bits for _, bits in found.streams.values())
    for size, bits in found.streams.values():
        assert bits - 32 <= size <= bits + max(0.01 * bits, 64)
        assert size <= 1.01 * bits or size < 8 * 1024


@pytest.mark.timeout(1200)
def test_folded_symbols_cost_what_the_float_network_estimates() -> None:
    """Of `extreme_semantic`, whose estimate is the loss's: exactness costs less than 1 %."""
    tensors, metadata = load_weights(find_weights("extreme_semantic", "small"))
    system = System(ExtremeSemanticModel(**json.loads(metadata["config"]))).eval()
    system.load_state_dict({name: tensor.float() for name, tensor in tensors.items() if name != "tables"})
    codec, picture = open_codec("extreme_semantic"), pictures(1)[0]
    x = 2 * torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255 - 1
    for level, quality in enumerate(codec.qualities):
        with torch.inference_mode():
            estimated = float(system(x, torch.tensor([level]), None, None).rate)
        container = Container.from_bytes(codec.encode(picture, quality))
        assert 8 * len(container.to_bytes()) >= estimated
        assert 8 * len(container.section("latents")) == pytest.approx(estimated, rel=0.01, abs=32)
