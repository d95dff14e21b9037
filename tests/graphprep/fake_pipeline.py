"""A pipeline that knows three words, for tests of what `extract` does around a pipeline; and a program that runs it.

python fake_pipeline.py INPUT OUTPUT [KEY=JSON …]      keyword arguments of `extract`; `delay` and `die_if` of the pipeline
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from graphprep.errors import UserError
from graphprep.extract import ExtractSummary, extract
from graphprep.records import Edge, Mention, Node, Relation, Report, ReportGraph, Section, Span
from graphprep.vocabulary import Concept, Vocabulary

ANATOMY = Vocabulary("anatomy", {"heart": Concept("heart", "heart", "anatomy", 0, synonyms=("heart",))})
PATHOLOGY = Vocabulary(
    "pathology",
    {
        name: Concept(name, name, "pathology", index, category="finding", synonyms=(name,))
        for index, name in enumerate(("effusion", "edema"))
    },
)


class FakePipeline:
    """Fails on a report that says CRASH; ends its process on one that says KILL, while the file `die_if` is there."""

    def __init__(self, name: str = "fake", delay: float = 0.0, die_if: str | None = None) -> None:
        self.anatomy, self.pathology = ANATOMY, PATHOLOGY
        self._name, self._delay, self._die_if = name, delay, die_if

    def describe(self) -> dict[str, object]:
        return {"name": self._name, "settings": {}}

    def run(self, reports: Sequence[Report]) -> list[ReportGraph]:
        return [self._graph(report) for report in reports]

    def _graph(self, report: Report) -> ReportGraph:
        time.sleep(self._delay)
        if "CRASH" in report.text:
            raise ValueError(f"cannot make sense of {report.text}")
        if "KILL" in report.text and self._die_if is not None and Path(self._die_if).exists():
            os._exit(1)
        mentions: list[Mention] = []
        nodes: dict[str, Node] = {}
        for match in re.finditer("heart|effusion|edema|unheard", report.text):
            word, (start, end) = match[0], match.span()
            concept = word if word in ANATOMY.concepts or word in PATHOLOGY.concepts else None
            anatomy = word in ANATOMY.concepts
            mention = Mention(
                len(mentions),
                "anatomy" if anatomy else "observation",
                "present",
                word,
                start,
                end,
                "findings",
                0,
                concept=concept,
            )
            mentions.append(mention)
            if concept is not None:
                kind: Any = "anatomy" if anatomy else "pathology"
                fresh = Node(len(nodes), kind, concept, None, "present", "stated", sections=["findings"])
                node = nodes.setdefault(concept, fresh)
                node.mentions.append(mention.mention_id)
                node.spans.append(Span(start, end))
        edges = []
        heart = nodes.get("heart")
        if heart is not None:
            for node in nodes.values():
                if node.kind == "pathology":
                    mentions[node.mentions[0]].relations.append(Relation("located_at", heart.mentions[0]))
                    edges.append(Edge(node.node_id, heart.node_id, "located_at", "stated"))
        whole = len(report.text)
        sections = [Section("findings", 0, whole)]
        return ReportGraph(report, sections, [Span(0, whole)], mentions, list(nodes.values()), edges)


def run(inputs: Sequence[Path], output: Path, **settings: Any) -> ExtractSummary:
    """`extract` with the fake pipeline, by default in this process and in silence."""
    own = {name: settings.pop(name) for name in ("name", "delay", "die_if") if name in settings}
    return extract(
        inputs, output, pipeline=partial(FakePipeline, **own), **({"workers": 1, "progress": False} | settings)
    )


module: Any = sys.modules["graphprep.extract"]  # `graphprep.extract` itself is the function
SMALL = {"TASK_REPORTS": 5, "GROUP_REPORTS": 10, "ALONE_SECONDS": 0.0}
"""What takes thousands of reports in life takes dozens with these."""


if __name__ == "__main__":
    vars(module).update(SMALL)
    try:
        run(
            [Path(sys.argv[1])],
            Path(sys.argv[2]),
            **{k: json.loads(v) for k, v in (a.split("=", 1) for a in sys.argv[3:])},
        )
    except UserError as error:
        sys.exit(str(error))
