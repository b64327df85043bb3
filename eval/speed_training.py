"""Speed of a training step: ours in Lightning, alone and on two processes, and CompressAI's loop for `mbt2018-mean`."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, IterableDataset

from genic.datamodules.batch import Batch
from genic.experiments.config import load_config
from genic.experiments.training.devices import Placement
from genic.experiments.training.precision import lightning_precision
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.registry import find_paper

QUALITY = 4
LAMBDA = 0.013
_STARTS = ("adversarial_from", "detail_from", "perceptual_from", "rate_from")


@dataclass(frozen=True)
class Communication:
    """What a training step on two processes of this machine exchanges.

    Attributes:
        bytes: each process gives into collective operations, gradients above all; of 4-byte numbers.
        calls: number of these operations.
        milliseconds: in which at least one of them was under way, waiting for the other process included.
        step_milliseconds: of the whole step; median.
    """

    bytes: int
    calls: int
    milliseconds: float
    step_milliseconds: float


def ours(name: str, side: int, batch: int, steps: int, bf16: bool) -> list[float]:
    """Seconds of each of ``steps`` steps of a training ``PAPER:PRESET``, all its losses and networks in use from the
    first batch."""
    timer = _Timer()
    _fit(name, side, batch, steps + 1, Placement("cpu", 1), timer, bf16)
    return timer.seconds[1:]


def communication(name: str, side: int, batch: int, steps: int) -> Communication:
    """Of a training ``PAPER:PRESET`` in float32 on two processes of one thread, ``batch`` crops each.

    Raises:
        ToolError: a process failed.
    """
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", __name__]
    command = [sys.executable, "-m", *launcher, name, str(side), str(batch), str(steps)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"{name} on two processes failed: {done.stderr.strip()[-2000:]}")
    return Communication(**json.loads(done.stdout.splitlines()[-1]))


def _fit(
    name: str, side: int, batch: int, steps: int, placement: Placement, watch: pl.Callback, bf16: bool = False
) -> pl.Trainer:
    paper, _, preset = name.partition(":")
    config = load_config(paper, [f"preset={preset}"])
    starts = [f"train.{f.name}=0" for f in fields(config.train) if f.name in _STARTS]
    config = load_config(paper, [f"preset={preset}", *starts])
    module = find_paper(paper).module_class()(config.paper())
    if bf16:
        module.to(memory_format=torch.channels_last)
    trainer = pl.Trainer(
        **placement.trainer_arguments(),
        precision=lightning_precision("bf16" if bf16 else "32", "cpu"),
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(_Same(_batch(side, batch), steps), batch_size=None))
    return trainer


def compressai(side: int, batch: int, steps: int, bf16: bool) -> list[float]:
    """The same for CompressAI's model, as its examples/train.py steps; `ImportError` where it is not installed."""
    from compressai.losses import RateDistortionLoss
    from compressai.optimizers import net_aux_optimizer
    from compressai.zoo import image_models

    torch.manual_seed(0)
    net: Any = image_models["mbt2018-mean"](quality=QUALITY, pretrained=False).train()
    criterion = RateDistortionLoss(lmbda=LAMBDA)
    rates = {kind: {"type": "Adam", "lr": lr} for kind, lr in (("net", 1e-4), ("aux", 1e-3))}
    optimisers = net_aux_optimizer(net, rates)
    x = _batch(side, batch).image
    if bf16:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        for optimiser in optimisers.values():
            optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = criterion(net(x), x)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimisers["net"].step()
        net.aux_loss().backward()
        optimisers["aux"].step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


class _Timer(pl.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class _Exchange(_Timer):
    """Each step's collective operations, as torch's profiler sees them; the profiled steps are not those timed."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.operations = steps, []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
        if args[-1] > self.steps:
            self.profiler.__enter__()
        super().on_train_batch_start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        super().on_train_batch_end()
        if args[-1] > self.steps:
            self.profiler.__exit__(None, None, None)
            found: list[Any] = list(self.profiler.events() or ())
            self.operations.append([event for event in found if event.name.startswith(("gloo:", "nccl:"))])

    def found(self) -> Communication:
        """Medians over the steps."""
        exchanged = [
            (
                sum(4 * math.prod(shape) for event in events for shape in event.input_shapes),
                len(events),
                _covered([(event.time_range.start, event.time_range.end) for event in events]) / 1e3,
            )
            for events in self.operations
        ]
        middle = [statistics.median(values) for values in zip(*exchanged, strict=True)]
        step = statistics.median(self.seconds[1 : self.steps + 1])
        return Communication(int(middle[0]), int(middle[1]), round(middle[2], 3), round(1e3 * step, 3))


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class _Same(IterableDataset):
    """One batch, several times: loading data is not what is measured."""

    def __init__(self, batch: Batch, times: int) -> None:
        self.batch, self.times = batch, times

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch] * self.times)


def _batch(side: int, count: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image: Tensor = torch.rand(count, 3, side // 8, side // 8, generator=generator)
    image = torch.nn.functional.interpolate(image, size=(side, side), mode="bilinear")
    detail = (torch.rand(count, 1, side, side, generator=generator) < 0.1).float()
    labels = torch.randint(0, 21, (count, side, side), generator=generator)
    # Of a picture coded before: three planes, and quantisation parameters.
    planes = torch.randint(20, 45, (count, 5, side, side), dtype=torch.uint8, generator=generator)
    return Batch(image, detail, labels, planes)


def _main() -> None:
    """One process of `communication`."""
    side, batch, steps = map(int, sys.argv[2:])
    watch = _Exchange(steps)
    trainer = _fit(sys.argv[1], side, batch, 2 * steps + 1, Placement("cpu", 2), watch)
    if trainer.is_global_zero:
        print(json.dumps(asdict(watch.found())))


if __name__ == "__main__":
    _main()
