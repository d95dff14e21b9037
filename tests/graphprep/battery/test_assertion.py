"""Short sentences and what they assert (`assertion*.yaml`): one test for each, and how many of a file are wholly right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from graphprep.pipeline import Pipeline
from graphprep.records import Report

ASSERTIONS = ("present", "uncertain", "absent")
SIDES = ("left", "right", "bilateral")
# Of the files that the rules were mended with first; the later ones hold more that is not read yet.
WHOLLY_RIGHT = {
    "assertion.yaml": 0.98,
    "assertion_second.yaml": 0.98,
    "assertion_third.yaml": 0.97,
    "assertion_fourth.yaml": 0.95,
    "assertion_fifth.yaml": 0.94,
    "assertion_sixth.yaml": 0.97,
    "assertion_seventh.yaml": 0.95,
}


@dataclass(frozen=True)
class Case:
    file: str
    phenomenon: str
    text: str
    findings: tuple[str, ...]
    known_failure: str | None


def _cases() -> Iterator[Case]:
    for file in WHOLLY_RIGHT:
        for group in yaml.safe_load((Path(__file__).parent / file).read_text(encoding="utf-8")):
            for sentence in group["sentences"]:
                assert set(sentence) <= {"text", "findings", "known_failure"}, sentence
                yield Case(
                    file,
                    group["phenomenon"],
                    sentence["text"],
                    tuple(sorted(sentence["findings"])),
                    sentence.get("known_failure"),
                )


CASES = list(_cases())


def _parameters() -> Iterator[Any]:
    for number, case in enumerate(CASES, start=1):
        yield pytest.param(case, id=f"{number}-{case.phenomenon.replace(' ', '_')}")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline()


def read(pipeline: Pipeline, text: str) -> tuple[str, ...]:
    """Return all pathology nodes of a sentence as "assertion concept side"."""
    [graph] = pipeline.run([Report("1", text, "battery", 1)])
    return tuple(
        sorted(
            " ".join(part for part in (node.assertion, node.concept, node.side) if part is not None)
            for node in graph.nodes
            if node.kind == "pathology"
        )
    )


@pytest.mark.parametrize("case", _parameters())
def test_sentence_asserts_what_it_says(pipeline: Pipeline, case: Case) -> None:
    found = read(pipeline, case.text)
    if case.known_failure is None:
        assert found == case.findings
    else:
        assert found != case.findings, "It is read now: take its known_failure away."


@pytest.mark.parametrize("file", WHOLLY_RIGHT)
def test_nearly_all_sentences_are_wholly_right(pipeline: Pipeline, file: str) -> None:
    cases = [case for case in CASES if case.file == file]
    wrong = [case.text for case in cases if read(pipeline, case.text) != case.findings]
    share = 1 - len(wrong) / len(cases)
    print(f"{file}: {len(cases) - len(wrong)} of {len(cases)} sentences wholly right ({share:.1%})")
    assert share >= WHOLLY_RIGHT[file], wrong


def test_the_batteries_are_large_and_say_nothing_twice() -> None:
    assert all(count >= 120 for count in Counter(case.file for case in CASES).values())
    assert len(CASES) >= 1200
    assert [text for text, count in Counter(case.text for case in CASES).items() if count > 1] == []


def test_findings_speak_the_vocabulary(pipeline: Pipeline) -> None:
    """A misspelt assertion, concept or side would make a sentence that no extractor can read."""
    wrong = []
    for case in CASES:
        for finding in case.findings:
            assertion, concept, *side = finding.split()
            if (
                assertion not in ASSERTIONS
                or concept not in pipeline.pathology.concepts
                or " ".join(side) not in ("", *SIDES)
            ):
                wrong.append(f"{case.text}: {finding}")
    assert wrong == []
