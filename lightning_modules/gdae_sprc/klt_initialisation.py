"""KLT initialisation: first weights with which the auto-encoder is a linear transform and its inverse.

Ours; the slides say nothing of it. Every stage starts as the Karhunen-Loève transform (KLT) of what it sees, for
pictures whose correlation falls exponentially with distance: ρ a pixel, the same between all colours. The residual
pairs and the dense connections start at nothing. Training so begins at a transform coder instead of noise, whatever
parts a network has, which saves most of the first thousands of batches.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from genic.lightning_modules.gdae_sprc.networks import DenseDecoder, DenseEncoder, Stage
    from genic.lightning_modules.layers.gain_units import GainUnits

RHO = 0.95
COLOUR = 0.9
"""Correlation between neighbours, and between red, green and blue of one pixel."""
SCALE = 0.35
"""Of the latents: whole numbers are then the quantisation that level 0 of preset ``small`` wants."""
GAIN_STEP, MEAN_GAIN_STEP = 0.577, 0.09
"""Natural logarithm of the gain from one level to the next, at first; the second is of the latent that holds a block's
mean, which would otherwise go far beyond the outer centres."""


def initialise_with_klt(encoder: DenseEncoder, decoder: DenseDecoder, latents: int) -> None:
    """Overwrite the networks' weights; the decoder's widths must be the encoder's, reversed."""
    down, up = (cast("list[Stage]", list(network.stages)) for network in (encoder, decoder))
    widths = [3, *(stage.first.out_channels for stage in down)]
    bases = stage_bases(widths)
    scale = torch.full((latents,), SCALE)
    with torch.no_grad():
        for stage in (*down, decoder.first, *up):
            for parameter in stage.residual[-1].parameters():
                nn.init.zeros_(parameter)
        for stage, basis in zip(down, bases, strict=True):
            _set(stage.first, basis.T)
        _set(encoder.last, torch.diag(scale)[:, : widths[-1]])
        _set(decoder.first.first, torch.diag(1 / scale)[: widths[-1]])
        for shuffled, stage, basis in zip(decoder.up, up, bases[:0:-1], strict=True):
            _set(shuffled, basis)
            _set(stage.first, torch.eye(stage.first.out_channels))
        _set(decoder.last, bases[0])


def initialise_gains(gain: GainUnits) -> None:
    """The quantisation of six levels whose λ_rate falls from 64 to 0.2, at high rate."""
    levels, channels = gain.log_gain.shape
    start = torch.arange(levels)[:, None].float() * torch.full((channels,), GAIN_STEP)
    start[:, 0] *= MEAN_GAIN_STEP / GAIN_STEP
    with torch.no_grad():
        gain.log_gain.copy_(start)
        gain.log_inverse.copy_(-start)


def stage_bases(widths: list[int]) -> list[torch.Tensor]:
    """[4·in, out] for each pair of ``widths``: orthonormal columns, of the greatest variance first.

    Rows are in the order of `torch.nn.functional.pixel_unshuffle`. Columns beyond the rank are 0.
    """
    found = []
    maps = np.eye(widths[0]).reshape(
        widths[0], widths[0], 1, 1
    )  # each channel's weights of a block of pixels
    for a, b in pairwise(widths):
        side = maps.shape[-1]
        placed = np.zeros((a, 2, 2, widths[0], 2 * side, 2 * side))
        for i in range(2):
            for j in range(2):
                placed[:, i, j, :, i * side : (i + 1) * side, j * side : (j + 1) * side] = maps
        flat = placed.reshape(4 * a, -1)
        variances, vectors = np.linalg.eigh(flat @ _covariance(widths[0], 2 * side) @ flat.T)
        order = np.argsort(-variances)[:b]
        basis = np.zeros((4 * a, b))
        basis[:, : len(order)] = vectors[:, order] * (variances[order] > 1e-9)
        maps = (basis.T @ flat).reshape(b, widths[0], 2 * side, 2 * side)
        found.append(torch.from_numpy(basis).float())
    return found


def _covariance(colours: int, side: int) -> np.ndarray:
    """Of a block's pixels, colours first."""
    y, x = np.mgrid[:side, :side].reshape(2, -1)
    spatial = RHO ** np.hypot(y[:, None] - y, x[:, None] - x)
    return np.kron(np.full((colours, colours), COLOUR) + (1 - COLOUR) * np.eye(colours), spatial)


def _set(conv: nn.Module, matrix: torch.Tensor) -> None:
    """The centre tap's first rows and columns are the matrix; the other weights and the bias 0."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    rows, columns = matrix.shape
    middle = conv.kernel_size[0] // 2
    conv.weight.zero_()
    conv.weight[:rows, :columns, middle, middle] = matrix
    conv.bias.zero_()
