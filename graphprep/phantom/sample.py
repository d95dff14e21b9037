"""Patients: who has what, where, and how it changes from one study to the next.

What the distributions are stands in the tables of this module; `datasheet.md` prints them. A patient depends on the seed and the
patient's number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphprep.phantom.draws import Draws, seed_of
from graphprep.phantom.scene import KINDS, SIDES, ZONES, Change, Finding, LungSide, Severity, Study, Zone

SEVERITIES: tuple[Severity, ...] = ("small", "moderate", "large")
#: How severe findings are at first.
GRADES: Mapping[Severity, float] = {"small": 0.34, "moderate": 0.41, "large": 0.25}
#: How findings are spread over the zones: anyhow, more below, more above.
_ANY_ZONE: Mapping[Zone, float] = {"upper": 1.0, "mid": 1.0, "lower": 1.0}
_LOW: Mapping[Zone, float] = {"upper": 0.5, "mid": 1.0, "lower": 2.5}
_HIGH: Mapping[Zone, float] = {"upper": 2.0, "mid": 1.0, "lower": 0.7}


@dataclass(frozen=True, slots=True)
class Part:
    """A finding of a disease: how often it is there, how often on both sides, in which zones.

    `beside`: on the side of the sided finding before it, where there is one. `only_with`: only where that finding is there.
    """

    concept: str
    chance: float
    both: float = 0.0
    zones: Mapping[Zone, float] | None = None
    beside: bool = False
    only_with: str | None = None


@dataclass(frozen=True, slots=True)
class Disease:
    """What a patient came with: its share of patients, how often the film is taken from the front, its findings.

    `others` multiplies the chances of findings that have nothing to do with it (`OTHERS`).
    """

    share: float
    front: float
    parts: tuple[Part, ...]
    others: float = 1.0


DISEASES: dict[str, Disease] = {
    "nothing": Disease(0.27, 0.30, (), others=0.04),
    "heart failure": Disease(
        0.11,
        0.50,
        (
            Part("cardiomegaly", 0.88),
            Part("pulmonary_edema", 0.80),
            Part("pleural_effusion", 0.60, both=0.6),
            Part("pacemaker", 0.18),
        ),
    ),
    "pneumonia": Disease(
        0.12,
        0.40,
        (
            Part("consolidation", 0.78, both=0.12, zones=_LOW),
            Part("lung_opacity", 0.42, beside=True),
            Part("pleural_effusion", 0.32, beside=True),
        ),
    ),
    "COPD": Disease(
        0.09,
        0.30,
        (
            Part("hyperinflation", 0.92),
            Part("pneumothorax", 0.12),
            Part("nodule", 0.10, zones=_HIGH),
            Part("lung_opacity", 0.12),
        ),
    ),
    "trauma": Disease(
        0.09,
        0.60,
        (
            Part("rib_fracture", 0.80),
            Part("pneumothorax", 0.55, beside=True),
            Part("chest_tube", 0.55, beside=True, only_with="pneumothorax"),
            Part("lung_opacity", 0.25, beside=True),
            Part("pleural_effusion", 0.28, beside=True),
        ),
    ),
    "tumour": Disease(
        0.09,
        0.30,
        (
            Part("mass", 0.66, zones=_HIGH),
            Part("hilar_enlargement", 0.50, beside=True),
            Part("nodule", 0.50, both=0.3),
            Part("elevated_diaphragm", 0.18, beside=True),
            Part("pleural_effusion", 0.22, beside=True),
            Part("central_venous_catheter", 0.25),
        ),
    ),
    "intensive care": Disease(
        0.13,
        0.85,
        (
            Part("endotracheal_tube", 0.62),
            Part("enteric_tube", 0.66),
            Part("central_venous_catheter", 0.66),
            Part("atelectasis", 0.50, both=0.3, zones=_LOW),
            Part("pleural_effusion", 0.36, both=0.5),
            Part("consolidation", 0.22, zones=_LOW),
            Part("lung_opacity", 0.20, zones=_LOW),
            Part("pulmonary_edema", 0.16),
            Part("pneumothorax", 0.10),
            Part("chest_tube", 0.6, beside=True, only_with="pneumothorax"),
        ),
    ),
    "several small things": Disease(0.08, 0.35, (), others=2.6),
}

#: Chance of each finding that has nothing to do with the disease; `Disease.others` multiplies it.
OTHERS: dict[str, Part] = {
    part.concept: part
    for part in (
        Part("lung_opacity", 0.04),
        Part("consolidation", 0.02),
        Part("atelectasis", 0.07, zones=_LOW),
        Part("nodule", 0.05),
        Part("mass", 0.01),
        Part("calcified_granuloma", 0.12, zones=_HIGH),
        Part("hyperinflation", 0.02),
        Part("pleural_effusion", 0.02),
        Part("pneumothorax", 0.01),
        Part("cardiomegaly", 0.07),
        Part("hilar_enlargement", 0.06, both=0.3),
        Part("elevated_diaphragm", 0.08),
        Part("rib_fracture", 0.02),
        Part("scoliosis", 0.12),
        Part("endotracheal_tube", 0.01),
        Part("enteric_tube", 0.015),
        Part("central_venous_catheter", 0.04),
        Part("pacemaker", 0.06),
        Part("chest_tube", 0.01),
    )
}

#: Millimetres by severity.
DIAMETERS: dict[str, dict[Severity, tuple[int, int]]] = {
    "nodule": {"small": (10, 13), "moderate": (14, 20), "large": (21, 29)},
    "mass": {"small": (32, 42), "moderate": (43, 58), "large": (59, 78)},
    "calcified_granuloma": {"small": (6, 7), "moderate": (8, 10), "large": (11, 14)},
}
#: Millimetres of an endotracheal tube's tip above the carina: in place, too low, too high.
TIPS: dict[str, tuple[int, int]] = {"in place": (20, 58), "too low": (2, 9), "too high": (70, 84)}
#: How often a device is out of place.
MALPOSITIONED: dict[str, float] = {
    "endotracheal_tube": 0.20,
    "enteric_tube": 0.15,
    "central_venous_catheter": 0.18,
    "chest_tube": 0.12,
}
#: How often a consolidation shows airways, and suggests pneumonia: in patients who have it, and in others.
AIRWAYS: dict[str, float] = {"pneumonia": 0.85, "other": 0.30}
#: Sides of devices that have a usual one.
USUAL_SIDES: dict[str, dict[LungSide, float]] = {
    "pacemaker": {"left": 0.65, "right": 0.35},
    "central_venous_catheter": {"right": 0.70, "left": 0.30},
}
#: How often a finding in a zone is put into the zone of another one on its side.
TOGETHER = 0.35
#: How many patients of ten are in each split.
SPLITS: dict[str, int] = {"train": 7, "val": 1, "test": 2}
#: How many patients have so many studies.
STUDIES: dict[int, float] = {1: 0.50, 2: 0.32, 3: 0.18}
#: How many studies have a second image, taken anew.
REPEATED = 0.10

#: What becomes of a finding by the next study: of those that stay for life, that stay for long, and of all others.
CHANGES: dict[str, dict[Change | str, float]] = {
    "for life": {"unchanged": 1.0},
    "for long": {"unchanged": 0.70, "larger": 0.25, "smaller": 0.05},
    "devices": {"unchanged": 0.60, "resolved": 0.40},
    "others": {"unchanged": 0.30, "larger": 0.17, "smaller": 0.25, "resolved": 0.28},
}
_LASTING: dict[str, str] = {
    "scoliosis": "for life",
    "calcified_granuloma": "for life",
    "pacemaker": "for life",
    "hyperinflation": "for life",
    "elevated_diaphragm": "for life",
    "rib_fracture": "for life",
    "nodule": "for long",
    "mass": "for long",
    "cardiomegaly": "for long",
    "hilar_enlargement": "for long",
}
#: Chance of each part of the disease, and of the findings that have nothing to do with it, to come up in a later study, as a factor.
LATER = 0.30


def lasting(concept: str) -> str:
    """Which row of `CHANGES` holds for a finding."""
    return _LASTING.get(concept, "devices" if KINDS[concept].device else "others")


def sample(studies: int, seed: int) -> Iterator[Study]:
    """Draw patients until there are so many studies; the last patient may have fewer than were drawn."""
    left, number = studies, 0
    while left > 0:
        patient = sample_patient(number, seed)[:left]
        yield from patient
        left -= len(patient)
        number += 1


def sample_patient(number: int, seed: int) -> list[Study]:
    """Draw one patient: the studies in the order of time."""
    draws = Draws(seed, "patient", number)
    disease = draws.weighted({name: disease.share for name, disease in DISEASES.items()})
    subject = f"p{number:05d}"
    studies: list[Study] = []
    before: tuple[Finding, ...] = ()
    for visit in range(draws.weighted(STUDIES)):
        patient = _Patient(disease, draws, seed_of(seed, subject, visit))
        if visit:
            patient.come_back(before)
        patient.fall_ill(1.0 if visit == 0 else LATER, new=visit > 0)
        before = patient.finished()
        study_id = f"{subject}-{visit + 1}"
        front = draws.chance(DISEASES[disease].front)
        studies.append(
            Study(
                subject_id=subject,
                study_id=study_id,
                report_id=study_id,
                split=_split(number, seed),
                number=visit,
                view="AP" if front else "PA",
                findings=before,
                resolved=tuple(patient.resolved),
                images=2 if draws.chance(REPEATED) else 1,
                seed=seed_of(seed, study_id, "study"),
                body=seed_of(seed, subject, "body"),
            )
        )
    return studies


def _split(number: int, seed: int) -> str:
    """The split of a patient: each ten patients in a row are dealt out as `SPLITS` says, in a drawn order."""
    cards = [name for name, count in SPLITS.items() for _ in range(count)]
    draws = Draws(seed, "split", number // len(cards))
    for place in range(len(cards) - 1, 0, -1):
        other = draws.integer(0, place)
        cards[place], cards[other] = cards[other], cards[place]
    return cards[number % len(cards)]


class _Patient:
    """The findings of one visit while they are drawn."""

    def __init__(self, disease: str, draws: Draws, spots: int) -> None:
        self._disease = disease
        self._draws = draws
        self._spots = spots
        self._findings: list[Finding] = []
        self.resolved: list[Finding] = []

    def come_back(self, before: Sequence[Finding]) -> None:
        """Take over what was there before, changed or gone."""
        kept: list[tuple[Finding, str]] = []
        for finding in before:
            change = self._draws.weighted(CHANGES[lasting(finding.concept)])
            if change == "resolved":
                self.resolved.append(replace(finding, change=None))
            else:
                kept.append((replace(finding, change="unchanged"), change))
        self._findings = [finding for finding, _ in kept]
        for place, (finding, change) in enumerate(kept):
            if change in ("larger", "smaller"):
                grown = self._resized(finding, 1 if change == "larger" else -1)
                others = self._findings[:place] + self._findings[place + 1 :]
                if grown is not None and fits(grown, others):
                    self._findings[place] = grown

    def fall_ill(self, factor: float, new: bool) -> None:
        """Add what the disease makes, and what comes by itself."""
        disease = DISEASES[self._disease]
        side: LungSide | None = None
        for part in disease.parts:
            if self._draws.chance(part.chance * factor) and (part.only_with is None or self._has(part.only_with)):
                added = self._add(part, side if part.beside else None, new)
                side = added if added is not None else side
        for part in OTHERS.values():
            if self._draws.chance(part.chance * disease.others * factor):
                self._add(part, None, new)

    def finished(self) -> tuple[Finding, ...]:
        """The findings in the order of `KINDS`, right before left, each with what it suggests."""
        order = {concept: place for place, concept in enumerate(KINDS)}
        concepts = {finding.concept for finding in self._findings}
        found = [replace(finding, suggests=suggested(finding, concepts)) for finding in self._findings]
        return tuple(
            sorted(
                found,
                key=lambda finding: (
                    order[finding.concept],
                    SIDES.index(finding.side) if finding.side else 0,
                    ZONES.index(finding.zone) if finding.zone else 0,
                ),
            )
        )

    def _has(self, concept: str) -> bool:
        return any(finding.concept == concept for finding in self._findings)

    def _add(self, part: Part, side: LungSide | None, new: bool) -> LungSide | None:
        """Add a finding where it fits, on both sides at times. Returns its side."""
        draws, kind = self._draws, KINDS[part.concept]
        first = (side or draws.pick(SIDES)) if kind.sided else None
        sides: list[LungSide | None] = [first]
        if first is not None and draws.chance(part.both):
            sides.append("left" if first == "right" else "right")
        if part.concept in USUAL_SIDES:
            usual = draws.weighted(USUAL_SIDES[part.concept])
            sides = [usual]
        for each in sides:
            zone: Zone | None = None
            if kind.zoned:
                own = draws.weighted(part.zones or _ANY_ZONE)
                taken = [other.zone for other in self._findings if other.side == each and other.zone]
                zone = taken[0] if draws.chance(TOGETHER) and taken else own
            finding = self._drawn(part.concept, each, zone, "new" if new else None)
            if fits(finding, self._findings):
                self._findings.append(finding)
        return first

    def _drawn(self, concept: str, side: LungSide | None, zone: Zone | None, change: Change | None) -> Finding:
        draws = self._draws
        self._spots += 1
        severity: Severity = "moderate" if KINDS[concept].device else draws.weighted(GRADES)
        malpositioned = draws.chance(MALPOSITIONED.get(concept, 0.0))
        millimetres: int | None = None
        if concept in DIAMETERS:
            millimetres = draws.integer(*DIAMETERS[concept][severity])
        elif concept == "endotracheal_tube":
            where = ("too low" if draws.chance(0.6) else "too high") if malpositioned else "in place"
            millimetres = draws.integer(*TIPS[where])
        morphology: str | None = None
        if concept == "lung_opacity":
            morphology = "patchy" if draws.chance(0.4) else "hazy"
        elif concept == "mass":
            morphology = "spiculated" if draws.chance(0.5) else "lobulated"
        elif concept == "atelectasis":
            morphology = "linear"
        suggests: str | None = None
        if concept == "consolidation":
            suggests = "pneumonia" if draws.chance(AIRWAYS.get(self._disease, AIRWAYS["other"])) else None
        return Finding(
            concept, side, zone, severity, millimetres, morphology, suggests, change, malpositioned, self._spots
        )

    def _resized(self, finding: Finding, steps: int) -> Finding | None:
        """The same finding one severity larger or smaller; None where there is none."""
        place = SEVERITIES.index(finding.severity) + steps
        if not 0 <= place < len(SEVERITIES):
            return None
        severity = SEVERITIES[place]
        change: Change = "larger" if steps > 0 else "smaller"
        millimetres = finding.millimetres
        if finding.concept in DIAMETERS:
            millimetres = self._draws.integer(*DIAMETERS[finding.concept][severity])
        return replace(finding, severity=severity, change=change, millimetres=millimetres)


def suggested(finding: Finding, concepts: set[str]) -> str | None:
    """What a finding suggests by its look and by what is beside it (`concepts`); a consolidation's own look was drawn before."""
    if finding.concept == "pulmonary_edema":
        return "heart_failure" if "cardiomegaly" in concepts else None
    if finding.concept == "mass":
        return "malignancy" if finding.morphology == "spiculated" else None
    if finding.concept == "hyperinflation":
        return "copd" if finding.severity != "small" else None
    return finding.suggests


_SOLID = frozenset(("lung_opacity", "consolidation", "mass"))


def fits(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether a finding can be seen, and told from the others, where it is."""
    return all(_pair_fits(finding, other) and _pair_fits(other, finding) for other in others)


def _pair_fits(one: Finding, other: Finding) -> bool:
    pair = (one.concept, other.concept)
    if one.concept == other.concept:
        return (one.side, one.zone) != (other.side, other.zone)
    if pair == ("hyperinflation", "elevated_diaphragm"):
        return False
    if one.side is None or one.side != other.side:
        return True
    if one.concept in _SOLID and other.concept in _SOLID and one.zone == other.zone:
        return False
    if one.concept == "pleural_effusion":
        if other.concept == "elevated_diaphragm":
            return False
        hidden: dict[Severity, tuple[Zone, ...]] = {"small": (), "moderate": ("lower",), "large": ("mid", "lower")}
        return other.zone not in hidden[one.severity]
    if one.concept == "pneumothorax" and one.severity != "small":
        return other.zone is None
    return pair != ("pacemaker", "central_venous_catheter")
