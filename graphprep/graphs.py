"""Read a graphs folder: its tables as record batches or as records, and one graph as a networkx graph.

Rows are read by row group, so memory does not grow with the folder. Tables are taken to agree with each other as the
contract says; `graphprep validate` proves it. What would make reading wrong without a word (a missing or cut file, rows
that do not add up) is an error here too.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import schemas
from graphprep.errors import UserError
from graphprep.records import (
    Attribute,
    Edge,
    Image,
    Kind,
    Mention,
    Node,
    Relation,
    Report,
    ReportGraph,
    Section,
    Span,
)

#: The tables that hold the rows of a report, and the column of `reports` that counts them.
_ROWS_OF_REPORT = {"mentions": "n_mentions", "nodes": "n_nodes", "edges": "n_edges"}

#: How many ids are compared letter by letter when an id is not found.
_NEAR_IDS_COMPARED = 20_000


class GraphFolder:
    """A finished graphs folder. Iterating yields a `ReportGraph` for every report, in input order.

    Under --no-text `Report.text` and `Mention.text` are empty strings; `manifest["text"]` says so.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    def __len__(self) -> int:
        """The number of reports."""
        return sum(int(shard["tables"]["reports"]["rows"]) for shard in self.manifest["shards"])

    def __iter__(self) -> Iterator[ReportGraph]:
        for batches in self.row_groups():
            yield from _graphs(batches)

    def __repr__(self) -> str:
        return f"GraphFolder({str(self.path)!r}, {len(self)} reports, {len(self.manifest['shards'])} shards)"

    def get(self, report_id: str) -> ReportGraph:
        """The graph of one report, read from its row group alone. Raises UserError, with near ids, if there is none."""
        for part in range(len(self.manifest["shards"])):
            with self._open(part, "reports", ["report_id"]) as reports:
                groups = [
                    group
                    for group in range(reports.row_groups)
                    if reports.may_hold(group, report_id) and report_id in reports.read(group).column(0).to_pylist()
                ]
            if groups:
                batches = next(self._part(part, None, only=groups[0]))
                return next(_graphs(_rows_of(batches, report_id)))
        near = self._near_ids(report_id)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UserError(f"{self.path} holds no report {report_id!r} among its {len(self):,}.{hint}")

    def tables(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of one table (`reports`, `mentions`, `nodes`, `edges`, `rejects`), one batch a row group."""
        for part in range(len(self.manifest["shards"])):
            with self._open(part, name, columns) as file:
                for group in range(file.row_groups):
                    yield file.read(group)

    def row_groups(self, columns: Mapping[str, Sequence[str]] | None = None) -> Iterator[dict[str, pa.RecordBatch]]:
        """Record batches of `reports`, `mentions`, `nodes` and `edges` that belong to the same reports.

        `columns` maps a table to the columns wanted of it (all by default, none for a table that is left out); the
        counts `n_mentions`, `n_nodes`, `n_edges` come with `reports` in any case.
        """
        for part in range(len(self.manifest["shards"])):
            yield from self._part(part, columns)

    def vocabulary(self, kind: Kind) -> dict[str, dict[str, Any]]:
        """The vocabulary the graphs were made with: concept → its row of `vocab/{kind}.parquet`, in file order."""
        entry = self.manifest["vocabulary_files"][kind]
        with _TableFile(self.path / entry["file"], schemas.arrow_schema("vocabulary"), None) as file:
            rows = [row for group in range(file.row_groups) for row in file.read(group).to_pylist()]
        return {row["concept"]: row for row in rows}

    @cached_property
    def names(self) -> dict[Kind, dict[str, str]]:
        """Kind → concept → name, for display."""
        kinds: tuple[Kind, ...] = ("anatomy", "pathology")
        return {kind: {c: row["name"] for c, row in self.vocabulary(kind).items()} for kind in kinds}

    def _part(
        self, part: int, columns: Mapping[str, Sequence[str]] | None, only: int | None = None
    ) -> Iterator[dict[str, pa.RecordBatch]]:
        """The aligned row groups of one part, or `only` one of them; a table without wanted columns is not opened."""
        wanted: dict[str, Sequence[str] | None]
        if columns is None:
            wanted = dict.fromkeys(("reports", *_ROWS_OF_REPORT))
        else:
            counts = _ROWS_OF_REPORT.values()
            wanted = {"reports": list(dict.fromkeys([*columns.get("reports", ()), *counts]))}
            wanted |= {table: columns[table] for table in _ROWS_OF_REPORT if columns.get(table)}
        with ExitStack() as stack:
            files = {t: stack.enter_context(self._open(part, t, names)) for t, names in wanted.items()}
            groups = {table: file.row_groups for table, file in files.items()}
            if len(set(groups.values())) > 1:
                raise UserError(
                    f"The files of part {part} in {self.path} do not belong together: row groups "
                    + ", ".join(f"{table} {n}" for table, n in groups.items())
                    + ". Run `graphprep validate` on the folder, then extract again with --overwrite."
                )
            for group in range(groups["reports"]) if only is None else (only,):
                batches = {table: file.read(group) for table, file in files.items()}
                problem = _misfit(batches)
                if problem:
                    raise UserError(
                        f"Part {part}, row group {group} of {self.path}: {problem}. Run `graphprep validate` on the folder, "
                        "then extract again with --overwrite."
                    )
                yield batches

    def _open(self, part: int, table: str, columns: Sequence[str] | None) -> _TableFile:
        """A shard's file of one table, held against the manifest; `columns` are those to read, all by default."""
        entry = self.manifest["shards"][part]["tables"][table]
        file = _TableFile(self.path / entry["file"], schemas.arrow_schema(table), columns)
        if file.rows != entry["rows"]:
            file.close()
            raise UserError(
                f"{file.path} has {file.rows} rows where the manifest counts {entry['rows']}: it is another file, or was "
                "changed. Extract again with --overwrite."
            )
        return file

    def _near_ids(self, report_id: str, limit: int = 5) -> list[str]:
        """Ids that differ in case, spaces or leading zeros only, then ids spelled like this one (of the first ones)."""
        plain = _plain(report_id)
        same: list[str] = []
        compared: list[str] = []
        for batch in self.tables("reports", ["report_id"]):
            ids: list[str] = batch.column(0).to_pylist()
            same += [i for i in ids if _plain(i) == plain]
            if len(compared) < _NEAR_IDS_COMPARED:
                compared += ids
        near = difflib.get_close_matches(report_id, compared[:_NEAR_IDS_COMPARED], n=limit, cutoff=0.6)
        return list(dict.fromkeys(same + near))[:limit]


def open_graphs(folder: str | Path) -> GraphFolder:
    """Open a folder that `graphprep extract` has finished. Raises UserError if it is none, or lacks a file."""
    path = Path(folder)
    manifest_path = path / "manifest.json"
    if not manifest_path.is_file():
        raise UserError(_why_no_graphs(path))
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{manifest_path} is not valid JSON: the folder is damaged. Extract again with --overwrite."
        ) from error
    _check_manifest(manifest, manifest_path)
    for entry in _files(manifest):
        file = PurePosixPath(entry["file"])
        if file.is_absolute() or ".." in file.parts or "\\" in entry["file"]:
            raise UserError(f"{manifest_path} names a file outside its folder: {entry['file']!r}. It is not read.")
        if not (path / file).is_file():
            raise UserError(
                f"{path / file} is missing, though the manifest names it: the folder was copied in part or damaged. "
                "Copy it again, or extract again with --overwrite."
            )
    return GraphFolder(path, manifest)


def to_networkx(graph: ReportGraph, names: Mapping[Kind, Mapping[str, str]] | None = None) -> nx.DiGraph[int]:
    """The graph of a report in networkx; nodes are keyed by `node_id`.

    Nodes carry `kind`, `concept`, `name`, `side`, `assertion`, `origin`, `attributes` (kind → list of words), `sections`,
    `mentions` and `spans` (list of (start, end) in `text`); edges carry `relation` and `origin`; the graph carries
    `report_id`, `subject_id`, `study_id`, `split`, `images` (paths) and `text`. All values are plain Python, so
    `networkx.node_link_data` gives JSON. `names` are those of `GraphFolder.names`; without them the name is the concept.

    The kinds of its ends fix the relation of an edge, so two nodes have at most one in each direction and a DiGraph
    loses nothing; a graph where that does not hold, or where an edge ends at no node, raises ValueError.
    """
    report = graph.report
    result: nx.DiGraph[int] = nx.DiGraph(
        report_id=report.report_id,
        subject_id=report.subject_id,
        study_id=report.study_id,
        split=report.split,
        images=[image.path for image in report.images],
        text=report.text,
    )
    for node in graph.nodes:
        attributes: dict[str, list[str]] = {}
        for attribute in node.attributes:
            attributes.setdefault(attribute.kind, []).append(attribute.words)
        result.add_node(
            node.node_id,
            kind=node.kind,
            concept=node.concept,
            name=(names or {}).get(node.kind, {}).get(node.concept, node.concept),
            side=node.side,
            assertion=node.assertion,
            origin=node.origin,
            attributes=attributes,
            sections=list(node.sections),
            mentions=list(node.mentions),
            spans=[(span.start, span.end) for span in node.spans],
        )
    for edge in graph.edges:
        ends = f"{edge.source} → {edge.target} of report {report.report_id!r}"
        if edge.source not in result or edge.target not in result:
            raise ValueError(f"edge {ends} ends at no node")
        if result.has_edge(edge.source, edge.target):
            raise ValueError(f"edge {ends} is there twice")
        result.add_edge(edge.source, edge.target, relation=edge.relation, origin=edge.origin)
    return result


def _why_no_graphs(path: Path) -> str:
    """Why a path without a manifest cannot be opened, and what to do."""
    if not path.exists():
        return f"{path} does not exist: give the folder that `graphprep extract -o` wrote."
    if (path / ".progress").exists():
        return (
            f"The extraction into {path} was not finished: run the same `graphprep extract` command again, it goes on "
            "where it stopped."
        )
    parent = path.parent
    if (parent / "manifest.json").is_file():
        return f"{path} is a part of the graphs folder {parent}: give that folder."
    what = "is not a graphs folder: it has no manifest.json" if path.is_dir() else "is not a folder"
    return f"{path} {what}. Give the folder that `graphprep extract -o` wrote."


def _check_manifest(manifest: Any, path: Path) -> None:
    """Version and shape of what is read of a manifest."""
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, str):
        raise UserError(f"{path} is not the manifest of a graphs folder: it has no schema_version.")
    try:
        schemas.check_version(version)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    for place, expected in schemas.violations("manifest", manifest):
        raise UserError(f"{path}: {place} {expected}; the folder is damaged. Extract again with --overwrite.")


def _files(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of the manifest that name a file."""
    for shard in manifest["shards"]:
        yield from shard["tables"].values()
    yield from manifest["vocabulary_files"].values()


class _TableFile:
    """An open Parquet file of a table; a context manager. Whatever Arrow has to say of it becomes a UserError."""

    def __init__(self, path: Path, schema: pa.Schema, columns: Sequence[str] | None) -> None:
        self.path = path
        self.columns = list(columns) if columns is not None else schema.names
        with _readable(path):
            self._file = pq.ParquetFile(path)
        self.rows: int = self._file.metadata.num_rows
        self.row_groups: int = self._file.num_row_groups
        there = self._file.schema_arrow
        for name in self.columns:
            found = there.field(name).type if name in there.names else None
            if found != schema.field(name).type:
                self.close()
                raise UserError(
                    f"{path}: column {name} is {found or 'missing'}, expected {schema.field(name).type}. Run "
                    "`graphprep validate` on the folder, then extract again with --overwrite."
                )

    def read(self, group: int) -> pa.RecordBatch:
        """The wanted columns of a row group."""
        with _readable(self.path):
            table = self._file.read_row_group(group, columns=self.columns)
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)

    def may_hold(self, group: int, report_id: str) -> bool:
        """Whether the statistics of a row group allow the id in it (true without statistics)."""
        metadata = self._file.metadata.row_group(group)
        for index in range(metadata.num_columns):
            column = metadata.column(index)
            if column.path_in_schema == "report_id":
                found = column.statistics
                return found is None or not found.has_min_max or bool(found.min <= report_id <= found.max)
        return True

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> _TableFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Arrow says of a damaged or vanished file into a UserError."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet: it is cut off, damaged or not accessible ({type(error).__name__}). "
            "Copy it again, or extract again with --overwrite."
        ) from error


def _misfit(batches: Mapping[str, pa.RecordBatch]) -> str | None:
    """Why the batches cannot be rows of the same reports; None if they can."""
    reports = batches["reports"]
    for table, column in _ROWS_OF_REPORT.items():
        if table in batches:
            counted = pc.sum(reports.column(column)).as_py() or 0
            if counted != batches[table].num_rows:
                return f"{table} has {batches[table].num_rows} rows where the reports count {counted}"
    edges = batches.get("edges")
    if edges is not None and {"source", "target"} <= set(edges.schema.names):
        n_nodes = np.repeat(reports.column("n_nodes").to_numpy(), reports.column("n_edges").to_numpy())
        for end in ("source", "target"):
            ids = edges.column(end).to_numpy()
            if ((ids < 0) | (ids >= n_nodes)).any():
                return f"the {end} of an edge is no node of its report"
    return None


def _plain(report_id: str) -> str:
    """An id without what is easily mistyped: case, blanks around it, zeros before a number."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", report_id.strip().casefold())


def _rows_of(batches: dict[str, pa.RecordBatch], report_id: str) -> dict[str, pa.RecordBatch]:
    """The rows of one report out of the batches of a row group that holds it."""
    reports = batches["reports"]
    row = reports.column("report_id").to_pylist().index(report_id)
    result = {"reports": reports.slice(row, 1)}
    for table, column in _ROWS_OF_REPORT.items():
        counts = reports.column(column).to_pylist()
        result[table] = batches[table].slice(sum(counts[:row]), counts[row])
    return result


def _graphs(batches: dict[str, pa.RecordBatch]) -> Iterator[ReportGraph]:
    """The reports of a row group as records."""
    mentions = _mentions(batches["mentions"])
    nodes = _nodes(batches["nodes"])
    edges = _edges(batches["edges"])
    for row in batches["reports"].to_pylist():
        report = Report(
            report_id=row["report_id"],
            text=row["text"] or "",
            source=row["source"],
            source_row=row["source_row"],
            subject_id=row["subject_id"],
            study_id=row["study_id"],
            split=row["split"],
            images=[Image(**image) for image in row["images"]],
        )
        yield ReportGraph(
            report=report,
            sections=[Section(**section) for section in row["sections"]],
            sentences=[Span(**sentence) for sentence in row["sentences"]],
            mentions=list(itertools.islice(mentions, row["n_mentions"])),
            nodes=list(itertools.islice(nodes, row["n_nodes"])),
            edges=list(itertools.islice(edges, row["n_edges"])),
        )


def _mentions(batch: pa.RecordBatch) -> Iterator[Mention]:
    for row in batch.to_pylist():
        del row["report_id"]
        row["text"] = row["text"] or ""
        row["relations"] = [Relation(**relation) for relation in row["relations"]]
        yield Mention(**row)


def _nodes(batch: pa.RecordBatch) -> Iterator[Node]:
    for row in batch.to_pylist():
        del row["report_id"]
        row["attributes"] = [Attribute(**attribute) for attribute in row["attributes"]]
        row["spans"] = [Span(**span) for span in row["spans"]]
        yield Node(**row)


def _edges(batch: pa.RecordBatch) -> Iterator[Edge]:
    for row in batch.to_pylist():
        del row["report_id"]
        yield Edge(**row)
