"""How far two folders of graphs of the same reports agree: one is taken as gold, the other as predicted.

    mentions    what is marked, with its label and assertion; also the span alone, and span and label
    relations   between mentions: type and the spans of both ends; also with what the ends are (`typed`)
    nodes       kind, concept, side and assertion, each once a report; also the concept alone, and concept and assertion
    edges       relation and both end nodes, all of them as above

Either side may be RadGraph's JSON instead, which holds mentions and relations alone.

Reports are matched by their id. What only one side has, and what cannot be compared because the texts differ, is counted
and left out. `rows` and `tokens` read, `score` counts, `label_scores` compares labels, `confusions` says what goes wrong,
`tables` prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphprep.errors import UserError
from graphprep.evaluate.confusions import Confusions, describe, sentence_of
from graphprep.evaluate.label_scores import label_scores
from graphprep.evaluate.rows import (
    ASSERTIONS,
    EDGES,
    KINDS,
    LABELS,
    RELATIONS,
    Codes,
    FolderSource,
    Ints,
    Rows,
    Source,
    aligned,
    columns_of,
    in_order,
)
from graphprep.evaluate.score import GRAPH_MEASURES, MENTION_MEASURES, Counts, Tally
from graphprep.evaluate.tokens import AnnotationSource, annotation_sources, mean_rewards
from graphprep.graphs import open_graphs
from graphprep.progress import progress
from graphprep.radgraph_json import is_json

#: The columns by which a measure is split: `measure/what`.
_TYPES: dict[str, Sequence[str]] = {
    "mentions/types": ("label", "assertion"),
    "relations/types": ("type",),
    "nodes/kinds": ("kind",),
    "nodes/assertions": ("assertion",),
    "nodes/concepts": ("kind", "concept"),
    "edges/relations": ("relation",),
}


def evaluate(
    predicted: str | Path,
    gold: str | Path,
    *,
    origin: Literal["stated", "all"] = "stated",
    bootstrap: int = 1000,
    seed: int = 0,
    labels: str = "chexpert14",
    errors: int = 20,
    text: bool = True,
    show_progress: bool = False,
) -> dict[str, Any]:
    """Compare two graphs folders, or one with RadGraph's JSON, or two such files; the result is ready for JSON.

    Under `mentions`, `relations`, `nodes` and `edges`: `precision`, `recall`, `f1` (null where there is nothing to score),
    `matched`, `predicted`, `gold` and, with `bootstrap`, `interval` (95 %, over reports); below them the looser or
    stricter measures and the parts. `errors` lists that many of the most frequent confusions of nodes, each with a sentence
    if `text` and there is any. With `origin="stated"`, nodes and edges that the vocabulary adds are left out.

    `labels` has the scores of the labels that follow from the graphs (`graphprep.labels`), null where the vocabularies have
    none of the set; those of every origin count.

    Where a side is JSON, mentions are compared by their tokens, `nodes`, `edges` and `labels` are null, and
    `radgraph_reward` is the package's own reward; both sides are held in memory.

    Raises UserError if a side cannot be read, if no report is in both, or for a set of labels that is not known.
    """
    codes = Codes()
    by_tokens = is_json(predicted) or is_json(gold)
    folders: list[FolderSource] = []
    annotations: list[AnnotationSource] = []
    if by_tokens:
        annotations = [*annotation_sources(predicted, gold)]
    else:
        origins = ["stated", "vocabulary"] if origin == "all" else ["stated"]
        folders = [FolderSource(open_graphs(path), codes, origins) for path in (predicted, gold)]
    sides: Sequence[Source] = annotations or folders
    with progress("evaluate", enabled=show_progress) as bar:
        comparison = _Comparison(sides[0], sides[1])
        bar.start(len(comparison.ids) + bootstrap, 0)
        of_labels = None
        if folders:
            of_labels = label_scores((folders[0].graphs, folders[1].graphs), comparison.numbers, labels)
        for done in comparison.read():
            bar.update(done)
        scores = comparison.tally.scores(bootstrap, seed, lambda done: bar.update(len(comparison.ids) + done))
    result = {
        "reports": comparison.reports,
        "origin": origin,
        "bootstrap": bootstrap,
        "seed": seed,
        **_nested(scores, comparison.tally, codes),
        "labels": of_labels,
        "errors": [],
    }
    if by_tokens:
        result["radgraph_reward"] = mean_rewards(*(side.annotations for side in annotations))
    for group, count, example in comparison.confusions.most_frequent(errors, codes.names):
        said = describe(group, codes.names)
        side = folders[0] if said["error"] == "surplus" else folders[1]
        report_id = comparison.ids[example.report].as_py()
        sentence = sentence_of(side.graphs, report_id, example.node, codes.names) if text else None
        result["errors"].append({**said, "count": count, "report_id": report_id, "sentence": sentence})
    return result


class _Comparison:
    """Both sides read once, side by side."""

    def __init__(self, predicted: Source, gold: Source) -> None:
        self.sides = (predicted, gold)
        ids = predicted.report_ids(), gold.report_ids()
        place = pc.fill_null(pc.index_in(ids[0], ids[1]), -1).to_numpy().astype(np.int64)
        common = np.zeros(len(ids[1]), bool)
        common[place[place >= 0]] = True
        if not common.any():
            raise UserError(
                f"{predicted.name} and {gold.name} have no report id in common: they must be of the same reports. "
                "Look at the ids in both (`graphprep show` prints one report)."
            )
        #: What a report of each side is called here: its place in the gold, -1 where only one side has it.
        self.numbers: tuple[Ints, Ints] = (place, np.where(common, np.arange(len(common)), -1))
        self.ids: pa.Array = ids[1]
        self.graphs = predicted.has_nodes and gold.has_nodes
        self.tally = Tally((*MENTION_MEASURES, *(GRAPH_MEASURES if self.graphs else ())))
        self.confusions = Confusions()
        self.reports = {
            "compared": int(common.sum()),
            "only_predicted": int((place < 0).sum()),
            "only_gold": int((~common).sum()),
            "texts_differ": 0,
            "texts_unknown": 0,
        }

    def read(self) -> Iterator[int]:
        """Read and count everything; tells how many reports of the gold are done."""
        streams = [
            in_order(side.rows(numbers), numbers) for side, numbers in zip(self.sides, self.numbers, strict=True)
        ]
        for predicted, gold in aligned(*streams):
            predicted, gold = self._same_texts(predicted, gold)
            matched = self.tally.add(predicted, gold, _TYPES)
            if self.graphs:
                self.confusions.add(predicted, gold, matched["nodes"])
            yield int(gold["reports"].column("report")[-1].as_py()) + 1

    def _same_texts(self, predicted: Rows, gold: Rows) -> tuple[Rows, Rows]:
        """The rows without the mentions and relations of reports whose texts differ, where offsets mean nothing."""
        reports, here = columns_of(gold["reports"], ["report", "text"])
        (there,) = columns_of(predicted["reports"], ["text"])
        known = (here != 0) & (there != 0)
        differ = known & (here != there)
        self.reports["texts_unknown"] += int((~known).sum())
        self.reports["texts_differ"] += int(differ.sum())
        if not differ.any():
            return predicted, gold
        left_out = pa.array(reports[differ], pa.int32())
        both = []
        for rows in (predicted, gold):
            kept = {
                name: rows[name].filter(pc.invert(pc.is_in(rows[name].column("report"), left_out)))
                for name in ("mentions", "relations")
            }
            both.append({**rows, **kept})
        return both[0], both[1]


def _nested(scores: dict[str, dict[str, Any]], tally: Tally, codes: Codes) -> dict[str, Any]:
    """`nodes.concept` and `nodes/kinds` below `nodes`."""
    result: dict[str, Any] = {name: scores.get(name) for name in ("mentions", "relations", "nodes", "edges")}
    for name, score in scores.items():
        if "." in name:
            whole, part = name.split(".")
            result[whole][part] = score
    for name, counts in tally.by_type.items():
        whole, part = name.split("/")
        result[whole][part] = _types(name, counts, codes)
    return result


def _types(name: str, counts: dict[tuple[int, ...], Counts], codes: Codes) -> dict[str, Any]:
    """The scores of each type, in the order of the contract; of concepts by kind, the most frequent in the gold first."""
    if name == "nodes/concepts":
        concepts: dict[str, Any] = {kind: {} for kind in KINDS}
        ranked = sorted(counts.items(), key=lambda item: (-item[1].gold, -item[1].predicted, codes.names[item[0][1]]))
        for (kind, concept), each in ranked:
            concepts[KINDS[kind]][codes.names[concept]] = each.scores()
        return concepts
    words: dict[str, Sequence[Sequence[str]]] = {
        "mentions/types": (LABELS, ASSERTIONS),
        "relations/types": (RELATIONS,),
        "nodes/kinds": (KINDS,),
        "nodes/assertions": (ASSERTIONS,),
        "edges/relations": (EDGES,),
    }
    return {
        " ".join(names[value] for names, value in zip(words[name], key, strict=True)): each.scores()
        for key, each in sorted(counts.items())
    }
