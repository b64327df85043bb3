"""What exactness costs, over Kodak: real bits of the files against the float32 network's own bits of the same symbols.

At the ends and in the middle of the rate range; all 24 pictures each, since the cost is that of the sum.
"""

from __future__ import annotations

import pytest
import torch

from lightning_modules.codec.container import Container
from tests.conformance.subjects import Latents, needs_kodak, pictures, small

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
