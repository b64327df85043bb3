"""Encoder and decoder with dense connections, restoration, hyper encoder, discriminator.

The slides draw U-Net-like dense connections and give no widths. Ours, stage by stage::

    encoder  x ─ ↓ ─ f1 ─ ↓ ─ f2 ─ ↓ ─ f3 … ─ 3×3 ─> z        ↓ inverse pixel shuffle (2), ↑ pixel shuffle (2)
                     └────────┴──────────────┘
    decoder  ẑ ─ g1 ─ ↑ ─ g2 ─ ↑ ─ g3 … ─ ↑ ─ 3×3 ─> x̂
                 └─────────┴───────────┘

A connection is a 1×1 convolution to ``growth`` channels, brought to the later stage's resolution by means (encoder)
or by repetition (decoder), and concatenated to its input. Connections stay inside the encoder and inside the decoder:
from one to the other nothing passes but ẑ.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genic.lightning_modules.gdae_sprc.config import GdaeSprcModel

MARGIN = 7
"""Positions of ẑ that a result of encoder or decoder depends on, each way: a stage's three convolutions reach 3, at the
next finer one half as far, and the last one at most 1."""


class Stage(nn.Module):
    """3×3 and a residual pair of 3×3: [B, in, H, W] -> [B, out, H, W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.residual = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x + self.residual(x)


class DenseEncoder(nn.Module):
    """x [B, 3, H, W] about 0, sides multiples of the stride -> z [B, latents, H/stride, W/stride]."""

    def __init__(self, config: GdaeSprcModel) -> None:
        super().__init__()
        widths, growth = config.E, config.growth if config.dense else 0
        inputs = [4 * w for w in (3, *widths[:-1])]
        # Stage k has its predecessor's features as they are, and those of the stages before it by connection.
        self.stages = nn.ModuleList(
            Stage(inputs[k] + growth * max(k - 1, 0), widths[k]) for k in range(len(widths))
        )
        self.connections = _connections(widths, growth)
        self.last = nn.Conv2d(widths[-1] + growth * (len(widths) - 1), config.latents, 3, padding=1)
        _keep_variance(self, self.last)

    def forward(self, x: Tensor) -> Tensor:
        carried: list[Tensor] = []  # connections of all stages before the last one
        for k, stage in enumerate(self.stages):
            carried = [F.avg_pool2d(c, 2) for c in carried]
            y = stage(torch.cat((F.pixel_unshuffle(x, 2), *carried), 1))
            if k > 0 and self.connections:
                carried.append(F.avg_pool2d(self.connections[k - 1](x), 2))
            x = y
        return self.last(torch.cat((x, *carried), 1))


class DenseDecoder(nn.Module):
    """ẑ [B, latents, h, w] -> x̂ [B, 3, h·stride, w·stride] about 0; the encoder's mirror."""

    def __init__(self, config: GdaeSprcModel) -> None:
        super().__init__()
        widths, growth = config.G, config.growth if config.dense else 0
        self.first = Stage(config.latents, widths[0])
        self.stages = nn.ModuleList(
            Stage(widths[k] + growth * (k - 1), widths[k]) for k in range(1, len(widths))
        )
        self.up = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in pairwise(widths))
        self.connections = _connections(widths, growth)
        self.last = nn.Conv2d(widths[-1] + growth * (len(widths) - 1), 12, 3, padding=1)

    def forward(self, z_hat: Tensor) -> Tensor:
        x = self.first(z_hat)
        carried: list[Tensor] = []
        for k, (stage, up) in enumerate(zip(self.stages, self.up, strict=True)):
            carried = [_repeat(c) for c in carried]
            y = stage(torch.cat((F.pixel_shuffle(up(x), 2), *carried), 1))
            if self.connections:
                carried.append(_repeat(self.connections[k](x)))
            x = y
        return F.pixel_shuffle(self.last(torch.cat((x, *carried), 1)), 2)


class ResidualPair(nn.Module):
    """3×3, ReLU, 3×3 and a skip: [B, width, H, W] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Restoration(nn.Module):
    """R: HEVC's planes and their quantisation parameter (QP) -> the picture, nearer to the original.

    Ours, after the filters that follow HEVC in the literature::

        Y, Cb, Cr ── ↓ ─┬─ 3×3 ── residual pairs ── 3×3 ── × step ── ↑ ── + planes ── RGB
              QP ───────┘

    What quantisation took grows with its step, 2^((QP − 4)/6): the network gives the correction in steps. It starts as
    no correction at all. The planes are not rounded to RGB before it, nor after it but once.

    Attributes:
        margin: cells of 2×2 pixels that a cell's result depends on, each way.
    """

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, 12, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]  # there is one
        pairs = (ResidualPair(width) for _ in range(blocks))
        self.body = nn.Sequential(nn.Conv2d(25, width, 3, padding=1), *pairs, last)
        self.margin = 2 + 2 * blocks

    def forward(self, planes: Tensor, qp: Tensor) -> Tensor:
        """Planes [B, 3, H, W], full-range Y, Cb, Cr, 0 to 255, sides even; qp [B] -> RGB [B, 3, H, W], about [0, 1]
        and not clamped."""
        return self.corrected(planes, qp, self.body(self.features(planes, qp)))

    @staticmethod
    def features(planes: Tensor, qp: Tensor) -> Tensor:
        """What ``body`` sees, [B, 25, H/2, W/2]: cells of 2×2 pixels; the same less the mean of the 5×5 cells around,
        in steps of the quantiser, in which detail is of one size at every QP; and the QP."""
        cells, qp = F.pixel_unshuffle(planes, 2), qp[:, None, None, None]
        around = F.avg_pool2d(F.avg_pool2d(planes, 2), 5, 1, 2, count_include_pad=False)
        detail = (cells - around.repeat_interleave(4, 1)) / quantiser_step(qp)
        return torch.cat(((cells - 128) / 128, detail, (qp / 32 - 1).expand_as(cells[:, :1])), 1)

    @staticmethod
    def corrected(planes: Tensor, qp: Tensor, steps: Tensor) -> Tensor:
        """RGB of the planes and the correction that ``body`` gave, [B, 12, H/2, W/2]."""
        planes = planes + F.pixel_shuffle(steps.float(), 2) * quantiser_step(qp)[:, None, None, None]
        y, cb, cr = (planes[:, k] - 128 * (k > 0) for k in range(3))
        r, b = y + 1.402 * cr, y + 1.772 * cb
        return torch.stack((r, (y - 0.299 * r - 0.114 * b) / 0.587, b), 1) / 255


def quantiser_step(qp: Tensor) -> Tensor:
    """HEVC's, in values of 8 bits."""
    return 2 ** ((qp - 4) / 6)


class HyperEncoder(nn.Module):
    """H_e: latents [B, latents, h, w] -> z_h [B, hyper, ⌈h/4⌉, ⌈w/4⌉]."""

    def __init__(self, config: GdaeSprcModel) -> None:
        super().__init__()
        first = nn.Conv2d(config.latents, config.psi, 3, stride=2, padding=1)
        last = nn.Conv2d(config.psi, config.hyper, 3, stride=2, padding=1)
        self.body = nn.Sequential(first, nn.LeakyReLU(0.1), last)
        _keep_variance(self, last)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)


class Discriminator(nn.Module):
    """D: pictures [B, 3, H, W] in [0, 1] -> patch scores [B, 1, ·, ·]; high means real (`losses.gan`).

    The slides give "a score (0 to 1)"; the sigmoid is part of the loss, and the score is a map, since the decoder is
    convolutional.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise((3, *widths)):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(2 * x - 1)


def _connections(widths: list[int], growth: int) -> nn.ModuleList:
    """One 1×1 convolution for every stage but the last; none without growth."""
    return nn.ModuleList(nn.Conv2d(w, growth, 1) for w in widths[:-1] if growth)


def _keep_variance(network: nn.Module, last: nn.Conv2d) -> None:
    """First weights that keep a picture's variance, twice its deviation after ``last``.

    PyTorch's own keep a third of it a layer: every latent would begin, and stay for a while, at the middle centre,
    and what is behind the quantiser would see nothing but zeros.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.bias is not None
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        last.weight.mul_(2.0)


def _repeat(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
