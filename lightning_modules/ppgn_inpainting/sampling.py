"""Sampling with PPGN-h (Nguyen et al. 2017, equation 11, and the released code).

One step::

    d = ε1·(E(x̃) − h) + ε2·∂log C_y(x̃)/∂h − ε4·∂/∂h ½‖m·(G(h) − x)‖² − ∂L_A/∂h + N(0, ε3²)
    h ← clip(h + step_size_t / mean|d| · d)

E and C see the composite x̃ = m·x + (1 − m)·G(h), so the class acts in the holes only, while the context term
compares the un-pasted picture on the kept pixels. L_A are the assistant losses of the composite. The step size falls
linearly from its first value to about 0. All arithmetic is floating point on the decoder: seed and steps are in the
file, and pixels may differ by rounding between devices, as with every synthesis network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genic.lightning_modules.codec.random_words import random_normal
from genic.lightning_modules.ppgn_inpainting.config import PpgnInpaintingModel
from genic.lightning_modules.ppgn_inpainting.networks import Features


@dataclass(frozen=True)
class Sampler:
    """Moves h for one picture.

    Attributes:
        config: its ``epsilon1`` to ``epsilon4``, ``step_size``, ``h_low``, ``h_high``.
        E, G: of pictures of this size.
        x, mask: kept pixels [1, 3, H, W] and where they are [1, 1, H, W].
        y: class, or None for none.
        assistant: (composite, G(h)) to a scalar L_A; or None.
        seed: of the noise.
    """

    config: PpgnInpaintingModel
    E: Callable[[Tensor], Features]
    G: Callable[[Tensor], Tensor]
    x: Tensor
    mask: Tensor
    y: int | None = None
    assistant: Callable[[Tensor, Tensor], Tensor] | None = None
    seed: int = 0

    def direction(self, h: Tensor, step: int) -> Tensor:
        """d of one step at h [1, C, a, b]."""
        c, h = self.config, h.detach().requires_grad_()
        with torch.enable_grad():
            generated = self.G(h)
            composite = self.mask * self.x + (1 - self.mask) * generated
            features = self.E(composite)
            objective = -c.epsilon4 * 0.5 * (self.mask * (generated - self.x)).square().sum()
            if self.y is not None and c.epsilon2:
                objective = objective + c.epsilon2 * features.logits.log_softmax(1)[:, self.y].sum()
            if self.assistant is not None:
                objective = objective - self.assistant(composite, generated)
            (ascent,) = torch.autograd.grad(objective, h)
        d = c.epsilon1 * (features.h.detach() - h.detach()) + ascent
        if c.epsilon3:
            d = d + c.epsilon3 * torch.from_numpy(random_normal(tuple(h.shape), self.seed * 65536 + step)).to(
                h
            )
        return d

    def sample(self, h: Tensor, steps: int) -> Tensor:
        """h after ``steps`` steps; the last has 1/steps of the first's size."""
        c = self.config
        h = h.detach().clamp(c.h_low, c.h_high)
        for step in range(steps):
            d = self.direction(h, step)
            scale = d.abs().mean()
            if scale > 0:
                rate = c.step_size * (steps - step) / steps
                h = (h + rate / scale * d).clamp(c.h_low, c.h_high)
        return h
