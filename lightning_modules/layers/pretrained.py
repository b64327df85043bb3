"""Transforms around a pretrained auto-encoder (`layers.taef`), which start as a transform coder of its latents.

::

    x ── TAEF2 ──> u [32, H/8, W/8] ── inverse pixel shuffle ──> t [128, H/16, W/16] ─┬─ 1×1 ──────────────┬─ + ──> z
                                                                                      └─ attention blocks ─┘
    y ─┬─ 1×1 ──────────────┬─ + ── pixel shuffle ──> û ── TAEF2 ──> x̂
       └─ attention blocks ─┘

The 1×1 maps start as the Karhunen-Loève transform of t and its inverse, the attention blocks at nothing. Parameters
outside ``pixels`` are the paper's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.layers import taef
from genic.lightning_modules.layers.attention_blocks import residual_group
from genic.losses.pretrained import load_taef

_FOLDED = 4 * taef.CHANNELS
"""Channels of t."""
_PIXELS = ".pixels."


class PretrainedEncoder(nn.Module):
    """x − ½ [B, 3, H, W] -> z [B, latents, H/16, W/16].

    Args:
        latents: channels of z. blocks: attention blocks.
    """

    def __init__(self, latents: int, blocks: int) -> None:
        super().__init__()
        self.pixels = taef.Encoder()
        self.linear = nn.Conv2d(_FOLDED, latents, 1)
        last = zero(nn.Conv2d(_FOLDED, latents, 3, padding=1))
        self.residual = nn.Sequential(residual_group(_FOLDED, blocks), last)

    def folded(self, x: Tensor) -> Tensor:
        """t of x − ½."""
        return F.pixel_unshuffle(self.pixels(x + 0.5), 2)

    def forward(self, x: Tensor) -> Tensor:
        t = self.folded(x)
        return self.linear(t) + self.residual(t)


class PretrainedDecoder(nn.Module):
    """y [B, latents, H/16, W/16] -> x̂ − ½ [B, 3, H, W].

    Args:
        latents: channels of y. width, blocks: of the attention blocks.
        light: leave out TAEF2's layers at full resolution (`taef.Decoder`).
        beside: channels of what else the attention blocks are given, by a convolution that starts at nothing.
    """

    def __init__(self, latents: int, width: int, blocks: int, light: bool, beside: int = 0) -> None:
        super().__init__()
        self.linear = nn.Conv2d(latents, _FOLDED, 1)
        self.residual = nn.Sequential(
            nn.Conv2d(latents, width, 3, padding=1),
            residual_group(width, blocks),
            zero(nn.Conv2d(width, _FOLDED, 3, padding=1)),
        )
        self.beside = zero(nn.Conv2d(beside, width, 3, padding=1)) if beside else None
        self.pixels = taef.Decoder(light)

    def forward(self, y: Tensor, beside: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """``beside``: [B, beside, H/16, W/16]. ``bias``: [B, width], added before the attention blocks."""
        return self.pixels(self.unfolded(y, beside, bias)) - 0.5

    def unfolded(self, y: Tensor, beside: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """û [B, 32, H/8, W/8]; arguments as of `forward`."""
        first, group, last = self.residual
        features = first(y)
        if self.beside is not None:
            features = features + self.beside(beside)
        if bias is not None:
            features = features + bias[:, :, None, None]
        return F.pixel_shuffle(self.linear(y) + last(group(features)), 2)


@torch.no_grad()
def start(E: PretrainedEncoder, G: PretrainedDecoder, pictures: Iterable[Tensor]) -> Tensor:
    """Both at TAEF2's weights and the Karhunen-Loève transform of its latents of ``pictures`` [B, 3, H, W] in [0, 1].

    Returns:
        Deviations of z's channels on these pictures, [latents].

    Raises:
        WeightsError: TAEF2's weights are not at hand.
    """
    load_taef(E.pixels, G.pixels)
    t = [E.folded(x - 0.5).permute(0, 2, 3, 1).flatten(0, 2) for x in pictures]
    return start_as_klt(E, G, torch.cat(t))


@torch.no_grad()
def start_as_klt(E: PretrainedEncoder, G: PretrainedDecoder, t: Tensor) -> Tensor:
    """Set both linear maps to the Karhunen-Loève transform of t's positions [N, 128], largest variance first; gives the
    deviations of z's channels."""
    assert E.linear.bias is not None and G.linear.bias is not None
    mean = t.mean(0)
    variances, vectors = torch.linalg.eigh(torch.cov(t.T.double()))
    basis = vectors.flip(1)[:, : E.linear.out_channels].float()
    E.linear.weight.copy_(basis.T[:, :, None, None])
    E.linear.bias.copy_(-basis.T @ mean)
    G.linear.weight.copy_(basis[:, :, None, None])
    G.linear.bias.copy_(mean)
    return variances.flip(0)[: basis.shape[1]].clamp_min(1e-12).sqrt().float()


def parameter_groups(system: nn.Module, rate: float) -> list[Any]:
    """An optimiser's groups of what is trained: TAEF2's own layers, which a light decoder's end is not, learn at
    ``rate`` times the others' rate."""
    theirs, ours = [], []
    for name, parameter in system.named_parameters():
        if parameter.requires_grad:
            layer = name.partition(_PIXELS)[2].partition(".")[0]
            (theirs if layer and int(layer) < taef.TAIL else ours).append(parameter)
    groups = [{"params": ours}, {"params": theirs, "scale": rate}]
    return [group for group in groups if group["params"]]


def freeze(system: nn.Module, prefixes: Iterable[str]) -> None:
    """No training for parameters whose names begin with one of ``prefixes``."""
    for name, parameter in system.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(prefixes)))


def zero(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with zeros for weights."""
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
