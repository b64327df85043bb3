"""Configurations: what the papers' have in common.

A paper's configuration is a dataclass of three parts, each a dataclass: ``model``, all that decoding needs and the
identity of weights hashes; ``train``, a `TrainConfig` with the paper's losses and schedules; ``coding``, the effort and
the defaults of encoding, which need no training. It checks itself whenever one is made (`PaperConfig`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_modules.codec.errors import ConfigError

PRECISIONS = ("auto", "32", "bf16")


@dataclass
class TrainConfig:
    """What training takes, whichever the paper. Intervals count training batches; 0 means never.

    Attributes:
        batches: length of the run.
        log_every, validate_every, panels_every: intervals of metrics, validation and image panels.
        checkpoint_every: interval of ``last.ckpt`` and ``last.safetensors``, also written at the end.
        keep_every: interval of numbered weights, which are kept.
        precision: ``32``; ``bf16`` for autocast to bfloat16 with float32 weights; ``auto`` for the latter where the
            hardware computes in it.
        channels_last: memory format of the weights, and so of the features.
        initialise_from: weights to start from, e.g. of an earlier stage: a preset, a file or a run's folder.
        evaluate: data set on which the final weights are measured as a codec; null for none.
        clip: bound on the norm of each network's gradient.
        learning_rate: of Adam, for every network unless the paper says otherwise.
        decay_from, decay_to: batches between which it falls, in a straight line.
        decay_factor: what is left of it from ``decay_to`` on.
    """

    batches: int = 100_000
    log_every: int = 50
    validate_every: int = 2_000
    panels_every: int = 2_000
    checkpoint_every: int = 1_000
    keep_every: int = 50_000
    precision: str = "auto"
    channels_last: bool = True
    initialise_from: str | None = None
    evaluate: str | None = "sample"
    clip: float = 1.0
    learning_rate: float = 1e-4
    decay_from: int = 1_000_000
    decay_to: int = 1_000_000
    decay_factor: float = 1.0

    def learning_rate_factor(self, batch: int) -> float:
        """Factor on ``learning_rate`` at batch number ``batch``."""
        done = min(max((batch - self.decay_from) / max(self.decay_to - self.decay_from, 1), 0.0), 1.0)
        return 1.0 + (self.decay_factor - 1.0) * done


@dataclass
class CodingConfig:
    """What encoding takes beside the weights; papers without such options have no field."""


@dataclass
class PaperConfig:
    """Root of the papers' configurations: a subclass gives the parts their types and defaults.

    Attributes:
        model, train, coding: see the module's docstring.

    Raises:
        ConfigError: a value is out of range, or values do not go together; the message names the field.
    """

    model: Any
    train: Any
    coding: Any

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` on what cannot be trained or decoded; subclasses extend it."""
        t = self.train
        for key in ("batches", "log_every"):
            require(getattr(t, key) >= 1, f"train.{key}", getattr(t, key), "at least 1")
        for key in ("validate_every", "panels_every", "checkpoint_every", "keep_every"):
            require(getattr(t, key) >= 0, f"train.{key}", getattr(t, key), "0 (never) or more")
        require(
            t.precision in PRECISIONS, "train.precision", repr(t.precision), f"one of {', '.join(PRECISIONS)}"
        )
        require(t.learning_rate > 0, "train.learning_rate", t.learning_rate, "more than 0")
        require(t.clip > 0, "train.clip", t.clip, "more than 0")


def require(condition: bool, field: str, value: object, needed: str) -> None:
    """Raise a `ConfigError` that names the ``field`` and what is ``needed`` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{field} is {value}: {needed} is needed")
