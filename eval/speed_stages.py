"""Where the time of a call goes: functions timed from outside, the code itself untouched."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def watch(
    stages: list[tuple[Any, str, str]], clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, float]]:
    """Seconds spent in functions while the block runs.

    Args:
        stages: (owner, attribute, name of the stage): a class and its method, or a module and its ``forward``.
            Stages should not call each other: each counts all the time until its functions return.
        clock: what is read.

    Yields:
        Seconds by stage; complete once the block has ended.
    """
    seconds: dict[str, float] = defaultdict(float)
    originals = []
    for owner, attribute, stage in stages:
        own = attribute in vars(owner)
        original = getattr(owner, attribute)
        originals.append((owner, attribute, own, original))
        setattr(owner, attribute, _timed(original, stage, seconds, clock))
    try:
        yield seconds
    finally:
        for owner, attribute, own, original in reversed(originals):
            if own:
                setattr(owner, attribute, original)
            else:
                delattr(owner, attribute)


def _timed(function: Callable, stage: str, seconds: dict[str, float], clock: Callable[[], float]) -> Callable:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[stage] += clock() - start

    return timed
