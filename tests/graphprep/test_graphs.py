"""Reading a graphs folder, and what is said of one that cannot be read."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from handmade import full_report, handmade_graphs, write_folder

from graphprep.errors import UserError
from graphprep.graphs import open_graphs, to_networkx
from graphprep.records import Edge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "graphs")


def rewrite(folder: Path, table: str, change: Callable[[pa.Table], pa.Table], part: int = 0) -> None:
    """Change a shard's table behind the manifest's back, in one row group."""
    path = folder / table / f"part-{part:05d}.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


# What is in it


def test_iteration_gives_back_what_was_written(folder: Path) -> None:
    graphs = open_graphs(folder)
    assert list(graphs) == handmade_graphs()
    assert list(graphs) == handmade_graphs()  # again, from the start
    assert len(graphs) == 5


@pytest.mark.parametrize("cuts", [[[0, 5]], [[0, 1, 2], [2, 3], [3, 4, 5]], [[0, 0, 2, 2], [2, 2], [2, 5, 5]]])
def test_parts_and_row_groups_make_no_difference(tmp_path: Path, cuts: list[list[int]]) -> None:
    """Empty row groups and empty parts (rejects alone) included."""
    graphs = handmade_graphs()
    parts = [[graphs[a:b] for a, b in itertools.pairwise(part)] for part in cuts]
    read = open_graphs(write_folder(tmp_path / "graphs", parts))
    assert list(read) == graphs
    for graph in graphs:
        assert read.get(graph.report.report_id) == graph


def test_folder_without_reports(tmp_path: Path) -> None:
    graphs = open_graphs(write_folder(tmp_path / "graphs", []))
    assert (len(graphs), list(graphs)) == (0, [])
    with pytest.raises(UserError, match="holds no report '007' among its 0"):
        graphs.get("007")


def test_without_text_the_offsets_remain(tmp_path: Path) -> None:
    graphs = open_graphs(write_folder(tmp_path / "graphs", text=False))
    assert graphs.manifest["text"] is False
    graph = graphs.get("007")
    assert graph.report.text == ""
    assert {mention.text for mention in graph.mentions} == {""}
    assert [(m.start, m.end) for m in graph.mentions] == [(m.start, m.end) for m in full_report().mentions]


def test_get_of_ids_that_parquet_statistics_put_out_of_order(tmp_path: Path) -> None:
    """Ids in no order, of other scripts and with blanks; each in its own row group."""
    ids = ["10", "9", "é", "", "a b", "Ω" * 300, "zz"]
    graphs = [replace(g, report=replace(g.report, report_id=i)) for i in ids for g in handmade_graphs()[:1]]
    read = open_graphs(write_folder(tmp_path / "graphs", [[[g] for g in graphs[:4]], [[g] for g in graphs[4:]]]))
    assert [read.get(i).report.report_id for i in ids] == ids


@pytest.mark.parametrize(("asked", "near"), [("7", "'007'"), ("0007", "'007'"), (" B ", "'b'"), ("008", "'007'")])
def test_unknown_id_names_near_ones(folder: Path, asked: str, near: str) -> None:
    with pytest.raises(UserError, match=f"holds no report {asked!r} among its 5. Did you mean {near}"):
        open_graphs(folder).get(asked)


def test_unknown_id_that_is_like_none(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds no report 'quite another' among its 5\.$"):
        open_graphs(folder).get("quite another")


def test_tables_are_batches_of_row_groups(folder: Path) -> None:
    batches = list(open_graphs(folder).tables("nodes", ["report_id", "concept"]))
    assert [batch.num_rows for batch in batches] == [10, 0, 2]
    assert batches[0].schema.names == ["report_id", "concept"]
    rejects = [row for batch in open_graphs(folder).tables("rejects") for row in batch.to_pylist()]
    assert [(row["source_row"], row["reason"]) for row in rejects] == [(4, "malformed_row"), (7, "duplicate_id")]


def test_row_groups_belong_to_the_same_reports(folder: Path) -> None:
    groups = list(open_graphs(folder).row_groups({"nodes": ["concept"]}))
    assert [(g["reports"].num_rows, g["nodes"].num_rows) for g in groups] == [(2, 10), (1, 0), (2, 2)]
    assert groups[0].keys() == {"reports", "nodes"}
    assert groups[0]["reports"].column("n_nodes").to_pylist() == [8, 2]


def test_vocabulary_in_file_order(folder: Path) -> None:
    graphs = open_graphs(folder)
    assert list(graphs.vocabulary("anatomy"))[:2] == ["thorax", "lung"]
    assert graphs.vocabulary("pathology")["pleural_effusion"]["site"] == "pleural_space"
    assert graphs.names["pathology"]["normal_heart_size"] == "normal heart size"


def test_reading_is_lazy(folder: Path) -> None:
    """The first reports come out before a later part is touched: nothing is read ahead."""
    (folder / "nodes" / "part-00001.parquet").write_bytes(b"no parquet")
    graphs = iter(open_graphs(folder))
    assert [next(graphs).report.report_id for _ in range(3)] == ["007", "b", "c"]
    with pytest.raises(UserError, match=r"nodes/part-00001\.parquet cannot be read as Parquet"):
        next(graphs)


def test_newer_minor_version_is_read_without_its_columns(folder: Path) -> None:
    for part in (0, 1):
        for table in ("reports", "mentions", "nodes", "edges"):
            rewrite(folder, table, lambda t: t.append_column("novelty", pa.array(["x"] * len(t))), part)
    edit_manifest(folder, lambda manifest: manifest.update(schema_version="1.9", novelty=1))
    assert list(open_graphs(folder)) == handmade_graphs()


# What cannot be read


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        open_graphs(tmp_path / "nowhere")


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("a")
    with pytest.raises(UserError, match=r"reports\.csv is not a folder"):
        open_graphs(tmp_path / "reports.csv")


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a graphs folder: it has no manifest\.json"):
        open_graphs(tmp_path)


def test_a_part_of_a_graphs_folder(folder: Path) -> None:
    for part in ("reports", "manifest.json"):
        with pytest.raises(UserError, match=r"is a part of the graphs folder .*graphs: give that folder"):
            open_graphs(folder / part)


def test_unfinished_extraction(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / ".progress").mkdir()
    with pytest.raises(UserError, match="was not finished: run the same `graphprep extract` command again"):
        open_graphs(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not valid JSON"),
        ("\x00", "is not valid JSON"),
        ("[]", "no schema_version"),
        ('{"schema_version": 1}', "no schema_version"),
        ('{"schema_version": "2.0"}', "Schema version 2.0 cannot be read"),
        ('{"schema_version": "one"}', "must look like 1.0"),
        ('{"schema_version": "1.0"}', "is missing; the folder is damaged"),
    ],
)
def test_manifest_that_is_none(folder: Path, content: str, said: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=rf"manifest\.json.*{said}"):
        open_graphs(folder)


def test_manifest_in_another_encoding(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b'{"schema_version": "\xff"}')
    with pytest.raises(UserError, match="is not valid JSON"):
        open_graphs(folder)


def test_manifest_without_a_table(folder: Path) -> None:
    edit_manifest(folder, lambda manifest: manifest["shards"][1]["tables"].pop("edges"))
    with pytest.raises(UserError, match=r"shards\[1\]\.tables\.edges is missing"):
        open_graphs(folder)


@pytest.mark.parametrize("file", ["edges/part-00001.parquet", "vocab/anatomy.parquet"])
def test_missing_file(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError, match=rf"{file} is missing, though the manifest names it"):
        open_graphs(folder)


@pytest.mark.parametrize("name", ["../stolen.parquet", "/etc/hostname", "reports/../../stolen.parquet", "a\\b"])
def test_manifest_cannot_lead_out_of_the_folder(folder: Path, name: str) -> None:
    shutil.copy(folder / "reports" / "part-00000.parquet", folder.parent / "stolen.parquet")
    edit_manifest(folder, lambda manifest: manifest["shards"][0]["tables"]["reports"].update(file=name))
    with pytest.raises(UserError, match="names a file outside its folder"):
        open_graphs(folder)


@pytest.mark.parametrize("table", ["reports", "mentions", "nodes", "edges"])
@pytest.mark.parametrize("keep", [0, 3, 100, -1, -20])
def test_truncated_parquet(folder: Path, table: str, keep: int) -> None:
    path = folder / table / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{table}/part-00001\.parquet cannot be read as Parquet"):
        list(open_graphs(folder))


def test_damaged_data_page(folder: Path) -> None:
    """A file whose footer is whole while its pages are not."""
    path = folder / "nodes" / "part-00000.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 4] = b"\xff" * (len(content) // 4 - 4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"nodes/part-00000\.parquet cannot be read as Parquet"):
        list(open_graphs(folder))


def test_shard_of_another_extraction(folder: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", [[handmade_graphs()[:1]]])
    shutil.copy(other / "nodes" / "part-00000.parquet", folder / "nodes" / "part-00000.parquet")
    with pytest.raises(UserError, match=r"has 8 rows where the manifest counts 10"):
        list(open_graphs(folder))


def test_row_groups_that_are_not_aligned(folder: Path) -> None:
    rewrite(folder, "edges", lambda table: table)
    with pytest.raises(UserError, match=r"do not belong together: row groups reports 2, .* edges 1"):
        list(open_graphs(folder))


def test_counts_that_do_not_add_up(folder: Path) -> None:
    path = folder / "mentions" / "part-00000.parquet"
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:  # the border between the row groups moved by one row
        writer.write_table(table.slice(0, 14), row_group_size=14)
        writer.write_table(table.slice(14))
    with pytest.raises(UserError, match=r"mentions has 14 rows where the reports count 15.*graphprep validate"):
        list(open_graphs(folder))


@pytest.mark.parametrize("edge", [Edge(0, 8, "located_at", "stated"), Edge(-1, 1, "part_of", "vocabulary")])
def test_edge_to_no_node(tmp_path: Path, edge: Edge) -> None:
    graph = full_report()
    graph.edges.append(edge)
    graphs = open_graphs(write_folder(tmp_path / "graphs", [[[graph]]]))
    with pytest.raises(UserError, match="of an edge is no node of its report"):
        list(graphs)


def test_missing_column_and_wrong_type(folder: Path) -> None:
    rewrite(folder, "nodes", lambda table: table.drop_columns("side"), part=1)
    with pytest.raises(UserError, match=r"nodes/part-00001\.parquet: column side is missing, expected string"):
        list(open_graphs(folder))

    def numbered(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.names.index("side"), "side", pa.array([0] * len(table)))

    rewrite(folder, "nodes", numbered, part=0)
    with pytest.raises(UserError, match=r"nodes/part-00000\.parquet: column side is int64, expected string"):
        list(open_graphs(folder))


# networkx


def test_networkx_export(folder: Path) -> None:
    graphs = open_graphs(folder)
    graph = to_networkx(graphs.get("007"), graphs.names)
    assert isinstance(graph, nx.DiGraph)
    assert graph.graph["report_id"] == "007"
    assert graph.graph["images"] == ["a/1.png", "a/2.png"]
    assert graph.graph["split"] == "train"
    assert graph.nodes[0] == {
        "kind": "pathology",
        "concept": "opacity",
        "name": "opacity",
        "side": "left",
        "assertion": "present",
        "origin": "stated",
        "attributes": {"change": ["new"], "morphology": ["patchy"]},
        "sections": ["findings", "impression"],
        "mentions": [1, 0, 8, 9],
        "spans": [(10, 24), (123, 135)],
    }
    assert graph.nodes[4]["name"] == "pleural effusion"
    assert graph.edges[1, 3] == {"relation": "part_of", "origin": "vocabulary"}
    assert sorted(graph.edges) == sorted((edge.source, edge.target) for edge in full_report().edges)
    assert [sorted(c) for c in nx.weakly_connected_components(graph)] == [[0, 1, 2, 3], [4, 5], [6, 7]]


def test_networkx_export_is_json() -> None:
    graph = to_networkx(full_report())
    text = json.dumps(nx.node_link_data(graph, edges="edges"))
    again = nx.node_link_graph(json.loads(text), edges="edges")
    assert again.nodes[4]["name"] == "pleural_effusion"  # without names: the concept
    assert set(again.edges) == set(graph.edges)


def test_networkx_export_shares_nothing_with_the_record() -> None:
    record = full_report()
    graph = to_networkx(record)
    graph.nodes[0]["mentions"].clear()
    graph.nodes[0]["sections"].clear()
    assert record == full_report()


def test_networkx_export_of_a_broken_graph() -> None:
    dangling = replace(full_report(), edges=[Edge(0, 99, "located_at", "stated")])
    with pytest.raises(ValueError, match="edge 0 → 99 of report '007' ends at no node"):
        to_networkx(dangling)
    twice = replace(full_report(), edges=[Edge(0, 1, "located_at", "stated"), Edge(0, 1, "part_of", "stated")])
    with pytest.raises(ValueError, match="is there twice"):
        to_networkx(twice)
