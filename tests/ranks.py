"""Training of which every process tells what it holds.

After each batch a process writes hashes of its parameters, buffers and optimisers' state as a line of
``$RANKS_FOLDER/RANK.jsonl``; after batch 2 the first process keeps a copy of the checkpoint there. Random numbers of a
step belong to the sample, whichever process has it, and optimisers are plain gradient descent, whose steps are as near
as the gradients are (Adam's are not, where a gradient is nearly zero).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.overrides import TorchFunctionMode

from genic.experiments import run
from genic.lightning_modules.base import CompressionModule, whole
from tests import toy_experiment

COPY, COPIED_AFTER = "copy.ckpt", 2


class Witness(pl.Callback):
    """The lines and the copy."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        folder = Path(os.environ["RANKS_FOLDER"])
        tensors = dict(pl_module.named_parameters()) | dict(pl_module.named_buffers())
        for name, optimiser in zip(pl_module.optimiser_names, trainer.optimizers, strict=True):
            for number, state in optimiser.state_dict()["state"].items():
                tensors |= {f"{name}.{number}.{key}": value for key, value in state.items()}
        with open(folder / f"{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps({name: hash_of(tensor) for name, tensor in tensors.items()}) + "\n")
        last = trainer.default_root_dir + "/last.ckpt"
        if trainer.is_global_zero and pl_module.batches_seen == COPIED_AFTER and os.path.exists(last):
            shutil.copy(last, folder / COPY)


class SampleNoise(TorchFunctionMode):
    """Draws for all processes' samples and hands out this process's part.

    Args:
        samples: of this process; an axis of this length, the first or the second, is that of samples.
        rank, world: this process among all.
    """

    def __init__(self, samples: int, rank: int, world: int) -> None:
        super().__init__()
        self.samples, self.rank, self.world = samples, rank, world

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.rand_like, torch.randn_like) and len(args[0]) == self.samples:
            return self._mine(function(torch.cat([args[0]] * self.world), **kwargs), 0)
        if function in (torch.rand, torch.randn, torch.randint):
            *first, size = args if isinstance(args[-1], (tuple, list)) else ((), args)
            first = [] if first == [()] else first
            if self.samples in size[:2]:
                axis = list(size).index(self.samples)
                whole = [*size[:axis], self.samples * self.world, *size[axis + 1 :]]
                return self._mine(function(*first, whole, **kwargs), axis)
        return function(*args, **kwargs)

    def _mine(self, whole, axis):
        return whole.narrow(axis, self.rank * self.samples, self.samples)


def install(patch: pytest.MonkeyPatch, witness: bool, adam: bool = False) -> None:
    """Have the trainings of this process be as the module says, with or without the `Witness`."""
    step = CompressionModule.training_step

    def training_step(self, batch, batch_idx):
        torch.manual_seed(self.batches_seen)
        with SampleNoise(len(batch.image), self.global_rank, self.trainer.world_size):
            return step(self, batch, batch_idx)

    patch.setattr(CompressionModule, "training_step", training_step)
    if not adam:  # torch shares no fused gradient descent out
        descent = partial(torch.optim.SGD, momentum=0.5)
        patch.setattr(torch.optim, "Adam", descent)
    if witness:
        patch.setattr(CompressionModule, "configure_callbacks", lambda self: [Witness()])


def hash_of(value: torch.Tensor | float) -> str:
    """Of dtype, shape and every bit."""
    array = whole(torch.as_tensor(value)).detach().cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]


def start(rank: int, port: int, log: Path, environment: dict[str, str], arguments: list[str]) -> None:
    """`experiments.run` in a process as Lightning would start it for a rank of two; the process ends with it."""
    os.environ |= environment | {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if arguments[0] == "toy":
        toy_experiment.install()
    install(pytest.MonkeyPatch(), witness=True, adam="fsdp" in arguments)
    sys.exit(run.main(arguments))


if __name__ == "__main__":  # a node's process
    install(pytest.MonkeyPatch(), witness=True)
    sys.exit(run.main())
