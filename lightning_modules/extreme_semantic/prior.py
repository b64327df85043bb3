"""The entropy model of ŵ: a context network, Gaussians folded onto the five centres, integer tables, range coder.

::

    labels and heat on ŵ's grid ── ψ ──┐
    earlier diagonals of ŵ ────────────┴─ ContextModel ──> (μ, s) ──> P(−2), …, P(2) ── range coder

A centre's probability is that of a Gaussian's rounding to the nearest centre: what lies beyond −2 and 2 counts for
them, so there are no escapes, and a wide Gaussian is nearly uniform: log2 5 bits a symbol are hardly exceeded. The
source says nothing of its entropy coder. The network is evaluated exactly (`lightning_modules.entropy.grid`), and its
(μ, s) choose a row of integers that travel with the weights.
"""

from __future__ import annotations

import math

import constriction
import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor

from lightning_modules.codec.errors import DamagedFileError
from lightning_modules.entropy.context import ContextModel
from lightning_modules.entropy.gaussian import TOTAL, lower_bound, sigma_of
from lightning_modules.entropy.grid import ACTIVATION_BITS, STEPS, exact_copy
from lightning_modules.entropy.wavefront import Wavefront
from lightning_modules.extreme_semantic.quantiser import CENTRES, LEVELS

START_INDEX = 24
"""Added to the network's s: σ = 1.24 where it says nothing."""
_EDGES = tuple(c + 0.5 for c in CENTRES[:-1])
_MU_LIMIT, _MU_FRACTIONS = 4, 8
_INDEX_LIMIT, _INDEX_FRACTIONS = 44, 2  # σ up to 9
_MU_ROWS, _INDEX_ROWS = 2 * _MU_LIMIT * _MU_FRACTIONS + 1, _INDEX_LIMIT * _INDEX_FRACTIONS
_ENCODE_BLOCK = 8  # diagonals evaluated at once; bounds the memory, cannot change the result


def folded_bits(mu: Tensor, s: Tensor) -> Tensor:
    """−log2 P of every centre, [..., 5] float32, for the network's μ and s [...]."""
    mu, sigma = mu.float()[..., None], sigma_of(s.float() + START_INDEX)[..., None]
    edges = torch.tensor(_EDGES, device=mu.device)
    below, above = _phi((edges - mu) / sigma), _phi((mu - edges) / sigma)
    # Differences are taken in the tail that is small, where float32 resolves them.
    lower = torch.cat((below[..., :1], below[..., 1:] - below[..., :-1], above[..., -1:]), -1)
    upper = torch.cat((below[..., :1], above[..., :-1] - above[..., 1:], above[..., -1:]), -1)
    inner = torch.tensor(CENTRES, device=mu.device) > mu
    return -torch.log2(lower_bound(torch.where(inner, upper, lower), 1.0 / TOTAL))


def _phi(x: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-x * math.sqrt(0.5))


def build_tables() -> Tensor:
    """int32 [μ rows · s rows, 5]; every row sums to 2²⁰, every entry is at least 1."""
    mu = torch.arange(_MU_ROWS).double() / _MU_FRACTIONS - _MU_LIMIT
    sigma = sigma_of(torch.arange(_INDEX_ROWS).double() / _INDEX_FRACTIONS)
    edges = torch.tensor([-math.inf, *_EDGES, math.inf], dtype=torch.float64)
    x = ((edges - mu[:, None, None]) / sigma[:, None]).reshape(-1, LEVELS + 1).numpy()
    p = torch.from_numpy(
        np.where(x[:, :-1] > 0, ndtr(-x[:, :-1]) - ndtr(-x[:, 1:]), ndtr(x[:, 1:]) - ndtr(x[:, :-1]))
    )
    counts = 1 + torch.floor(p * (TOTAL - LEVELS)).to(torch.int64)
    counts[torch.arange(len(counts)), counts.argmax(1)] += TOTAL - counts.sum(1)
    return counts.to(torch.int32)


class SymbolCoder:
    """ŵ to bytes and back, the same on every machine.

    Args:
        context: the trained network; an exact copy is made.
        tables: of `build_tables`, as stored with the weights.
        device: where the exact network runs; the symbols do not depend on it.
    """

    def __init__(self, context: ContextModel, tables: Tensor, device: str = "cpu") -> None:
        self.context = exact_copy(context).to(device)
        # Multiples of 2⁻²⁰ that sum to 1: all of constriction's float32 sums of them are exact.
        self.tables = tables.numpy().astype(np.float32) / np.float32(TOTAL)
        self.family = constriction.stream.model.Categorical(perfect=False)
        self.device = device

    @torch.inference_mode()
    def encode(self, w_hat: Tensor, wanted: Tensor, psi: Tensor, level: int) -> bytes:
        """The range coder's words, without trailing zeros.

        Args:
            w_hat: centres [C, h, w]; 0 where not ``wanted``.
            wanted: bool [C, h, w], what is coded. psi: whole numbers [h, w, ψ]. The decoder has both, too.
            level: which of the configured C.
        """
        symbols, wanted = _channels_last(w_hat.to(torch.int64)), _channels_last(wanted)
        front = self._wavefront(psi, level)
        front.write("z_hat", front.to_rows(symbols.to(self.device, torch.float64) * STEPS), front.whole)
        position = front.order.position.cpu()
        symbols, wanted = (t.flatten(0, 2)[position] for t in (symbols, wanted))
        coder = constriction.stream.queue.RangeEncoder()
        for t0 in range(0, front.diagonals, _ENCODE_BLOCK):
            rows = front.block(t0, min(t0 + _ENCODE_BLOCK, front.diagonals))
            mu, s = self.context.predict(front, rows, known=True).cpu().chunk(2, -1)
            at = wanted[rows]
            if at.any():
                column = (symbols[rows][at] - CENTRES[0]).numpy().astype(np.int32)
                coder.encode(column, self.family, self._rows(mu[at], s[at]))
        data = coder.get_compressed().astype("<u4").tobytes()
        return data[: max(len(data) - 3, len(data.rstrip(b"\0")))]

    @torch.inference_mode()
    def decode(self, stream: bytes, wanted: Tensor, psi: Tensor, level: int) -> Tensor:
        """ŵ, float32 [C, h, w]; the inverse of `encode`.

        Raises:
            DamagedFileError: the stream is not an encoder's.
        """
        words = np.frombuffer(stream + bytes(-len(stream) % 4), "<u4").astype(np.uint32)
        coder = constriction.stream.queue.RangeDecoder(words)
        front = self._wavefront(psi, level)
        wanted = _channels_last(wanted).flatten(0, 2)[front.order.position.cpu()]
        for t in range(front.diagonals):
            rows = front.block(t, t + 1)
            mu, s = self.context.predict(front, rows, known=False).cpu().chunk(2, -1)
            at = wanted[rows]
            symbols = torch.zeros(at.shape, dtype=torch.float64)
            if at.any():
                try:
                    column = coder.decode(self.family, self._rows(mu[at], s[at]))
                except AssertionError as error:  # constriction's word for data that no encoder wrote
                    raise DamagedFileError(f"the entropy coded stream is invalid: {error}") from None
                symbols[at] = torch.from_numpy(column.astype(np.float64)) + CENTRES[0]
            self.context.observe(front, symbols.to(self.device) * STEPS, rows)
        if not coder.maybe_exhausted():
            raise DamagedFileError("data is left over after the last symbol")
        grid = front.to_grid(front.read("z_hat", front.whole))[0] / STEPS
        return grid.permute(2, 0, 1).float()

    def _rows(self, mu: Tensor, s: Tensor) -> np.ndarray:
        """float32 [n, 5] probabilities for μ and s in whole steps of the activation grid: integer arithmetic."""
        mu, s = (t.numpy().astype(np.int64) for t in (mu, s))
        mu_step, s_step = STEPS // _MU_FRACTIONS, STEPS // _INDEX_FRACTIONS
        at_mu = ((mu + mu_step // 2 >> _shift(_MU_FRACTIONS)) + _MU_LIMIT * _MU_FRACTIONS).clip(
            0, _MU_ROWS - 1
        )
        s = s + START_INDEX * STEPS
        at_s = (s + s_step // 2 >> _shift(_INDEX_FRACTIONS)).clip(0, _INDEX_ROWS - 1)
        return self.tables.take(at_mu * _INDEX_ROWS + at_s, 0)

    def _wavefront(self, psi: Tensor, level: int) -> Wavefront:
        psi = psi[None].to(self.device, torch.float64) * STEPS
        return self.context.wavefront(psi, torch.tensor([float(level)], device=self.device), incremental=True)


def _shift(fractions: int) -> int:
    return ACTIVATION_BITS - (fractions.bit_length() - 1)


def _channels_last(x: Tensor) -> Tensor:
    """[C, h, w] -> [1, h, w, C] on the CPU."""
    return x.detach().cpu().permute(1, 2, 0)[None].contiguous()
