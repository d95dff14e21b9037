"""`import graphprep`: quick, complete, and the same whatever was imported before."""

from __future__ import annotations

import csv
import importlib
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import graphprep
from graphprep.show import show
from graphprep.stats import stats

HEAVY = {"medspacy", "networkx", "numpy", "pandas", "pyarrow", "rich", "schemas", "spacy", "torch", "typer", "yaml"}


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return result.stdout.strip()


def test_import_loads_nothing_else() -> None:
    loaded = set(run("import sys, graphprep; graphprep.__all__, dir(graphprep); print(*sys.modules)").split())
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("graphprep.")} == set()


def test_reading_graphs_needs_no_language_library() -> None:
    loaded = set(run("import sys, graphprep; graphprep.open_graphs, graphprep.Node; print(*sys.modules)").split())
    assert "pyarrow" in loaded
    assert not loaded & {"spacy", "medspacy", "pandas", "torch", "trainer"}


@pytest.mark.parametrize("name", graphprep.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(graphprep, name)
    assert not inspect.ismodule(value)
    assert name == "__version__" or value.__name__ == name
    assert name in dir(graphprep)


def test_version() -> None:
    assert graphprep.__version__ == version("cascading-graph-alignment")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'graphprep' has no attribute 'extrct'"):
        _ = graphprep.extrct
    with pytest.raises(ImportError):
        exec("from graphprep import extrct")


@pytest.mark.parametrize("name", ["extract", "validate"])
@pytest.mark.parametrize(
    "first", ["graphprep.{0}", "import graphprep.{0}", "from graphprep.{0} import *", "from graphprep import {0}"]
)
def test_functions_win_over_the_modules_of_their_names(name: str, first: str) -> None:
    code = f"import graphprep; {first}; print(graphprep.{{0}}.__module__, type(graphprep.{{0}}).__name__)"
    assert run(code.format(name)) == f"graphprep.{name} function"
    module = importlib.import_module(f"graphprep.{name}")
    assert inspect.ismodule(module)
    assert getattr(module, name) is getattr(graphprep, name)


def test_other_submodules_are_reached_as_usual() -> None:
    import graphprep.records

    assert inspect.ismodule(graphprep.records)
    assert graphprep.records.Node is graphprep.Node


# extract_texts


@pytest.fixture(scope="module")
def graphs() -> list[graphprep.ReportGraph]:
    return graphprep.extract_texts(
        ["Small left pleural effusion.\r\nThe heart is normal in size.", "", "No\u00a0pneumothorax.\u200b"]
    )


def test_extract_texts(graphs: list[graphprep.ReportGraph]) -> None:
    assert [graph.report.report_id for graph in graphs] == ["0", "1", "2"]
    assert {graph.report.source for graph in graphs} == {"memory"}
    assert [graph.report.source_row for graph in graphs] == [1, 2, 3]
    effusion = next(node for node in graphs[0].nodes if node.concept == "pleural_effusion")
    assert (effusion.kind, effusion.side, effusion.assertion) == ("pathology", "left", "present")
    assert (graphs[1].mentions, graphs[1].nodes, graphs[1].edges) == ([], [], [])
    assert [(node.concept, node.assertion) for node in graphs[2].nodes if node.kind == "pathology"] == [
        ("pneumothorax", "absent")
    ]


def test_offsets_are_of_the_normalised_text(graphs: list[graphprep.ReportGraph]) -> None:
    assert graphs[2].report.text == "No pneumothorax."
    for graph in graphs:
        for mention in graph.mentions:
            assert graph.report.text[mention.start : mention.end] == mention.text


def test_graphs_go_into_networkx(graphs: list[graphprep.ReportGraph]) -> None:
    graph = graphprep.to_networkx(graphs[0])
    relations = {(graph.nodes[a]["concept"], graph.nodes[b]["concept"]) for a, b in graph.edges}
    assert ("normal_heart_size", "heart") in relations
    assert "pleural_effusion" in {finding for finding, _ in relations}


def test_through_a_folder(tmp_path: Path, graphs: list[graphprep.ReportGraph]) -> None:
    """Extracting a file gives the graphs of its texts; the folder is valid, can be counted and shown."""
    texts = [graph.report.text for graph in graphs if graph.report.text]
    source = tmp_path / "reports.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["report_id", "report"], *enumerate(texts)])
    graphprep.extract([source], tmp_path / "graphs", workers=1, progress=False)
    folder = graphprep.open_graphs(tmp_path / "graphs")
    assert graphprep.validate(folder.path).ok
    for read, made in zip(folder, [graph for graph in graphs if graph.report.text], strict=True):
        assert (read.report.text, read.sections, read.sentences) == (made.report.text, made.sections, made.sentences)
        assert (read.mentions, read.nodes, read.edges) == (made.mentions, made.nodes, made.edges)
    found = stats(folder)
    assert found["totals"]["reports"] == 2
    effusion = next(row for row in found["pathologies"]["finding"] if row["concept"] == "pleural_effusion")
    assert (effusion["present"], effusion["absent"]) == (1, 0)
    text = show(folder, "0").text()
    assert re.search(r"^present\n└── Pleural effusion, left  #\d", text, re.MULTILINE | re.IGNORECASE)


def test_no_texts() -> None:
    assert graphprep.extract_texts([]) == []


@pytest.mark.parametrize("texts", ["one text", [b"bytes"], [None]])
def test_texts_of_another_type(texts: list[str]) -> None:
    with pytest.raises(TypeError, match="sequence of strings"):
        graphprep.extract_texts(texts)


def test_unknown_setting() -> None:
    with pytest.raises(TypeError, match="colour"):
        graphprep.extract_texts(["Clear."], colour="red")
