"""The labels of the models, in the words of the data contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from graphprep.errors import UserError
from graphprep.extractors.radgraph.folder import ModelFolder, label_files
from graphprep.records import Assertion, Label, RelationType

RELATIONS: dict[str, RelationType] = {
    "modify": "modify",
    "located_at": "located_at",
    "suggestive_of": "suggestive_of",
}

_LABELS: dict[str, Label] = {
    "Anatomy": "anatomy",
    "Observation": "observation",
    "ANAT": "anatomy",
    "OBS": "observation",
}
_CERTAINTIES: dict[str, Assertion] = {
    "definitely present": "present",
    "definitely absent": "absent",
    "uncertain": "uncertain",
    "DP": "present",
    "DA": "absent",
    "U": "uncertain",
}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a label says of a mention."""

    label: Label
    assertion: Assertion
    measurement: bool


def meaning_of(name: str) -> Meaning:
    """The meaning of `Observation::measurement::uncertain`, or of `OBS-U` as the first model has it. Raises ValueError."""
    kind, *middle, certainty = name.split("::") if "::" in name else name.split("-")
    if kind not in _LABELS or certainty not in _CERTAINTIES or middle not in ([], ["measurement"]):
        raise ValueError(name)
    return Meaning(_LABELS[kind], _CERTAINTIES[certainty], bool(middle))


def read_meanings(folder: ModelFolder) -> dict[str, Meaning]:
    """The meaning of every label of a model. Raises UserError for one that is not known, of mentions or of relations."""
    mentions, relations = (folder.labels / file for file in label_files(folder.name))
    meanings = {}
    for line, name in _lines(mentions):
        try:
            meanings[name] = meaning_of(name)
        except ValueError:
            raise UserError(
                f"{mentions}, line {line}: {name!r} is no label of RadGraph. Expected such as Anatomy::uncertain or OBS-DP."
            ) from None
    for line, name in _lines(relations):
        if name not in RELATIONS:
            raise UserError(
                f"{relations}, line {line}: {name!r} is no relation of RadGraph. Expected one of {', '.join(RELATIONS)}."
            )
    return meanings


def _lines(path: Path) -> list[tuple[int, str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(number, line) for number, line in enumerate(lines, 1) if line]  # the first stands for no label
