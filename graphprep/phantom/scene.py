"""What is true of a phantom image: the patient, the pose, the findings. Image, labels and report are all made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LungSide = Literal["left", "right"]
Zone = Literal["upper", "mid", "lower"]
Severity = Literal["small", "moderate", "large"]
Change = Literal["new", "unchanged", "larger", "smaller"]

ZONES: tuple[Zone, ...] = ("upper", "mid", "lower")
SIDES: tuple[LungSide, ...] = ("right", "left")


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A finding that the phantom can draw.

    `concept` is its id in the vocabulary of findings; `sided` tells whether it is on one side, `zoned` whether it is in
    one zone of a lung; `device` whether it is a tube, a line or an implant.
    """

    concept: str
    sided: bool
    zoned: bool
    device: bool = False


#: Every finding that is drawn, in the order of the columns of labels.csv.
KINDS: dict[str, FindingKind] = {
    kind.concept: kind
    for kind in (
        FindingKind("lung_opacity", sided=True, zoned=True),  # hazy, ill-defined
        FindingKind("consolidation", sided=True, zoned=True),  # dense; with air bronchograms it suggests pneumonia
        FindingKind("atelectasis", sided=True, zoned=True),  # bands and loss of volume
        FindingKind("nodule", sided=True, zoned=True),
        FindingKind("mass", sided=True, zoned=True),
        FindingKind("calcified_granuloma", sided=True, zoned=True),
        FindingKind("pulmonary_edema", sided=False, zoned=False),
        FindingKind("hyperinflation", sided=False, zoned=False),
        FindingKind("pleural_effusion", sided=True, zoned=False),
        FindingKind("pneumothorax", sided=True, zoned=False),
        FindingKind("cardiomegaly", sided=False, zoned=False),
        FindingKind("hilar_enlargement", sided=True, zoned=False),
        FindingKind("elevated_diaphragm", sided=True, zoned=False),
        FindingKind("rib_fracture", sided=True, zoned=False),
        FindingKind("scoliosis", sided=False, zoned=False),
        FindingKind("endotracheal_tube", sided=False, zoned=False, device=True),
        FindingKind("enteric_tube", sided=False, zoned=False, device=True),
        FindingKind("central_venous_catheter", sided=True, zoned=False, device=True),
        FindingKind("pacemaker", sided=True, zoned=False, device=True),
        FindingKind("chest_tube", sided=True, zoned=False, device=True),
    )
}


#: The words that `Finding.morphology` may hold, by finding; all others have None.
MORPHOLOGIES: dict[str, tuple[str, ...]] = {
    "lung_opacity": ("hazy", "patchy"),
    "atelectasis": ("linear",),
    "mass": ("lobulated", "spiculated"),
}

#: What `Finding.suggests` may hold: columns of labels.csv after those of KINDS.
SUGGESTED: tuple[str, ...] = ("pneumonia", "heart_failure", "malignancy", "copd")


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a study, as it is drawn.

    `suggests` is the concept that its look and place speak for, and nothing else does: `pneumonia` (a consolidation with air
    bronchograms), `heart_failure` (edema with a large heart) …; None where the look speaks for nothing.
    `change` is against the study before, None in a first study. `millimetres` is a measurable diameter, or how far a tube's tip
    is above the carina. `malpositioned` is for devices.
    """

    concept: str
    side: LungSide | None = None
    zone: Zone | None = None
    severity: Severity = "moderate"
    millimetres: int | None = None
    morphology: str | None = None
    suggests: str | None = None
    change: Change | None = None
    malpositioned: bool = False
    spot: int = 0  # seed of its exact place and outline; the same in every study that has the finding


@dataclass(frozen=True, slots=True)
class Study:
    """One examination: what is there (`findings`), and what was there before and is gone (`resolved`)."""

    subject_id: str
    study_id: str
    report_id: str
    split: str
    number: int  # 0 for the subject's first
    view: Literal["PA", "AP"]
    findings: tuple[Finding, ...]
    resolved: tuple[Finding, ...]
    images: int  # 1, or 2 where the exposure was repeated
    seed: int  # of everything random that is drawn or written of it
    body: int = 0  # seed of the patient's build; the same in every study of the subject
