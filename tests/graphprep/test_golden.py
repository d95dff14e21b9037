"""Sentences with the graph that a radiologist would draw: `golden/*.yaml`, one file per phenomenon.

A file holds `phenomenon` (a title) and `cases`; a case holds `text` and the graph of it:

    - text: Patchy opacity in the left lower lobe may represent pneumonia.
      findings:
        - {present: lung_opacity left, at: [lower_lobe left], attributes: [morphology patchy], suggests: [pneumonia]}
        - {uncertain: pneumonia}

`findings` are all pathology nodes: assertion, concept and side. `at` are the anatomies that the text puts the finding at
(the vocabulary's own site is none of them) and `suggests` the findings that it is said to suggest; left out means none.
`attributes` are compared where they are given, and so is `anatomy`, a list of all places that the text names.
`known_failure` gives the reason why the extractor does not find the graph yet; such a case has to fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphprep.pipeline import Pipeline
from graphprep.records import Node, Report, ReportGraph

FOLDER = Path(__file__).parent / "golden"
FILES = sorted(FOLDER.glob("*.yaml"))
ASSERTIONS = ("present", "uncertain", "absent")
SIDES = ("left", "right", "bilateral")
CASE_KEYS = {"text", "findings", "anatomy", "known_failure"}
FINDING_KEYS = {*ASSERTIONS, "at", "attributes", "suggests"}


@dataclass(frozen=True, order=True)
class Finding:
    """A pathology node and what it is joined to; `attributes` None: not compared."""

    name: str  # concept, and side where there is one
    assertion: str
    at: tuple[str, ...]
    attributes: tuple[str, ...] | None
    suggests: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.assertion}: {self.name}"]
        for key in ("at", "attributes", "suggests"):
            values = getattr(self, key)
            if values:
                parts.append(f"{key}: [{', '.join(values)}]")
        return "{" + ", ".join(parts) + "}"


@dataclass(frozen=True)
class Case:
    """A text and its graph; `anatomy` None: not compared."""

    file: str
    number: int
    text: str
    findings: tuple[Finding, ...]
    anatomy: tuple[str, ...] | None
    known_failure: str | None


def _case(file: str, number: int, raw: dict[str, Any]) -> Case:
    assert set(raw) <= CASE_KEYS, f"{file}, case {number}: unknown keys {sorted(set(raw) - CASE_KEYS)}"
    findings = []
    for entry in raw["findings"]:
        assertions = [key for key in entry if key in ASSERTIONS]
        assert set(entry) <= FINDING_KEYS, f"{file}, case {number}: unknown keys in {entry}"
        assert len(assertions) == 1, f"{file}, case {number}: one of present, uncertain, absent is needed in {entry}"
        findings.append(
            Finding(
                entry[assertions[0]],
                assertions[0],
                tuple(sorted(entry.get("at", ()))),
                tuple(sorted(entry["attributes"])) if "attributes" in entry else None,
                tuple(sorted(entry.get("suggests", ()))),
            )
        )
    anatomy = tuple(sorted(raw["anatomy"])) if "anatomy" in raw else None
    return Case(file, number, raw["text"], tuple(sorted(findings)), anatomy, raw.get("known_failure"))


def _cases() -> Iterator[Case]:
    for file in FILES:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        for number, raw in enumerate(document["cases"], start=1):
            yield _case(file.stem, number, raw)


CASES = list(_cases())


def _parameters() -> Iterable[Any]:
    for case in CASES:
        marks = [pytest.mark.xfail(reason=case.known_failure, strict=True)] if case.known_failure else []
        yield pytest.param(case, id=f"{case.file}-{case.number}", marks=marks)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline()


def _name(node: Node) -> str:
    return node.concept if node.side is None else f"{node.concept} {node.side}"


def _found(graph: ReportGraph) -> tuple[Finding, ...]:
    """Return the findings of a graph; a suggested finding is named by its concept."""
    findings = []
    for node in graph.nodes:
        if node.kind != "pathology":
            continue
        stated = [edge for edge in graph.edges if edge.source == node.node_id and edge.origin == "stated"]
        findings.append(
            Finding(
                _name(node),
                node.assertion,
                tuple(sorted(_name(graph.nodes[edge.target]) for edge in stated if edge.relation == "located_at")),
                tuple(sorted(f"{attribute.kind} {attribute.words}" for attribute in node.attributes)),
                tuple(sorted(graph.nodes[edge.target].concept for edge in stated if edge.relation == "suggestive_of")),
            )
        )
    return tuple(sorted(findings))


def _like(found: tuple[Finding, ...], expected: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Leave out the attributes of findings that nothing is expected of."""
    uncompared = {(finding.name, finding.assertion) for finding in expected if finding.attributes is None}
    return tuple(
        sorted(
            replace(finding, attributes=None) if (finding.name, finding.assertion) in uncompared else finding
            for finding in found
        )
    )


def _difference(title: str, expected: Iterable[object], found: Iterable[object]) -> list[str]:
    """Lines of both, with - before what is missing and + before what is too much."""
    wanted, have = Counter(map(str, expected)), Counter(map(str, found))
    lines = [f"  {title}:"]
    for line in sorted((wanted | have).elements()):
        mark = " " if line in wanted and line in have else "-" if line in wanted else "+"
        lines.append(f"  {mark} {line}")
    return lines


@pytest.mark.parametrize("case", _parameters())
def test_graph_is_the_one_a_radiologist_would_draw(pipeline: Pipeline, case: Case) -> None:
    [graph] = pipeline.run([Report("golden", case.text, f"{case.file}.yaml", case.number)])
    found = _like(_found(graph), case.findings)
    places = tuple(sorted(_name(node) for node in graph.nodes if node.kind == "anatomy" and node.origin == "stated"))
    lines = []
    if found != case.findings:
        lines += _difference("findings (- expected, + found)", case.findings, found)
    if case.anatomy is not None and places != case.anatomy:
        lines += _difference("anatomy (- expected, + found)", case.anatomy, places)
    if lines:
        pytest.fail("\n".join([f"{case.file}.yaml, case {case.number}", f"  text: {case.text}", *lines]), pytrace=False)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 150
    few = {file: count for file, count in Counter(case.file for case in CASES).items() if count < 5}
    assert not few


def test_every_text_stands_once() -> None:
    assert [text for text, count in Counter(case.text for case in CASES).items() if count > 1] == []


def test_cases_speak_the_vocabulary(pipeline: Pipeline) -> None:
    """A misspelt concept, side or attribute kind would make a case that no extractor can pass."""
    wrong = []
    for case in CASES:
        places = {place for finding in case.findings for place in finding.at} | set(case.anatomy or ())
        names = [(finding.name, pipeline.pathology) for finding in case.findings]
        names += [(concept, pipeline.pathology) for finding in case.findings for concept in finding.suggests]
        for name, vocabulary in names + [(place, pipeline.anatomy) for place in places]:
            concept, _, side = name.partition(" ")
            if concept not in vocabulary.concepts or (side and side not in SIDES):
                wrong.append(f"{case.file}, case {case.number}: {name} ({vocabulary.kind})")
            elif vocabulary.kind == "anatomy" and side and not vocabulary.concepts[concept].sided:
                wrong.append(f"{case.file}, case {case.number}: {concept} has no sides")
    assert wrong == []
