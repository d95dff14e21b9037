"""Chance that is the same on every machine: a keyed stream of numbers for each thing that is drawn.

A stream depends on its key alone, so that neither the order of the images nor the number of workers changes anything. Only
the raw bits of PCG64 and exact arithmetic are used; normal draws of NumPy go through a logarithm, whose last bit is not
the same everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
T = TypeVar("T")

_UNIT = 1.0 / 9007199254740992.0  # 2**-53


def seed_of(*key: int | str) -> int:
    """A seed of 63 bits that stands for this key."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Draws:
    """A stream of random numbers, by its key."""

    def __init__(self, *key: int | str) -> None:
        self._bits = np.random.PCG64(seed_of(*key))

    def unit(self) -> float:
        """A number from 0 up to, but not including, 1."""
        return float(int(self._bits.random_raw()) >> 11) * _UNIT

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def bell(self, middle: float, spread: float) -> float:
        """A bell-shaped number within `middle` ± 3 `spread`, its standard deviation `spread`."""
        return middle + 2.0 * spread * (self.unit() + self.unit() + self.unit() - 1.5)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def sign(self) -> float:
        return 1.0 if self.unit() < 0.5 else -1.0

    def pick(self, among: Sequence[T]) -> T:
        return among[self.integer(0, len(among) - 1)]

    def weighted(self, among: Mapping[T, float]) -> T:
        """One of the keys, as often as its weight says."""
        rest = self.unit() * sum(among.values())
        for key, weight in among.items():
            rest -= weight
            if rest < 0.0:
                return key
        return key

    def lattice(self, rows: int, columns: int) -> Floats:
        """(rows, columns), each from -1 to 1."""
        raw = self._bits.random_raw(rows * columns) >> np.uint64(40)
        values: Floats = raw.astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)
        return values.reshape(rows, columns)

    def grain(self, size: int) -> Floats:
        """(size, size) noise of a detector: near normal, with mean 0 and deviation 1, as sums of four bytes."""
        raw = self._bits.random_raw((size * size + 1) // 2)
        four = raw.astype("<u8").view(np.uint8).reshape(-1, 4).astype(np.int16)
        total = four[:, 0] + four[:, 1] + four[:, 2] + four[:, 3]
        values: Floats = (total[: size * size] - 510).astype(np.float32) * np.float32(1.0 / 147.8)
        return values.reshape(size, size)
