"""What a run shows while it trains: a bar on a terminal, a line an interval elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from genic.experiments.training.callbacks import Meters, due
from genic.lightning_modules.base import CompressionModule


class ProgressDisplay(pl.Callback):
    """Batches done and to go, pictures a second, and what was last logged, on rank zero.

    Lightning's `RichProgressBar` shows epochs, of which a run has one without an end, and nothing off a terminal.

    Args:
        batches: length of the run.
        max_time: the run ends after it, however few its batches were.
        meters: knows the speed.
        console: where to; standard output by default.
    """

    def __init__(
        self,
        batches: int,
        meters: Meters,
        max_time: timedelta | None = None,
        console: Console | None = None,
    ) -> None:
        self.batches, self.meters, self.max_time = batches, meters, max_time
        self.console = console or Console(soft_wrap=True)
        self._bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: CompressionModule) -> None:
        self._started = time.monotonic()
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"))
        more = (TimeRemainingColumn(), TextColumn("{task.fields[values]}"))
        self._bar = Progress(*columns, *more, console=self.console)
        part, done = self._done(pl_module.batches_seen)
        start: Any = part  # typed as whole numbers
        self._task = self._bar.add_task(pl_module.paper, total=1.0, completed=start, done=done, values="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: CompressionModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        seen = pl_module.batches_seen
        part, done = self._done(seen)
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]  # undeclared
        logging = due(seen, every)
        if self._bar is not None:
            self._bar.update(self._task, completed=part, done=done)
            if logging:
                self._bar.update(self._task, values=self._values(trainer))
        elif logging:
            line = f"{time.strftime('%H:%M:%S')} batch {done}  {self._values(trainer)}"
            self.console.print(line, highlight=False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: CompressionModule) -> None:
        if trainer.is_global_zero and (values := _format(trainer, "validation/")):
            self.console.print(f"validated at batch {pl_module.batches_seen}  {values}", highlight=False)

    def teardown(self, trainer: pl.Trainer, pl_module: CompressionModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _done(self, seen: int) -> tuple[float, str]:
        """Share of the run that is over, by batches or by time, and the same in words."""
        part, words = seen / self.batches, f"{seen}/{self.batches}"
        if self.max_time is None:
            return part, words
        elapsed = timedelta(seconds=round(time.monotonic() - self._started))
        over = elapsed / self.max_time if self.max_time else 1.0
        return max(part, over), f"{words}, {elapsed} of {self.max_time} at most"

    def _values(self, trainer: pl.Trainer) -> str:
        losses = "  ".join(filter(None, (_format(trainer, "loss/"), _format(trainer, "rate/"))))
        return f"{self.meters.images_per_second:.1f} images/s  {losses}"


def _format(trainer: pl.Trainer, group: str) -> str:
    values = trainer.callback_metrics.items()
    return "  ".join(f"{k.removeprefix(group)} {float(v):.4g}" for k, v in values if k.startswith(group))
