"""Configurations: what the papers' have in common.

A paper's configuration is a dataclass of three parts, each a dataclass: ``model``, all that decoding needs and the
identity of weights hashes; ``train``, a `TrainConfig` with the paper's losses and schedules; ``coding``, the effort and
the defaults of encoding, which need no training. It checks itself whenever one is made (`PaperConfig`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from genic.lightning_modules.codec.errors import ConfigError
from genic.lightning_modules.codec.options import check_known

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
        compile: have torch compile the networks; pays after some minutes of training.
        accumulate: batches of which the optimisers take the mean gradient for one step; the clock stays batches.
        checkpoint_activations: compute features again in the backward pass, in place of keeping them.
        average_weights: decay per step of a moving average of the weights, which is what is validated, drawn and
            exported; 0 for none.
        initialise_from: weights to start from, e.g. of an earlier stage: a preset, a file or a run's folder.
        evaluate: data set on which the final weights are measured as a codec; null for none.
        non_finite: what NaN or infinity in a loss or gradient does: ``stop`` the run, or ``skip`` the step, counted.
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
    compile: bool = False
    accumulate: int = 1
    checkpoint_activations: bool = False
    average_weights: float = 0.0
    initialise_from: str | None = None
    evaluate: str | None = "sample"
    non_finite: str = "stop"
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

    def changed(self, options: Mapping[str, object]) -> Self:
        """These with others in place; `ConfigError` for an option that there is not."""
        check_known(options, [field.name for field in fields(self)], "encoding")
        return replace(self, **options)


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
        t = Fields("train", self.train)
        t.at_least(1, "batches", "log_every", "accumulate")
        t.at_least(0, "validate_every", "panels_every", "checkpoint_every", "keep_every")
        t.one_of(PRECISIONS, "precision")
        t.one_of(("stop", "skip"), "non_finite")
        t.above(0, "learning_rate", "clip")
        t.require("average_weights", 0 <= self.train.average_weights < 1, "0 or more and below 1")
        for field in (
            "batches",
            "checkpoint_every",
        ):  # gradients that wait for their step are in no checkpoint
            whole = getattr(self.train, field) % self.train.accumulate == 0
            t.require(field, whole, f"a multiple of train.accumulate={self.train.accumulate}")


@dataclass(frozen=True)
class Fields:
    """Checks of the fields of one part of a configuration; each raises a `ConfigError` that names the field.

    Attributes:
        name: of the part. part: its dataclass.
    """

    name: str
    part: Any

    def require(self, field: str, good: object, needed: str) -> None:
        """What is ``needed`` of the field's value, and whether it is so."""
        value = getattr(self.part, field)
        shown = repr(value) if isinstance(value, str) else value
        require(bool(good), f"{self.name}.{field}", shown, needed)

    def at_least(self, least: float, *fields: str) -> None:
        """Every one of the fields is a number not below ``least``."""
        for field in fields:
            self.require(field, getattr(self.part, field) >= least, f"{least} or more")

    def above(self, bound: float, *fields: str) -> None:
        """Every one of the fields is a number above ``bound``."""
        for field in fields:
            self.require(field, getattr(self.part, field) > bound, f"more than {bound}")

    def between(self, least: float, most: float, *fields: str) -> None:
        """Every one of the fields is a number from ``least`` to ``most``."""
        for field in fields:
            self.require(field, least <= getattr(self.part, field) <= most, f"{least} to {most}")

    def one_of(self, known: Collection[str], field: str) -> None:
        """The field is one of the known words."""
        self.require(field, getattr(self.part, field) in known, f"one of {', '.join(known)}")

    def lists(self, *fields: str) -> None:
        """Every one of the fields is a list of one number or more, each 1 or more."""
        for field in fields:
            value = getattr(self.part, field)
            self.require(field, value and min(value) >= 1, "one number or more, each 1 or more")

    def counts(self, count: int, field: str, of: str) -> None:
        """The field is a list of ``count`` values, one for each ``of``."""
        self.require(field, len(getattr(self.part, field)) == count, f"one value for each of {count} {of}")


def require(condition: bool, field: str, value: object, needed: str) -> None:
    """Raise a `ConfigError` that names the ``field`` and what is ``needed`` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{field} is {value}: {needed} is needed")
