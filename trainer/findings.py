"""Findings by the names that people and label files give them, as questions to an image: which concept, which side."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from trainer.errors import UserError
from trainer.graph.batch import QuerySide
from trainer.graph.concepts import Concept, ConceptTable

_SIDES = {"left": QuerySide.LEFT, "right": QuerySide.RIGHT}


@dataclass(frozen=True)
class Finding:
    """A question: `name` as it was asked, `concept` a row of the table of concepts."""

    name: str
    concept: int
    side: QuerySide


def find_finding(name: str, table: ConceptTable, names: Mapping[str, int] | None = None) -> Finding | None:
    """The finding of a name, None where no concept has it.

    A name is the id, the name, a synonym or a label of a concept (`pleural_effusion`, `Pleural Effusion`), with or without
    a side: `left pleural effusion`, `pleural_effusion/left`. Findings go before anatomies, ids before names, names before
    synonyms, those before labels. `names` is `names_of(table)`, for callers that ask often.
    """
    words = _plain(name).split()
    sides = [word for word in words if word in _SIDES]
    if len(set(sides)) > 1:
        return None
    side = _SIDES[sides[0]] if sides else QuerySide.NONE
    bare = " ".join(word for word in words if word not in _SIDES)
    row = (names_of(table) if names is None else names).get(bare)
    if row is None or (side and not table.concepts[row].sided):
        return None
    return Finding(name, row, side)


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
