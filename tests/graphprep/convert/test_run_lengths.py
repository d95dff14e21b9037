"""Run lengths against masks that are drawn pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from graphprep.convert.run_lengths import counts_of_mask, mask_of_counts, mask_of_relative_pairs, unpack_counts

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def packed(counts: list[int]) -> str:
    """The string of COCO's format for counts."""
    characters = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            characters.append(chr(bits + 32 * more + 48))
    return "".join(characters)


def test_relative_pairs_go_down_the_columns() -> None:
    mask = mask_of_relative_pairs([1, 2, 3, 1], width=3, height=4)
    expected = [
        [0, 0, 0],
        [1, 0, 0],
        [1, 1, 0],
        [0, 0, 0],
    ]
    assert mask.astype(int).tolist() == expected


@pytest.mark.parametrize("pairs", [[], [1], [3, 10], [-1, 2], [0, -1]])
def test_wrong_pairs_are_refused(pairs: list[int]) -> None:
    with pytest.raises(ValueError, match="run"):
        mask_of_relative_pairs(pairs, width=3, height=4)


@given(MASKS)
def test_counts_give_the_mask_again(mask: NDArray[np.bool_]) -> None:
    counts = counts_of_mask(mask)
    assert all(count > 0 for count in counts[1:])
    assert np.array_equal(mask_of_counts(counts, mask.shape[1], mask.shape[0]), mask)


@given(st.lists(st.integers(0, 1 << 20)))
def test_packed_counts_are_unpacked(counts: list[int]) -> None:
    assert unpack_counts(packed(counts)) == counts


def test_a_packed_string_by_hand() -> None:
    # 1 → '1'; 40 = 8 + 1 · 32 → 'X1' (8 + 32 + 48 = 'X'); 16 needs a second character, or it would be negative → '`0'.
    assert unpack_counts("1X1`0") == [1, 40, 16]
    # The fourth count is the change to the second: 38 - 40 = -2 → 30 + 48 = 'N'.
    assert unpack_counts("1X1`0N") == [1, 40, 16, 38]


@pytest.mark.parametrize("text", ["X", " ", "1é"])
def test_strings_that_are_not_packed_counts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed"):
        unpack_counts(text)


def test_counts_must_cover_the_image() -> None:
    with pytest.raises(ValueError, match="cover"):
        mask_of_counts([3, 2], 2, 3)
    with pytest.raises(ValueError, match="negative"):
        mask_of_counts([7, -1], 2, 3)
