"""Data-parallel training with several optimisers."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from genic.lightning_modules.base import CompressionModule


class NetworksDDPStrategy(DDPStrategy):
    """Each of the module's `networks` in a `DistributedDataParallel` of its own.

    One wrapper around all of them would wait for the gradients of every network in every backward pass, which is one
    optimiser's. (Lightning after 2.6.6 has `MultiModelDDPStrategy` with the same idea; it puts the wrapper in the
    network's place, which renames all tensors and hides the network's attributes, so here the network stays in place
    and its calls go through the wrapper.)

    Running statistics of batch norms are averaged after each batch, so that every checkpoint is every rank's state;
    with rank 0's alone, as `DistributedDataParallel` broadcasts them, the other ranks' pictures would count for
    nothing. All other buffers follow from the weights and are equal by themselves.
    """

    @property
    def _trained(self) -> CompressionModule:
        assert isinstance(self.lightning_module, CompressionModule)
        return self.lightning_module

    def configure_ddp(self) -> None:
        self._parallel: list[DistributedDataParallel] = []
        for network in self._trained.networks():
            # Parameters take part or not by the batch, e.g. of a decoder that starts late.
            parallel = DistributedDataParallel(network, find_unused_parameters=True)
            parallel.broadcast_buffers = False  # before each call; at the start they are
            call_through(parallel)
            self._parallel.append(parallel)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as alone:
            if not self._trained.steps_now:
                for parallel in self._parallel:
                    alone.enter_context(parallel.no_sync())
            output = super().training_step(*args, **kwargs)
        average_statistics(self._trained)
        return output

    def teardown(self) -> None:
        for network in self._trained.networks():
            vars(network).pop("forward", None)
        super().teardown()


def call_through(parallel: DistributedDataParallel) -> None:
    """Have the calls of the wrapped network go through ``parallel`` while gradients are recorded.

    Without gradients there is nothing to average, and a rank may be alone, drawing panels.
    """
    network = parallel.module
    forward = network.forward

    def through(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        network.forward = forward
        try:
            return parallel(*args, **kwargs)
        finally:
            network.forward = through

    network.forward = through


def average_statistics(module: nn.Module) -> None:
    """Replace what each batch norm in training mode has gathered by the mean over all processes."""
    statistics: list[Tensor] = []
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and norm.training:
            statistics += [s for s in (norm.running_mean, norm.running_var) if s is not None]
    if not statistics:
        return
    flat = torch.cat(statistics)
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for own, mean in zip(statistics, flat.split([len(s) for s in statistics]), strict=True):
        own.copy_(mean)


class SharedOutStrategy(ModelParallelStrategy):
    """The one network shared out among all processes by torch's FSDP2; checkpoints are whole."""

    def connect(self, model: CompressionModule) -> None:
        super().connect(model)
        # Lightning's hook, of this strategy alone: averaging weights warns of modules that have it.
        model.configure_model = partial(_share_out, model)


def _share_out(module: CompressionModule) -> None:
    assert module.device_mesh is not None, "the strategy has made it"
    for network in module.networks():
        fully_shard(network, mesh=module.device_mesh["data_parallel"])
