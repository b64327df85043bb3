"""The entropy estimator H of figure 2: hyperprior, context model and their exact coder.

::

    z ── H_e ── round ──> ẑ_h  ── range coder under a Gaussian a channel (per level)
                           │
                          H_d ──> ψ ── ContextModel(ẑ, ψ) ──> (μ_f, s_f) ── range coder for ẑ = round(z)

`EntropyEstimator` is trained in float32; `LatentCoder` holds its exact copy and turns integers into bytes.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.codec.container import Container
from lightning_modules.codec.errors import DamagedFileError, SymbolMismatchError
from lightning_modules.entropy.coder import (
    MAX_SYMBOL,
    EscapeReader,
    GaussianDecoder,
    GaussianEncoder,
    GaussianModels,
)
from lightning_modules.entropy.context import ContextModel, interpolate
from lightning_modules.entropy.gaussian import GaussianTables, gaussian_bits
from lightning_modules.entropy.grid import STEPS, GridModule, exact_copy
from lightning_modules.entropy.layers import GridConv3x3
from lightning_modules.entropy.wavefront import Wavefront

ENCODE_BLOCK = 8
"""Diagonals that the encoder evaluates at once; bounds its memory, cannot change its result."""


class DecoderBody(nn.Module):
    """3×3, a residual pair of 3×3, pixel shuffle: [B, R, C, in] -> [B, 2R, 2C, out]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = GridConv3x3(in_channels, 4 * out_channels)
        self.hidden = GridConv3x3(4 * out_channels, out_channels, gain=2**0.5)
        self.residual = GridConv3x3(out_channels, 4 * out_channels, gain=0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x + self.residual(F.relu(self.hidden(x)))
        b, r, c, ch = x.shape
        return x.reshape(b, r, c, 2, 2, ch // 4).permute(0, 1, 3, 2, 4, 5).reshape(b, 2 * r, 2 * c, ch // 4)


class HyperDecoder(nn.Module):
    """H_d: two decoder bodies, then 3×3; widths e.g. 32, 32, 32, 128 (section 3.1).

    Deviation: the bodies carry no channel attention, so that ψ is a local function of ẑ_h.
    """

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.bodies = nn.Sequential(DecoderBody(widths[0], widths[1]), DecoderBody(widths[1], widths[2]))
        self.last = GridConv3x3(widths[2], widths[3])

    def forward(self, z_h: Tensor, height: int, width: int) -> Tensor:
        """[B, ⌈height/4⌉, ⌈width/4⌉, widths[0]] -> ψ [B, height, width, widths[3]]."""
        return self.last(self.bodies(z_h)[:, :height, :width])


class ChannelPrior(GridModule):
    """(μ, s) a channel of ẑ_h, interpolated between the rate levels."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(levels, channels))
        self.scale_index = nn.Parameter(torch.full((levels, channels), 24.0))

    def make_exact(self) -> None:
        super().make_exact()
        self.mu.data *= self.unit
        self.scale_index.data *= self.unit

    def forward(self, z_h: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """``level`` [B] -> μ and s of the shape of ``z_h`` [B, R, C, channels]."""
        mu, index = (
            self.snap(interpolate(p, level))[:, None, None].expand_as(z_h)
            for p in (self.mu, self.scale_index)
        )
        return mu, index


class Rate(NamedTuple):
    """Estimated bits of each picture, [B], float32: a training figure, not the size of a file."""

    latents: Tensor
    hyper_latents: Tensor


class EntropyEstimator(nn.Module):
    """H without its encoder: everything that a decoder needs.

    Args:
        symbols: channels of ẑ.
        hyper_widths: of H_d: channels of ẑ_h, two inner widths, channels of ψ.
        channels, heads, radius, skew: of the `ContextModel`.
        levels: number of rate levels.
    """

    def __init__(
        self,
        symbols: int,
        hyper_widths: tuple[int, int, int, int],
        channels: int,
        heads: int,
        radius: int,
        skew: int,
        levels: int,
    ) -> None:
        super().__init__()
        self.prior = ChannelPrior(hyper_widths[0], levels)
        self.H_d = HyperDecoder(hyper_widths)
        self.context = ContextModel(symbols, hyper_widths[3], channels, heads, radius, skew, levels)

    def forward(self, z: Tensor, z_hat: Tensor, z_h: Tensor, z_h_hat: Tensor, level: Tensor) -> Rate:
        """Estimated rate.

        Args:
            z, z_hat: [B, symbols, H, W]; the values whose likelihood is taken (noisy in training, equal to
                ``z_hat`` otherwise) and the rounded ones that contexts are made of.
            z_h, z_h_hat: the same for the hyper latents, [B, hyper, ⌈H/4⌉, ⌈W/4⌉].
            level: [B].
        """
        z, z_hat, z_h, z_h_hat = (x.float().permute(0, 2, 3, 1) for x in (z, z_hat, z_h, z_h_hat))
        psi = self.H_d(z_h_hat, *z.shape[1:3])
        bits = gaussian_bits(z, *self.context(z_hat, psi, level))
        hyper_bits = gaussian_bits(z_h, *self.prior(z_h, level))
        return Rate(bits.sum((1, 2, 3)), hyper_bits.sum((1, 2, 3)))


class LatentCoder:
    """Integers to bytes and back, the same on every machine (see `grid`).

    Args:
        estimator: the trained network; an exact copy is made.
        tables: the integer tables stored with its weights.
        device: where the exact networks run; the symbols do not depend on it.
    """

    def __init__(self, estimator: EntropyEstimator, tables: GaussianTables, device: str = "cpu") -> None:
        self.estimator = exact_copy(estimator).to(device)
        self.models = GaussianModels(tables)
        self.device = device

    @torch.inference_mode()
    def encode(self, z_hat: Tensor, z_h_hat: Tensor, level: float) -> dict[str, bytes]:
        """Sections of one picture: parameters, hyper latents, latents and, where there are any, escapes.

        Args:
            z_hat: integers [symbols, H, W] within ±511.
            z_h_hat: integers [hyper, ⌈H/4⌉, ⌈W/4⌉] within ±511.
            level: a multiple of ⅛ below 32.
        """
        escapes = bytearray()
        z_hat, z_h_hat, at = _channels_last(z_hat), _channels_last(z_h_hat), torch.tensor([level])
        hyper = GaussianEncoder(self.models, escapes)
        hyper.put(z_h_hat, *self._prior(z_h_hat.shape, at))
        latents = GaussianEncoder(self.models, escapes)
        front = self._wavefront(z_h_hat, *z_hat.shape[1:3], at)
        front.write("z_hat", front.to_rows(self._activations(z_hat)), front.whole)
        symbols = front.to_rows(z_hat.to(self.device)).cpu()
        for t0 in range(0, front.diagonals, ENCODE_BLOCK):
            t1 = min(t0 + ENCODE_BLOCK, front.diagonals)
            rows = front.block(t0, t1)
            mu, index = self.estimator.context.predict(front, rows, known=True).cpu().chunk(2, -1)
            latents.put(symbols[rows], mu, index, front.lengths(t0, t1))
        parameters = bytes([round(8 * level)]) + _check(z_h_hat, z_hat)
        sections = {"parameters": parameters, "hyper_latents": hyper.finish(), "latents": latents.finish()}
        return sections | ({"escapes": bytes(escapes)} if escapes else {})

    @torch.inference_mode()
    def decode(self, container: Container, height: int, width: int) -> tuple[Tensor, float]:
        """The inverse of `encode`.

        Args:
            container: the file.
            height, width: of the latent grid.

        Returns:
            ẑ, float32 [symbols, height, width], and the level.

        Raises:
            SymbolMismatchError: the symbols fail the encoder's check.
            DamagedFileError: the streams are not those of an encoder.
        """
        parameters, escapes = (
            container.section("parameters"),
            EscapeReader(container.sections.get("escapes", b"")),
        )
        if len(parameters) != 5 or parameters[0] > 8 * (self.levels - 1):
            raise DamagedFileError("the parameters are not a rate level and a check of the symbols")
        at = torch.tensor([parameters[0] / 8])
        channels = self.estimator.prior.mu.shape[1]
        hyper = GaussianDecoder(self.models, container.section("hyper_latents"), escapes)
        z_h_hat = hyper.get(*self._prior((1, -(-height // 4), -(-width // 4), channels), at), bounded=True)
        hyper.close()
        context, front = self.estimator.context, self._wavefront(z_h_hat, height, width, at)
        latents = GaussianDecoder(self.models, container.section("latents"), escapes)
        for t in range(front.diagonals):
            rows = front.block(t, t + 1)
            mu, index = context.predict(front, rows, known=False).cpu().chunk(2, -1)
            context.observe(front, self._activations(latents.get(mu, index)), rows)
        latents.close()
        escapes.close()
        z_hat = self._symbols(front.to_grid(front.read("z_hat", front.whole)))
        if max(z.abs().max() for z in (z_hat, z_h_hat)) > MAX_SYMBOL:
            raise DamagedFileError(f"a symbol lies beyond ±{MAX_SYMBOL}")
        if _check(z_h_hat, z_hat) != parameters[1:]:
            raise SymbolMismatchError(
                "the decoded symbols fail the encoder's check: the file is altered; fetch it again"
            )
        return z_hat[0].permute(2, 0, 1).float(), parameters[0] / 8

    @property
    def levels(self) -> int:
        """Number of rate levels; quality runs from 0 to levels − 1."""
        return self.estimator.prior.mu.shape[0]

    def _activations(self, symbols: Tensor) -> Tensor:
        """Integers as inputs of the exact networks."""
        return symbols.to(self.device, torch.float64) * STEPS

    def _symbols(self, activations: Tensor) -> Tensor:
        """The inverse of `_activations`, int64 on the CPU."""
        return (activations / STEPS).to("cpu", torch.int64)

    def _prior(self, shape: tuple[int, ...], level: Tensor) -> tuple[Tensor, Tensor]:
        like = torch.empty(shape, dtype=torch.float64, device=self.device)
        mu, index = self.estimator.prior(like, level.to(self.device))
        return mu.cpu(), index.cpu()

    def _wavefront(self, z_h_hat: Tensor, height: int, width: int, level: Tensor) -> Wavefront:
        psi = self.estimator.H_d(self._activations(z_h_hat), height, width)
        return self.estimator.context.wavefront(psi, level.to(self.device), incremental=True)


def _channels_last(x: Tensor) -> Tensor:
    """[ch, H, W] -> int64 [1, H, W, ch] on the CPU."""
    return x.detach().cpu().to(torch.int64).permute(1, 2, 0)[None].contiguous()


def _check(*symbols: Tensor) -> bytes:
    """CRC-32 of integer arrays as little-endian int16."""
    crc = 0
    for x in symbols:
        crc = zlib.crc32(x.numpy().astype("<i2").tobytes(), crc)
    return crc.to_bytes(4, "little")
