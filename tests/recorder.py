"""A training step without a trainer."""

from __future__ import annotations

import torch

from genic.lightning_modules.base import CompressionModule


class Recorder:
    """Stands in for the trainer: optimisers that change nothing, logged values by name."""

    def __init__(self, module: CompressionModule) -> None:
        groups = module.optimiser_groups()
        self.optimisers = [torch.optim.SGD(list(p), lr=0.0, fused=True) for p, _ in groups.values()]
        self.logged: dict[str, float] = {}
        module.optimiser_names = list(groups)
        module._optimisers = lambda: self.optimisers
        module.manual_backward = lambda loss, inputs: loss.backward(inputs=inputs, retain_graph=True)
        module.log = lambda name, value: self.logged.update({name: float(value.detach())})
        module.log_dict = lambda values: self.logged.update({n: float(v.detach()) for n, v in values.items()})
