"""Which nodes are wrong, and how: missed, surplus, of another assertion, on another side; counted in groups.

Nodes without a match are paired first where only the assertion differs, then where only the side does, then where both do;
what is left of the gold was missed, what is left of the prediction is surplus.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from graphprep.evaluate.rows import ASSERTIONS, KINDS, NODE, SIDES, Flags, Rows, columns_of
from graphprep.evaluate.score import match
from graphprep.graphs import GraphFolder
from graphprep.records import ReportGraph

_PAIRS = (
    ("wrong assertion", ("kind", "concept", "side")),
    ("wrong side", ("kind", "concept", "assertion")),
    ("wrong side and assertion", ("kind", "concept")),
)

#: error, kind, concept, gold's (side, assertion), prediction's (side, assertion); None where the error does not depend on it
Group = tuple[str, int, int, tuple[int | None, int | None] | None, tuple[int | None, int | None] | None]


@dataclass(frozen=True)
class Example:
    """Where a confusion was first seen: the number of the report, and the node (of the gold; of a surplus, predicted)."""

    report: int
    node: tuple[int, ...]


class Confusions:
    """The groups of wrong nodes with their counts and first examples; grows with the vocabulary, not with the reports."""

    def __init__(self) -> None:
        self.counts: Counter[Group] = Counter()
        self.examples: dict[Group, Example] = {}

    def add(self, predicted: Rows, gold: Rows, matched: tuple[Flags, Flags]) -> None:
        sides = predicted["nodes"].filter(pa.array(~matched[0])), gold["nodes"].filter(pa.array(~matched[1]))
        for error, columns in _PAIRS:
            _, found = match(*sides, ("report", *columns))
            self._add_pairs(
                error, *(_sorted(t.filter(pa.array(f)), columns) for t, f in zip(sides, found, strict=True))
            )
            sides = sides[0].filter(pa.array(~found[0])), sides[1].filter(pa.array(~found[1]))
        for node in _nodes(sides[1]):
            self._add(("missed", node[1], node[2], (None, node[4]), None), node)
        for node in _nodes(sides[0]):
            self._add(("surplus", node[1], node[2], None, (None, node[4])), node)

    def _add_pairs(self, error: str, predicted: pa.Table, gold: pa.Table) -> None:
        for theirs, ours in zip(_nodes(predicted), _nodes(gold), strict=True):
            shown = [
                (side if "side" in error else None, assertion if "assertion" in error else None)
                for *_, side, assertion in (ours, theirs)
            ]
            self._add((error, ours[1], ours[2], shown[0], shown[1]), ours)

    def _add(self, group: Group, node: tuple[int, ...]) -> None:
        self.counts[group] += 1
        self.examples.setdefault(group, Example(node[0], node[1:]))

    def most_frequent(self, top: int, concepts: list[str]) -> list[tuple[Group, int, Example]]:
        """The largest groups; those of one size by concept, then by what is wrong."""
        ranked = sorted(
            self.counts.items(),
            key=lambda item: (-item[1], concepts[item[0][2]], item[0][0], item[0][1], repr(item[0][3:])),
        )
        return [(group, n, self.examples[group]) for group, n in ranked[:top]]


def describe(group: Group, concepts: list[str]) -> dict[str, Any]:
    """A group in words, for JSON; `gold` and `predicted` hold what the error depends on."""
    error, kind, concept, gold, predicted = group

    def said(what: tuple[int | None, int | None] | None) -> dict[str, str | None] | None:
        if what is None:
            return None
        side, assertion = what
        words = {} if side is None else {"side": SIDES[side]}
        return words if assertion is None else words | {"assertion": ASSERTIONS[assertion]}

    return {
        "error": error,
        "kind": KINDS[kind],
        "concept": concepts[concept],
        "gold": said(gold),
        "predicted": said(predicted),
    }


def sentence_of(graphs: GraphFolder, report_id: str, node: tuple[int, ...], concepts: list[str]) -> str | None:
    """The sentence of the node's first mention, blanks joined; None where the folder holds no text."""
    graph = graphs.get(report_id)
    if not graph.report.text:
        return None
    kind, concept, side, assertion = node
    wanted = (KINDS[kind], concepts[concept], SIDES[side], ASSERTIONS[assertion])
    found = next(n for n in graph.nodes if (n.kind, n.concept, n.side, n.assertion) == wanted)
    start = _first_place(graph, found.mentions, [span.start for span in found.spans])
    for sentence in graph.sentences:
        if start is not None and sentence.start <= start < sentence.end:
            return " ".join(graph.report.text[sentence.start : sentence.end].split())
    return None


def _first_place(graph: ReportGraph, mentions: list[int], spans: list[int]) -> int | None:
    return graph.mentions[mentions[0]].start if mentions else next(iter(spans), None)


def _nodes(table: pa.Table) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns_of(table, ["report", *NODE])), strict=True))


def _sorted(table: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """Sorted by report and columns, so that the rows of two sides that match stand at the same place."""
    return table.take(np.lexsort(list(reversed(columns_of(table, ["report", *columns])))))
