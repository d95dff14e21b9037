"""Patients: everyone of them is possible, the proportions are those of a mixed hospital, and a seed says it all."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.phantom.sample import CHANGES, DIAMETERS, TIPS, fits, lasting, sample, sample_patient, suggested
from graphprep.phantom.scene import KINDS, MORPHOLOGIES, SUGGESTED, Finding, Study

patients = st.builds(sample_patient, st.integers(0, 10**6), st.integers(0, 2**31 - 1))


@pytest.fixture(scope="module")
def hospital() -> list[Study]:
    return list(sample(4_000, 0))


@settings(deadline=None)
@given(patients)
def test_a_finding_has_the_side_and_zone_of_its_kind_and_nothing_else(patient: list[Study]) -> None:
    for study in patient:
        for finding in (*study.findings, *study.resolved):
            kind = KINDS[finding.concept]
            assert (finding.side is not None) == kind.sided
            assert (finding.zone is not None) == kind.zoned
            assert (finding.millimetres is not None) == (finding.concept in (*DIAMETERS, "endotracheal_tube"))
            assert finding.morphology in (*MORPHOLOGIES.get(finding.concept, ()), None)
            assert finding.suggests in (*SUGGESTED, None)
            assert kind.device or not finding.malpositioned
            if finding.concept in DIAMETERS and finding.millimetres is not None:
                low, high = DIAMETERS[finding.concept][finding.severity]
                assert low <= finding.millimetres <= high


@settings(deadline=None)
@given(patients)
def test_findings_of_a_study_fit_together(patient: list[Study]) -> None:
    for study in patient:
        for one, other in combinations(study.findings, 2):
            assert fits(one, [other])
        assert len({finding.spot for finding in study.findings}) == len(study.findings)


@settings(deadline=None)
@given(patients)
def test_each_study_goes_on_from_the_one_before(patient: list[Study]) -> None:
    assert all(finding.change is None for finding in patient[0].findings)
    assert patient[0].resolved == ()
    for before, after in pairwise(patient):
        was = {finding.spot: finding for finding in before.findings}
        now = {finding.spot: finding for finding in after.findings}
        gone = {finding.spot for finding in after.resolved}
        assert was.keys() - now.keys() == gone
        for spot, finding in now.items():
            if spot not in was:
                assert finding.change == "new"
                continue
            old = was[spot]
            assert (finding.concept, finding.side, finding.zone) == (old.concept, old.side, old.zone)
            grades = ("small", "moderate", "large")
            step = grades.index(finding.severity) - grades.index(old.severity)
            assert finding.change == {-1: "smaller", 0: "unchanged", 1: "larger"}[step]
        for spot in gone:
            assert "resolved" in CHANGES[lasting(was[spot].concept)]
        assert (after.body, after.split, after.subject_id) == (before.body, before.split, before.subject_id)
        assert after.seed != before.seed


def test_proportions_are_those_of_a_mixed_hospital(hospital: list[Study]) -> None:
    having = Counter(concept for study in hospital for concept in {finding.concept for finding in study.findings})
    shares = {concept: having[concept] / len(hospital) for concept in KINDS}
    assert min(shares.values()) >= 0.03, shares
    assert sum(0.05 <= share <= 0.15 for share in shares.values()) >= 15, shares
    assert 0.25 <= sum(not study.findings for study in hospital) / len(hospital) <= 0.30
    assert 0.08 <= sum(study.images == 2 for study in hospital) / len(hospital) <= 0.12


def test_findings_go_together_as_diseases_make_them(hospital: list[Study]) -> None:
    def lift(one: str, other: str) -> float:
        sets = [{finding.concept for finding in study.findings} for study in hospital]
        both = sum(one in found and other in found for found in sets)
        expected = sum(one in found for found in sets) * sum(other in found for found in sets) / len(sets)
        return both / expected

    for one, other in (
        ("cardiomegaly", "pulmonary_edema"),
        ("rib_fracture", "pneumothorax"),
        ("endotracheal_tube", "enteric_tube"),
        ("mass", "hilar_enlargement"),
        ("chest_tube", "pneumothorax"),
    ):
        assert lift(one, other) > 2.0
    assert lift("scoliosis", "pacemaker") < 1.6


def test_several_findings_share_a_zone_at_times(hospital: list[Study]) -> None:
    zones = [Counter((finding.side, finding.zone) for finding in study.findings if finding.zone) for study in hospital]
    assert sum(max(zone.values(), default=0) > 1 for zone in zones) > 100


def test_patients_are_in_one_split_and_the_splits_are_as_promised(hospital: list[Study]) -> None:
    of_subject: dict[str, set[str]] = {}
    for study in hospital:
        of_subject.setdefault(study.subject_id, set()).add(study.split)
    assert all(len(splits) == 1 for splits in of_subject.values())
    counts = Counter(next(iter(splits)) for splits in of_subject.values())
    total = sum(counts.values())
    assert [round(100 * counts[split] / total) for split in ("train", "val", "test")] == [70, 10, 20]


def test_a_longer_sample_begins_with_the_shorter_one(hospital: list[Study]) -> None:
    shorter = list(sample(37, 0))
    assert len(shorter) == 37
    assert shorter == hospital[:37]
    assert list(sample(37, 1)) != shorter


@pytest.mark.parametrize(
    ("finding", "beside", "expected"),
    [
        (Finding("pulmonary_edema"), {"cardiomegaly"}, "heart_failure"),
        (Finding("pulmonary_edema"), set(), None),
        (Finding("mass", "left", "mid", morphology="spiculated"), set(), "malignancy"),
        (Finding("mass", "left", "mid", morphology="lobulated"), set(), None),
        (Finding("hyperinflation", severity="large"), set(), "copd"),
        (Finding("hyperinflation", severity="small"), set(), None),
        (Finding("consolidation", "left", "mid", suggests="pneumonia"), set(), "pneumonia"),
    ],
)
def test_what_a_look_suggests(finding: Finding, beside: set[str], expected: str | None) -> None:
    assert suggested(finding, beside) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Finding("lung_opacity", "left", "mid"), Finding("consolidation", "left", "mid")),
        (Finding("pleural_effusion", "left", severity="large"), Finding("nodule", "left", "mid")),
        (Finding("pneumothorax", "right", severity="moderate"), Finding("mass", "right", "upper")),
        (Finding("hyperinflation"), Finding("elevated_diaphragm", "left")),
        (Finding("cardiomegaly"), Finding("cardiomegaly")),
    ],
)
def test_what_would_hide_another_finding_does_not_fit(one: Finding, other: Finding) -> None:
    assert not fits(one, [other])
    assert not fits(other, [one])


def test_the_same_lesion_fits_on_the_other_side() -> None:
    assert fits(Finding("mass", "left", "mid"), [Finding("mass", "right", "mid"), Finding("nodule", "left", "mid")])


def test_tubes_have_their_tips_where_they_should_be_or_not(hospital: list[Study]) -> None:
    tubes = [finding for study in hospital for finding in study.findings if finding.concept == "endotracheal_tube"]
    low, high = TIPS["in place"]
    for tube in tubes:
        assert tube.millimetres is not None
        assert tube.malpositioned != (low <= tube.millimetres <= high)
    assert 0.1 < sum(tube.malpositioned for tube in tubes) / len(tubes) < 0.3
