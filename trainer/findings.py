"""Findings by the names that people and label files give them, as questions to an image: which concept, which side, where."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.errors import UserError
from trainer.graph.batch import QuerySide
from trainer.graph.concepts import Concept, ConceptTable

if TYPE_CHECKING:
    import torch

_SIDES = {"left": QuerySide.LEFT, "right": QuerySide.RIGHT}


@dataclass(frozen=True)
class Finding:
    """A question: `name` as it was asked, `concept` a row of the table of concepts, `place` that of an anatomy, −1 for anywhere."""

    name: str
    concept: int
    side: QuerySide
    place: int = -1
    place_side: QuerySide = QuerySide.NONE


def questions(
    findings: Sequence[Finding], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Concepts (U,), sides (U,) and places (U, 2) of findings as tensors; None for the places where nobody asks for one."""
    import torch

    concept = torch.tensor([finding.concept for finding in findings], dtype=torch.long, device=device)
    side = torch.tensor([int(finding.side) for finding in findings], dtype=torch.long, device=device)
    place = None
    if any(finding.place >= 0 for finding in findings):
        rows = [(finding.place, int(finding.place_side)) for finding in findings]
        place = torch.tensor(rows, dtype=torch.long, device=device)
    return concept, side, place


def find_finding(name: str, table: ConceptTable, names: Mapping[str, int] | None = None) -> Finding | None:
    """The finding of a name, None where no concept has it.

    A name is the id, the name, a synonym or a label of a concept (`pleural_effusion`, `Pleural Effusion`), with or without
    a side: `left pleural effusion`, `pleural_effusion/left`, and with or without a place: `consolidation in the left lower lobe`,
    `consolidation/left/lower_lobe`. Findings go before anatomies, ids before names, names before synonyms, those before labels.
    `names` is `names_of(table)`, for callers that ask often.
    """
    known = names_of(table) if names is None else names
    words = _plain(name).split()
    sides = [word for word in words if word in _SIDES]
    if len(set(sides)) > 1:
        return None
    side = _SIDES[sides[0]] if sides else QuerySide.NONE
    bare = [word for word in words if word not in _SIDES]
    row = known.get(" ".join(bare))
    if row is not None:
        return None if side and not table.concepts[row].sided else Finding(name, row, side)
    for end in range(len(bare) - 1, 0, -1):
        row, place = known.get(" ".join(bare[:end])), known.get(" ".join(_without_preposition(bare[end:])))
        if row is None or place is None or table.concepts[row].kind != "pathology":
            continue
        at, found = table.concepts[place], table.concepts[row]
        if at.kind != "anatomy" or (side and not (at.sided or found.sided)):
            continue
        none = QuerySide.NONE
        return Finding(name, row, side if found.sided else none, place, side if at.sided else none)
    return None


def _without_preposition(words: Sequence[str]) -> Sequence[str]:
    start = 1 if words[0] in {"in", "at", "of", "within", "on"} else 0
    return words[start + 1 :] if words[start : start + 1] == ["the"] else words[start:]


def findings_of(names: list[str], table: ConceptTable) -> list[Finding]:
    """The findings of all names. UserError, with near names, for one that no concept has."""
    known = names_of(table)
    found = []
    for name in names:
        finding = find_finding(name, table, known)
        if finding is None:
            near = difflib.get_close_matches(_plain(name), list(known), n=3)
            hint = f" Near to it: {', '.join(near)}." if near else ""
            raise UserError(
                f"No concept of this run is called {name!r}.{hint} concepts.json of the run lists them all."
            )
        found.append(finding)
    return found


def names_of(table: ConceptTable) -> dict[str, int]:
    """Rows by plain name, the better kind of name first."""
    rows: dict[str, int] = {}
    for kind in ("pathology", "anatomy"):
        of_kind = [(row, concept) for row, concept in enumerate(table.concepts) if concept.kind == kind]
        for names in _NAMES:
            for row, concept in of_kind:
                for name in names(concept):
                    rows.setdefault(_plain(name), row)
    return rows


_NAMES: tuple[Callable[[Concept], tuple[str, ...]], ...] = (
    lambda concept: (concept.id,),
    lambda concept: (concept.name,),
    lambda concept: concept.synonyms,
    lambda concept: tuple(name for _, name in concept.labels),
)


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[^\w]|_", " ", name.lower()).split())
