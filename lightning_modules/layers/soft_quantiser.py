"""Soft-to-hard scalar quantisation.

Agustsson et al., NIPS 2017, for scalars (Mentzer et al. 2018, equation 2): the nearest centre forward, the gradient of
the softmax-weighted mean of all centres backward.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WINDOW = 7
"""Centres that a soft assignment is over; those farther off would have next to no share."""


class Quantised(NamedTuple):
    """All of the input's shape.

    Attributes:
        z_hat: the nearest centres, with the gradient of the soft assignment, to z and to the centres.
        index: the nearest centre's number less that of the middle one, whole numbers, no gradient.
        soft_index: Σ_k q_k·(k − middle); equals ``index`` up to the softness, and carries a gradient.
        q: the soft assignment to the centres of the window, of the input's shape and one axis more.
        at: number of the nearest centre within the window.
    """

    z_hat: Tensor
    index: Tensor
    soft_index: Tensor
    q: Tensor
    at: Tensor

    def one_hot(self) -> Tensor:
        """Which centre of the window (all of them, where there are no more than `WINDOW`), with the gradient of q."""
        hard = F.one_hot(self.at, self.q.shape[-1]).to(self.q.dtype)
        return self.q + (hard - self.q).detach()


class SoftToHardQuantiser(nn.Module):
    """L centres, shared by all channels, at first the whole numbers around 0.

    Centres may cross while they learn; they are used in ascending order, so that an index is a magnitude and the
    entropy model can predict it.

    Args:
        centres: L. learned: False keeps them where they are, and out of the weights.
    """

    def __init__(self, centres: int, learned: bool = True) -> None:
        super().__init__()
        self.middle = centres // 2
        whole = torch.arange(centres).float() - self.middle
        if learned:
            self.centres = nn.Parameter(whole)
        else:
            self.register_buffer("centres", whole, persistent=False)

    def forward(self, z: Tensor, sigma: float) -> Quantised:
        """z, any shape, float32; q_k = softmax_k(−σ·(z − c_k)²), over the `WINDOW` centres about the nearest one."""
        c = self.centres.sort().values
        width = min(WINDOW, len(c))
        nearest = self.index(z.detach()).long() + self.middle
        first = (nearest - width // 2).clamp(0, len(c) - width)
        window = F.embedding(first, c.unfold(0, width, 1))
        q = torch.softmax(-sigma * (z[..., None] - window).square(), -1)
        soft = (q * window).sum(-1)
        index = (nearest - self.middle).to(z.dtype)
        steps = torch.arange(width, device=z.device, dtype=q.dtype)
        soft_index = (q * steps).sum(-1) + (first - self.middle)
        z_hat = soft + (c[nearest].detach() - soft).detach()
        return Quantised(z_hat, index, soft_index, q, nearest - first)

    def index(self, z: Tensor) -> Tensor:
        """The nearest centre's number, less that of the middle one; float32 whole numbers."""
        c = self.centres.sort().values
        # Decision thresholds are the midpoints: no tensor of distances for large pictures.
        return torch.bucketize(z.contiguous(), (c[1:] + c[:-1]) / 2).to(z.dtype) - self.middle

    def values(self, index: Tensor) -> Tensor:
        """The centres of ``index``, which must lie within ±(L − 1)/2."""
        return self.centres.sort().values[index.long() + self.middle]
