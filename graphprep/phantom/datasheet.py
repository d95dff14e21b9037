"""datasheet.md: what a phantom is, how it was drawn and in which proportions, from the tables that it was drawn by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from graphprep.phantom.chest import BENT, HEART_RATIOS, OVERINFLATED, RAISED
from graphprep.phantom.film import COLLAPSE
from graphprep.phantom.labels import CLASSES
from graphprep.phantom.lesions import BROKEN, FLUID, PATCH, WATER
from graphprep.phantom.plan import (
    DENIABLE,
    ENDED,
    HEDGED,
    IN_ONE_BREATH,
    JOINED,
    LEFT_OUT,
    MOST_NORMAL,
    NOT_EXCLUDED,
    OF_SIDE,
    OF_ZONE,
    SAID_GONE,
    STATEMENTS,
)
from graphprep.phantom.render import (
    ANATOMY,
    BLURRED,
    FIELD,
    LETTER,
    NOISE,
    ON_PATIENT,
    SHUTTER,
    STOMACH_GAS,
    TURNED,
)
from graphprep.phantom.report import (
    ADVICE,
    ALL_IN_IMPRESSION,
    BESIDE,
    CAPITALS,
    DIFFERENTIAL,
    NO_IMPRESSION,
    NO_PLACE,
    NO_SIDE,
    NOT_NEW,
    OTHER_LUNG_CLEAR,
    PAIRED,
    SHUFFLED,
    TERSE,
    WHOLE_LUNG,
)
from graphprep.phantom.report import (
    SUGGESTED as SUGGESTED_SAID,
)
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
        "## Reports\n",
        _reports(options),
        "## Drawn, and in no report\n",
        _not_reported(),
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


def _reports(options: Mapping[str, Any]) -> str:
    whole = 1 - OF_ZONE - OF_SIDE
    together = ", ".join(
        f"{number} ({_percent(IN_ONE_BREATH.count(number) / len(IN_ONE_BREATH))})"
        for number in sorted(set(IN_ONE_BREATH))
    )
    total = sum(weight for weight, _ in DENIABLE.values())
    denied = ", ".join(f"{name} {_percent(weight / total)}" for name, (weight, _) in DENIABLE.items())
    return (
        f"*What is there.* {_percent(options['omissions'])} of present findings are left out, each by itself. Of those stated "
        f"{_percent(HEDGED)} are said to be possible (devices never), and {_percent(JOINED)} of those alike on both sides are said as one. "
        f"{_percent(SAID_GONE)} of what is gone since the study before is said to be gone. The zone is not said in {_percent(NO_PLACE)} and "
        f"said as the lung in {_percent(WHOLE_LUNG)}; the side of other findings is not said in {_percent(NO_SIDE)}. Findings that can share "
        f"a sentence do in {_percent(PAIRED)}, and their places are said then. What a look suggests is said in {_percent(SUGGESTED_SAID)}, "
        "25 to 40 % of that for certain; another meaning is given to "
        f"{_percent(DIFFERENTIAL)} of opacities, consolidations and atelectases.\n\n"
        f"*What is not.* A report has {STATEMENTS[0]} to {STATEMENTS[1]} statements, each number as often: what is there, and for the rest, two at "
        f"least, denials; each of them is left out with {_percent(LEFT_OUT)}, and none follows with {_percent(ENDED)}. {_percent(OF_ZONE)} are of a zone, "
        f"{_percent(OF_SIDE)} of a side, {_percent(whole)} of the whole chest, and of the chest where nothing is left to deny; sides and zones are equal. "
        f"So many findings are denied in one breath: {together}. Which, where it would be true: {denied}. {_percent(NOT_EXCLUDED)} of them are said to be possible "
        f'instead, and {_percent(NOT_NEW)} of denials without a place say "no new". Up to {MOST_NORMAL} structures are called normal; where one lung alone '
        f"has findings, the other is called clear in {_percent(OTHER_LUNG_CLEAR)}.\n\n"
        f"*Wrong* are {_percent(options['wrong'])} of the findings stated and denied: denied though present, on the wrong side, or asserted though absent.\n\n"
        f"*Form.* {_percent(ALL_IN_IMPRESSION)} of reports are an impression alone, {_percent(NO_IMPRESSION)} have none; in others up to four findings are said "
        f"again in it. The order is shuffled in {_percent(SHUFFLED)}. Sentences are telegraphic with {' or '.join(_percent(share) for share in TERSE)}, by "
        f"report; {_percent(CAPITALS)} of reports are in capitals. Technique, comparison and recommendation have a sentence in {_percent(BESIDE)} each; "
        f"{_percent(ADVICE)} of reports with a mass, a nodule or a fracture advise something because of it. Words are chosen evenly from the lists of "
        "`graphprep/phantom/phrases.py`.\n"
    )


def _not_reported() -> str:
    return (
        f"From edge to edge an image is {_range(FIELD)} mm, the chest somewhere in it, turned by {TURNED['AP']:g} (from the front) or {TURNED['PA']:g} radians "
        "(standard deviation). The size of a patient varies by 6 %, the depth of breath by 10 mm; soft tissue, breasts, strength of ribs and vessels vary too. "
        f"The exposure is uneven and does not always fit; {_percent(BLURRED)} of images are blurred; the noise has a deviation of {_range(NOISE)} where soft "
        "tissue is about 1.\n\n"
        + _table(
            ("on the patient", "from the front", "others"),
            [(name, *map(_percent, chances)) for name, chances in ON_PATIENT.items()],
        )
        + f"\nGas is in the stomach in {_percent(STOMACH_GAS)} of images, a letter of the side in a corner of {_percent(LETTER)}; each edge is dark with "
        f"{_percent(SHUTTER)}. None of these is labelled.\n"
    )


def _range(pair: tuple[float, float]) -> str:
    return f"{pair[0]:g}–{pair[1]:g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _table(head: Iterable[str], rows: Iterable[tuple[object, ...]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(map(str, row)) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
