"""Masks as run lengths: the relative pairs of SIIM-ACR, the counts of COCO, and COCO's counts packed into a string.

All of them go column by column, from the top of each. A mask is an array of bool of shape (height, width).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mask_of_relative_pairs(pairs: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """The mask of pairs (pixels left out since the end of the run before, pixels of the run).

    Raises ValueError if they are not pairs, are negative, or run beyond the image.
    """
    if len(pairs) % 2 or not pairs:
        raise ValueError("the run lengths are not pairs")
    return mask_of_counts(pairs, width, height, whole=False)


def mask_of_counts(counts: Sequence[int], width: int, height: int, *, whole: bool = True) -> NDArray[np.bool_]:
    """The mask of counts of pixels outside, inside, outside and so on.

    Raises ValueError if one is negative or they do not cover the image; `whole=False`: if they run beyond it.
    """
    total = sum(counts)
    if any(count < 0 for count in counts):
        raise ValueError("a run length is negative")
    if total > width * height or (whole and total < width * height):
        raise ValueError(f"the runs cover {total:,} pixels, the image has {width * height:,}")
    runs = np.asarray(counts, dtype=np.int64)
    flat = np.zeros(width * height, dtype=bool)
    flat[:total] = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T


def counts_of_mask(mask: NDArray[np.bool_]) -> list[int]:
    """The counts of a mask: pixels outside (0 where it begins inside), inside, outside and so on."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size])))
    return ([0] if flat[0] else []) + [int(run) for run in runs]


def unpack_counts(packed: str) -> list[int]:
    """The counts in a string of COCO's format: six bits a character, low bits first, from the fourth
    count on the change to the last but one.

    Of the six bits, from `0` (48) on, five are of the number, and the sixth says that more follow; the highest of the last
    five is the sign. Raises ValueError if it is no such string.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in packed:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError("the packed run lengths hold a character that cannot be")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the packed run lengths are cut off")
    return counts
