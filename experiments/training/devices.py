"""Where a run computes: GPUs or CPU processes, on one machine or several."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from genic.experiments.training.strategy import NetworksDDPStrategy, SharedOutStrategy
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.config import TrainConfig

STRATEGIES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Placement:
    """One process on each device.

    Attributes:
        accelerator: ``gpu`` or ``cpu``.
        devices: processes a node.
        nodes: number of machines.
        strategy: of `STRATEGIES`: each process has the whole networks, or a share of them (torch's FSDP2).
    """

    accelerator: str
    devices: int
    nodes: int = 1
    strategy: str = "ddp"

    @property
    def processes(self) -> int:
        """Over all nodes."""
        return self.devices * self.nodes

    def trainer_arguments(self) -> dict[str, Any]:
        """What `pytorch_lightning.Trainer` is to be told."""
        strategy: Any = "auto"
        if self.processes > 1:
            backend = "nccl" if self.accelerator == "gpu" else "gloo"
            if self.strategy == "ddp":
                strategy = NetworksDDPStrategy(process_group_backend=backend)
            else:
                strategy = SharedOutStrategy(self.processes, 1, False, process_group_backend=backend)
        return {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "num_nodes": self.nodes,
            "strategy": strategy,
        }

    def check(self, module: CompressionModule, train: TrainConfig) -> None:
        """Raise `ConfigError` on a training that cannot be shared out as it was asked for."""
        if self.strategy == "ddp":
            return
        names = list(module.optimiser_groups())
        if len(names) > 1:
            raise ConfigError(
                f"--strategy fsdp: a step of this training is {len(names)} optimisers' ({', '.join(names)}), and each "
                "changes networks whose gathered copies the others' losses go through: leave it out for ddp, or "
                "train without a discriminator"
            )
        if self.processes == 1:
            raise ConfigError(
                "--strategy fsdp shares networks out among processes: give --gpus or --cpus of 2 or more"
            )
        for key in ("average_weights", "panels_every", "compile", "checkpoint_activations"):
            if getattr(train, key):
                raise ConfigError(
                    f"--strategy fsdp goes without train.{key}: set it to {type(getattr(train, key))(0)}"
                )


def choose_devices(
    gpus: int | None = None, cpus: int | None = None, nodes: int = 1, strategy: str = "ddp"
) -> Placement:
    """The devices asked for; without a wish one GPU where there is one, else one CPU process.

    Raises:
        ConfigError: there are fewer; the message says what there is and what to type instead.
    """
    if gpus is not None and cpus is not None:
        raise ConfigError("--gpus and --cpus exclude each other: give one of them")
    if min(n for n in (gpus, cpus, nodes, 1) if n is not None) < 1:
        raise ConfigError("--gpus, --cpus and --nodes are numbers from 1 on")
    if nodes > 1:
        _check_cluster(nodes)
    there = torch.cuda.device_count()
    if gpus is not None and gpus > there:
        raise ConfigError(f"--gpus {gpus}: {_what_there_is(there)}")
    if cpus is not None:
        return Placement("cpu", cpus, nodes, strategy)
    if gpus is not None or there:
        return Placement("gpu", gpus or 1, nodes, strategy)
    return Placement("cpu", 1, nodes, strategy)


def cluster_plugins() -> list[Any]:
    """Lightning detects the cluster; under SLURM it must leave requeueing to ``--resume auto``."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def _what_there_is(there: int) -> str:
    if not there:
        return "this machine has no GPU that torch can use; type --cpus 1 instead"
    names = ", ".join(sorted({torch.cuda.get_device_name(k) for k in range(there)}))
    return f"this machine has {there} ({names}); type --gpus {there} instead"


def _check_cluster(nodes: int) -> None:
    detected = any(env.detect() for env in (TorchElasticEnvironment, SLURMEnvironment, MPIEnvironment))
    if not detected and not ("MASTER_ADDR" in os.environ and "NODE_RANK" in os.environ):
        raise ConfigError(
            f"--nodes {nodes} needs a launcher on every node: srun, or\n    torchrun --nnodes {nodes} "
            "--nproc-per-node GPUS --rdzv-backend c10d --rdzv-endpoint HOST:29500 -m experiments.run …"
        )
