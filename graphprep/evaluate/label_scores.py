"""How far the labels agree that follow from two folders of graphs, label by label, as labellers are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from graphprep.errors import UserError
from graphprep.evaluate.rows import Ints
from graphprep.evaluate.score import Counts
from graphprep.graphs import GraphFolder
from graphprep.labels import WRITTEN, LabelSet, label_set_of, labelled

#: What is scored of a label → the values that count.
_VALUES = {"positive": "1", "uncertain": "-1", "denied": "0"}


def label_scores(
    folders: tuple[GraphFolder, GraphFolder], numbers: tuple[Ints, Ints], name: str
) -> dict[str, Any] | None:
    """Label → `positive`, `uncertain`, `denied` → scores over the reports that both folders number, predicted first.

    `all` sums up the labels. None where the vocabularies give no concept a label of the set. Raises UserError for a set that
    is not known, or whose labels are others in the two folders.
    """
    sets = label_set_of(folders[0], name), label_set_of(folders[1], name)
    if sets[0].columns != sets[1].columns:
        raise UserError(f"The vocabularies of the two folders have other labels in {name}: they cannot be compared.")
    if not all(each.own.any() for each in sets):
        return None
    predicted, gold = (_cells(*side) for side in zip(folders, sets, numbers, strict=True))
    result: dict[str, Any] = {}
    total = {value: Counts() for value in _VALUES}
    for column, label in enumerate(sets[0].columns):
        result[label] = {}
        for value, written in _VALUES.items():
            one, other = (cells[:, column] == WRITTEN.index(written) for cells in (predicted, gold))
            counts = int((one & other).sum()), int(one.sum()), int(other.sum())
            result[label][value] = Counts(*counts).scores()
            total[value].add(*counts)
    return {"all": {value: counts.scores() for value, counts in total.items()}, **result}


def _cells(folder: GraphFolder, label_set: LabelSet, numbers: Ints) -> npt.NDArray[np.int8]:
    """The cells of the reports with a number, in the order of the numbers, (reports, columns)."""
    pieces = [cells for _, cells in labelled(folder, label_set)]
    known = np.flatnonzero(numbers >= 0)
    cells: npt.NDArray[np.int8] = np.concatenate(pieces)[known[np.argsort(numbers[known])]]
    return cells


def label_rows(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The scores as rows of a table: a title and the scores, the empty ones left out."""
    return [
        (f"{label}: {value}", score)
        for label, values in found.items()
        for value, score in values.items()
        if score["predicted"] or score["gold"]
    ]
