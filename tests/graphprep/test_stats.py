"""The counts of a graphs folder: the handmade one to the letter, any other against counting the records one by one."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import pytest
from handmade import (
    REJECTS,
    full_report,
    handmade_vocabularies,
    mention,
    node,
    plain_report,
    write_folder,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import graphprep.stats
from graphprep.errors import UserError
from graphprep.graphs import open_graphs, to_networkx
from graphprep.records import Attribute, Edge, Image, Mention, Relation, ReportGraph, Section
from graphprep.stats import format_stats, stats


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Any]:
    return stats(write_folder(tmp_path / "graphs"))


def test_totals(found: dict[str, Any]) -> None:
    assert found["totals"] == {
        "reports": 5,
        "shards": 2,
        "subjects": 2,
        "images": 2,
        "reports_with_images": 1,
        "sentences": 9,
        "mentions": 17,
        "nodes": 12,
        "edges": 7,
        "rejected": 2,
    }
    assert found["splits"] == {"none": 2, "train": 2, "test": 1}
    assert found["rejected"] == {"duplicate_id": 1, "malformed_row": 1}
    assert found["sections"] == {"findings": 5, "impression": 1}


def test_per_report(found: dict[str, Any]) -> None:
    assert found["per_report"]["nodes"] == {"mean": 2.4, "median": 2.0, "max": 8}
    # opacity and pneumonia of 007, the effusion of d; not the absent one, the normal heart, the devices
    assert found["per_report"]["findings"] == {"mean": 0.6, "median": 0.0, "max": 2}
    assert found["shares"] == {"no_mention": 0.4, "no_node": 0.4, "no_finding": 0.6}


def test_pathologies_by_category_and_assertion(found: dict[str, Any]) -> None:
    table = {
        category: {row["concept"]: (row["present"], row["uncertain"], row["absent"], row["total"]) for row in rows}
        for category, rows in found["pathologies"].items()
    }
    assert table == {
        "finding": {"pleural_effusion": (1, 0, 1, 2), "opacity": (1, 0, 0, 1), "pneumonia": (0, 1, 0, 1)},
        "device": {"pacemaker": (1, 0, 0, 1)},
        "normality": {"normal_heart_size": (1, 0, 0, 1)},
        "postoperative": {"sternotomy": (1, 0, 0, 1)},
    }
    assert next(iter(found["pathologies"])) == "finding"
    assert [row["name"] for row in found["pathologies"]["finding"]] == ["pleural effusion", "opacity", "pneumonia"]


def test_anatomies_by_side(found: dict[str, Any]) -> None:
    assert found["anatomies"][0] == {
        "concept": "pleural_space",
        "name": "pleural space",
        "left": 0,
        "right": 0,
        "bilateral": 1,
        "unsided": 1,
        "total": 2,
        "stated": 0,
    }
    lower_lobe = next(row for row in found["anatomies"] if row["concept"] == "lower_lobe")
    assert (lower_lobe["left"], lower_lobe["stated"]) == (1, 1)


def test_relations_attributes_and_mentions(found: dict[str, Any]) -> None:
    assert found["relations"] == {
        "located_at": {"stated": 3, "vocabulary": 2},
        "suggestive_of": {"stated": 1, "vocabulary": 0},
        "part_of": {"stated": 0, "vocabulary": 1},
    }
    assert found["attributes"]["measurement"] == {"count": 1, "words": [{"text": "3 cm", "count": 1}]}
    assert found["nodes"]["pathology"]["sides"] == {"left": 1, "right": 0, "bilateral": 1, "unsided": 5}
    assert found["nodes"]["anatomy"]["origins"] == {"stated": 2, "vocabulary": 3}
    assert found["nodes"]["pathology"]["sections"] == {"findings": 7, "impression": 1}
    assert found["mentions"]["temporality"] == {"current": 16, "historical": 1, "hypothetical": 0}
    assert found["mentions"]["assertions"] == {"present": 11, "uncertain": 1, "absent": 1}
    assert found["mentions"]["relations"] == {"located_at": 3, "modify": 3, "suggestive_of": 1}
    assert found["mentions"]["measurements"] == 1


def test_unlinked_mentions_without_modifiers_and_measures(found: dict[str, Any]) -> None:
    """Patchy, left and new modify something, 3 cm is a measure: they are no heads."""
    observation, anatomy = found["linking"]["observation"], found["linking"]["anatomy"]
    assert observation == {"heads": 10, "linked": 9, "share": 0.9, "unlinked": [{"text": "blorbidity", "count": 1}]}
    assert anatomy == {"heads": 3, "linked": 2, "share": 2 / 3, "unlinked": [{"text": "gnarl", "count": 1}]}


def test_words_differ_neither_by_case_nor_by_line_breaks(tmp_path: Path) -> None:
    graph = plain_report("a", "Odd\nthing. odd thing.", 1)
    graph.mentions = [
        mention(graph.report, k, words, "observation") for k, words in enumerate(["Odd\nthing", "odd thing"])
    ]
    unlinked = stats(write_folder(tmp_path / "graphs", [[[graph]]]))["linking"]["observation"]["unlinked"]
    assert unlinked == [{"text": "odd thing", "count": 2}]


def test_connectivity(found: dict[str, Any]) -> None:
    """007: three components; b: two isolated nodes; d: connected; the two without nodes have no component."""
    assert found["connectivity"] == {
        "reports": 5,
        "components": {"mean": 2.0, "median": 2.0, "max": 3},
        "connected_share": 1 / 3,
        "isolated_nodes": {"mean": 0.4, "median": 0.0, "max": 2},
        "isolated_share": 2 / 12,
        "degree": {"mean": 14 / 12, "median": 1.0, "max": 3},
    }


def test_repeated_section_counts_a_report_once(tmp_path: Path) -> None:
    graph = plain_report("a", "Clear. Clear.", 1)
    graph.sections = [Section("findings", 0, 6), Section("addendum", 6, 7), Section("findings", 7, 13)]
    assert stats(write_folder(tmp_path / "graphs", [[[graph]]]))["sections"] == {"addendum": 1, "findings": 1}


def test_empty_folder(tmp_path: Path) -> None:
    for name, parts in (("none", []), ("empty", [[[]]])):
        found = stats(write_folder(tmp_path / name, parts, rejects=REJECTS if parts else []))
        assert found["totals"]["reports"] == 0
        assert found["per_report"]["nodes"] == {"mean": 0.0, "median": 0.0, "max": 0}
        assert found["shares"]["no_finding"] == 0.0
        assert format_stats(found).startswith(" reports ")


def test_without_text(tmp_path: Path, found: dict[str, Any]) -> None:
    bare = stats(write_folder(tmp_path / "bare", text=False))
    assert bare["linking"]["observation"] == {"heads": 10, "linked": 9, "share": 0.9, "unlinked": None}
    same = {key for key in found if found[key] == bare[key]}
    assert found.keys() - same == {"text", "linking"}
    assert "Which words are not linked cannot be said" in format_stats(bare)


def test_concept_that_the_vocabulary_lacks_counts_as_finding(tmp_path: Path) -> None:
    graph = plain_report("a", "Blorbs.", 1)
    graph.nodes = [node(0, "pathology", "blorb", None), node(1, "anatomy", "gnarl", "left")]
    found = stats(write_folder(tmp_path / "graphs", [[[graph]]]))
    assert found["pathologies"]["finding"][0]["name"] == "blorb"
    assert found["anatomies"][0]["name"] == "gnarl"
    assert found["shares"]["no_finding"] == 0.0


def test_connectivity_of_the_first_reports_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "graphs")
    monkeypatch.setattr(graphprep.stats, "CONNECTIVITY_REPORTS", 1)
    found = stats(folder)
    assert found["connectivity"]["reports"] == 1
    assert found["connectivity"]["components"] == {"mean": 3.0, "median": 3.0, "max": 3}
    assert found["totals"]["edges"] == 7
    assert "(first 1 reports)" in format_stats(found)


def test_rare_words_are_forgotten_before_frequent_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []
    for i in range(40):
        graph = plain_report(str(i), f"Often rare{i}", i + 1)
        graph.mentions = [
            mention(graph.report, 0, "Often", "observation"),
            mention(graph.report, 1, f"rare{i}", "observation"),
        ]
        graphs.append(graph)
    folder = write_folder(tmp_path / "graphs", [[[graph] for graph in graphs]])
    monkeypatch.setattr(graphprep.stats, "_MOST_WORDS", 10)
    unlinked = stats(folder)["linking"]["observation"]["unlinked"]
    assert unlinked[0] == {"text": "often", "count": 40}
    assert len(unlinked) <= 10


def test_top_limits_words_only(tmp_path: Path) -> None:
    found = stats(write_folder(tmp_path / "graphs"), top=0)
    assert found["linking"]["observation"]["unlinked"] == []
    assert len(found["pathologies"]["finding"]) == 3


def test_errors_of_the_folder_come_through(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        stats(tmp_path / "nowhere")


# Against counting one by one


_VOCABULARIES = handmade_vocabularies()
_ASSERTION = st.sampled_from(["present", "uncertain", "absent"])
_SIDE = st.sampled_from(["left", "right", "bilateral", None])


@st.composite
def report_graphs(draw: st.DrawFn) -> list[ReportGraph]:
    """Reports with any mentions, nodes and edges that the schema allows."""
    graphs = []
    for i in range(draw(st.integers(0, 5))):
        subject = draw(st.sampled_from([None, "p1", "p2"]))
        graph = plain_report(str(i), "a b c d", i + 1, subject_id=subject, split=draw(st.sampled_from([None, "train"])))
        graph.report.images = [Image(f"{k}.png") for k in range(draw(st.integers(0, 2)))]
        for k in range(draw(st.integers(0, 4))):
            kinds = draw(st.lists(st.sampled_from(["modify", "located_at", "suggestive_of"]), max_size=2))
            graph.mentions.append(
                Mention(
                    k,
                    draw(st.sampled_from(["anatomy", "observation"])),
                    draw(_ASSERTION),
                    draw(st.sampled_from(["a", "B", "[red]", "\x1b"])),
                    0,
                    1,
                    draw(st.sampled_from(["findings", None])),
                    0,
                    measurement=draw(st.booleans()),
                    temporality=draw(st.sampled_from(["current", "historical"])),
                    relations=[Relation(kind, 0) for kind in kinds],
                    concept=draw(st.sampled_from([None, "opacity"])),
                )
            )
        for k in range(draw(st.integers(0, 5))):
            vocabulary = draw(st.sampled_from(_VOCABULARIES))
            graph.nodes.append(
                node(
                    k,
                    vocabulary.kind,
                    draw(st.sampled_from(list(vocabulary.concepts))),
                    draw(_SIDE),
                    draw(_ASSERTION),
                    origin=draw(st.sampled_from(["stated", "vocabulary"])),
                    attributes=[Attribute("change", w) for w in draw(st.lists(st.sampled_from("xy"), max_size=2))],
                    sections=draw(st.lists(st.sampled_from(["findings", "impression"]), max_size=2, unique=True)),
                )
            )
        ids = st.integers(0, max(len(graph.nodes) - 1, 0))
        pairs = draw(st.lists(st.tuples(ids, ids), max_size=5, unique=True)) if graph.nodes else []
        graph.edges = [Edge(a, b, draw(st.sampled_from(["located_at", "part_of"])), "stated") for a, b in pairs]
        graphs.append(graph)
    return graphs


@settings(max_examples=60, deadline=None)
@given(graphs=report_graphs(), cut=st.integers(0, 5))
def test_counts_are_those_of_the_records(graphs: list[ReportGraph], cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = write_folder(Path(folder, "graphs"), [[graphs[:cut], []], [graphs[cut:]]])
        found = stats(path, top=1000)
        assert list(open_graphs(path)) == graphs
    nodes = [n for g in graphs for n in g.nodes]
    mentions = [m for g in graphs for m in g.mentions]
    assert found["totals"]["subjects"] == len({g.report.subject_id for g in graphs} - {None})
    assert found["totals"]["images"] == sum(len(g.report.images) for g in graphs)
    assert found["splits"] == Counter(g.report.split or "none" for g in graphs)
    for name, rows in (("mentions", "mentions"), ("nodes", "nodes"), ("edges", "edges")):
        assert_distribution(found["per_report"][name], [len(getattr(g, rows)) for g in graphs])

    category = {c.id: c.category for c in _VOCABULARIES[1].concepts.values()}
    pathologies = [n for n in nodes if n.kind == "pathology"]
    counted = Counter((category[n.concept], n.concept, n.assertion) for n in pathologies)
    rows = {
        (c, row["concept"], a): row[a] for c, table in found["pathologies"].items() for row in table for a in counts
    }
    assert +Counter(rows) == counted
    findings = [
        sum(n.kind == "pathology" and n.assertion != "absent" and category[n.concept] == "finding" for n in g.nodes)
        for g in graphs
    ]
    assert_distribution(found["per_report"]["findings"], findings)
    anatomies = Counter((n.concept, n.side or "unsided") for n in nodes if n.kind == "anatomy")
    assert +Counter({(r["concept"], s): r[s] for r in found["anatomies"] for s in sides}) == anatomies
    assert found["attributes"].get("change", {"count": 0})["count"] == sum(len(n.attributes) for n in nodes)
    for kind in ("anatomy", "pathology"):
        expected = Counter(s for n in nodes if n.kind == kind for s in n.sections)
        assert found["nodes"][kind]["sections"] == expected

    heads = [m for m in mentions if not m.measurement and all(r.type != "modify" for r in m.relations)]
    for label in ("observation", "anatomy"):
        unlinked = Counter(m.text.lower() for m in heads if m.label == label and m.concept is None)
        linking = found["linking"][label]
        assert linking["heads"] == sum(m.label == label for m in heads)
        assert {entry["text"]: entry["count"] for entry in linking["unlinked"]} == unlinked
        assert linking["linked"] == linking["heads"] - unlinked.total()

    exported = [to_networkx(g) for g in graphs]
    components = [nx.number_weakly_connected_components(g) for g in exported if g]
    assert_distribution(found["connectivity"]["components"], components)
    assert_distribution(found["connectivity"]["isolated_nodes"], [nx.number_of_isolates(g) for g in exported])
    assert_distribution(found["connectivity"]["degree"], [d for g in exported for _, d in g.degree()])
    json.dumps(found)
    assert printed_safely(format_stats(found, width=80), 80)


counts = ("present", "uncertain", "absent")
sides = ("left", "right", "bilateral", "unsided")


def assert_distribution(found: dict[str, float], values: list[int]) -> None:
    if values:
        assert found == {
            "mean": pytest.approx(statistics.fmean(values)),
            "median": statistics.median(values),
            "max": max(values),
        }
    else:
        assert found == {"mean": 0.0, "median": 0.0, "max": 0}


# As text


def printed_safely(text: str, width: int) -> bool:
    return all(line.isprintable() and len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 100, 120])
def test_text_fits(found: dict[str, Any], width: int) -> None:
    text = format_stats(found, width=width)
    assert printed_safely(text, width)
    for row in (
        r" reports +5 \(2 shards, 2 subjects, 2 images\); 2 rows rejected",
        r" pleural effusion +2 +1 +0 +1",
        r" pleural space +2 +0 +0 +1 +1 +0",
        r" located_at +5 +3 +2",
        r" blorbidity +1 +gnarl +1",
        r" measurement +1 +3 cm 1",
        r" connected components per graph +2.0 +2 +3",
        r" malformed_row +1",
    ):
        assert re.search(f"^{row}$", text, re.MULTILINE), row


@pytest.mark.parametrize("width", [80, 100])
def test_long_names_and_word_lists_leave_the_numbers_whole(tmp_path: Path, width: int) -> None:
    graph = plain_report("a", "x", 1)
    long = "an uncommonly long name " * 5
    graph.mentions = [
        replace(mention(graph.report, k, "x", label), text=long) for k, label in enumerate(["observation", "anatomy"])
    ]
    attributes = [Attribute("morphology", f"long word {k} 肺") for k in range(30)]
    graph.nodes = [node(0, "pathology", long, None, attributes=attributes), node(1, "anatomy", long, "left")]
    text = format_stats(stats(write_folder(tmp_path / "graphs", [[[graph] * 1234]])), width=width)
    assert printed_safely(text, width)
    assert re.search(r"^ morphology +37,020 +long word 0 肺 1,234, .*…$", text, re.MULTILINE)
    assert re.search(r"^ an uncommonly.* 1,234 +1,234 +0 +0$", text, re.MULTILINE)
    assert re.search(r"^ an uncommonly.* 1,234 +1,234 +0 +0 +0 +1,234$", text, re.MULTILINE)
    assert re.search(r"^ an uncommonly.* 1,234 +an uncommonly.* 1,234$", text, re.MULTILINE)


def test_headings_in_order(found: dict[str, Any]) -> None:
    lines = format_stats(found).splitlines()
    headings = ["Per report", "Findings", "Devices", "Normal statements", "Postoperative states", "Anatomies"]
    assert [line for line in lines if line in headings] == headings


def test_long_lists_are_cut_and_their_rest_summed(found: dict[str, Any]) -> None:
    text = format_stats(found, top=1)
    assert re.search(r"^ … 2 more +2 +1 +1 +0$", text, re.MULTILINE)
    assert "pneumonia" not in text


def test_colour_only_when_asked(found: dict[str, Any]) -> None:
    assert "\x1b" not in format_stats(found)
    coloured = format_stats(found, color=True)
    assert "\x1b[1mFindings" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == format_stats(found).splitlines()


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    """Escape sequences and markup in whatever comes from the input: words, sections, splits, attributes."""
    graph = full_report()
    evil = "\x1b]0;owned\x07[red]\u202e[link=http://x]"
    graph.mentions[10].text = graph.mentions[11].text = evil
    graph.mentions[8].section = evil
    graph.sections[0].name = graph.report.split = evil
    graph.nodes[0] = replace(graph.nodes[0], concept=evil, attributes=[Attribute("change", evil)], sections=[evil])
    found = stats(write_folder(tmp_path / "graphs", [[[graph]]]))
    for color in (False, True):
        text = format_stats(found, width=120, color=color)
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        assert printed_safely(text, 120)
        assert text.count(r"\x1b]0;owned\x07[red]\u202e[link=http://x]") >= 5
