"""RadGraph's JSON: tokens as the package cuts them, offsets, annotations there and back, rewards as the package's."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from handmade import full_report, mention, plain_report
from hypothesis import given
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.evaluate.tokens import rewards
from graphprep.radgraph_json import (
    Annotation,
    Entity,
    align,
    annotation_of,
    read_annotations,
    to_json,
    token_spans,
    tokens_of,
)
from graphprep.records import Relation

TEXTS = st.text(st.sampled_from("ab Z9.,%)(\"'\\/-_:\n\té²İßnfu2122"), max_size=60)


@st.composite
def annotations(draw: st.DrawFn) -> Annotation:
    tokens = draw(st.lists(st.sampled_from(["No", "no", "effusion", "lung", ".", "3", "cm"]), min_size=1, max_size=8))
    n = draw(st.integers(0, 5))
    entities = []
    for _ in range(n):
        start = draw(st.integers(0, len(tokens) - 1))
        entities.append(
            Entity(
                start,
                draw(st.integers(start, len(tokens) - 1)),
                draw(st.sampled_from(["anatomy", "observation"])),
                draw(st.sampled_from(["present", "uncertain", "absent"])),
                draw(st.booleans()),
                draw(st.sampled_from(["current", "historical", "hypothetical"])),
                tuple(
                    draw(
                        st.lists(
                            st.tuples(st.sampled_from(["modify", "located_at"]), st.integers(0, n - 1)), max_size=2
                        )
                    )
                ),
            )
        )
    return Annotation(tokens, entities)


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


# Tokens


with_the_package = pytest.mark.skipif(importlib.util.find_spec("radgraph") is None, reason="needs the extra radgraph")


def module_of_the_package(name: str) -> ModuleType:
    """One file of the package, without what importing the package loads."""
    package = importlib.util.find_spec("radgraph")
    assert package is not None
    assert package.submodule_search_locations
    spec = importlib.util.spec_from_file_location(
        f"radgraph_{name}", Path(package.submodule_search_locations[0], f"{name}.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cut() -> Callable[[str], str]:
    found: Callable[[str], str] = module_of_the_package("utils").radgraph_xl_preprocess_report
    return found


@with_the_package
@given(TEXTS | st.text(st.characters(max_codepoint=0x17F), max_size=20) | st.text("a\u0301²½Ⅳ‐’→ ", max_size=9))
def test_tokens_are_those_of_the_package(cut: Callable[[str], str], text: str) -> None:
    assert tokens_of(text) == cut(text).split()


@given(TEXTS)
def test_tokens_stand_where_they_are_said_to(text: str) -> None:
    spans = token_spans(text)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for token, (start, end) in zip(tokens_of(text), spans, strict=True):
        assert len(token) == end - start
        assert text[start:end] == token or "``" in token


def test_runs_of_punctuation_are_cut_as_the_package_cuts_them() -> None:
    assert tokens_of("Lungs (clear). 50%, grown.'") == [
        "Lungs",
        "(",
        "clear",
        ")",
        ".",
        "50",
        "%",
        ",",
        "grown",
        ".",
        "'",
    ]


@given(TEXTS, st.text("ab .", max_size=5), st.text("ab .", max_size=5))
def test_tokens_of_a_text_are_found_in_it_whatever_is_around(text: str, before: str, after: str) -> None:
    tokens = [
        token.upper() if len(token.upper()) == len(token) and token.isascii() else token for token in tokens_of(text)
    ]
    spans = align(tokens, f"{before} {text} {after}")
    assert spans is not None
    assert [end - start for start, end in spans] == [len(token) for token in tokens]


def test_a_place_without_blanks_inside_a_token_is_preferred() -> None:
    assert align([".."], ". ..") == [(2, 4)]
    assert align(["mid", "lung"], "mi d lung") == [(0, 4), (5, 9)]


def test_headings_and_sections_between_are_passed_over() -> None:
    text = "FINDINGS:\nNo effusion.\n\nIMPRESSION:\nNo effusion."
    spans = align("no effusion . no effusion .".split(), text)
    assert spans is not None
    assert [text[start:end] for start, end in spans] == ["No", "effusion", ".", "No", "effusion", "."]
    assert spans[3][0] == text.rindex("No")
    assert align("no effusion seen .".split(), text) is None


def test_mentions_are_counted_in_tokens() -> None:
    annotation = annotation_of(full_report())
    assert annotation is not None
    assert annotation.words(annotation.entities[3]) == "lower lobe"
    assert (annotation.entities[0].start_ix, annotation.entities[0].end_ix) == (2, 2)  # after FINDINGS and :


def test_a_mention_inside_a_token_takes_the_token() -> None:
    graph = plain_report("a", "No pneumothoraces.", 1)
    graph.mentions = [mention(graph.report, 0, "pneumo", "observation")]
    annotation = annotation_of(graph)
    assert annotation is not None
    assert annotation.words(annotation.entities[0]) == "pneumothoraces"


def test_mentions_outside_given_tokens_are_left_out_with_the_relations_to_them() -> None:
    graph = plain_report("a", "Left lung. Small effusion.", 1)
    graph.mentions = [
        mention(graph.report, 0, "lung", "anatomy"),
        mention(graph.report, 1, "Small", "observation", relations=[]),
        mention(graph.report, 2, "effusion", "observation"),
    ]
    graph.mentions[1].relations = [Relation("modify", 2), Relation("located_at", 0)]
    annotation = annotation_of(graph, "small effusion .".split())
    assert annotation is not None
    assert [(e.start_ix, e.end_ix, e.relations) for e in annotation.entities] == [(0, 0, (("modify", 1),)), (1, 1, ())]
    assert annotation_of(graph, ["other"]) is None


# JSON


@given(annotations())
def test_what_is_written_is_read_again(annotation: Annotation) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder, "a.json"), {"r/1": to_json(annotation)})
        assert read_annotations(path) == {"r/1": annotation}


def test_the_form_is_that_of_the_package() -> None:
    annotation = Annotation(
        ["3", "cm", "mass"],
        [
            Entity(0, 1, "observation", "present", measurement=True, relations=(("modify", 1),)),
            Entity(2, 2, "observation", "uncertain"),
        ],
    )
    assert to_json(annotation) == {
        "text": "3 cm mass",
        "entities": {
            "1": {
                "tokens": "3 cm",
                "label": "Observation::measurement::definitely present",
                "start_ix": 0,
                "end_ix": 1,
                "relations": [["modify", "2"]],
            },
            "2": {"tokens": "mass", "label": "Observation::uncertain", "start_ix": 2, "end_ix": 2, "relations": []},
        },
        "data_source": None,
        "data_split": "inference",
    }


def test_labels_of_the_first_release_are_known(tmp_path: Path) -> None:
    entity = {"tokens": "mass", "label": "OBS-DA", "start_ix": 0, "end_ix": 0, "relations": []}
    found = read_annotations(write(tmp_path / "a.json", {"0": {"text": "mass", "entities": {"1": entity}}}))
    assert found["0"].entities == [Entity(0, 0, "observation", "absent")]


GOOD = {"tokens": "mass", "label": "Observation::uncertain", "start_ix": 0, "end_ix": 0, "relations": []}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"end_ix": 1}, "start_ix and end_ix"),
        ({"start_ix": True}, "start_ix and end_ix"),
        ({"tokens": "lung"}, "`tokens` must be"),
        ({"label": "Finding::present"}, "the label must be"),
        ({"relations": [["modify", "7"]]}, "relations must be"),
        ({"relations": [["near", "1"]]}, "relations must be"),
        ({"temporality": "past"}, "temporality must be"),
    ],
)
def test_what_is_wrong_in_an_entity_is_said_without_quoting_it(
    tmp_path: Path, change: dict[str, Any], expected: str
) -> None:
    path = write(tmp_path / "a.json", {"r1": {"text": "mass", "entities": {"1": {**GOOD, **change}}}})
    with pytest.raises(UserError, match=expected) as error:
        read_annotations(path)
    assert "report 'r1', entity '1'" in str(error.value)
    assert "mass" not in str(error.value)


@pytest.mark.parametrize(
    "content", ["", "[1]", '{"a": 1}', '{"a": {"text": "x"}}', '{"a": {"text": 1, "entities": {}}}']
)
def test_another_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"Expected|expected"):
        read_annotations(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations(tmp_path / "none.json")


# Rewards


@pytest.fixture(scope="module")
def package() -> Callable[..., Any]:
    found: Callable[..., Any] = module_of_the_package("rewards").compute_reward
    return found


@with_the_package
@given(annotations(), annotations())
def test_rewards_are_those_of_the_package(package: Callable[..., Any], one: Annotation, other: Annotation) -> None:
    assert rewards(one, other) == pytest.approx(package(to_json(one), to_json(other), "all"))


@given(annotations())
def test_an_annotation_is_its_own_best_reward(annotation: Annotation) -> None:
    assert rewards(annotation, annotation) == ((1.0, 1.0, 1.0) if annotation.entities else (0.0, 0.0, 0.0))


def test_reward_by_hand() -> None:
    one = Annotation(["small", "mass"], [Entity(0, 0, "observation", "present", relations=(("modify", 1),)), Entity(1, 1, "observation", "present")])  # fmt: skip
    other = Annotation(["mass"], [Entity(0, 0, "observation", "present")])
    assert rewards(one, other) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    denied = Annotation(["mass"], [Entity(0, 0, "observation", "absent")])
    assert rewards(one, denied) == (0.0, 0.0, 0.0)
