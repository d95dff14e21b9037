from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from itertools import chain
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.phantom import phrases
from graphprep.phantom import plan as plans
from graphprep.phantom.markup import read_markup
from graphprep.phantom.plan import CHRONIC, Plan, make_plan
from graphprep.phantom.report import ReportOptions, write_report
from graphprep.phantom.sample import sample
from graphprep.phantom.scene import KINDS, MORPHOLOGIES, SIDES, SUGGESTED, ZONES, Finding, Study
from graphprep.phantom.truth import GraphMaker
from graphprep.vocabulary import load_vocabularies

ANATOMY, PATHOLOGY = load_vocabularies(None, None)
DRAWN = {concept for concept, kind in KINDS.items() if not kind.device}


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(sample(2_000, seed=3))


@st.composite
def findings(draw: st.DrawFn) -> Finding:
    concept = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[concept]
    return Finding(
        concept,
        draw(st.sampled_from(SIDES)) if kind.sided else None,
        draw(st.sampled_from(ZONES)) if kind.zoned else None,
        draw(st.sampled_from(["small", "moderate", "large"])),
        draw(st.none() | st.integers(1, 120)),
        draw(st.sampled_from([None, *MORPHOLOGIES.get(concept, ())])),
        draw(st.sampled_from([None, *SUGGESTED])),
        draw(st.sampled_from([None, "new", "unchanged", "larger", "smaller"])),
        kind.device and draw(st.booleans()),
    )


any_study = st.builds(
    Study,
    subject_id=st.just("s"),
    study_id=st.just("t"),
    report_id=st.just("r"),
    split=st.just("train"),
    number=st.integers(0, 2),
    view=st.sampled_from(["PA", "AP"]),
    findings=st.lists(findings(), max_size=6).map(tuple),
    resolved=st.lists(findings(), max_size=2).map(tuple),
    images=st.just(1),
    seed=st.integers(0, 2**63),
)
any_options = st.builds(ReportOptions, st.floats(0, 1), st.floats(0, 1))


def contradicted(study: Study, concept: str, side: str | None) -> bool:
    """Whether a study has a finding, or one that is a kind of it, on the side."""
    return any(
        (finding.concept == concept or PATHOLOGY.is_a(finding.concept, concept))
        and (side in (None, "bilateral") or finding.side in (None, side))
        for finding in study.findings
    )


# What is said


def test_the_same_study_and_options_give_the_same_report(studies: list[Study]) -> None:
    options = ReportOptions(omissions=0.2, wrong=0.1)
    first = [write_report(study, options) for study in studies[:50]]
    assert [write_report(study, options) for study in studies[:50]] == first


def test_hardly_two_reports_are_alike(studies: list[Study]) -> None:
    reports = [write_report(study) for study in studies[:1_000]]
    assert len({(text.findings, text.impression) for text in reports}) > 990
    assert len({sentence.marked.text for text in reports for sentence in text.sentences}) > 4_000


@given(any_study, any_options)
@settings(max_examples=150, deadline=None)
def test_sections_are_their_sentences_and_white_space_and_numbers(study: Study, options: ReportOptions) -> None:
    text = write_report(study, options)
    for name, section in (("findings", text.findings), ("impression", text.impression)):
        rest = list(section)
        for sentence in text.sentences:
            if sentence.section == name:
                end = sentence.start + len(sentence.marked.text)
                assert section[sentence.start : end] == sentence.marked.text
                rest[sentence.start : end] = [""] * (end - sentence.start)
        assert re.fullmatch(r"(\s|\d+\. )*", "".join(rest))
    assert text.findings or text.impression


@given(any_study, any_options)
@settings(max_examples=150, deadline=None)
def test_no_mark_or_slot_is_left_in_the_text(study: Study, options: ReportOptions) -> None:
    text = write_report(study, options)
    both = text.findings + text.impression
    assert not re.search(r"[*~@^<>#$\[\]{}_]|  ", both)
    assert both == both.upper() or not re.search(r"SIDE|SIZE|VIEW", both)  # now and then a report is in capitals


def test_without_wrong_statements_what_is_said_is_true(studies: list[Study]) -> None:
    wider = {"airspace_disease": "lung_opacity", "infiltrate": "lung_opacity"}
    checked = Counter[str]()
    for study in studies[:1_000]:
        text = write_report(study)
        assert text.wrong == ()
        gone = {finding.concept for finding in study.resolved}
        for statement in text.statements:
            concept = wider.get(statement.concept, statement.concept)
            if statement.assertion == "present" and concept in KINDS:
                assert contradicted(study, concept, statement.side), (study, statement)
                checked["present"] += 1
            elif statement.assertion == "absent" and concept in KINDS and concept not in gone:
                assert not contradicted(study, concept, statement.side), (study, statement)
                checked["absent"] += 1
            elif statement.assertion == "present" and PATHOLOGY.concepts[concept].category == "normality":
                for opposite in PATHOLOGY.concepts[concept].opposites:
                    assert not contradicted(study, opposite, statement.side), (study, statement)
                checked["normal"] += 1
    assert min(checked.values()) > 500


def test_nothing_acute_is_said_only_where_there_is_nothing_acute(studies: list[Study]) -> None:
    said = 0
    for study in studies:
        names = {statement.concept for statement in write_report(study).statements}
        if "acute_abnormality" in names:
            said += 1
            assert all(finding.concept in CHRONIC or KINDS[finding.concept].device for finding in study.findings)
        if "normal_chest" in names:
            assert study.findings == ()
    assert said > 200


def test_all_left_out(studies: list[Study]) -> None:
    for study in studies[:300]:
        text = write_report(study, ReportOptions(omissions=1))
        assert set(text.omitted) == set(study.findings)
        assert not {s.concept for s in text.statements if s.assertion == "present"} & set(KINDS)


def test_a_report_says_something_even_if_all_is_left_out(studies: list[Study]) -> None:
    for study in studies:
        text = write_report(study, ReportOptions(omissions=1))
        assert text.statements
        assert text.findings or text.impression


def test_omissions_are_a_share_of_the_findings(studies: list[Study]) -> None:
    there = sum(len(study.findings) for study in studies[:1_000])
    left_out = sum(len(write_report(study, ReportOptions(omissions=0.25)).omitted) for study in studies[:1_000])
    assert 0.22 < left_out / there < 0.28


def test_what_is_left_out_is_not_denied(studies: list[Study]) -> None:
    for study in studies[:500]:
        text = write_report(study, ReportOptions(omissions=0.8))
        for statement in text.statements:
            if statement.assertion == "absent" and not any(f.concept == statement.concept for f in study.resolved):
                assert not contradicted(study, statement.concept, statement.side)


def test_wrong_statements_are_recorded_and_said(studies: list[Study]) -> None:
    hows = Counter[str]()
    for study in studies[:600]:
        text = write_report(study, ReportOptions(omissions=0, wrong=0.3))
        said = {(statement.concept, statement.assertion) for statement in text.statements}
        said |= {
            ("lung_opacity", assertion) for concept, assertion in said if concept in ("airspace_disease", "infiltrate")
        }
        for wrong in text.wrong:
            hows[wrong.how] += 1
            assert (wrong.concept, "absent" if wrong.how == "denied" else "present") in said or (
                wrong.concept,
                "uncertain",
            ) in said
            assert contradicted(study, wrong.concept, wrong.side) == (wrong.how == "denied")
    assert min(hows["denied"], hows["asserted"], hows["side"]) > 50


def test_the_rate_of_wrong_statements(studies: list[Study]) -> None:
    few = sum(len(write_report(study, ReportOptions(wrong=0.02)).wrong) for study in studies[:1_000])
    many = sum(len(write_report(study, ReportOptions(wrong=0.2)).wrong) for study in studies[:1_000])
    assert 6 < many / few < 14


@pytest.mark.parametrize("bad", [{"omissions": -0.1}, {"omissions": 1.1}, {"wrong": 2}])
def test_a_rate_that_is_none_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a share from 0 to 1"):
        ReportOptions(**bad)


def test_the_shares_are_those_that_the_datasheet_gives(studies: list[Study]) -> None:
    made = [make_plan(study, ReportOptions(), Random(study.seed)) for study in studies]

    def share(rows: Iterable[bool]) -> float:
        found = list(rows)
        assert len(found) > 500
        return sum(found) / len(found)

    def stated(plan: Plan, study: Study) -> list[plans.Claim]:
        there = {(finding.concept, finding.side) for finding in study.findings}
        return [claim for claim in plan.claims if not claim.device and (claim.concept, claim.side) in there]

    claims = chain.from_iterable(map(stated, made, studies))
    assert share(claim.assertion == "uncertain" for claim in claims) == pytest.approx(plans.HEDGED, abs=0.02)
    denials = [denial for plan in made for denial in plan.denials]
    # Somewhat more are of the whole chest: where nothing is left to deny on a side, and several can be of one.
    assert share(denial.zone is not None for denial in denials) == pytest.approx(plans.OF_ZONE, abs=0.05)
    assert share(denial.side is None for denial in denials) == pytest.approx(
        1 - plans.OF_ZONE - plans.OF_SIDE, abs=0.07
    )
    assert max(len(plan.normal) for plan in made) == plans.MOST_NORMAL


def test_places_and_numbers_do_not_give_assertions_away(studies: list[Study]) -> None:
    """A majority vote by what must not tell is fitted on one half of the studies and judged on the other."""
    make = GraphMaker()
    rows: list[tuple[bool, frozenset[Any], int, str]] = []
    for number, study in enumerate(studies):
        graph = make(study, write_report(study), [], 1)
        names = {node.node_id: (node.concept, node.side) for node in graph.nodes}
        for node in graph.nodes:
            if node.kind == "pathology" and node.concept in DRAWN:
                places = frozenset(
                    names[edge.target]
                    for edge in graph.edges
                    if edge.source == node.node_id and edge.relation == "located_at" and edge.origin == "stated"
                )
                rows.append((number % 2 == 0, places, len(graph.nodes), node.assertion))

    def accuracy(key: Callable[[tuple[bool, frozenset[Any], int, str]], Hashable]) -> float:
        votes: dict[Hashable, Counter[str]] = defaultdict(Counter)
        for row in rows:
            if row[0]:
                votes[key(row)][row[3]] += 1
        usual = sum(votes.values(), Counter[str]())
        judged = [row for row in rows if not row[0]]
        right = [votes.get(key(row), usual).most_common(1)[0][0] == row[3] for row in judged]
        return sum(right) / len(right)

    prior = accuracy(len)  # the same of every row
    assert accuracy(lambda row: (row[1], row[2])) < prior + 0.02
    assert accuracy(lambda row: row[1]) < prior + 0.05
    assert accuracy(lambda row: row[2]) < prior + 0.02
    assert accuracy(lambda row: row[3]) == 1  # the vote does tell what tells


# The language


def every_markup() -> list[str]:
    """Every sentence, noun and place of the language, as a sentence of its own."""
    nouns = [noun.words for table in (phrases.NOUNS, phrases.DENIED_ONLY, phrases.MEANINGS, phrases.DEVICE_NOUNS)
             for options in table.values() for noun in options]  # fmt: skip
    places = [words for options in chain(
        (place for by_side in phrases.PLACES.values() for place in by_side.values()), phrases.PLACES_OF_BOTH.values(),
        (phrases.WHOLE_LUNG, phrases.BOTH_LUNGS)) for place in options for words in (place.before, place.after)]  # fmt: skip
    whole = [normality.markup for normality in phrases.NORMAL]
    whole += chain(phrases.NOT_ACUTE, phrases.NORMAL_CHEST, phrases.ONE_LUNG_CLEAR)
    whole += chain.from_iterable(
        chain(phrases.DEVICES.values(), phrases.MALPOSITIONED.values(), phrases.ADVICE.values())
    )
    marked = [*whole, *(f"{{{noun}}}." for noun in nouns), *(f"{{*opacity {place}}}." for place in places)]
    return [text.replace("SIDEWORD", "left").replace("SIDE", "^left").replace("SIZE", "#4_cm") for text in marked]


@pytest.mark.parametrize("markup", sorted(set(every_markup())))
def test_the_language_is_well_formed(markup: str) -> None:
    marked = read_markup(markup)
    assert marked.heads
    for word in marked.words:
        assert word.concept is None or word.concept in ANATOMY.concepts
        assert re.fullmatch(r"\S(.*\S)?", marked.text[word.start : word.end])


def test_every_concept_of_the_language_is_in_the_vocabulary() -> None:
    tables = (phrases.NOUNS, phrases.DENIED_ONLY, phrases.MEANINGS, phrases.DEVICE_NOUNS)
    named = {noun.concept for table in tables for options in table.values() for noun in options}
    named |= {concept for normality in phrases.NORMAL for concept in normality.concepts}
    assert named <= PATHOLOGY.concepts.keys()
    assert {*phrases.NOUNS, *phrases.DEVICE_NOUNS} == KINDS.keys()
    assert set(SUGGESTED) <= phrases.MEANINGS.keys()


@pytest.mark.parametrize("normality", phrases.NORMAL)
def test_a_normality_of_several_concepts_has_a_place_for_each(normality: phrases.Normality) -> None:
    places = [word for word in read_markup(normality.markup).words if word.role == "place"]
    assert len(normality.concepts) == 1 or len(places) == len(normality.concepts)


# Marks


def test_marks() -> None:
    marked = read_markup("there is a {~small ^left @pleural:pleura *effusion}, ~new, of #4.5_cm")
    assert marked.text == "There is a small left pleural effusion, new, of 4.5 cm"
    words = [(marked.text[word.start : word.end], word.role, word.target) for word in marked.words]
    assert words == [
        ("small", "modifier", 3),
        ("left", "part", 2),
        ("pleural", "place", None),
        ("effusion", "head", None),
        ("new", "modifier", None),
        ("4.5 cm", "modifier", None),
    ]
    assert marked.heads == (3,)
    assert [word.measurement for word in marked.words] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a {~enteric *tube}", "An enteric tube"),
        ("a {*tube}", "A tube"),
        ("there is a {*opacity}", "There is an opacity"),
    ],
)
def test_the_article_fits(markup: str, text: str) -> None:
    assert read_markup(markup).text == text


@pytest.mark.parametrize("markup", ["{~small}", "{*a *b}", "{*opacity ^left}", "{*opacity <base}"])
def test_marks_that_mean_nothing_are_refused(markup: str) -> None:
    with pytest.raises(ValueError, match=re.escape(markup)):
        read_markup(markup)


def test_neither_spacy_nor_torch_is_loaded() -> None:
    code = "import sys, graphprep.phantom.report, graphprep.phantom.truth; print(sorted({'spacy', 'torch', 'medspacy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
