"""A small graphs folder made by hand: what test_graphs, test_stats, test_show and test_api read.

Texts are our own. Parts and row groups are cut so that both borders are crossed: part 0 holds the reports `007`, `b` and `c`
in two row groups, part 1 holds `d` and `e`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graphprep.records import (
    Attribute,
    Edge,
    Image,
    Mention,
    Node,
    Reject,
    Relation,
    Report,
    ReportGraph,
    Section,
    Span,
)
from graphprep.vocabulary import Vocabulary, load_vocabularies
from graphprep.write import ShardWriter, tables_of, write_manifest, write_vocabulary

ANATOMY = """
version: 1
kind: anatomy
concepts:
  - {id: thorax, name: thorax, synonyms: [thorax]}
  - {id: lung, name: lung, sided: true, part_of: thorax, synonyms: [lung]}
  - {id: lower_lobe, name: lower lobe, sided: true, part_of: lung, synonyms: [lower lobe]}
  - {id: pleural_space, name: pleural space, sided: true, synonyms: [pleural space]}
  - {id: heart, name: heart, synonyms: [heart]}
"""

PATHOLOGY = """
version: 1
kind: pathology
concepts:
  - {id: pleural_effusion, name: pleural effusion, category: finding, site: pleural_space, synonyms: [effusion]}
  - {id: opacity, name: opacity, category: finding, site: lung, synonyms: [opacity]}
  - {id: pneumonia, name: pneumonia, category: finding, site: lung, synonyms: [pneumonia]}
  - {id: normal_heart_size, name: normal heart size, category: normality, site: heart, synonyms: [normal heart size]}
  - {id: pacemaker, name: pacemaker, category: device, synonyms: [pacemaker]}
  - {id: sternotomy, name: sternotomy, category: postoperative, synonyms: [sternotomy]}
"""


def mention(report: Report, mention_id: int, words: str, label: str, **fields: Any) -> Mention:
    """The first place where the report says `words`, as a mention."""
    start = report.text.index(words)
    fields = {"assertion": "present", "section": None, "sentence": 0} | fields
    return Mention(mention_id=mention_id, label=label, text=words, start=start, end=start + len(words), **fields)  # type: ignore[arg-type]


def full_report() -> ReportGraph:
    """Present, uncertain, absent and normal; two sections; relations of every kind; two images."""
    text = (
        "FINDINGS:\nPatchy opacity in the left lower lobe may represent pneumonia. No effusion.\nHeart size is normal.\n\n"
        "CONCLUSION:\nOpacity, new. Blorbidity of the gnarl."
    )
    report = Report(
        "007",
        text,
        source="reports.csv",
        source_row=1,
        subject_id="p1",
        study_id="s1",
        split="train",
        images=[Image("a/1.png", "PA", "i1"), Image("a/2.png", "LATERAL", "i2")],
    )
    findings = Section("findings", text.index("Patchy"), text.index("\n\nCONCLUSION"))
    impression = Section("impression", text.index("Opacity, new"), len(text))
    f = {"section": "findings"}
    i = {"section": "impression", "sentence": 3}
    graph = ReportGraph(
        report=report,
        sections=[findings, impression],
        sentences=[Span(10, 74), Span(75, 87), Span(88, 109), Span(123, 136), Span(137, 161)],
        mentions=[
            mention(report, 0, "Patchy", "observation", relations=[Relation("modify", 1)], **f),
            mention(
                report,
                1,
                "opacity",
                "observation",
                relations=[Relation("located_at", 3), Relation("suggestive_of", 4)],
                concept="opacity",
                **f,
            ),
            mention(report, 2, "left", "anatomy", relations=[Relation("modify", 3)], **f),
            mention(report, 3, "lower lobe", "anatomy", concept="lower_lobe", **f),
            mention(report, 4, "pneumonia", "observation", assertion="uncertain", concept="pneumonia", **f),
            mention(report, 5, "effusion", "observation", assertion="absent", concept="pleural_effusion", **f),
            mention(report, 6, "Heart", "anatomy", concept="heart", **f),
            mention(
                report,
                7,
                "normal",
                "observation",
                relations=[Relation("located_at", 6)],
                concept="normal_heart_size",
                **f,
            ),
            mention(report, 8, "Opacity", "observation", concept="opacity", **i),
            mention(report, 9, "new", "observation", relations=[Relation("modify", 8)], **i),
            mention(report, 10, "Blorbidity", "observation", relations=[Relation("located_at", 11)], **i),
            mention(report, 11, "gnarl", "anatomy", **i),
        ],
        nodes=[
            node(0, "pathology", "opacity", "left", mentions=[1, 0, 8, 9], sections=["findings", "impression"]),
            node(1, "anatomy", "lower_lobe", "left", mentions=[3, 2]),
            node(2, "pathology", "pneumonia", None, "uncertain", mentions=[4]),
            node(3, "anatomy", "lung", "left", origin="vocabulary"),
            node(4, "pathology", "pleural_effusion", None, "absent", mentions=[5]),
            node(5, "anatomy", "pleural_space", None, origin="vocabulary"),
            node(6, "anatomy", "heart", None, mentions=[6]),
            node(7, "pathology", "normal_heart_size", None, mentions=[7]),
        ],
        edges=[
            Edge(0, 1, "located_at", "stated"),
            Edge(0, 2, "suggestive_of", "stated"),
            Edge(2, 1, "located_at", "stated"),
            Edge(1, 3, "part_of", "vocabulary"),
            Edge(4, 5, "located_at", "vocabulary"),
            Edge(7, 6, "located_at", "stated"),
        ],
    )
    graph.nodes[0].attributes = [Attribute("change", "new"), Attribute("morphology", "patchy")]
    graph.nodes[0].spans = [Span(10, 24), Span(123, 135)]
    return graph


def node(node_id: int, kind: str, concept: str, side: str | None, assertion: str = "present", **fields: Any) -> Node:
    """A node with short defaults; without `sections` it is of the findings if the report states it."""
    origin = fields.setdefault("origin", "stated")
    fields.setdefault("sections", ["findings"] if origin == "stated" else [])
    return Node(node_id, kind, concept, side, assertion, **fields)  # type: ignore[arg-type]


def plain_report(report_id: str, text: str, row: int, **fields: Any) -> ReportGraph:
    """A report without mentions, in one section."""
    return ReportGraph(
        report=Report(report_id, text, source="reports.csv", source_row=row, **fields),
        sections=[Section("findings", 0, len(text))],
        sentences=[Span(0, len(text))],
        mentions=[],
        nodes=[],
        edges=[],
    )


def device_report() -> ReportGraph:
    """A past device and a present one; no finding."""
    graph = plain_report("b", "Pacemaker. Prior sternotomy. History of pneumonia.", 2, subject_id="p1", split="train")
    graph.mentions = [
        mention(graph.report, 0, "Pacemaker", "observation", concept="pacemaker", section="findings"),
        mention(graph.report, 1, "sternotomy", "observation", concept="sternotomy", section="findings"),
        mention(
            graph.report,
            2,
            "pneumonia",
            "observation",
            concept="pneumonia",
            section="findings",
            temporality="historical",
        ),
    ]
    graph.nodes = [
        node(0, "pathology", "pacemaker", None, mentions=[0]),
        node(1, "pathology", "sternotomy", None, mentions=[1]),
    ]
    return graph


def effusions() -> ReportGraph:
    """A bilateral finding."""
    graph = plain_report("d", "Effusions 3 cm. Mild.", 5, subject_id="p2", split="test")
    graph.mentions = [
        mention(graph.report, 0, "Effusions", "observation", concept="pleural_effusion", section="findings"),
        mention(graph.report, 1, "3 cm", "observation", measurement=True, section="findings"),
    ]
    graph.nodes = [
        node(0, "pathology", "pleural_effusion", "bilateral", mentions=[0]),
        node(1, "anatomy", "pleural_space", "bilateral", origin="vocabulary"),
    ]
    graph.nodes[0].attributes = [Attribute("measurement", "3 cm")]
    graph.edges = [Edge(0, 1, "located_at", "vocabulary")]
    return graph


def handmade_graphs() -> list[ReportGraph]:
    return [
        full_report(),
        device_report(),
        plain_report("c", "Nothing that anybody knows.", 3),
        effusions(),
        plain_report("e", "", 6),
    ]


REJECTS = [
    Reject("reports.csv", 4, None, "malformed_row", "The row has 3 fields where the header has 5.", "a,b,c"),
    Reject("reports.csv", 7, "c", "duplicate_id", "The id occurs in row 3 with another text."),
]


@cache
def handmade_vocabularies() -> tuple[Vocabulary, Vocabulary]:
    with TemporaryDirectory() as folder:
        anatomy, pathology = Path(folder, "anatomy.yaml"), Path(folder, "pathology.yaml")
        anatomy.write_text(ANATOMY, encoding="utf-8")
        pathology.write_text(PATHOLOGY, encoding="utf-8")
        return load_vocabularies(anatomy, pathology)


def write_folder(
    folder: Path,
    row_groups: Sequence[Sequence[Sequence[ReportGraph]]] | None = None,
    rejects: Sequence[Reject] = REJECTS,
    text: bool = True,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Write parts of row groups of reports (ours by default) as a finished graphs folder; `change` edits the manifest."""
    graphs = handmade_graphs()
    parts = [[graphs[:2], graphs[2:3]], [graphs[3:]]] if row_groups is None else row_groups
    vocabularies = handmade_vocabularies()
    shards = []
    for part, groups in enumerate(parts):
        with ShardWriter(folder, part) as writer:
            for i, group in enumerate(groups):
                writer.write(tables_of(group, rejects if part == i == 0 else [], text=text))
        shards.append({"part": part, "tables": writer.files})
    reasons = [reject.reason for reject in rejects]
    manifest: dict[str, Any] = {
        "schema_version": "1.0",
        "extractor": {"name": "rules", "settings": {}},
        "sections": ["findings", "impression"],
        "text": text,
        "vocabulary": {v.kind: {"sha256": v.sha256, "concepts": len(v.concepts)} for v in vocabularies},
        "input": {
            "files": [{"name": "reports.csv", "bytes": 1, "sha256": "0" * 64}],
            "columns": {"text": "report"},
            "fingerprint": "0" * 64,
        },
        "image_root": None,
        "shard_size": 3,
        "shards": shards,
        "vocabulary_files": {v.kind: write_vocabulary(folder, v, {}) for v in vocabularies},
        "totals": {
            table: sum(shard["tables"][table]["rows"] for shard in shards)
            for table in ("reports", "mentions", "nodes", "edges", "rejects")
        },
        "rejected": {reason: reasons.count(reason) for reason in reasons},
    }
    if change is not None:
        change(manifest)
    write_manifest(folder, manifest)
    return folder
