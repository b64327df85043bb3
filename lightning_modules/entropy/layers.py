"""Layers of the exact networks: linear maps over neighbourhoods, and windowed attention.

Feature maps are channels-last: [B, H, W, channels] in hyper decoders, [rows, channels] with one row a position in the
causal networks (see `wavefront`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.entropy.grid import GridModule, check_sums


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

    def make_exact(self) -> None:
        super().make_exact()
        check_sums(type(self).__name__, self.weight)
        self.bias.data *= self.unit

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        y = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return self.snap(y).reshape(*x.shape[:-1], -1)


class GridConv3x3(GridLinear):
    """3×3 convolution with zero padding on [B, H, W, in]."""

    def __init__(self, in_channels: int, out_channels: int, gain: float = 1.0) -> None:
        super().__init__(9 * in_channels, out_channels, gain)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        shifted = [padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)]
        return super().forward(torch.cat(shifted, -1))


class GridDeconv5x5(GridLinear):
    """Transposed convolution 5×5 of stride 2: [B, H, W, in] -> [B, 2H, 2W, out].

    The weight has the kernel's 25 positions, row by row. Output row 2i takes the kernel's rows 0, 2, 4 from input rows
    i + 1, i, i − 1, and 2i + 1 its rows 1, 3 from i + 1, i; columns likewise.
    """

    def __init__(self, in_channels: int, out_channels: int, gain: float = 1.0) -> None:
        # An output sees 25/4 of the positions on average.
        super().__init__(25 * in_channels, out_channels, 2 * gain)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, channels = x.shape
        padded = F.pad(x, (0, 0, 1, 1, 1, 1))
        kernel = self.weight.reshape(5, 5, channels, -1)
        y = x.new_empty(b, h, 2, w, 2, kernel.shape[-1])
        for r in range(2):
            for c in range(2):
                taps = [(i, j) for i in range(r, 5, 2) for j in range(c, 5, 2)]
                seen = [padded[:, 2 - i // 2 :, 2 - j // 2 :][:, :h, :w] for i, j in taps]
                weight = torch.cat([kernel[tap] for tap in taps])
                out = torch.addmm(self.bias, torch.cat(seen, -1).flatten(0, 2), weight)
                y[:, :, r, :, c] = out.reshape(b, h, w, -1)
        return self.snap(y.reshape(b, 2 * h, 2 * w, -1))


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
        return self.snap(x + u * (g * (0.25 / self.unit) + 0.5).clamp(0, 1))


class WindowAttention(GridModule):
    """Attention of each position over a fixed set of neighbours, the last of which is a null key.

    Scores are q·(k + p)/√d with a learned p per neighbour and head, and d = 16, so that 1/√d = ¼ is exact.
    The null key (score 0, value 0) makes the first position, which sees nothing, well defined. On an exact
    copy exp(−a) comes from a table of integers round(2¹⁶·exp(−i/256)), i < 4096, that travels with the weights.
    Scores need 21 + 25 + 4 bits and weighted sums 17 + 21 + log2(window), whatever the weights.

    Args:
        heads: number of heads, of 16 channels each.
        window: number of neighbours without the null key.
    """

    head_channels = 16

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.offset_key = nn.Parameter(torch.zeros(window, heads, self.head_channels))
        steps = torch.arange(4096, dtype=torch.float64) / 256
        self.register_buffer("exp_table", torch.round(65536 * torch.exp(-steps)).to(torch.int32))

    def make_exact(self) -> None:
        super().make_exact()
        self.offset_key.data = self._with_null(self.offset_key.data * self.unit)
        self.exp_table = self.exp_table.double()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, border: Tensor) -> Tensor:
        """Attend.

        Args:
            q: [rows, heads·16].
            k, v: [rows, window + 1, heads·16], zeros for the null key.
            border: [rows, window + 1, 1], added to the scores: `wavefront.BEYOND` where a neighbour lies beyond the
                border of the picture, 0 elsewhere.

        Returns:
            [rows, heads·16].
        """
        split = (-1, k.shape[1], self.heads, self.head_channels)
        p = self.offset_key if self.exact else self._with_null(self.offset_key)
        product = ((k.reshape(split) + p) * q.reshape(-1, 1, *split[2:])).sum(-1)
        # On an exact copy scores are counted in 1/256, the steps of the table.
        scale = 0.25 * 256 / self.unit**2 if self.exact else 0.25
        score = torch.add(border, product, alpha=scale)  # [rows, window + 1, heads]
        e = self._exp(score.amax(1, keepdim=True) - score)
        y = (e[..., None] * v.reshape(split)).sum(1) / e.sum(1)[..., None]
        return self.snap(y.flatten(1))

    @staticmethod
    def _with_null(p: Tensor) -> Tensor:
        return F.pad(p, (0, 0, 0, 0, 0, 1))

    def _exp(self, a: Tensor) -> Tensor:
        """exp(−a), a ≥ 0; on an exact copy 2¹⁶·exp(−a/256) as integers."""
        if not self.exact:
            return torch.exp(-a)
        return self.exp_table.take(a.round_().clamp_(max=len(self.exp_table) - 1).long())
