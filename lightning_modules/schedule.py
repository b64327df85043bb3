"""The learning rate's settings, which the configurations of all papers share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Schedule:
    """Constant, then a straight line, then constant; counted in batches.

    Attributes:
        learning_rate: of Adam, for every network unless the paper's configuration says otherwise.
        decay_from, decay_to: batches between which it falls.
        decay_factor: what is left of it from ``decay_to`` on.
    """

    learning_rate: float = 1e-4
    decay_from: int = 1_000_000
    decay_to: int = 1_000_000
    decay_factor: float = 1.0

    def learning_rate_factor(self, batch: int) -> float:
        """Factor on ``learning_rate`` at batch number ``batch``."""
        done = min(max((batch - self.decay_from) / max(self.decay_to - self.decay_from, 1), 0.0), 1.0)
        return 1.0 + (self.decay_factor - 1.0) * done
