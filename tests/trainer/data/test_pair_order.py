"""The order of training: every item once an epoch, over all ranks, and the same wherever it is entered."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.order import Order, choice
from trainer.data.ragged import offsets_of, owners, padded, places


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**40))
def test_every_item_comes_once_an_epoch_over_all_ranks(count: int, batch: int, ranks: int, seed: int) -> None:
    orders = [Order(count, batch, seed, rank, ranks) for rank in range(ranks)]
    seen: dict[int, list[int]] = {}
    for step in range(orders[0].first_step(3)):
        for order in orders:
            items, epochs = order.batch(step)
            assert len(items) == batch
            for item, epoch in zip(items.tolist(), epochs.tolist(), strict=True):
                seen.setdefault(epoch, []).append(item)
    for epoch in range(3):
        assert sorted(seen[epoch]) == list(range(count))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 4), st.integers(0, 20))
def test_epochs_follow_each_other_without_gap(count: int, batch: int, ranks: int, epoch: int) -> None:
    order = Order(count, batch, 0, 0, ranks)
    steps = range(order.first_step(epoch), order.first_step(epoch + 1))
    assert abs(len(steps) - count / (batch * ranks)) < 1
    if len(steps):
        # Each step of an epoch begins in it.
        assert all(order.batch(step)[1][0] == epoch for step in steps)


def test_epochs_and_seeds_differ() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        order = Order(100, 100, seed)
        return [int(item) for item in order.batch(epoch)[0]]

    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert first(1, 1) == first(1, 1)


def test_ranks_share_the_batch_of_one_process() -> None:
    together = Order(50, 12, 7).batch(3)[0]
    parts = [Order(50, 4, 7, rank, 3).batch(3)[0] for rank in range(3)]
    assert np.concatenate(parts).tolist() == together.tolist()


def test_choices_are_even_and_depend_on_all_three() -> None:
    keys, counts = np.arange(6000), np.full(6000, 3)
    chosen = [choice(counts, keys, np.full(6000, epoch), seed) for seed in (0, 1) for epoch in (0, 1)]
    for one in chosen:
        assert np.bincount(one).min() > 1850
    for i, one in enumerate(chosen):
        for other in chosen[i + 1 :]:
            assert 0.25 < (one == other).mean() < 0.42
    assert choice(np.array([1]), np.array([9]), np.array([4]), -3).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_ragged_rows(lengths: list[int], data: st.DataObject) -> None:
    items = np.arange(sum(lengths)) + 100
    offsets = offsets_of(np.array(lengths))
    rows = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6)), np.int64)
    where, taken = places(offsets, rows)
    expected = [items[offsets[row] : offsets[row + 1]].tolist() for row in rows]
    assert items[where].tolist() == [item for of_row in expected for item in of_row]
    assert taken.tolist() == [len(of_row) for of_row in expected]
    assert owners(taken).tolist() == [i for i, of_row in enumerate(expected) for _ in of_row]
    filled, mask = padded(items[where].astype(np.int32), taken, -1, multiple=4)
    assert filled.shape[1] % 4 == 0
    assert [row[: len(of_row)] for row, of_row in zip(filled.tolist(), expected, strict=True)] == expected
    assert mask.sum(dim=1).tolist() == taken.tolist()
    assert (filled[mask == 0] == -1).all()
