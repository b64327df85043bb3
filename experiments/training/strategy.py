"""Data-parallel training with several optimisers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn


class AveragingStrategy(DDPStrategy):
    """Processes average the gradients of each backward pass, of whichever parameters it was for.

    `torch.nn.parallel.DistributedDataParallel` expects every parameter that a loss reaches to get its gradient
    in one backward pass. A GAN's steps are otherwise: the generator's loss reaches the discriminator, whose
    parameters are left alone (``manual_backward(loss, inputs=…)``), and the reducer waits for them in vain,
    whether told to find unused parameters or not. So the reducer is left out here; one sum over all processes
    after a backward pass takes its place. Launching, ranks and clusters are Lightning's.
    """

    def configure_ddp(self) -> None:
        """Start all processes from rank zero's weights."""
        for tensor in self.lightning_module.state_dict().values():
            # Collectives take contiguous tensors, whatever the memory format.
            whole = tensor.detach().contiguous()
            dist.broadcast(whole, src=0)
            tensor.copy_(whole)

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The backward pass, then the average of the gradients of ``inputs``, or of all parameters."""
        loss = super().backward(closure_loss, optimizer, *args, **kwargs)
        average_gradients(kwargs.get("inputs") or self.lightning_module.parameters())
        return loss


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes, in one collective operation.

    A parameter that has a gradient in some processes only counts as zero in the others; one that has none
    anywhere is left without, as in a single process.
    """
    parameters = [p for p in parameters if p.requires_grad]
    if not parameters:
        return
    first = parameters[0]
    present = torch.tensor([p.grad is not None for p in parameters], dtype=first.dtype, device=first.device)
    pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
    flat = torch.cat([present, *pieces])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    anywhere, *means = flat.split([len(parameters), *(p.numel() for p in parameters)])
    for parameter, mean, has_gradient in zip(parameters, means, anywhere.tolist(), strict=True):
        if has_gradient:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(mean.view(parameter.shape))
