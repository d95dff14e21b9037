"""What follows from the statements of a report: cases written out, and a slow closure that follows the definitions."""

from __future__ import annotations

import itertools

import hand_batches as hand
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.graph.batch import EdgeKind, State
from trainer.graph.concepts import ConceptTable
from trainer.graph.states import Queries, close_states

AT = EdgeKind.LOCATED_AT
SIDE_NUMBERS = {None: 0, "left": 1, "right": 2}
SIGNS = {State.UNKNOWN: ".", State.PRESENT: "+", State.UNCERTAIN: "?", State.ABSENT: "-"}


@pytest.fixture(scope="module")
def table() -> ConceptTable:
    return hand.table()


def said(queries: Queries, concept: str, side: str | None = None, report: int = 0) -> str:
    query = int(queries.locate(torch.tensor(hand.row(concept)), torch.tensor(SIDE_NUMBERS[side])))
    assert query >= 0, f"{concept} {side} is not asked"
    return SIGNS[State(int(queries.states[query, report]))]


ASK_ALL: hand.Report = (
    [(concept, side, "?") for concept in hand.PATHOLOGY for side in ("left", "right")]
    + [(concept, side, "+") for concept, (_, _, sided) in hand.ANATOMY.items() for side in ("left", "right") if sided]
    + [(concept, None, "+") for concept in hand.ANATOMY],
    [],
)


def close(
    table: ConceptTable, *nodes: hand.Node, edges: list[hand.Edge] | None = None, closure: bool = True
) -> Queries:
    """One report beside another that asks everything at every side."""
    return close_states(hand.pack([(nodes, edges or []), ASK_ALL]), table, closure=closure)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        # sides
        ([("effusion", None, "-")], {("effusion", None): "-", ("effusion", "left"): "-", ("effusion", "right"): "-"}),
        ([("effusion", "left", "+")], {("effusion", None): "+", ("effusion", "left"): "+", ("effusion", "right"): "."}),
        ([("effusion", None, "+")], {("effusion", None): "+", ("effusion", "left"): ".", ("effusion", "right"): "."}),
        ([("effusion", "both", "+")], {("effusion", None): "+", ("effusion", "left"): "+", ("effusion", "right"): "+"}),
        ([("effusion", "both", "-")], {("effusion", None): "-", ("effusion", "left"): "-", ("effusion", "right"): "-"}),
        ([("effusion", "left", "-")], {("effusion", None): ".", ("effusion", "left"): "-", ("effusion", "right"): "."}),
        ([("effusion", "left", "-"), ("effusion", "right", "-")], {("effusion", None): "-"}),
        ([("cardiomegaly", "left", "-"), ("cardiomegaly", "right", "-")], {("cardiomegaly", None): "."}),
        ([("effusion", "left", "-"), ("effusion", "right", "+")], {("effusion", None): "+", ("effusion", "left"): "-"}),
        # hierarchy
        ([("collapse", "left", "+")], {("atelectasis", "left"): "+", ("opacity", None): "+", ("opacity", "right"): "."}),
        ([("opacity", None, "-")], {("collapse", "left"): "-", ("pneumonia", None): "-", ("effusion", None): "."}),
        ([("opacity", None, "+")], {("pneumonia", None): "."}),
        ([("pneumonia", None, "-")], {("opacity", None): "."}),
        ([("pneumonia", "left", "?")], {("opacity", "left"): "?", ("opacity", None): "?", ("clear_lungs", None): "."}),
        # opposites
        ([("normal_heart", None, "+")], {("cardiomegaly", None): "-"}),
        ([("cardiomegaly", None, "+")], {("normal_heart", None): "-"}),
        ([("clear_lungs", None, "+")], {("opacity", None): "-", ("collapse", "left"): "-", ("clear_lungs", "left"): "+"}),
        ([("clear_lungs", "left", "+")], {("collapse", "left"): "-", ("collapse", "right"): ".", ("opacity", None): "."}),
        ([("clear_lungs", "left", "+"), ("clear_lungs", "right", "+")], {("clear_lungs", None): "+", ("opacity", None): "-"}),
        ([("clear_lungs", "left", "-")], {("clear_lungs", None): "-", ("clear_lungs", "right"): "."}),
        ([("collapse", "left", "+")], {("clear_lungs", "left"): "-", ("clear_lungs", None): "-", ("clear_lungs", "right"): "."}),
        ([("hyperinflation", "left", "+")], {("low_volumes", "left"): "-", ("low_volumes", "right"): ".", ("low_volumes", None): "."}),
        ([("hyperinflation", None, "+")], {("low_volumes", None): "-", ("low_volumes", "left"): "-"}),
        ([("opacity", None, "-")], {("clear_lungs", None): "."}),
        # conflicts: stated beats derived, present beats uncertain beats absent
        ([("opacity", None, "-"), ("collapse", "left", "+")], {("opacity", None): "-", ("opacity", "left"): "+", ("collapse", "left"): "+"}),
        ([("effusion", None, "+"), ("effusion", None, "-")], {("effusion", None): "+"}),
        ([("opacity", "left", "?"), ("clear_lungs", None, "+")], {("opacity", "left"): "?", ("opacity", "right"): "-"}),
        ([("collapse", "left", "?"), ("pneumonia", "left", "+")], {("opacity", "left"): "+"}),
    ],
)  # fmt: skip
def test_pathologies(table: ConceptTable, nodes: list[hand.Node], expected: dict[tuple[str, str | None], str]) -> None:
    queries = close(table, *nodes)
    assert {query: said(queries, *query) for query in expected} == expected


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        # a finding without a place lies at its site; a part makes the whole abnormal
        ([("effusion", "left", "+")], [], {("pleura", "left"): "+", ("pleura", None): "+", ("pleura", "right"): ".", ("chest", None): "+", ("lung", None): "."}),
        ([("cardiomegaly", None, "+")], [], {("heart", None): "+", ("chest", None): "+"}),
        ([("opacity", "left", "+"), ("lower_lobe", "left", "+")], [(0, 1, AT)], {("lower_lobe", "left"): "+", ("lobe", "left"): "+", ("lung", "left"): "+", ("upper_lobe", "left"): ".", ("lower_lobe", "right"): "."}),
        ([("opacity", "both", "+"), ("lower_lobe", "both", "+")], [(0, 1, AT)], {("lower_lobe", "left"): "+", ("lower_lobe", "right"): "+"}),
        ([("opacity", "both", "+"), ("lower_lobe", "left", "+"), ("upper_lobe", "right", "+")], [(0, 1, AT), (0, 2, AT)], {("lower_lobe", "left"): "+", ("lower_lobe", "right"): ".", ("upper_lobe", "right"): "+"}),
        ([("opacity", None, "+"), ("middle_lobe", None, "+")], [(0, 1, AT)], {("middle_lobe", None): "+", ("lung", None): "+", ("lung", "right"): "."}),
        ([("pneumonia", "left", "?")], [], {("lung", "left"): "?", ("lung", None): "?"}),
        # a denied finding makes its place normal, and that the parts of it
        ([("effusion", None, "-")], [], {("pleura", None): "-", ("pleura", "left"): "-", ("chest", None): "."}),
        ([("clear_lungs", None, "+")], [], {("lung", None): "-", ("lower_lobe", "left"): "-", ("middle_lobe", None): "-", ("chest", None): "."}),
        ([("clear_lungs", "left", "+")], [], {("lung", "left"): "-", ("lung", None): ".", ("lower_lobe", "left"): "-", ("middle_lobe", None): "."}),
        ([("effusion", "left", "-"), ("effusion", "right", "-")], [], {("pleura", None): "-"}),
        ([("clear_lungs", None, "-")], [], {("lung", None): "+"}),
        # abnormal beats normal, and then its other parts are not known to be normal
        ([("opacity", "left", "+"), ("lower_lobe", "left", "+"), ("pneumonia", None, "-")], [(0, 1, AT)], {("lung", "left"): "+", ("lung", None): "+", ("upper_lobe", "left"): "."}),
        ([("opacity", "left", "+"), ("clear_lungs", "right", "+")], [], {("lung", "left"): "+", ("lung", "right"): "-", ("lung", None): "+"}),
        # devices and generic words say nothing of a place
        ([("tube", "left", "+")], [], {("pleura", "left"): "."}),
        ([("lung", "left", "+")], [], {("lung", "left"): "."}),
    ],
)  # fmt: skip
def test_anatomies(
    table: ConceptTable,
    nodes: list[hand.Node],
    edges: list[hand.Edge],
    expected: dict[tuple[str, str | None], str],
) -> None:
    queries = close(table, *nodes, edges=edges)
    assert {query: said(queries, *query) for query in expected} == expected


def test_without_closure_only_the_statement_counts(table: ConceptTable) -> None:
    queries = close(table, ("collapse", "both", "+"), ("effusion", None, "-"), closure=False)
    assert [said(queries, "collapse", side) for side in (None, "left", "right")] == [".", "+", "+"]
    assert said(queries, "opacity") == "."
    assert [said(queries, "effusion", side) for side in (None, "left", "right")] == ["-", ".", "."]


PAIR = ("opacity", "left"), ("lower_lobe", "left")


@pytest.mark.parametrize(
    ("nodes", "edges", "expected"),
    [
        ([("opacity", "left", "+"), ("lower_lobe", "left", "+")], [(0, 1, AT)], "+"),
        ([("collapse", "left", "+"), ("lower_lobe", "left", "+")], [(0, 1, AT)], "+"),
        ([("opacity", "both", "+"), ("lower_lobe", "both", "+")], [(0, 1, AT)], "+"),
        ([("opacity", "left", "?"), ("lower_lobe", "left", "+")], [(0, 1, AT)], "?"),
        ([("opacity", "left", "+"), ("upper_lobe", "left", "+")], [(0, 1, AT)], "-"),  # elsewhere only
        ([("opacity", "left", "+"), ("upper_lobe", "left", "+"), ("lower_lobe", "left", "+")], [(0, 1, AT), (0, 2, AT)], "+"),
        ([("opacity", "left", "+"), ("lung", "left", "+")], [(0, 1, AT)], "."),  # somewhere in the lung
        ([("opacity", "left", "+")], [], "."),
        ([("opacity", "left", "+"), ("upper_lobe", "left", "+"), ("pneumonia", "left", "+")], [(0, 1, AT)], "."),
        ([("opacity", "right", "+"), ("lower_lobe", "right", "+")], [(0, 1, AT)], "."),
        ([("opacity", None, "-")], [], "-"),
        ([("clear_lungs", None, "+")], [], "-"),
        ([("effusion", "left", "+")], [], "."),
        ([], [], "."),
    ],
)  # fmt: skip
def test_pairs(table: ConceptTable, nodes: list[hand.Node], edges: list[hand.Edge], expected: str) -> None:
    asks: hand.Report = ([("opacity", "left", "+"), ("lower_lobe", "left", "+")], [(0, 1, AT)])
    queries = close_states(hand.pack([(nodes, edges), asks]), table)
    source, target = (
        int(queries.locate(torch.tensor(hand.row(concept)), torch.tensor(SIDE_NUMBERS[side]))) for concept, side in PAIR
    )
    [pair] = [row for row, found in enumerate(queries.pairs.tolist()) if found == [source, target]]
    assert SIGNS[State(int(queries.pair_states[pair, 0]))] == expected


def test_suggestions(table: ConceptTable) -> None:
    reports: list[hand.Report] = [
        ([("opacity", "left", "+"), ("pneumonia", "left", "?")], [(0, 1, EdgeKind.SUGGESTIVE_OF)]),
        ([("opacity", "left", "-")], []),
        ([("opacity", "left", "+"), ("pneumonia", None, "-")], []),
        ([("opacity", "left", "+")], []),
    ]
    queries = close_states(hand.pack(reports), table)
    assert queries.pair_kind.tolist() == [EdgeKind.SUGGESTIVE_OF]
    assert [SIGNS[State(value)] for value in queries.pair_states[0].tolist()] == ["+", "-", "-", "."]


def test_the_most_informative_queries_stay(table: ConceptTable) -> None:
    reports: list[hand.Report] = [
        ([("effusion", None, "+"), ("tube", None, "+")], []),
        ([("effusion", None, "-"), ("tube", None, "+")], []),
        ([("abnormality", None, "-"), ("tube", None, "+")], []),
    ]
    batch = hand.pack(reports)
    everything = close_states(batch, table)
    queries = close_states(batch, table, max_queries=2)
    assert queries.size == 2
    assert queries.concept.tolist()[0] in (hand.row("effusion"), hand.row("pleura"))
    found = {int(concept) for concept in close_states(batch, table, max_queries=3).concept}
    assert hand.row("effusion") in found
    assert everything.size > 3
    assert int(queries.locate(torch.tensor(hand.row("abnormality")), torch.tensor(0))) == -1


def test_of_equal_queries_the_seed_decides(table: ConceptTable) -> None:
    batch = hand.pack([([(concept, "left", "+") for concept in hand.PATHOLOGY if concept != "opacity"], [])])
    kept = {tuple(close_states(batch, table, max_queries=4, seed=seed).concept.tolist()) for seed in range(8)}
    assert len(kept) > 1
    again = close_states(batch, table, max_queries=4, seed=3).concept
    assert torch.equal(again, close_states(batch, table, max_queries=4, seed=3).concept)


def test_empty_graphs(table: ConceptTable) -> None:
    queries = close_states(hand.pack([([], []), ([], [])]), table)
    assert queries.states.shape == (0, 2)
    assert queries.pair_states.shape == (0, 2)
    queries = close_states(hand.pack([([], []), ([("effusion", None, "+")], [])]), table)
    assert (queries.states[:, 0] == State.UNKNOWN).all()


def test_a_graph_of_hundreds_of_nodes(table: ConceptTable) -> None:
    everything = [
        (concept, side, state) for concept in hand.PATHOLOGY for side in hand.SIDES for state in hand.STATES
    ] + [(concept, side, "+") for concept in hand.ANATOMY for side in hand.SIDES]
    assert len(everything) > 170
    queries = close_states(hand.pack([(everything, []), ([], [])]), table)
    assert said(queries, "effusion", "left") == "+"


# The closure, read off its definition: for every query and every node, does the one follow from the other?


def naive_states(reports: list[hand.Report], table: ConceptTable) -> dict[tuple[str, str | None, int], str]:
    names = [concept.id for concept in table.concepts]
    is_a = {name: {names[row] for row in table.up(names.index(name))} for name in names}

    def sides_of(side: str | None) -> list[str | None]:
        return ["left", "right"] if side == "both" else [side]

    def normality(concept: str) -> bool:
        return hand.PATHOLOGY[concept][1] == "normality"

    def excludes(one: str, other: str) -> bool:
        return other in hand.PATHOLOGY[one][3] or one in hand.PATHOLOGY[other][3]

    def present_follows(node: hand.Node, concept: str, side: str | None) -> bool:
        if concept not in is_a[node[0]]:
            return False
        if normality(node[0]):
            return side in sides_of(node[1]) or node[1] is None or node[1] == "both"
        return side in sides_of(node[1]) or side is None

    def denial_follows(concept: str, denied: str, at: str | None, side: str | None) -> bool:
        """Whether `concept` at `side` is denied where `denied` is denied at `at`."""
        if normality(denied):
            return concept == denied and side in (at, None)
        return denied in is_a[concept] and (side == at or at is None)

    def absent_follows(node: hand.Node, concept: str, side: str | None) -> bool:
        where = sides_of(node[1]) + ([None] if node[1] == "both" else [])
        if node[2] == "-":
            places = where if not normality(node[0]) else sides_of(node[1])
            return any(denial_follows(concept, node[0], at, side) for at in places)
        return node[2] == "+" and any(
            denial_follows(concept, other, at, side)
            for above in is_a[node[0]]
            for other in hand.PATHOLOGY
            if above in hand.PATHOLOGY and excludes(above, other)
            for at in where
        )

    found = {}
    for number, (nodes, _) in enumerate(reports):
        nodes = [node for node in nodes if node[0] in hand.PATHOLOGY]
        for concept, side in itertools.product(hand.PATHOLOGY, (None, "left", "right")):
            stated = {node[2] for node in nodes if node[0] == concept and side in sides_of(node[1])}
            derived = {node[2] for node in nodes if node[2] != "-" and present_follows(node, concept, side)}
            derived |= {"-" for node in nodes if absent_follows(node, concept, side)}
            found[concept, side, number] = next(
                (sign for signs in (stated, derived) for sign in "+?-" if sign in signs), "."
            )
        for concept, (_, _, site, _) in hand.PATHOLOGY.items():
            universal = "+" if normality(concept) else "-"
            both = all(found[concept, side, number] == universal for side in ("left", "right"))
            if site and hand.ANATOMY[site][2] and both and found[concept, None, number] == ".":
                found[concept, None, number] = universal
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_closure_is_that_of_the_definition(seed: int) -> None:
    table = hand.table()
    reports = hand.random_reports(6, seed)
    queries = close_states(hand.pack(reports), table)
    expected = naive_states(reports, table)
    sides = {number: side for side, number in SIDE_NUMBERS.items()}
    for query in torch.nonzero(queries.is_pathology).flatten().tolist():
        concept, side = table.concepts[int(queries.concept[query])].id, sides[int(queries.side[query])]
        for report in range(len(reports)):
            found = SIGNS[State(int(queries.states[query, report]))]
            assert found == expected[concept, side, report], (concept, side, reports[report])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_report_is_closed_alone(seed: int) -> None:
    """Of each report S says the same whatever other reports are in the batch."""
    table = hand.table()
    reports = [*hand.random_reports(5, seed), ASK_ALL]
    together = close_states(hand.pack(reports), table)
    for number, report in enumerate(reports):
        alone = close_states(hand.pack([report, ASK_ALL]), table)
        assert torch.equal(alone.concept, together.concept)
        assert torch.equal(alone.states[:, 0], together.states[:, number])
