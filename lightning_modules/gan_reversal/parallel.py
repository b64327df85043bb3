"""Several searches at a time on a CPU, each with one thread.

A search is a chain of small steps. More threads within each step hardly speed it up, and where other programs use the
cores they wait for one another: ten steps on a 768×512 picture then took 28 s of processor time instead of 3 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_parallel(function: Callable[[Task], Result], tasks: Sequence[Task], device: str) -> list[Result]:
    """``function`` of each task, in their order; on a CPU in as many threads as torch may use, one thread each.

    Results do not depend on the number of threads. Raises what ``function`` raises.
    """
    threads = torch.get_num_threads()
    if device != "cpu" or threads == 1:
        return [function(task) for task in tasks]
    try:
        # The number of threads within an operation is each thread's own.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, tasks))
    finally:
        torch.set_num_threads(threads)
