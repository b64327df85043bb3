"""Sampling with PPGN-h (Nguyen et al. 2017, equation 11, and the released code).

One step::

    d = ε1·(E(x̃) − h) + ε2·∂log C_y(x̃)/∂h − ε4·∂/∂h ½‖m·(G(h) − x)‖² − ∂L_A/∂h + N(0, ε3²)
    h ← clip(h + rate_t / mean|d| · d)

E and C see the composite x̃ = m·x + (1 − m)·G(h), so the class acts in the holes only, while the context term
compares the un-pasted picture on the kept pixels. L_A are the assistant losses of the composite. The rate falls
linearly from its first value to about 0. All arithmetic is floating point on the decoder: seed and steps are in the
file, and pixels may differ by rounding between devices, as with every synthesis network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_modules.codec.random_words import random_normal
from lightning_modules.ppgn_inpainting.features import Features


@dataclass(frozen=True)
class Sampling:
    """The sampler's settings: see the configuration's ``epsilon1`` to ``epsilon4``, ``steps``, ``rate``, ``h_low``,
    ``h_high``. ``seed`` is of the noise."""

    epsilon1: float
    epsilon2: float
    epsilon3: float
    epsilon4: float
    steps: int
    rate: float
    low: float
    high: float
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Of the step; the last is 1/steps of the first."""
        return self.rate * (self.steps - step) / self.steps


Encode = Callable[[Tensor], Features]
Generate = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


def direction(
    h: Tensor,
    step: int,
    settings: Sampling,
    E: Encode,
    G: Generate,
    x: Tensor,
    mask: Tensor,
    y: int | None,
    assistant: Loss | None,
) -> Tensor:
    """d of one step, of the shape of ``h``.

    Args:
        h: [1, C, a, b].
        x, mask: kept pixels [1, 3, H, W] and where they are [1, 1, H, W].
        y: class, or None for none.
        assistant: (composite, G(h)) to a scalar L_A; or None.
    """
    h = h.detach().requires_grad_()
    with torch.enable_grad():
        generated = G(h)
        composite = mask * x + (1 - mask) * generated
        features = E(composite)
        objective = -settings.epsilon4 * 0.5 * (mask * (generated - x)).square().sum()
        if y is not None and settings.epsilon2:
            objective = objective + settings.epsilon2 * features.logits.log_softmax(1)[:, y].sum()
        if assistant is not None:
            objective = objective - assistant(composite, generated)
        (ascent,) = torch.autograd.grad(objective, h)
    d = settings.epsilon1 * (features.h.detach() - h.detach()) + ascent
    if settings.epsilon3:
        noise = torch.from_numpy(random_normal(tuple(h.shape), settings.seed * 65536 + step))
        d = d + settings.epsilon3 * noise.to(h)
    return d


def sample(
    h: Tensor,
    settings: Sampling,
    E: Encode,
    G: Generate,
    x: Tensor,
    mask: Tensor,
    y: int | None = None,
    assistant: Loss | None = None,
) -> Tensor:
    """h after all steps; arguments as in `direction`."""
    h = h.detach().clamp(settings.low, settings.high)
    for step in range(settings.steps):
        d = direction(h, step, settings, E, G, x, mask, y, assistant)
        scale = d.abs().mean()
        if scale > 0:
            h = (h + settings.rate_at(step) / scale * d).clamp(settings.low, settings.high)
    return h
