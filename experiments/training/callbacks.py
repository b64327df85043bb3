"""What happens between the batches of a run. Everything is counted in batches (`batches_seen`)."""

from __future__ import annotations

import math
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from genic.datamodules.batch import Batch
from genic.experiments.training.checkpoint import CONFIG_KEY, PROCESSES_KEY
from genic.experiments.training.folder import CHECKPOINT, CONFIG, WEIGHTS
from genic.experiments.training.panels import draw, fixed_pictures, picture_grid
from genic.lightning_modules.base import CompressionModule, whole
from genic.lightning_modules.codec.files import atomic_file
from genic.lightning_modules.codec.weights import save_weights
from genic.lightning_modules.config import TrainConfig

FINISHED, OUT_OF_TIME = "finished", "out of time"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Clock(pl.Callback):
    """Ends the run after ``batches`` batches, when its time is up, or on SIGTERM, SIGINT or SIGUSR1.

    A second signal acts as it would without this callback. Lightning's own handler of SIGTERM is replaced,
    since it ends the run without a checkpoint; its `Timer` knows no signals, validates before it stops, and
    counts the time of earlier sessions, too.

    Attributes:
        reason: why the run ended: `FINISHED`, `OUT_OF_TIME`, or the signal's name.
    """

    def __init__(self, batches: int, max_time: timedelta | None = None) -> None:
        self.batches = batches
        self.seconds = math.inf if max_time is None else max_time.total_seconds()
        self.reason: str | None = None
        self._signal: str | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._started = time.monotonic()

    def on_train_start(self, *_: Any) -> None:
        if dist.is_available() and dist.is_initialized():
            # Between hosts alone: NCCL's would have every host wait for its GPU.
            self._hosts = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._on_signal) for s in _SIGNALS}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: CompressionModule, *_: Any) -> None:
        seen = pl_module.batches_seen
        # Loggers take the value of this name as their step.
        pl_module.log("step", float(seen))
        if seen >= self.batches:
            self._stop(trainer, FINISHED)
        elif seen % pl_module.config.train.accumulate == 0 and (reason := self._interruption(trainer)):
            self._stop(trainer, reason)
            # Without this, Lightning validates before it stops.
            trainer.limit_val_batches = 0

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: CompressionModule) -> None:
        pl_module.log("step", float(pl_module.batches_seen), sync_dist=True)

    def on_train_end(self, *_: Any) -> None:
        # Now, and not at teardown: Lightning puts back what was there before it in between.
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_exception(self, *_: Any) -> None:
        self.on_train_end()

    def _interruption(self, trainer: pl.Trainer) -> str | None:
        timed_out = time.monotonic() - self._started > self.seconds
        mine = self._signal or (OUT_OF_TIME if timed_out else None)
        if trainer.world_size == 1:
            return mine
        # All processes stop after the same batch, or those that go on would wait for the others for ever.
        reasons: list[str | None] = [None] * trainer.world_size
        dist.all_gather_object(reasons, mine, self._hosts)
        return next((reason for reason in reasons if reason), None)

    def _stop(self, trainer: pl.Trainer, reason: str) -> None:
        self.reason = reason
        trainer.should_stop = True

    def _on_signal(self, number: int, frame: Any) -> None:
        received = signal.Signals(number)
        self._signal = received.name
        signal.signal(received, self._previous.get(received) or signal.SIG_DFL)


class AveragedWeights(WeightAveraging):
    """An exponential moving average of parameters and buffers, by batches in which optimisers stepped.

    Its decay rises to the one given. Lightning's `EMAWeightAveraging` has no rise and averages whole numbers, too.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._move)
        self.decay, self._seen = decay, 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._device = trainer.strategy.root_device  # the module is on the CPU still
        super().setup(trainer, pl_module, stage)
        assert self._average_model is not None
        # It is read on the host at each step, which would have to wait for the GPU.
        self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, CompressionModule)
        self._seen = pl_module.batches_seen
        super().on_train_batch_end(trainer, pl_module, *args)

    @contextmanager
    def in_place(self, module: CompressionModule) -> Iterator[None]:
        """The module has the averages meanwhile."""
        self._swap_models(module)
        try:
            yield
        finally:
            self._swap_models(module)

    def _move(self, averages: list[Tensor], own: list[Tensor], updates: Any) -> None:
        """Towards the module's own."""
        decay = min(self.decay, (1 + self._seen) / (10 + self._seen))
        for average, new in zip(averages, own, strict=True):
            average.lerp_(new, 1 - decay) if average.is_floating_point() else average.copy_(new)


class Checkpoints(pl.Callback):
    """Writes ``config.yaml``, ``last.ckpt`` and ``last.safetensors``, and weights that are kept.

    Args:
        folder: of the run.
        config: of the trainer.
        yaml: the resolved configuration of the whole run.
        notes: further metadata of the weights files.
        average: of the weights, where it is what is exported.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        yaml: str,
        notes: dict[str, str],
        average: AveragedWeights | None = None,
    ) -> None:
        self.folder, self.config, self.yaml, self.notes = folder, config, yaml, notes
        self.average = average

    def on_fit_start(self, trainer: pl.Trainer, pl_module: CompressionModule) -> None:
        if trainer.is_global_zero:
            with atomic_file(self.folder / CONFIG) as file:
                file.write(self.yaml.encode())

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: CompressionModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[CONFIG_KEY], checkpoint[PROCESSES_KEY] = self.yaml, trainer.world_size

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: CompressionModule, *_: Any) -> None:
        seen = pl_module.batches_seen
        if due(seen, self.config.checkpoint_every) or trainer.should_stop:
            # Lightning logs the batch after this: a run killed in between would never say what the batch gave.
            trainer._logger_connector.update_train_step_metrics()
            self._save_weights(pl_module, WEIGHTS)
            trainer.save_checkpoint(self.folder / CHECKPOINT)
        if due(seen, self.config.keep_every):
            self._save_weights(pl_module, f"{seen:07d}.safetensors")

    def _save_weights(self, module: CompressionModule, name: str) -> None:
        with self.average.in_place(module) if self.average else nullcontext():
            # Of a network that is shared out, all processes gather the parts.
            tensors = {key: whole(tensor) for key, tensor in module.export_weights().items()}
            if module.global_rank == 0:
                save_weights(self.folder / name, tensors, {**self.notes, **module.metadata()})


class Meters(pl.Callback):
    """Logs learning rates, the rate of training in pictures a second over all processes, the memory's peak, and how the
    discriminator's loss compares with the generator's.

    Lightning's `LearningRateMonitor` names rates by the optimisers' class, one for all networks here, and reads them
    before the batch has set them; its `ThroughputMonitor` waits for the GPU after every batch. Both write lines of
    their own, and not beside the losses of the batch.
    """

    def __init__(self) -> None:
        self.images_per_second = 0.0
        self._since: float | None = None
        self._images = 0

    def on_train_batch_start(self, *_: Any) -> None:
        if self._since is None:
            self._since, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: CompressionModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._images += len(batch.image) * trainer.world_size
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  # undeclared
        if self._since is None or not due(pl_module.batches_seen, every):
            return
        self.images_per_second = self._images / max(time.monotonic() - self._since, 1e-9)
        self._since, self._images = time.monotonic(), 0
        pl_module.log("speed/images_per_second", self.images_per_second)
        pl_module.log("memory/peak_gib", _peak_memory(pl_module.device) / 2**30)
        logged = trainer.callback_metrics
        if "loss/discriminator" in logged and logged.get("loss/adversarial", 0) > 0:
            ratio = logged["loss/discriminator"] / logged["loss/adversarial"]
            pl_module.log("balance/discriminator_to_generator", ratio)
        for name, optimiser in zip(pl_module.optimiser_names, trainer.optimizers, strict=True):
            pl_module.log(f"learning_rate/{name}", optimiser.param_groups[0]["lr"])

    def on_validation_start(self, *_: Any) -> None:
        # Validation is not training: the meter starts anew after it.
        self._since = None


class Overview(pl.Callback):
    """Puts into W&B's summary how large the networks are, and what a pass through the system costs."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: CompressionModule) -> None:
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if isinstance(logger, WandbLogger):
                drawn = draw(trainer, pl_module, fixed_pictures(trainer, pl_module, 1))
                summary = {"macs_per_pixel/system": round(drawn.macs)}
                for name, network in pl_module.named_children():
                    if count := sum(parameter.numel() for parameter in network.parameters()):
                        summary[f"parameters/{name}"] = count
                logger.experiment.summary.update(summary)


class Panels(pl.Callback):
    """Draws the module's pictures of the same few validation crops, as PNG and in Weights & Biases."""

    def __init__(
        self, folder: Path, every: int, average: AveragedWeights | None = None, pictures: int = 4
    ) -> None:
        self.folder, self.every, self.average, self.pictures = folder, every, average, pictures
        self._batch: Batch | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: CompressionModule, *_: Any) -> None:
        seen = pl_module.batches_seen
        if not trainer.is_global_zero or not due(seen, self.every):
            return
        self._batch = self._batch or fixed_pictures(trainer, pl_module, self.pictures)
        with self.average.in_place(pl_module) if self.average else nullcontext():
            drawn = draw(trainer, pl_module, self._batch)
        with atomic_file(self.folder / "panels" / f"{seen:07d}.png") as file:
            picture_grid(drawn.pictures).save(file, format="PNG")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows = [
                    picture_grid({title: shown[k : k + 1] for title, shown in drawn.pictures.items()})
                    for k in range(len(drawn.captions))
                ]
                logger.log_image("panels", rows, step=seen, caption=drawn.captions)


def due(batch: int, every: int) -> bool:
    """Whether something that happens each ``every`` batches (0: never) happens after ``batch`` of them."""
    return every > 0 and batch % every == 0


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's tensors, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
