"""Images: the same pixels on every machine, what is drawn where the study says, and left on the right."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphprep.phantom.canvas import Canvas, Mask, curve
from graphprep.phantom.chest import chest_of
from graphprep.phantom.devices import DEVICES
from graphprep.phantom.draws import Draws, seed_of
from graphprep.phantom.lesions import LESIONS
from graphprep.phantom.render import ANATOMY, Picture, render
from graphprep.phantom.report import write_report
from graphprep.phantom.sample import sample
from graphprep.phantom.scene import KINDS, SIDES, ZONES, Finding, LungSide, Severity, Study

SIZE = 96


def study_of(*findings: Finding, view: str = "PA", seed: int = 1) -> Study:
    return Study("p", "p-1", "p-1", "train", 0, view, findings, (), 1, seed, seed)  # type: ignore[arg-type]


def finding_of(concept: str, severity: Severity = "moderate", spot: int = 3, **more: object) -> Finding:
    kind = KINDS[concept]
    given: dict[str, object] = {"side": "left" if kind.sided else None, "zone": "mid" if kind.zoned else None, **more}
    return Finding(concept, severity=severity, spot=spot, **given)  # type: ignore[arg-type]


def drawn(*findings: Finding, view: str = "PA", seed: int = 1, size: int = SIZE) -> Picture:
    return render(study_of(*findings, view=view, seed=seed), 0, size)


def middle(mask: Mask) -> tuple[float, float]:
    """Row and column of the middle of a mask, as shares of the image."""
    rows, columns = np.nonzero(mask)
    return float(rows.mean()) / mask.shape[0], float(columns.mean()) / mask.shape[1]


def test_pixels_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for size in (64, 96, 256):
        for study in sample(12, 7):
            picture = render(study, study.images - 1, size)
            digest.update(picture.pixels.tobytes())
            for _, mask in picture.findings:
                digest.update(mask.tobytes())
    assert digest.hexdigest() == "f2c2fedb8a8e2fe0985de104c5cedaddbe776b3dee639f033cd42bc908d1174a"


def test_reports_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256()
    for study in sample(12, 7):
        text = write_report(study)
        digest.update(f"{text.findings}\n\n{text.impression}\n".encode())
    assert digest.hexdigest() == "ed15ece1ac456ed62f68741243ab144cc3659f0984b18ffc5eb40c6cd1c49083"


def test_every_kind_of_finding_can_be_drawn() -> None:
    assert LESIONS.keys() | DEVICES.keys() == KINDS.keys()
    assert not LESIONS.keys() & DEVICES.keys()


@settings(deadline=None, max_examples=40)
@given(
    concept=st.sampled_from(list(KINDS)),
    side=st.sampled_from(SIDES),
    zone=st.sampled_from(ZONES),
    severity=st.sampled_from(["small", "moderate", "large"]),
    view=st.sampled_from(["PA", "AP"]),
    seed=st.integers(0, 10**9),
    malpositioned=st.booleans(),
)
def test_a_finding_changes_the_image_where_its_mask_is(
    concept: str, side: LungSide, zone: str, severity: Severity, view: str, seed: int, malpositioned: bool
) -> None:
    kind = KINDS[concept]
    finding = Finding(
        concept,
        side if kind.sided else None,
        zone if kind.zoned else None,  # type: ignore[arg-type]
        severity,
        spot=seed,
        malpositioned=malpositioned and kind.device,
    )
    picture = drawn(finding, view=view, seed=seed)
    without = drawn(view=view, seed=seed)
    [(_, mask)] = picture.findings
    assert mask.any()
    changed = np.abs(picture.pixels.astype(int) - without.pixels.astype(int))
    assert changed[mask].max() > 8


@pytest.mark.parametrize("concept", [name for name, kind in KINDS.items() if kind.sided and not kind.device])
def test_the_left_of_the_patient_is_on_the_right_of_the_image(concept: str) -> None:
    for seed in range(4):
        for side in SIDES:
            picture = drawn(finding_of(concept, side=side, spot=seed), seed=seed)
            own, other = ("left_lung", "right_lung") if side == "left" else ("right_lung", "left_lung")
            _, column = middle(picture.findings[0][1])
            _, right = middle(picture.anatomy["right_lung"])
            _, left = middle(picture.anatomy["left_lung"])
            assert right < left
            assert (column > (left + right) / 2) == (side == "left"), (own, other)


def test_the_heart_points_to_the_left() -> None:
    for seed in range(5):
        picture = drawn(seed=seed)
        assert middle(picture.anatomy["heart"])[1] > middle(picture.anatomy["spine"])[1]


@pytest.mark.parametrize("concept", [name for name, kind in KINDS.items() if kind.zoned])
def test_zones_are_one_below_the_other(concept: str) -> None:
    for side in SIDES:
        rows = [middle(drawn(finding_of(concept, side=side, zone=zone)).findings[0][1])[0] for zone in ZONES]
        assert rows == sorted(rows)


@pytest.mark.parametrize("concept", [name for name, kind in KINDS.items() if kind.zoned])
def test_lesions_of_the_lung_are_in_the_lung(concept: str) -> None:
    for seed in range(6):
        zone = ZONES[seed % 3]
        picture = drawn(finding_of(concept, zone=zone, spot=seed), seed=seed)
        mask = picture.findings[0][1]
        assert (mask & picture.anatomy["left_lung"]).sum() > 0.7 * mask.sum()


def test_anatomy_is_where_it_belongs() -> None:
    picture = drawn()
    assert tuple(picture.anatomy) == ANATOMY
    lungs = picture.anatomy["right_lung"] | picture.anatomy["left_lung"]
    assert not (picture.anatomy["right_lung"] & picture.anatomy["left_lung"]).any()
    assert not (lungs & picture.anatomy["heart"]).any()
    assert 0.15 < lungs.mean() < 0.45
    assert picture.pixels[lungs].mean() < picture.pixels[picture.anatomy["heart"]].mean() - 30


@pytest.mark.parametrize("millimetres", [20, 40, 70])
def test_a_mass_is_as_large_as_it_says(millimetres: int) -> None:
    study = study_of(finding_of("mass", morphology="lobulated", millimetres=millimetres))
    picture = render(study, 0, 512)
    pixel = 358.0 / 512
    area = picture.findings[0][1].sum() * pixel * pixel
    assert 0.6 < area / (0.785 * millimetres * millimetres) < 1.45


def test_a_tube_ends_as_far_above_the_carina_as_it_says() -> None:
    for millimetres in (5, 30, 60):
        study = study_of(finding_of("endotracheal_tube", millimetres=millimetres), view="AP")
        picture = render(study, 0, 256)
        lowest = int(np.flatnonzero(picture.findings[0][1].any(axis=1))[-1])
        _, carina = chest_of(study).carina()
        assert abs(lowest - (128 + (carina - millimetres - 124.0) / 1.42)) < 20


@pytest.mark.parametrize(
    ("concept", "structure"), [("cardiomegaly", "heart"), ("hyperinflation", "right_lung"), ("scoliosis", "spine")]
)
def test_what_changes_the_shape_of_the_chest_grows_with_severity(concept: str, structure: str) -> None:
    def extent(picture: Picture) -> float:
        mask = picture.anatomy[structure]
        return float(np.ptp(np.nonzero(mask)[1 if structure != "right_lung" else 0]))

    extents = [extent(drawn(finding_of(concept, severity))) for severity in ("small", "moderate", "large")]
    assert extent(drawn()) < extents[0] < extents[1] < extents[2]


def test_contrast_makes_findings_fainter() -> None:
    study = study_of(finding_of("consolidation", "large"))
    none = render(study_of(), 0, SIZE).pixels.astype(int)
    [(_, mask)] = render(study, 0, SIZE).findings
    seen = [np.abs(render(study, 0, SIZE, contrast).pixels - none)[mask].mean() for contrast in (0.3, 0.6, 1.0)]
    assert seen[0] < seen[1] < seen[2]


def test_images_of_a_study_differ_in_pose_and_not_in_what_they_show() -> None:
    study = study_of(finding_of("mass"), finding_of("pleural_effusion"))
    first, second = render(study, 0, SIZE), render(study, 1, SIZE)
    assert (first.pixels != second.pixels).mean() > 0.5
    assert [finding for finding, _ in first.findings] == [finding for finding, _ in second.findings]
    assert first.findings[0][1].sum() == pytest.approx(second.findings[0][1].sum(), rel=0.35)


def test_a_picture_is_of_the_same_chest_at_any_size() -> None:
    study = study_of(finding_of("cardiomegaly"), finding_of("consolidation"))
    small, large = render(study, 0, 64), render(study, 0, 128)
    for name in ANATOMY:
        shrunk = large.anatomy[name].reshape(64, 2, 64, 2).mean(axis=(1, 3)) > 0.5
        assert (shrunk ^ small.anatomy[name]).sum() <= 0.15 * small.anatomy[name].sum() + 8


def test_brightness_alone_does_not_tell_who_is_healthy() -> None:
    studies = list(sample(160, 3))
    means = np.array([render(study, 0, 48).pixels.mean() for study in studies])
    healthy = np.array([not study.findings for study in studies])
    wins = (means[healthy][:, None] < means[~healthy][None, :]).mean()
    assert 0.3 < wins < 0.7


def test_draws_depend_on_their_key_alone() -> None:
    assert [Draws(1, "a").unit() for _ in range(2)] == [Draws(1, "a").unit()] * 2
    assert seed_of(1, "a") != seed_of(1, "b") != seed_of(11, "a")
    assert 0 <= seed_of("x") < 2**63


@given(st.integers(0, 10**9), st.integers(-5, 5), st.integers(0, 9))
def test_draws_stay_in_their_range(seed: int, low: int, more: int) -> None:
    draws = Draws(seed)
    assert low <= draws.integer(low, low + more) <= low + more
    assert low <= draws.uniform(low, low + more) <= low + more
    assert abs(draws.bell(0.0, 1.0)) <= 3.0
    assert draws.weighted({"never": 0.0, "always": 1.0}) == "always"


def test_grain_is_nearly_normal() -> None:
    grain = Draws("grain").grain(256)
    assert abs(float(grain.mean())) < 0.02
    assert abs(float(grain.std()) - 1.0) < 0.02


def test_canvas_knows_its_pixels() -> None:
    canvas = Canvas(64, 2.0, (10.0, -4.0), 0.05)
    for row, column in ((0, 0), (10, 50), (63, 63)):
        found = canvas.pixel_of((float(canvas.x[row, column]), float(canvas.y[row, column])))
        assert found == pytest.approx((column, row), abs=1e-3)


def test_strokes_cover_their_width() -> None:
    canvas = Canvas(100, 1.0)
    for radius in (0.2, 3.0):
        layer = canvas.blank()
        canvas.stroke(layer, [(-30.0, 0.0), (30.0, 0.0)], radius)
        assert float(layer[:, 50].sum()) == pytest.approx(2 * radius, rel=0.1)
    assert not canvas.blank()[canvas.window([(900.0, 900.0)], 5.0)].size


def test_curves_go_through_their_points() -> None:
    points = [(0.0, 0.0), (3.0, 8.0), (10.0, 2.0)]
    assert np.allclose(curve(points, 5)[::5], points)


def test_a_patient_keeps_their_build_whatever_comes_up() -> None:
    plain = chest_of(study_of())
    for concept in ("cardiomegaly", "scoliosis", "elevated_diaphragm", "pleural_effusion"):
        chest = chest_of(study_of(finding_of(concept)))
        for measure in ("half_width", "length", "fat", "breast", "knob", "rib_tilt", "rib_strength", "markings", "air"):
            assert getattr(chest, measure) == getattr(plain, measure), (concept, measure)


def test_findings_keep_their_place_from_study_to_study() -> None:
    before = study_of(finding_of("mass", "small", millimetres=35), seed=5)
    after = replace(before, seed=6, findings=(finding_of("mass", "large", millimetres=60),))
    places = []
    for study in (before, after):
        picture = render(study, 0, SIZE)
        lung, mass = picture.anatomy["left_lung"], picture.findings[0][1]
        size = np.ptp(np.nonzero(lung)[0]) / SIZE
        places.append([(own - whole) / size for own, whole in zip(middle(mass), middle(lung), strict=True)])
    assert np.allclose(places[0], places[1], atol=0.12)


def test_nothing_is_marked_where_the_shutters_were_closed() -> None:
    dark = 0
    for study in sample(60, 2):
        picture = render(study, 0, 64)
        columns = np.ptp(picture.pixels, axis=0) == 0
        dark += int(columns.any())
        for mask in (*picture.anatomy.values(), *(mask for _, mask in picture.findings)):
            assert not mask[:, columns].any()
    assert dark > 5
