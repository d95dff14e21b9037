"""Does a `graphs/` folder say what `schemas/` promises? Every file, every value, every reference.

Checked in this order: the manifest; then each file against the manifest (there, whole, its rows and checksum as stated); then,
a row group at a time so that memory does not grow with the folder, the values of each table against its schema, and the tables
of a part against each other; at the end the totals. Of each check the first failure is named and the others are counted.
Nothing here quotes the report: a problem gives file, row, report id and what was expected.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import schemas
from graphprep.errors import UserError
from graphprep.files import sha256_of
from graphprep.write import part_file, vocabulary_file
from schemas import TABLES, Schema, arrow_schema

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass
class Problem:
    """Where a check failed first, and how often it failed."""

    file: str
    """Relative to the folder, with forward slashes."""
    row: int | None
    """Row of the file, from 0; None: the problem is the file's as a whole."""
    message: str
    report_id: str | None = None
    count: int = 1
    """Rows, list items or files that fail the same check in the folder."""

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file}, row {self.row} (from 0)"
        if self.report_id is not None:
            place += f", report {self.report_id!r}"
        return f"{place}: {self.message}" + (f" ({self.count - 1:,} more like it)" if self.count > 1 else "")


@dataclass
class ValidationReport:
    """What `validate` found."""

    problems: list[Problem]
    skipped: list[str]
    """Checks that were left out and why, in words."""
    counts: dict[str, int]
    """Table → rows read."""

    @property
    def ok(self) -> bool:
        """Whether all that was checked holds."""
        return not self.problems


def validate(folder: str | Path) -> ValidationReport:
    """Check a folder against the data contract. UserError if there is no such folder."""
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; give the folder that `graphprep extract -o` wrote.")
    found = _Findings()
    totals = _Totals()
    manifest = _manifest(path, found)
    if manifest is not None:
        graphs = _Graphs(path, manifest, found)
        _check_run_file(graphs)
        _check_surplus_files(graphs)
        _check_part_numbers(graphs)
        if not manifest["text"]:
            found.skip("that sections, sentences, mentions and spans end inside the text: the folder is without text")
            found.skip("that mentions spell what stands at their offsets: the folder is without text")
        anatomy = _vocabulary(graphs, "anatomy", None)
        vocabularies = {"anatomy": anatomy, "pathology": _vocabulary(graphs, "pathology", anatomy)}
        for part in range(len(manifest["shards"])):
            _check_part(graphs, part, vocabularies, totals)
        _check_unique_ids(graphs, totals)
        _check_totals(graphs, vocabularies, totals)
    return ValidationReport(found.problems, found.skipped, {table: totals.rows[table] for table in TABLES})


# What the checks work with


class _Findings:
    """Collects problems (of each check the first one, and how many there were) and checks left out."""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}
        self._skipped: dict[str, None] = {}  # a set that keeps its order

    @property
    def problems(self) -> list[Problem]:
        return list(self._problems.values())

    @property
    def skipped(self) -> list[str]:
        return list(self._skipped)

    def file(self, check: str, file: str, message: str) -> None:
        """Note that a file as a whole fails `check` (a key that is never shown)."""
        self._add(check, Problem(file, None, message))

    def rows(self, check: str, rows: _Rows, bad: Mask, message: str) -> None:
        """Note the rows of a row group where `bad`, a value for each, holds."""
        self.items(check, rows, np.arange(rows.n), bad, message)

    def items(self, check: str, rows: _Rows, owner: Ints, bad: Mask, message: str) -> None:
        """Note the list items where `bad` holds; `owner` has the row of each item."""
        failing = owner[bad]
        if len(failing):
            row = int(failing[0])
            self._add(check, Problem(rows.file, rows.first + row, message, rows.report_id(row), len(failing)))

    def skip(self, what: str) -> None:
        """Note that something is not checked, and why."""
        self._skipped[what] = None

    def _add(self, check: str, problem: Problem) -> None:
        if check in self._problems:
            self._problems[check].count += problem.count
        else:
            self._problems[check] = problem


@dataclass
class _Graphs:
    """The folder, its manifest, and what is found wrong with it."""

    path: Path
    manifest: dict[str, Any]
    found: _Findings

    @cached_property
    def newer(self) -> bool:
        """Whether a newer minor version wrote it: columns that we do not know are its own affair then."""
        return schemas.check_version(self.manifest["schema_version"]) > schemas.check_version(schemas.SCHEMA_VERSION)


@dataclass
class _Totals:
    """What adds up over the parts: a few numbers, and eight bytes for each report."""

    rows: Counter[str] = field(default_factory=Counter)
    """Table → rows."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason → rows of `rejects`."""
    nodes: dict[str, Counter[str]] = field(default_factory=lambda: {"anatomy": Counter(), "pathology": Counter()})
    """Kind → concept → rows of `nodes`."""
    ids: list[tuple[str, int, Ints]] = field(default_factory=list)
    """File, first row and hashes of the report ids of each row group of `reports`."""
    unread: set[str] = field(default_factory=set)
    """Tables of which something could not be read."""


class _Rows:
    """Some rows of a table; columns come as plain arrays, with a stand-in where a null breaks the schema."""

    def __init__(self, file: str, first: int, table: pa.Table) -> None:
        self.file = file
        self.first = first
        """Row of the file that these begin at."""
        self.n: int = table.num_rows
        self._table = table

    def values(self, name: str) -> pa.Array:
        return _one_array(self._table.column(name))

    def ints(self, name: str) -> Ints:
        return _ints(self.values(name))

    def items(self, name: str) -> _Items:
        return _Items(self.values(name))

    def null(self, name: str) -> Mask:
        return _mask(self.values(name).is_null())

    def equal(self, name: str, value: str) -> Mask:
        return _mask(pc.equal(self.values(name), value))

    def report_id(self, row: int) -> str | None:
        if "report_id" not in self._table.column_names:
            return None
        value: str | None = self._table.column("report_id")[row].as_py()
        return value


class _Items:
    """The items of a list column, one after the other."""

    def __init__(self, lists: pa.Array) -> None:
        self.lengths = _ints(pc.list_value_length(lists), null=0)
        """Items of each row."""
        self.first: Ints = np.concatenate(([0], np.cumsum(self.lengths)))[:-1]
        """Index of the first item of each row."""
        self.owner: Ints = np.repeat(np.arange(len(self.lengths)), self.lengths)
        """Row of each item."""
        self.values = lists.flatten()

    def field(self, name: str) -> pa.Array:
        return pc.struct_field(self.values, name)

    def ints(self, name: str) -> Ints:
        return _ints(self.field(name))

    def of(self, rows: Ints) -> tuple[Ints, Ints]:
        """The items of these rows (repeats allowed): pairs of an index into `rows` and the index of an item."""
        lengths = self.lengths[rows]
        which = np.repeat(np.arange(len(rows)), lengths)
        within = np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return which, self.first[rows][which] + within


class _Texts:
    """Some texts as bytes, and where each code point of them begins."""

    def __init__(self, texts: pa.Array) -> None:
        self._bytes, offsets = _bytes(texts)
        begins = np.flatnonzero((self._bytes & 0xC0) != 0x80)  # all bytes but those that continue a code point
        self._begin: Ints = np.append(begins, len(self._bytes))
        self._first: Ints = np.searchsorted(self._begin, offsets)
        self.length: Ints = np.diff(self._first)
        """Code points of each text."""

    def spell(self, text: Ints, start: Ints, end: Ints, words: pa.Array) -> Mask:
        """Whether `words[i]` is what stands from `start[i]` to `end[i]` in `text[i]`, which must lie inside it."""
        begin = self._begin[self._first[text] + start]
        lengths = self._begin[self._first[text] + end] - begin
        letters, offsets = _bytes(words)
        same: Mask = lengths == np.diff(offsets)
        which = np.repeat(np.flatnonzero(same), lengths[same])  # of each byte to compare: the index of its words
        within = np.arange(len(which)) - np.repeat(np.cumsum(lengths[same]) - lengths[same], lengths[same])
        differs = self._bytes[begin[which] + within] != letters[offsets[:-1][which] + within]
        same[which[differs]] = False
        return same


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([*column.chunks, pa.array([], column.type)])


def _ints(values: pa.Array, null: int = -1) -> Ints:
    numbers: Ints = pc.fill_null(values, null).to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _mask(values: pa.Array) -> Mask:
    """A null counts as false."""
    mask: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _bytes(strings: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints]:
    """The bytes of all the strings, and where each begins (and the last one ends); a null is empty."""
    strings = pc.fill_null(strings, "")
    _, offsets, data = strings.buffers()
    if len(strings) == 0 or data is None:
        return np.zeros(0, np.uint8), np.zeros(len(strings) + 1, np.int64)
    ends = np.frombuffer(offsets, np.int32)[strings.offset : strings.offset + len(strings) + 1].astype(np.int64)
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]], ends - ends[0]


def _strangers(values: pa.Array, known: pa.Array) -> Mask:
    """Which values are neither null nor among the known ones."""
    return _mask(pc.invert(pc.is_in(values, value_set=known))) & _mask(values.is_valid())


# The folder: manifest, run.json, surplus files


def _manifest(folder: Path, found: _Findings) -> dict[str, Any] | None:
    """The manifest, if it is one that can be worked with."""
    if not (folder / "manifest.json").is_file():
        if (folder / ".progress").exists():
            remedy = (
                "the extraction was not finished; run the same `graphprep extract` again, it goes on where it stopped"
            )
        else:
            remedy = "give the folder that `graphprep extract -o` wrote"
        found.file("manifest", "manifest.json", f"is missing: {remedy}")
        return None
    document = _json_document(folder, "manifest.json", found)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, str):  # first of all: of another major nothing else is known
        try:
            schemas.check_version(version)
        except ValueError as error:
            found.file("version", "manifest.json", str(error))
            return None
    return document if document is not None and _obeys("manifest", document, found) else None


def _check_run_file(graphs: _Graphs) -> None:
    if (graphs.path / "run.json").exists():
        document = _json_document(graphs.path, "run.json", graphs.found)
        if document is not None:
            _obeys("run", document, graphs.found)


def _json_document(folder: Path, name: str, found: _Findings) -> Any:
    """The content of a JSON file; None (and a problem) if it is none."""
    try:
        document = json.loads((folder / name).read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if document is None:
        found.file(name, name, "cannot be read as JSON in UTF-8: cut off or damaged")
    return document


def _obeys(name: str, document: Any, found: _Findings) -> bool:
    broken = list(schemas.violations(name, document))
    for place, expected in broken:
        found.file(f"{name} {place}", f"{name}.json", f"{place or 'the document'} {expected}")
    return not broken


def _check_surplus_files(graphs: _Graphs) -> None:
    """Files that the manifest does not name would be taken for parts of these graphs."""
    named = {entry["file"] for shard in graphs.manifest["shards"] for entry in shard["tables"].values()}
    named |= {entry["file"] for entry in graphs.manifest["vocabulary_files"].values()}
    for table in (*TABLES, "vocab"):
        for path in sorted((graphs.path / table).glob("*.parquet*")):
            file = f"{table}/{path.name}"
            if file not in named:
                graphs.found.file("surplus file", file, "is not in the manifest: left over from another run? Remove it")


def _check_part_numbers(graphs: _Graphs) -> None:
    for place, shard in enumerate(graphs.manifest["shards"]):
        if shard["part"] != place:
            graphs.found.file(
                "part", "manifest.json", f"shards[{place}].part must be {place}: parts count from 0 without gaps"
            )


# A file: there, whole, with the rows and columns it should have


def _open(graphs: _Graphs, schema: str, file: str, entry: dict[str, Any], stack: ExitStack) -> pq.ParquetFile | None:
    """The Parquet file of an entry of the manifest, if its columns can be read as `schema` says."""
    found = graphs.found
    if entry["file"] != file:  # nothing else is opened, so nothing outside the folder
        found.file("file name", "manifest.json", f"must name {file} in its place, it names another file")
        return None
    if not (graphs.path / file).is_file():
        found.file("file missing", file, "is missing, though the manifest names it: copy it again, or extract again")
        return None
    try:
        if sha256_of(graphs.path / file) != entry["sha256"]:
            found.file("sha256", file, "has been changed: its SHA-256 is not the manifest's")
        parquet = stack.enter_context(pq.ParquetFile(graphs.path / file))
        columns = {column.name: column.type for column in parquet.schema_arrow}
    except (OSError, pa.ArrowException):
        found.file("parquet", file, "cannot be read as Parquet: cut off or damaged; copy it again, or extract again")
        return None
    rows = parquet.metadata.num_rows
    if rows != entry["rows"]:
        found.file("rows", file, f"has {rows:,} rows where the manifest says {entry['rows']:,}")
    usable = True
    for column in arrow_schema(schema):
        if column.name not in columns:
            found.file(f"{schema}.{column.name} missing", file, f"column {column.name} is missing")
            usable = False
        elif not _same_type(columns[column.name], column.type):
            found.file(
                f"{schema}.{column.name} type",
                file,
                f"column {column.name} must be {column.type}, it is {columns[column.name]}",
            )
            usable = False
    if not graphs.newer:
        for name in sorted(columns.keys() - set(arrow_schema(schema).names)):
            message = f"column {name} is not in version {schemas.SCHEMA_VERSION} of the schema"
            found.file(f"{schema}.{name} surplus", file, message)
    return parquet if usable else None


def _same_type(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether types agree, whatever they declare of nulls (values are looked at) and call the items of lists."""
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _same_type(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        ones, others = ({child.name: child.type for child in kind} for kind in (one, other))
        return ones.keys() == others.keys() and all(_same_type(kind, others[name]) for name, kind in ones.items())
    return bool(one == other)


def _read(
    graphs: _Graphs, schema: str, file: str, parquet: pq.ParquetFile, groups: list[int], first: int
) -> _Rows | None:
    """Row groups of a file that `_open` gave; `first` is the row that they begin at."""
    try:
        table = parquet.read_row_groups(groups, columns=arrow_schema(schema).names, use_threads=False)
        table.validate(full=True)  # strings are UTF-8, lists begin where the one before ends
    except (OSError, pa.ArrowException):
        graphs.found.file(
            "row group", file, f"cannot be read from row {first} on: damaged; copy it again, or extract again"
        )
        return None
    return _Rows(file, first, table)


# The values of a table against its schema


def _check_values(name: str, rows: _Rows, found: _Findings) -> None:
    for column, spec in schemas.load(name)["properties"].items():
        _check_column(column, spec, rows.values(column), np.arange(rows.n), f"{name}.{column}", rows, found)


def _check_column(
    shown: str, spec: Schema, values: pa.Array, owner: Ints, check: str, rows: _Rows, found: _Findings
) -> None:
    """The values of a column, or of a part of a nested one, against `spec`; `owner` has the row that each is in."""

    def note(bad: Mask, expected: str) -> None:
        found.items(f"{check} {expected}", rows, owner, bad, f"{shown} {expected}")

    if values.null_count and not schemas.allows_null(spec):
        note(_mask(values.is_null()), "must not be null")
    if "enum" in spec:
        allowed = [value for value in spec["enum"] if value is not None]
        note(_strangers(values, pa.array(allowed, values.type)), f"must be one of {', '.join(allowed)}")
    if "minimum" in spec:
        note(_mask(pc.less(values, spec["minimum"])), f"must be at least {spec['minimum']}")
    if "minLength" in spec:
        note(_mask(pc.equal(pc.binary_length(values), 0)), "must not be empty")
    if "pattern" in spec:
        note(_mask(pc.invert(pc.match_substring_regex(values, spec["pattern"]))), f"must match {spec['pattern']}")
    if "items" in spec:
        items = _Items(values)
        _check_column(f"{shown}[]", spec["items"], items.values, owner[items.owner], f"{check}[]", rows, found)
    for name, child in spec.get("properties", {}).items():
        part = pc.struct_field(values, name)
        _check_column(f"{shown}.{name}", child, part, owner, f"{check}.{name}", rows, found)


# The vocabularies


@dataclass
class _Vocabulary:
    """What nodes and mentions are checked against."""

    rows: _Rows
    concepts: pa.Array
    sided: pa.Array
    """The concepts that may have a side."""


Vocabularies = dict[str, _Vocabulary | None]


def _vocabulary(graphs: _Graphs, kind: str, anatomy: _Vocabulary | None) -> _Vocabulary | None:
    """The vocabulary of a folder, once checked by itself; None if it cannot be read. `anatomy`: where sites are looked up."""
    file, found = vocabulary_file(kind), graphs.found
    with ExitStack() as stack:
        parquet = _open(graphs, "vocabulary", file, graphs.manifest["vocabulary_files"][kind], stack)
        groups = list(range(parquet.num_row_groups)) if parquet is not None else []
        rows = _read(graphs, "vocabulary", file, parquet, groups, 0) if parquet is not None else None
    if rows is None:
        found.skip(f"that {kind} concepts are in the vocabulary: {file} cannot be read")
        return None
    _check_values("vocabulary", rows, found)
    concepts = rows.values("concept")
    found.rows("index", rows, rows.ints("index") != np.arange(rows.n), "index must count the rows from 0")
    repeated = _ints(pc.index_in(concepts, value_set=concepts)) != np.arange(rows.n)
    found.rows("concept", rows, repeated, "concept must be unique; a row before has the same")
    _check_concepts_of(rows, "parent", concepts, "a concept of this vocabulary", found)
    if kind == "anatomy":
        _check_concepts_of(rows, "part_of", concepts, "a concept of this vocabulary", found)
        found.rows("sided", rows, rows.null("sided"), "sided must be true or false for an anatomy")
    else:
        opposite = rows.items("opposite")
        strange = _strangers(opposite.values, concepts)
        found.items("opposite", rows, opposite.owner, strange, "opposite must hold concepts of this vocabulary")
        found.rows("category", rows, rows.null("category"), "category must be given for a pathology")
        if anatomy is not None:
            _check_concepts_of(rows, "site", anatomy.concepts, "a concept of vocab/anatomy", found)
    stated = graphs.manifest["vocabulary"][kind]["concepts"]
    if stated != rows.n:
        found.file(f"concepts {kind}", file, f"has {rows.n:,} concepts where the manifest says {stated:,}")
    return _Vocabulary(rows, concepts, concepts.filter(pa.array(_mask(rows.values("sided")))))


def _check_concepts_of(rows: _Rows, column: str, known: pa.Array, what: str, found: _Findings) -> None:
    found.rows(f"vocab {column}", rows, _strangers(rows.values(column), known), f"{column} must be {what} or null")


# A part: its files, and row group by row group their values and how they refer to each other


def _check_part(graphs: _Graphs, part: int, vocabularies: Vocabularies, totals: _Totals) -> None:
    found = graphs.found
    entries = graphs.manifest["shards"][part]["tables"]
    with ExitStack() as stack:
        files: dict[str, pq.ParquetFile] = {}
        for table in TABLES:
            parquet = _open(graphs, table, part_file(table, part), entries[table], stack)
            if parquet is None:
                totals.unread.add(table)
            else:
                files[table] = parquet
        numbers = {table: parquet.num_row_groups for table, parquet in files.items()}
        aligned = len(set(numbers.values())) <= 1
        if not aligned:
            shown = ", ".join(f"{table} {number}" for table, number in numbers.items())
            message = f"the tables of a part must have the same row groups; here are {shown}"
            found.file("row groups", part_file("reports", part), message)
        first = dict.fromkeys(files, 0)
        for step in range(max(numbers.values(), default=0) if aligned else 1):
            rows: dict[str, _Rows] = {}
            for table, parquet in files.items():
                groups = [step] if aligned else list(range(parquet.num_row_groups))
                read = _read(graphs, table, part_file(table, part), parquet, groups, first[table])
                first[table] += sum(parquet.metadata.row_group(group).num_rows for group in groups)
                if read is None:
                    totals.unread.add(table)
                    continue
                rows[table] = read
                _check_values(table, read, found)
                _count(table, read, totals)
            _check_row_group(graphs, part, rows, vocabularies)


def _count(table: str, rows: _Rows, totals: _Totals) -> None:
    totals.rows[table] += rows.n
    if table == "reports":
        hashes = np.fromiter(map(hash, rows.values("report_id").to_pylist()), np.int64, rows.n)
        totals.ids.append((rows.file, rows.first, hashes))
    elif table == "rejects":
        totals.rejected.update(_value_counts(rows.values("reason")))
    elif table == "nodes":
        for kind, counter in totals.nodes.items():
            of_kind = rows.values("concept").filter(pa.array(rows.equal("kind", kind)))
            counter.update(_value_counts(of_kind))


def _value_counts(values: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values.drop_null()).to_pylist()}


@dataclass
class _Reports:
    """The reports of a row group, as the other tables refer to them."""

    rows: _Rows
    sections: _Items
    sentences: _Items
    texts: _Texts
    has_text: Mask
    """Which reports have their text here."""

    def beyond(self, report: Ints, end: Ints) -> Mask:
        """Which ends lie after the end of their report's text, where it is there."""
        return self.has_text[report] & (end > self.texts.length[report])


@dataclass
class _Members:
    """The rows of another table that belong to the reports of a row group."""

    rows: _Rows
    report: Ints
    """Index of the report of each row."""
    count: Ints
    """Rows of each report."""
    first: Ints
    """Index of the first row of each report."""


def _check_row_group(graphs: _Graphs, part: int, rows: dict[str, _Rows], vocabularies: Vocabularies) -> None:
    """How the tables refer to each other, as far as they could be read."""
    found = graphs.found
    if len(rows) < len(TABLES):
        found.skip(f"how the tables of part {part} refer to each other, in part: not all of it can be read")
    if "rejects" in rows and not graphs.manifest["text"]:
        _check_absent(rows["rejects"], "content", found)
    if "reports" not in rows:
        return
    reports = _check_reports(graphs, rows["reports"])
    mentions = _members(reports, rows.get("mentions"), "n_mentions", "mention_id", found)
    nodes = _members(reports, rows.get("nodes"), "n_nodes", "node_id", found)
    edges = _members(reports, rows.get("edges"), "n_edges", None, found)
    if mentions is not None:
        _check_mentions(graphs, reports, mentions, vocabularies)
    if nodes is not None:
        _check_nodes(reports, nodes, mentions, vocabularies, found)
    if nodes is not None and edges is not None:
        _check_edges(edges, nodes, found)


def _check_absent(rows: _Rows, column: str, found: _Findings) -> None:
    message = f"{column} must be null: the manifest says that the folder is without text"
    found.rows(f"no {column}", rows, ~rows.null(column), message)


def _check_reports(graphs: _Graphs, rows: _Rows) -> _Reports:
    found = graphs.found
    if graphs.manifest["text"]:
        found.rows(
            "reports.text", rows, rows.null("text"), "text must not be null: the manifest says that text is there"
        )
    else:
        _check_absent(rows, "text", found)
    reports = _Reports(
        rows, rows.items("sections"), rows.items("sentences"), _Texts(rows.values("text")), ~rows.null("text")
    )
    for name, items, empty in (("sections", reports.sections, True), ("sentences", reports.sentences, False)):
        start, end = items.ints("start"), items.ints("end")
        short = end < start if empty else end <= start
        found.items(f"{name} start", rows, items.owner, short, f"{name}[].end must be after start")
        outside = reports.beyond(items.owner, end)
        found.items(f"{name} end", rows, items.owner, outside, f"{name}[].end must be inside the text")
    images = rows.items("images")
    leaves = _mask(pc.match_substring_regex(images.field("path"), _LEAVES_ROOT))
    found.items("image path", rows, images.owner, leaves, "images[].path must stay below the image root")
    return reports


_LEAVES_ROOT = r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x00"
"""A path that is absolute, on a drive, goes up, or ends early."""


def _members(
    reports: _Reports, rows: _Rows | None, counter: str, number: str | None, found: _Findings
) -> _Members | None:
    """The rows of a table by report; None where that cannot be told (and a problem, unless the table is not there)."""
    if rows is None:
        return None
    table = rows.file.split("/")[0]
    ids = reports.rows.values("report_id")
    report = _ints(pc.index_in(rows.values("report_id"), value_set=ids))
    orphan = report < 0
    found.rows(
        f"{table} report_id", rows, orphan, "report_id must be that of a report in the same row group of reports"
    )
    disorder = np.append(False, np.diff(report) < 0) if rows.n else orphan
    if not orphan.any():
        found.rows(f"{table} order", rows, disorder, "the rows of a report must be together, in the order of reports")
    if orphan.any() or disorder.any():
        return None
    count = np.bincount(report, minlength=reports.rows.n).astype(np.int64)
    first = np.cumsum(count) - count
    wrong = count != reports.rows.ints(counter)
    found.rows(counter, reports.rows, wrong, f"{counter} must be the number of rows that the report has in {table}")
    if number is not None:
        gap = rows.ints(number) != np.arange(rows.n) - first[report]
        found.rows(number, rows, gap, f"{number} must count the rows of the report from 0")
    return _Members(rows, report, count, first)


def _check_mentions(graphs: _Graphs, reports: _Reports, mentions: _Members, vocabularies: Vocabularies) -> None:
    found, rows, report = graphs.found, mentions.rows, mentions.report
    start, end = rows.ints("start"), rows.ints("end")

    # where it stands and what stands there
    beyond = reports.beyond(report, end)
    found.rows("mention start", rows, end <= start, "end must be after start")
    found.rows("mention end", rows, beyond, "end must be inside the text of the report")
    if graphs.manifest["text"]:
        found.rows(
            "mentions.text", rows, rows.null("text"), "text must not be null: the manifest says that text is there"
        )
    else:
        _check_absent(rows, "text", found)
    readable = np.flatnonzero((start >= 0) & (end > start) & ~beyond & reports.has_text[report] & ~rows.null("text"))
    words = rows.values("text").take(pa.array(readable))
    misspelt = np.zeros(rows.n, np.bool_)
    misspelt[readable] = ~reports.texts.spell(report[readable], start[readable], end[readable], words)
    found.rows("spelling", rows, misspelt, "text must be what stands from start to end in the text of the report")

    # its sentence and its section
    sentence, sentences = rows.ints("sentence"), reports.sentences
    known = (sentence >= 0) & (sentence < sentences.lengths[report])
    found.rows("sentence", rows, ~known, "sentence must be an index into the sentences of the report")
    index = sentences.first[report[known]] + sentence[known]
    outside = np.zeros(rows.n, np.bool_)
    outside[known] = (start[known] < sentences.ints("start")[index]) | (end[known] > sentences.ints("end")[index])
    found.rows("in sentence", rows, outside, "start and end must be inside the sentence that is named")
    which, item = reports.sections.of(report)
    same_name = _same(rows.values("section"), which, reports.sections.field("name"), item)
    covers = (reports.sections.ints("start")[item] <= start[which]) & (end[which] <= reports.sections.ints("end")[item])
    missing = ~rows.null("section") & ~_any(which[same_name], rows.n)
    outside = ~rows.null("section") & ~_any(which[same_name & covers], rows.n) & ~missing
    found.rows("section", rows, missing, "section must be the name of a section of the report")
    found.rows("in section", rows, outside, "start and end must be inside a section of the name that is given")

    # what it refers to
    relations = rows.items("relations")
    target, owner = relations.ints("target"), relations.owner
    dangling = target >= mentions.count[report[owner]]
    found.items("relation target", rows, owner, dangling, "relations[].target must be a mention of the report")
    itself = target == rows.ints("mention_id")[owner]
    found.items("relation to itself", rows, owner, itself, "relations[].target must be another mention")
    loaded = [vocabulary.concepts for vocabulary in vocabularies.values() if vocabulary is not None]
    if len(loaded) == len(vocabularies):
        strange = _strangers(rows.values("concept"), pa.concat_arrays(loaded))
        found.rows("mention concept", rows, strange, "concept must be in one of the vocabularies of the folder")


def _check_nodes(
    reports: _Reports, nodes: _Members, mentions: _Members | None, vocabularies: Vocabularies, found: _Findings
) -> None:
    rows, report = nodes.rows, nodes.report

    # what it is
    for kind, vocabulary in vocabularies.items():
        if vocabulary is not None:
            strange = rows.equal("kind", kind) & _strangers(rows.values("concept"), vocabulary.concepts)
            found.rows(f"{kind} concept", rows, strange, f"concept must be in vocab/{kind}, as kind says")
    if (anatomy := vocabularies["anatomy"]) is not None:
        one_sided = (
            rows.equal("kind", "anatomy") & _strangers(rows.values("concept"), anatomy.sided) & ~rows.null("side")
        )
        one_sided &= ~_strangers(rows.values("concept"), anatomy.concepts)
        found.rows("side", rows, one_sided, "side must be null: the vocabulary knows no left and right of this anatomy")
    key = np.stack([report, *(_codes(rows.values(column)) for column in ("kind", "concept", "side", "assertion"))])
    message = "a report must have one node for each kind, concept, side and assertion; a row before has the same"
    found.rows("node unique", rows, _repeated(key), message)

    # its attributes
    attributes = rows.items("attributes")
    keys = pc.binary_join_element_wise(attributes.field("kind"), attributes.field("words"), "\0")
    falls = np.zeros(len(keys), np.bool_)
    if len(keys) > 1:  # bytes of UTF-8 are in the order of code points, and \0 is before all of them
        falls[1:] = _mask(pc.less_equal(keys[1:], keys[:-1])) & (np.diff(attributes.owner) == 0)
    found.items("attributes", rows, attributes.owner, falls, "attributes must be sorted by kind and words, each once")

    # where the report says it
    sections = rows.items("sections")
    which, item = reports.sections.of(report[sections.owner])
    same_name = _same(sections.values, which, reports.sections.field("name"), item)
    unknown = ~_any(which[same_name], len(sections.owner))
    found.items("node section", rows, sections.owner, unknown, "sections must hold names of sections of the report")
    said, stated = rows.items("mentions"), rows.equal("origin", "stated")
    found.rows(
        "node unsaid", rows, stated & (said.lengths == 0), "mentions must not be empty for a node that is stated"
    )
    if mentions is not None:
        dangling = _ints(said.values) >= mentions.count[report[said.owner]]
        found.items("node mention", rows, said.owner, dangling, "mentions must hold mentions of the report")
    spans = rows.items("spans")
    start, end = spans.ints("start"), spans.ints("end")
    found.items("span start", rows, spans.owner, end <= start, "spans[].end must be after start")
    beyond = reports.beyond(report[spans.owner], end)
    found.items("span end", rows, spans.owner, beyond, "spans[].end must be inside the text of the report")


_ENDS = {
    "located_at": ("pathology", "anatomy"),
    "suggestive_of": ("pathology", "pathology"),
    "part_of": ("anatomy", "anatomy"),
}
"""Relation → the kinds of its source and of its target."""


def _check_edges(edges: _Members, nodes: _Members, found: _Findings) -> None:
    rows, report = edges.rows, edges.report
    ends = {name: rows.ints(name) for name in ("source", "target")}
    on_nodes = np.ones(rows.n, np.bool_)
    for name, end in ends.items():
        dangling = (end < 0) | (end >= nodes.count[report])
        found.rows(f"edge {name}", rows, dangling, f"{name} must be a node of the report")
        on_nodes &= ~dangling
    found.rows("edge loop", rows, ends["source"] == ends["target"], "source and target must be two nodes")
    for relation, kinds in _ENDS.items():
        fits = np.ones(rows.n, np.bool_)
        for end, kind in zip(ends.values(), kinds, strict=True):
            fits[on_nodes] &= nodes.rows.equal("kind", kind)[nodes.first[report[on_nodes]] + end[on_nodes]]
        message = f"{relation} must go from {kinds[0]} to {kinds[1]}"
        found.rows(f"edge {relation}", rows, rows.equal("relation", relation) & ~fits, message)
    message = "two nodes must be joined once in each direction; a row before joins the same"
    found.rows("edge unique", rows, _repeated(np.stack([report, *ends.values()])), message)


def _same(one: pa.Array, of_one: Ints, other: pa.Array, of_other: Ints) -> Mask:
    """Whether `one[of_one[i]]` and `other[of_other[i]]` are the same string, for each i; a null never is."""
    known = other.drop_null().unique()
    ones, others = (_ints(pc.index_in(values, value_set=known)) for values in (one, other))
    same: Mask = (ones[of_one] == others[of_other]) & (ones[of_one] >= 0)
    return same


def _any(indices: Ints, n: int) -> Mask:
    """Which of the numbers below n are among the indices."""
    mask = np.zeros(n, np.bool_)
    mask[indices] = True
    return mask


def _codes(values: pa.Array) -> Ints:
    """A number for each value, the same for equal ones; null is one of them."""
    return _ints(values.dictionary_encode().indices)


def _repeated(keys: Ints) -> Mask:
    """Which columns of `keys` are there before."""
    order = np.lexsort(keys)  # stable: equal columns stay in their order
    arranged = keys[:, order]
    mask = np.zeros(keys.shape[1], np.bool_)
    mask[order[1:]] = (arranged[:, 1:] == arranged[:, :-1]).all(axis=0)
    return mask


# What adds up over the parts


def _check_unique_ids(graphs: _Graphs, totals: _Totals) -> None:
    """No report id twice in the folder, by hashes of eight bytes."""
    if not totals.ids:
        return
    hashes = np.concatenate([group for _, _, group in totals.ids])
    repeated = np.flatnonzero(_repeated(hashes[np.newaxis]))
    if not len(repeated):
        return
    again = int(repeated[0])
    before = int(np.flatnonzero(hashes == hashes[again])[0])
    begins = np.cumsum([0, *(len(group) for _, _, group in totals.ids)])
    (file, row), (file_before, row_before) = (
        (totals.ids[group][0], totals.ids[group][1] + index - int(begins[group]))
        for index in (again, before)
        for group in [int(np.searchsorted(begins, index, side="right")) - 1]
    )
    ids = pq.read_table(graphs.path / file, columns=["report_id"])
    message = f"report_id must be unique in the folder; {file_before}, row {row_before}, has it, too"
    rows = _Rows(file, 0, ids)
    graphs.found.items("report_id", rows, np.full(len(repeated), row), np.ones(len(repeated), np.bool_), message)


def _check_totals(graphs: _Graphs, vocabularies: Vocabularies, totals: _Totals) -> None:
    found, manifest = graphs.found, graphs.manifest
    for table in TABLES:
        stated = manifest["totals"][table]
        if table in totals.unread:
            found.skip(f"what the manifest says of all {table}: some cannot be read")
        elif stated != totals.rows[table]:
            found.file(
                f"totals {table}",
                "manifest.json",
                f"totals.{table} is {stated:,}, the files hold {totals.rows[table]:,}",
            )
    if "rejects" not in totals.unread:
        stated_reasons = Counter(manifest["rejected"])
        identifiers = {reason for reason in totals.rejected if re.fullmatch("[a-z][a-z0-9_]*", reason)}  # may be shown
        for reason in sorted(stated_reasons.keys() | identifiers):
            stated, there = stated_reasons[reason], totals.rejected[reason]
            if stated != there:
                message = f"rejected.{reason} is {stated:,}, the files hold {there:,}"
                found.file(f"rejected {reason}", "manifest.json", message)
    for kind, vocabulary in vocabularies.items():
        if vocabulary is not None and "nodes" not in totals.unread:
            counted = [totals.nodes[kind][concept] for concept in vocabulary.concepts.to_pylist()]
            wrong = vocabulary.rows.ints("count") != np.array(counted, dtype=np.int64)
            found.rows(f"count {kind}", vocabulary.rows, wrong, "count must be the number of nodes with this concept")
