"""What is true of an image, for downstream tasks: labels, labels by place, boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from graphprep.phantom.canvas import Mask
from graphprep.phantom.scene import KINDS, SIDES, SUGGESTED, ZONES, Finding, Study
from graphprep.vocabulary import Vocabulary

#: The columns of labels.csv: what is drawn, then what the look of it suggests.
CLASSES: tuple[str, ...] = (*KINDS, *SUGGESTED)


def place_columns() -> list[str]:
    """The columns of labels-by-place.csv: `consolidation/left/lower`, `pleural_effusion/right`, `scoliosis`."""
    columns = []
    for kind in KINDS.values():
        if kind.zoned:
            columns += [f"{kind.concept}/{side}/{zone}" for side in SIDES for zone in ZONES]
        elif kind.sided:
            columns += [f"{kind.concept}/{side}" for side in SIDES]
        else:
            columns.append(kind.concept)
    return columns


def place_column(concept: str, finding: Finding) -> str:
    """The column of a concept at the place of a finding."""
    kind = KINDS[concept]
    parts = (concept, finding.side if kind.sided else None, finding.zone if kind.zoned else None)
    return "/".join(part for part in parts if part)


@dataclass(frozen=True)
class Truth:
    """The labels of images; `pathology` tells what is a kind of what."""

    pathology: Vocabulary

    def labels(self, study: Study) -> dict[str, int]:
        """1 or 0 for each of `CLASSES`: what is there, what that suggests, and whatever these are kinds of."""
        present = {name for finding in study.findings for name in (finding.concept, finding.suggests) if name}
        present |= {parent for name in present for parent in self.pathology.ancestors(name)}
        return {name: int(name in present) for name in CLASSES}

    def labels_by_place(self, study: Study) -> Mapping[str, int | None]:
        """1, 0 or None for each of `place_columns()`.

        None is not known: a finding without one place (edema) is a kind of opacity, in zones that nobody can name.
        """
        present: set[str] = set()
        somewhere: set[str] = set()
        for finding in study.findings:
            for name in (finding.concept, *self.pathology.ancestors(finding.concept)):
                if name not in KINDS:
                    continue
                known = KINDS[name].sided <= (finding.side is not None) and KINDS[name].zoned <= (
                    finding.zone is not None
                )
                if known:
                    present.add(place_column(name, finding))
                else:
                    somewhere.add(name)
        return {
            column: 1 if column in present else None if column.split("/")[0] in somewhere else 0
            for column in place_columns()
        }


def box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """The smallest box around a mask as x, y, width and height in pixels; None where the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


def masks_by_class(pairs: Iterable[tuple[Finding, Mask]]) -> dict[str, Mask]:
    """The union of the masks of each finding's class, where it is not empty."""
    merged: dict[str, Mask] = {}
    for finding, mask in pairs:
        if mask.any():
            merged[finding.concept] = merged[finding.concept] | mask if finding.concept in merged else mask
    return merged
