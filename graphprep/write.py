"""Graphs → the Parquet tables of `schemas/`.

`tables_of` turns the records of some reports into one Arrow table per contract table; `ShardWriter` writes them to one part,
a row group each time, so that row group k of every table belongs to the same reports. The bytes depend on the records alone
(and on the version of PyArrow): no times, no paths, one thread.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import schemas
from graphprep.files import sha256_of
from graphprep.records import Edge, Mention, Node, Reject, ReportGraph
from graphprep.resume import write_json
from graphprep.vocabulary import Vocabulary, to_rows
from schemas import TABLES, arrow_schema

FileEntry = dict[str, Any]
"""What the manifest says of a file: `file` (relative to the folder), `rows`, `sha256`."""

_PARQUET = {"version": "2.6", "compression": "zstd", "compression_level": 3, "store_schema": False}


# Records → Arrow tables


def tables_of(graphs: Sequence[ReportGraph], rejects: Sequence[Reject], text: bool) -> dict[str, pa.Table]:
    """The rows of these reports and rejects, a table for each of `schemas.TABLES`.

    Without `text`, the text of reports and mentions and the content of rejects are null. Attribute words are written as they
    are: that they come from the lexicon alone is the assembler's part.
    """
    return {
        "reports": _reports(graphs, text),
        "mentions": _mentions(graphs, text),
        "nodes": _nodes(graphs),
        "edges": _edges(graphs),
        "rejects": _rejects(rejects, text),
    }


def _reports(graphs: Sequence[ReportGraph], text: bool) -> pa.Table:
    reports = [graph.report for graph in graphs]
    images = [image for report in reports for image in report.images]
    sections = [section for graph in graphs for section in graph.sections]
    sentences = [sentence for graph in graphs for sentence in graph.sentences]
    return _table(
        "reports",
        {
            "report_id": [report.report_id for report in reports],
            "subject_id": [report.subject_id for report in reports],
            "study_id": [report.study_id for report in reports],
            "split": [report.split for report in reports],
            "images": _Lists(
                [len(report.images) for report in reports],
                {
                    "path": [image.path for image in images],
                    "view": [image.view for image in images],
                    "image_id": [image.image_id for image in images],
                },
            ),
            "text": [report.text if text else None for report in reports],
            "sections": _Lists(
                [len(graph.sections) for graph in graphs],
                {
                    "name": [section.name for section in sections],
                    "start": [section.start for section in sections],
                    "end": [section.end for section in sections],
                },
            ),
            "sentences": _Lists(
                [len(graph.sentences) for graph in graphs],
                {
                    "start": [sentence.start for sentence in sentences],
                    "end": [sentence.end for sentence in sentences],
                },
            ),
            "source": [report.source for report in reports],
            "source_row": [report.source_row for report in reports],
            "n_mentions": [len(graph.mentions) for graph in graphs],
            "n_nodes": [len(graph.nodes) for graph in graphs],
            "n_edges": [len(graph.edges) for graph in graphs],
        },
    )


def _mentions(graphs: Sequence[ReportGraph], text: bool) -> pa.Table:
    mentions: list[Mention] = list(itertools.chain.from_iterable(graph.mentions for graph in graphs))
    relations = [relation for mention in mentions for relation in mention.relations]
    return _table(
        "mentions",
        {
            "report_id": _owners(graphs, [len(graph.mentions) for graph in graphs]),
            "mention_id": [mention.mention_id for mention in mentions],
            "label": [mention.label for mention in mentions],
            "assertion": [mention.assertion for mention in mentions],
            "measurement": [mention.measurement for mention in mentions],
            "text": [mention.text if text else None for mention in mentions],
            "start": [mention.start for mention in mentions],
            "end": [mention.end for mention in mentions],
            "section": [mention.section for mention in mentions],
            "sentence": [mention.sentence for mention in mentions],
            "temporality": [mention.temporality for mention in mentions],
            "relations": _Lists(
                [len(mention.relations) for mention in mentions],
                {
                    "type": [relation.type for relation in relations],
                    "target": [relation.target for relation in relations],
                },
            ),
            "concept": [mention.concept for mention in mentions],
            "assertion_model": [mention.assertion_model for mention in mentions],
            "assertion_context": [mention.assertion_context for mention in mentions],
        },
    )


def _nodes(graphs: Sequence[ReportGraph]) -> pa.Table:
    nodes: list[Node] = list(itertools.chain.from_iterable(graph.nodes for graph in graphs))
    attributes = [attribute for node in nodes for attribute in node.attributes]
    spans = [span for node in nodes for span in node.spans]
    return _table(
        "nodes",
        {
            "report_id": _owners(graphs, [len(graph.nodes) for graph in graphs]),
            "node_id": [node.node_id for node in nodes],
            "kind": [node.kind for node in nodes],
            "concept": [node.concept for node in nodes],
            "side": [node.side for node in nodes],
            "assertion": [node.assertion for node in nodes],
            "origin": [node.origin for node in nodes],
            "attributes": _Lists(
                [len(node.attributes) for node in nodes],
                {
                    "kind": [attribute.kind for attribute in attributes],
                    "words": [attribute.words for attribute in attributes],
                },
            ),
            "sections": _Lists(
                [len(node.sections) for node in nodes],
                [section for node in nodes for section in node.sections],
            ),
            "mentions": _Lists(
                [len(node.mentions) for node in nodes],
                [mention for node in nodes for mention in node.mentions],
            ),
            "spans": _Lists(
                [len(node.spans) for node in nodes],
                {
                    "start": [span.start for span in spans],
                    "end": [span.end for span in spans],
                },
            ),
        },
    )


def _edges(graphs: Sequence[ReportGraph]) -> pa.Table:
    edges: list[Edge] = list(itertools.chain.from_iterable(graph.edges for graph in graphs))
    return _table(
        "edges",
        {
            "report_id": _owners(graphs, [len(graph.edges) for graph in graphs]),
            "source": [edge.source for edge in edges],
            "target": [edge.target for edge in edges],
            "relation": [edge.relation for edge in edges],
            "origin": [edge.origin for edge in edges],
        },
    )


def _rejects(rejects: Sequence[Reject], text: bool) -> pa.Table:
    return _table(
        "rejects",
        {
            "source": [reject.source for reject in rejects],
            "source_row": [reject.source_row for reject in rejects],
            "report_id": [reject.report_id for reject in rejects],
            "reason": [reject.reason for reject in rejects],
            "detail": [reject.detail for reject in rejects],
            "content": [reject.content if text else None for reject in rejects],
        },
    )


class _Lists:
    """A column of lists, flat: how long the list of each row is, and the items of all rows (of structs: field by field)."""

    def __init__(self, lengths: list[int], items: list[Any] | dict[str, list[Any]]) -> None:
        self.lengths = lengths
        self.items = items


def _table(name: str, columns: Mapping[str, list[Any] | pa.Array | _Lists]) -> pa.Table:
    schema = arrow_schema(name)
    return pa.Table.from_arrays([_array(columns[field.name], field) for field in schema], schema=schema)


def _array(column: list[Any] | pa.Array | _Lists, field: pa.Field) -> pa.Array:
    if isinstance(column, _Lists):
        return _list_array(column, field.type)
    array = column if isinstance(column, pa.Array) else _leaf_array(column, field.type)
    if array.null_count and not field.nullable:  # not every version of PyArrow refuses to write it
        raise ValueError(f"{field.name} must not be null: a bug of what made the record")
    return array


def _list_array(column: _Lists, kind: pa.ListType) -> pa.Array:
    if isinstance(column.items, dict):
        fields = list(kind.value_type)
        leaves = [_array(column.items[field.name], field) for field in fields]
        items = pa.StructArray.from_arrays(leaves, fields=fields)
    else:
        items = _array(column.items, kind.value_field)
    offsets = np.zeros(len(column.lengths) + 1, dtype=np.int32)
    np.cumsum(column.lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=kind)


def _leaf_array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type=kind)
    except UnicodeEncodeError:
        # Half a surrogate pair (a broken escape in JSON, an odd byte in a file name) is no character that UTF-8 could hold;
        # a question mark in its place keeps every offset.
        return pa.array(
            [None if value is None else value.encode("utf-8", "replace").decode() for value in values], kind
        )


def _owners(graphs: Sequence[ReportGraph], counts: list[int]) -> pa.Array:
    """The id of each report, repeated for each of its rows."""
    ids = _leaf_array([graph.report.report_id for graph in graphs], pa.string())
    return ids.take(pa.array(np.repeat(np.arange(len(counts), dtype=np.int32), counts)))


# Arrow tables → files


class ShardWriter:
    """Writes part `part` of every table below `folder`; a context manager.

    The files appear under their names only when all is written; after an exception nothing of the part is there.
    `close` gives, and `files` then holds, what the manifest wants to know of them.
    """

    def __init__(self, folder: str | Path, part: int) -> None:
        self.folder = Path(folder)
        self.part = part
        self.files: dict[str, FileEntry] = {}
        """Table → its file; empty until closed."""
        self._rows = dict.fromkeys(TABLES, 0)
        self._writers: dict[str, pq.ParquetWriter] = {}
        for table in TABLES:
            (self.folder / table).mkdir(parents=True, exist_ok=True)
            self._writers[table] = pq.ParquetWriter(_temporary(self._path(table)), arrow_schema(table), **_PARQUET)

    def write(self, tables: Mapping[str, pa.Table]) -> None:
        """Append one row group to every table; the rows of a report must all be in one call."""
        for table in TABLES:
            rows = tables[table].num_rows
            self._writers[table].write_table(tables[table], row_group_size=max(rows, 1))  # 0 rows are a row group, too
            self._rows[table] += rows

    def close(self) -> dict[str, FileEntry]:
        """Put the files into place; table → its file, rows and sha256."""
        if not self.files:
            for writer in self._writers.values():
                writer.close()
            entries = {table: _entry(self.folder, self._path(table), self._rows[table]) for table in TABLES}
            for table in TABLES:
                _temporary(self._path(table)).replace(self._path(table))
            self.files = entries
        return self.files

    def discard(self) -> None:
        """Remove what has been written; does nothing once closed."""
        if not self.files:
            for table, writer in self._writers.items():
                with suppress(OSError, pa.ArrowException):  # a full disk, say, from which we are just fleeing
                    writer.close()
                _temporary(self._path(table)).unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _path(self, table: str) -> Path:
        return self.folder / part_file(table, self.part)


def part_file(table: str, part: int) -> str:
    """The file of a part, relative to the folder: `reports/part-00000.parquet`."""
    return f"{table}/part-{part:05d}.parquet"


def vocabulary_file(kind: str) -> str:
    """The file of a vocabulary, relative to the folder: `vocab/anatomy.parquet`."""
    return f"vocab/{kind}.parquet"


def write_vocabulary(folder: str | Path, vocabulary: Vocabulary, counts: Mapping[str, int]) -> FileEntry:
    """Write `vocab/<kind>.parquet`; `counts` has the number of nodes by concept (concepts that it lacks have none)."""
    path = Path(folder) / vocabulary_file(vocabulary.kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**row, "count": counts.get(row["concept"], 0)} for row in to_rows(vocabulary)]
    table = pa.Table.from_pylist(rows, schema=arrow_schema("vocabulary"))
    pq.write_table(table, _temporary(path), **_PARQUET)
    entry = _entry(Path(folder), path, table.num_rows)
    _temporary(path).replace(path)
    return entry


def write_manifest(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json`, whole or not at all. ValueError if it breaks `schemas/manifest.json`: a bug of the caller."""
    for place, expected in schemas.violations("manifest", dict(manifest)):
        raise ValueError(f"manifest.json: {place or 'the document'} {expected}")
    write_json(Path(folder) / "manifest.json", manifest)


def _temporary(path: Path) -> Path:
    """Where a file is written before it gets its name; in the same folder, so that renaming is atomic."""
    return path.with_name(f".{path.name}.tmp")


def _entry(folder: Path, path: Path, rows: int) -> FileEntry:
    """The manifest's entry of a file whose bytes are still under its temporary name; they are on the disk afterwards."""
    temporary = _temporary(path)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    return {"file": path.relative_to(folder).as_posix(), "rows": rows, "sha256": sha256_of(temporary)}
