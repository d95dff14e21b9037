"""Annotations in RadGraph's form against each other: the rows that are compared, and RadGraph's own reward.

The reward is that of the package and of F1RadGraph: words and labels as sets, positions do not count, so it also compares
different reports of one study. `simple`: the entities; `partial`: and whether they have relations; `complete`: and which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from graphprep.errors import UserError
from graphprep.evaluate.rows import ASSERTIONS, LABELS, RELATIONS, Ints, Rows, empty, table_of, text_hash
from graphprep.graphs import open_graphs
from graphprep.radgraph_json import Annotation, annotation_of, is_json, marked_only, read_annotations, unmarked_by

REWARDS = ("simple", "partial", "complete")

#: Reports in a piece of rows.
_REPORTS_A_PIECE = 1_000


class AnnotationSource:
    """Annotations as one side of a comparison; held in memory."""

    has_nodes = False

    def __init__(self, name: str, annotations: dict[str, Annotation]) -> None:
        self.name, self.annotations = name, annotations

    def report_ids(self) -> pa.Array:
        return pa.array(list(self.annotations), pa.string())

    def rows(self, numbers: Ints) -> Iterator[Rows]:
        known = [
            (int(number), annotation)
            for number, annotation in zip(numbers, self.annotations.values(), strict=True)
            if number >= 0
        ]
        for first in range(0, len(known), _REPORTS_A_PIECE):
            yield _rows(known[first : first + _REPORTS_A_PIECE])


def annotation_sources(predicted: str | Path, gold: str | Path) -> tuple[AnnotationSource, AnnotationSource]:
    """Both sides as annotations, one of them RadGraph's JSON or both.

    Where the package numbered as many reports as the other side names, they are taken to be in the same order. The mentions
    of a folder are counted in the tokens of the JSON. Mentions of words that RadGraph's annotators leave unmarked (`UNMARKED`),
    which the rules extractor needs, are left out. Raises UserError if a side cannot be read or holds no text.
    """
    paths = (predicted, gold)
    found = {
        path: {key: marked_only(annotation) for key, annotation in read_annotations(path).items()}
        for path in paths
        if is_json(path)
    }
    if len(found) < len(set(paths)):
        return _with_folder(paths, found)
    one, other = (found[path] for path in paths)
    return (
        AnnotationSource(str(predicted), _named(one, list(other))),
        AnnotationSource(str(gold), _named(other, list(one))),
    )


def _with_folder(
    paths: tuple[str | Path, str | Path], found: dict[str | Path, dict[str, Annotation]]
) -> tuple[AnnotationSource, AnnotationSource]:
    [(path, annotations)] = found.items()
    folder = next(each for each in paths if each not in found)
    graphs = open_graphs(folder)
    if not graphs.manifest.get("text", True):
        raise UserError(
            f"{folder} holds no text (--no-text), so its mentions cannot be counted in tokens. Extract it with text, or "
            "compare it with a graphs folder."
        )
    ids = [each for batch in graphs.tables("reports", ["report_id"]) for each in batch.column(0).to_pylist()]
    annotations = _named(annotations, ids)
    of_folder: dict[str, Annotation] = {}
    unmarked = unmarked_by(graphs.manifest)
    for graph in graphs:
        theirs = annotations.get(graph.report.report_id)
        ours = annotation_of(graph, theirs.tokens if theirs else None, unmarked)
        ours = ours or annotation_of(graph, None, unmarked) or Annotation([])
        of_folder[graph.report.report_id] = marked_only(ours)
    sides = {path: annotations, folder: of_folder}
    return AnnotationSource(str(paths[0]), sides[paths[0]]), AnnotationSource(str(paths[1]), sides[paths[1]])


def _named(annotations: dict[str, Annotation], ids: Sequence[str]) -> dict[str, Annotation]:
    """The annotations by the ids of the other side, where they are merely numbered and the other side's are not."""
    numbered = list(annotations) == [str(number) for number in range(len(annotations))]
    if numbered and len(annotations) == len(ids) and set(annotations) != set(ids):
        return dict(zip(ids, annotations.values(), strict=True))
    return annotations


def rewards(predicted: Annotation, gold: Annotation) -> tuple[float, float, float]:
    """`simple`, `partial` and `complete` reward of one report, 0 to 1; 0 where a side has no entity."""
    if not predicted.entities or not gold.entities:
        return 0.0, 0.0, 0.0
    simple, partial, complete = (_f1(one, other) for one, other in zip(_facts(predicted), _facts(gold), strict=True))
    return simple, partial, complete


def mean_rewards(predicted: Mapping[str, Annotation], gold: Mapping[str, Annotation]) -> dict[str, float]:
    """The mean of each reward over the reports that both sides have."""
    common = [rewards(predicted[key], annotation) for key, annotation in gold.items() if key in predicted]
    return dict(zip(REWARDS, np.mean(common, axis=0).tolist(), strict=True))


def _facts(annotation: Annotation) -> tuple[set[tuple[object, ...]], ...]:
    simple: set[tuple[object, ...]] = set()
    partial: set[tuple[object, ...]] = set()
    complete: set[tuple[object, ...]] = set()
    for entity in annotation.entities:
        words, label = annotation.words(entity), entity.label_name
        simple.add((words, label))
        partial.add((words, label, bool(entity.relations)))
        if not entity.relations:
            complete.add((words, label))
        for kind, target in entity.relations:  # only here does case not count, in the package as well
            complete.add((words.lower(), label, kind, annotation.words(annotation.entities[target]).lower()))
    return simple, partial, complete


def _f1(predicted: set[tuple[object, ...]], gold: set[tuple[object, ...]]) -> float:
    common = len(predicted & gold)
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _rows(reports: list[tuple[int, Annotation]]) -> Rows:
    texts, mentions, relations = [], [], []
    for number, annotation in reports:
        texts.append((number, text_hash(" ".join(annotation.tokens).lower())))
        ends = [
            (entity.start_ix, entity.end_ix, LABELS.index(entity.label), ASSERTIONS.index(entity.assertion))
            for entity in annotation.entities
        ]
        mentions += [(number, *end) for end in ends]
        relations += [
            (number, RELATIONS.index(kind), *ends[source], *ends[target])
            for source, entity in enumerate(annotation.entities)
            for kind, target in entity.relations
        ]
    return {
        "reports": table_of("reports", texts),
        "mentions": table_of("mentions", mentions),
        "relations": table_of("relations", relations),
        "nodes": empty("nodes"),
        "edges": empty("edges"),
    }
