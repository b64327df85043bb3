"""Large pictures in tiles: every system whose networks see no further than a margin gives the whole's result."""

from __future__ import annotations

import pytest
import torch

from genic.lightning_modules.layers import taef, tiling
from tests.helpers import nano


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    """Tiles of 64 pixels from here on."""
    return lambda: monkeypatch.setattr(tiling, "LARGE", 64)


@pytest.mark.parametrize("paper", ["hyperprior", "gdae_sprc", "extreme_semantic"])
def test_transforms_in_tiles(paper: str, small) -> None:
    changes = {"norm": "channel", "noise": 0} if paper == "extreme_semantic" else {}
    system = nano(paper, **changes).system.eval()
    torch.manual_seed(0)
    x, level = torch.rand(1, 3, 288, 160), torch.tensor([0 if paper == "extreme_semantic" else 0.0])

    def both() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            found = system.latents(x, level)
            z = found[0] if isinstance(found, tuple) else found
            given = z if paper != "extreme_semantic" else (z, level, None, None)
            return z, system.reconstruct(*(given if isinstance(given, tuple) else (given, level)))

    whole = both()
    small()
    for mine, its in zip(both(), whole, strict=True):
        torch.testing.assert_close(mine, its, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("light", [True, False])
def test_the_local_part_of_a_pretrained_transform_in_tiles(light: bool, small) -> None:
    torch.manual_seed(0)
    E, G, x = taef.Encoder().eval(), taef.Decoder(light).eval(), torch.rand(1, 3, 192, 64)
    with torch.no_grad():
        u = E(x)
        picture = G(u)
        small()
        torch.testing.assert_close(E(x), u, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(G(u), picture, atol=2e-5, rtol=1e-4)
