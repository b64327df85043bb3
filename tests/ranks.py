"""Training that leaves behind what each process holds: ``python -m tests.ranks …`` is ``python -m experiments.run …``.

After every batch, parameters, buffers and the optimisers' state of rank R are hashed into ``$RANKS_FOLDER/R.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch

from lightning_modules.base import CompressionModule


class Hashes(pl.Callback):
    """A line a batch, with a hash of each tensor by name."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        tensors = dict(pl_module.named_parameters()) | dict(pl_module.named_buffers())
        for k, optimiser in enumerate(trainer.optimizers):
            for number, state in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser {k}.{number}.{name}": value for name, value in state.items()}
        line = {name: hash_of(tensor) for name, tensor in tensors.items()}
        with open(Path(os.environ["RANKS_FOLDER"]) / f"{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")


def hash_of(tensor: torch.Tensor) -> str:
    """Of dtype, shape and every bit."""
    array = torch.as_tensor(tensor).detach().cpu().contiguous().numpy()
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    from experiments.run import main

    CompressionModule.configure_callbacks = lambda self: [Hashes()]
    sys.exit(main())
