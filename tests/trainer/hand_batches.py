"""Batches of graphs written out by hand, and random ones, for tests of what happens after the loader."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from trainer.graph.batch import EdgeKind, GraphBatch, QuerySide, State
from trainer.graph.concepts import ConceptTable

SIDES = {None: QuerySide.NONE, "left": QuerySide.LEFT, "right": QuerySide.RIGHT, "both": QuerySide.BILATERAL}
STATES = {"+": State.PRESENT, "?": State.UNCERTAIN, "-": State.ABSENT}

# concept: parent, part_of, sided
ANATOMY: dict[str, tuple[str | None, str | None, bool]] = {
    "chest": (None, None, False),
    "lung": (None, "chest", True),
    "lobe": (None, "lung", True),
    "upper_lobe": ("lobe", "lung", True),
    "lower_lobe": ("lobe", "lung", True),
    "middle_lobe": ("lobe", "lung", False),
    "pleura": (None, "chest", True),
    "heart": (None, "chest", False),
}
# concept: parent, category, site, opposites
PATHOLOGY: dict[str, tuple[str | None, str, str | None, list[str]]] = {
    "opacity": (None, "finding", "lung", ["clear_lungs"]),
    "atelectasis": ("opacity", "finding", "lung", []),
    "collapse": ("atelectasis", "finding", "lobe", []),
    "pneumonia": ("opacity", "finding", "lung", []),
    "effusion": (None, "finding", "pleura", []),
    "hyperinflation": (None, "finding", "lung", ["low_volumes"]),
    "low_volumes": (None, "finding", "lung", []),
    "cardiomegaly": (None, "finding", "heart", ["normal_heart"]),
    "tube": (None, "device", "pleura", []),
    "clear_lungs": (None, "normality", "lung", []),
    "normal_heart": (None, "normality", "heart", []),
    "abnormality": (None, "generic", None, []),
}

Node = tuple[str, str | None, str]
Edge = tuple[int, int, EdgeKind]
Report = tuple[Sequence[Node], Sequence[Edge]]


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    common = {"synonyms": [], "labels": [], "count": 4, "category": None, "site": None, "opposite": [], "part_of": None}
    anatomy = [
        common | {"index": index, "concept": name, "name": name, "parent": parent, "part_of": part_of, "sided": sided}
        for index, (name, (parent, part_of, sided)) in enumerate(ANATOMY.items())
    ]
    pathology = [
        common
        | {
            "index": index,
            "concept": name,
            "name": name,
            "parent": parent,
            "category": category,
            "site": site,
            "opposite": opposite,
            "sided": None,
        }
        for index, (name, (parent, category, site, opposite)) in enumerate(PATHOLOGY.items())
    ]
    return anatomy, pathology


def table() -> ConceptTable:
    return ConceptTable.from_rows(*rows())


def row(concept: str) -> int:
    return [*ANATOMY, *PATHOLOGY].index(concept)


def pack(reports: Sequence[Report], size: int = 16, seed: int = 0, vocabulary: int = 50) -> GraphBatch:
    """Reports as a batch: noise as images, random tokens, and for every node a span of one to three tokens."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [(number, *node) for number, (of_report, _) in enumerate(reports) for node in of_report]
    offsets = [sum(len(of_report) for of_report, _ in reports[:number]) for number in range(len(reports))]
    edges = [
        (offset + source, offset + target, kind)
        for offset, (_, of_report) in zip(offsets, reports, strict=True)
        for source, target, kind in of_report
    ]
    length = 12
    starts = torch.randint(0, length - 3, (len(nodes),), generator=generator)
    widths = torch.randint(1, 4, (len(nodes),), generator=generator)
    content = [hash_of(nodes_of, edges_of) for nodes_of, edges_of in reports]

    def column(values: list[Any]) -> torch.Tensor:
        return torch.tensor([int(value) for value in values], dtype=torch.long)

    return GraphBatch(
        report_ids=[f"r{number}" for number in range(len(reports))],
        images=torch.randint(0, 256, (len(reports), 1, size, size), dtype=torch.uint8, generator=generator),
        input_ids=torch.randint(5, vocabulary, (len(reports), length), generator=generator),
        attention_mask=torch.ones(len(reports), length, dtype=torch.long),
        node_report=column([report for report, *_ in nodes]),
        node_concept=column([row(concept) for _, concept, _, _ in nodes]),
        node_side=column([SIDES[side] for _, _, side, _ in nodes]),
        node_state=column([STATES[state] for *_, state in nodes]),
        node_is_pathology=torch.tensor([concept in PATHOLOGY for _, concept, _, _ in nodes], dtype=torch.bool),
        node_content=column([hash_of([node[1:]], []) for node in nodes]),
        span_node=torch.arange(len(nodes)),
        span_start=starts,
        span_end=starts + widths,
        edge_source=column([source for source, _, _ in edges]),
        edge_target=column([target for _, target, _ in edges]),
        edge_kind=column([kind for _, _, kind in edges]),
        report_content=column(content),
    )


def hash_of(nodes: Sequence[Any], edges: Sequence[Any]) -> int:
    """The same in every process, unlike `hash`."""
    return random.Random(repr((list(nodes), list(edges)))).getrandbits(62)


def random_reports(count: int, seed: int) -> list[Report]:
    """Reports of zero to eight nodes, with places for some of the findings and a suggestion here and there."""
    source = random.Random(seed)
    reports: list[Report] = []
    for _ in range(count):
        nodes: list[Node] = []
        for _ in range(source.randint(0, 8)):
            kind = ANATOMY if source.random() < 0.4 else PATHOLOGY
            concept = source.choice([*kind])
            sided = concept in PATHOLOGY or ANATOMY[concept][2]
            side = source.choice([None, "left", "right", "both"]) if sided else None
            nodes.append((concept, side, source.choice("++-?") if concept in PATHOLOGY else "+"))
        nodes = list(dict.fromkeys(nodes))
        findings = [number for number, node in enumerate(nodes) if node[0] in PATHOLOGY]
        places = [number for number, node in enumerate(nodes) if node[0] in ANATOMY]
        edges: list[Edge] = [
            (finding, place, EdgeKind.LOCATED_AT) for finding in findings for place in places if source.random() < 0.4
        ]
        edges += [
            (one, other, EdgeKind.SUGGESTIVE_OF)
            for one in findings
            for other in findings
            if one != other and source.random() < 0.1
        ]
        reports.append((nodes, edges))
    return reports
