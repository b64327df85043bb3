"""One scale of SSIM with its derivative written out: the inner loop of `losses.ssim`.

Four filtered planes suffice where the formula shows five moments, since σx² and σy² occur only as their
sum: E[x], E[y], E[x² + y²], E[xy]. The derivative is written by hand for two reasons. The gradient of a
filter is a filter again, while autograd's is five times as slow as its forward pass; and on a CPU the time
goes into touching fresh memory, so a few planes at a time pass through all steps, and only the means and
the finished gradient are kept.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

K1, K2 = 0.01, 0.03
# Pixels a pass over the planes takes on a CPU; 4 planes of 256×256 at a time halve the time of all at once.
PASS_PIXELS = 1 << 18


@lru_cache
def gaussian(window: int, sigma: float) -> tuple[float, ...]:
    """Samples of a Gaussian, ``window`` (odd, at least 3) of them, with sum 1."""
    if window % 2 == 0 or window < 3 or sigma <= 0:
        raise ValueError(
            f"a window has an odd side of 3 or more and a positive sigma, not {window} and {sigma}"
        )
    taps = [math.exp(-((k - window // 2) ** 2) / (2 * sigma**2)) for k in range(window)]
    return tuple(tap / math.fsum(taps) for tap in taps)


def smooth(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Window means: [..., H, W] to [..., H − n + 1, W − n + 1] for n symmetric taps."""
    return _along(_along(planes, taps, -2), taps, -1)


def similarity(
    x: Tensor,
    y: Tensor,
    weights: list[Tensor | None],
    taps: tuple[float, ...],
    data_range: float,
    luminance: bool,
) -> list[Tensor]:
    """Weighted means over all windows of cs, or of l·cs = SSIM where ``luminance``.

    Args:
        x, y: [B, C, H, W], float32 or float64.
        weights: maps on the window grid [B, 1, H − n + 1, W − n + 1], sums positive, or None for uniform.
        taps: the separable window, symmetric, n long.
        data_range: L in C1 = (K1·L)², C2 = (K2·L)².

    Returns:
        One [B, C] for each of ``weights``.
    """
    B, C = x.shape[:2]
    maps = [None if w is None else w / w.sum((1, 2, 3), keepdim=True) for w in weights]
    maps = [None if w is None else w.expand(B, C, *w.shape[2:]).flatten(0, 1) for w in maps]
    constants = ((K1 * data_range) ** 2 if luminance else None, (K2 * data_range) ** 2)
    means = _Similarity.apply(x.flatten(0, 1), y.flatten(0, 1), taps, constants, *maps)
    return [mean.view(B, C) for mean in means]


class _Similarity(torch.autograd.Function):
    """Planes [N, H, W] to one [N] for each map of weights; the gradient is found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        taps: tuple[float, ...],
        constants: tuple[float | None, float],
        *maps: Tensor | None,
    ) -> tuple[Tensor, ...]:
        N, H, W = x.shape
        wanted = ctx.needs_input_grad[:2]
        means = [x.new_empty(N) for _ in maps]
        gradients = [[torch.empty_like(x) if want else None for want in wanted] for _ in maps]
        step = N if x.is_cuda else max(1, PASS_PIXELS // (H * W))
        for start in range(0, N, step):
            part = slice(start, start + step)
            statistics = _Statistics(x[part], y[part], taps, *constants)
            for mean, gradient, weight in zip(means, gradients, maps, strict=True):
                weight = weight if weight is None else weight[part]
                mean[part] = statistics.mean(weight)
                if any(wanted):
                    statistics.gradient(weight, [g if g is None else g[part] for g in gradient])
        ctx.save_for_backward(*(g for gradient in gradients for g in gradient))
        return tuple(means)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        out: list[Tensor | None] = [None, None]
        for k, saved in enumerate(ctx.saved_tensors):
            if saved is not None:
                term = grads[k // 2].view(-1, 1, 1) * saved
                before = out[k % 2]
                out[k % 2] = term if before is None else before.add_(term)
        return (*out, None, None, *(None for _ in grads))


class _Statistics:
    """cs (and l, unless c1 is None) of planes x, y [N, H, W] at every window."""

    def __init__(self, x: Tensor, y: Tensor, taps: tuple[float, ...], c1: float | None, c2: float) -> None:
        self.x, self.y, self.taps = x, y, taps
        planes = x.new_empty(4, *x.shape)
        planes[0], planes[1] = x, y
        torch.mul(x, x, out=planes[2]).addcmul_(y, y)
        torch.mul(x, y, out=planes[3])
        self.mu_x, self.mu_y, squares, product = smooth(planes, taps)
        means_product, means_squares = (
            self.mu_x * self.mu_y,
            self.mu_x.square().addcmul_(self.mu_y, self.mu_y),
        )
        self.D = squares.sub_(means_squares).add_(c2)
        self.cs = product.sub_(means_product).mul_(2).add_(c2).div_(self.D)
        self.l: Tensor | None = None
        if c1 is not None:
            self.L = means_squares.add_(c1)
            self.l = means_product.mul_(2).add_(c1).div_(self.L)

    def mean(self, weight: Tensor | None) -> Tensor:
        """[N]; ``weight`` [N, h, w] sums to 1 over each plane."""
        value = self.cs if self.l is None else self.l * self.cs
        return value.mean((1, 2)) if weight is None else (value * weight).sum((1, 2))

    def gradient(self, weight: Tensor | None, out: list[Tensor | None]) -> None:
        """Derivative of `mean` by x and by y into ``out``, a pair; None is skipped.

        With u the weight: ∂/∂E[xy] = q = 2u·l/D, ∂/∂E[x² + y²] = −q·cs/2, ∂/∂µy = (e − q)·µx + (q·cs −
        e·l)·µy with e = 2u·cs/L, and the same with x and y exchanged; the filter is its own adjoint but
        for the border.
        """
        u = 1 / self.cs[0].numel() if weight is None else weight
        q = 2 * u / self.D if self.l is None else 2 * u * self.l / self.D
        own = q * self.cs
        by_other, by_own = -q, own
        if self.l is not None:
            e = 2 * u * self.cs / self.L
            by_other, by_own = e - q, own - e * self.l
        pad = len(self.taps) - 1
        wanted = [k for k in (0, 1) if out[k] is not None]
        planes = self.x.new_zeros(
            2 + len(wanted), *(n + s for n, s in zip((0, pad, pad), self.x.shape, strict=True))
        )
        inner = planes[:, :, pad:-pad, pad:-pad]
        inner[0], inner[1] = q, own
        means, pictures = (self.mu_x, self.mu_y), (self.x, self.y)
        for slot, k in enumerate(wanted, start=2):
            torch.mul(by_other, means[1 - k], out=inner[slot]).addcmul_(by_own, means[k])
        q, own, *by_mean = smooth(planes, self.taps)
        for k, term in zip(wanted, by_mean, strict=True):
            torch.addcmul(term, q, pictures[1 - k], out=out[k]).addcmul_(own, pictures[k], value=-1)


def _along(planes: Tensor, taps: tuple[float, ...], dim: int) -> Tensor:
    # Shifted sums, not a convolution or a product with a banded matrix: as fast as the best of those on a
    # CPU whatever the number of planes, and no library setting can lower its precision (TF32, bfloat16).
    size = planes.shape[dim] - len(taps) + 1
    out = planes.narrow(dim, len(taps) // 2, size) * taps[len(taps) // 2]
    for k, tap in enumerate(taps):
        if k != len(taps) // 2:
            out.add_(planes.narrow(dim, k, size), alpha=tap)
    return out
