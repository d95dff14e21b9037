"""datasheet.md: what a phantom is, how it was drawn and in which proportions, from the tables that it was drawn by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from graphprep.phantom.chest import BENT, HEART_RATIOS, OVERINFLATED, RAISED
from graphprep.phantom.film import COLLAPSE
from graphprep.phantom.labels import CLASSES
from graphprep.phantom.lesions import BROKEN, FLUID, PATCH, WATER
from graphprep.phantom.render import ANATOMY
from graphprep.phantom.sample import (
    AIRWAYS,
    CHANGES,
    DIAMETERS,
    DISEASES,
    GRADES,
    LATER,
    MALPOSITIONED,
    OTHERS,
    REPEATED,
    SPLITS,
    STUDIES,
    TIPS,
    TOGETHER,
    USUAL_SIDES,
    Part,
    lasting,
)
from graphprep.phantom.scene import KINDS, MORPHOLOGIES, SUGGESTED

_ABOUT = """\
# Datasheet of a phantom

A phantom is a test object: drawn chest radiographs with the reports that they could have, made to test software that learns
from images and reports. Nobody was examined. It is not a simulation of disease: proportions, sizes and combinations are
round numbers that somebody chose, the drawing is geometry with noise, and nothing that is measured on it says how a method does
on patients. What is true of every image is known exactly, and that is what it is for.

The patient's left is on the image's right. No image is mirrored.

## Files

| file | holds |
|---|---|
| `images/<study>-<number>.png` | radiographs, 8 bits of grey |
| `reports.csv` | one row per study: ids, split, images (between `\\|`), view, findings, impression |
| `labels.csv` | one row per image: 1 or 0 for each finding that is drawn, and for what its look suggests; a kind of opacity makes opacity 1 |
| `labels-by-place.csv` | the same by side and zone; empty where a finding has no one place (the opacity that edema is) |
| `boxes.json` | COCO: the smallest box around what is seen of each finding, with side, zone and severity |
| `masks/<class>/<image>.png` | 255 where it is: {anatomy} in every image, findings where present (not with `--no-masks`) |
| `truth/graphs/` | the graphs that the reports say, by the data contract |
| `phantom.json` | options and counts |

Labels, boxes and masks are of the image. Reports leave findings out, hedge, and state wrongly as the options say.
"""

_NOT_REPORTED = """\
## Drawn, and in no report

Build, breath, pose, exposure and noise vary with patient, study and image. Letters of the side lie in a corner of about half of
the images; electrodes and wires on 60 % of those taken from the front (6 % of others), boxes of monitors, buttons, folds of skin or
cloth, gas in the stomach, uneven exposure and dark edges of the shutters at times. None of these is labelled.
"""


def text(settings: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """The datasheet of a phantom that was made with these settings and holds so many of each class."""
    options = settings["options"]
    parts = [
        _ABOUT.format(anatomy=", ".join(f"`{name}`" for name in ANATOMY)),
        "## Options\n",
        _table(
            ("option", "value", "meaning"),
            [*_options(options), ("drawing", settings["drawing"], "version of the drawing")],
        ),
        "## Counts\n",
        f"{counts['studies']:,} studies of {counts['subjects']:,} patients, {counts['images']:,} images, {counts['boxes']:,} boxes.\n",
        _table(
            ("class", "images", "share"),
            [
                (name, f"{counts['positives'][name]:,}", _percent(counts["positives"][name] / counts["images"]))
                for name in CLASSES
            ],
        ),
        "## Patients\n",
        _patients(),
        "## Diseases\n",
        "A patient has one; its findings are drawn one by one with these chances. *Beside*: on the side of the finding before.\n",
        _table(
            ("disease", "patients", "from the front", "findings", "others"),
            [
                (
                    name,
                    _percent(disease.share),
                    _percent(disease.front),
                    "; ".join(_part(part) for part in disease.parts) or "–",
                    f"× {disease.others:g}",
                )
                for name, disease in DISEASES.items()
            ],
        ),
        "Others: findings that have nothing to do with the disease, each with its own chance, times the factor of the disease: "
        + "; ".join(_part(part) for part in OTHERS.values())
        + ". Numbers after zones are weights; without them zones are equal.\n",
        f"With a chance of {_percent(TOGETHER)} a finding that has a zone goes to the zone of another on its side.\n",
        "A finding that would hide another, or could not be told from it, is left out: two solid lesions in one zone, lesions "
        "below a large effusion or in a collapsed lung, a raised diaphragm with overinflation.\n",
        "## Looks\n",
        _looks(),
        "## Change\n",
        f"In a later study each finding of the disease, and each other, comes up with {LATER:g} of its chance; what was there changes:\n",
        _table(
            ("findings", *(("unchanged", "larger", "smaller", "resolved"))),
            [
                (
                    f"{name}: {', '.join(concept for concept in KINDS if lasting(concept) == name)}",
                    *(_percent(row.get(change, 0.0)) for change in ("unchanged", "larger", "smaller", "resolved")),
                )
                for name, row in CHANGES.items()
            ],
        ),
        _NOT_REPORTED,
    ]
    return "\n".join(parts)


def _options(options: Mapping[str, Any]) -> list[tuple[object, ...]]:
    meanings = {
        "studies": "pairs of image and report",
        "seed": "of everything random",
        "size": "pixels along an edge",
        "contrast": "factor on the density of findings; shapes stay",
        "omissions": "share of present findings that a report leaves out",
        "wrong": "share of statements that are wrong",
        "masks": "whether masks are written",
    }
    return [(name, options[name], meaning) for name, meaning in meanings.items()]


def _patients() -> str:
    studies = ", ".join(f"{_percent(share)} have {number}" for number, share in STUDIES.items())
    splits = ", ".join(f"{count} {name}" for name, count in SPLITS.items())
    return (
        f"Of patients, {studies} {'studies' if len(STUDIES) > 1 else 'study'}. Of each ten patients in a row, {splits}. "
        f"{_percent(REPEATED)} of studies have a second image, of another pose and exposure.\n"
    )


def _part(part: Part) -> str:
    words = f"{part.concept} {_percent(part.chance)}"
    if part.zones:
        words += f" ({', '.join(f'{zone} {weight:g}' for zone, weight in part.zones.items())})"
    if part.both:
        words += f" (both sides {_percent(part.both)})"
    if part.beside:
        words += " beside"
    if part.only_with:
        words += f" with {part.only_with}"
    return words


def _looks() -> str:
    rows: list[tuple[object, ...]] = []
    for concept, sizes in DIAMETERS.items():
        rows.append((concept, "diameter, mm", *(_range(sizes[grade]) for grade in ("small", "moderate", "large"))))
    shapes: Iterable[tuple[str, str, Mapping[str, tuple[float, float]]]] = (
        ("lung_opacity, consolidation", "radius, mm", PATCH),
        ("pulmonary_edema", "depth of the haze", WATER),
        ("pleural_effusion", "height at the chest wall, mm", FLUID),
        ("pneumothorax", "distance from the chest wall, mm", COLLAPSE),
        ("cardiomegaly", f"heart / chest (else {_range(HEART_RATIOS['normal'])})", HEART_RATIOS),
        ("elevated_diaphragm", "higher by, mm", RAISED),
        ("scoliosis", "out of the midline, mm", BENT),
        ("hyperinflation", "longer by, mm", OVERINFLATED),
        ("rib_fracture", "ribs", BROKEN),
    )
    for concept, what, table in shapes:
        rows.append((concept, what, *(_range(table[grade]) for grade in ("small", "moderate", "large"))))
    devices = ", ".join(f"{name} {_percent(chance)}" for name, chance in MALPOSITIONED.items())
    tips = ", ".join(f"{name} {_range(tip)} mm" for name, tip in TIPS.items())
    forms = "; ".join(f"{name}: {', '.join(words)}" for name, words in MORPHOLOGIES.items())
    grades = ", ".join(f"{name} {_percent(share)}" for name, share in GRADES.items())
    sides = "; ".join(
        f"{name} {', '.join(f'{side} {_percent(share)}' for side, share in shares.items())}"
        for name, shares in USUAL_SIDES.items()
    )
    return (
        f"At first {grades}. Films from the front show the heart 1.12 times as wide, in both columns of its measure.\n\n"
        + _table(("finding", "measure", "small", "moderate", "large"), rows)
        + f"\nForms: {forms}. Sides: {sides}; others equal. Devices out of place: {devices}. Tip of an endotracheal tube above the carina: {tips}.\n\n"
        f"Looks suggest ({', '.join(SUGGESTED)}): a consolidation with dark airways pneumonia "
        f"({_percent(AIRWAYS['pneumonia'])} of those in pneumonia, {_percent(AIRWAYS['other'])} of others); edema with a large heart "
        "heart failure; a spiculated mass malignancy; more than slight overinflation COPD.\n"
    )


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g}–{pair[1]:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _table(head: Iterable[str], rows: Iterable[tuple[object, ...]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(map(str, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
