"""Records → tables → files: every field arrives, the bytes depend on the records alone, files come whole or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from graphprep import records
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
from graphprep.vocabulary import Concept, Vocabulary
from graphprep.write import ShardWriter, sha256_of, tables_of, write_manifest, write_vocabulary

# Any records at all: what they mean is not the writer's affair

numbers = st.integers(0, 2**31 - 1)
texts = st.text(max_size=12)
maybe = st.none() | texts


def one_of(literal: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(literal))


def few(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(strategy, max_size=3)


spans = st.builds(Span, numbers, numbers)
sections = st.builds(Section, texts, numbers, numbers)
mentions = st.builds(
    Mention,
    mention_id=numbers,
    label=one_of(records.Label),
    assertion=one_of(records.Assertion),
    text=texts,
    start=numbers,
    end=numbers,
    section=maybe,
    sentence=numbers,
    measurement=st.booleans(),
    temporality=one_of(records.Temporality),
    relations=few(st.builds(Relation, one_of(records.RelationType), numbers)),
    concept=maybe,
    assertion_model=st.none() | one_of(records.Assertion),
    assertion_context=st.none() | one_of(records.Assertion),
)
nodes = st.builds(
    Node,
    node_id=numbers,
    kind=one_of(records.Kind),
    concept=texts,
    side=st.none() | one_of(records.Side),
    assertion=one_of(records.Assertion),
    origin=one_of(records.Origin),
    attributes=few(st.builds(Attribute, texts, texts)),
    sections=few(texts),
    mentions=few(numbers),
    spans=few(spans),
)
edges = st.builds(Edge, numbers, numbers, one_of(records.EdgeRelation), one_of(records.Origin))
reports = st.builds(
    Report,
    report_id=texts,
    text=texts,
    source=texts,
    source_row=st.integers(1, 2**63 - 1),
    subject_id=maybe,
    study_id=maybe,
    split=maybe,
    images=few(st.builds(Image, texts, maybe, maybe)),
)
graphs_strategy = few(st.builds(ReportGraph, reports, few(sections), few(spans), few(mentions), few(nodes), few(edges)))
rejects_strategy = few(st.builds(Reject, texts, numbers, maybe, texts, texts, maybe))


def rows_of(graphs: list[ReportGraph], rejects: list[Reject]) -> dict[str, list[dict[str, Any]]]:
    """The rows that the tables must have, spelled out."""
    own = [asdict(graph) for graph in graphs]
    rows: dict[str, list[dict[str, Any]]] = {
        "reports": [
            graph["report"]
            | {key: graph[key] for key in ("sections", "sentences")}
            | {f"n_{table}": len(graph[table]) for table in ("mentions", "nodes", "edges")}
            for graph in own
        ],
        "rejects": [asdict(reject) for reject in rejects],
    }
    for table in ("mentions", "nodes", "edges"):
        rows[table] = [{"report_id": graph["report"]["report_id"]} | row for graph in own for row in graph[table]]
    return rows


@given(graphs_strategy, rejects_strategy)
def test_tables_hold_the_records(graphs: list[ReportGraph], rejects: list[Reject]) -> None:
    tables = tables_of(graphs, rejects, text=True)
    assert {table: rows.to_pylist() for table, rows in tables.items()} == rows_of(graphs, rejects)
    for table, rows in tables.items():
        rows.validate(full=True)
        assert rows.schema.equals(schemas.arrow_schema(table))


@given(graphs_strategy, rejects_strategy)
def test_without_text_nothing_else_changes(graphs: list[ReportGraph], rejects: list[Reject]) -> None:
    expected = rows_of(graphs, rejects)
    for table, column in (("reports", "text"), ("mentions", "text"), ("rejects", "content")):
        for row in expected[table]:
            row[column] = None
    assert {table: rows.to_pylist() for table, rows in tables_of(graphs, rejects, text=False).items()} == expected


def test_half_a_surrogate_pair_keeps_its_place() -> None:
    graph = a_graph("r")
    graph.report.text = "a\ud83db effusion"
    reject = Reject("b\udcff.csv", 1, None, "undecodable_bytes", "Byte 3 is not UTF-8.", '{"text": "\udcff"}')
    tables = tables_of([graph], [reject], text=True)
    assert tables["reports"]["text"].to_pylist() == ["a?b effusion"]
    assert tables["rejects"]["source"].to_pylist() == ["b?.csv"]
    assert tables["rejects"]["content"].to_pylist() == ['{"text": "?"}']


# Files


def a_graph(report_id: str) -> ReportGraph:
    """A report with a row in every table."""
    text = "Small effusion."
    return ReportGraph(
        Report(report_id, text, "reports.csv", 1),
        [Section("findings", 0, len(text))],
        [Span(0, len(text))],
        [
            Mention(0, "observation", "present", "Small", 0, 5, "findings", 0, relations=[Relation("modify", 1)]),
            Mention(1, "observation", "present", "effusion", 6, 14, "findings", 0, concept="effusion"),
        ],
        [
            Node(
                0,
                "pathology",
                "effusion",
                None,
                "present",
                "stated",
                [Attribute("severity", "small")],
                ["findings"],
                [1],
            ),
            Node(1, "anatomy", "pleural_space", None, "present", "vocabulary"),
        ],
        [Edge(0, 1, "located_at", "vocabulary")],
    )


A_REJECT = Reject("reports.csv", 2, "x", "empty_text", "The report has no text.", "{}")


def write_shard(folder: Path, part: int = 0) -> dict[str, dict[str, Any]]:
    """Two row groups: two reports and a reject, then one report."""
    with ShardWriter(folder, part) as shard:
        shard.write(tables_of([a_graph("a"), a_graph("b")], [A_REJECT], text=True))
        shard.write(tables_of([a_graph("c")], [], text=True))
    return shard.files


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_shard_is_read_back(tmp_path: Path) -> None:
    files = write_shard(tmp_path, part=12)
    expected = rows_of([a_graph("a"), a_graph("b"), a_graph("c")], [A_REJECT])
    assert list(files) == list(schemas.TABLES)
    for table, entry in files.items():
        assert entry["file"] == f"{table}/part-00012.parquet"
        assert entry["rows"] == len(expected[table])
        assert entry["sha256"] == hashlib.sha256((tmp_path / entry["file"]).read_bytes()).hexdigest()
        read = pq.read_table(tmp_path / entry["file"])
        assert read.schema.equals(schemas.arrow_schema(table))
        assert read.to_pylist() == expected[table]


def test_row_groups_are_aligned_even_if_empty(tmp_path: Path) -> None:
    files = write_shard(tmp_path)
    groups = {}
    for table, entry in files.items():
        with pq.ParquetFile(tmp_path / entry["file"]) as file:
            groups[table] = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert groups == {"reports": [2, 1], "mentions": [4, 2], "nodes": [4, 2], "edges": [2, 1], "rejects": [1, 0]}


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "one") == write_shard(tmp_path / "two")
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")


def test_an_empty_shard_has_its_columns(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 0) as shard:
        pass
    for table, entry in shard.files.items():
        assert entry["rows"] == 0
        assert pq.read_table(tmp_path / entry["file"]).schema.equals(schemas.arrow_schema(table))


def test_nothing_has_its_name_before_the_end(tmp_path: Path) -> None:
    shard = ShardWriter(tmp_path, 0)
    shard.write(tables_of([a_graph("a")], [], text=True))
    assert not list(tmp_path.rglob("part-*"))
    assert shard.close() == shard.files
    assert sorted(files_below(tmp_path)) == sorted(f"{table}/part-00000.parquet" for table in schemas.TABLES)
    assert shard.close() == shard.files  # a second time does nothing


def test_an_exception_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    write_shard(tmp_path)
    before = files_below(tmp_path)

    def fail() -> None:
        with ShardWriter(tmp_path, 0) as shard:
            shard.write(tables_of([a_graph("z")], [], text=True))
            raise RuntimeError("a worker died")

    with pytest.raises(RuntimeError, match="a worker died"):
        fail()
    assert files_below(tmp_path) == before


def test_what_a_killed_run_left_is_written_over(tmp_path: Path) -> None:
    write_shard(tmp_path / "whole")
    for table in schemas.TABLES:
        (tmp_path / "killed" / table).mkdir(parents=True)
        (tmp_path / "killed" / table / ".part-00000.parquet.tmp").write_bytes(b"PAR1 and then the power went")
    write_shard(tmp_path / "killed")
    assert files_below(tmp_path / "killed") == files_below(tmp_path / "whole")


def test_a_null_that_the_contract_forbids_is_refused() -> None:
    graph = a_graph("a")
    graph.nodes[0].concept = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="concept must not be null"):
        tables_of([graph], [], text=True)
    graph = a_graph("a")
    graph.nodes[0].mentions = [1, None]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="element must not be null"):
        tables_of([graph], [], text=True)


def test_vocabulary(tmp_path: Path) -> None:
    concepts = (
        Concept("heart", "heart", "anatomy", 0, synonyms=("heart", "cardiac")),
        Concept(
            "lung",
            "lung",
            "anatomy",
            1,
            part_of="thorax",
            sided=True,
            labels={"chest_imagenome": ("left lung", "right lung")},
        ),
    )
    vocabulary = Vocabulary("anatomy", {concept.id: concept for concept in concepts})
    entry = write_vocabulary(tmp_path, vocabulary, {"lung": 3})
    assert entry == {
        "file": "vocab/anatomy.parquet",
        "rows": 2,
        "sha256": sha256_of(tmp_path / "vocab" / "anatomy.parquet"),
    }
    assert sorted(files_below(tmp_path)) == ["vocab/anatomy.parquet"]
    table = pq.read_table(tmp_path / entry["file"])
    assert table.schema.equals(schemas.arrow_schema("vocabulary"))
    heart, lung = table.to_pylist()
    assert (heart["index"], heart["concept"], heart["synonyms"], heart["count"]) == (
        0,
        "heart",
        ["heart", "cardiac"],
        0,
    )
    assert (lung["index"], lung["part_of"], lung["sided"], lung["count"]) == (1, "thorax", True, 3)
    assert lung["labels"] == [{"set": "chest_imagenome", "name": name} for name in ("left lung", "right lung")]
    assert write_vocabulary(tmp_path / "again", vocabulary, {"lung": 3})["sha256"] == entry["sha256"]


def a_manifest() -> dict[str, Any]:
    entry = {"file": "x", "rows": 0, "sha256": "0" * 64}
    return {
        "schema_version": "1.0",
        "extractor": {"settings": {}, "name": "rules"},
        "sections": ["findings"],
        "text": True,
        "vocabulary": {kind: {"sha256": "0" * 64, "concepts": 0} for kind in ("pathology", "anatomy")},
        "input": {"files": [], "columns": {}, "fingerprint": "0" * 64},
        "image_root": "../Röntgen",
        "shard_size": 1,
        "shards": [],
        "vocabulary_files": {"pathology": entry, "anatomy": entry},
        "totals": dict.fromkeys(schemas.TABLES, 0),
        "rejected": {},
    }


def test_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path, a_manifest())
    assert sorted(files_below(tmp_path)) == ["manifest.json"]
    text = (tmp_path / "manifest.json").read_text(encoding="utf-8")
    assert text == json.dumps(a_manifest(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "Röntgen" in text


def test_a_manifest_that_breaks_the_contract_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shard_size must be at least 1"):
        write_manifest(tmp_path, a_manifest() | {"shard_size": 0})
    assert files_below(tmp_path) == {}
