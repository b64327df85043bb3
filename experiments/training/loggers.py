"""Where metrics go: always a JSONL file; besides it Weights & Biases or a CSV file."""

from __future__ import annotations

import csv
import json
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from genic.experiments import dashboard
from genic.experiments.training.folder import METRICS
from genic.lightning_modules.codec.files import atomic_file


class JsonlLogger(Logger):
    """One JSON object a logging event: ``batch``, ``seconds`` of training so far, and the values.

    Lightning's `CSVLogger` rewrites its whole file for each new column, deletes the file of before when a run is
    resumed, and counts no seconds.

    Args:
        folder: of the run.
        start_batch: where a resumed run starts. Later lines of an earlier attempt are removed, since their
            batches are about to be trained again.
        as_csv: also write ``metrics.csv`` at the end, one column a value.
    """

    def __init__(self, folder: Path, start_batch: int = 0, as_csv: bool = False) -> None:
        super().__init__()
        self.path, self.start_batch, self.as_csv = folder / METRICS, start_batch, as_csv
        self._since = time.monotonic()
        self._before: float | None = None
        self._last: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Of the experiment: the parent folder's."""
        return self.path.parent.parent.name

    @property
    def version(self) -> str:
        """The run folder's name."""
        return self.path.parent.name

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line, once for what is said twice (`Checkpoints`); ``step`` is a number of batches."""
        if self._before is None:
            self._before = self._resume()
        seconds = round(self._before + time.monotonic() - self._since, 3)
        # Lightning keeps values in float32: more than seven digits would be noise. JSON has no NaN.
        values = {k: float(f"{v:.7g}") if math.isfinite(v) else str(v) for k, v in metrics.items()}
        if {"batch": step, **values} == self._last:
            return
        self._last = {"batch": step, **values}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"batch": step, "seconds": seconds, **values}) + "\n")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the CSV file where one is wanted."""
        if not self.as_csv or not self.path.is_file():
            return
        lines = read_metrics(self.path)
        columns = list(dict.fromkeys(key for line in lines for key in line))
        with open(self.path.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(lines)

    def _resume(self) -> float:
        """Remove lines after the first batch of this run; the seconds of what is left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            return 0.0
        kept = [line for line in read_metrics(self.path) if line["batch"] <= self.start_batch]
        with atomic_file(self.path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in kept).encode())
        return max((line["seconds"] for line in kept), default=0.0)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; a last line cut short by a crash is left out."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class BatchLogger(WandbLogger):
    """Weights & Biases by batch: its own step, too, so that what a resumed run repeats takes the place it had.

    Args:
        folder: of the run; ``wandb.id`` in it is the W&B run's identity, which a resumed run keeps.
        config: of the whole run.
        start_batch: where a resumed run starts. What `JsonlLogger` holds of the batches before is said again where W&B
            does not have it, as its own process keeps much in memory, which is lost with a run that is killed.

    Raises:
        ToolError: wandb is not installed.
    """

    def __init__(self, folder: Path, config: dict[str, Any], start_batch: int = 0) -> None:
        lines = read_metrics(folder / METRICS) if start_batch and (folder / METRICS).is_file() else []
        self._before = [line for line in lines if line["batch"] <= start_batch]
        first = rank_zero_only.rank == 0
        settings = dashboard.settings(folder, f"{folder.parent.name}/{folder.name}", first)
        found = dashboard.identity(folder, first)
        super().__init__(save_dir=settings.pop("dir"), **settings, id=found, job_type="train", config=config)
        self._wandb_init.pop(
            "anonymous", None
        )  # Lightning passes it on, and wandb warns that it means nothing now

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """One row a batch; ``trainer/global_step``, Lightning's name of the axis, is the batch, too."""
        before, self._before = self._before, []
        for line in before:
            if (batch := line["batch"]) >= self.experiment.starting_step:
                values = {k: float(v) for k, v in line.items() if k not in ("batch", "seconds")}
                self.experiment.log({**values, "trainer/global_step": batch}, step=batch)
        where = {} if step is None else {"trainer/global_step": step}
        self.experiment.log({**metrics, **where}, step=step)
