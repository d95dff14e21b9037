"""Labels by hand on a small vocabulary of our own, and against a plain reading of the nodes on any graphs."""

from __future__ import annotations

import csv
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from handmade import ANATOMY, node, plain_report, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.extract import extract
from graphprep.labels import SETS, labels
from graphprep.records import Image, ReportGraph
from graphprep.vocabulary import Vocabulary, load_vocabularies

PATHOLOGY = """
version: 1
kind: pathology
concepts:
  - {id: opacity, name: opacity, category: finding, synonyms: [opacity], labels: {chexpert14: [Lung Opacity]}}
  - {id: consolidation, name: consolidation, category: finding, parent: opacity, synonyms: [consolidation],
     labels: {chexpert14: [Consolidation], chestxray14: [Consolidation], mine: [dense, white]}}
  - {id: cardiomegaly, name: cardiomegaly, category: finding, synonyms: [cardiomegaly],
     labels: {chexpert14: [Cardiomegaly], chestxray14: [Cardiomegaly]}}
  - {id: scoliosis, name: scoliosis, category: finding, synonyms: [scoliosis]}
  - {id: normal_heart, name: normal heart, category: normality, opposite: [cardiomegaly], synonyms: [normal heart]}
  - {id: clear_lungs, name: clear lungs, category: normality, opposite: [opacity], synonyms: [clear lungs]}
  - {id: normal_chest, name: normal chest, category: normality, synonyms: [normal chest], labels: {chexpert14: [No Finding]}}
  - {id: tube, name: tube, category: device, synonyms: [tube], labels: {chexpert14: [Support Devices]}}
  - {id: sternotomy, name: sternotomy, category: postoperative, synonyms: [sternotomy]}
"""
CONCEPTS = {
    "opacity": None,
    "consolidation": "opacity",
    "cardiomegaly": None,
    "scoliosis": None,
    "normal_heart": None,
    "clear_lungs": None,
    "normal_chest": None,
    "tube": None,
    "sternotomy": None,
}


@cache
def vocabularies() -> tuple[Vocabulary, Vocabulary]:
    with TemporaryDirectory() as folder:
        Path(folder, "anatomy.yaml").write_text(ANATOMY, encoding="utf-8")
        Path(folder, "pathology.yaml").write_text(PATHOLOGY, encoding="utf-8")
        return load_vocabularies(Path(folder, "anatomy.yaml"), Path(folder, "pathology.yaml"))


def write(folder: Path, graphs: list[ReportGraph], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the vocabulary above."""
    monkeypatch.setattr("handmade.handmade_vocabularies", vocabularies)
    half = len(graphs) // 2
    return write_folder(folder / "graphs", [[graphs[:half], graphs[half:]]], rejects=[])


def report(report_id: str, *said: tuple[str, str], **fields: Any) -> ReportGraph:
    graph = plain_report(report_id, "", 1, **fields)
    graph.nodes = [
        node(i, "pathology", concept, [None, "left", "right"][i % 3], assertion)
        for i, (concept, assertion) in enumerate(said)
    ]
    return graph


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labelled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *said: tuple[str, str], set: str = "chexpert14", **options: Any
) -> dict[str, str]:
    """The labels of one report that are not empty."""
    labels(write(folder, [report("a", *said)], monkeypatch), folder / "labels.csv", set, **options)
    [row] = read(folder / "labels.csv")
    assert row.pop("report_id") == "a"
    return {label: value for label, value in row.items() if value}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([("cardiomegaly", "present")], {"Cardiomegaly": "1"}),
        ([("cardiomegaly", "uncertain")], {"Cardiomegaly": "-1"}),
        ([("cardiomegaly", "absent")], {"Cardiomegaly": "0", "No Finding": "1"}),
        ([("cardiomegaly", "absent"), ("cardiomegaly", "uncertain")], {"Cardiomegaly": "-1"}),
        ([("cardiomegaly", "uncertain"), ("cardiomegaly", "present")], {"Cardiomegaly": "1"}),
        ([("cardiomegaly", "present"), ("cardiomegaly", "absent")], {"Cardiomegaly": "1"}),
        ([("consolidation", "present")], {"Consolidation": "1", "Lung Opacity": "1"}),
        ([("consolidation", "uncertain"), ("opacity", "absent")], {"Consolidation": "-1", "Lung Opacity": "-1"}),
        ([("consolidation", "absent")], {"Consolidation": "0", "No Finding": "1"}),
        ([("opacity", "absent")], {"Lung Opacity": "0", "No Finding": "1"}),
        ([("normal_heart", "present")], {"Cardiomegaly": "0", "No Finding": "1"}),
        ([("normal_heart", "uncertain")], {"No Finding": "1"}),
        ([("normal_heart", "absent")], {"No Finding": "1"}),
        ([("normal_heart", "present"), ("cardiomegaly", "uncertain")], {"Cardiomegaly": "-1"}),
        ([("clear_lungs", "present")], {"No Finding": "1"}),
        ([("tube", "present")], {"Support Devices": "1", "No Finding": "1"}),
        ([("tube", "absent"), ("sternotomy", "present")], {"Support Devices": "0", "No Finding": "1"}),
        ([("scoliosis", "present"), ("normal_chest", "present")], {}),
        ([("scoliosis", "uncertain")], {}),
        ([("normal_chest", "uncertain")], {"No Finding": "1"}),
        ([], {"No Finding": "1"}),
    ],
)
def test_chexpert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[tuple[str, str]], expected: dict[str, str]
) -> None:
    assert labelled(tmp_path, monkeypatch, *said) == expected
    assert labelled(tmp_path, monkeypatch, *said, set="chexbert") == expected


def test_without_the_hierarchy_a_finding_is_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert labelled(tmp_path, monkeypatch, ("consolidation", "present"), hierarchy=False) == {"Consolidation": "1"}


def test_no_finding_of_chestxray14_is_none_of_the_fourteen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [("scoliosis", "present"), ("opacity", "present"), ("normal_heart", "present")]
    assert labelled(tmp_path, monkeypatch, *said, set="chestxray14") == {"No Finding": "1"}
    said = [("consolidation", "uncertain")]
    assert labelled(tmp_path, monkeypatch, *said, set="chestxray14") == {"Consolidation": "-1"}


def test_own_concepts_and_other_sets_of_the_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [("consolidation", "uncertain"), ("scoliosis", "absent"), ("clear_lungs", "present")]
    assert labelled(tmp_path, monkeypatch, *said, set="own") == {
        "opacity": "-1",
        "consolidation": "-1",
        "scoliosis": "0",
        "clear_lungs": "1",
    }
    assert labelled(tmp_path, monkeypatch, *said, set="mine") == {"dense": "-1", "white": "-1"}


def test_columns_of_the_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, [report("a")], monkeypatch)
    columns = {}
    for name in SETS:
        assert labels(folder, tmp_path / "labels.csv", name).columns == len(read(tmp_path / "labels.csv")[0]) - 1
        columns[name] = list(read(tmp_path / "labels.csv")[0])[1:]
    assert columns["chexpert14"][0] == columns["chexbert"][-1] == columns["chestxray14"][-1] == "No Finding"
    assert sorted(columns["chexpert14"]) == sorted(columns["chexbert"])
    assert (len(columns["chexpert14"]), len(columns["chestxray14"])) == (14, 15)
    assert columns["own"] == list(CONCEPTS)


def test_every_published_column_has_a_concept() -> None:
    """In our own vocabulary; a name spelled wrong there would leave a column empty for ever."""
    _, pathology = load_vocabularies(None, None)
    from graphprep.labels import _COLUMNS

    for name, columns in _COLUMNS.items():
        own = "chexpert14" if name == "chexbert" else name
        known = {label for concept in pathology.concepts.values() for label in concept.labels.get(own, ())}
        assert known | {"No Finding"} == set(columns)


# A set of one's own


def test_a_file_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set.yaml"
    path.write_text("Big heart: cardiomegaly\nLung: [opacity, scoliosis]\n", encoding="utf-8")
    said = [("consolidation", "present"), ("scoliosis", "absent"), ("cardiomegaly", "absent")]
    assert labelled(tmp_path, monkeypatch, *said, set=str(path)) == {"Big heart": "0", "Lung": "1"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Lung: [opacty]", "Did you mean opacity"),
        ("Lung: [zzzzz]", "vocab list"),
        ("Lung: {a: b}", "expected a list of concepts"),
        ("- opacity", "expected labels with their concepts"),
        ("", "expected labels with their concepts"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, expected: str
) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        labelled(tmp_path, monkeypatch, set=str(path))
    assert not (tmp_path / "labels.csv").exists()
    with pytest.raises(UserError, match="chexpert14, chexbert, chestxray14, own"):
        labelled(tmp_path, monkeypatch, set="chexpert15")


# Images


def test_one_row_per_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [
        report("a", ("cardiomegaly", "present"), subject_id="p,1", split="train", images=[Image("1.png"), Image("b/2.png")]),
        report("b", ("cardiomegaly", "absent")),
        report("c", images=[Image("3.png")]),
    ]  # fmt: skip
    folder = write(tmp_path, graphs, monkeypatch)
    done = labels(folder, tmp_path / "labels.csv", images=True)
    assert (done.rows, done.without_image) == (3, 1)
    rows = read(tmp_path / "labels.csv")
    assert list(rows[0])[:4] == ["image", "subject_id", "split", "No Finding"]
    assert [(r["image"], r["subject_id"], r["split"], r["Cardiomegaly"]) for r in rows] == [
        ("1.png", "p,1", "train", "1"),
        ("b/2.png", "p,1", "train", "1"),
        ("3.png", "", "", ""),
    ]


def test_no_column_of_splits_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, [report("a", images=[Image("1.png")])], monkeypatch)
    labels(folder, tmp_path / "labels.csv", images=True)
    assert list(read(tmp_path / "labels.csv")[0])[:3] == ["image", "subject_id", "No Finding"]


def test_no_images_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, [report("a")], monkeypatch)
    with pytest.raises(UserError, match="knows no image"):
        labels(folder, tmp_path / "labels.csv", images=True)


def test_a_folder_without_reports_has_a_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels(write(tmp_path, [], monkeypatch), tmp_path / "labels.csv").rows == 0
    assert (tmp_path / "labels.csv").read_text(encoding="utf-8").startswith("report_id,No Finding,")


def test_a_concept_that_the_vocabulary_lacks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="its vocabulary lacks"):
        labelled(tmp_path, monkeypatch, ("unheard_of", "present"))


# Any graphs


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(list(CONCEPTS)), st.sampled_from(["present", "uncertain", "absent"]))),
        max_size=5,
    )
)
def test_any_graphs_as_their_nodes_say_one_by_one(said: list[list[tuple[str, str]]]) -> None:
    rank = {"": 0, "0": 1, "-1": 2, "1": 3}
    value = {"absent": "0", "uncertain": "-1", "present": "1"}
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        graphs = [report(str(i), *nodes) for i, nodes in enumerate(said)]
        labels(write(Path(name), graphs, patch), Path(name, "labels.csv"), "own")
        rows = read(Path(name, "labels.csv"))
    assert len(rows) == len(said)
    for row, nodes in zip(rows, said, strict=True):
        expected = dict.fromkeys(CONCEPTS, "")
        for concept, assertion in nodes:
            wholes = [concept]
            if assertion != "absent" and CONCEPTS[concept] is not None:
                wholes.append(str(CONCEPTS[concept]))
            for each in wholes:
                expected[each] = max(expected[each], value[assertion], key=rank.__getitem__)
        assert {label: cell for label, cell in row.items() if label != "report_id"} == expected


def test_from_reports_to_labels_by_the_commands(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text(
        "report_id,findings,image\n"
        "1,Small left pleural effusion. No pneumothorax. The heart is normal in size.,1.png\n"
        "2,Possible pneumonia in the right lower lobe. Endotracheal tube in place.,2.png\n",
        encoding="utf-8",
    )
    extract([tmp_path / "reports.csv"], tmp_path / "graphs", progress=False, workers=1)
    command = [
        sys.executable,
        "-m",
        "graphprep",
        "labels",
        str(tmp_path / "graphs"),
        "-o",
        str(tmp_path / "labels.csv"),
    ]
    done = subprocess.run([*command, "--images"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    one, two = read(tmp_path / "labels.csv")
    assert {k: v for k, v in one.items() if v} == {
        "image": "1.png", "Pleural Effusion": "1", "Pneumothorax": "0", "Cardiomegaly": "0"
    }  # fmt: skip
    assert {k: v for k, v in two.items() if v} == {
        "image": "2.png", "Pneumonia": "-1", "Lung Opacity": "-1", "Support Devices": "1"
    }  # fmt: skip
    done = subprocess.run([*command, "--set", "none.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "neither a label set nor a file" in done.stderr
