"""Context networks: masked convolution alone (`MaskedContext`), and with causal attention (`ContextModel`).

Minnen, Ballé, Toderici, 2018, table 1, context prediction and entropy parameters::

    ẑ ── masked 5×5 ──┐
    ψ ────────────────┴─ 1×1 ── 1×1 ── 1×1 ──> μ, s

Akutsu et al., CLIC 2020, section 2.3 and figure 2, whose layer widths are not printed; the blocks are ours::

    ẑ ── causal 5×5 ── causal residual 3×3 ── causal attention ── gate ──┐  context estimator
    ψ = H_d(ẑ_h) ── 1×1 ─────────────────────────────────────────────────┤
                             1×1 residual ── causal attention ── gate ── 1×1 ──> μ_f, s_f   mixing body

Attention as in PixelSNAIL (Chen et al. 2017): keys and values from the symbols and the features, queries from
the features. Deviations: a bounded causal window with a learned key per offset instead of the whole past with
background coordinates, so that cost grows linearly with the picture; several heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.entropy.grid import GridModule
from genic.lightning_modules.entropy.layers import GatedResidual, GridLinear, WindowAttention
from genic.lightning_modules.entropy.wavefront import Wavefront, causal_offsets


class CausalLinear(GridLinear):
    """Masked convolution: a linear map over a causal neighbourhood (`wavefront.causal_offsets`)."""

    def __init__(
        self, in_channels: int, out_channels: int, radius: int, skew: int, include_same: bool
    ) -> None:
        self.offsets = causal_offsets(radius, skew, include_same)
        super().__init__(len(self.offsets) * in_channels, out_channels)

    def forward(self, front: Wavefront, name: str, at: slice) -> Tensor:
        """Rows ``at`` [rows, out] from map ``name`` of ``front``."""
        return super().forward(front.neighbours(name, self.offsets, at).flatten(1))


class CausalAttention(nn.Module):
    """Gated attention over earlier diagonals within a window.

    Args:
        name: of its maps in the wavefront.
        channels: of the features.
        symbols: channels of ẑ.
        heads: of 16 channels each.
        radius: the window is the causal half of (2·radius + 1)² positions.
        skew: s.
    """

    def __init__(self, name: str, channels: int, symbols: int, heads: int, radius: int, skew: int) -> None:
        super().__init__()
        inner = heads * WindowAttention.head_channels
        self.name = name
        past = causal_offsets(radius, skew, include_same=False)
        self.offsets = (*past, None)
        self.query = GridLinear(channels, inner)
        self.key_value = GridLinear(channels + symbols, 2 * inner)
        self.attend = WindowAttention(heads, len(past))
        self.gate = GatedResidual(channels, inner)

    def remember(self, front: Wavefront, at: slice) -> None:
        """Keys and values of rows whose features and symbols are known."""
        features = torch.cat((front.pending.pop(self.name), front.read("z_hat", at)), -1)
        front.write(f"{self.name}.kv", self.key_value(features), at)

    def forward(self, front: Wavefront, x: Tensor, at: slice, known: bool) -> Tensor:
        """Features of rows ``at``, [rows, channels] -> the same shape.

        ``known``: the rows' symbols are known already (training, encoding). While decoding they are not, and
        `remember` is called once they are.
        """
        front.pending[self.name] = x
        if known:
            self.remember(front, at)
        k, v = front.neighbours(f"{self.name}.kv", self.offsets, at).chunk(2, -1)
        return self.gate(x, self.attend(self.query(x), k, v, front.border(self.offsets, at)))


class CausalNetwork(GridModule):
    """(ẑ, ψ, level) -> (μ_f, s_f), each element from earlier diagonals of ẑ and all of ψ."""

    @abstractmethod
    def wavefront(self, psi: Tensor, level: Tensor, incremental: bool) -> Wavefront:
        """Maps for pictures with hyper features ``psi`` [B, H, W, hyper] and ``level`` [B]."""

    @abstractmethod
    def predict(self, front: Wavefront, at: slice, known: bool) -> Tensor:
        """(μ_f, s_f) of rows ``at``, [rows, 2·symbols]; see `CausalAttention.forward` for ``known``."""

    @abstractmethod
    def observe(self, front: Wavefront, z_hat: Tensor, at: slice) -> None:
        """Take in the decoded symbols [rows, symbols] of rows that `predict` was given."""

    def forward(self, z_hat: Tensor, psi: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The whole picture at once, for training.

        Args:
            z_hat: [B, H, W, symbols], integers (times `unit`, like all activations).
            psi: [B, H, W, hyper].
            level: [B], 0 to levels − 1.

        Returns:
            μ_f and scale index s_f, both [B, H, W, symbols].
        """
        front = self.wavefront(psi, level, incremental=False)
        front.write("z_hat", front.to_rows(z_hat), front.whole)
        mu, index = front.to_grid(self.predict(front, front.whole, known=True)).chunk(2, -1)
        return mu, index


class MaskedContext(CausalNetwork):
    """Masked convolution and entropy parameters of Minnen et al. 2018.

    Deviations: ReLU for leaky ReLU, exact on the grid; the second output is the scale index (`gaussian`), not σ; ψ is
    biased by the level.

    Args:
        symbols: channels of ẑ.
        hyper: channels of ψ.
        widths: between the 1×1 layers; as published 10/3 and 8/3 of ``symbols``.
        skew: s of the decoding order. With 3 the neighbourhood is that of raster order, as published; 1 or 2 decode in
            fewer steps and leave out two or one of its twelve positions.
        levels: number of trained rate levels.
    """

    def __init__(self, symbols: int, hyper: int, widths: Sequence[int], skew: int, levels: int) -> None:
        super().__init__()
        self.symbols, self.skew = symbols, skew
        self.masked = CausalLinear(symbols, 2 * symbols, 2, skew, include_same=False)
        self.level = nn.Parameter(torch.zeros(levels, hyper))
        widths = (2 * symbols + hyper, *widths, 2 * symbols)
        gains = [2**0.5] * (len(widths) - 2) + [1.0]
        self.entropy_parameters = nn.ModuleList(map(GridLinear, widths[:-1], widths[1:], gains))
        last = self.entropy_parameters[-1]
        assert isinstance(last, GridLinear)
        last.bias.data[symbols:] = 24.0  # σ about 1, as the channel prior's

    def make_exact(self) -> None:
        super().make_exact()
        self.level.data *= self.unit

    def wavefront(self, psi: Tensor, level: Tensor, incremental: bool) -> Wavefront:
        batch, height, width = psi.shape[:3]
        front = Wavefront(batch, height, width, self.skew, psi, incremental)
        bias = self.snap(interpolate(self.level, level))[:, None, None]
        front.write("psi", front.to_rows(psi + bias), front.whole)
        if incremental:
            front.allocate("z_hat", self.symbols)
        return front

    def predict(self, front: Wavefront, at: slice, known: bool) -> Tensor:
        x = torch.cat((self.masked(front, "z_hat", at), front.read("psi", at)), -1)
        first, *others = self.entropy_parameters
        x = first(x)
        for layer in others:
            x = layer(F.relu(x))
        return x

    def observe(self, front: Wavefront, z_hat: Tensor, at: slice) -> None:
        front.write("z_hat", z_hat, at)


class ContextModel(CausalNetwork):
    """(ẑ, ψ, level) -> (μ_f, s_f), each element from earlier diagonals of ẑ and all of ψ.

    Args:
        symbols: channels of ẑ.
        hyper: channels of ψ.
        channels: width of the context estimator and the mixing body.
        heads, radius: of the attention.
        skew: s of the decoding order, 1 or 2.
        levels: number of trained rate levels; features are biased by the level.
    """

    def __init__(
        self, symbols: int, hyper: int, channels: int, heads: int, radius: int, skew: int, levels: int
    ) -> None:
        super().__init__()
        self.symbols, self.radius, self.skew = symbols, radius, skew
        self.first = CausalLinear(symbols, channels, 2, skew, include_same=False)
        self.level = nn.Parameter(torch.zeros(levels, channels))
        self.residual_in = CausalLinear(channels, channels, 1, skew, include_same=True)
        self.residual_out = GridLinear(channels, channels, gain=0.5)
        self.context_attention = CausalAttention("context", channels, symbols, heads, radius, skew)
        self.mix_context = GridLinear(channels, channels)
        self.mix_hyper = GridLinear(hyper, channels)
        self.mix_in = GridLinear(channels, channels)
        self.mix_out = GridLinear(channels, channels, gain=0.5)
        self.mixing_attention = CausalAttention("mixing", channels, symbols, heads, radius, skew)
        self.out = GridLinear(channels, 2 * symbols, gain=0.1)

    def make_exact(self) -> None:
        super().make_exact()
        self.level.data *= self.unit

    def wavefront(self, psi: Tensor, level: Tensor, incremental: bool) -> Wavefront:
        """Maps for pictures with hyper features ``psi`` [B, H, W, hyper] and ``level`` [B]; starts the mixing."""
        batch, height, width = psi.shape[:3]
        front = Wavefront(batch, height, width, self.skew, psi, incremental)
        front.write("psi", front.to_rows(self.mix_hyper(psi)), front.whole)
        biases = self.snap(interpolate(self.level, level))[:, None, None].expand(*psi.shape[:3], -1)
        front.write("level", front.to_rows(biases), front.whole)
        if incremental:
            front.allocate("z_hat", self.symbols)
            for attention in (self.context_attention, self.mixing_attention):
                front.allocate(f"{attention.name}.kv", attention.key_value.bias.shape[0])
        return front

    def predict(self, front: Wavefront, at: slice, known: bool) -> Tensor:
        """(μ_f, s_f) of rows ``at``, [rows, 2·symbols]; see `CausalAttention.forward` for ``known``."""
        x = self.first(front, "z_hat", at) + front.read("level", at)
        front.write("first", F.relu(x), at)
        x = x + self.residual_out(F.relu(self.residual_in(front, "first", at)))
        x = self.context_attention(front, x, at, known)
        x = self.mix_context(x) + front.read("psi", at)
        x = x + self.mix_out(F.relu(self.mix_in(F.relu(x))))
        x = self.mixing_attention(front, x, at, known)
        return self.out(F.relu(x))

    def observe(self, front: Wavefront, z_hat: Tensor, at: slice) -> None:
        """Take in the decoded symbols [rows, symbols] of rows that `predict` was given."""
        front.write("z_hat", z_hat, at)
        self.context_attention.remember(front, at)
        self.mixing_attention.remember(front, at)


def interpolate(table: Tensor, level: Tensor) -> Tensor:
    """Rows of ``table`` [levels, ch] at ``level`` [B], linearly between whole levels.

    In float64 the products are exact for levels that are multiples of ⅛.
    """
    low = level.floor().clamp(0, table.shape[0] - 1)
    high = (low + 1).clamp(max=table.shape[0] - 1)
    fraction = (level - low)[:, None].to(table.dtype)
    return table[low.long()] * (1 - fraction) + table[high.long()] * fraction
