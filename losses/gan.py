"""Adversarial losses as pure functions of a discriminator's raw outputs (logits, no sigmoid).

One sign convention throughout: **D high means real.** A discriminator loss falls as D(x) rises and D(x̂)
falls; a generator loss falls as D(x̂) rises. All losses are minimised.

Selective detail's equation 4, log(1 + e^{D(x)}) + log(1 + e^{r·D(x̂)}) with r = −1 in the
discriminator's phase and r = 1 in the generator's, is inverted as printed: it teaches D to be low on real
and high on decoded pictures, and G to make it low. With −D for D it is `softplus_discriminator` and
`softplus_generator` here, up to the real term in G's phase, which has no gradient for G.

An output is a tensor of any shape, or a sequence of such tensors from a multi-scale discriminator: each
scale is averaged over its own elements, then the scales are averaged with equal weight, so that neither
the number of scales nor their sizes change a loss's magnitude. All return a scalar, in float32 for
outputs of lower precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from genic.lightning_modules.codec.errors import ConfigError

Outputs = Tensor | Sequence[Tensor]
"""D's output, or one a scale."""


def softplus_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[log(1 + e^{−D(x)})] + E[log(1 + e^{D(x̂)})], D's cross-entropy (Goodfellow et al. 2014, eq. 1)."""
    return _mean(real, lambda d: F.softplus(-d)) + _mean(fake, F.softplus)


def softplus_generator(fake: Outputs) -> Tensor:
    """E[log(1 + e^{−D(x̂)})] = −E[log σ(D(x̂))], non-saturating (Goodfellow et al. 2014, section 3)."""
    return _mean(fake, lambda d: F.softplus(-d))


def saturating_generator(fake: Outputs) -> Tensor:
    """E[log(1 − σ(D(x̂)))] = −E[log(1 + e^{D(x̂)})], as GDAE prints; at most 0.

    Its gradient −σ(D(x̂)) vanishes where D is sure that the picture is decoded.
    """
    return -_mean(fake, F.softplus)


def least_squares_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[(D(x) − 1)²] + E[D(x̂)²] (Mao et al. 2017, equation 9, without its ½)."""
    return _mean(real, lambda d: (d - 1).square()) + _mean(fake, torch.square)


def least_squares_generator(fake: Outputs) -> Tensor:
    """E[(D(x̂) − 1)²] (Mao et al. 2017, equation 9, without its ½)."""
    return _mean(fake, lambda d: (d - 1).square())


def hinge_discriminator(real: Outputs, fake: Outputs) -> Tensor:
    """E[max(0, 1 − D(x))] + E[max(0, 1 + D(x̂))] (Lim and Ye 2017)."""
    return _mean(real, lambda d: F.relu(1 - d)) + _mean(fake, lambda d: F.relu(1 + d))


def hinge_generator(fake: Outputs) -> Tensor:
    """−E[D(x̂)] (Lim and Ye 2017)."""
    return -_mean(fake, lambda d: d)


def oasis_discriminator(real: Tensor, fake: Tensor, labels: Tensor, ignored: Sequence[int] = ()) -> Tensor:
    """Cross-entropy of D's classes: a real pixel's is its label, a decoded one's 'fake' (Sushko et al. 2021, eq. 1).

    Over real pixels a mean of the means of each class that the batch has: the paper's weight, the inverse of a class's
    frequency.

    Args:
        real, fake: logits [B, N + 1, H, W], 'fake' last. labels: int64 [B, H, W], below N.
        ignored: classes whose pixels do not count.
    """
    nothing = torch.full_like(labels, fake.shape[1] - 1)
    return _balanced(real, labels, ignored) + F.cross_entropy(fake.float(), nothing)


def oasis_generator(fake: Tensor, labels: Tensor, ignored: Sequence[int] = ()) -> Tensor:
    """The same of decoded pixels that are to be taken for real ones of their labels (equation 2)."""
    return _balanced(fake, labels, ignored)


def label_mix(labels: Tensor, classes: int) -> Tensor:
    """LabelMix (section 3.2): a random half of the classes of each map, bool [B, 1, H, W], for pictures mixed of real
    pixels there and decoded ones elsewhere."""
    chosen = torch.rand(len(labels), classes, device=labels.device) < 0.5
    return chosen.gather(1, labels.flatten(1)).view(labels.shape)[:, None]


def label_mix_distance(mixed: Tensor, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of D's logits of a mixed picture from its logits mixed alike (equation 3)."""
    return (mixed - torch.where(mask, real, fake)).float().square().mean()


def _balanced(logits: Tensor, labels: Tensor, ignored: Sequence[int]) -> Tensor:
    counts = torch.bincount(labels.flatten(), minlength=logits.shape[1]).float()
    counts[list(ignored)] = 0
    weight = torch.where(counts > 0, 1 / counts, 0.0)
    total = F.cross_entropy(logits.float(), labels, weight, reduction="sum")
    return total / (counts > 0).sum().clamp_min(1)


@dataclass(frozen=True)
class GanLoss:
    """A discriminator's loss (real, fake) and the generator's (fake) that belong together."""

    discriminator: Callable[[Outputs, Outputs], Tensor]
    generator: Callable[[Outputs], Tensor]


GAN_LOSSES = {
    "softplus": GanLoss(softplus_discriminator, softplus_generator),
    "saturating": GanLoss(softplus_discriminator, saturating_generator),
    "least_squares": GanLoss(least_squares_discriminator, least_squares_generator),
    "hinge": GanLoss(hinge_discriminator, hinge_generator),
}


def gan_loss(name: str) -> GanLoss:
    """The pair of losses of a name in `GAN_LOSSES`; `ConfigError` lists the names for any other."""
    if name not in GAN_LOSSES:
        raise ConfigError(f"no adversarial loss {name!r}; there are {', '.join(GAN_LOSSES)}")
    return GAN_LOSSES[name]


def r1_penalty(real: Outputs, x: Tensor) -> Tensor:
    """E‖∇ₓ D(x)‖² over real pictures (Mescheder et al. 2018, equation 9, without γ/2).

    Args:
        real: D(x), computed from ``x``; an element's gradient is of the sum over its outputs (of all
            scales), so no output may depend on another picture of the batch (batch norm would).
        x: [B, …] real pictures with ``requires_grad``, float32: the gradient is differentiated again.

    Raises:
        ValueError: ``x`` needs no gradient.
    """
    if not x.requires_grad:
        raise ValueError("R1 differentiates by the pictures: call x.requires_grad_() before D(x)")
    total = torch.stack([output.float().sum() for output in _scales(real)]).sum()
    (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean over scales of Σ over layers of mean |D_l(x) − D_l(x̂)| (pix2pixHD, Wang et al. 2018, equation 4).

    Args:
        real, fake: for every scale, D's intermediate features, equal shapes in equal order. No gradient
            flows into ``real``. The publication sums over scales (equation 5); the mean here keeps the
            magnitude free of their number, like the other losses.

    Raises:
        ValueError: numbers of scales or layers, or shapes, differ.
    """
    if not real or len(real) != len(fake):
        raise ValueError(
            f"features of {len(real)} and {len(fake)} scales: give one list of layers a scale, for both"
        )
    total = torch.zeros((), device=real[0][0].device)
    for layers_real, layers_fake in zip(real, fake, strict=True):
        for a, b in zip(layers_real, layers_fake, strict=True):
            if a.shape != b.shape:
                raise ValueError(f"a layer's features differ in shape: {tuple(a.shape)} and {tuple(b.shape)}")
            total = total + F.l1_loss(b.float(), a.detach().float())
    return total / len(real)


def _scales(outputs: Outputs) -> Sequence[Tensor]:
    scales = [outputs] if isinstance(outputs, Tensor) else outputs
    if not scales:
        raise ValueError("a discriminator with no output: give a tensor or a sequence of at least one")
    return scales


def _mean(outputs: Outputs, function: Callable[[Tensor], Tensor]) -> Tensor:
    scales = _scales(outputs)
    means = [function(d if d.dtype == torch.float64 else d.float()).mean() for d in scales]
    return torch.stack(means).mean()
