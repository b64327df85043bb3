"""The entropy estimator H of figure 2: hyperprior, context model and their exact coder.

::

    z ── H_e ── round ──> ẑ_h  ── range coder under a Gaussian a channel (per level)
                           │
                          H_d ──> ψ ── ContextModel(ẑ, ψ) ──> (μ_f, s_f) ── range coder for ẑ = round(z)

An `EntropyModel` is trained in float32; `HyperpriorCoder` holds its exact copy and turns integers into bytes. Hyper
decoder and context network are a paper's own (`CausalNetwork`) or those of selective detail decoding
(`EntropyEstimator`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.codec.container import Container
from genic.lightning_modules.codec.errors import DamagedFileError, SymbolMismatchError
from genic.lightning_modules.entropy.coder import (
    MAX_SYMBOL,
    EscapeReader,
    GaussianModels,
    SymbolDecoder,
    SymbolEncoder,
    symbol_check,
)
from genic.lightning_modules.entropy.context import CausalNetwork, ContextModel, interpolate
from genic.lightning_modules.entropy.gaussian import GaussianTables, gaussian_bits
from genic.lightning_modules.entropy.grid import GridModule, exact_copy
from genic.lightning_modules.entropy.latents import LatentCoder, channels_last
from genic.lightning_modules.entropy.layers import GridConv3x3


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

    @property
    def total(self) -> Tensor:
        """All bits of each picture."""
        return self.latents + self.hyper_latents


class EntropyModel(nn.Module):
    """What a decoder needs to know (μ, s) of every symbol.

    Args:
        prior: of ẑ_h.
        H_d: exact network, (ẑ_h [B, ⌈H/4⌉, ⌈W/4⌉, hyper], H, W) -> ψ [B, H, W, ·].
        context: (ẑ, ψ, level) -> (μ_f, s_f).
    """

    def __init__(self, prior: ChannelPrior, H_d: nn.Module, context: CausalNetwork) -> None:
        super().__init__()
        self.prior, self.H_d, self.context = prior, H_d, context

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


class EntropyEstimator(EntropyModel):
    """H of selective detail decoding, without its encoder.

    Args:
        config: of the model: ``latents``, channels of ẑ; ``hyper``, of ẑ_h and of both inner widths of H_d; ``psi``,
            H_d's output; ``context``, ``heads``, ``radius``, ``skew`` of the `ContextModel`; ``levels``.
    """

    def __init__(self, config: Any) -> None:
        c = config
        super().__init__(
            ChannelPrior(c.hyper, c.levels),
            HyperDecoder((c.hyper, c.hyper, c.hyper, c.psi)),
            ContextModel(c.latents, c.psi, c.context, c.heads, c.radius, c.skew, c.levels),
        )


class HyperpriorCoder:
    """Hyper latents and latents to sections and back, the same on every machine (see `grid`).

    Args:
        estimator: the trained network; an exact copy is made.
        tables: the integer tables stored with its weights.
        device: where the exact networks run; the symbols do not depend on it.
    """

    def __init__(self, estimator: EntropyModel, tables: GaussianTables, device: str = "cpu") -> None:
        self._set_up(exact_copy(estimator).to(device), GaussianModels(tables), device)

    def _set_up(self, estimator: EntropyModel, models: GaussianModels, device: str) -> None:
        self.estimator, self.models = estimator, models
        self.latents = LatentCoder(estimator.context, models, device)

    def encode(self, z_hat: Tensor, z_h_hat: Tensor, level: float) -> dict[str, bytes]:
        """Sections of one picture: parameters, hyper latents, latents and, where there are any, escapes.

        Args:
            z_hat: integers [symbols, H, W] within ±511.
            z_h_hat: integers [hyper, ⌈H/4⌉, ⌈W/4⌉] within ±511.
            level: a multiple of ⅛ below 32.
        """
        return self.encode_batch(z_hat[None], z_h_hat[None], level)[0]

    @torch.inference_mode()
    def encode_batch(self, z_hat: Tensor, z_h_hat: Tensor, level: float) -> list[dict[str, bytes]]:
        """`encode` of pictures of one size, [B, …] each, in one pass of the networks: the same bytes for each."""
        batch = [(channels_last(z), channels_last(z_h)) for z, z_h in zip(z_hat, z_h_hat, strict=True)]
        escapes, hypers = [bytearray() for _ in batch], []
        at = torch.tensor([level])
        for own, (_, z_h) in zip(escapes, batch, strict=True):
            hyper = SymbolEncoder(self.models, own)
            hyper.put(z_h, *self._prior(z_h.shape, at))
            hypers.append(hyper.finish())
        latents, hyper_latents = (torch.cat(part) for part in zip(*batch, strict=True))
        psi = self._psi(hyper_latents, *latents.shape[1:3])
        streams = self.latents.encode_batch(latents, psi, at.expand(len(batch)), escapes)
        return [
            {
                "parameters": bytes([round(8 * level)]) + _check(z_h, z),
                "hyper_latents": hyper,
                "latents": stream,
            }
            | ({"escapes": bytes(own)} if own else {})
            for (z, z_h), hyper, stream, own in zip(batch, hypers, streams, escapes, strict=True)
        ]

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
        z_hat, level = self.decode_batch([container], height, width)
        return z_hat[0], float(level)

    @torch.inference_mode()
    def decode_batch(self, containers: Sequence[Container], height: int, width: int) -> tuple[Tensor, Tensor]:
        """`decode` of files of one size in one pass: ẑ float32 [B, symbols, height, width], levels [B]."""
        checks, levels, escapes, hypers = [], [], [], []
        channels = self.estimator.prior.mu.shape[1]
        for container in containers:
            parameters = container.section("parameters")
            own = EscapeReader(container.sections.get("escapes", b""))
            if len(parameters) != 5 or parameters[0] > 8 * (self.levels - 1):
                raise DamagedFileError("the parameters are not a rate level and a check of the symbols")
            at = torch.tensor([parameters[0] / 8])
            hyper = SymbolDecoder(self.models, container.section("hyper_latents"), own)
            hypers.append(hyper.get(*self._prior((1, -(-height // 4), -(-width // 4), channels), at)))
            hyper.close()
            checks.append(parameters[1:])
            levels.append(at)
            escapes.append(own)
        streams, level = [container.section("latents") for container in containers], torch.cat(levels)
        psi = self._psi(torch.cat(hypers), height, width)
        z_hat = self.latents.decode_batch(streams, psi, level, escapes)
        for mine, z_h_hat, check, own in zip(z_hat.split(1), hypers, checks, escapes, strict=True):
            own.close()
            if max(z.abs().max() for z in (mine, z_h_hat)) > MAX_SYMBOL:
                raise DamagedFileError(f"a symbol lies beyond ±{MAX_SYMBOL}")
            if _check(z_h_hat, mine) != check:
                raise SymbolMismatchError(
                    "the decoded symbols fail the encoder's check: the file is altered; fetch it again"
                )
        return z_hat.permute(0, 3, 1, 2).float(), level

    @property
    def levels(self) -> int:
        """Number of rate levels; quality runs from 0 to levels − 1."""
        return self.estimator.prior.mu.shape[0]

    def _prior(self, shape: tuple[int, ...], level: Tensor) -> tuple[Tensor, Tensor]:
        like = torch.empty(shape, dtype=self.latents.dtype, device=self.latents.device)
        mu, index = self.estimator.prior(like, level.to(like.device))
        return mu.cpu(), index.cpu()

    def _psi(self, z_h_hat: Tensor, height: int, width: int) -> Tensor:
        return self.estimator.H_d(self.latents.activations(z_h_hat), height, width)


def _check(*symbols: Tensor) -> bytes:
    return symbol_check(*symbols).to_bytes(4, "little")
