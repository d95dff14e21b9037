"""Precision, recall and F1 of rows against rows, and how sure they are.

A row of one side matches a row of the other where the columns of the measure agree, each row once. Counts are kept for
every report, so that the intervals can be drawn over reports: what is in one report is not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from graphprep.evaluate.rows import NODE, SPAN, Flags, Ints, Rows, columns_of

#: Resamples that are weighed at once.
_AT_ONCE = 16
#: Reports that are weighed at once.
_REPORTS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Measure:
    """What is counted: rows of `table` that agree in `columns`; with `distinct`, equal rows of a report count once."""

    name: str
    table: str
    columns: tuple[str, ...]
    distinct: bool = False


def _ends(*names: str) -> tuple[str, ...]:
    return tuple(f"{end}_{name}" for end in ("source", "target") for name in names)


MENTION_MEASURES = (
    Measure("mentions.span", "mentions", SPAN),
    Measure("mentions.span_label", "mentions", (*SPAN, "label")),
    Measure("mentions", "mentions", (*SPAN, "label", "assertion")),
    Measure("relations", "relations", ("type", *_ends(*SPAN))),
    Measure("relations.typed", "relations", ("type", *_ends(*SPAN, "label", "assertion"))),
)
GRAPH_MEASURES = (
    Measure("nodes.concept", "nodes", ("kind", "concept"), distinct=True),
    Measure("nodes.concept_assertion", "nodes", ("kind", "concept", "assertion"), distinct=True),
    Measure("nodes", "nodes", NODE),
    Measure("edges", "edges", ("relation", *_ends(*NODE))),
)


@dataclass
class Counts:
    """How many rows match, were predicted and are in the gold."""

    matched: int = 0
    predicted: int = 0
    gold: int = 0

    def add(self, matched: int, predicted: int, gold: int) -> None:
        self.matched += matched
        self.predicted += predicted
        self.gold += gold

    def scores(self) -> dict[str, Any]:
        """Precision, recall and F1, None where nothing could have been right, with the counts."""
        precision, recall, f1 = (
            part / whole if whole else None
            for part, whole in (
                (self.matched, self.predicted),
                (self.matched, self.gold),
                (2 * self.matched, self.predicted + self.gold),
            )
        )
        return {
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "matched": self.matched,
            "predicted": self.predicted,
            "gold": self.gold,
        }


@dataclass
class Tally:
    """The counts of every measure in every report, and of every type; filled piece by piece."""

    measures: Sequence[Measure]
    by_type: dict[str, dict[tuple[int, ...], Counts]] = field(default_factory=dict)
    _pieces: list[npt.NDArray[np.int32]] = field(default_factory=list)

    def add(self, predicted: Rows, gold: Rows, types: dict[str, Sequence[str]]) -> dict[str, tuple[Flags, Flags]]:
        """Count a piece; `types` names the columns by which a measure is split. Returns the rows matched, by measure."""
        reports = columns_of(gold["reports"], ["report"])[0]
        piece = np.zeros((len(reports), len(self.measures), 3), np.int32)
        flags = {}
        for number, measure in enumerate(self.measures):
            tables = predicted[measure.table], gold[measure.table]
            counted, found = match(*tables, ("report", *measure.columns), measure.distinct)
            flags[measure.name] = found
            for place, (table, rows) in enumerate(
                ((tables[0], found[0]), (tables[0], counted[0]), (tables[1], counted[1]))
            ):
                row = np.searchsorted(reports, columns_of(table, ["report"])[0][rows])
                piece[:, number, place] = np.bincount(row, minlength=len(reports))
            for name, columns in types.items():
                if name.split("/")[0] == measure.name:
                    self._add_types(self.by_type.setdefault(name, {}), tables, counted, found, columns)
        self._pieces.append(piece)
        return flags

    def _add_types(
        self,
        into: dict[tuple[int, ...], Counts],
        tables: tuple[pa.Table, pa.Table],
        counted: tuple[Flags, Flags],
        found: tuple[Flags, Flags],
        columns: Sequence[str],
    ) -> None:
        for table, rows, role in (
            (tables[0], found[0], "matched"),
            (tables[0], counted[0], "predicted"),
            (tables[1], counted[1], "gold"),
        ):
            values = np.stack([column[rows] for column in columns_of(table, columns)], axis=1)
            kinds, times = np.unique(values, axis=0, return_counts=True)
            for kind, n in zip(kinds.tolist(), times.tolist(), strict=True):
                into.setdefault(tuple(kind), Counts()).add(**{"matched": 0, "predicted": 0, "gold": 0, role: n})

    def per_report(self) -> npt.NDArray[np.int32]:
        """(reports, measures, 3): matched, predicted, gold."""
        pieces = self._pieces or [np.zeros((0, len(self.measures), 3), np.int32)]
        self._pieces = [np.concatenate(pieces)]
        return self._pieces[0]

    def scores(self, resamples: int, seed: int, advance: Callable[[int], None]) -> dict[str, dict[str, Any]]:
        """The scores of every measure; with `resamples`, their 95 % intervals under `interval`."""
        counts = self.per_report()
        totals = counts.sum(axis=0, dtype=np.int64)
        result = {m.name: Counts(*map(int, totals[i])).scores() for i, m in enumerate(self.measures)}
        if resamples and len(counts):
            for measure, interval in zip(self.measures, intervals(counts, resamples, seed, advance), strict=True):
                result[measure.name]["interval"] = interval
        return result


def match(
    predicted: pa.Table, gold: pa.Table, columns: Sequence[str], distinct: bool = False
) -> tuple[tuple[Flags, Flags], tuple[Flags, Flags]]:
    """The rows that count on each side (all, or the first of equal ones), and those of them that have a match.

    Of equal rows, as many match as the other side has.
    """
    n = predicted.num_rows
    key = identity(
        [np.concatenate(pair) for pair in zip(columns_of(predicted, columns), columns_of(gold, columns), strict=True)]
    )
    keys = key.max(initial=-1) + 1
    times = [np.bincount(side, minlength=keys) for side in (key[:n], key[n:])]
    ranks = [_rank(side) for side in (key[:n], key[n:])]
    if distinct:
        counted = ranks[0] == 0, ranks[1] == 0
        return counted, (counted[0] & (times[1][key[:n]] > 0), counted[1] & (times[0][key[n:]] > 0))
    everything = np.ones(n, bool), np.ones(len(key) - n, bool)
    return everything, (ranks[0] < times[1][key[:n]], ranks[1] < times[0][key[n:]])


def identity(columns: Sequence[Ints]) -> Ints:
    """A dense number for each row: equal rows, and no others, have equal numbers. Values are not negative."""
    key = np.zeros(len(columns[0]), np.int64)
    size = 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if size * width >= 2**62:
            key, size = _dense(key)
        key, size = key * width + column, size * width
    return _dense(key)[0]


def _dense(key: Ints) -> tuple[Ints, int]:
    values, inverse = np.unique(key, return_inverse=True)
    return np.asarray(inverse.reshape(-1), np.int64), max(len(values), 1)


def _rank(key: Ints) -> Ints:
    """How many equal keys stand before each."""
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    first = np.searchsorted(ordered, ordered, "left")
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - first
    return rank


def intervals(
    counts: npt.NDArray[np.integer[Any]], resamples: int, seed: int, advance: Callable[[int], None] = lambda _: None
) -> list[dict[str, list[float] | None]]:
    """95 % percentile intervals of precision, recall and F1 over resampled reports.

    `counts` is (reports, measures, 3) as `Tally.per_report` gives it; the same counts and seed give the same intervals.
    An interval is None where no resample holds anything to score. `advance` is told how many resamples are done.
    """
    reports, measures, _ = counts.shape
    random = np.random.default_rng(seed)
    totals = np.zeros((resamples, measures * 3))
    flat = counts.reshape(reports, measures * 3)
    for first in range(0, resamples, _AT_ONCE):
        rows = totals[first : first + _AT_ONCE]
        drawn = np.stack([np.bincount(random.integers(0, reports, reports), minlength=reports) for _ in rows])
        for start in range(0, reports, _REPORTS_AT_ONCE):
            some = slice(start, start + _REPORTS_AT_ONCE)
            rows += drawn[:, some].astype(float) @ flat[some].astype(float)  # whole numbers below 2^53: exact
        advance(first + len(rows))
    matched, predicted, gold = totals.reshape(resamples, measures, 3).transpose(2, 1, 0)
    result = []
    for m in range(measures):
        pairs = {
            "precision": (matched[m], predicted[m]),
            "recall": (matched[m], gold[m]),
            "f1": (2 * matched[m], predicted[m] + gold[m]),
        }
        result.append({name: _middle(part, whole) for name, (part, whole) in pairs.items()})
    return result


def _middle(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> list[float] | None:
    known = whole > 0
    if not known.any():
        return None
    low, high = np.percentile(part[known] / whole[known], [2.5, 97.5])
    return [float(low), float(high)]
