"""Graphs in the formats of others, and back where there is a way back."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from handmade import full_report, handmade_graphs, plain_report, write_folder

from graphprep.errors import UserError
from graphprep.export import FORMATS, export
from graphprep.radgraph_json import annotation_of, read_annotations


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "graphs")


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_graphs_give_the_same_bytes_and_leave_nothing_else(graphs: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert export(graphs, format, out / "one") == export(graphs, format, out / "two") == 5
    assert (out / "one").read_bytes() == (out / "two").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["one", "two"]


def test_radgraph(graphs: Path, tmp_path: Path) -> None:
    export(graphs, "radgraph", tmp_path / "a.json")
    found = read_annotations(tmp_path / "a.json")
    assert found == {graph.report.report_id: annotation_of(graph) for graph in handmade_graphs()}
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert document["007"]["entities"]["2"]["relations"] == [["located_at", "4"], ["suggestive_of", "5"]]


@pytest.mark.parametrize("format", FORMATS)
def test_no_reports_at_all(tmp_path: Path, format: str) -> None:
    folder = write_folder(tmp_path / "none", [[[]]], rejects=[])
    assert export(folder, format, tmp_path / "out") == 0
    if format == "radgraph":
        assert json.loads((tmp_path / "out").read_text(encoding="utf-8")) == {}


def test_radgraph_needs_the_text(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "blank", text=False)
    with pytest.raises(UserError, match="--no-text"):
        export(folder, "radgraph", tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    for format in ("graphml", "pyg"):
        export(folder, format, tmp_path / format)


def test_graphml_is_read_by_networkx(graphs: Path, tmp_path: Path) -> None:
    export(graphs, "graphml", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["007.graphml", "b.graphml", "c.graphml", "d.graphml", "e.graphml"]
        found = nx.parse_graphml(archive.read("007.graphml").decode(), node_type=int)
    ours = full_report()
    assert len(found) == len(ours.nodes)
    assert found.nodes[0]["concept"] == "opacity"
    assert json.loads(found.nodes[0]["attributes"]) == {"change": ["new"], "morphology": ["patchy"]}
    assert "side" not in found.nodes[2]
    assert {(a, b, d["relation"]) for a, b, d in found.edges(data=True)} == {
        (edge.source, edge.target, edge.relation) for edge in ours.edges
    }


def test_graphml_names_and_texts_of_any_kind(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "odd", [[[plain_report("../a/b", "bell \x07 and <tag> & \ufffe", 1)]]])
    export(folder, "graphml", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        [name] = archive.namelist()
        assert "/" not in name
        assert nx.parse_graphml(archive.read(name).decode()).graph["text"] == "bell  and <tag> & "


def test_arrays_hold_every_node_and_edge(graphs: Path, tmp_path: Path) -> None:
    export(graphs, "pyg", tmp_path / "a.npz")
    with (tmp_path / "a.npz").open("rb") as file:
        z = dict(np.load(file, allow_pickle=False))
    for number, graph in enumerate(handmade_graphs()):
        assert z["report_id"][number] == graph.report.report_id
        nodes = z["x"][z["node_ptr"][number] : z["node_ptr"][number + 1]]
        names = (z["kinds"], z["concepts"], z["sides"], z["assertions"], z["origins"])
        assert [tuple(str(n[v]) for n, v in zip(names, row, strict=True)) for row in nodes] == [
            (node.kind, node.concept, node.side or "", node.assertion, node.origin) for node in graph.nodes
        ]
        part = slice(z["edge_ptr"][number], z["edge_ptr"][number + 1])
        assert z["edge_index"][:, part].T.tolist() == [[edge.source, edge.target] for edge in graph.edges]
        assert [(z["relations"][r], z["origins"][o]) for r, o in z["edge_attr"][part]] == [
            (edge.relation, edge.origin) for edge in graph.edges
        ]


def test_the_recipe_of_the_docstring_makes_data_objects(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("torch_geometric.data")
    export(graphs, "pyg", tmp_path / "graphs.npz")
    monkeypatch.chdir(tmp_path)
    lines = (sys.modules["graphprep.export"].__doc__ or "").splitlines()
    start = next(i for i, line in enumerate(lines) if "np.load" in line)
    known = {"np": np, "torch": torch, "Data": data.Data}
    exec("\n".join(line.strip() for line in lines[start : start + 4]), known)
    made = known["data"]
    assert [each.num_nodes for each in made] == [len(graph.nodes) for graph in handmade_graphs()]
    assert [each.num_edges for each in made] == [len(graph.edges) for graph in handmade_graphs()]
    assert all(each.validate() for each in made)
    batch = data.Batch.from_data_list(made)
    assert batch.num_nodes == sum(len(graph.nodes) for graph in handmade_graphs())


def test_an_unknown_format_and_a_place_that_is_none_are_errors(graphs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="radgraph, graphml, pyg"):
        export(graphs, "dot", tmp_path / "a")
    with pytest.raises(UserError, match="cannot write there"):
        export(graphs, "pyg", tmp_path / "nowhere" / "a.npz")


def test_a_disk_that_cannot_be_written_is_a_sentence(
    graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("unlink", "replace"):  # where the first fails, so does the other
        monkeypatch.setattr(Path, name, refused)
    with pytest.raises(UserError, match=r"a\.npz: cannot write there \(Read-only file system\)"):
        export(graphs, "pyg", tmp_path / "a.npz")


def test_a_failure_leaves_the_file_before_it(graphs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("before", encoding="utf-8")

    def fail(_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(sys.modules["graphprep.export"], "to_json", fail)
    with pytest.raises(RuntimeError):
        export(graphs, "radgraph", tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "before"
    assert not list(tmp_path.glob(".a.json*"))


def test_the_command(graphs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graphprep", "export", str(graphs), "--format", "radgraph", "-o"]
    done = subprocess.run([*command, str(tmp_path / "a.json")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 reports" in done.stdout
    assert len(read_annotations(tmp_path / "a.json")) == 5
