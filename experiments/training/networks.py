"""What is done to the trained networks before a run, whichever the paper: less memory, or less time a step."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint_sequential

from genic.lightning_modules.base import CompressionModule


def checkpoint_activations(module: CompressionModule) -> None:
    """Have chains of layers keep the features between √n parts of them and compute the others again in the backward
    pass (torch's `checkpoint_sequential`). Chains with batch norms are left alone: those would count a batch twice."""
    for network in module.networks():
        _checkpoint(network)


def compile_networks(module: CompressionModule) -> None:
    """Have torch compile each network as a whole, where it can; names of tensors stay."""
    for network in module.networks():
        if network not in module.differentiated_twice():
            network.forward = torch.compile(network.forward)


def _checkpoint(part: nn.Module) -> None:
    plain = type(part).forward is nn.Sequential.forward
    counts = any(isinstance(layer, _BatchNorm) for layer in part.modules())
    if isinstance(part, nn.Sequential) and plain and len(part) > 1 and not counts:
        parts = max(2, math.isqrt(len(part)))
        part.forward = partial(checkpoint_sequential, list(part), parts, use_reentrant=False)
    else:
        for child in part.children():
            _checkpoint(child)
