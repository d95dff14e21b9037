"""In which order reports come: seeded, the same for any number of workers, and told by two numbers where it stands.

Training is one endless stream: the reports of epoch 0 in a random order, then those of epoch 1 in another … cut into batches
of equal size. So every report comes once an epoch, no batch is shorter than another and nothing is dropped; a batch may hold
the last reports of an epoch and the first of the next. Epoch e is the batches ⌈e·n/G⌉ … ⌈(e+1)·n/G⌉ − 1, where n are the
reports and G is the batch size times the ranks; of each, rank r takes the r-th piece.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trainer.data.ragged import Rows


@dataclass(frozen=True)
class Order:
    """The order of `count` items in training."""

    count: int
    batch_size: int  # of one rank
    seed: int
    rank: int = 0
    world_size: int = 1

    def first_step(self, epoch: int) -> int:
        """The first batch of an epoch, counted from the beginning of the training."""
        return -(-epoch * self.count // (self.batch_size * self.world_size))

    def batch(self, step: int) -> tuple[Rows, Rows]:
        """The items of this rank's batch, and the epoch that each belongs to."""
        first = (step * self.world_size + self.rank) * self.batch_size
        epochs, places = np.divmod(np.arange(first, first + self.batch_size), self.count)
        items = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            of_epoch = epochs == epoch
            items[of_epoch] = _permutation(self.count, self.seed, int(epoch))[places[of_epoch]]
        return items, epochs


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    # 40 MB for 5 million reports, and the same by any number of processes; no buffer limits how well they are mixed.
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)


def choice(counts: Rows, keys: Rows, epochs: Rows, seed: int) -> Rows:
    """For each key and epoch one of `counts` possibilities, always the same one (splitmix64 of all three)."""
    with np.errstate(over="ignore"):
        mixed = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + epochs.astype(np.uint64)
        for word in (np.uint64(seed % 2**64), np.uint64(0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) + word
        mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(32)) % counts.astype(np.uint64)).astype(np.int64)
