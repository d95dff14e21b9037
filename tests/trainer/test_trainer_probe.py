"""Labels, linear probe, AUROC, retrieval, grounding: against definitions, and against the mistakes of the field."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from trainer.errors import UserError
from trainer.ground import enlarge, ground_class, macro, table
from trainer.labels import Labels, read_labels, subjects_in_order
from trainer.probe import fit_logistic, percent, probe
from trainer.regions import images_by_stem, read_regions
from trainer.scores import auroc, aurocs, recall_at

LABELS = "image,subject_id,split,opacity,effusion\na.png,1,train,1,0\nb.png,1,train,0,-1\nc.png,2,val,,1\nd.png,3,test,1.0,0\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Scores


@given(
    st.integers(2, 30).flatmap(
        lambda n: st.tuples(arrays(np.int64, n, elements=st.integers(0, 5)), arrays(np.bool_, n))
    )
)
def test_auroc_is_the_share_of_pairs_in_order(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = drawn
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    if pairs:
        assert auroc(scores, positive) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auroc(scores, positive))


def test_auroc_leaves_out_what_is_not_known() -> None:
    scores = np.array([[1.0, 0.0], [2.0, 0.0], [9.0, 1.0]])
    labels = np.array([[0, np.nan], [1, 1], [np.nan, 1]])
    found = aurocs(scores, labels)
    assert found[0] == 1.0
    assert np.isnan(found[1])


def test_retrieval_counts_equal_content_as_found_and_ties_as_missed() -> None:
    similarity = np.array([[0.1, 0.9, 0.5], [0.2, 0.3, 0.3], [0.0, 0.0, 1.0]])
    assert recall_at(similarity, [0, 1, 2], (1, 2, 3)) == {1: 1 / 3, 2: 2 / 3, 3: 1.0}
    assert recall_at(similarity, [0, 0, 2], (1,)) == {1: 2 / 3}


# Labels


def test_labels_are_read_with_their_missing_ones(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "labels.csv", LABELS))
    assert labels.classes == ("opacity", "effusion")
    assert labels.splits == ("train", "train", "val", "test")
    np.testing.assert_array_equal(labels.values, [[1, 0], [0, np.nan], [np.nan, 1], [1, 0]])
    assert read_labels(tmp_path / "labels.csv", uncertain="positive").values[1, 1] == 1
    assert read_labels(tmp_path / "labels.csv", uncertain="negative").values[1, 1] == 0
    assert labels.of_classes(["effusion"]).values.shape == (4, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,opacity\na,1\n", "no column `subject_id`"),
        ("image,subject_id\na,1\n", "no classes"),
        ("image,subject_id,x\n", "no rows"),
        ("image,subject_id,x,x\na,1,1,1\n", "two columns `x`"),
        ("image,subject_id,x\na,1,2\n", "row 2, column `x`"),
        ("image,subject_id,x\na,1\n", "row 2: expected 3 cells"),
        ("image,subject_id,x\na,1,1\na,1,1\n", "row 3: the image stands in row 2"),
        ("image,subject_id,x\n,1,1\n", "the image is empty"),
        ("image,subject_id,split,x\na,1,other,1\n", "must be train, val or test"),
        ("image,subject_id,split,x\na,1,train,1\nb,1,test,1\n", "row 3: the subject is in train and in test"),
    ],
)
def test_a_mistake_in_labels_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=r".") as error:
        read_labels(write(tmp_path / "labels.csv", text))
    assert said in str(error.value)
    assert "labels.csv" in str(error.value)


def test_without_splits_subjects_are_split_by_hash_whole_and_the_same_each_time(tmp_path: Path) -> None:
    rows = "".join(f"{image}.png,{image // 3},1\n" for image in range(900))
    path = write(tmp_path / "labels.csv", "image,subject_id,x\n" + rows)
    labels = read_labels(path)
    shares = [len(labels.rows(split)) / 900 for split in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.06)
    assert len({(subject, split) for subject, split in zip(labels.subjects, labels.splits, strict=True)}) == 300
    assert read_labels(path).splits == labels.splits


# Probe


def task(images: int = 600, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, Labels]:
    random = np.random.default_rng(seed)
    features = random.normal(size=(images, 6)).astype(np.float32)
    values = (features[:, :classes] + 0.5 * random.normal(size=(images, classes)) > 0.8).astype(np.float32)
    subjects = tuple(f"s{image // 2}" for image in range(images))
    splits = tuple(
        "train" if image < 0.6 * images else "val" if image < 0.8 * images else "test" for image in range(images)
    )
    names = tuple("abcdef"[:classes])
    return features, Labels(Path("labels.csv"), tuple(map(str, range(images))), subjects, splits, names, values)


def test_more_labels_make_a_better_probe_and_fractions_are_really_taken() -> None:
    features, labels = task()
    result = probe(features, labels, (0.02, 0.2, 1.0), seeds=(0, 1, 2))
    by_fraction = [np.mean([run.macro for run in result.of_fraction(fraction)]) for fraction in (0.02, 0.2, 1.0)]
    assert by_fraction[0] < by_fraction[1] <= by_fraction[2] + 0.01
    assert by_fraction[2] > 0.9
    assert [run.subjects for run in result.runs] == [4] * 3 + [36] * 3 + [180] * 3
    assert [run.images for run in result.runs] == [8] * 3 + [72] * 3 + [360] * 3
    assert len({run.macro for run in result.of_fraction(0.02)}) == 3  # seeds draw other subjects
    assert len({run.macro for run in result.of_fraction(1.0)}) == 1  # all of them are the same ones


def test_small_fractions_never_see_other_labels() -> None:
    """Labels of subjects that a fraction does not take can be anything."""
    features, labels = task()
    chosen = set(subjects_in_order([labels.subjects[row] for row in labels.rows("train")], seed=0)[:18])
    values = labels.values.copy()
    for row in labels.rows("train"):
        if labels.subjects[row] not in chosen:
            values[row] = 1 - values[row]
    other = Labels(labels.path, labels.images, labels.subjects, labels.splits, labels.classes, values)
    for seed, same in ((0, True), (1, False)):
        before, after = (probe(features, each, (0.1,), seeds=(seed,)).runs[0].macro for each in (labels, other))
        assert (before == after) is same


def test_fractions_lie_in_each_other_and_do_not_depend_on_the_order_of_rows() -> None:
    subjects = [f"s{index}" for index in range(50)]
    order = subjects_in_order(subjects, seed=1)
    assert subjects_in_order(list(reversed(subjects)), seed=1) == order
    assert subjects_in_order(subjects, seed=2) != order
    assert sorted(order) == sorted(subjects)


def test_a_class_without_a_positive_counts_as_chance_and_one_without_truth_is_left_out() -> None:
    features, labels = task()
    values = labels.values.copy()
    values[labels.rows("train"), 1] = 0
    values[labels.rows("test"), 2] = np.nan
    changed = Labels(labels.path, labels.images, labels.subjects, labels.splits, labels.classes, values)
    run = probe(features, changed, (1.0,), seeds=(0,)).runs[0]
    assert run.per_class[1] == 0.5
    assert run.unlearnt == ("b",)
    np.testing.assert_array_equal(aurocs(run.scores, values[labels.rows("test")]), run.per_class)
    assert np.isnan(run.per_class[2])
    assert run.macro == pytest.approx((run.per_class[0] + 0.5) / 2)
    result = probe(features, changed, (1.0,), seeds=(0, 1))
    assert result.unjudged == ("c",)
    assert "–" in result.table().splitlines()[-1]
    json.dumps(result.to_json(), allow_nan=False)


def test_a_probe_needs_all_splits_and_sensible_fractions() -> None:
    features, labels = task()
    for fraction in (0.0, 1.5):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            probe(features, labels, (fraction,))
    lacking = Labels(labels.path, labels.images, labels.subjects, ("train",) * 600, labels.classes, labels.values)
    with pytest.raises(UserError, match="no image of the split val"):
        probe(features, lacking)


def test_features_may_be_constant_or_of_any_size() -> None:
    features, labels = task()
    figures = probe(features, labels, (0.5,), seeds=(0,)).runs[0].macro
    scaled = np.concatenate([features * 1e3 + 5e3, np.full((600, 1), 7.0, np.float32)], axis=1)
    assert probe(scaled, labels, (0.5,), seeds=(0,)).runs[0].macro == pytest.approx(figures, abs=2e-3)


def test_the_logistic_regression_is_at_its_minimum() -> None:
    """The gradient of each class's own loss is 0, with labels missing in different rows."""
    features, labels = task(200)
    values = labels.values.copy()
    values[:50, 0] = np.nan
    x = features.astype(np.float64)
    for strength, weights in fit_logistic(x, values, (1.0, 0.01)):
        for column in range(3):
            known = ~np.isnan(values[:, column])
            residual = (
                1 / (1 + np.exp(-(x[known] @ weights[:-1, column] + weights[-1, column]))) - values[known, column]
            )
            gradient = x[known].T @ residual / known.sum() + strength * weights[:-1, column]
            assert np.abs(gradient).max() < 1e-5
            assert abs(residual.mean()) < 1e-5


def test_figures_are_written_with_their_deviation() -> None:
    assert percent([0.5, 0.6]) == "55.0 ± 7.1"
    assert percent([0.5]) == "50.0"
    assert percent([float("nan")]) == "–"


# Regions and grounding


def test_regions_come_from_boxes_masks_and_run_lengths(tmp_path: Path) -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:3, 2:5] = True
    coco = {
        "images": [{"id": 1, "file_name": "a/1.png", "height": 6, "width": 8}],
        "categories": [{"id": 5, "name": "nodule"}],
        "annotations": [{"image_id": 1, "category_id": 5, "bbox": [2, 1, 3, 2]}],
    }
    boxes = write(tmp_path / "boxes.json", json.dumps(coco))
    folder = tmp_path / "masks" / "nodule"
    folder.mkdir(parents=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "1.png")
    counts = "13 2 4 2 4 2 21"
    table_of_runs = write(tmp_path / "masks.csv", f"image,class,width,height,counts\na/1.png,nodule,8,6,{counts}\n")
    for path in (boxes, tmp_path / "masks", table_of_runs):
        [region] = read_regions(path, {"1": "a/1.png"})
        assert (region.image, region.name) == ("a/1.png", "nodule")
        np.testing.assert_array_equal(region.mask(), mask)


def test_two_boxes_of_a_class_are_one_region_and_reading_changes_nothing(tmp_path: Path) -> None:
    coco = {
        "images": [{"id": "x", "file_name": "x.png", "height": 4, "width": 4}],
        "categories": [{"id": 1, "name": "c"}],
        "annotations": [
            {"image_id": "x", "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"image_id": "x", "category_id": 1, "bbox": [3, 3, 9, 9]},
        ],
    }
    [region] = read_regions(write(tmp_path / "boxes.json", json.dumps(coco)))
    assert region.mask().sum() == region.mask().sum() == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("boxes.json", "{}", "not a COCO file"),
        ("boxes.json", '{"images": [], "categories": [], "annotations": []}', "marks nothing"),
        ("masks.csv", "image,class\n", "no column `width`"),
        ("boxes.txt", "", "expected boxes.json"),
    ],
)
def test_a_mistake_in_regions_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_regions(write(tmp_path / name, text))
    with pytest.raises(UserError, match="same name"):
        images_by_stem(["a/1.png", "b/1.jpg"], tmp_path)


@pytest.mark.parametrize("counts", ["1 2", "5", "1 -1 4", "a", ""])
def test_counts_that_do_not_fit_the_image_are_an_error(tmp_path: Path, counts: str) -> None:
    [region] = read_regions(write(tmp_path / "m.csv", f"image,class,width,height,counts\na,c,2,2,{counts}\n"))
    with pytest.raises(UserError, match="do not cover the image"):
        region.mask()


def test_a_map_that_looks_beats_the_blind_one() -> None:
    random = np.random.default_rng(0)
    heat, masks = np.full((40, 16, 16), 1e-3), np.zeros((40, 16, 16), bool)
    for image in range(40):
        y, x = random.integers(0, 13, 2)
        masks[image, y : y + 4, x : x + 4] = True
        heat[image, y + 1, x + 1] = 1.0
    found = ground_class("nodule", heat, masks)
    assert found.pointing == 1.0
    assert found.mass == pytest.approx((1 + 15e-3) / (1 + 255e-3))
    assert found.pointing_blind < 0.3
    assert found.pointing_chance == found.mass_chance == pytest.approx(1 / 16)
    assert "nodule" in table([found])
    assert macro([found])["pointing"] == 1.0


def test_a_flat_map_has_the_figures_of_chance() -> None:
    masks = np.zeros((3, 8, 8), bool)
    masks[:, :2] = True
    found = ground_class("c", np.ones((3, 8, 8)), masks)
    assert found.pointing == found.mass == found.mass_blind == found.pointing_chance == 0.25
    assert np.isnan(ground_class("c", np.ones((1, 8, 8)), masks[:1]).pointing_blind)


def test_the_highest_patch_points_at_its_centre_and_not_at_the_edge_it_touches() -> None:
    heat = np.zeros((2, 4, 4))
    heat[:, 0, 0] = 1
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 6:11, 6:11] = True  # about the centre of the first patch, which is (8, 8)
    masks[1, :3, :3] = True  # in its corner
    assert ground_class("c", heat, masks).pointing == 0.5


def test_maps_are_enlarged_in_place_and_keep_their_sides() -> None:
    heat = np.zeros((1, 4, 4))
    heat[0, 0, 3] = 1
    larger = enlarge(heat, 32)[0]
    y, x = np.unravel_index(larger.argmax(), larger.shape)
    assert y < 8
    assert x >= 24
