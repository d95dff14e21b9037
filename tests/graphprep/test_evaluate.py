"""Scores of one folder against another: by hand on a handmade one, against counting with Counters on any other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from handmade import ANATOMY, PATHOLOGY, handmade_graphs, node, plain_report, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.evaluate import evaluate
from graphprep.evaluate import rows as evaluate_rows
from graphprep.evaluate import score as evaluate_score
from graphprep.evaluate.score import identity, intervals
from graphprep.evaluate.tables import format_evaluation
from graphprep.export import export
from graphprep.records import Edge, Mention, Node, Relation, ReportGraph
from graphprep.vocabulary import load_vocabularies

MEASURES = (
    ("mentions",),
    ("mentions", "span"),
    ("mentions", "span_label"),
    ("relations",),
    ("relations", "typed"),
    ("nodes",),
    ("nodes", "concept"),
    ("nodes", "concept_assertion"),
    ("edges",),
)


def measure(found: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    for name in path:
        found = found[name]
    return found


def counts(score: dict[str, Any]) -> tuple[int, int, int]:
    return score["matched"], score["predicted"], score["gold"]


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "gold")


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the handmade folder in one row group, after `change` was applied to its reports by id."""

    def write(change: Callable[[dict[str, ReportGraph]], Any], name: str = "pred", text: bool = True) -> Path:
        graphs = {graph.report.report_id: graph for graph in handmade_graphs()}
        change(graphs)
        return write_folder(tmp_path / name, [[list(graphs.values())]], text=text)

    return write


# Scores


@pytest.mark.parametrize("origin", ["stated", "all"])
def test_a_folder_against_itself_is_one(gold: Path, origin: Any) -> None:
    found = evaluate(gold, gold, origin=origin)
    for path in MEASURES:
        score = measure(found, path)
        assert (score["precision"], score["recall"], score["f1"]) == (1.0, 1.0, 1.0)
        assert score["interval"] == {"precision": [1.0, 1.0], "recall": [1.0, 1.0], "f1": [1.0, 1.0]}
    assert found["errors"] == []
    assert found["reports"] == {
        "compared": 5,
        "only_predicted": 0,
        "only_gold": 0,
        "texts_differ": 0,
        "texts_unknown": 0,
    }


def test_stated_nodes_and_edges_unless_all_are_asked_for(gold: Path) -> None:
    stated, everything = evaluate(gold, gold), evaluate(gold, gold, origin="all")
    assert counts(stated["nodes"]) == (9, 9, 9)
    assert counts(everything["nodes"]) == (12, 12, 12)
    assert counts(stated["edges"]) == (4, 4, 4)
    assert counts(everything["edges"]) == (7, 7, 7)
    assert list(everything["edges"]["relations"]) == ["located_at", "suggestive_of", "part_of"]


def test_a_wrong_assertion_costs_the_node_and_its_edges(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        graphs["007"].nodes[2].assertion = "present"  # pneumonia, with an edge in and an edge out

    found = evaluate(changed(change), gold)
    assert counts(found["nodes"]) == (8, 9, 9)
    assert counts(found["nodes"]["concept_assertion"]) == (8, 9, 9)
    assert counts(found["nodes"]["concept"]) == (9, 9, 9)
    assert counts(found["edges"]) == (2, 4, 4)
    assert counts(found["nodes"]["concepts"]["pathology"]["pneumonia"]) == (0, 1, 1)
    assert counts(found["nodes"]["concepts"]["pathology"]["opacity"]) == (1, 1, 1)
    assert counts(found["nodes"]["assertions"]["uncertain"]) == (0, 0, 1)
    assert found["nodes"]["assertions"]["uncertain"]["precision"] is None
    assert found["mentions"]["f1"] == 1.0


def test_mentions_by_span_label_and_assertion(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        mentions = graphs["007"].mentions
        mentions[5].assertion = "present"  # effusion
        mentions[0].label = "anatomy"  # Patchy, which modifies
        mentions[11].start += 1  # gnarl, where something is

    found = evaluate(changed(change), gold)
    assert counts(found["mentions"]) == (14, 17, 17)
    assert counts(found["mentions"]["span_label"]) == (15, 17, 17)
    assert counts(found["mentions"]["span"]) == (16, 17, 17)
    assert counts(found["relations"]) == (6, 7, 7)
    assert counts(found["relations"]["typed"]) == (5, 7, 7)
    assert counts(found["mentions"]["types"]["observation absent"]) == (0, 0, 1)
    assert found["nodes"]["f1"] == 1.0


def test_confusions_are_grouped_with_an_example(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        nodes = graphs["007"].nodes
        nodes[2].assertion = "present"  # pneumonia, uncertain
        nodes[0].side = "right"  # opacity, left
        nodes[4].side, nodes[4].assertion = "left", "present"  # effusion, absent
        graphs["b"].nodes[0].concept = "pneumonia"  # pacemaker

    found = evaluate(changed(change), gold)["errors"]
    assert {
        (e["error"], e["concept"], str(e["gold"]), str(e["predicted"]), e["count"], e["report_id"]) for e in found
    } == {
        ("wrong assertion", "pneumonia", "{'assertion': 'uncertain'}", "{'assertion': 'present'}", 1, "007"),
        ("wrong side", "opacity", "{'side': 'left'}", "{'side': 'right'}", 1, "007"),
        (
            "wrong side and assertion",
            "pleural_effusion",
            "{'side': None, 'assertion': 'absent'}",
            "{'side': 'left', 'assertion': 'present'}",
            1,
            "007",
        ),
        ("missed", "pacemaker", "{'assertion': 'present'}", "None", 1, "b"),
        ("surplus", "pneumonia", "None", "{'assertion': 'present'}", 1, "b"),
    }
    sentences = {e["concept"]: e["sentence"] for e in found if e["error"] != "surplus"}
    assert "effusion" in sentences["pleural_effusion"]
    assert "pneumonia" not in sentences["pleural_effusion"]
    assert sentences["opacity"].startswith("Patchy opacity in the left lower lobe may represent pneumonia.")


def test_the_most_frequent_confusion_comes_first(tmp_path: Path) -> None:
    def folder(name: str, assertion: str) -> Path:
        graphs = [plain_report(str(i), "text", i) for i in range(5)]
        for i, graph in enumerate(graphs):
            graph.nodes = [node(0, "pathology", "opacity", None, assertion)]
            if i < 2 and name == "gold":
                graph.nodes.append(node(1, "anatomy", "heart", None))
        return write_folder(tmp_path / name, [[graphs]])

    found = evaluate(folder("pred", "present"), folder("gold", "absent"), errors=1)["errors"]
    assert [(e["error"], e["concept"], e["count"]) for e in found] == [("wrong assertion", "opacity", 5)]


def test_as_many_confusions_are_printed_as_were_asked_for(tmp_path: Path) -> None:
    def folder(name: str, nodes: list[Node]) -> Path:
        graph = plain_report("1", "text", 1)
        graph.nodes = nodes
        return write_folder(tmp_path / name, [[[graph]]])

    concepts = [f"concept_{number:02}" for number in range(30)]
    gold = folder("gold", [node(number, "pathology", concept, None) for number, concept in enumerate(concepts)])
    printed = format_evaluation(evaluate(folder("pred", []), gold, errors=25, bootstrap=0)).splitlines()
    assert [line.split()[2] for line in printed if "  missed: " in line] == concepts[:25]


def test_without_text_no_sentence_is_given(gold: Path, changed: Callable[..., Path], tmp_path: Path) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        graphs["007"].nodes[2].assertion = "present"

    blank = write_folder(tmp_path / "blank", text=False)
    found = evaluate(changed(change, text=False), blank)
    assert found["reports"]["texts_unknown"] == 5
    assert found["mentions"]["f1"] == 1.0
    assert [e["sentence"] for e in found["errors"]] == [None]
    assert "No effusion" not in format_evaluation(evaluate(changed(change, "again"), gold, text=False))


# Which reports are compared


def test_reports_of_one_side_are_counted_and_left_out(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        del graphs["b"], graphs["c"]
        graphs["x"] = plain_report("x", "", 9)
        graphs["x"].nodes = [node(0, "pathology", "opacity", None)]

    found = evaluate(changed(change), gold)
    assert (found["reports"]["compared"], found["reports"]["only_predicted"], found["reports"]["only_gold"]) == (
        3,
        1,
        2,
    )
    assert found["nodes"]["f1"] == 1.0
    printed = format_evaluation(found)
    assert "1 report only in the predicted: left out" in printed
    assert "2 reports only in the gold: left out" in printed


def test_mentions_of_other_texts_are_left_out(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        graphs["007"].report.text += " "
        graphs["007"].mentions[0].start += 1

    found = evaluate(changed(change), gold)
    assert found["reports"]["texts_differ"] == 1
    assert counts(found["mentions"]) == (5, 5, 5)
    assert counts(found["relations"]) == (0, 0, 0)
    assert found["relations"]["f1"] is None
    assert counts(found["nodes"]) == (9, 9, 9)
    assert "1 report of another text" in format_evaluation(found)


def test_no_report_in_common_is_an_error(gold: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", [[[plain_report("y", "words", 1)]]])
    with pytest.raises(UserError, match="no report id in common"):
        evaluate(other, gold)


def test_a_relation_to_no_mention_is_an_error(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        graphs["007"].mentions[0].relations[0].target = 12  # where the next report's begin

    with pytest.raises(UserError, match="ends at no mention"):
        evaluate(changed(change), gold)


# Labels


def test_labels_of_two_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = tmp_path / "pathology.yaml"
    vocabulary.write_text(
        PATHOLOGY.replace("site: pleural_space", "site: pleural_space, labels: {chexpert14: [Pleural Effusion]}"),
        encoding="utf-8",
    )
    (tmp_path / "anatomy.yaml").write_text(ANATOMY, encoding="utf-8")
    vocabularies = load_vocabularies(tmp_path / "anatomy.yaml", vocabulary)
    monkeypatch.setattr("handmade.handmade_vocabularies", lambda: vocabularies)

    def folder(name: str, *assertions: str) -> Path:
        graphs = [plain_report(str(i), "text", i) for i in range(len(assertions))]
        for graph, assertion in zip(graphs, assertions, strict=True):
            graph.nodes = [node(0, "pathology", "pleural_effusion", None, assertion)] if assertion else []
        order = graphs if name == "gold" else [*reversed(graphs), plain_report("more", "text", 9)]
        return write_folder(tmp_path / name, [[order]], rejects=[])

    predicted = folder("pred", "present", "present", "absent", "uncertain", "")
    gold = folder("gold", "present", "absent", "absent", "uncertain", "present")
    found = evaluate(predicted, gold)["labels"]
    assert {value: counts(score) for value, score in found["Pleural Effusion"].items()} == {
        "positive": (1, 2, 2),
        "uncertain": (1, 1, 1),
        "denied": (1, 1, 2),
    }
    assert counts(found["No Finding"]["positive"]) == (1, 2, 2)
    assert counts(found["all"]["positive"]) == (2, 4, 4)
    assert "Pleural Effusion: denied" in format_evaluation(evaluate(predicted, gold))
    with pytest.raises(UserError, match="neither a label set nor a file"):
        evaluate(predicted, gold, labels="nonsense")


def test_no_labels_where_the_vocabulary_has_none(gold: Path) -> None:
    assert evaluate(gold, gold)["labels"] is None


# RadGraph's JSON on either side


def test_json_against_the_folder_it_is_of(gold: Path, tmp_path: Path) -> None:
    export(gold, "radgraph", tmp_path / "a.json")
    for sides in ((tmp_path / "a.json", gold), (gold, tmp_path / "a.json"), (tmp_path / "a.json", tmp_path / "a.json")):
        found = evaluate(*sides)
        assert (found["mentions"]["f1"], found["relations"]["typed"]["f1"]) == (1.0, 1.0)
        assert counts(found["mentions"]) == (17, 17, 17)
        assert found["nodes"] is found["edges"] is found["labels"] is None
        assert found["errors"] == []
        # of five reports, c and e have no entity: the package gives them 0
        assert set(found["radgraph_reward"].values()) == {0.6}
    assert "Reward of the radgraph package: simple 0.600" in format_evaluation(found)


def test_json_that_says_something_else(gold: Path, tmp_path: Path) -> None:
    export(gold, "radgraph", tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    entities = document["007"]["entities"]
    entities["6"]["label"] = "Observation::uncertain"
    entities["1"]["relations"] = []
    document["d"]["text"] = "effusions 3 cm . mild . and more"
    document["x"] = document.pop("b")
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")
    found = evaluate(tmp_path / "a.json", gold)
    assert (found["reports"]["compared"], found["reports"]["only_predicted"], found["reports"]["only_gold"]) == (
        4,
        1,
        1,
    )
    assert found["reports"]["texts_differ"] == 1
    assert counts(found["mentions"]) == (11, 12, 12)
    assert counts(found["relations"]) == (6, 6, 7)


def test_json_needs_the_text_of_the_folder(gold: Path, tmp_path: Path) -> None:
    export(gold, "radgraph", tmp_path / "a.json")
    blank = write_folder(tmp_path / "blank", text=False)
    with pytest.raises(UserError, match="holds no text"):
        evaluate(blank, tmp_path / "a.json")


# Any folders, against Counters


@st.composite
def reports_of_one(draw: st.DrawFn, report_id: str) -> ReportGraph:
    graph = plain_report(report_id, draw(st.sampled_from(["same text here", "same text here", "other text"])), 1)
    assertion = st.sampled_from(["present", "uncertain", "absent"])
    keys = draw(
        st.lists(
            st.tuples(
                st.sampled_from([("anatomy", "lung"), ("pathology", "opacity"), ("pathology", "pneumonia")]),
                st.sampled_from([None, "left", "right"]),
                assertion,
            ),
            unique=True,
            max_size=5,
        )
    )
    origin = st.sampled_from(["stated", "stated", "vocabulary"])
    graph.nodes = [
        node(i, kind, concept, side, said, origin=draw(origin)) for i, ((kind, concept), side, said) in enumerate(keys)
    ]
    ends = st.integers(0, len(keys) - 1) if keys else st.nothing()
    relation = st.sampled_from(["located_at", "suggestive_of", "part_of"])
    triples = draw(st.lists(st.tuples(ends, ends, relation), unique=True, max_size=4 if keys else 0))
    graph.edges = [Edge(source, target, relation, draw(origin)) for source, target, relation in triples]
    n = draw(st.integers(0, 4))
    for i in range(n):
        start = draw(st.integers(0, 3))
        related = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=2))
        graph.mentions.append(
            Mention(
                mention_id=i,
                label=draw(st.sampled_from(["anatomy", "observation"])),
                assertion=draw(assertion),
                text="",
                start=start,
                end=start + draw(st.integers(1, 2)),
                section=None,
                sentence=0,
                relations=[Relation(draw(st.sampled_from(["modify", "located_at"])), target) for target in related],
            )
        )
    return graph


@st.composite
def folders_of(draw: st.DrawFn) -> list[list[list[ReportGraph]]]:
    """Parts of row groups of reports, ids in any order."""
    ids = draw(st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6))
    graphs = [draw(reports_of_one(each)) for each in ["common", *ids]]
    graphs = draw(st.permutations(graphs))
    cut, again = sorted(draw(st.tuples(st.integers(0, len(graphs)), st.integers(0, len(graphs)))))
    return [[graphs[:cut], graphs[cut:again]], [graphs[again:]]]


Key = tuple[Any, ...]


def node_key(each: Node) -> Key:
    return each.kind, each.concept, each.side, each.assertion


def mention_key(each: Mention) -> Key:
    return each.start, each.end, each.label, each.assertion


def keys_of(graph: ReportGraph, origins: Sequence[str]) -> dict[tuple[str, ...], list[Key]]:
    stated = [each for each in graph.nodes if each.origin in origins]
    edges = [each for each in graph.edges if each.origin in origins]
    mentions, nodes = graph.mentions, graph.nodes
    related = [(each, relation.type, mentions[relation.target]) for each in mentions for relation in each.relations]
    return {
        ("mentions",): [mention_key(each) for each in mentions],
        ("mentions", "span"): [mention_key(each)[:2] for each in mentions],
        ("mentions", "span_label"): [mention_key(each)[:3] for each in mentions],
        ("relations",): [(mention_key(a)[:2], kind, mention_key(b)[:2]) for a, kind, b in related],
        ("relations", "typed"): [(mention_key(a), kind, mention_key(b)) for a, kind, b in related],
        ("nodes",): [node_key(each) for each in stated],
        ("nodes", "concept"): list({node_key(each)[:2] for each in stated}),
        ("nodes", "concept_assertion"): list({(*node_key(each)[:2], each.assertion) for each in stated}),
        ("edges",): [(node_key(nodes[each.source]), each.relation, node_key(nodes[each.target])) for each in edges],
    }


def flat(parts: list[list[list[ReportGraph]]]) -> Iterator[ReportGraph]:
    for part in parts:
        for group in part:
            yield from group


@settings(max_examples=25, deadline=None)
@given(folders_of(), folders_of(), st.sampled_from([1, 2, 50_000]), st.sampled_from(["stated", "all"]))
def test_any_folders_as_counters_count_them(
    predicted: list[list[list[ReportGraph]]], gold: list[list[list[ReportGraph]]], bucket: int, origin: Any
) -> None:
    """In whatever order the reports come, and however many go into one temporary file."""
    origins = ["stated", "vocabulary"] if origin == "all" else ["stated"]
    expected: dict[tuple[str, ...], list[int]] = {path: [0, 0, 0] for path in MEASURES}
    theirs = {graph.report.report_id: graph for graph in flat(predicted)}
    for ours in flat(gold):
        other = theirs.get(ours.report.report_id)
        if other is None:
            continue
        sides = keys_of(other, origins), keys_of(ours, origins)
        for path in MEASURES:
            if path[0] in ("nodes", "edges") or other.report.text == ours.report.text:
                a, b = (Counter(side[path]) for side in sides)
                for i, number in enumerate(((a & b).total(), a.total(), b.total())):
                    expected[path][i] += number
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_rows, "_REPORTS_A_BUCKET", bucket)
        one, two = write_folder(Path(folder, "one"), predicted), write_folder(Path(folder, "two"), gold)
        found = evaluate(one, two, origin=origin, bootstrap=0, errors=1000)
        turned = evaluate(two, one, origin=origin, bootstrap=0, errors=1000)
    assert {path: list(counts(measure(found, path))) for path in MEASURES} == expected
    for path in MEASURES:  # what is precision one way is recall the other
        assert measure(found, path)["precision"] == measure(turned, path)["recall"]
    wrong = Counter(missed=0, surplus=0)
    for error in found["errors"]:
        wrong[error["error"]] += error["count"]
    paired = wrong.total() - wrong["missed"] - wrong["surplus"]
    matched, in_predicted, in_gold = expected[("nodes",)]
    assert wrong["missed"] + paired == in_gold - matched
    assert wrong["surplus"] + paired == in_predicted - matched


@given(st.lists(st.tuples(*[st.integers(0, 2**31 - 1)] * 5), max_size=30))
def test_rows_have_the_same_number_exactly_if_they_are_equal(rows: list[tuple[int, ...]]) -> None:
    rows = rows + rows[:3]
    columns = list(np.array(rows, np.int64).reshape(-1, 5).T)
    numbers = identity(columns).tolist()
    assert len(set(numbers)) == len(set(rows)) == len(set(zip(numbers, rows, strict=True)))
    assert set(numbers) == set(range(len(set(rows))))


# Intervals


def test_intervals_cover_the_score_and_depend_on_the_seed_alone() -> None:
    random = np.random.default_rng(5)
    gold = random.integers(1, 9, 400)
    matched = random.binomial(gold, 0.7)
    table = np.stack([matched, gold, gold], axis=1)[:, None, :]
    (first,), (again,), (other,) = (intervals(table, 500, seed) for seed in (0, 0, 1))
    assert first == again != other
    low, high = first["recall"] or [0, 0]
    assert low < matched.sum() / gold.sum() < high
    # the width that the spread of a ratio of sums gives
    ratio = matched.sum() / gold.sum()
    expected = 2 * 1.96 * np.sqrt(((matched - ratio * gold) ** 2).sum()) / gold.sum()
    assert high - low == pytest.approx(expected, rel=0.15)
    assert first["precision"] == first["recall"]


def test_nothing_to_score_has_no_interval() -> None:
    assert intervals(np.zeros((3, 1, 3), np.int32), 10, 0) == [{"precision": None, "recall": None, "f1": None}]


def test_more_reports_than_are_weighed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).integers(0, 5, (50, 2, 3))
    whole = intervals(table, 40, 3)
    monkeypatch.setattr(evaluate_score, "_REPORTS_AT_ONCE", 7)
    assert intervals(table, 40, 3) == whole


# The command


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "graphprep", "evaluate", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_prints_tables_and_json(gold: Path, changed: Callable[..., Path]) -> None:
    def change(graphs: dict[str, ReportGraph]) -> None:
        graphs["007"].nodes[2].assertion = "present"

    predicted = changed(change)
    done = run(predicted, "--gold", gold, "--bootstrap", 50)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if "concept, assertion, side" in line]
    assert line.split()[-3:] == ["8", "9", "9"]
    assert "wrong assertion: pneumonia (uncertain → present)" in done.stdout
    assert "may represent pneumonia." in done.stdout
    done = run(predicted, "--gold", gold, "--json", "--bootstrap", 0, "--errors", 0)
    found = json.loads(done.stdout)
    assert (found["mentions"]["f1"], found["nodes"]["f1"], found["edges"]["f1"]) == (1.0, 8 / 9, 0.5)
    assert found["errors"] == []


def test_the_command_says_what_was_wrong(gold: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere", "--gold", gold)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
