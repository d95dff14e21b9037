"""`validate`: nothing is said of a good folder, and each way to break one is named with file, row and report.

A good folder is written by the writer from records made by hand; a test then changes it in one place, and manifest and
checksums with it, so that one check alone can notice.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import schemas
from graphprep.errors import UserError
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
from graphprep.validate import Problem, ValidationReport, validate
from graphprep.vocabulary import Concept, Vocabulary
from graphprep.write import ShardWriter, sha256_of, tables_of, write_manifest, write_vocabulary

Change = Callable[[list[list[dict[str, Any]]]], Any]
"""Changes the rows of the row groups of a file."""

# A good folder

ANATOMY = (
    Concept("thorax", "thorax", "anatomy", 0),
    Concept("lung", "lung", "anatomy", 1, part_of="thorax", sided=True),
    Concept("lower_lobe", "lower lobe", "anatomy", 2, part_of="lung", sided=True),
    Concept("pleural_space", "pleural space", "anatomy", 3, sided=True),
    Concept("heart", "heart", "anatomy", 4),
)
PATHOLOGY = (
    Concept("effusion", "pleural effusion", "pathology", 0, category="finding", site="pleural_space"),
    Concept("opacity", "opacity", "pathology", 1, category="finding", site="lung"),
    Concept("pneumonia", "pneumonia", "pathology", 2, category="finding", parent="opacity", site="lung"),
    Concept(
        "normal_heart", "normal heart", "pathology", 3, category="normality", site="heart", opposites=("cardiomegaly",)
    ),
    Concept(
        "cardiomegaly", "enlarged heart", "pathology", 4, category="finding", site="heart", opposites=("normal_heart",)
    ),
)


def a_report(report_id: str, row: int, text: str, *bodies: tuple[str, str]) -> ReportGraph:
    """A report whose sections are `bodies` (name, text) and whose sentences end at a full stop."""
    sections = []
    for name, body in bodies:
        start = text.index(body)
        sections.append(Section(name, start, start + len(body)))
    sentences, start = [], 0
    for end in (index + 1 for index, letter in enumerate(text) if letter == "."):
        start += len(text[start:end]) - len(text[start:end].lstrip())
        sentences.append(Span(start, end))
        start = end
    return ReportGraph(Report(report_id, text, "reports.csv", row), sections, sentences, [], [], [])


def say(graph: ReportGraph, words: str, label: str, **fields: Any) -> None:
    """Add the mention of `words` at their first place."""
    start = graph.report.text.index(words)
    end = start + len(words)
    sentence = next(i for i, span in enumerate(graph.sentences) if span.start <= start and end <= span.end)
    section = next(section.name for section in graph.sections if section.start <= start and end <= section.end)
    fields = {"assertion": "present", "relations": [], "concept": None} | fields
    graph.mentions.append(
        Mention(
            len(graph.mentions), label, text=words, start=start, end=end, section=section, sentence=sentence, **fields
        )  # type: ignore[arg-type]
    )


def mean(graph: ReportGraph, kind: str, concept: str, side: str | None, *mentions: int, **fields: Any) -> None:
    """Add the node that these mentions make; one of the vocabulary without mentions."""
    said = [graph.mentions[mention] for mention in mentions]
    graph.nodes.append(
        Node(
            len(graph.nodes),
            kind,  # type: ignore[arg-type]
            concept,
            side,  # type: ignore[arg-type]
            fields.get("assertion", "present"),
            "stated" if mentions else "vocabulary",
            fields.get("attributes", []),
            sorted({str(mention.section) for mention in said}),
            list(mentions),
            [Span(mention.start, mention.end) for mention in said],
        )
    )


def effusion(report_id: str, row: int) -> ReportGraph:
    """Letters of two, three and four bytes before and among what is said."""
    graph = a_report(
        report_id,
        row,
        "FINDINGS:\nÜbrigens 🫁: a small, stable left effusion – no pneumonia. Heart normal.\n\nIMPRESSION:\nEffusion.",
        ("findings", "Übrigens 🫁: a small, stable left effusion – no pneumonia. Heart normal."),
        ("impression", "Effusion."),
    )
    graph.report.images = [Image("p1/frontal.png", "PA", "1"), Image("p1/..side.png")]
    say(graph, "small", "observation", relations=[Relation("modify", 3)])
    say(graph, "stable", "observation", relations=[Relation("modify", 3)])
    say(graph, "left", "anatomy")
    say(graph, "effusion", "observation", concept="effusion", relations=[Relation("located_at", 2)])
    say(graph, "pneumonia", "observation", concept="pneumonia", assertion="absent", assertion_context="absent")
    say(graph, "Heart", "anatomy", concept="heart")
    say(graph, "normal", "observation", concept="normal_heart", relations=[Relation("located_at", 5)])
    say(graph, "Effusion", "observation", concept="effusion")
    attributes = [Attribute("change", "stable"), Attribute("severity", "small")]
    mean(graph, "pathology", "effusion", "left", 3, 7, attributes=attributes)
    mean(graph, "pathology", "pneumonia", None, 4, assertion="absent")
    mean(graph, "anatomy", "heart", None, 5)
    mean(graph, "pathology", "normal_heart", None, 6)
    mean(graph, "anatomy", "pleural_space", "left")
    graph.edges = [Edge(0, 4, "located_at", "vocabulary"), Edge(3, 2, "located_at", "stated")]
    return graph


def opacity(report_id: str, row: int) -> ReportGraph:
    text = "Opacity in the right lower lobe of the lung, perhaps pneumonia."
    graph = a_report(report_id, row, text, ("findings", text))
    say(
        graph,
        "Opacity",
        "observation",
        concept="opacity",
        relations=[Relation("located_at", 1), Relation("suggestive_of", 3)],
    )
    say(graph, "lower lobe", "anatomy", concept="lower_lobe")
    say(graph, "lung", "anatomy", concept="lung")
    say(graph, "pneumonia", "observation", concept="pneumonia", assertion="uncertain")
    mean(graph, "pathology", "opacity", "right", 0)
    mean(graph, "anatomy", "lower_lobe", "right", 1)
    mean(graph, "anatomy", "lung", None, 2)
    mean(graph, "pathology", "pneumonia", "right", 3, assertion="uncertain")
    graph.edges = [
        Edge(0, 1, "located_at", "stated"),
        Edge(0, 3, "suggestive_of", "stated"),
        Edge(1, 2, "part_of", "vocabulary"),
        Edge(3, 1, "located_at", "stated"),
    ]
    return graph


def silence(report_id: str, row: int) -> ReportGraph:
    """Nothing is said, in a section that is empty."""
    return ReportGraph(
        Report(report_id, "FINDINGS:\n", "reports.csv", row), [Section("findings", 10, 10)], [], [], [], []
    )


Parts = list[list[tuple[list[ReportGraph], list[Reject]]]]


def good_parts() -> Parts:
    """Two parts; the first has three row groups, of which the second has no nodes and the third no reports."""
    empty = Reject("reports.csv", 4, "x", "empty_text", "The report has no text.", '{"id": "x"}')
    broken = Reject("reports.csv", 5, None, "malformed_row", "The row has 3 fields where the header has 2.", None)
    return [
        [([opacity("007", 1), effusion("07", 2)], []), ([silence("7", 3)], [empty]), ([], [broken])],
        [([effusion("é", 6), opacity("z", 7)], [])],
    ]


@dataclass
class Folder:
    """A folder of graphs that can be changed in one place."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return document

    def change_manifest(self, change: Callable[[dict[str, Any]], None]) -> None:
        manifest = self.manifest
        change(manifest)
        (self.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    def change_groups(self, file: str, change: Change) -> None:
        """Rewrite a file after `change` of its row groups, and what the manifest says of its bytes and rows."""
        name = "vocabulary" if file.startswith("vocab/") else file.split("/")[0]
        with pq.ParquetFile(self.path / file) as parquet:
            groups = [parquet.read_row_group(group).to_pylist() for group in range(parquet.num_row_groups)]
        change(groups)
        schema = without_nulls_forbidden(schemas.arrow_schema(name))
        self.write(file, [pa.Table.from_pylist(rows, schema=schema) for rows in groups])

    def change_tables(self, file: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Rewrite a file after `change` of each of its row groups."""
        with pq.ParquetFile(self.path / file) as parquet:
            groups = [parquet.read_row_group(group) for group in range(parquet.num_row_groups)]
        self.write(file, [change(group) for group in groups])

    def write(self, file: str, groups: list[pa.Table]) -> None:
        with pq.ParquetWriter(self.path / file, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(group.num_rows, 1))
        self.correct(file)

    def correct(self, file: str) -> None:
        """Make the manifest say what is there now."""
        rows = pq.read_metadata(self.path / file).num_rows

        def change(manifest: dict[str, Any]) -> None:
            for tables in (manifest["vocabulary_files"], *(shard["tables"] for shard in manifest["shards"])):
                for table, entry in tables.items():
                    if entry["file"] == file:
                        if table in manifest["totals"]:
                            manifest["totals"][table] += rows - entry["rows"]
                        entry |= {"rows": rows, "sha256": sha256_of(self.path / file)}

        self.change_manifest(change)


def without_nulls_forbidden(schema: pa.Schema) -> pa.Schema:
    """The same types, every value of which may be null."""

    def relaxed(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_list(kind):
            return pa.list_(pa.field("element", relaxed(kind.value_type)))
        if pa.types.is_struct(kind):
            return pa.struct([pa.field(child.name, relaxed(child.type)) for child in kind])
        return kind

    return pa.schema([pa.field(field.name, relaxed(field.type)) for field in schema])


def write_folder(path: Path, parts: Parts, text: bool = True) -> Folder:
    shards = []
    nodes: dict[str, Counter[str]] = {"anatomy": Counter(), "pathology": Counter()}
    for part, groups in enumerate(parts):
        with ShardWriter(path, part) as writer:
            for graphs, rejects in groups:
                writer.write(tables_of(graphs, rejects, text))
                for graph in graphs:
                    for node in graph.nodes:
                        nodes[node.kind][node.concept] += 1
        shards.append({"part": part, "tables": writer.files})
    vocabularies = (
        Vocabulary("anatomy", {concept.id: concept for concept in ANATOMY}),
        Vocabulary("pathology", {concept.id: concept for concept in PATHOLOGY}),
    )
    rejected = Counter(reject.reason for groups in parts for _, rejects in groups for reject in rejects)
    manifest = {
        "schema_version": "1.0",
        "extractor": {"name": "rules", "settings": {}},
        "sections": ["findings", "impression"],
        "text": text,
        "vocabulary": {v.kind: {"sha256": v.sha256, "concepts": len(v.concepts)} for v in vocabularies},
        "input": {"files": [], "columns": {}, "fingerprint": "0" * 64},
        "image_root": "../images",
        "shard_size": 4,
        "shards": shards,
        "vocabulary_files": {v.kind: write_vocabulary(path, v, nodes[v.kind]) for v in vocabularies},
        "totals": {table: sum(shard["tables"][table]["rows"] for shard in shards) for table in schemas.TABLES},
        "rejected": dict(rejected),
    }
    write_manifest(path, manifest)
    return Folder(path)


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("good") / "graphs", good_parts()).path


@pytest.fixture
def folder(good_folder: Path, tmp_path: Path) -> Folder:
    return Folder(Path(shutil.copytree(good_folder, tmp_path / "graphs")))


def the_problem(folder: Folder) -> Problem:
    """What is found, which must be one thing."""
    report = validate(folder.path)
    assert len(report.problems) == 1, [str(problem) for problem in report.problems]
    assert not report.ok
    return report.problems[0]


# Good folders


def test_a_good_folder(folder: Folder) -> None:
    report = validate(folder.path)
    assert report == ValidationReport(
        problems=[], skipped=[], counts={"reports": 5, "mentions": 24, "nodes": 18, "edges": 12, "rejects": 2}
    )
    assert report.ok


def test_a_folder_without_text(tmp_path: Path) -> None:
    report = validate(write_folder(tmp_path / "graphs", good_parts(), text=False).path)
    assert report.problems == []
    assert report.skipped == [
        "that sections, sentences, mentions and spans end inside the text: the folder is without text",
        "that mentions spell what stands at their offsets: the folder is without text",
    ]


def test_a_folder_without_reports(tmp_path: Path) -> None:
    assert validate(write_folder(tmp_path / "graphs", []).path).ok
    assert validate(write_folder(tmp_path / "one", [[]]).path).ok  # a part that holds nothing


def test_a_newer_minor_may_have_columns_that_we_do_not_know(folder: Folder) -> None:
    file = "nodes/part-00000.parquet"
    folder.change_tables(
        file, lambda table: table.append_column("certainty", pa.array([0.5] * table.num_rows, pa.float64()))
    )
    problem = the_problem(folder)
    assert (problem.file, problem.message) == (file, "column certainty is not in version 1.0 of the schema")

    folder.change_manifest(lambda manifest: manifest.update(schema_version="1.1", something="new"))
    assert validate(folder.path).ok


# Rows that are not as they should be: file, row, report id, what is expected


def put(row: int, column: str, value: Any, group: int = 0) -> Change:
    """Set a value; `column` may lead into a nested one: `relations.0.target`."""

    def change(groups: list[list[dict[str, Any]]]) -> None:
        *way, last = (int(step) if step.isdigit() else step for step in column.split("."))
        inner: Any = groups[group][row]
        for step in way:
            inner = inner[step]
        inner[last] = value

    return change


def cut(row: int, column: str, group: int = 0) -> Change:
    """Empty a list."""
    return put(row, column, [], group)


def in_row_groups(change: Change) -> Change:
    """`change` as one of the rows of the file, whatever row groups they are in."""
    return lambda groups: change([list(itertools.chain(*groups))])


# Rows of part 0: reports 0-1 "007", "07" | 2 "7"; mentions and nodes 0-3 "007", 4-11 and 4-8 "07"; edges 0-3 "007", 4-5 "07".
# Part 1 begins with "é", whose mentions are 0-7.
BROKEN_ROWS: dict[str, tuple[str, Change, int, str | None, str]] = {
    # the values of a column
    "null": ("mentions", put(2, "label", None), 2, "007", "label must not be null"),
    "null in a list": ("nodes", put(4, "attributes.1.words", None), 4, "07", "attributes[].words must not be null"),
    "label": ("mentions", put(11, "label", "device"), 11, "07", "label must be one of anatomy, observation"),
    "assertion": ("nodes", put(1, "assertion", "maybe"), 1, "007", "assertion must be one of present, uncertain, absent"),
    "temporality": ("mentions", put(0, "temporality", "old"), 0, "007", "temporality must be one of current,"),
    "context": ("mentions", put(0, "assertion_context", "no"), 0, "007", "assertion_context must be one of present,"),
    "relation type": ("mentions", put(0, "relations.1.type", "near"), 0, "007", "relations[].type must be one of modify,"),
    "attribute kind": ("nodes", put(4, "attributes.1.kind", "sex"), 4, "07", "attributes[].kind must be one of severity,"),
    "origin": ("edges", put(5, "origin", "guess"), 5, "07", "origin must be one of stated, vocabulary"),
    "source row": ("reports", put(0, "source_row", 0), 0, "007", "source_row must be at least 1"),
    "empty string": ("reports", put(0, "source", ""), 0, "007", "source must not be empty"),
    "detail": ("rejects", put(0, "detail", "", group=2), 1, None, "detail must not be empty"),
    # reports
    "section order": ("reports", put(2, "sections.0.start", 11), 2, "7", "sections[].end must be after start"),
    "section end": ("reports", put(1, "sections.0.end", 9999), 1, "07", "sections[].end must be inside the text"),
    "sentence": ("reports", put(2, "sentences", [{"start": 5, "end": 5}]) , 2, "7", "sentences[].end must be after start"),
    "sentence end": ("reports", put(0, "sentences.0.end", 64), 0, "007", "sentences[].end must be inside the text"),
    "absolute image": ("reports", put(1, "images.0.path", "/etc/x.png"), 1, "07", "images[].path must stay below"),
    "image on a drive": ("reports", put(1, "images.1.path", "C:x.png"), 1, "07", "images[].path must stay below"),
    "image above": ("reports", put(1, "images.1.path", "a/../../x.png"), 1, "07", "images[].path must stay below"),
    "image above, backslash": ("reports", put(1, "images.1.path", "a\\..\\x"), 1, "07", "images[].path must stay below"),
    "text gone": ("reports", put(2, "text", None), 2, "7", "text must not be null: the manifest says that text is there"),
    "number of mentions": ("reports", put(1, "n_mentions", 7), 1, "07", "n_mentions must be the number of rows"),
    "number of nodes": ("reports", put(1, "n_nodes", 6), 1, "07", "n_nodes must be the number of rows"),
    "number of edges": ("reports", put(2, "n_edges", 1), 2, "7", "n_edges must be the number of rows"),
    # mentions
    "mention id": ("mentions", put(3, "mention_id", 4), 3, "007", "mention_id must count the rows of the report from 0"),
    "empty mention": ("mentions", put(3, "start", 62), 3, "007", "end must be after start"),
    "spelling": ("mentions", put(7, "text", "Effusion"), 7, "07", "text must be what stands from start to end"),
    "spelling, shorter": ("mentions", put(7, "text", "effusio"), 7, "07", "text must be what stands from start to end"),
    "offset by one": ("mentions", put(4, "start", 23), 4, "07", "text must be what stands from start to end"),
    "mention text gone": ("mentions", put(1, "text", None), 1, "007", "text must not be null: the manifest says that"),
    "sentence index": ("mentions", put(0, "sentence", 1), 0, "007", "sentence must be an index into the sentences"),
    "another sentence": ("mentions", put(9, "sentence", 0), 9, "07", "start and end must be inside the sentence"),
    "unknown section": ("mentions", put(0, "section", "impression"), 0, "007", "section must be the name of a section"),
    "another section": ("mentions", put(11, "section", "findings"), 11, "07", "start and end must be inside a section"),
    "relation target": ("mentions", put(0, "relations.1.target", 4), 0, "007", "relations[].target must be a mention of"),
    "relation to itself": ("mentions", put(5, "relations.0.target", 1), 5, "07", "relations[].target must be another"),
    "mention concept": ("mentions", put(4, "concept", "smallness"), 4, "07", "concept must be in one of the vocabularies"),
    # nodes
    "node id": ("nodes", put(8, "node_id", 5), 8, "07", "node_id must count the rows of the report from 0"),
    "side": ("nodes", put(6, "side", "left"), 6, "07", "side must be null: the vocabulary knows no left and right"),
    "attributes unsorted": ("nodes", put(4, "attributes.0.kind", "temporal"), 4, "07", "attributes must be sorted"),
    "attribute twice": (
        "nodes",
        put(4, "attributes", [{"kind": "change", "words": "new"}] * 2),
        4,
        "07",
        "attributes must be sorted by kind and words, each once",
    ),
    "node section": ("nodes", put(0, "sections.0", "history"), 0, "007", "sections must hold names of sections"),
    "node unsaid": ("nodes", cut(7, "mentions"), 7, "07", "mentions must not be empty for a node that is stated"),
    "node mention": ("nodes", put(3, "mentions.0", 4), 3, "007", "mentions must hold mentions of the report"),
    "empty span": ("nodes", put(3, "spans.0.start", 62), 3, "007", "spans[].end must be after start"),
    "span end": ("nodes", put(3, "spans.0.end", 64), 3, "007", "spans[].end must be inside the text"),
    # edges
    "edge source": ("edges", put(5, "source", 5), 5, "07", "source must be a node of the report"),
    "edge target": ("edges", put(3, "target", 4), 3, "007", "target must be a node of the report"),
    "located at a finding": ("edges", put(4, "target", 1), 4, "07", "located_at must go from pathology to anatomy"),
    "suggestive of a place": ("edges", put(1, "target", 2), 1, "007", "suggestive_of must go from pathology to pathology"),
    "part of a finding": ("edges", put(2, "target", 3), 2, "007", "part_of must go from anatomy to anatomy"),
    "edge to itself": ("edges", put(1, "target", 0), 1, "007", "source and target must be two nodes"),
    "edge twice": ("edges", put(3, "source", 0), 3, "007", "two nodes must be joined once in each direction"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_a_broken_row_is_named(folder: Folder, case: str) -> None:
    table, change, row, report_id, message = BROKEN_ROWS[case]
    file = f"{table}/part-00000.parquet"
    if table == "reports":
        change = in_row_groups(change)
    folder.change_groups(file, change)
    problem = the_problem(folder)
    assert (problem.file, problem.row, problem.report_id) == (file, row, report_id)
    assert message in problem.message


def test_reasons_are_identifiers(folder: Folder) -> None:
    folder.change_groups("rejects/part-00000.parquet", put(0, "reason", "Empty text!", group=2))
    first, second = validate(folder.path).problems
    assert (first.row, first.message) == (1, "reason must match ^[a-z][a-z0-9_]*$")
    assert second.message == "rejected.malformed_row is 1, the files hold 0"


def test_rows_are_counted_within_the_file_and_over_all_files(folder: Folder) -> None:
    folder.change_groups("reports/part-00000.parquet", put(0, "source", "", group=1))
    folder.change_groups("reports/part-00001.parquet", lambda groups: [row.update(source="") for row in groups[0]])
    problem = the_problem(folder)
    assert (problem.row, problem.count) == (2, 3)
    assert str(problem) == (
        "reports/part-00000.parquet, row 2 (from 0), report '7': source must not be empty (2 more like it)"
    )


# Rows that are not where they should be


def test_rows_of_an_unknown_report(folder: Folder) -> None:
    folder.change_groups("edges/part-00000.parquet", put(5, "report_id", "008"))
    problem = the_problem(folder)
    assert (problem.file, problem.row, problem.report_id) == ("edges/part-00000.parquet", 5, "008")
    assert problem.message == "report_id must be that of a report in the same row group of reports"


def test_rows_of_a_report_in_another_row_group(folder: Folder) -> None:
    folder.change_groups("edges/part-00000.parquet", lambda groups: groups[1].extend(groups[0][4:]) or groups[0].pop())
    problem = validate(folder.path).problems[-1]
    assert (problem.file, problem.row, problem.report_id) == ("edges/part-00000.parquet", 5, "07")
    assert problem.message == "report_id must be that of a report in the same row group of reports"


def test_rows_in_another_order_than_the_reports(folder: Folder) -> None:
    folder.change_groups("nodes/part-00000.parquet", lambda groups: groups[0].append(groups[0].pop(0)))
    problem = the_problem(folder)
    assert (problem.file, problem.row, problem.report_id) == ("nodes/part-00000.parquet", 8, "007")
    assert problem.message == "the rows of a report must be together, in the order of reports"


def test_row_groups_that_do_not_match(folder: Folder) -> None:
    folder.change_groups(
        "mentions/part-00000.parquet", lambda groups: (groups[0].extend(groups.pop(1)), groups[0].extend(groups.pop(1)))
    )
    problem = the_problem(folder)  # what the rows say is checked all the same
    assert (problem.file, problem.row) == ("reports/part-00000.parquet", None)
    assert problem.message == (
        "the tables of a part must have the same row groups; here are reports 3, mentions 1, nodes 3, edges 3, rejects 3"
    )
    folder.change_groups("mentions/part-00000.parquet", put(7, "text", "Effusion"))
    assert validate(folder.path).problems[-1].row == 7


@pytest.mark.parametrize(
    ("part", "row", "new", "file", "found_row"),
    [
        (0, 1, "007", "reports/part-00000.parquet", 1),  # in the same row group
        (0, 2, "007", "reports/part-00000.parquet", 2),
        (1, 1, "7", "reports/part-00001.parquet", 1),  # in another part
    ],
)
def test_a_report_id_twice(folder: Folder, part: int, row: int, new: str, file: str, found_row: int) -> None:
    old = pq.read_table(folder.path / file)["report_id"][row].as_py()
    for table in ("reports", "mentions", "nodes", "edges"):
        folder.change_groups(
            f"{table}/part-0000{part}.parquet",
            lambda groups: [r.update(report_id=new) for rows in groups for r in rows if r["report_id"] == old],
        )
    problem = validate(folder.path).problems[-1]
    assert (problem.file, problem.row, problem.report_id, problem.count) == (file, found_row, new, 1)
    row_before = 2 if new == "7" else 0
    assert problem.message == (
        f"report_id must be unique in the folder; reports/part-00000.parquet, row {row_before}, has it, too"
    )


def test_a_node_twice(folder: Folder) -> None:
    file = "nodes/part-00000.parquet"
    folder.change_groups(file, put(3, "concept", "opacity"))
    folder.change_groups(file, put(3, "assertion", "present"))
    report = validate(folder.path)
    assert [(problem.file, problem.row) for problem in report.problems] == [(file, 3), ("vocab/pathology.parquet", 1)]
    assert report.problems[0].message.startswith(
        "a report must have one node for each kind, concept, side and assertion"
    )


def test_nodes_that_differ_in_side_or_assertion_are_two(folder: Folder) -> None:
    def change(groups: list[list[dict[str, Any]]]) -> None:
        groups[0][2] |= {"concept": "lower_lobe", "side": "left"}
        groups[0][3] |= {"concept": "opacity", "assertion": "uncertain"}

    folder.change_groups("nodes/part-00000.parquet", change)
    assert {problem.file for problem in validate(folder.path).problems} == {
        "vocab/anatomy.parquet",  # counts
        "vocab/pathology.parquet",
    }


@pytest.mark.parametrize(("row", "kind"), [(3, "pathology"), (2, "anatomy")])
def test_a_concept_of_another_vocabulary(folder: Folder, row: int, kind: str) -> None:
    concept = {"pathology": "heart", "anatomy": "pneumonia"}[kind]
    folder.change_groups("nodes/part-00000.parquet", put(row, "concept", concept))
    problem = validate(folder.path).problems[0]
    assert (problem.row, problem.message) == (row, f"concept must be in vocab/{kind}, as kind says")


def test_a_pathology_may_have_a_side_whatever_its_site(folder: Folder) -> None:
    folder.change_groups("nodes/part-00000.parquet", put(7, "side", "bilateral"))
    assert validate(folder.path).ok


# Text where there should be none


@pytest.mark.parametrize(
    ("table", "column", "report_id"),
    [("reports", "text", "007"), ("mentions", "text", "007"), ("rejects", "content", "x")],
)
def test_text_in_a_folder_without_text(tmp_path: Path, table: str, column: str, report_id: str) -> None:
    folder = write_folder(tmp_path / "graphs", good_parts(), text=False)
    folder.change_groups(
        f"{table}/part-00000.parquet",
        lambda groups: next(rows for rows in groups if rows)[0].update({column: "Mr Secret"}),
    )
    report = validate(folder.path)
    messages = [str(problem) for problem in report.problems]
    expected = f"{column} must be null: the manifest says that the folder is without text"
    assert f"{table}/part-00000.parquet, row 0 (from 0), report {report_id!r}: {expected}" in messages
    assert "Secret" not in "".join(messages)


def test_nothing_quotes_the_report(folder: Folder) -> None:
    def change(groups: list[list[dict[str, Any]]]) -> None:
        for row in groups[0]:
            for column in row.keys() - {"report_id"}:
                if isinstance(row[column], str):
                    row[column] = "Mr Secret"
                elif isinstance(row[column], list):
                    row[column] = [
                        {k: "Mr Secret" if isinstance(v, str) else v for k, v in item.items()}
                        if isinstance(item, dict)
                        else item
                        for item in row[column]
                    ]

    for table in ("reports", "mentions", "nodes", "edges"):
        folder.change_groups(f"{table}/part-00000.parquet", change)
    folder.change_groups("rejects/part-00000.parquet", put(0, "reason", "Mr Secret", group=1))
    report = validate(folder.path)
    assert len(report.problems) > 10
    assert "Secret" not in "".join(map(str, report.problems)) + "".join(report.skipped)


# Vocabularies


@pytest.mark.parametrize(
    ("kind", "change", "row", "message"),
    [
        ("anatomy", put(1, "index", 2), 1, "index must count the rows from 0"),
        ("anatomy", put(2, "part_of", "lobe"), 2, "part_of must be a concept of this vocabulary or null"),
        ("anatomy", put(2, "parent", "effusion"), 2, "parent must be a concept of this vocabulary or null"),
        ("anatomy", put(0, "sided", None), 0, "sided must be true or false for an anatomy"),
        ("pathology", put(2, "parent", "lung"), 2, "parent must be a concept of this vocabulary or null"),
        ("pathology", put(1, "site", "opacity"), 1, "site must be a concept of vocab/anatomy or null"),
        ("pathology", put(3, "opposite.0", "lung"), 3, "opposite must hold concepts of this vocabulary"),
        ("pathology", put(0, "category", None), 0, "category must be given for a pathology"),
        ("pathology", put(0, "category", "disease"), 0, "category must be one of finding, normality, device,"),
        ("pathology", put(0, "synonyms", [""]), 0, "synonyms[] must not be empty"),
        ("pathology", put(2, "count", 5), 2, "count must be the number of nodes with this concept"),
    ],
)
def test_a_broken_vocabulary(folder: Folder, kind: str, change: Change, row: int, message: str) -> None:
    folder.change_groups(f"vocab/{kind}.parquet", change)
    problem = the_problem(folder)
    assert (problem.file, problem.row) == (f"vocab/{kind}.parquet", row)
    assert message in problem.message


def test_a_concept_twice(folder: Folder) -> None:
    folder.change_groups("vocab/anatomy.parquet", put(0, "concept", "lung"))
    assert "concept must be unique; a row before has the same" in [p.message for p in validate(folder.path).problems]


def test_the_number_of_concepts(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: manifest["vocabulary"]["anatomy"].update(concepts=6))
    problem = the_problem(folder)
    assert (problem.file, problem.message) == ("vocab/anatomy.parquet", "has 5 concepts where the manifest says 6")


def test_a_vocabulary_that_cannot_be_read(folder: Folder) -> None:
    (folder.path / "vocab" / "anatomy.parquet").unlink()
    report = validate(folder.path)
    assert [problem.file for problem in report.problems] == ["vocab/anatomy.parquet"]
    assert report.skipped == ["that anatomy concepts are in the vocabulary: vocab/anatomy.parquet cannot be read"]


# Files


def test_a_file_that_is_missing(folder: Folder) -> None:
    (folder.path / "nodes" / "part-00000.parquet").unlink()
    problem = the_problem(folder)
    assert str(problem) == (
        "nodes/part-00000.parquet: is missing, though the manifest names it: copy it again, or extract again"
    )
    assert validate(folder.path).skipped == [
        "how the tables of part 0 refer to each other, in part: not all of it can be read",
        "what the manifest says of all nodes: some cannot be read",
    ]


@pytest.mark.parametrize("name", ["part-00002.parquet", ".part-00000.parquet.tmp"])
def test_a_file_that_is_not_in_the_manifest(folder: Folder, name: str) -> None:
    shutil.copy(folder.path / "nodes" / "part-00000.parquet", folder.path / "nodes" / name)
    problem = the_problem(folder)
    assert problem.file == f"nodes/{name}"
    assert "is not in the manifest" in problem.message


def test_bytes_that_are_not_those_that_were_written(folder: Folder) -> None:
    with (folder.path / "vocab" / "anatomy.parquet").open("r+b") as file:
        file.seek(2)
        file.write(b"X")  # readers do not look at the first mark
    problem = the_problem(folder)
    assert (problem.file, problem.row) == ("vocab/anatomy.parquet", None)
    assert problem.message == "has been changed: its SHA-256 is not the manifest's"


@pytest.mark.parametrize("file", ["nodes/part-00001.parquet", "vocab/pathology.parquet"])
def test_a_file_that_is_cut_off(folder: Folder, file: str) -> None:
    path = folder.path / file
    path.write_bytes(path.read_bytes()[:-20])
    messages = {problem.message for problem in validate(folder.path).problems if problem.file == file}
    assert messages == {
        "has been changed: its SHA-256 is not the manifest's",
        "cannot be read as Parquet: cut off or damaged; copy it again, or extract again",
    }


@pytest.mark.parametrize("file", ["reports/part-00000.parquet", "vocab/pathology.parquet"])
def test_a_file_that_is_damaged_inside(folder: Folder, file: str) -> None:
    path = folder.path / file
    damaged = bytearray(path.read_bytes())
    with pq.ParquetFile(path) as parquet:
        begin = parquet.metadata.row_group(0).column(0).dictionary_page_offset
    damaged[begin : begin + 40] = bytes(40)
    path.write_bytes(damaged)
    report = validate(folder.path)
    assert {problem.file for problem in report.problems} == {file}
    assert any("cannot be read from row 0 on: damaged" in problem.message for problem in report.problems)
    assert report.skipped


def test_text_that_is_not_utf_8(folder: Folder) -> None:
    def change(table: pa.Table) -> pa.Table:
        column = pa.array([b"\xff"] * table.num_rows, pa.binary())
        broken = pa.StringArray.from_buffers(len(column), column.buffers()[1], column.buffers()[2])
        return table.set_column(0, table.schema.field(0), broken)

    folder.change_tables("edges/part-00001.parquet", change)
    assert "cannot be read from row 0 on" in the_problem(folder).message


def test_a_column_that_is_missing(folder: Folder) -> None:
    folder.change_tables("edges/part-00001.parquet", lambda table: table.drop_columns(["origin"]))
    problem = the_problem(folder)
    assert (problem.file, problem.message) == ("edges/part-00001.parquet", "column origin is missing")


def test_a_column_of_another_type(folder: Folder) -> None:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(1, "source", table["source"].cast(pa.int64()))

    folder.change_tables("edges/part-00001.parquet", change)
    assert the_problem(folder).message == "column source must be int32, it is int64"


def test_columns_may_stand_in_any_order_and_be_declared_nullable(folder: Folder) -> None:
    def change(table: pa.Table) -> pa.Table:
        return table.select(table.column_names[::-1]).cast(
            pa.schema([field.with_nullable(True) for field in list(table.schema)[::-1]])
        )

    folder.change_tables("mentions/part-00000.parquet", change)
    assert validate(folder.path).ok


# The manifest


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder; give the folder that `graphprep extract -o` wrote"):
        validate(tmp_path / "nowhere")


def test_no_manifest(tmp_path: Path) -> None:
    (problem,) = validate(tmp_path).problems
    assert str(problem) == "manifest.json: is missing: give the folder that `graphprep extract -o` wrote"
    (tmp_path / ".progress").mkdir()
    (problem,) = validate(tmp_path).problems
    assert "the extraction was not finished; run the same `graphprep extract` again" in str(problem)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json(folder: Folder, content: bytes) -> None:
    (folder.path / "manifest.json").write_bytes(content)
    problem = the_problem(folder)
    assert str(problem) == "manifest.json: cannot be read as JSON in UTF-8: cut off or damaged"


@pytest.mark.parametrize("content", [b"[]", b"3", b'"text"'])
def test_a_manifest_that_is_no_object(folder: Folder, content: bytes) -> None:
    (folder.path / "manifest.json").write_bytes(content)
    assert str(the_problem(folder)) == "manifest.json: the document must be of type object"


def test_another_major_version(folder: Folder) -> None:
    (folder.path / "manifest.json").write_text('{"schema_version": "2.0", "all": "else", "is": "different"}')
    assert str(the_problem(folder)) == (
        "manifest.json: Schema version 2.0 cannot be read: this program reads 1.x; update this program."
    )


def test_a_manifest_that_lacks_something(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: (manifest.pop("text"), manifest["shards"][1]["tables"].pop("edges")))
    assert [str(problem) for problem in validate(folder.path).problems] == [
        "manifest.json: text is missing",
        "manifest.json: shards[1].tables.edges is missing",
    ]


def test_numbers_of_parts(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: manifest["shards"][1].update(part=2))
    assert the_problem(folder).message == "shards[1].part must be 1: parts count from 0 without gaps"


@pytest.mark.parametrize("file", ["../outside.parquet", "edges/part-00001.parquet", "/etc/passwd"])
def test_a_manifest_that_names_another_file(folder: Folder, file: str) -> None:
    folder.change_manifest(lambda manifest: manifest["shards"][0]["tables"]["edges"].update(file=file))
    problem = validate(folder.path).problems[-1]
    assert str(problem) == "manifest.json: must name edges/part-00000.parquet in its place, it names another file"


def test_rows_of_a_file(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: manifest["shards"][1]["tables"]["nodes"].update(rows=10))
    problem = the_problem(folder)
    assert (problem.file, problem.message) == ("nodes/part-00001.parquet", "has 9 rows where the manifest says 10")


def test_totals(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: manifest["totals"].update(mentions=23))
    assert str(the_problem(folder)) == "manifest.json: totals.mentions is 23, the files hold 24"


def test_rejected_by_reason(folder: Folder) -> None:
    folder.change_manifest(lambda manifest: manifest.update(rejected={"empty_text": 2}))
    assert [problem.message for problem in validate(folder.path).problems] == [
        "rejected.empty_text is 2, the files hold 1",
        "rejected.malformed_row is 0, the files hold 1",
    ]


RUN = {
    "started": "2026-01-02T03:04:05+00:00",
    "finished": "2026-01-02T03:04:06+00:00",
    "seconds": 1.5,
    "workers": 2,
    "engine": "local",
    "host": "a machine",
    "command": ["graphprep", "extract"],
    "versions": {"python": "3.11.2"},
}


def test_run_json(folder: Folder) -> None:
    (folder.path / "run.json").write_text(json.dumps(RUN))
    assert validate(folder.path).ok
    (folder.path / "run.json").write_text(json.dumps(RUN | {"workers": "two"}))
    assert str(the_problem(folder)) == "run.json: workers must be of type integer"
    (folder.path / "run.json").write_text("{")
    assert str(the_problem(folder)) == "run.json: cannot be read as JSON in UTF-8: cut off or damaged"
