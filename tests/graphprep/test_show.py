"""One report as text: marks, tree, and what must never reach a terminal."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from handmade import full_report, mention, node, plain_report, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from graphprep.errors import UserError
from graphprep.records import Attribute, Edge, Image, ReportGraph, Section, Span
from graphprep.show import printable, show

EVIL = "\x1b[2J\x1b]0;owned\x07[red]\x9b1m\u202e\r[/]"
EVIL_SHOWN = r"\x1b[2J\x1b]0;owned\x07[red]\x9b1m\u202e\r[/]"


def shown(tmp_path: Path, graph: ReportGraph, **options: Any) -> str:
    """The graph through a folder, as plain text."""
    folder = write_folder(tmp_path / "one", [[[graph]]], text=options.pop("text", True))
    return show(folder, graph.report.report_id).text(**options)


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_the_whole_view(tmp_path: Path) -> None:
    assert show(write_folder(tmp_path / "graphs"), "007").text() == (
        """\
Report 007
subject p1; study s1; split train; reports.csv, row 1; 2 images: a/1.png (PA), a/2.png (LATERAL)

FINDINGS
  [Patchy]+0 [opacity]+1 in the [left]@2 [lower lobe]@3 may represent [pneumonia]?4. No
  [effusion]-5.
  [Heart]@6 size is [normal]+7.
IMPRESSION  (CONCLUSION)
  [Opacity]+8, [new]+9. [Blorbidity]+10 of the [gnarl]@11.

[words]+n present   ?n uncertain   -n absent   @n anatomy   n~ past or hypothetical

GRAPH  nodes 8, edges 6
present
└── opacity, left  #0  change: new; morphology: patchy
    ├── located at lower lobe, left  #1
    │   └── part of lung, left  #3  (vocabulary)
    └── suggestive of pneumonia (uncertain)  #2
uncertain
└── pneumonia  #2
    └── located at lower lobe, left  #1
        └── part of lung, left  #3  (vocabulary)
absent
└── pleural effusion  #4
    └── located at pleural space  #5  (vocabulary)
normal
└── normal heart size  #7
    └── located at heart  #6
"""
    )


def test_devices_and_the_past(tmp_path: Path) -> None:
    text = show(write_folder(tmp_path / "graphs"), "b").text()
    assert "[Pacemaker]+0. Prior [sternotomy]+1. History of [pneumonia]+2~." in text
    assert text.endswith("devices\n└── pacemaker  #0\npostoperative states\n└── sternotomy  #1\n")


def test_absent_among_the_normal_and_devices(tmp_path: Path) -> None:
    graph = plain_report("a", "No pacemaker.", 1)
    graph.nodes = [node(0, "pathology", "pacemaker", None, "absent")]
    assert shown(tmp_path, graph).endswith("devices\n└── pacemaker (absent)  #0\n")


def test_anatomy_without_a_finding(tmp_path: Path) -> None:
    graph = full_report()
    graph.edges = [edge for edge in graph.edges if edge.relation != "located_at"]
    tree = shown(tmp_path, graph).partition("anatomy without a finding\n")[2]
    assert tree == (
        """\
├── lower lobe, left  #1
│   └── part of lung, left  #3  (vocabulary)
├── lung, left  #3
├── pleural space  #5
└── heart  #6
"""
    )


def test_part_of_in_a_circle_ends(tmp_path: Path) -> None:
    graph = plain_report("a", "Lung.", 1)
    graph.nodes = [
        node(0, "pathology", "opacity", None),
        node(1, "anatomy", "lung", None),
        node(2, "anatomy", "thorax", None),
    ]
    graph.edges = [
        Edge(0, 1, "located_at", "stated"),
        Edge(1, 2, "part_of", "vocabulary"),
        Edge(2, 1, "part_of", "vocabulary"),
    ]
    text = shown(tmp_path, graph)
    assert text.count("part of thorax") == 1
    assert "part of lung" not in text


def test_concept_that_the_vocabulary_lacks(tmp_path: Path) -> None:
    graph = plain_report("a", "Blorb.", 1)
    graph.nodes = [node(0, "pathology", "blorb", None)]
    assert "present\n└── blorb  #0" in shown(tmp_path, graph)


def test_report_without_anything(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "graphs")
    assert "(the report is empty)" in show(folder, "e").text()
    text = show(folder, "c").text()
    assert "  Nothing that anybody knows." in text
    assert text.endswith("GRAPH  nodes 0, edges 0\n  (no mention is covered by the vocabulary)\n")


def test_unknown_id(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no report '7' among its 5\. Did you mean '007'\?"):
        show(write_folder(tmp_path / "graphs"), "7")


# The text


def test_text_outside_of_sections_is_shown(tmp_path: Path) -> None:
    text = "Chest radiograph of today.\nFINDINGS: Clear.\n\nSigned by nobody."
    graph = plain_report("a", text, 1)
    graph.sections = [Section("findings", text.index("Clear"), text.index("\n\nSigned"))]
    assert "\n  Chest radiograph of today.\nFINDINGS\n  Clear.\n  Signed by nobody.\n" in shown(tmp_path, graph)


def test_long_line_before_a_section_is_text_and_no_heading(tmp_path: Path) -> None:
    before = "The patient was seen today and everything else was seen as well, FINDINGS: "
    graph = plain_report("a", before + "Clear.", 1)
    graph.sections = [Section("findings", len(before), len(before) + 6)]
    assert f"\n  {before.strip()}\nFINDINGS\n  Clear.\n" in shown(tmp_path, graph)


def test_report_without_sections(tmp_path: Path) -> None:
    graph = replace(plain_report("a", "Clear.", 1), sections=[])
    assert "\n\n  Clear.\n\n[words]" in shown(tmp_path, graph)


def test_nested_and_adjacent_mentions(tmp_path: Path) -> None:
    graph = plain_report("a", "lower lobe/lung", 1)
    graph.mentions = [
        mention(graph.report, 0, "lower lobe", "anatomy"),
        mention(graph.report, 1, "lower", "anatomy"),
        mention(graph.report, 2, "lobe", "anatomy"),
        mention(graph.report, 3, "lobe/", "observation"),
        mention(graph.report, 4, "lung", "anatomy"),
    ]
    assert "  [[lower]@1 [[lobe]@2]@0/]+3[lung]@4\n" in shown(tmp_path, graph)


def test_mentions_with_impossible_offsets_are_left_out(tmp_path: Path) -> None:
    graph = plain_report("a", "Clear lung.", 1)
    good = mention(graph.report, 0, "lung", "anatomy")
    graph.mentions = [good] + [replace(good, mention_id=k, start=a, end=b) for k, a, b in ((1, 9, 99), (2, -3, 2))]
    assert "  Clear [lung]@0.\n" in shown(tmp_path, graph)


def test_wrapping(tmp_path: Path) -> None:
    text = show(write_folder(tmp_path / "graphs"), "007").text(width=50)
    assert all(len(line) <= 50 for line in text.splitlines())
    assert "\n  [Patchy]+0 [opacity]+1 in the [left]@2 [lower\n  lobe]@3 may represent" in text


def test_without_report_text(tmp_path: Path) -> None:
    view = show(write_folder(tmp_path / "graphs", text=False), "007")
    text = view.text()
    assert "written without report text" in text
    assert "\nFINDINGS\n  [10–16]+0  observation, sentence 0, modify 1\n  [17–24]+1  observation, " in text
    assert "  [76–84]-5  observation, sentence 0  pleural_effusion\n" in text
    assert "\nIMPRESSION\n" in text
    assert "└── opacity, left  #0" in text
    assert json.loads(view.json())["report"]["text"] is None
    assert {m["text"] for m in json.loads(view.json())["mentions"]} == {None}


# Colours


def test_colours_of_assertions(tmp_path: Path) -> None:
    view = show(write_folder(tmp_path / "graphs"), "007")
    coloured = view.text(color=True)
    for code, word in ((32, "opacity"), (33, "pneumonia"), (31, "effusion"), (36, "lower lobe")):
        assert f"\x1b[{code}m{word}\x1b[0m\x1b[{code}m]" in coloured, word
    assert without_colours(coloured) == view.text()
    assert "\x1b" not in view.text()


def test_prints_itself_on_a_console(tmp_path: Path) -> None:
    """A rich console that cannot show line drawing gets a tree of ASCII characters."""
    console = Console(width=100, no_color=True)
    with console.capture() as capture:
        console.print(show(write_folder(tmp_path / "graphs"), "007"))
    assert "[lower lobe]@3" in capture.get()


# Untrusted text


def evil_graph() -> ReportGraph:
    """Escape sequences and markup wherever text can be."""
    graph = plain_report("a", f"{EVIL} lung {EVIL}", 1, subject_id=EVIL, study_id=EVIL, split=EVIL)
    graph.report.source = EVIL
    graph.report.images = [Image(EVIL, EVIL)]
    graph.mentions = [mention(graph.report, 0, EVIL + " lung", "observation", section=EVIL, concept=EVIL)]
    graph.sections = [Section(EVIL, 0, len(graph.report.text))]
    graph.nodes = [node(0, "pathology", EVIL, None, attributes=[Attribute("change", EVIL)], sections=[EVIL])]
    return graph


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("color", [True, False])
def test_escape_sequences_and_markup_are_shown_not_obeyed(tmp_path: Path, text: bool, color: bool) -> None:
    output = without_colours(shown(tmp_path, evil_graph(), text=text, color=color, width=2000))
    assert all(line.isprintable() for line in output.splitlines())
    assert output.count(EVIL_SHOWN) >= 8
    if text:
        assert f"  [{EVIL_SHOWN} lung]+0 {EVIL_SHOWN}\n" in output


def test_json_holds_no_control_character(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "graphs", [[[evil_graph()]]])
    text = show(folder, "a").json()
    assert all(line.isascii() and line.isprintable() for line in text.splitlines())
    assert json.loads(text)["report"]["text"] == evil_graph().report.text


def test_hostile_id_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        show(write_folder(tmp_path / "graphs"), EVIL)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 肺 👍", "plain é 肺 👍"),
        ("a\tb\nc", "a    b\nc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\u2028b\x85c\x0bd", r"a\u2028b\x85c\x0bd"),
        ("\u3000x\xa0y", "\u3000x\xa0y"),
        ("\U000e0041", r"\U000e0041"),
        ("\udc80", r"\udc80"),
    ],
)
def test_printable(text: str, expected: str) -> None:
    assert printable(text) == expected


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), ends=st.lists(st.integers(0, 60), max_size=8))
def test_any_text_is_shown_whole_and_safely(text: str, ends: list[int]) -> None:
    """Every character of the report comes out, blanks aside, escaped where it must be; brackets are all that is added."""
    graph = plain_report("a", text, 1)
    borders = sorted({min(end, len(text)) for end in ends})
    pairs = zip(borders[::2], borders[1::2], strict=False)
    graph.mentions = [replace(mention(graph.report, 0, "", "anatomy"), start=a, end=b, mention_id=0) for a, b in pairs]
    with TemporaryDirectory() as folder:
        view = show(write_folder(Path(folder, "graphs"), [[[graph]]]), "a")
    output = view.text(width=40)
    assert all(line.isprintable() or "\u3000" in line or "\xa0" in line for line in output.splitlines())
    if text.strip(" \t\n"):
        body = output.split("FINDINGS\n")[1].split("\n[words]+n")[0]
        assert unmarked(body) == unmarked(printable(text))


def unmarked(text: str) -> str:
    """Without blanks and the marks of mention 0."""
    return "".join(text.split()).replace("[", "").replace("]@0", "")


# JSON


def test_json_is_everything(tmp_path: Path) -> None:
    data = json.loads(show(write_folder(tmp_path / "graphs"), "007").json())
    assert data.keys() == {"report", "mentions", "nodes", "edges"}
    assert data["report"]["images"][0] == {"path": "a/1.png", "view": "PA", "image_id": "i1"}
    assert [section["name"] for section in data["report"]["sections"]] == ["findings", "impression"]
    assert len(data["report"]["sentences"]) == 5
    assert data["mentions"][1]["relations"][0] == {"type": "located_at", "target": 3}
    assert data["nodes"][7]["name"] == "normal heart size"
    assert [n["category"] for n in data["nodes"]][:3] == ["finding", None, "finding"]
    assert data["nodes"][0]["spans"] == [{"start": s.start, "end": s.end} for s in (Span(10, 24), Span(123, 135))]
    assert data["edges"][0] == {"source": 0, "target": 1, "relation": "located_at", "origin": "stated"}
