"""Which texts of a batch answer which queries: the text items that the stages compare with images.

An item is (node, query): a node is a text for its own query, and for the same concept at another side where that follows from it:
"left effusion" for effusion without side, "no effusion" for the left and the right one. So every query meets texts of both
polarities wherever the batch has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.graph.batch import EdgeKind, GraphBatch, QuerySide, State
from trainer.graph.concepts import ConceptTable
from trainer.graph.states import Queries

# [is normality][state][side of the node] → sides of queries (NONE, LEFT, RIGHT) for which the node's text stands.
_FINDING_THERE = [[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1]]
_FINDING_DENIED = [[1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
_NOTHING = [[0, 0, 0]] * 4
_STANDS_FOR = torch.tensor(
    [
        [_NOTHING, _FINDING_THERE, _FINDING_THERE, _FINDING_DENIED],
        [_NOTHING, _FINDING_DENIED, _FINDING_DENIED, _FINDING_THERE],
    ],
    dtype=torch.bool,
)


@dataclass
class Items:
    """I texts: the node each is taken from, the query (or pair query) it answers, and what it says."""

    node: Tensor  # (I,)
    query: Tensor  # (I,)
    state: Tensor  # (I,) State, never UNKNOWN

    def __getitem__(self, rows: Tensor) -> Items:
        return Items(self.node[rows], self.query[rows], self.state[rows])


@dataclass
class PairItems(Items):
    """The same for pairs; the target is the node of the place or of the suggested finding, −1 for a denied finding."""

    target: Tensor  # (I,)

    def __getitem__(self, rows: Tensor) -> PairItems:
        return PairItems(self.node[rows], self.query[rows], self.state[rows], self.target[rows])


def nodes_with_text(batch: GraphBatch) -> Tensor:
    """(N,) bool: nodes with a span in the tokens; the others have a state and no text."""
    has = torch.zeros(len(batch.node_report), dtype=torch.bool, device=batch.node_report.device)
    has[batch.span_node[batch.span_end > batch.span_start]] = True
    return has


def node_items(batch: GraphBatch, queries: Queries, table: ConceptTable, pathology: bool) -> Items:
    """The items of the pathology stage, or of the anatomy stage.

    The text of an anatomy says of itself nothing but a place: its state is what S has for its report. A pathology whose report
    says otherwise of the query, in another statement that counts more, is left out.
    """
    device = batch.node_concept.device
    normality = table.column("is_normality", device)[batch.node_concept].long()
    state = torch.where(batch.node_is_pathology, batch.node_state, int(State.PRESENT))
    stands_for = _STANDS_FOR.to(device)[normality, state, batch.node_side]
    stands_for = stands_for & (nodes_with_text(batch) & (batch.node_is_pathology == pathology))[:, None]
    node, side = torch.nonzero(stands_for, as_tuple=True)
    query = queries.locate(batch.node_concept[node], side)
    node, query = node[query >= 0], query[query >= 0]
    state = queries.states[query, batch.node_report[node]].long()
    agrees = state == batch.node_state[node] if pathology else state != State.UNKNOWN
    return Items(node[agrees], query[agrees], state[agrees])


def bare_statements(queries: Queries, pathology: bool) -> tuple[Tensor, Tensor]:
    """Query and state, (I,) each, of what a batch says of its queries by itself or by what follows from it, once each.

    As texts without words they let a query meet both polarities that reports say in other words: "normal heart size" for
    cardiomegaly, a child for its parent.
    """
    states = torch.arange(1, 4, device=queries.states.device)  # present, uncertain, absent
    known = (queries.states[:, None].long() == states[None, :, None]).any(2)  # (U, 3)
    query, state = torch.nonzero(known & (queries.is_pathology == pathology)[:, None], as_tuple=True)
    return query, state + 1


def pair_items(batch: GraphBatch, queries: Queries, table: ConceptTable) -> PairItems:
    """The items of the relation stage: every stated edge for its pairs, and every denied finding for the pairs it is in."""
    device = batch.node_concept.device
    has_text = nodes_with_text(batch)
    of_node = node_items(batch, queries, table, pathology=True)
    found = [torch.empty(0, 3, dtype=torch.long, device=device)]  # rows of node, target, pair
    source_query, target_query = queries.pairs.unbind(1)

    # Edges: the source stands for the pair's source, and the target, at a side that fits, for the pair's target.
    edge_query = queries.pairs.new_full((len(batch.node_report), 3), -1)  # (N, 3) the node's query at each side
    for side in range(3):
        edge_query[:, side] = queries.locate(batch.node_concept, torch.full_like(batch.node_concept, side))
    stated = batch.node_state != State.ABSENT
    for kind in (EdgeKind.LOCATED_AT, EdgeKind.SUGGESTIVE_OF):
        edge = torch.nonzero((batch.edge_kind == kind) & has_text[batch.edge_source] & has_text[batch.edge_target])
        node, target = batch.edge_source[edge.flatten()], batch.edge_target[edge.flatten()]
        node, target = node[stated[node]], target[stated[node]]
        side_of_source, side_of_target = batch.node_side[node], batch.node_side[target]
        if kind == EdgeKind.LOCATED_AT:  # a side said of one of the two holds for both
            side_of_source = torch.where(side_of_source == QuerySide.NONE, side_of_target, side_of_source)
            side_of_target = torch.where(side_of_target == QuerySide.NONE, side_of_source, side_of_target)
        for source_side in range(3):
            for target_side in range(3):
                fits = _speaks_of(side_of_source, side_of_target, source_side, target_side)
                first, second = edge_query[node, source_side], edge_query[target, target_side]
                at, pair = torch.nonzero(
                    (fits & (first >= 0) & (second >= 0))[:, None]
                    & (queries.pair_kind == kind)[None]
                    & (first[:, None] == source_query[None])
                    & (second[:, None] == target_query[None]),
                    as_tuple=True,
                )
                found.append(torch.stack([node[at], target[at], pair], 1))

    denied = of_node[of_node.state == State.ABSENT]
    at, pair = torch.nonzero(denied.query[:, None] == source_query[None], as_tuple=True)
    found.append(torch.stack([denied.node[at], torch.full_like(at, -1), pair], 1))

    node, target, pair = torch.cat(found).unbind(1)
    state = queries.pair_states[pair, batch.node_report[node]].long()
    agrees = state == batch.node_state[node]
    return PairItems(node[agrees], pair[agrees], state[agrees], target[agrees])


def _speaks_of(source: Tensor, target: Tensor, source_side: int, target_side: int) -> Tensor:
    """Whether an edge between nodes of these sides speaks of the pair of queries at those sides, opposite sides never."""
    stands = _STANDS_FOR.to(source.device)[0, int(State.PRESENT)]
    opposite = {source_side, target_side} == {int(QuerySide.LEFT), int(QuerySide.RIGHT)}
    return stands[source, source_side] & stands[target, target_side] & (not opposite)


def draw_items(items: Items, per_state: int, generator: torch.Generator) -> Tensor:
    """Rows of at most `per_state` items of each (query, state), drawn at random, ordered by query: (I',)."""
    device = items.query.device
    order = torch.randperm(len(items.query), generator=generator).to(device)
    group = items.query * 4 + items.state
    order = order[torch.sort(group[order], stable=True).indices]
    _, counts = torch.unique_consecutive(group[order], return_counts=True)
    first = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    rank = torch.arange(len(order), device=device) - first
    return order[rank < per_state]
