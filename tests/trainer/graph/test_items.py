"""Which texts answer which queries."""

from __future__ import annotations

import hand_batches as hand
import torch

from trainer.graph.batch import EdgeKind, State
from trainer.graph.items import bare_statements, draw_items, node_items, pair_items
from trainer.graph.states import close_states

TABLE = hand.table()
SIDE_NAMES = ("", "left ", "right ")


def items_of(reports: list[hand.Report], pathology: bool = True) -> set[tuple[int, str, int]]:
    batch = hand.pack(reports)
    queries = close_states(batch, TABLE)
    items = node_items(batch, queries, TABLE, pathology)
    return {
        (
            int(node),
            SIDE_NAMES[int(queries.side[query])] + TABLE.concepts[int(queries.concept[query])].id,
            int(state),
        )
        for node, query, state in zip(items.node, items.query, items.state, strict=True)
    }


def test_a_text_stands_for_what_follows_from_it_by_side() -> None:
    reports: list[hand.Report] = [
        ([("effusion", "left", "+")], []),
        ([("effusion", None, "-")], []),
        ([("effusion", "both", "+")], []),
        ([("effusion", None, "+")], []),
    ]
    present, absent = int(State.PRESENT), int(State.ABSENT)
    assert items_of(reports) == {
        (0, "left effusion", present),
        (0, "effusion", present),
        (1, "effusion", absent),
        (1, "left effusion", absent),
        (1, "right effusion", absent),
        (2, "effusion", present),
        (2, "left effusion", present),
        (2, "right effusion", present),
        (3, "effusion", present),
    }


def test_a_text_that_its_report_contradicts_is_left_out() -> None:
    found = items_of([([("effusion", None, "-"), ("effusion", "left", "+")], [])])
    assert (0, "left effusion", int(State.ABSENT)) not in found
    assert (1, "left effusion", int(State.PRESENT)) in found


def test_what_follows_is_a_statement_without_words() -> None:
    reports: list[hand.Report] = [
        ([("effusion", None, "-"), ("cardiomegaly", None, "?")], []),
        ([("effusion", "left", "+")], []),
    ]
    queries = close_states(hand.pack(reports), TABLE)
    for pathology in (True, False):
        query, state = bare_statements(queries, pathology)
        found = set(zip(query.tolist(), state.tolist(), strict=True))
        assert len(found) == len(query)
        known = [
            (row, int(value))
            for row in range(len(queries.concept))
            for value in queries.states[row]
            if value != State.UNKNOWN and bool(queries.is_pathology[row]) == pathology
        ]
        assert found == set(known)
        assert found  # places, too, are abnormal or normal


def test_a_place_says_what_its_report_says_of_it() -> None:
    found = items_of(
        [([("heart", None, "+"), ("cardiomegaly", None, "+")], []), ([("heart", None, "+")], [])], pathology=False
    )
    assert found == {(0, "heart", int(State.PRESENT))}  # of the second heart nothing is known


def test_a_node_without_text_is_no_item() -> None:
    batch = hand.pack([([("effusion", None, "+")], []), ([("effusion", None, "-")], [])])
    batch.span_end[0] = batch.span_start[0]
    items = node_items(batch, close_states(batch, TABLE), TABLE, pathology=True)
    assert set(items.node.tolist()) == {1}


def test_edges_and_denials_are_the_texts_of_pairs() -> None:
    reports: list[hand.Report] = [
        ([("opacity", "both", "+"), ("lower_lobe", "both", "+")], [(0, 1, EdgeKind.LOCATED_AT)]),
        ([("opacity", "left", "+"), ("upper_lobe", "left", "+")], [(0, 1, EdgeKind.LOCATED_AT)]),
        ([("opacity", None, "-")], []),
    ]
    batch = hand.pack(reports)
    queries = close_states(batch, TABLE)
    items = pair_items(batch, queries, TABLE)

    def name(query: torch.Tensor) -> str:
        return SIDE_NAMES[int(queries.side[query])] + TABLE.concepts[int(queries.concept[query])].id

    found = {
        (int(node), int(target), name(queries.pairs[pair][0]), name(queries.pairs[pair][1]))
        for node, target, pair in zip(items.node, items.target, items.query, strict=True)
    }
    assert {one for one in found if one[0] == 0} == {
        (0, 1, "left opacity", "left lower_lobe"),
        (0, 1, "right opacity", "right lower_lobe"),
    }
    assert {one for one in found if one[0] == 2} == {(2, 3, "left opacity", "left upper_lobe")}
    assert {one[1] for one in found if one[0] == 4} == {-1}
    assert len({one for one in found if one[0] == 4}) == 3
    assert all(
        queries.pair_states[pair, batch.node_report[node]] == state
        for node, pair, state in zip(items.node, items.query, items.state, strict=True)
    )


def test_draws_are_even_by_query_and_state_and_repeat() -> None:
    reports: list[hand.Report] = [([("effusion", None, "-")], [])] * 9 + [([("effusion", "left", "+")], [])] * 2
    batch = hand.pack(reports)
    items = node_items(batch, close_states(batch, TABLE), TABLE, pathology=True)
    rows = draw_items(items, 3, torch.Generator().manual_seed(0))
    groups = list(zip(items.query[rows].tolist(), items.state[rows].tolist(), strict=True))
    everything = list(zip(items.query.tolist(), items.state.tolist(), strict=True))
    for group in set(everything):
        assert groups.count(group) == min(3, everything.count(group))
    assert torch.equal(rows, draw_items(items, 3, torch.Generator().manual_seed(0)))
    assert not torch.equal(rows, draw_items(items, 3, torch.Generator().manual_seed(1)))
