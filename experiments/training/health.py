"""What goes wrong in a training without an error of its own: NaN and infinity, a game that one side has won, centres
that nothing is coded with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from genic.datamodules.batch import Batch
from genic.experiments.training.callbacks import due
from genic.lightning_modules.base import CompressionModule
from genic.lightning_modules.codec.errors import DivergedError

WON = 0.01
"""Of the smaller of the two sides' losses in the greater one: below it the game of D and G is lost."""
PATIENCE = 10
"""Logging intervals in a row after which something is warned about."""


class Health(pl.Callback):
    """Stops at NaN or infinity, or counts the batches left out, as ``train.non_finite`` has it; warns of the rest.

    No step is made on a gradient that is not finite (`CompressionModule.update`), so the weights stay as they were.
    On a CPU every batch is looked at. On a GPU, and on several processes, that is done at logging intervals and before
    checkpoints, so that no batch waits for it: of the batches before, only gradients are known then.

    Attributes:
        skipped: batches left out since the run's start.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._norms: list[tuple[int, dict[str, tuple[list[nn.Parameter], Tensor]]]] = []
        self._in_a_row: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: CompressionModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        t, seen = pl_module.config.train, pl_module.batches_seen
        self._norms.append((seen, pl_module.gradient_norms))
        pl_module.gradient_norms = {}
        logging = due(seen, t.log_every)
        alone = trainer.world_size == 1 and pl_module.device.type == "cpu"
        if not (alone or logging or due(seen, t.checkpoint_every) or trainer.should_stop):
            return
        found = self._found(trainer, pl_module, batch)
        self._norms.clear()
        if trainer.world_size > 1:
            all_found: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(all_found, found)
            found = max(all_found, key=len)
        if found and t.non_finite == "stop":
            raise DivergedError(
                f"{'; '.join(found.values())}. The weights are those before it: go on from the last checkpoint with "
                "a lower train.learning_rate or train.clip, or with train.non_finite=skip"
            )
        self.skipped += len(found)
        for told in found.values():
            rank_zero_warn(f"left out, the {self.skipped}. so far: {told}")
        if logging:
            if t.non_finite == "skip":
                pl_module.log("health/skipped", float(self.skipped))
            self._warn(trainer.callback_metrics)

    def _found(self, trainer: pl.Trainer, module: CompressionModule, batch: Batch) -> dict[int, str]:
        """What to say of each batch since the last look that had NaN or infinity."""
        seen = module.batches_seen
        values = {k: v for k, v in trainer.callback_metrics.items() if k.startswith(("loss/", "rate/"))}
        norms = [norm for _, by_name in self._norms for _, norm in by_name.values()]
        every = torch.cat([part.flatten().float() for part in (*values.values(), *norms)] or [torch.zeros(0)])
        if bool(every.isfinite().all()):  # the one question that waits for the device
            return {}
        told: dict[int, str] = {}
        for number, by_name in self._norms:
            terms = [k for k, v in values.items() if number == seen and not v.isfinite()]
            layers = [
                _layers(module, name, *norms)
                for name, norms in by_name.items()
                if not norms[1].isfinite().all()
            ]
            for name in terms:
                trainer.callback_metrics.pop(name)  # it would be there until it is logged again
            if terms or layers:
                # One process alone would wait for the others on its way through the batch.
                again = number == seen and trainer.world_size == 1
                where = _origin(trainer, module, batch) if again else ""
                told[number] = f"NaN or infinity in batch {number}: {', '.join([*terms, *layers])}{where}"
        return told

    def _warn(self, logged: Mapping[str, Tensor]) -> None:
        sides = [float(logged.get(f"loss/{side}", 0)) for side in ("discriminator", "adversarial")]
        won = min(sides) > 0 and min(sides) < WON * max(sides)
        winner = "the discriminator" if sides[0] < sides[1] else "the generator"
        advice = "change train.adversarial_weight or the discriminator's widths"
        self._if_it_lasts(
            "won", won, f"{winner} has won, with a loss below {WON:.0%} of the other's: {advice}"
        )
        dead = float(logged.get("centres/used", 1)) < 1
        self._if_it_lasts("dead", dead, "some centres of the quantiser are not used: lower the rate's weight")

    def _if_it_lasts(self, what: str, bad: bool, message: str) -> None:
        self._in_a_row[what] = self._in_a_row.get(what, 0) + 1 if bad else 0
        if self._in_a_row[what] == PATIENCE:
            rank_zero_warn(f"{message} (at {PATIENCE} logged batches in a row)")


def _layers(module: CompressionModule, optimiser: str, parameters: list[nn.Parameter], norms: Tensor) -> str:
    """The parameters of an optimiser whose gradients are not finite."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    good = norms.isfinite().tolist()
    bad = [names[p] for p, fine in zip(parameters, good, strict=True) if not fine]
    return f"the {optimiser}'s gradient of {bad[0]} ({len(bad)} of {len(good)} parameters)"


def _origin(trainer: pl.Trainer, module: CompressionModule, batch: Batch) -> str:
    """The first layer that makes NaN or infinity of finite values, by going through the batch again."""
    names = {part: name for name, part in module.named_modules()}

    def look(part: nn.Module, given: Any, made: Any) -> None:
        if not _finite(made) and _finite(given):
            raise _FoundError(f"{names.get(part, 'a function')} ({type(part).__name__})")

    # A compiled network calls no hooks.
    eagerly, context = torch.compiler.set_stance("force_eager"), trainer.precision_plugin.train_step_context()
    with _unchanged(module), register_module_forward_hook(look), eagerly, context:
        module.on_train_batch_start(batch, 0)
        try:
            module.loss_step(batch)
        except _FoundError as found:
            return f"; it begins in {found}"
    return "; every layer's output is finite: it begins in a loss, or on the way back"


class _FoundError(Exception):
    pass


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return all(map(_finite, value)) if isinstance(value, (tuple, list)) else True


@contextmanager
def _unchanged(module: CompressionModule) -> Iterator[None]:
    """The batch may be gone through again: nothing is learnt or logged, buffers and the clock are put back."""
    buffers = {buffer: buffer.clone() for buffer in module.buffers()}
    changed: dict[str, Any] = {name: lambda *_, **__: None for name in ("update", "log", "log_dict")}
    vars(module).update(changed)
    module.batches_seen -= 1
    try:
        yield
    finally:
        module.batches_seen += 1
        for name in changed:
            del vars(module)[name]
        for buffer, before in buffers.items():
            buffer.copy_(before)
