"""What a report says of a study: findings stated, hedged, left out or stated wrongly, what is denied, and what is called normal.

Places and numbers must not give away whether a finding is there: so findings are denied on a side or in a zone about as often as
present ones are stated there, and a report has as many statements whatever the study holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple

from graphprep.phantom.phrases import NORMAL, Normality
from graphprep.phantom.scene import KINDS, SIDES, ZONES, Change, Finding, LungSide, Severity, Study, Zone
from graphprep.records import Assertion, Side


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """How far a report is from the whole truth.

    `omissions`: the share of present findings that a report leaves out (0.1: what readers overlook or do not mention).
    `wrong`: the share of findings stated and denied that are stated wrongly (0.0): denied though present, asserted though
    absent, or on the wrong side. What a report says wrongly is in `ReportText.wrong`.
    """

    omissions: float = 0.1
    wrong: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("omissions", self.omissions), ("wrong", self.wrong)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be a share from 0 to 1; it is {value}.")


class WrongStatement(NamedTuple):
    """A finding that the report states wrongly; `side` is what it says."""

    how: Literal["denied", "asserted", "side"]
    concept: str
    side: Side | None


LUNG_FINDINGS = (
    "lung_opacity",
    "consolidation",
    "atelectasis",
    "nodule",
    "mass",
    "calcified_granuloma",
    "pulmonary_edema",
)
_OPACITIES = frozenset(LUNG_FINDINGS) - {"calcified_granuloma"}
CHRONIC = frozenset(("scoliosis", "calcified_granuloma", "hyperinflation", "elevated_diaphragm", "cardiomegaly"))

#: How often each finding is denied, in proportion, and what else contradicts the denial.
DENIABLE: dict[str, tuple[int, frozenset[str]]] = {
    "lung_opacity": (12, _OPACITIES),
    "consolidation": (14, frozenset()),
    "atelectasis": (6, frozenset()),
    "nodule": (8, frozenset()),
    "mass": (8, frozenset()),
    "calcified_granuloma": (3, frozenset()),
    "pulmonary_edema": (8, frozenset()),
    "hyperinflation": (2, frozenset()),
    "pleural_effusion": (18, frozenset()),
    "pneumothorax": (18, frozenset()),
    "cardiomegaly": (5, frozenset()),
    "hilar_enlargement": (4, frozenset()),
    "elevated_diaphragm": (2, frozenset()),
    "rib_fracture": (6, frozenset()),
    "scoliosis": (2, frozenset()),
    "pneumonia": (5, frozenset(("lung_opacity", "consolidation"))),
    "heart_failure": (3, frozenset(("pulmonary_edema", "cardiomegaly"))),
}
#: How often a finding that would be denied is said to be possible instead.
NOT_EXCLUDED = 0.07
#: How often a finding that is there, no device, is said to be possible.
HEDGED = 0.13
#: How often a finding that is gone since the study before is said to be.
SAID_GONE = 0.7
#: How often what is alike on both sides is said as one.
JOINED = 0.75
#: From how many to how many statements a report has: what is there, and denials that make up the rest, two at least.
STATEMENTS = (4, 15)
#: How often each denial is left out for something normal, and how often no more denials follow.
LEFT_OUT, ENDED = 0.35, 0.08
#: How often denials are of a zone, of a side; else of the whole chest.
OF_ZONE, OF_SIDE = 0.42, 0.34
#: How many findings are denied in one breath; one of these.
IN_ONE_BREATH = (1, 1, 1, 2, 2, 2, 3, 4)
#: At most so many structures are called normal.
MOST_NORMAL = 5
#: What must not be there for a structure to be called normal.
_CONTRADICTS: dict[str, frozenset[str]] = {
    "clear_lungs": frozenset((*LUNG_FINDINGS, "pneumonia")),
    "normal_lung_volumes": frozenset(("hyperinflation", "atelectasis", "elevated_diaphragm")),
    "normal_heart_size": frozenset(("cardiomegaly", "heart_failure")),
    "normal_cardiomediastinal_silhouette": frozenset(("cardiomegaly", "heart_failure", "hilar_enlargement")),
    "normal_hila": frozenset(("hilar_enlargement",)),
    "normal_pulmonary_vasculature": frozenset(("pulmonary_edema", "heart_failure")),
    "normal_pleura": frozenset(("pleural_effusion", "pneumothorax")),
    "normal_diaphragm": frozenset(("elevated_diaphragm", "hyperinflation")),
    "normal_bones": frozenset(("rib_fracture", "scoliosis")),
    "normal_spine": frozenset(("scoliosis",)),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A finding as the report means to state it; `gone`: it was there before."""

    concept: str
    side: Side | None
    zone: Zone | None
    severity: Severity | None
    assertion: Assertion = "present"
    millimetres: int | None = None
    morphology: str | None = None
    suggests: str | None = None
    change: Change | None = None
    malpositioned: bool = False
    gone: bool = False

    @property
    def device(self) -> bool:
        return KINDS[self.concept].device


@dataclass(frozen=True, slots=True)
class Denial:
    """Findings denied in one breath, on a side or in a zone (None: of the whole chest)."""

    concepts: tuple[str, ...]
    side: LungSide | None
    zone: Zone | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a report says: `acute` tells whether something acute is there, `nothing` whether the chest is normal and said to be."""

    claims: tuple[Claim, ...]
    denials: tuple[Denial, ...]
    normal: tuple[Normality, ...]
    omitted: tuple[Finding, ...]
    wrong: tuple[WrongStatement, ...]
    acute: bool
    nothing: bool


_At = tuple[str, "str | None"]  # a concept, and the side that it is on


def make_plan(study: Study, options: ReportOptions, rng: Random) -> Plan:
    """Decide what the report of a study says."""
    claims, omitted, wrong = _stated(study, options, rng)
    there: set[_At] = {(finding.concept, finding.side) for finding in study.findings}
    there |= {(finding.suggests, finding.side) for finding in study.findings if finding.suggests}
    taken = there | {(claim.concept, claim.side) for claim in claims}
    denials, invented = _negatives(taken, max(2, rng.randint(*STATEMENTS) - len(claims)), options, wrong, rng)
    claims += invented
    present = {concept for concept, _ in there} | {claim.concept for claim in claims if not claim.gone}
    least = 0 if claims or denials else 1  # a report says something
    return Plan(
        tuple(claims),
        tuple(denials),
        _normal(present, rng.randint(least, MOST_NORMAL), rng),
        tuple(omitted),
        tuple(wrong),
        acute=any(name not in CHRONIC and not (name in KINDS and KINDS[name].device) for name in present),
        nothing=not present,
    )


def _stated(
    study: Study, options: ReportOptions, rng: Random
) -> tuple[list[Claim], list[Finding], list[WrongStatement]]:
    """What the report says of the findings that are there or were, what it leaves out, and which it states wrongly."""
    claims: list[Claim] = []
    omitted: list[Finding] = []
    wrong: list[WrongStatement] = []
    for concept in dict.fromkeys(finding.concept for finding in study.findings):
        found = [finding for finding in study.findings if finding.concept == concept]
        said: list[Finding] = []
        for finding in found:
            (said if rng.random() >= options.omissions else omitted).append(finding)
        if said and rng.random() < options.wrong:
            claims += _stated_wrongly(said, study.findings, wrong, rng)
        else:
            claims += _joined([_claim(finding, rng) for finding in said], rng)
    for finding in study.resolved:
        back = any((finding.concept, finding.side) == (other.concept, other.side) for other in study.findings)
        if not back and rng.random() < SAID_GONE:
            claims.append(replace(_claim(finding, rng), assertion="absent", change=None, suggests=None, gone=True))
    return claims, omitted, wrong


def _negatives(
    taken: set[_At], wanted: int, options: ReportOptions, wrong: list[WrongStatement], rng: Random
) -> tuple[list[Denial], list[Claim]]:
    """About `wanted` findings denied; and of those chosen for it the few that are asserted wrongly, or not excluded."""
    denials: list[Denial] = []
    invented: list[Claim] = []
    denied: set[_At] = set()
    while wanted > 0 and rng.random() > ENDED:
        if rng.random() < LEFT_OUT:
            wanted -= 1  # room for something normal
            continue
        denial = _denial(taken, denied, rng)
        if denial is None:
            break
        wanted -= len(denial.concepts)
        kept: list[str] = []
        for concept in denial.concepts:
            denied.add((concept, denial.side))
            draw = rng.random()
            if concept not in KINDS or draw >= options.wrong + NOT_EXCLUDED or _contradicts(concept, denied):
                kept.append(concept)
                continue
            claim = _invented(concept, denial, rng)
            if draw < options.wrong:
                wrong.append(WrongStatement("asserted", concept, claim.side))
            else:
                claim = replace(claim, assertion="uncertain")
            invented.append(claim)
            taken.add((concept, claim.side))
        if kept:
            denials.append(replace(denial, concepts=tuple(kept)))
    return denials, invented


def _contradicts(concept: str, denied: set[_At]) -> bool:
    """Whether a denial so far would not be true with this finding."""
    return any(concept in DENIABLE[name][1] for name, _ in denied)


def _claim(finding: Finding, rng: Random) -> Claim:
    return Claim(
        finding.concept,
        finding.side,
        finding.zone,
        finding.severity,
        "uncertain" if not KINDS[finding.concept].device and rng.random() < HEDGED else "present",
        finding.millimetres,
        finding.morphology,
        finding.suggests,
        finding.change,
        finding.malpositioned,
    )


def _joined(claims: list[Claim], rng: Random) -> list[Claim]:
    """Say what is alike on both sides as one ("small bilateral effusions")."""
    out: list[Claim] = []
    for claim in claims:
        twin = next(
            (
                other
                for other in out
                if {other.side, claim.side} == {"left", "right"}
                and (other.zone, other.change, other.assertion, other.suggests) == (claim.zone, claim.change, claim.assertion, claim.suggests)
                and other.millimetres is None is claim.millimetres
                and not claim.device
            ),
            None,
        )  # fmt: skip
        if twin is not None and rng.random() < JOINED:
            severity = claim.severity if claim.severity == twin.severity else None
            out[out.index(twin)] = replace(twin, side="bilateral", severity=severity)
        else:
            out.append(claim)
    return out


def _stated_wrongly(
    said: list[Finding], findings: Sequence[Finding], wrong: list[WrongStatement], rng: Random
) -> list[Claim]:
    """Put findings of one concept on the other side, where none like it is, or return them denied."""
    concept, side = said[0].concept, said[0].side
    alike = {concept} | DENIABLE.get(concept, (0, frozenset[str]()))[1]
    sides = {finding.side for finding in findings if finding.concept in alike}
    if side is not None and sides == {side} and rng.random() < 0.5:
        other: LungSide = "left" if side == "right" else "right"
        wrong.append(WrongStatement("side", concept, other))
        return [replace(_claim(finding, rng), side=other) for finding in said]
    denied = side if {finding.side for finding in findings if finding.concept == concept} == {side} else None
    wrong.append(WrongStatement("denied", concept, denied))
    return [Claim(concept, denied, None, None, "absent")]


def _invented(concept: str, denial: Denial, rng: Random) -> Claim:
    kind = KINDS[concept]
    side: Side | None = denial.side or rng.choice(SIDES) if kind.sided else None
    zone = denial.zone or rng.choice(ZONES) if kind.zoned else None
    return Claim(concept, side, zone, rng.choice(("small", "small", "moderate")))


def _denial(taken: set[_At], denied: set[_At], rng: Random) -> Denial | None:
    """Choose findings that are absent, and where: several of one breath have one place."""
    where = rng.random()
    side = rng.choice(SIDES) if where < OF_ZONE + OF_SIDE else None
    zone = rng.choice(ZONES) if where < OF_ZONE else None
    of_lung = rng.random() < 0.2  # whether what is said of a whole side may be of the lung

    def free(concept: str) -> bool:
        kind = KINDS.get(concept)
        if side is not None and (kind is None or not kind.sided):
            return False
        if zone is not None and (kind is None or not kind.zoned):
            return False
        if side is not None and zone is None and kind is not None and kind.zoned and not of_lung:
            return False
        if (
            (concept, side) in denied
            or (concept, None) in denied
            or (side is None and any(name == concept for name, _ in denied))
        ):
            return False
        return not any(
            (name == concept or name in DENIABLE[concept][1]) and (side is None or at in (side, None, "bilateral"))
            for name, at in taken
        )

    candidates = [concept for concept in DENIABLE if free(concept)]
    if not candidates:
        return None if side is None else _denial(taken, denied, rng)
    chosen: list[str] = []
    for _ in range(rng.choice(IN_ONE_BREATH)):
        left = [concept for concept in candidates if concept not in chosen and _goes_with(concept, chosen)]
        if left:
            chosen.append(rng.choices(left, [DENIABLE[concept][0] for concept in left])[0])
    return Denial(tuple(chosen), side, zone)


def _goes_with(concept: str, chosen: Sequence[str]) -> bool:
    """Whether it can stand in one list with those: who denies an opacity need not deny what is one."""
    kinds = {"consolidation", "atelectasis", "pneumonia"}
    return not ("lung_opacity" in chosen and concept in kinds) and not (
        concept == "lung_opacity" and kinds & set(chosen)
    )


def _normal(present: set[str], wanted: int, rng: Random) -> tuple[Normality, ...]:
    allowed = [
        normality
        for normality in NORMAL
        if not any(_CONTRADICTS.get(concept, frozenset()) & present for concept in normality.concepts)
    ]
    chosen: list[Normality] = []
    for _ in range(wanted):
        normality = rng.choice(allowed)
        if not any(set(normality.concepts) & set(other.concepts) for other in chosen):
            chosen.append(normality)
    return tuple(chosen)
