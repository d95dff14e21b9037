"""`suggest`: what reports say and no concept covers, in mentions and beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from graphprep.errors import UserError
from graphprep.records import Mention, Relation, Report, ReportGraph, Section, Span
from graphprep.suggest import Suggestion, suggest
from graphprep.vocabulary import Concept, Vocabulary
from graphprep.write import ShardWriter, tables_of, write_manifest, write_vocabulary
from schemas import SCHEMA_VERSION, TABLES

ANATOMY = Vocabulary("anatomy", {"lung": Concept("lung", "lung", "anatomy", 0, synonyms=("lung",))})
PATHOLOGY = Vocabulary(
    "pathology", {"edema": Concept("edema", "edema", "pathology", 0, category="finding", synonyms=("oedema",))}
)

Write = Callable[..., Path]


def a_graph(number: int, text: str, *mentions: Mention, sections: Sequence[Section] | None = None) -> ReportGraph:
    report = Report(str(number), text, "reports.csv", number + 1)
    found = [Section("findings", 0, len(text))] if sections is None else list(sections)
    return ReportGraph(report, found, [Span(0, len(text))], list(mentions), [], [])


def a_mention(text: str, words: str, label: str = "observation", **fields: object) -> Mention:
    start = text.index(words)
    return Mention(0, label, "present", words, start, start + len(words), "findings", 0, **fields)  # type: ignore[arg-type]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write graphs into a folder, a row group each."""

    def write(*graphs: ReportGraph, text: bool = True, sections: Sequence[str] = ("findings",)) -> Path:
        for number, graph in enumerate(graphs):
            graph.report.report_id = str(number)
            for mention_id, mention in enumerate(graph.mentions):
                mention.mention_id = mention_id
        with ShardWriter(tmp_path, 0) as writer:
            for graph in graphs:
                writer.write(tables_of([graph], [], text))
        write_manifest(
            tmp_path,
            {
                "schema_version": SCHEMA_VERSION,
                "extractor": {"name": "rules", "settings": {}},
                "sections": list(sections),
                "text": text,
                "vocabulary": {v.kind: {"sha256": v.sha256, "concepts": len(v.concepts)} for v in (ANATOMY, PATHOLOGY)},
                "input": {"files": [], "columns": {}, "fingerprint": "0" * 64},
                "image_root": None,
                "shard_size": 10,
                "shards": [{"part": 0, "tables": writer.files}],
                "vocabulary_files": {v.kind: write_vocabulary(tmp_path, v, {}) for v in (ANATOMY, PATHOLOGY)},
                "totals": {table: writer.files[table]["rows"] for table in TABLES},
                "rejected": {},
            },
        )
        return tmp_path

    return write


def test_mentions_without_a_concept_are_counted_by_label_and_words(write: Write) -> None:
    text = "Zig  zag and ZIG ZAG near the zog."
    folder = write(
        a_graph(0, text, a_mention(text, "Zig  zag"), a_mention(text, "ZIG ZAG"), a_mention(text, "zog", "anatomy"))
    )
    assert suggest(folder) == [Suggestion(2, "observation", "zig zag"), Suggestion(1, "anatomy", "zog")]


def test_what_is_linked_or_measured_or_says_how_something_is_is_left_out(write: Write) -> None:
    text = "Edema, zig zag of 3 cm."
    modifier = a_mention(text, "zig", relations=[Relation("modify", 2)])
    folder = write(
        a_graph(
            0, text, a_mention(text, "Edema", concept="edema"), modifier, a_mention(text, "zag"),
            a_mention(text, "3 cm", measurement=True),
        )
    )  # fmt: skip
    assert suggest(folder) == [Suggestion(1, "observation", "zag")]


def test_words_in_no_mention_that_nothing_knows_are_unknown(write: Write) -> None:
    graphs = [
        a_graph(0, "Zigzag ossicles, zigzag of the lungs with oedemas. XXXX ab."),
        a_graph(1, "No evidence of zigzag."),
    ]
    assert suggest(write(*graphs)) == [Suggestion(2, "unknown", "zigzag"), Suggestion(1, "unknown", "zigzag ossicles")]


def test_unknown_words_of_other_sections_do_not_count(write: Write) -> None:
    text = "zigzag zogzog"
    sections = [Section("history", 0, 6), Section("findings", 7, 13)]
    assert suggest(write(a_graph(0, text, sections=sections))) == [Suggestion(1, "unknown", "zogzog")]
    everything = write(a_graph(0, text, sections=sections), sections=["all"])
    assert [each.text for each in suggest(everything)] == ["zigzag", "zogzog"]


def test_top_limits_the_list(write: Write) -> None:
    folder = write(a_graph(0, "zigzag, zagzig, zigzag"))
    assert suggest(folder, top=1) == [Suggestion(2, "unknown", "zigzag")]
    assert len(suggest(folder, top=None)) == 2


def test_rare_words_are_forgotten_when_there_are_too_many(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphprep.suggest._MOST_TEXTS", 2)
    folder = write(a_graph(0, "zigzag, zagzig, zigzag, zogzog"), a_graph(1, "zugzug"))
    assert suggest(folder) == [Suggestion(2, "unknown", "zigzag"), Suggestion(1, "unknown", "zugzug")]


def test_without_text_there_is_nothing_to_rank(write: Write) -> None:
    with pytest.raises(UserError, match="--no-text"):
        suggest(write(a_graph(0, "zigzag"), text=False))
