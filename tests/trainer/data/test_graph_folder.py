"""Reading a graphs folder: splits, what is stated, texts and spans, and damaged folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade_pairs import HandEdge, HandmadePairs, HandNode, HandReport, write_graphs, write_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.graphs import GraphFolder, ReportRows, Split, content_key
from trainer.errors import UserError


def folder_of(folder: Path, reports: list[HandReport], **arguments: Any) -> GraphFolder:
    return GraphFolder(write_graphs(folder, [[reports]], **arguments))


def rows_of(graphs: GraphFolder) -> list[ReportRows]:
    return [rows for part in range(graphs.parts) for rows in graphs.read(part)]


def with_splits(folder: Path, splits: list[str | None], subjects: list[str | None] | None = None) -> GraphFolder:
    names = subjects or [f"s{number}" for number in range(len(splits))]
    reports = [
        HandReport(f"r{number}", subject_id=subject, split=split)
        for number, (split, subject) in enumerate(zip(splits, names, strict=True))
    ]
    return folder_of(folder, reports)


# Splits


@pytest.mark.parametrize("name", ["val", "validate", "Validation", "valid", "DEV", " dev "])
def test_splits_by_name(tmp_path: Path, name: str) -> None:
    splits = with_splits(tmp_path, ["train", "Training", name, "test", "TRAIN"]).splits()
    assert splits.codes.tolist() == [Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST, Split.TRAIN]
    assert splits.notes == ()


def test_reports_of_unknown_splits_are_left_out_and_counted(tmp_path: Path) -> None:
    splits = with_splits(tmp_path, ["train", "fold-7", None, "val"]).splits()
    assert splits.codes.tolist() == [Split.TRAIN, Split.LEFT_OUT, Split.LEFT_OUT, Split.VALIDATION]
    assert splits.counts == {"left_out": 2, "train": 1, "validation": 1, "test": 0}
    assert "2 reports" in splits.notes[0]


def test_splits_without_a_training_part_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="says a, b"):
        with_splits(tmp_path, ["a", "b"]).splits()


def test_subjects_are_held_out_whole_by_hash(tmp_path: Path) -> None:
    subjects = [f"s{number // 3}" for number in range(900)]
    graphs = with_splits(tmp_path, [None] * 900, list(subjects))
    splits = graphs.splits(0.2)
    by_subject: dict[str, set[int]] = {}
    for subject, code in zip(subjects, splits.codes.tolist(), strict=True):
        by_subject.setdefault(subject, set()).add(code)
    assert all(len(codes) == 1 for codes in by_subject.values())
    assert 0.12 < (splits.codes == Split.VALIDATION).mean() < 0.28
    assert set(splits.codes.tolist()) == {Split.TRAIN, Split.VALIDATION}
    assert "subject" in splits.notes[0]
    assert "report id" not in splits.notes[0]
    # A subject stays on its side whatever else is in the folder.
    few = with_splits(tmp_path / "few", [None] * 90, list(subjects[:90])).splits(0.2)
    assert few.codes.tolist() == splits.codes[:90].tolist()


def test_without_subjects_the_report_id_decides_and_the_note_says_so(tmp_path: Path) -> None:
    splits = with_splits(tmp_path, [None] * 300, [None] * 300).splits(0.3)
    assert 0.2 < (splits.codes == Split.VALIDATION).mean() < 0.4
    assert "300 reports name no subject" in splits.notes[0]


def test_a_missing_validation_part_is_taken_from_training_never_from_test(tmp_path: Path) -> None:
    splits = with_splits(tmp_path, ["train", "test"] * 200).splits(0.2)
    assert (splits.codes[1::2] == Split.TEST).all()
    assert {Split.TRAIN, Split.VALIDATION} == set(splits.codes[::2].tolist())


def test_nothing_is_held_out_at_fraction_zero(tmp_path: Path) -> None:
    assert (with_splits(tmp_path, [None] * 50).splits(0.0).codes == Split.TRAIN).all()


# What is read


def test_only_what_is_stated_is_read_and_nodes_are_numbered_anew(tmp_path: Path) -> None:
    report = HandReport(
        "r",
        "Left effusion. Nodule.",
        nodes=[
            HandNode("anatomy", "pleural_space", "left", origin="vocabulary"),
            HandNode("pathology", "pleural_effusion", "left", spans=[(0, 13)]),
            HandNode("anatomy", "thorax", origin="vocabulary"),
            HandNode("anatomy", "lung", "left", spans=[(0, 4)]),
            HandNode("pathology", "nodule", spans=[(15, 21)]),
        ],
        edges=[
            HandEdge(1, 0, origin="vocabulary"),
            HandEdge(1, 3),
            HandEdge(4, 3),
            HandEdge(3, 2, "part_of", origin="vocabulary"),
            HandEdge(4, 1, "suggestive_of"),
        ],
    )
    [rows] = rows_of(
        folder_of(tmp_path, [HandReport("empty"), report, HandReport("last", "x", [HandNode("anatomy", "heart")])])
    )
    assert rows.node_counts.tolist() == [0, 3, 1]
    assert rows.edge_counts.tolist() == [0, 3, 0]
    assert list(zip(rows.sources, rows.targets, rows.relations, strict=True)) == [
        (0, 1, "located_at"),
        (2, 1, "located_at"),
        (2, 0, "suggestive_of"),
    ]
    assert rows.concepts.tolist() == [6 + 3, 1, 6 + 2, 5]  # six anatomies come first


def test_sections_that_were_not_extracted_are_no_part_of_the_text(tmp_path: Path) -> None:
    text = "INDICATION: nodule?\nFINDINGS: A nodule.\nTECHNIQUE: PA.\nIMPRESSION: Nodule."
    sections = [
        (name.lower(), text.index(name) + len(name) + 2, text.index(name) + len(name) + 2 + length)
        for name, length in [("INDICATION", 7), ("FINDINGS", 9), ("TECHNIQUE", 3), ("IMPRESSION", 7)]
    ]
    second = text.rindex("Nodule")
    spans = [(text.index("A nodule") + 2, text.index("A nodule") + 8), (second, second + 6), (12, 18)]
    node = HandNode("pathology", "nodule", spans=spans)
    [rows] = rows_of(
        folder_of(tmp_path, [HandReport("r", text, [node], sections=sections), HandReport("s", "Whole.", sections=[])])
    )
    assert rows.texts == ["A nodule.\nNodule.", "Whole."]
    assert [rows.texts[0][start:end] for start, end in rows.spans[0]] == ["nodule", "Nodule"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.text("ab é\n😀", min_size=1, max_size=8)), min_size=1, max_size=6))
def test_spans_keep_their_words(tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[bool, str]]) -> None:
    text, sections, spans = "", [], []
    for kept, words in pieces:
        sections.append(("findings" if kept else "history", len(text), len(text) + len(words)))
        if kept:
            spans.append((len(text), len(text) + len(words)))
        text += words + "\n"
    [rows] = rows_of(
        folder_of(
            tmp_path_factory.mktemp("spans"),
            [HandReport("r", text, [HandNode("anatomy", "heart", spans=list(spans))], sections=sections)],
        )
    )
    if spans:
        assert [rows.texts[0][start:end] for start, end in rows.spans[0]] == [text[start:end] for start, end in spans]
    else:
        assert rows.texts == [text]


def test_graphs_without_text_say_their_nodes_as_phrases(tmp_path: Path) -> None:
    nodes = [
        HandNode("pathology", "pleural_effusion", "left", "absent", [(3, 9)], [("severity", "small")]),
        HandNode("anatomy", "lower_zone", "right", spans=[(10, 12)]),
        HandNode("pathology", "nodule", None, "uncertain", [(13, 15)]),
    ]
    graphs = folder_of(tmp_path, [HandReport("r", "secret", nodes), HandReport("empty", "secret")], text=False)
    [rows] = rows_of(graphs)
    assert rows.texts == ["no small left pleural effusion; right lower zone; possible nodule", ""]
    assert [[rows.texts[0][start:end] for start, end in spans] for spans in rows.spans] == [
        ["no small left pleural effusion"],
        ["right lower zone"],
        ["possible nodule"],
    ]


def test_texts_of_chosen_reports_come_from_all_parts_and_row_groups(pairs: HandmadePairs) -> None:
    graphs = GraphFolder(pairs.graphs)
    rows = np.array([0, 3, 49, 50, 119, 120, 171, 239])
    assert list(graphs.texts(rows)) == [pairs.reports[row].text for row in rows]


def test_content_keys_are_the_same_everywhere() -> None:
    assert content_key("no pneumothorax") == content_key("no pneumothorax") == 2286882304045709835
    assert 0 <= content_key("x") < 2**63


# Folders that cannot be used


def damaged(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path: Path = write_pairs(folder, count=12, size=16).graphs
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return path


def test_a_folder_without_graphs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.json"):
        GraphFolder(tmp_path)


def test_a_manifest_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        GraphFolder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema_version="2.0"), "Schema version 2.0"),
        (lambda manifest: manifest.pop("shards"), "shards is missing"),
        (lambda manifest: manifest.update(schema_version=None), "must look like"),
    ],
)
def test_a_manifest_that_breaks_the_contract(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        GraphFolder(damaged(tmp_path, change))


def test_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    graphs = GraphFolder(damaged(tmp_path, lambda manifest: manifest.update(schema_version="1.9", more=1)))
    assert sum(len(rows.texts) for rows in rows_of(graphs)) == 12


def test_a_manifest_that_names_files_elsewhere(tmp_path: Path) -> None:
    path = damaged(tmp_path, lambda m: m["shards"][0]["tables"]["nodes"].update(file="../images/00000.png"))
    with pytest.raises(UserError, match="outside the folder"):
        rows_of(GraphFolder(path))


def test_missing_cut_and_changed_tables(tmp_path: Path) -> None:
    path = write_pairs(tmp_path, count=12, size=16).graphs
    graphs = GraphFolder(path)
    nodes = path / "nodes" / "part-00000.parquet"
    content = nodes.read_bytes()
    nodes.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="no whole Parquet file"):
        rows_of(graphs)
    nodes.unlink()
    with pytest.raises(UserError, match="is missing"):
        rows_of(graphs)
    nodes.write_bytes((path / "nodes" / "part-00001.parquet").read_bytes())
    with pytest.raises(UserError, match="the manifest says"):
        rows_of(graphs)
    nodes.write_bytes(content)
    graphs.verify(0)
    (path / "reports" / "part-00000.parquet").write_bytes((path / "reports" / "part-00001.parquet").read_bytes())
    with pytest.raises(UserError, match="was changed"):
        graphs.verify(0)


def test_tables_that_do_not_agree(tmp_path: Path) -> None:
    path = write_graphs(tmp_path, [[[HandReport("r", "x", [HandNode("pathology", "blorbidity")])]]])
    with pytest.raises(UserError, match="part 0 is damaged"):
        rows_of(GraphFolder(path))
    path = write_graphs(tmp_path, [[[HandReport("r", "x", [HandNode("anatomy", "heart")], [HandEdge(0, 1)])]]])
    with pytest.raises(UserError, match="part 0 is damaged"):
        rows_of(GraphFolder(path))


def test_graphs_without_images_and_with_a_root_that_is_gone(tmp_path: Path) -> None:
    graphs = folder_of(tmp_path / "a", [HandReport("r")], image_root=None)
    with pytest.raises(UserError, match="has no images"):
        graphs.image_root()
    graphs = folder_of(tmp_path / "b", [HandReport("r")], image_root="../gone")
    with pytest.raises(UserError, match="--images"):
        graphs.image_root()
    assert graphs.image_root(tmp_path) == tmp_path


def test_the_image_root_is_relative_to_the_graphs(pairs: HandmadePairs) -> None:
    assert GraphFolder(pairs.graphs).image_root() == pairs.images
