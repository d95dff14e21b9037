"""RadGraph's JSON as graphs: what goes out comes back, and what does not fit is a reject of its own."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.evaluate import evaluate
from graphprep.export import export
from graphprep.extract import extract
from graphprep.graphs import open_graphs
from graphprep.import_radgraph import import_radgraph
from graphprep.pipeline import PipelineSettings
from graphprep.records import ReportGraph
from graphprep.validate import validate

SENTENCES = (
    "Small left pleural effusion, unchanged.",
    "No pneumothorax.",
    "Patchy opacity in the left lower lobe may represent pneumonia.",
    "The heart is mildly enlarged.",
    "History of pneumonia.",
    "A 3 cm mass in the right upper lobe (stable).",
    "Lungs are clear",
    "Follow-up CT is recommended.",
    "Right-sided catheter; tip in the SVC.",
)
REPORTS = {
    "007": (f"{SENTENCES[0]} {SENTENCES[2]}", f"{SENTENCES[3]} {SENTENCES[1]}", "p1", "a.png"),
    "b/1": (f"{SENTENCES[5]} {SENTENCES[4]}", "", "p2", "b.png"),
    "c": ("Nothing here.", "", "p2", "c.png"),
}


def write_reports(path: Path, reports: dict[str, tuple[str, str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["report_id", "findings", "impression", "subject_id", "image"])
        writer.writerows([key, *values] for key, values in reports.items())
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """REPORTS as reports.csv, their graphs and the JSON of these. Not to be changed."""
    folder = tmp_path_factory.mktemp("radgraph")
    write_reports(folder / "reports.csv", REPORTS)
    extract([folder / "reports.csv"], folder / "graphs", progress=False, workers=1)
    export(folder / "graphs", "radgraph", folder / "mentions.json")
    return folder


def back(path: Path, output: Path, reports: Sequence[Path] = (), **options: Any) -> list[ReportGraph]:
    import_radgraph(path, output, reports=reports, progress=False, workers=1, **options)
    assert validate(output).problems == []
    return list(open_graphs(output))


def test_with_the_reports_everything_comes_back(made: Path, tmp_path: Path) -> None:
    found = back(made / "mentions.json", tmp_path / "back", [made / "reports.csv"])
    assert found == list(open_graphs(made / "graphs"))
    assert len(found[0].mentions) > 10


def test_without_the_reports_the_text_is_that_of_the_tokens(made: Path, tmp_path: Path) -> None:
    found = back(made / "mentions.json", tmp_path / "back")
    assert found[0].report.text.startswith("FINDINGS : Small left pleural effusion ,")
    for one, other in zip(found, open_graphs(made / "graphs"), strict=True):
        assert one.report.report_id == other.report.report_id
        assert [(n.kind, n.concept, n.side, n.assertion, n.origin, n.attributes) for n in one.nodes] == [
            (n.kind, n.concept, n.side, n.assertion, n.origin, n.attributes) for n in other.nodes
        ]
        assert one.edges == other.edges
        assert [(m.text, m.label, m.assertion, m.relations) for m in one.mentions] == [
            (m.text, m.label, m.assertion, m.relations) for m in other.mentions
        ]


@settings(max_examples=5, deadline=None)
@given(st.lists(st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4), min_size=1, max_size=8))
def test_any_reports_come_back(written: list[list[str]]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        reports = {str(i): ("\n".join(sentences), "", "p", f"{i}.png") for i, sentences in enumerate(written)}
        write_reports(folder / "reports.csv", reports)
        extract([folder / "reports.csv"], folder / "graphs", progress=False, workers=1)
        export(folder / "graphs", "radgraph", folder / "a.json")
        found = back(folder / "a.json", folder / "back", [folder / "reports.csv"])
        assert found == list(open_graphs(folder / "graphs"))
        score = evaluate(folder / "a.json", folder / "back", bootstrap=0)
        if any(graph.mentions for graph in found):
            assert score["mentions"]["f1"] == 1.0


def changed(made: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    document = json.loads((made / "mentions.json").read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_numbered_annotations_are_those_of_the_reports_in_order(made: Path, tmp_path: Path) -> None:
    def number(document: dict[str, Any]) -> None:
        entries = list(document.values())
        document.clear()
        document.update({str(i): entry for i, entry in enumerate(entries)})

    path = changed(made, tmp_path / "a.json", number)
    found = back(path, tmp_path / "back", [made / "reports.csv"])
    assert found == list(open_graphs(made / "graphs"))
    assert evaluate(path, made / "graphs")["mentions"]["f1"] == 1.0


def test_headings_that_were_not_annotated_do_not_matter(made: Path, tmp_path: Path) -> None:
    def strip(document: dict[str, Any]) -> None:
        entry = document["c"]
        entry["text"] = entry["text"].replace("FINDINGS : ", "").lower()

    path = changed(made, tmp_path / "a.json", strip)
    assert back(path, tmp_path / "back", [made / "reports.csv"]) == list(open_graphs(made / "graphs"))


def test_a_report_without_annotation_and_one_of_another_text_are_rejects(made: Path, tmp_path: Path) -> None:
    def spoil(document: dict[str, Any]) -> None:
        document["x"] = document.pop("c")
        document["b/1"]["text"] += " more"

    path = changed(made, tmp_path / "a.json", spoil)
    done = import_radgraph(path, tmp_path / "back", reports=[made / "reports.csv"], progress=False, workers=1)
    assert (done.extract.reports, sum(done.extract.rejected.values()), done.unused) == (1, 2, 2)
    [batch] = open_graphs(tmp_path / "back").tables("rejects", ["report_id", "reason"])
    assert {row["report_id"]: row["reason"] for row in batch.to_pylist()} == {"b/1": "other_text", "c": "not_annotated"}


def test_mentions_across_and_outside_sentences_get_one(tmp_path: Path) -> None:
    entities = {
        "1": {"tokens": "FINDINGS :", "label": "Anatomy::definitely present", "start_ix": 0, "end_ix": 1, "relations": []},
        "2": {"tokens": "clear . Heart", "label": "Anatomy::definitely present", "start_ix": 4, "end_ix": 6, "relations": [["modify", "2"]]},
    }  # fmt: skip
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"r": {"text": "FINDINGS : Lungs are clear . Heart normal .", "entities": entities}}))
    [graph] = back(path, tmp_path / "back")
    # `back` has validated that every mention lies in its sentence
    assert [m.text for m in graph.mentions] == ["FINDINGS :", "clear . Heart"] or graph.mentions == []
    assert all(m.relations == [] for m in graph.mentions)  # none to itself


def test_without_text_none_is_written(made: Path, tmp_path: Path) -> None:
    found = back(made / "mentions.json", tmp_path / "back", [made / "reports.csv"], text=False)
    assert {graph.report.text for graph in found} == {""}
    assert [len(graph.nodes) for graph in found] == [len(graph.nodes) for graph in open_graphs(made / "graphs")]


def test_a_finished_folder_is_left_alone_and_other_annotations_are_refused(made: Path, tmp_path: Path) -> None:
    first = import_radgraph(made / "mentions.json", tmp_path / "back", progress=False, workers=1)
    again = import_radgraph(made / "mentions.json", tmp_path / "back", progress=False, workers=1)
    assert dataclasses.replace(first.extract, already_complete=True, seconds=0) == dataclasses.replace(
        again.extract, seconds=0
    )

    def change(document: dict[str, Any]) -> None:
        del document["c"]

    other = changed(made, tmp_path / "mentions.json", change)
    with pytest.raises(UserError, match="--overwrite"):
        import_radgraph(other, tmp_path / "back", progress=False, workers=1)


def test_vocabularies_of_ones_own(made: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "own.yaml"
    vocabulary.write_text(
        "version: 1\nkind: pathology\nextends: default\nconcepts:\n  - {id: water, name: water, category: finding, synonyms: [nothing]}\n",
        encoding="utf-8",
    )
    back(made / "mentions.json", tmp_path / "back", settings=PipelineSettings(pathology_vocab=vocabulary))
    assert "water" in open_graphs(tmp_path / "back").vocabulary("pathology")


def test_the_command(made: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "graphprep", "import-radgraph", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)

    done = run(made / "mentions.json", "--reports", made / "reports.csv", "-o", tmp_path / "back", "--workers", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(open_graphs(tmp_path / "back")) == list(open_graphs(made / "graphs"))
    done = run(made / "reports.csv", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert "not valid JSON" in done.stderr
