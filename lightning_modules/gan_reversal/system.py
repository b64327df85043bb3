"""What is trained and what a codec is rebuilt from: generator, prior and, where there is one, encoder.

::

    x ── E ──> z ── /Δ, round ──> k ── ·Δ ── G ──> x̂            Δ_c = 1/σ(s_c + shift)
                                  └── prior N(0, 1) ──> bits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.gan_reversal.config import GanReversalModel
from genic.lightning_modules.gan_reversal.dcgan import DcganGenerator
from genic.lightning_modules.gan_reversal.networks import Encoder, ResidualGenerator
from genic.lightning_modules.gan_reversal.prior import Prior, bits, shifted, step_of
from genic.lightning_modules.layers.rounding import noisy, rounded
from genic.lightning_modules.layers.tiling import TILE, tiled


class Output(NamedTuple):
    """Pictures of E's z after quantisation, [B, 3, H, W], about [0, 1], and their bits under the prior, [B]."""

    picture: Tensor
    rate: Tensor


class System(nn.Module):
    """G, the prior's quantiser and E.

    Attributes:
        G: z -> x̂, with `stride`, `reach`, `grid` and `span`.
        prior: scale indices of the quantiser.
        E: x -> z, or None.
    """

    def __init__(self, config: GanReversalModel) -> None:
        super().__init__()
        self.G = DcganGenerator(config) if config.generator == "dcgan" else ResidualGenerator(config)
        self.E = Encoder(config) if config.encoder else None
        self.prior = Prior(config.latents, config.scale_index)

    def latents(self, x: Tensor) -> Tensor | None:
        """E's z, [B, latents, h, w], of pictures [B, 3, H, W] in [0, 1]; tile by tile if large; None without E."""
        if self.E is None:
            return None
        G, grid = self.G, self.G.grid(*x.shape[2:])
        pad = (0, G.span(grid[1]) - x.shape[3], 0, G.span(grid[0]) - x.shape[2])
        padded = F.pad(x, pad, mode="replicate")
        return tiled(self.E, padded, grid, G.stride, G.reach, up=False, side=TILE)

    def reconstruct(self, z: Tensor) -> Tensor:
        """[B, latents, h, w] -> [B, 3, H, W], about [0, 1]; tile by tile if large. DCGAN itself goes row by row."""
        G = self.G
        if isinstance(G, DcganGenerator):
            return G(z)
        return tiled(G, z, (z.shape[2], z.shape[3]), G.stride, G.reach, up=True, side=TILE)

    def forward(self, x: Tensor, shift: Tensor) -> Output:
        """Pictures whose sides are multiples of the stride and the quantiser's shift of each, [B].

        In training the rate is that of noisy symbols, the picture that of rounded ones with the identity for a
        derivative.
        """
        index = shifted(self.prior(), shift)
        delta = step_of(index)
        z = self.latents(x)
        assert z is not None, "only with E is there a rate to train"
        y = z.float() / delta
        k = rounded(y)
        x_hat = self.reconstruct(k * delta)
        return Output(x_hat.float(), bits(noisy(y) if self.training else k, index))

    def exported(self) -> dict[str, Tensor]:
        """Tensors of a weights file: the networks' and the integer scale indices."""
        state = {name: t for name, t in self.state_dict().items() if not name.startswith("prior.")}
        return state | {"prior.index": self.prior.exported()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `exported`; RuntimeError or KeyError where the tensors do not fit."""
        state = {name: t for name, t in tensors.items() if name != "prior.index"}
        self.load_state_dict(state | {"prior.offset": self.prior.offset_of(tensors["prior.index"])})
