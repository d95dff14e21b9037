"""The records that pass from step to step; the tables of the data contract hold the same fields.

Offsets are Unicode code points of `Report.text`, end exclusive. Fields are documented in `schemas/*.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Label = Literal["anatomy", "observation"]
Assertion = Literal["present", "uncertain", "absent"]
Temporality = Literal["current", "historical", "hypothetical"]
RelationType = Literal["modify", "located_at", "suggestive_of"]
Side = Literal["left", "right", "bilateral"]
Kind = Literal["anatomy", "pathology"]
Origin = Literal["stated", "vocabulary"]
EdgeRelation = Literal["located_at", "suggestive_of", "part_of"]


@dataclass(slots=True)
class Image:
    """An image of a report; `path` is relative to the image root, with forward slashes."""

    path: str
    view: str | None = None
    image_id: str | None = None


@dataclass(slots=True)
class Section:
    """A named stretch of the report text, its heading not included."""

    name: str
    start: int
    end: int


@dataclass(slots=True)
class Span:
    """A stretch of the report text."""

    start: int
    end: int


@dataclass(slots=True)
class Report:
    """A report as read: `text` after normalisation, `sections` where the input's own columns lie in it (else empty)."""

    report_id: str
    text: str
    source: str
    source_row: int
    sections: list[Section] = field(default_factory=list)
    subject_id: str | None = None
    study_id: str | None = None
    split: str | None = None
    images: list[Image] = field(default_factory=list)


@dataclass(slots=True)
class Reject:
    """An input row (or an image of it) that could not be used, and why. `content` is left out under --no-text."""

    source: str
    source_row: int
    report_id: str | None
    reason: str
    detail: str
    content: str | None = None


@dataclass(slots=True)
class Sentence:
    """A sentence and the index of its section in `Document.sections` (-1: outside every section)."""

    start: int
    end: int
    section: int


@dataclass(slots=True)
class Document:
    """A report cut into sections and sentences; `extract` tells for each sentence whether mentions are wanted of it."""

    report: Report
    sections: list[Section]
    sentences: list[Sentence]
    extract: list[bool]


@dataclass(slots=True)
class Relation:
    """A relation from the mention that holds it to the mention `target`."""

    type: RelationType
    target: int


@dataclass(slots=True)
class Mention:
    """What the text says, at RadGraph's granularity."""

    mention_id: int
    label: Label
    assertion: Assertion
    text: str
    start: int
    end: int
    section: str | None
    sentence: int
    measurement: bool = False
    temporality: Temporality = "current"
    relations: list[Relation] = field(default_factory=list)
    concept: str | None = None
    assertion_model: Assertion | None = None
    assertion_context: Assertion | None = None


@dataclass(slots=True, order=True, frozen=True)
class Attribute:
    """A qualifier of a node: `kind` is one of severity, change, morphology, extent, number, measurement, temporal, position."""

    kind: str
    words: str


@dataclass(slots=True)
class Node:
    """What the report means, in the words of the vocabulary."""

    node_id: int
    kind: Kind
    concept: str
    side: Side | None
    assertion: Assertion
    origin: Origin
    attributes: list[Attribute] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    mentions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)


@dataclass(slots=True)
class Edge:
    """A relation between two nodes of a report."""

    source: int
    target: int
    relation: EdgeRelation
    origin: Origin


@dataclass(slots=True)
class ReportGraph:
    """A report with its mentions and its graph: one row of `reports` and the rows of the other tables that belong to it."""

    report: Report
    sections: list[Section]
    sentences: list[Span]
    mentions: list[Mention]
    nodes: list[Node]
    edges: list[Edge]
