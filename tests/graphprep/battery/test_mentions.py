"""Sentences and their mentions and relations as RadGraph's annotators mark them (`mentions.txt`)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from graphprep.pipeline import Pipeline
from graphprep.records import Report
from graphprep.words import TOKEN

LABELS = {"a": "anatomy", "p": "present", "u": "uncertain", "x": "absent", "m": "measurement"}
TYPES = {">": "modify", "@": "located_at", "=": "suggestive_of"}
LEAST = {"span": 0.97, "label": 0.97, "relation": 0.94}

Span = tuple[int, int]
Sentence = tuple[dict[Span, str], set[tuple[str, Span, Span]]]


def annotated(line: str) -> tuple[str, Sentence]:
    """The text of a line, and its mentions and relations."""
    tokens: list[str] = []
    found: list[tuple[Span, str, list[tuple[str, str]], str]] = []
    for item in line.split():
        marked = re.fullmatch(r"(.+?)/([apuxm])((?:[>@=][\w\-#]+)*)", item)
        words = marked[1].split("_") if marked else [item]
        if marked:
            span = (len(tokens), len(tokens) + len(words))
            found.append((span, LABELS[marked[2]], re.findall(r"([>@=])([\w\-#]+)", marked[3]), marked[1].lower()))
        tokens += words
    relations = set()
    for span, _, outgoing, _ in found:
        for sign, target in outgoing:
            name, _, number = target.lower().partition("#")
            named = [other for other, _, _, text in found if text == name]
            nearest = min(named, key=lambda other, at=span[0]: abs(other[0] - at))  # type: ignore[misc]
            relations.add((TYPES[sign], span, named[int(number) - 1] if number else nearest))
    return " ".join(tokens), ({span: label for span, label, _, _ in found}, relations)


def read(pipeline: Pipeline, text: str) -> Sentence:
    [graph] = pipeline.run([Report("1", text, "battery", 1)])
    spans = [match.span() for match in TOKEN.finditer(text)]
    first, last = ({span[edge]: at for at, span in enumerate(spans)} for edge in (0, 1))
    where = [(first[mention.start], last[mention.end] + 1) for mention in graph.mentions]
    labels = {
        span: "measurement" if one.measurement else "anatomy" if one.label == "anatomy" else one.assertion
        for span, one in zip(where, graph.mentions, strict=True)
    }
    return labels, {
        (relation.type, where[number], where[relation.target])
        for number, mention in enumerate(graph.mentions)
        for relation in mention.relations
    }


def test_mentions_and_relations_are_those_of_the_conventions() -> None:
    path = Path(__file__).parent / "mentions.txt"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(lines) >= 360
    pipeline = Pipeline()
    counts: Counter[str] = Counter()
    for line in lines:
        text, (labels, relations) = annotated(line)
        our_labels, our_relations = read(pipeline, text)
        counts["mentions"] += len(labels) + len(our_labels)
        counts["relations"] += len(relations) + len(our_relations)
        counts["span"] += 2 * len(labels.keys() & our_labels.keys())
        counts["label"] += 2 * len(labels.items() & our_labels.items())
        counts["relation"] += 2 * len(relations & our_relations)
    found = {
        "span": counts["span"] / counts["mentions"],
        "label": counts["label"] / counts["mentions"],
        "relation": counts["relation"] / counts["relations"],
    }
    print("F1: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    assert all(found[name] >= least for name, least in LEAST.items()), found
