"""Where metrics go: always a JSONL file; besides it Weights & Biases or a CSV file."""

from __future__ import annotations

import csv
import json
import math
import os
import secrets
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from genic.eval.schema import CodecResult, Means
from genic.experiments.training.folder import METRICS
from genic.lightning_modules.codec.errors import ToolError
from genic.lightning_modules.codec.files import atomic_file

PROJECT = "genic"


class JsonlLogger(Logger):
    """One JSON object a logging event: ``batch``, ``seconds`` of training so far, and the values.

    Lightning's `CSVLogger` rewrites its whole file for each new column, and neither goes back to the checkpoint that a
    run is resumed from nor counts the seconds before it.

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
        """Append a line; ``step`` is a number of batches."""
        if self._before is None:
            self._before = self._resume()
        seconds = round(self._before + time.monotonic() - self._since, 3)
        # Lightning keeps values in float32: more than seven digits would be noise. JSON has no NaN.
        values = {k: float(f"{v:.7g}") if math.isfinite(v) else str(v) for k, v in metrics.items()}
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


def make_wandb_logger(folder: Path, config: dict[str, Any]) -> WandbLogger:
    """Weights & Biases: online with an account, else offline below ``folder``.

    A run that is resumed keeps its identity, stored in ``wandb.id``.

    Raises:
        ToolError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError:
        raise ToolError("wandb is not installed: pip install wandb, or give --logger csv") from None
    # Of the environment's modes, wandb takes care itself.
    offline = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False)
    stored = folder / "wandb.id"
    identity = stored.read_text().strip() if stored.is_file() else secrets.token_hex(4)
    if rank_zero_only.rank == 0:
        with atomic_file(stored) as file:
            file.write(identity.encode())
    logger = WandbLogger(
        project=PROJECT,
        name=f"{folder.parent.name}/{folder.name}",
        save_dir=str(folder),
        id=identity,
        mode="offline" if offline else None,
        config=config,
        settings=wandb.Settings(quiet=True),
    )
    logger._wandb_init.pop(
        "anonymous", None
    )  # Lightning passes it on, and wandb warns that it means nothing now
    return logger


@rank_zero_only
def finish_wandb(logger: WandbLogger) -> None:
    """Flush, and say how an offline run gets online."""
    directory = Path(logger.experiment.dir).parent
    offline = bool(logger.experiment.settings._offline)
    logger.experiment.finish()
    if offline:
        print(f"Weights & Biases has no account here: the run is in {directory}\n    wandb sync {directory}")


def log_table(logger: WandbLogger, result: CodecResult) -> None:
    """The means of each quality as a table in Weights & Biases."""
    columns = ["quality", *(field.name for field in fields(Means))]
    rows = [[point.quality, *astuple(point.mean)] for point in result.points]
    logger.log_table(f"rd/{result.data}", columns=columns, data=rows)
