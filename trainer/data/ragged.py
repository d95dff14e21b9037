"""Rows of different lengths, one after the other, with offsets: how they are taken and padded without a loop over rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.int64]


def offsets_of(lengths: NDArray[Any]) -> Rows:
    """Where each row begins, and where the last one ends: one more than `lengths`."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def places(offsets: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Places of the items of some rows in the flat arrays, in the order of `rows`; and the length of each row."""
    starts = np.asarray(offsets[rows])
    lengths = offsets[rows + 1] - starts
    shift = np.repeat(starts - offsets_of(lengths)[:-1], lengths)
    return np.arange(len(shift)) + shift, lengths


def owners(lengths: Rows) -> Rows:
    """For each item the row that it is in."""
    return np.repeat(np.arange(len(lengths)), lengths)


def padded(items: NDArray[np.int32], lengths: Rows, fill: int, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Rows filled up to the longest one (rounded up to a `multiple`), and the mask of what is not filling. int64, (rows, longest)"""
    import torch

    longest = max(1, int(lengths.max(initial=1)))
    mask = np.arange(-(-longest // multiple) * multiple) < lengths[:, None]
    result = np.full(mask.shape, fill, np.int64)
    result[mask] = items
    return torch.from_numpy(result), torch.from_numpy(mask.astype(np.int64))
