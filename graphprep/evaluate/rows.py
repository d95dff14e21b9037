"""What a graphs folder says, as rows of small integers: the form in which two folders are compared.

Reports are called by their number, which both sides share (their place in the gold). Rows come in pieces, each sorted by
report, and the pieces follow each other in report order; where a folder has its reports in another order, its rows go
through temporary files once (integers only, no text). So memory does not grow with the folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from graphprep.errors import UserError
from graphprep.graphs import GraphFolder

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

KINDS = ("anatomy", "pathology")
SIDES = (None, "left", "right", "bilateral")
ASSERTIONS = ("present", "uncertain", "absent")
LABELS = ("anatomy", "observation")
RELATIONS = ("modify", "located_at", "suggestive_of")
EDGES = ("located_at", "suggestive_of", "part_of")

SPAN = ("start", "end")
NODE = ("kind", "concept", "side", "assertion")

#: The columns of each table, after `report`. `text` is a hash of the report's text, 0 where there is none. A relation and
#: an edge carry what their ends are, so that rows can be compared without looking anything up.
COLUMNS: dict[str, tuple[str, ...]] = {
    "reports": ("text",),
    "mentions": (*SPAN, "label", "assertion"),
    "relations": (
        "type",
        *(f"{end}_{what}" for end in ("source", "target") for what in (*SPAN, "label", "assertion")),
    ),
    "nodes": NODE,
    "edges": ("relation", *(f"{end}_{what}" for end in ("source", "target") for what in NODE)),
}

Rows = dict[str, pa.Table]
"""A table for each of `COLUMNS`, sorted by `report`; all values are integers, places in the tuples above."""

#: Reports in one temporary file of a folder whose order is another.
_REPORTS_A_BUCKET = 50_000


class Codes:
    """Numbers for concepts, the same for both sides."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._number: dict[str, int] = {}

    def of(self, name: str) -> int:
        if name not in self._number:
            self._number[name] = len(self.names)
            self.names.append(name)
        return self._number[name]

    def column(self, concepts: pa.Array) -> Ints:
        encoded = concepts.dictionary_encode()
        numbers = np.array([self.of(name) for name in encoded.dictionary.to_pylist()], np.int64)
        return numbers[_integers(encoded.indices)]


class Source(Protocol):
    """One side of a comparison."""

    has_nodes: bool
    """Whether it holds nodes and edges, or mentions alone."""
    name: str
    """The path that messages name."""

    def report_ids(self) -> pa.Array:
        """The ids of all reports, in the order of the source."""

    def rows(self, numbers: Ints) -> Iterator[Rows]:
        """The rows of the reports that `numbers` (one for each report of the source) gives a number, -1 being none."""


class FolderSource:
    """A graphs folder; nodes and edges of other origins than `origins` are left out."""

    has_nodes = True

    def __init__(self, graphs: GraphFolder, codes: Codes, origins: Sequence[str]) -> None:
        self.graphs, self.codes, self.origins = graphs, codes, origins
        self.name = str(graphs.path)

    def report_ids(self) -> pa.Array:
        batches = [batch.column(0) for batch in self.graphs.tables("reports", ["report_id"])]
        return pa.concat_arrays(batches) if batches else pa.array([], pa.string())

    def rows(self, numbers: Ints) -> Iterator[Rows]:
        wanted = {
            "reports": ["text"],
            "mentions": [*SPAN, "label", "assertion", "relations"],
            "nodes": [*NODE, "origin"],
            "edges": ["source", "target", "relation", "origin"],
        }
        seen = 0
        for batches in self.graphs.row_groups(wanted):
            n = batches["reports"].num_rows
            yield self._rows(batches, numbers[seen : seen + n])
            seen += n

    def _rows(self, batches: dict[str, pa.RecordBatch], numbers: Ints) -> Rows:
        reports = batches["reports"]
        owner = {
            table: np.repeat(np.arange(reports.num_rows), _integers(reports.column(f"n_{table}")))
            for table in ("mentions", "nodes", "edges")
        }
        first_node = np.concatenate([[0], np.cumsum(_integers(reports.column("n_nodes")))])
        mentions = {
            "label": _places(batches["mentions"].column("label"), LABELS),
            "assertion": _places(batches["mentions"].column("assertion"), ASSERTIONS),
            **{name: _integers(batches["mentions"].column(name)) for name in SPAN},
        }
        nodes = {
            "kind": _places(batches["nodes"].column("kind"), KINDS),
            "concept": self.codes.column(batches["nodes"].column("concept")),
            "side": _places(batches["nodes"].column("side"), SIDES),
            "assertion": _places(batches["nodes"].column("assertion"), ASSERTIONS),
        }
        edges = {"relation": _places(batches["edges"].column("relation"), EDGES)}
        for end in ("source", "target"):
            row = first_node[owner["edges"]] + _integers(batches["edges"].column(end))
            edges |= {f"{end}_{name}": column[row] for name, column in nodes.items()}
        tables = {
            "reports": (np.arange(reports.num_rows), {"text": _hashes(reports.column("text"))}),
            "mentions": (owner["mentions"], mentions),
            "relations": self._relations(batches["mentions"], owner["mentions"], mentions),
            "nodes": (owner["nodes"], nodes),
            "edges": (owner["edges"], edges),
        }
        rows: Rows = {}
        for name, (report, columns) in tables.items():
            keep = numbers[report] >= 0
            if name in ("nodes", "edges"):
                keep &= _places(batches[name].column("origin"), self.origins, others=True) >= 0
            rows[name] = _table(numbers[report][keep], {column: values[keep] for column, values in columns.items()})
        return rows

    def _relations(
        self, batch: pa.RecordBatch, report: Ints, mentions: dict[str, Ints]
    ) -> tuple[Ints, dict[str, Ints]]:
        """Type and both ends of every relation, and the report (in the batch) of each."""
        source = _integers(pc.list_parent_indices(batch.column("relations")))
        flat = pc.list_flatten(batch.column("relations"))
        first, last = np.searchsorted(report, report[source], "left"), np.searchsorted(report, report[source], "right")
        target = first + _integers(pc.struct_field(flat, "target"))
        if ((target < first) | (target >= last)).any():
            raise UserError(
                f"A relation of {self.name} ends at no mention of its report. Run `graphprep validate` on the folder, "
                "then extract again with --overwrite."
            )
        columns = {"type": _places(pc.struct_field(flat, "type"), RELATIONS)}
        for end, row in (("source", source), ("target", target)):
            columns |= {f"{end}_{name}": mentions[name][row] for name in (*SPAN, "label", "assertion")}
        return report[source], columns


def in_order(pieces: Iterator[Rows], numbers: Ints) -> Iterator[Rows]:
    """The pieces in the order of their reports' numbers; as they come, where `numbers` ascend already."""
    known = numbers[numbers >= 0]
    if (np.diff(known) > 0).all():
        yield from pieces
    else:
        with TemporaryDirectory(prefix="graphprep-") as folder:
            yield from _through_files(pieces, Path(folder), int(known.max()) // _REPORTS_A_BUCKET + 1)


def _through_files(pieces: Iterator[Rows], folder: Path, buckets: int) -> Iterator[Rows]:
    with ExitStack() as stack:
        writers: dict[tuple[int, str], pa.ipc.RecordBatchFileWriter] = {}
        for rows in pieces:
            for name, table in rows.items():
                bucket = pc.divide(table.column("report"), _REPORTS_A_BUCKET)
                for number in pc.unique(bucket).to_pylist():
                    if (number, name) not in writers:
                        writer = pa.ipc.new_file(folder / f"{name}-{number}.arrow", table.schema)
                        writers[number, name] = stack.enter_context(writer)
                    writers[number, name].write_table(table.filter(pc.equal(bucket, number)))
    for number in range(buckets):
        rows = {}
        for name in COLUMNS:
            if (number, name) in writers:
                with pa.OSFile(str(folder / f"{name}-{number}.arrow")) as file:
                    table = pa.ipc.open_file(file).read_all()
                order = np.argsort(_integers(table.column("report")), kind="stable")
                rows[name] = table.take(order)
            else:
                rows[name] = empty(name)
        yield rows


def aligned(predicted: Iterator[Rows], gold: Iterator[Rows]) -> Iterator[tuple[Rows, Rows]]:
    """Pieces of both sides, in report order, that hold the same reports."""
    sides, waiting = (predicted, gold), [_nothing(), _nothing()]
    while True:
        for side in (0, 1):
            while not waiting[side]["reports"].num_rows and (piece := next(sides[side], None)) is not None:
                waiting[side] = piece
        if not all(rows["reports"].num_rows for rows in waiting):
            return
        last = min(int(rows["reports"].column("report")[-1].as_py()) for rows in waiting)
        cut = [_cut(rows, last) for rows in waiting]
        yield cut[0][0], cut[1][0]
        waiting = [rest for _, rest in cut]


def _cut(rows: Rows, last: int) -> tuple[Rows, Rows]:
    """The rows of the reports up to `last`, and the others."""
    places = {
        name: int(np.searchsorted(_integers(table.column("report")), last, "right")) for name, table in rows.items()
    }
    return (
        {name: table.slice(0, places[name]) for name, table in rows.items()},
        {name: table.slice(places[name]) for name, table in rows.items()},
    )


def columns_of(table: pa.Table, names: Sequence[str]) -> list[Ints]:
    return [_integers(table.column(name)) for name in names]


def empty(name: str) -> pa.Table:
    return _table(np.empty(0, np.int64), {column: np.empty(0, np.int64) for column in COLUMNS[name]})


def table_of(name: str, rows: Sequence[Sequence[int]]) -> pa.Table:
    """A table from rows of `report` and the columns of `COLUMNS[name]`."""
    columns = np.array(rows, np.int64).reshape(len(rows), 1 + len(COLUMNS[name])).T
    return _table(columns[0], dict(zip(COLUMNS[name], columns[1:], strict=True)))


def _nothing() -> Rows:
    return {name: empty(name) for name in COLUMNS}


def _table(report: Ints, columns: dict[str, Ints]) -> pa.Table:
    def narrow(name: str) -> pa.DataType:
        return pa.int64() if name == "text" else pa.int32()

    arrays = {"report": report, **columns}
    return pa.table({name: pa.array(values, narrow(name)) for name, values in arrays.items()})


def text_hash(text: str | None) -> int:
    """Equal texts of one process have equal hashes; 0 is no text."""
    return 0 if text is None else hash(text) or 1


def _hashes(texts: pa.Array) -> Ints:
    return np.fromiter(map(text_hash, texts.to_pylist()), np.int64, len(texts))


def _places(values: pa.Array, names: Sequence[str | None], others: bool = False) -> Ints:
    """The place of each value in `names`; -1 for others where they are allowed, and an error where not."""
    found = _integers(pc.fill_null(pc.index_in(values, pa.array(names, pa.string())), -1))
    if not others and (found < 0).any():
        expected = ", ".join(map(str, names))
        raise UserError(f"A graphs folder holds a value that is none of {expected}. Run `graphprep validate` on it.")
    return found


def _integers(values: pa.Array | pa.ChunkedArray) -> Ints:
    array = values.to_numpy() if isinstance(values, pa.ChunkedArray) else values.to_numpy(zero_copy_only=False)
    return np.asarray(array, np.int64)
