"""Labels of an image: closed under what is a kind of what, by place, and boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.phantom.labels import CLASSES, Truth, box_of, masks_by_class, place_columns
from graphprep.phantom.sample import sample_patient
from graphprep.phantom.scene import KINDS, SUGGESTED, Finding, Study
from graphprep.vocabulary import load_vocabularies

_, PATHOLOGY = load_vocabularies(None, None)
TRUTH = Truth(PATHOLOGY)


def study_of(*findings: Finding) -> Study:
    return Study("p", "p-1", "p-1", "train", 0, "PA", findings, (), 1, 1)


def test_every_class_is_a_concept_of_the_vocabulary() -> None:
    assert set(CLASSES) <= PATHOLOGY.concepts.keys()
    assert list(CLASSES) == [*KINDS, *SUGGESTED]


@pytest.mark.parametrize("concept", ["consolidation", "atelectasis", "nodule", "mass", "pulmonary_edema"])
def test_a_kind_of_opacity_is_an_opacity(concept: str) -> None:
    labels = TRUTH.labels(study_of(Finding(concept, "left", "lower")))
    assert {name for name, value in labels.items() if value} == {concept, "lung_opacity"}


def test_what_a_look_suggests_has_its_column() -> None:
    finding = Finding("consolidation", "left", "lower", suggests="pneumonia")
    present = {name for name, value in TRUTH.labels(study_of(finding)).items() if value}
    assert present == {"consolidation", "lung_opacity", "pneumonia"}


def test_a_study_without_findings_has_no_label() -> None:
    assert set(TRUTH.labels(study_of()).values()) == {0}
    assert set(TRUTH.labels_by_place(study_of()).values()) == {0}


def test_labels_by_place_name_side_and_zone() -> None:
    places = TRUTH.labels_by_place(
        study_of(Finding("consolidation", "left", "lower"), Finding("pleural_effusion", "right"), Finding("scoliosis"))
    )
    assert {name for name, value in places.items() if value} == {
        "consolidation/left/lower",
        "lung_opacity/left/lower",
        "pleural_effusion/right",
        "scoliosis",
    }


def test_the_zones_of_edema_are_not_known_as_opacity() -> None:
    places = TRUTH.labels_by_place(study_of(Finding("pulmonary_edema"), Finding("nodule", "right", "upper")))
    opacity = {name: value for name, value in places.items() if name.startswith("lung_opacity")}
    assert opacity.pop("lung_opacity/right/upper") == 1
    assert set(opacity.values()) == {None}
    assert places["pulmonary_edema"] == 1


@settings(deadline=None)
@given(st.builds(sample_patient, st.integers(0, 10**6), st.integers(0, 1000)))
def test_labels_by_place_say_what_labels_say(patient: list[Study]) -> None:
    for study in patient:
        labels, places = TRUTH.labels(study), TRUTH.labels_by_place(study)
        assert list(places) == place_columns()
        for name in KINDS:
            mine = [value for column, value in places.items() if column.split("/")[0] == name]
            assert labels[name] == int(1 in mine or None in mine)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), min_size=1))
def test_a_box_is_the_smallest_around_its_mask(places: list[tuple[int, int]]) -> None:
    mask = np.zeros((20, 30), np.bool_)
    for row, column in places:
        mask[row, column] = True
    box = box_of(mask)
    assert box is not None
    x, y, width, height = box
    inside = mask[y : y + height, x : x + width]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


def test_an_empty_mask_has_no_box_and_no_file() -> None:
    empty = np.zeros((4, 4), np.bool_)
    assert box_of(empty) is None
    assert masks_by_class([(Finding("scoliosis"), empty)]) == {}


def test_findings_of_a_class_share_a_mask() -> None:
    one, other = np.zeros((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    one[0, 0] = other[3, 3] = True
    merged = masks_by_class([(Finding("nodule", "left", "mid"), one), (Finding("nodule", "right", "mid"), other)])
    assert merged["nodule"].sum() == 2
    assert one.sum() == 1
