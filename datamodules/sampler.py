"""Which samples a batch holds: pure functions of the seed and of numbers that count from the run's start."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch.distributed as dist
from torch.utils.data import Sampler


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class StreamSampler(Sampler[list[tuple[int, int]]]):
    """An endless stream of training batches, each a list of (index, key).

    The key is the global number of a sample, ``(batch · world + rank) · batch_size + slot``; the index is the
    key's place in a permutation drawn anew for each pass. So a run resumed at ``start_batch`` sees what the
    uninterrupted run would have seen, and global batch b is the same set whatever rank holds which part.

    Args:
        length: number of pictures.
        batch_size: samples a rank and batch.
        seed: of the permutations.
        start_batch: number of the first batch.
        rank, world: this process among all.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, start_batch: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.start_batch, self.rank, self.world = start_batch, rank, world

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number, drawn, order = self.start_batch, -1, np.empty(0, np.int64)
        while True:
            first = (number * self.world + self.rank) * self.batch_size
            batch = []
            for key in range(first, first + self.batch_size):
                turn, place = divmod(key, self.length)
                if turn != drawn:
                    drawn, order = turn, np.random.default_rng([self.seed, turn]).permutation(self.length)
                batch.append((int(order[place]), key))
            yield batch
            number += 1


class OnceSampler(Sampler[list[int]]):
    """Batches of indices that hold each of ``length`` pictures exactly once over all ranks.

    Every rank has the same number of batches, so that collective operations stay in step; batches differ by
    at most one in size and nothing is padded. (Where ranks would run dry, batches of one more than
    ``batch_size`` make up for it.)

    Raises:
        ValueError: fewer pictures than ranks.
    """

    def __init__(self, length: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        if length < world:
            raise ValueError(f"{length} pictures cannot be shared by {world} ranks: use at most {length}")
        batches = min(-(-length // (batch_size * world)), length // world)
        self.batches = np.array_split(np.arange(length), batches * world)[rank::world]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)
