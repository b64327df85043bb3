"""Several searches at a time on a CPU, each with one thread.

A search is a chain of small steps, which more threads within each step hardly speed up; side by side, searches keep
every core busy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_lanes(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """``function`` of each task, in their order, on as many threads as torch may use; raises what it raises."""
    threads = torch.get_num_threads()
    count = min(threads, len(tasks))
    if count < 2:
        return [function(task) for task in tasks]
    try:
        # The number of threads within an operation is each thread's own.
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, tasks))
    finally:
        torch.set_num_threads(threads)
