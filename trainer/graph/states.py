"""What the reports of a batch say about every query that the batch asks: the state table S, by closure over the vocabulary.

Pathologies follow from the stated nodes by `ConceptTable.implications`. Where facts of a report disagree, what is stated beats
what is derived, and then present beats uncertain beats absent. Two things need more than one statement and are worked out here:

- a finding denied on the left and on the right is denied without side, where its site is a paired structure, so that left and
  right are the whole; of the side without a statement nothing follows (a normality: present on both sides is present);
- an anatomy is abnormal (PRESENT) where a present finding lies, in it or in a part of it, and normal (ABSENT) where a normality is
  said or every finding said of it is denied; what is normal as a whole is normal in its parts. A finding without a stated place
  lies at its site. Devices, operations and generic words make no place abnormal.

A pair (finding, anatomy) is PRESENT where the finding is said to be there or in a part of it, ABSENT where the finding is denied or
is said to be elsewhere only, and unknown where it is present without a place or in a wider one. A pair (finding, suggested finding)
is PRESENT where a report says so and ABSENT where one of the two is denied.

Everything is integer arithmetic on packed tensors, on the device of the batch; nothing here has a gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.graph.batch import EdgeKind, GraphBatch, QuerySide, State
from trainer.graph.concepts import SIDES_OF_A_NODE, SIDES_OF_A_QUERY, STATES, ConceptTable, Implications

# Scores of facts, so that the largest wins: derived absent, uncertain, present, then the same stated.
_DERIVED = torch.tensor([0, 3, 2, 1])  # by State
_STATED = 3
_STATE_OF_SCORE = torch.tensor([State.UNKNOWN, *(2 * [State.ABSENT, State.UNCERTAIN, State.PRESENT])], dtype=torch.int8)
# For each side of a node (NONE, LEFT, RIGHT, BILATERAL), the sides of queries (NONE, LEFT, RIGHT) that it speaks of by itself.
_OWN_SIDES = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=torch.bool)


@dataclass
class Queries:
    """The U queries and P pair queries of a batch of B reports, in ascending order of their keys, and what is said of them."""

    concept: Tensor  # (U,) row of the concept table
    side: Tensor  # (U,) QuerySide, never BILATERAL
    states: Tensor  # (U, B) State, int8
    is_pathology: Tensor  # (U,) bool
    index: Tensor  # (C * 3,) the query of a key, −1 where it is not asked

    pairs: Tensor  # (P, 2) queries: source, target
    pair_kind: Tensor  # (P,) EdgeKind: LOCATED_AT or SUGGESTIVE_OF
    pair_states: Tensor  # (P, B) State, int8

    @property
    def size(self) -> int:
        return len(self.concept)

    def locate(self, concept: Tensor, side: Tensor) -> Tensor:
        """The query of each (concept, side) with side NONE, LEFT or RIGHT; −1 where it is not asked."""
        return self.index[concept * SIDES_OF_A_QUERY + side]


def close_states(
    batch: GraphBatch,
    table: ConceptTable,
    max_queries: int | None = None,
    max_pairs: int | None = None,
    closure: bool = True,
    seed: int = 0,
) -> Queries:
    """The queries that the batch calls for and their states.

    Asked are (concept, side) of every stated node, of every place where a finding lies, and both without side. Above `max_queries`
    (and `max_pairs`) those stay of which both polarities are known in the batch, then those of which most reports speak; `seed`
    decides between equals. Without `closure` only what a node itself says counts.
    """
    device = batch.node_concept.device
    keys_in_all = len(table) * SIDES_OF_A_QUERY
    places = _places(batch, table)
    grid = _pathology_states(batch, table, closure)
    anatomy = _anatomy_states(batch, table, places, closure)
    is_pathology = table.column("is_pathology", device).repeat_interleave(SIDES_OF_A_QUERY)
    grid = torch.where(is_pathology[:, None], grid, anatomy)  # (C * 3, B)

    asked = torch.zeros(keys_in_all, dtype=torch.bool, device=device)
    node, side = _own_sides(batch.node_side)
    stated = _key(batch.node_concept[node], _fold(table, batch.node_concept[node], side))
    for keys in (stated, places.key):
        asked[keys] = True
        asked[keys - keys % SIDES_OF_A_QUERY] = True  # the same without side
    keys = torch.nonzero(asked).flatten()
    keys = keys[_most_informative(grid[keys], max_queries, seed)]
    index = torch.full((keys_in_all,), -1, dtype=torch.long, device=device)
    index[keys] = torch.arange(len(keys), device=device)
    states = grid[keys]

    pairs, kind, pair_states = _pairs(batch, table, places, index, states)
    kept = _most_informative(pair_states, max_pairs, seed)
    return Queries(
        concept=keys // SIDES_OF_A_QUERY,
        side=keys % SIDES_OF_A_QUERY,
        states=states,
        is_pathology=is_pathology[keys],
        index=index,
        pairs=pairs[kept],
        pair_kind=kind[kept],
        pair_states=pair_states[kept],
    )


# Keys and sides


def _key(concept: Tensor, side: Tensor) -> Tensor:
    return concept * SIDES_OF_A_QUERY + side


def _fold(table: ConceptTable, concept: Tensor, side: Tensor) -> Tensor:
    """The side that a concept can have: none, for an anatomy of which there is only one."""
    return torch.where(table.column("sided", concept.device)[concept], side, QuerySide.NONE)


def _own_sides(side: Tensor) -> tuple[Tensor, Tensor]:
    """Node sides (N,) → which of them (R,) and one side of a query each (R,): a bilateral one gives left and right."""
    rows, sides = torch.nonzero(_OWN_SIDES.to(side.device)[side], as_tuple=True)
    return rows, sides


def _implied(implications: Implications, concept: Tensor, side: Tensor, state: Tensor | int) -> tuple[Tensor, ...]:
    return implications.expand((concept * SIDES_OF_A_NODE + side) * STATES + state)


def _scatter_largest(size: int, columns: int, row: Tensor, column: Tensor, score: Tensor) -> Tensor:
    """A table (size, columns) with the largest score of each cell, 0 where there is none."""
    flat = torch.zeros(size * columns, dtype=torch.long, device=row.device)
    return flat.scatter_reduce_(0, row * columns + column, score, "amax").view(size, columns)


def _most_informative(states: Tensor, limit: int | None, seed: int) -> Tensor:
    """Rows of `states` (R, B) to keep, ascending: both polarities known first, then by how many reports speak of them."""
    rows = torch.arange(len(states), device=states.device)
    if limit is None or len(states) <= limit:
        return rows
    denied = states == State.ABSENT
    known = states != State.UNKNOWN
    both = denied.any(1) & (known & ~denied).any(1)
    luck = (rows * 2654435761 + seed * 40503) % 65537  # a fixed scattering: the same on every rank and device
    score = (both.long() * (states.shape[1] + 1) + known.sum(1)) * 65537 + luck
    return torch.sort(torch.topk(score, limit).indices).values


# Pathologies


def _pathology_states(batch: GraphBatch, table: ConceptTable, closure: bool) -> Tensor:
    """States (C * 3, B) that follow from the pathology nodes; rows of anatomies are unknown."""
    device = batch.node_concept.device
    nodes = torch.nonzero(batch.node_is_pathology).flatten()
    concept, side = batch.node_concept[nodes], batch.node_side[nodes]
    source, key, state = _implied(table.implications(closure, device), concept, side, batch.node_state[nodes])
    own = (key // SIDES_OF_A_QUERY == concept[source]) & _OWN_SIDES.to(device)[side[source], key % SIDES_OF_A_QUERY]
    score = _DERIVED.to(device)[state] + _STATED * own
    report = batch.node_report[nodes][source]
    scores = _scatter_largest(len(table) * SIDES_OF_A_QUERY, batch.size, key, report, score)
    grid = _STATE_OF_SCORE.to(device)[scores]
    if not closure:
        return grid
    by_side = grid.view(len(table), SIDES_OF_A_QUERY, batch.size)
    site = table.column("site", device)
    paired = (site >= 0) & table.column("sided", device)[site.clamp(min=0)]
    universal = torch.where(table.column("is_normality", device), State.PRESENT, State.ABSENT)[:, None]
    _whole_from_sides(by_side, universal, paired)
    return grid


def _whole_from_sides(by_side: Tensor, universal: Tensor, paired: Tensor) -> None:
    """Fill in: what is known to hold left and right holds without side. `universal` (C, 1) is the state of which that is true."""
    whole, left, right = by_side.unbind(1)
    filled = (whole == State.UNKNOWN) & (left == universal) & (right == universal) & paired[:, None]
    by_side[:, 0] = torch.where(filled, universal.to(by_side.dtype), whole)


# Places and anatomies


@dataclass
class _Places:
    """Where the findings lie: one row per finding, place and side."""

    node: Tensor  # (R,) the pathology node
    finding_side: Tensor  # (R,) side of a query
    concept: Tensor  # (R,) the anatomy
    side: Tensor  # (R,) side of a query
    stated: Tensor  # (R,) bool: an edge of the report says so; else it is the site that the vocabulary gives

    @property
    def key(self) -> Tensor:
        return _key(self.concept, self.side)


def _places(batch: GraphBatch, table: ConceptTable) -> _Places:
    device = batch.node_concept.device
    edges = batch.edge_kind == EdgeKind.LOCATED_AT
    source, target = batch.edge_source[edges], batch.edge_target[edges]
    without = batch.node_is_pathology.clone()
    without[source] = False
    without &= table.column("site", device)[batch.node_concept] >= 0
    unplaced = torch.nonzero(without).flatten()

    node = torch.cat([source, unplaced])
    concept = torch.cat([batch.node_concept[target], table.column("site", device)[batch.node_concept[unplaced]]])
    place_side = torch.cat([batch.node_side[target], torch.full_like(unplaced, QuerySide.NONE)])
    own = _OWN_SIDES.to(device)
    finding_side = batch.node_side[node]
    # Left and right of a bilateral finding belong to the left and the right of its places; a side said of one holds for both.
    shared = own[finding_side] & own[place_side]
    shared = torch.where((place_side == QuerySide.NONE)[:, None], own[finding_side], shared)
    shared = torch.where((finding_side == QuerySide.NONE)[:, None], own[place_side], shared)
    row, side = torch.nonzero(shared, as_tuple=True)
    return _Places(
        node=node[row],
        finding_side=side,
        concept=concept[row],
        side=_fold(table, concept[row], side),
        stated=row < len(source),
    )


def _anatomy_states(batch: GraphBatch, table: ConceptTable, places: _Places, closure: bool) -> Tensor:
    """States (C * 3, B) of the anatomies: PRESENT abnormal, ABSENT normal; rows of pathologies are unknown."""
    device = batch.node_concept.device
    implications = table.implications(closure, device)
    size = len(table) * SIDES_OF_A_QUERY
    report = batch.node_report[places.node]
    said = batch.node_state[places.node]
    finding = table.column("is_finding", device)[batch.node_concept[places.node]]
    normality = table.column("is_normality", device)[batch.node_concept[places.node]]

    abnormal = (finding & (said != State.ABSENT)) | (normality & (said == State.ABSENT))
    state = torch.where(normality, State.PRESENT, said)[abnormal]
    source, key, state = _implied(implications, places.concept[abnormal], places.side[abnormal], state)
    scores = _scatter_largest(size, batch.size, key, report[abnormal][source], _DERIVED.to(device)[state])

    normal = (finding & (said == State.ABSENT)) | (normality & (said == State.PRESENT))
    normal &= scores[places.key, report] == 0  # a place that is abnormal is not normal in its other parts
    source, key, state = _implied(implications, places.concept[normal], places.side[normal], State.ABSENT)
    denied = _scatter_largest(size, batch.size, key, report[normal][source], _DERIVED.to(device)[state])

    grid = _STATE_OF_SCORE.to(device)[torch.maximum(scores, denied)]
    if closure:
        by_side = grid.view(len(table), SIDES_OF_A_QUERY, batch.size)
        universal = torch.full((len(table), 1), int(State.ABSENT), device=device)
        _whole_from_sides(by_side, universal, table.column("sided", device))
    return grid


# Pairs


def _pairs(
    batch: GraphBatch, table: ConceptTable, places: _Places, index: Tensor, states: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct pair queries (P, 2), their kind (P,) and states (P, B)."""
    device = batch.node_concept.device
    queries = len(states)
    suggestion, suggested_side = _suggestions(batch)
    edge_source, edge_target = batch.edge_source[suggestion], batch.edge_target[suggestion]

    # All rows that speak of two queries: (source key, target key), the state of the statement, and its report.
    places_count = len(places.node)
    node = torch.cat([places.node, edge_source])
    source_concept = batch.node_concept[node]
    source_side = torch.cat([places.finding_side, suggested_side])
    target_concept = torch.cat([places.concept, batch.node_concept[edge_target]])
    target_side = torch.cat([places.side, _side_beside(suggested_side, batch.node_side[edge_target])])
    is_place = torch.arange(len(node), device=device) < places_count
    kind = torch.where(is_place, int(EdgeKind.LOCATED_AT), int(EdgeKind.SUGGESTIVE_OF))
    said = batch.node_state[node]
    report = batch.node_report[node]

    asked = torch.cat([places.stated, torch.ones_like(suggestion, dtype=torch.bool)])
    asked &= ~table.column("is_normality", device)[source_concept]
    source_query = index[_key(source_concept, source_side)]
    target_query = index[_key(target_concept, target_side)]
    asked &= (source_query >= 0) & (target_query >= 0) & (source_query != target_query)
    code = (kind * queries + source_query) * queries + target_query
    codes = torch.unique(code[asked])  # sorted
    pair_kind = codes // max(queries * queries, 1)
    pairs = torch.stack([codes // max(queries, 1) % max(queries, 1), codes % max(queries, 1)], 1)

    # Which rows imply which queries, as (rows, U), then which rows bear on which pairs, as (P, rows).
    def implied(concept: Tensor, side: Tensor, state: State) -> Tensor:
        row, key, _ = _implied(table.implications(True, device), concept, side, int(state))
        query = index[key]
        table_of_rows = torch.zeros(len(concept), queries, dtype=torch.bool, device=device)
        table_of_rows[row[query >= 0], query[query >= 0]] = True
        return table_of_rows

    same_kind = pair_kind[:, None] == kind[None, :]
    of_finding = implied(source_concept, source_side, State.UNCERTAIN)[:, pairs[:, 0]].T & same_kind
    there = of_finding & implied(target_concept, target_side, State.UNCERTAIN)[:, pairs[:, 1]].T
    within = of_finding & implied(target_concept, target_side, State.ABSENT)[:, pairs[:, 1]].T & is_place

    def in_reports(rows: Tensor) -> Tensor:
        count = torch.zeros(len(pairs), batch.size, device=device)
        return count.index_add_(1, report, rows.float()) > 0  # (P, B)

    present = in_reports(there & (said == State.PRESENT))
    uncertain = in_reports(there & (said == State.UNCERTAIN))
    wider = in_reports(within & ~there & (said != State.ABSENT))
    elsewhere = in_reports(of_finding & ~there & ~within & is_place & (said == State.PRESENT))
    denied = states[pairs[:, 0]] == State.ABSENT
    suggests = pair_kind == EdgeKind.SUGGESTIVE_OF
    denied |= suggests[:, None] & (states[pairs[:, 1]] == State.ABSENT)

    pair_states = torch.full((len(pairs), batch.size), int(State.UNKNOWN), dtype=torch.int8, device=device)
    pair_states[(elsewhere & ~wider) | denied] = State.ABSENT
    pair_states[uncertain] = State.UNCERTAIN
    pair_states[present] = State.PRESENT
    return pairs, pair_kind, pair_states


def _suggestions(batch: GraphBatch) -> tuple[Tensor, Tensor]:
    """The `suggestive_of` edges, one row per side of their source: the edge (R,) and the side (R,)."""
    edge = torch.nonzero(batch.edge_kind == EdgeKind.SUGGESTIVE_OF).flatten()
    row, side = _own_sides(batch.node_side[batch.edge_source[edge]])
    return edge[row], side


def _side_beside(side: Tensor, other: Tensor) -> Tensor:
    """The side of a suggested finding: its own, or, where it is bilateral, the one beside the suggesting finding."""
    return torch.where(other == QuerySide.BILATERAL, side, other)
