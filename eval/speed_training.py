"""Speed of a training step: ours in Lightning, alone and on two processes, and CompressAI's loop for `mbt2018-mean`;
where a step's time goes; and how fast batches are made for it."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.data import DataLoader, IterableDataset

from genic.datamodules import make_datamodule
from genic.datamodules.base import PhotoDataModule
from genic.datamodules.batch import Batch
from genic.experiments.config import load_config
from genic.experiments.training.devices import Placement
from genic.experiments.training.networks import compile_networks
from genic.experiments.training.precision import lightning_precision
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.registry import find_paper

QUALITY = 4
LAMBDA = 0.013
EQUAL = "hyperprior:mbt2018-mean"
"""The hyperprior at the widths of CompressAI's model; beside it ours has the context of what is decoded."""
_SETTINGS = {
    EQUAL: [
        *("preset=paper", "model.g_a=[3,128,128,128,192]", "model.g_s=[192,128,128,128,3]"),
        *("model.h_a=[192,128,128,128]", "model.h_s=[128,192,288,384]"),
    ]
}
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


@dataclass(frozen=True)
class Parts:
    """Where the time of a step goes.

    Attributes:
        step: seconds, under the profiler.
        networks: by network seconds forward and backward, those without gradient too.
        losses: what else is computed, both ways; optimisers: seconds of their steps.
        convolutions: seconds in convolutions, wherever they are.
    """

    step: float
    networks: dict[str, tuple[float, float]]
    losses: float
    optimisers: float
    convolutions: float


def ours(
    name: str, side: int, batch: int, steps: int, bf16: bool, compiled: bool = False
) -> tuple[list[float], Parts | None]:
    """Seconds of each of ``steps`` steps of a training ``PAPER:PRESET``, all its losses and networks in use from the
    first batch, in the memory format of the preset; and where the time of one more goes, unless it is compiled."""
    watch = _Watch(None if compiled else steps + 1)
    _fit(name, side, batch, steps + 1 + (not compiled), Placement("cpu", 1), watch, bf16, compiled)
    return watch.seconds[1 : steps + 1], watch.parts


def readers(name: str, batches: int) -> float:
    """Crops a second that one reader process makes for a training ``PAPER:PRESET``, decoding each picture.

    Raises:
        DataError: its pictures are not at hand.
    """
    config = _config(name)
    data = make_datamodule(replace(config.data, workers=0, cache=False))
    assert isinstance(data, PhotoDataModule), "presets train on what is for training"
    find_paper(config.experiment).module_class()(config.paper()).check_data(data)
    made = iter(data.train_dataloader())
    next(made)
    start = time.perf_counter()
    count = sum(len(batch.image) for batch in islice(made, batches))
    return count / (time.perf_counter() - start)


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


def _config(name: str, *settings: str) -> Any:
    paper, _, preset = name.partition(":")
    return load_config(paper, [*_SETTINGS.get(name, [f"preset={preset}"]), *settings])


def _fit(
    name: str,
    side: int,
    batch: int,
    steps: int,
    placement: Placement,
    watch: pl.Callback,
    bf16: bool = False,
    compiled: bool = False,
) -> pl.Trainer:
    config = _config(name)
    config = _config(name, *(f"train.{f.name}=0" for f in fields(config.train) if f.name in _STARTS))
    module = find_paper(config.experiment).module_class()(config.paper())
    if config.train.channels_last:
        module.to(memory_format=torch.channels_last)
    if compiled:
        compile_networks(module)
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
    data = make_datamodule(replace(config.data, shards=None))
    assert isinstance(data, PhotoDataModule), "presets train on what is for training"
    module.check_data(data)
    made = _batch(side, batch)
    made = made if data.before_step is None else data.before_step(made, 0)
    trainer.fit(module, DataLoader(_Same(made, steps), batch_size=None))
    return trainer


def compressai(side: int, batch: int, steps: int, bf16: bool) -> tuple[list[float], Parts]:
    """The same for CompressAI's model, as its examples/train.py steps, and for bfloat16 channels-last as well;
    `ImportError` where it is not installed."""
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

    def step() -> None:
        for optimiser in optimisers.values():
            optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = criterion(net(x), x)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimisers["net"].step()
        net.aux_loss().backward()
        optimisers["aux"].step()

    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    with _parts(dict(net.named_children())) as found:
        step()
    return seconds[1:], found[0]


@contextmanager
def _parts(networks: dict[str, nn.Module]) -> Iterator[list[Parts]]:
    """Of a step within; they are in the list afterwards."""
    found, scopes, hooks = [], [], []

    def enter(name: str) -> None:
        scopes.append(record_function(f"network:{name}"))
        scopes[-1].__enter__()

    for name, network in networks.items():
        hooks.append(network.register_forward_pre_hook(lambda *_, name=name: enter(name)))
        hooks.append(network.register_forward_hook(lambda *_: scopes.pop().__exit__(None, None, None)))
    try:
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            start = time.perf_counter()
            yield found
            seconds = time.perf_counter() - start
    finally:
        for hook in hooks:
            hook.remove()
    found.append(_attributed(list(profiler.events() or ()), seconds))


def _attributed(events: list[Any], seconds: float) -> Parts:
    """An operation of the backward pass belongs to the network whose forward pass made its node: they have the same
    number in the sequence."""
    events.sort(key=lambda event: event.time_range.start)
    scopes = [event for event in events if event.name.startswith("network:")]
    back = [event for event in events if event.name.startswith("autograd::engine::evaluate_function")]
    nodes: dict[int, str | None] = {}
    for event in events:
        # Of several, e.g. a whole and its parts, the last made the node.
        if event.sequence_nr >= 0 and _around(back, event) is None:
            scope = _around(scopes, event)
            nodes[event.sequence_nr] = None if scope is None else scope.name
    forward, backward, optimisers, convolutions = defaultdict(float), defaultdict(float), 0.0, 0.0
    for event in scopes:
        forward[event.name] += _seconds(event)
    for event in back:
        backward[nodes.get(event.sequence_nr)] += _seconds(event)
    for event in events:
        if event.name.startswith("Optimizer.step"):
            optimisers += _seconds(event)
        elif event.name in ("aten::convolution", "aten::convolution_backward"):
            convolutions += _seconds(event)
    names = list(dict.fromkeys(event.name for event in scopes))
    networks = {name.removeprefix("network:"): (forward[name], backward[name]) for name in names}
    rest = seconds - optimisers - sum(map(sum, networks.values()))
    return Parts(seconds, networks, rest, optimisers, convolutions)


def _around(spans: list[Any], event: Any) -> Any:
    """The span that an event lies in, of disjoint ones in the order of their starts."""
    k = bisect_right(spans, event.time_range.start, key=lambda span: span.time_range.start) - 1
    return spans[k] if k >= 0 and event.time_range.end <= spans[k].time_range.end else None


def _seconds(event: Any) -> float:
    return (event.time_range.end - event.time_range.start) / 1e6


class _Timer(pl.Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: object) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class _Watch(_Timer):
    """Times steps, and looks into one of them.

    Attributes:
        parts: of step number ``look``, counted from 0; None without one.
    """

    def __init__(self, look: int | None) -> None:
        super().__init__()
        self.look, self.parts = look, None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if args[-1] == self.look:
            # The system's networks, and those beside it.
            named = {**dict(pl_module.named_children()), **dict(pl_module.system.named_children())}  # pyright: ignore
            named.pop("system")
            self._looking = _parts(named)
            self._found = self._looking.__enter__()
        super().on_train_batch_start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        super().on_train_batch_end()
        if args[-1] == self.look:
            self._looking.__exit__(None, None, None)
            self.parts = self._found[0]


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
