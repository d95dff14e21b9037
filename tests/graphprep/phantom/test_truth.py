from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

import graphprep
from graphprep.phantom.markup import read_markup
from graphprep.phantom.report import Phrase, ReportOptions, ReportText, Sentence, write_report
from graphprep.phantom.sample import sample
from graphprep.phantom.scene import Study
from graphprep.phantom.truth import GRAPHS, GraphMaker, TruthWriter
from graphprep.read import read_reports
from graphprep.records import Report, ReportGraph
from graphprep.sections import SectionFinder
from graphprep.sentences import split_sentences

STUDIES = list(sample(300, seed=5))
MAKE = GraphMaker()


def image_of(study: Study) -> list[tuple[str, str]]:
    return [(f"images/{study.report_id}.png", study.view)]


def write(folder: Path, studies: Iterable[Study], *, shard_size: int = 10_000) -> Path:
    """The part of a phantom that the graphs belong to; returns the folder of graphs."""
    folder.mkdir(exist_ok=True)
    with (folder / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow("report_id subject_id study_id split images view findings impression".split())
        for study in studies:
            text = write_report(study)
            [(path, view)] = image_of(study)
            known = [study.report_id, study.subject_id, study.study_id, study.split]
            rows.writerow([*known, path, view, text.findings, text.impression])
    with TruthWriter(folder, shard_size=shard_size) as truth:
        for study in studies:
            truth.add(study, write_report(study), image_of(study))
    return folder / GRAPHS


def add_all(truth: TruthWriter, texts: Iterable[ReportText]) -> None:
    for study, text in zip(STUDIES, texts, strict=False):
        truth.add(study, text, image_of(study))


def hashes(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


# Statements → graph


def said(*sentences: Sentence) -> ReportGraph:
    """The graph of a report with these findings."""
    text, placed = "", []
    for sentence in sentences:
        text += " " if text else ""
        placed.append(
            Sentence(
                sentence.marked,
                sentence.phrases,
                sentence.suggestions,
                sentence.back,
                sentence.suggested_by_last,
                "findings",
                len(text),
            )
        )
        text += sentence.marked.text
    return MAKE(STUDIES[0], ReportText(text, "", tuple(placed), (), ()), [], 1)


def nodes(graph: ReportGraph) -> set[str]:
    """Stated findings: assertion, concept, side, attributes."""
    return {
        " ".join(
            filter(
                None,
                [node.assertion, node.concept, node.side, *(f"{a.kind}={a.words}" for a in node.attributes)],
            )
        )
        for node in graph.nodes
        if node.kind == "pathology"
    }


def edges(graph: ReportGraph) -> set[str]:
    """Stated edges."""
    names = {node.node_id: f"{node.concept} {node.side}" if node.side else node.concept for node in graph.nodes}
    return {
        f"{names[edge.source]} {edge.relation} {names[edge.target]}" for edge in graph.edges if edge.origin == "stated"
    }


def test_a_finding_with_side_place_and_attributes() -> None:
    graph = said(
        Sentence(
            read_markup("There is a {~small #4_mm *nodule in the ^left ^lower @lobe:lower_lobe}, ~unchanged."),
            (Phrase(("nodule",), "left"),),
        )
    )
    assert nodes(graph) == {"present nodule left change=unchanged measurement=4 mm severity=small"}
    assert edges(graph) == {"nodule left located_at lower_lobe left"}
    assert [mention.text for mention in graph.mentions] == "small|4 mm|nodule|left|lower|lobe|unchanged".split("|")
    relations = {(m.text, r.type, graph.mentions[r.target].text) for m in graph.mentions for r in m.relations}
    assert relations == {
        ("small", "modify", "nodule"),
        ("4 mm", "modify", "nodule"),
        ("unchanged", "modify", "nodule"),
        ("left", "modify", "lobe"),
        ("lower", "modify", "lobe"),
        ("nodule", "located_at", "lobe"),
    }


def test_a_place_of_a_list_is_of_all_in_it() -> None:
    absent = [Phrase((concept,), "right", "absent") for concept in ("nodule", "mass")]
    graph = said(Sentence(read_markup("No {*nodule} or {*mass} at the ^right @apex:lung_apex."), tuple(absent)))
    assert nodes(graph) == {"absent nodule right", "absent mass right"}
    assert edges(graph) == {"nodule right located_at lung_apex right", "mass right located_at lung_apex right"}


def test_a_place_without_side_has_that_of_the_finding_unless_it_is_a_device() -> None:
    graph = said(
        Sentence(read_markup("{@Hilar:hilum *fullness on the @left}."), (Phrase(("hilar_enlargement",), "left"),)),
        Sentence(read_markup("{@Right *line with ~tip in a @bronchus:bronchus}."), (Phrase(("line",), "right"),)),
    )
    assert edges(graph) == {"hilar_enlargement left located_at hilum left", "line right located_at bronchus"}


def test_what_is_suggested_is_where_the_sign_is() -> None:
    graph = said(
        Sentence(
            read_markup("{*Opacity at the ^left @base:lung_base} may represent {*pneumonia}."),
            (Phrase(("lung_opacity",), "left"), Phrase(("pneumonia",), None, "uncertain")),
            suggestions=((0, 1),),
        )
    )
    assert nodes(graph) == {"present lung_opacity left", "uncertain pneumonia left"}
    assert edges(graph) == {
        "lung_opacity left located_at lung_base left",
        "pneumonia left located_at lung_base left",
        "lung_opacity left suggestive_of pneumonia left",
    }


def test_what_the_next_sentence_says_of_a_finding() -> None:
    graph = said(
        Sentence(
            read_markup("{*Opacity at the ^left @base:lung_base} and {*effusion}."),
            (Phrase(("lung_opacity",), "left"), Phrase(("pleural_effusion",))),
        ),
        Sentence(read_markup("It has ~increased."), back=True),
    )
    assert "present lung_opacity left change=increased" in nodes(graph)
    graph = said(
        Sentence(read_markup("{*Opacity at the ^left @base:lung_base}."), (Phrase(("lung_opacity",), "left"),)),
        Sentence(
            read_markup("This may represent {*pneumonia}."),
            (Phrase(("pneumonia",), None, "uncertain"),),
            suggested_by_last=True,
        ),
    )
    assert "uncertain pneumonia left" in nodes(graph)
    assert "lung_opacity left suggestive_of pneumonia left" in edges(graph)


def test_advice_and_what_is_not_new_are_no_nodes() -> None:
    graph = said(
        Sentence(read_markup("CT to exclude {*malignancy}."), (Phrase(("malignancy",), temporality="hypothetical"),)),
        Sentence(read_markup("No ~new {*opacity}."), (Phrase(("lung_opacity",), None, "absent"),)),
    )
    assert nodes(graph) == set()
    assert [(mention.text, mention.temporality) for mention in graph.mentions] == [
        ("malignancy", "hypothetical"),
        ("new", "current"),
        ("opacity", "current"),
    ]


def test_two_structures_normal_in_one_word() -> None:
    graph = said(
        Sentence(
            read_markup("{The @heart:heart and @lungs:lung are *normal}."),
            (Phrase(("normal_heart_size", "clear_lungs")),),
        )
    )
    assert edges(graph) == {"normal_heart_size located_at heart", "clear_lungs located_at lung"}


def test_a_report_without_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text"):
        MAKE(STUDIES[0], ReportText("", "", (), (), ()), [], 1)


# Text and offsets


def test_text_and_sections_are_those_of_the_reader(tmp_path: Path) -> None:
    write(tmp_path, STUDIES)
    read = [item for item in read_reports([tmp_path / "reports.csv"]) if isinstance(item, Report)]
    made = [MAKE(study, write_report(study), image_of(study), row).report for row, study in enumerate(STUDIES, 1)]
    assert read == made


def test_sentences_and_sections_are_those_of_the_pipeline() -> None:
    find_sections = SectionFinder()
    for study in STUDIES:
        graph = MAKE(study, write_report(study, ReportOptions(wrong=0.1)), [], 1)
        text = graph.report.text
        assert find_sections(text, graph.report.sections) == graph.sections
        spans = [span for section in graph.sections for span in split_sentences(text, section.start, section.end)]
        assert spans == [(sentence.start, sentence.end) for sentence in graph.sentences]


def test_mentions_spell_what_stands_at_their_offsets() -> None:
    for study in STUDIES:
        graph = MAKE(study, write_report(study), [], 1)
        for mention in graph.mentions:
            assert graph.report.text[mention.start : mention.end] == mention.text
        assert [mention.start for mention in graph.mentions] == sorted(mention.start for mention in graph.mentions)


# Files


def test_the_folder_keeps_the_contract(tmp_path: Path) -> None:
    graphs = write(tmp_path, STUDIES, shard_size=120)
    found = graphprep.validate(graphs)
    assert not found.problems
    assert found.counts["reports"] == len(STUDIES)
    folder = graphprep.open_graphs(graphs)
    assert [graph.report.report_id for graph in folder] == [study.report_id for study in STUDIES]
    assert sorted(file.name for file in (graphs / "nodes").iterdir()) == [
        f"part-0000{part}.parquet" for part in range(3)
    ]


def test_no_reports_make_a_folder_too(tmp_path: Path) -> None:
    assert not graphprep.validate(write(tmp_path, [])).problems


def test_the_same_reports_give_the_same_bytes_over_what_was_there(tmp_path: Path) -> None:
    fresh = hashes(write(tmp_path / "fresh", STUDIES[:50], shard_size=30))
    write(tmp_path / "again", STUDIES[:100], shard_size=30)
    assert hashes(write(tmp_path / "again", STUDIES[:50], shard_size=30)) == fresh


def test_a_failure_leaves_no_manifest_and_no_part_behind(tmp_path: Path) -> None:
    graphs = write(tmp_path, STUDIES[:10])
    texts = [*map(write_report, STUDIES[:6]), ReportText("", "", (), (), ())]
    with pytest.raises(ValueError, match="no text"), TruthWriter(tmp_path, shard_size=4) as truth:
        add_all(truth, texts)
    assert not (graphs / "manifest.json").exists()
    assert not [file for file in graphs.rglob("*") if file.name.endswith(".tmp")]


def test_a_shard_holds_a_report_at_least(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TruthWriter(tmp_path, shard_size=0)


# What extraction makes of the reports


def test_the_rules_read_what_the_reports_say() -> None:
    truth = [MAKE(study, write_report(study, ReportOptions(wrong=0.05)), [], 1) for study in STUDIES]
    read = graphprep.extract_texts([graph.report.text for graph in truth])
    for items, least in ((stated_nodes, 0.97), (stated_edges, 0.95)):
        pairs = [(items(true), items(found)) for true, found in zip(truth, read, strict=True)]
        both = sum(len(true & found) for true, found in pairs)
        assert 2 * both / sum(len(true) + len(found) for true, found in pairs) > least


def stated_nodes(graph: ReportGraph) -> set[tuple[object, ...]]:
    return {(n.kind, n.concept, n.side, n.assertion) for n in graph.nodes if n.origin == "stated"}


def stated_edges(graph: ReportGraph) -> set[tuple[object, ...]]:
    names = {node.node_id: (node.concept, node.side, node.assertion) for node in graph.nodes}
    return {(names[e.source], e.relation, names[e.target]) for e in graph.edges if e.origin == "stated"}
