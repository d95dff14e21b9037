"""The table of concepts that a graph folder's vocabularies give, and what a statement about one of them implies of the others.

Rows are anatomies first, then pathologies, both in vocabulary order. A *fact* is (concept, side, state), its *key* is
`concept * 3 + side` with side NONE, LEFT or RIGHT. What a stated node implies depends on nothing but the vocabulary, so it is
worked out once, here, for every possible node, as one ragged table (`Implications`) that `trainer.graph.states` looks up:

- **sides**: bilateral is left and right; one side present is present without side; absent without side is absent left and right;
- **hierarchy**: a present child makes its parents present; an absent parent makes its children absent;
- **opposites**: what is present excludes its opposites with all that is below them (clear lungs ⇒ no opacity of the lung, and no
  atelectasis); exclusion holds both ways. A finding that is only known to be somewhere excludes a normality as a whole, but no
  other finding: hyperinflation on the left says nothing of the right.

A normality is true of the whole where a finding is true of a part, so its sides turn round: present without side is present left
and right, absent on one side is absent without side.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.graph.batch import QuerySide, State

NONE, LEFT, RIGHT, BILATERAL = QuerySide
SIDES_OF_A_QUERY = 3
SIDES_OF_A_NODE = 4
STATES = 4


@dataclass(frozen=True)
class Concept:
    """One row of the table; references to others are rows, −1 for none."""

    id: str
    name: str
    kind: str  # anatomy | pathology
    category: str | None
    parent: int
    part_of: int
    site: int
    sided: bool  # a pathology takes the sides of its nodes as they come
    opposites: tuple[int, ...]
    synonyms: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]  # (label set, name)
    count: int


@dataclass(frozen=True)
class Implications:
    """For the node (concept, side, state), row `(concept * 4 + side) * 4 + state`: the facts from `start[row]` to `start[row + 1]`."""

    start: Tensor  # (C * 16 + 1,)
    key: Tensor  # (F,) concept * 3 + side
    state: Tensor  # (F,)

    def to(self, device: torch.device) -> Implications:
        return Implications(self.start.to(device), self.key.to(device), self.state.to(device))

    def expand(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All facts of `rows` (R,): which of the rows each fact is from (G,), its key (G,) and its state (G,)."""
        counts = self.start[rows + 1] - self.start[rows]
        source = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        first = torch.cumsum(counts, 0) - counts
        fact = torch.arange(len(source), device=rows.device) - first[source] + self.start[rows][source]
        return source, self.key[fact], self.state[fact]


class ConceptTable:
    """All concepts of a graph folder. `from_rows` reads vocabulary rows, `save` and `load` a JSON file beside a checkpoint."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = tuple(concepts)
        self._on_device: dict[tuple[str, torch.device], Any] = {}

    @classmethod
    def from_rows(
        cls, anatomy_rows: Iterable[Mapping[str, Any]], pathology_rows: Iterable[Mapping[str, Any]]
    ) -> ConceptTable:
        """The table of the rows of `vocab/anatomy.parquet` and `vocab/pathology.parquet`, each in the order of `index`."""
        anatomies = sorted(anatomy_rows, key=lambda row: row["index"])
        pathologies = sorted(pathology_rows, key=lambda row: row["index"])
        place = {row["concept"]: index for index, row in enumerate(anatomies)}
        finding = {row["concept"]: index for index, row in enumerate(pathologies, start=len(anatomies))}

        def concept(row: Mapping[str, Any], kind: str, own: Mapping[str, int]) -> Concept:
            return Concept(
                id=row["concept"],
                name=row["name"],
                kind=kind,
                category=row["category"],
                parent=own.get(row["parent"], -1),
                part_of=place.get(row["part_of"], -1),
                site=place.get(row["site"], -1),
                sided=bool(row["sided"]) if kind == "anatomy" else True,
                opposites=tuple(own[other] for other in row["opposite"] or () if other in own),
                synonyms=tuple(row["synonyms"] or ()),
                labels=tuple((label["set"], label["name"]) for label in row["labels"] or ()),
                count=int(row["count"]),
            )

        return cls(
            [concept(row, "anatomy", place) for row in anatomies]
            + [concept(row, "pathology", finding) for row in pathologies]
        )

    def save(self, path: Path) -> None:
        rows = [asdict(concept) for concept in self.concepts]
        path.write_text(json.dumps({"concepts": rows}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ConceptTable:
        """UserError where the file is no table of concepts."""
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["concepts"]
            for row in rows:
                row["opposites"] = tuple(row["opposites"])
                row["synonyms"] = tuple(row["synonyms"])
                row["labels"] = tuple((label_set, name) for label_set, name in row["labels"])
            return cls([Concept(**row) for row in rows])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a table of concepts; take the one that was saved with the run ({type(error).__name__})."
            ) from error

    def with_counts(self, counts: Sequence[int]) -> ConceptTable:
        """The same concepts with other counts (C,), such as those in training reports alone."""
        return ConceptTable(
            [replace(concept, count=int(count)) for concept, count in zip(self.concepts, counts, strict=True)]
        )

    def __len__(self) -> int:
        return len(self.concepts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConceptTable) and self.concepts == other.concepts

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def anatomy_count(self) -> int:
        return sum(concept.kind == "anatomy" for concept in self.concepts)

    @cached_property
    def _row_of(self) -> dict[tuple[str, str], int]:
        return {(concept.kind, concept.id): row for row, concept in enumerate(self.concepts)}

    def row(self, kind: str, concept_id: str) -> int:
        """The row of a concept; KeyError where there is none."""
        return self._row_of[kind, concept_id]

    def rows_in(self, other: ConceptTable) -> Tensor:
        """For every row here, the row of the same concept in `other` (C,), −1 where `other` lacks it."""
        return torch.tensor([other._row_of.get((concept.kind, concept.id), -1) for concept in self.concepts])

    # Columns as tensors, once per device

    def column(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """One of `parent`, `part_of`, `site`, `sided`, `count`, `is_pathology`, `is_finding`, `is_normality`, each (C,)."""
        key = (name, torch.device(device))
        if key not in self._on_device:
            values: list[int] | list[bool]
            if name == "is_pathology":
                values = [concept.kind == "pathology" for concept in self.concepts]
            elif name in ("is_finding", "is_normality"):
                values = [concept.category == name.removeprefix("is_") for concept in self.concepts]
            else:
                values = [getattr(concept, name) for concept in self.concepts]
            self._on_device[key] = torch.tensor(values, device=device)
        column: Tensor = self._on_device[key]
        return column

    def ancestors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Pairs (concept, ancestor), each (A,): the concept itself, what it is a kind of, and what an anatomy is a part of."""
        key = ("ancestors", torch.device(device))
        if key not in self._on_device:
            pairs = [(row, above) for row in range(len(self)) for above in self.up(row)]
            self._on_device[key] = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).T
        pairs_on_device: Tensor = self._on_device[key]
        return pairs_on_device[0], pairs_on_device[1]

    def implications(self, closure: bool, device: torch.device | str = "cpu") -> Implications:
        """What each possible node implies; without `closure` only that bilateral is left and right."""
        key = (f"implications {closure}", torch.device(device))
        if key not in self._on_device:
            self._on_device[key] = self._implications(closure).to(torch.device(device))
        implications: Implications = self._on_device[key]
        return implications

    # The hierarchy

    def up(self, row: int) -> list[int]:
        """The concept, and all that it is a kind or a part of, nearest first. A circle in the vocabulary ends at its start."""
        return self._reach(row, self._above)

    def down(self, row: int) -> list[int]:
        """The concept, and all that is a kind or a part of it."""
        return self._reach(row, self._below)

    @cached_property
    def _above(self) -> list[list[int]]:
        return [[row for row in (concept.parent, concept.part_of) if row >= 0] for concept in self.concepts]

    @cached_property
    def _below(self) -> list[list[int]]:
        below: list[list[int]] = [[] for _ in self.concepts]
        for row, above in enumerate(self._above):
            for one in above:
                below[one].append(row)
        return below

    @cached_property
    def _opposites(self) -> list[list[int]]:
        both: list[set[int]] = [set() for _ in self.concepts]
        for row, concept in enumerate(self.concepts):
            for other in concept.opposites:
                both[row].add(other)
                both[other].add(row)
        return [sorted(rows) for rows in both]

    @staticmethod
    def _reach(row: int, neighbours: list[list[int]]) -> list[int]:
        seen, waiting = [row], deque([row])
        while waiting:
            for one in neighbours[waiting.popleft()]:
                if one not in seen:
                    seen.append(one)
                    waiting.append(one)
        return seen

    # What a node implies

    def _implications(self, closure: bool) -> Implications:
        start, keys, states = [0], list[int](), list[int]()
        for row, concept in enumerate(self.concepts):
            for side in range(SIDES_OF_A_NODE):
                for state in range(STATES):
                    facts = self._facts(row, concept, QuerySide(side), State(state), closure)
                    keys += [of * SIDES_OF_A_QUERY + at for of, at, _ in facts]
                    states += [value for _, _, value in facts]
                    start.append(len(keys))
        return Implications(
            torch.tensor(start), torch.tensor(keys, dtype=torch.long), torch.tensor(states, dtype=torch.long)
        )

    def _facts(
        self, row: int, concept: Concept, side: QuerySide, state: State, closure: bool
    ) -> list[tuple[int, int, int]]:
        """The facts (concept, side, state) that follow from one node, each once, in a fixed order."""
        if state == State.UNKNOWN:
            return []
        sides = [LEFT, RIGHT] if side == BILATERAL else [side]
        if not closure:
            return [(row, at, state) for at in sides]
        if concept.kind == "anatomy":
            facts = self._of_anatomy(row, sides, state)
        elif state == State.ABSENT:
            facts = [fact for at in sides for fact in self._denied(row, at)]
            if side == BILATERAL and concept.category != "normality":
                facts += self._denied(row, NONE)
        else:
            facts = [fact for at in sides for fact in self._affirmed(row, at, state)]
            if side == BILATERAL:
                facts += self._affirmed(row, NONE, state)
        return sorted(set(facts))

    def _affirmed(self, row: int, side: QuerySide, state: State) -> list[tuple[int, int, int]]:
        """What follows from a pathology that is there, or may be there (which excludes nothing)."""
        facts: list[tuple[int, int, int]] = []
        whole = self.concepts[row].category == "normality"
        for above in self.up(row):
            facts.append((above, side, state))
            if whole and side == NONE:
                facts += [(above, LEFT, state), (above, RIGHT, state)]
            if not whole and side != NONE:
                facts.append((above, NONE, state))
            if state == State.PRESENT:
                for other in self._opposites[above]:
                    facts += self._denied(other, side)
        return facts

    def _denied(self, row: int, side: QuerySide) -> list[tuple[int, int, int]]:
        """What follows from a pathology that is not there."""
        if self.concepts[row].category == "normality":
            return [(row, at, State.ABSENT) for at in {side, NONE}]
        sides = [NONE, LEFT, RIGHT] if side == NONE else [side]
        return [(below, at, State.ABSENT) for below in self.down(row) for at in sides]

    def _of_anatomy(self, row: int, sides: list[QuerySide], state: State) -> list[tuple[int, int, int]]:
        """An abnormal part makes the whole abnormal; a normal whole makes its parts normal."""
        facts: list[tuple[int, int, int]] = []
        for side in (self.fold(row, side) for side in sides):
            if state == State.ABSENT:
                for below in self.down(row):
                    if side == NONE:
                        at = [NONE, LEFT, RIGHT] if self.concepts[below].sided else [NONE]
                    else:  # of a part without sides nobody knows on which side it is, itself aside
                        at = [side] if self.concepts[below].sided else []
                    facts += [(below, one, state) for one in at]
            else:
                for above in self.up(row):
                    facts += [(above, one, state) for one in {self.fold(above, side), NONE}]
        return facts

    def fold(self, row: int, side: QuerySide) -> QuerySide:
        """The side that a concept can have: none, for an anatomy of which there is only one."""
        return side if self.concepts[row].sided else NONE
