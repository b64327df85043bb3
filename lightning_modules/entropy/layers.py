"""Layers of the exact networks: linear maps over neighbourhoods, and windowed attention.

Feature maps are channels-last, [B, R, C, channels]: R rows, C columns. In the causal networks a row is one
anti-diagonal (see `wavefront`); in hyper decoders it is a row of the latent grid.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.entropy.grid import GridModule, check_sums

Offset = tuple[int, int]
SQUARE_3X3: tuple[Offset, ...] = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1))


class GridLinear(GridModule):
    """``y = x W + b`` on the last axis; the weight is [in, out].

    Args:
        in_features: channels of one position times the number of positions gathered.
        gain: factor on the initial weights' standard deviation √(1/in).
    """

    def __init__(self, in_features: int, out_features: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(in_features, out_features) * gain / math.sqrt(in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def check_headroom(self) -> None:
        check_sums(type(self).__name__, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        shape = x.shape
        y = torch.addmm(self.bias, x.reshape(-1, shape[-1]), self.weight) if self.exact else x @ self.weight + self.bias
        return self.snap(y).reshape(*shape[:-1], -1)


def gather(x: Tensor, offsets: tuple[Offset, ...]) -> Tensor:
    """Neighbours side by side: [B, R, C, ch] -> [B, R, C, len(offsets)·ch], zeros beyond the border."""
    rows, columns = x.shape[1:3]
    m = max(max(abs(r), abs(c)) for r, c in offsets)
    padded = F.pad(x, (0, 0, m, m, m, m))
    return torch.cat([padded[:, m + r : m + r + rows, m + c : m + c + columns] for r, c in offsets], -1)


class GridConv3x3(GridLinear):
    """3×3 convolution with zero padding on [B, R, C, in]."""

    def __init__(self, in_channels: int, out_channels: int, gain: float = 1.0) -> None:
        super().__init__(9 * in_channels, out_channels, gain)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(gather(x, SQUARE_3X3))


class GatedResidual(GridModule):
    """PixelSNAIL's gated residual block of 1×1 maps: ``x + u · σ(g)``, (u, g) from (x, a).

    Deviation: σ is the hard sigmoid clamp(g/4 + ½, 0, 1) and the non-linearity ReLU, both exact on the grid
    (PixelSNAIL: logistic and ELU). The product u·σ(g) has 21 + 13 bits.
    """

    def __init__(self, channels: int, aux_channels: int) -> None:
        super().__init__()
        self.hidden = GridLinear(channels + aux_channels, channels, gain=2**0.5)
        self.out = GridLinear(channels, 2 * channels)

    def forward(self, x: Tensor, a: Tensor) -> Tensor:
        """[..., channels], [..., aux_channels] -> [..., channels]."""
        u, g = self.out(F.relu(self.hidden(torch.cat((x, a), -1)))).chunk(2, -1)
        return self.snap(x + u * (g * 0.25 + 0.5).clamp(0, 1))


class WindowAttention(GridModule):
    """Attention of each position over a fixed set of neighbours, with a null key.

    Scores are q·(k + p)/√d with a learned p per neighbour and head, and d = 16, so that 1/√d = ¼ is exact.
    The null key (score 0, value 0) makes the first position, which sees nothing, well defined. On an exact
    copy exp(−a) comes from a table of integers round(2¹⁶·exp(−i/256)), i < 4096, that travels with the weights.
    Scores need 21 + 25 + 4 bits and weighted sums 17 + 21 + log2(window), whatever the weights.

    Args:
        heads: number of heads, of 16 channels each.
        window: number of neighbours.
    """

    head_channels = 16

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.offset_key = nn.Parameter(torch.zeros(window, heads, self.head_channels))
        steps = torch.arange(4096, dtype=torch.float64) / 256
        self.register_buffer("exp_table", torch.round(65536 * torch.exp(-steps)).to(torch.int32))

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        """Attend.

        Args:
            q: [B, R, C, heads·16].
            k, v: [B, R, C, window, heads·16].
            valid: bool [R, C, window]; whether that neighbour lies inside the picture.

        Returns:
            [B, R, C, heads·16].
        """
        b, r, c, n, _ = k.shape
        split = (b, r, c, n, self.heads, self.head_channels)
        q = q.reshape(b, r, c, 1, self.heads, self.head_channels)
        score = (q * (k.reshape(split) + self.offset_key)).sum(-1) * 0.25  # [B, R, C, window, heads]
        score = score.masked_fill(~valid[..., None], -4096.0)
        top = score.amax(3, keepdim=True).clamp_min(0)
        if self.exact:
            e, null = self._exp_steps(top - score), self._exp_steps(top)
        else:
            e, null = torch.exp(score - top), torch.exp(-top)
        total = e.sum(3) + null[:, :, :, 0]
        y = (e[..., None] * v.reshape(split)).sum(3) / total[..., None]
        return self.snap(y.reshape(b, r, c, -1))

    def _exp_steps(self, a: Tensor) -> Tensor:
        """exp(−a)·2¹⁶ as integers, a ≥ 0."""
        return self.exp_table[torch.round(a * 256).clamp_(max=4095).int()].to(a.dtype)
