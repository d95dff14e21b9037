"""Reports out of tables: rows that repeat a report id with the same text are one report with the images of all of them.

Rows are read twice, so that memory does not grow with their number. The first pass keeps eight bytes for each run of rows
with one id and text, and from them knows which ids come again later. The images of those (no others) are collected in a
temporary database in between; the last pass gives every report at the place of its first row.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphprep.columns import find_columns
from graphprep.errors import UserError
from graphprep.files import STDIN, Source, find_source, sha256_of
from graphprep.formats import Fault, FormatSettings, open_table, word
from graphprep.images import ImageRoot, images_of
from graphprep.records import Image, Reject, Report, Section

MAX_CONTENT = 2_000
"""So many characters of a row are kept in a reject."""


@dataclass(frozen=True)
class ReadOptions:
    """How reports are read.

    `columns`: role → column (roles: `graphprep.columns.ROLES`, and `text`); what is not given is found by usual names.
    `text_columns`: the columns of text, where they are not to be found by name; several are sections.
    `encoding`, `delimiter`: of files that do not say it themselves by a byte order mark, their name or their header.
    `max_chars`: a longer report is rejected.
    `image_root`: the folder that image paths are relative to; None: that of the input file (standard input: this one).
    `check_images`: open every image.
    `limit`: stop before the row that would begin one report more.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    text_columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    max_chars: int = 100_000
    image_root: Path | None = None
    check_images: bool = False
    limit: int | None = None
    delimiter: str | None = None


@dataclass(frozen=True)
class InputFile:
    """An input file: base name (or `stdin`), bytes and sha256 as stored, and the column of each role."""

    name: str
    bytes: int
    sha256: str
    columns: dict[str, str]


def describe_inputs(paths: Sequence[str | Path], options: ReadOptions) -> list[InputFile]:
    """What the inputs are. Raises UserError for the first that cannot be read."""
    described = []
    for table in _tables(paths, options):
        path = table.source.path
        described.append(InputFile(table.source.name, path.stat().st_size, sha256_of(path), table.columns.by_role()))
    return described


def resolve_columns(paths: Sequence[str | Path], options: ReadOptions) -> dict[str, str]:
    """Role → column that is read, sections by their heading; where files differ, the columns joined by `|`."""
    columns: dict[str, dict[str, None]] = {}
    for table in _tables(paths, options):
        for role, column in table.columns.by_role().items():
            columns.setdefault(role, {})[column] = None
    return {role: " | ".join(found) for role, found in columns.items()}


def read_reports(
    paths: Sequence[str | Path], options: ReadOptions | None = None, on_count: Callable[[int], None] | None = None
) -> Iterator[Report | Reject]:
    """The reports of the inputs in order, with the rejects of rows and images where they occur.

    A row without a report id has the id `<file stem>-<row>`; a table without such a column has its study ids for them.
    A report comes before the rejects of its images. A row whose id had another text before is a reject.

    Args:
        paths: files, or `-` for standard input.
        on_count: told, after the first pass, how many reports and rejects there are (about: repeated ids, which come
            apart, are counted every time; images are not).

    Raises:
        UserError: an input cannot be read, or has no text; before the first row where it can be known, else (a file that
            is cut off) after the rows that could be read.
    """
    options = options or ReadOptions()
    tables = _tables(paths, options)
    if options.limit is not None and options.limit < 1:
        raise UserError(f"The limit must be at least 1 report; found {options.limit}.")
    repeated, end, count = _first_pass(tables, options.limit)
    if on_count is not None:
        on_count(count)
    if not repeated:
        yield from _last_pass(tables, end, None)
        return
    with closing(_Repeats(repeated)) as repeats:
        repeats.collect(tables, end)
        yield from _last_pass(tables, end, repeats)


def normalise_text(text: str) -> str:
    """The one normalisation of report text: line ends to \\n, non-breaking to plain spaces, zero-width characters away."""
    if not _TO_NORMALISE.search(text):
        return text
    for old, new in _NORMAL.items():
        text = text.replace(old, new)
    return text


_NORMAL = {
    "\r\n": "\n",
    "\r": "\n",
    "\u00a0": " ",
    "\u2007": " ",
    "\u202f": " ",
    "\u200b": "",
    "\u200c": "",
    "\u200d": "",
    "\u2060": "",
    "\ufeff": "",
}
_TO_NORMALISE = re.compile(f"[{''.join(_NORMAL)}]")


# Rows ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """A row that makes a report, or adds images to one. `bodies`: the normalised text columns, empty where blank."""

    source_row: int
    report_id: str
    bodies: list[str]
    values: tuple[object, ...]


class _ReportTable:
    """An input file with its columns found: rows, and what they become."""

    def __init__(self, source: Source, options: ReadOptions) -> None:
        self.source = source
        self._table = open_table(source, FormatSettings(options.encoding, options.delimiter, options.max_chars))
        self.columns = find_columns(self._table.names, source.name, options.columns, options.text_columns)
        self._max_chars = options.max_chars
        texts = [text.column for text in self.columns.texts]
        self._wanted = list(dict.fromkeys([*texts, *self.columns.roles.values()]))  # the texts first
        self._index = {role: self._wanted.index(column) for role, column in self.columns.roles.items()}
        self._image_index = {role: i for role, i in self._index.items() if role in _IMAGE_ROLES}
        root = options.image_root or (Path() if source.name == "stdin" else source.path.parent)
        self._image_root = ImageRoot(root, options.check_images)

    def rows(self) -> Iterator[_Row | Reject]:
        """The rows that can be used and those that cannot, in order."""
        n_texts, max_chars, stem = len(self.columns.texts), self._max_chars, self.source.stem
        id_index = self._index.get("report_id")
        for item in self._table.rows(self._wanted):
            if isinstance(item, Fault):
                report_id = None
                if isinstance(item.content, tuple) and id_index is not None:
                    report_id = word(item.content[id_index])
                    if report_id is not None and _NOT_TEXT.search(report_id):
                        report_id = None
                yield self._reject(item.number, report_id, item.reason, item.detail, item.content)
                continue
            number, values = item
            report_id = (word(values[id_index]) if id_index is not None else None) or f"{stem}-{number}"
            try:
                bodies = [_body(value) for value in values[:n_texts]]
            except _NotText as error:
                yield self._reject(number, report_id, "malformed_row", str(error), values)
                continue
            n_chars = sum(map(len, bodies))
            if 0 < n_chars <= max_chars:
                yield _Row(number, report_id, bodies, values)
            elif n_chars:
                detail = f"The report has {n_chars:,} characters, more than {max_chars:,}."
                yield self._reject(number, report_id, "text_too_long", detail, values)
            else:
                names = ", ".join(self._wanted[:n_texts])
                yield self._reject(number, report_id, "empty_text", f"There is no text in {names}.", values)

    def text(self, row: _Row) -> tuple[str, list[Section]]:
        """The text of a report: its bodies, each under its heading, and where they lie in it."""
        text, sections = "", []
        for column, body in zip(self.columns.texts, row.bodies, strict=True):
            if column.section is None:
                return body, []
            if body:
                text += f"\n\n{column.heading}:\n" if text else f"{column.heading}:\n"
                sections.append(Section(column.section, len(text), len(text) + len(body)))
                text += body
        return text, sections

    def report(self, row: _Row) -> Report:
        """The report of a row, without images."""
        text, sections = self.text(row)
        subject_id, study_id, split = (
            word(row.values[self._index[role]]) if role in self._index else None
            for role in ("subject_id", "study_id", "split")
        )
        return Report(row.report_id, text, self.source.name, row.source_row, sections, subject_id, study_id, split)

    def images(self, row: _Row) -> tuple[list[Image], list[Reject]]:
        """The images of a row, and rejects for those that cannot be used."""
        if not self._image_index:
            return [], []
        found, faults = images_of({role: row.values[i] for role, i in self._image_index.items()})
        images = []
        for image in found:
            placed = self._image_root.place(image)
            if isinstance(placed, Image):
                images.append(placed)
            else:
                faults.append(placed)
        return images, [self.reject(row, fault.reason, fault.detail) for fault in faults]

    def reject(self, row: _Row, reason: str, detail: str) -> Reject:
        return self._reject(row.source_row, row.report_id, reason, detail, row.values)

    def _reject(self, number: int, report_id: str | None, reason: str, detail: str, content: object) -> Reject:
        if isinstance(content, tuple):
            content = dict(zip(self._wanted, content, strict=True))
        return Reject(self.source.name, number, report_id, reason, detail, _as_json(content))


_IMAGE_ROLES = frozenset({"image", "images", "view", "image_id"})


class _NotText(Exception):
    """A text column holds something else; the message says what."""


def _body(value: object) -> str:
    """A text column's normalised text, empty where it is blank."""
    if not isinstance(value, str):
        if value is None:
            return ""
        if isinstance(value, (list, dict)):
            raise _NotText(
                f"Expected text in the column of text, found {'a list' if isinstance(value, list) else 'an object'}."
            )
        value = str(value)
    text = normalise_text(value)
    return "" if text.isspace() else text


def _as_json(content: object) -> str:
    """The content of a reject: JSON, cut, and with what is not text replaced."""
    if isinstance(content, dict):
        content = {key: value[:MAX_CONTENT] if isinstance(value, str) else value for key, value in content.items()}
    return _NOT_TEXT.sub("\ufffd", json.dumps(content, ensure_ascii=False, default=str)[:MAX_CONTENT])


_NOT_TEXT = re.compile("[\0\ud800-\udfff]")


def _tables(paths: Sequence[str | Path], options: ReadOptions) -> list[_ReportTable]:
    """The inputs, each looked at."""
    if not paths:
        raise UserError("There is no input. Give files of reports, or - for standard input.")
    if [str(path) for path in paths].count(STDIN) > 1:
        raise UserError("Standard input (-) can be given once.")
    tables = [_ReportTable(find_source(path), options) for path in paths]
    nameless = Counter(table.source.stem for table in tables if "report_id" not in table.columns.roles)
    if nameless and (most := nameless.most_common(1)[0])[1] > 1:
        raise UserError(
            f"{most[1]} inputs without report ids are named {most[0]!r}, so their reports would share ids. "
            "Rename a file, or name the column of report ids."
        )
    return tables


# Passes -------------------------------------------------------------------------------------------------------------

_End = tuple[int, int] | None
"""Number of an input and of its row before which to stop; None: read all."""


def _rows_until(tables: Sequence[_ReportTable], end: _End) -> Iterator[tuple[int, _Row | Reject]]:
    """The rows of all inputs, each with the number of its input."""
    for index, table in enumerate(tables):
        for row in table.rows():
            if end is not None and (index, row.source_row) >= end:
                return
            yield index, row


def _first_pass(tables: Sequence[_ReportTable], limit: int | None) -> tuple[array[int], _End, int]:
    """Hashes of the ids that come again after other rows, in order; where `limit` ends the reading; a count.

    Rows one after the other with one id and text are a run, which the last pass joins as it goes. Under a limit, the ids
    of the reports wanted are held in memory.
    """
    hashes = array("q")
    wanted: set[str] = set()
    rejects = 0
    end: _End = None
    run: tuple[int, str, list[str]] | None = None
    try:
        for index, row in _rows_until(tables, None):
            if isinstance(row, Reject):
                rejects += 1
                run = None
                continue
            if run == (index, row.report_id, row.bodies):
                continue
            if limit is not None and row.report_id not in wanted:
                if len(wanted) == limit:
                    end = index, row.source_row
                    break
                wanted.add(row.report_id)
            run = index, row.report_id, row.bodies
            hashes.append(hash(row.report_id))
    except UserError:  # the last pass comes to the same place, and raises it there
        pass
    in_order = np.frombuffer(hashes, dtype=np.int64)
    in_order.sort()
    repeated = array("q")
    repeated.frombytes(np.unique(in_order[1:][in_order[1:] == in_order[:-1]]).tobytes())
    return repeated, end, len(hashes) + rejects


def _last_pass(tables: Sequence[_ReportTable], end: _End, repeats: _Repeats | None) -> Iterator[Report | Reject]:
    run: _Run | None = None
    failure: UserError | None = None
    try:
        for index, row in _rows_until(tables, end):
            table = tables[index]
            if run is not None:
                if not isinstance(row, Reject) and run.goes_on(index, row):
                    run.add(*table.images(row))
                    continue
                yield from run.items()
                run = None
            if isinstance(row, Reject):
                yield row
                continue
            images, rejects = table.images(row)
            first = repeats.first(row.report_id) if repeats is not None else None
            if first is None or first.place == (index, row.source_row):
                run = _Run(index, row, table.report(row))
                if repeats is not None and first is not None:
                    run.add(repeats.images(first), [])
                run.add(images, rejects)
            elif first.digest == _digest(table.text(row)[0]):
                yield from rejects  # its images are with the first row
            else:
                where = f"row {first.place[1]} of {tables[first.place[0]].source.name}"
                yield table.reject(row, "duplicate_id", f"The id has another text in {where}.")
    except UserError as error:  # a file that is cut off: what was read of it counts
        failure = error
    if run is not None:
        yield from run.items()
    if failure is not None:
        raise failure


class _Run:
    """A report while rows of it may follow, and the rejects of its images."""

    def __init__(self, index: int, row: _Row, report: Report) -> None:
        self._index = index
        self._bodies = row.bodies
        self._report = report
        self._images: dict[str, Image] = {}
        self._rejects: list[Reject] = []

    def goes_on(self, index: int, row: _Row) -> bool:
        return row.report_id == self._report.report_id and row.bodies == self._bodies and index == self._index

    def add(self, images: Sequence[Image], rejects: Sequence[Reject]) -> None:
        for image in images:
            self._images.setdefault(image.path, image)
        self._rejects += rejects

    def items(self) -> Iterator[Report | Reject]:
        self._report.images = list(self._images.values())
        yield self._report
        yield from self._rejects


@dataclass(frozen=True, slots=True)
class _First:
    """The first row of a repeated id: its key in the database, place (input, row) and the digest of its text."""

    key: int
    place: tuple[int, int]
    digest: bytes


class _Repeats:
    """First rows and images of the ids that come again later, in a temporary database on disk."""

    def __init__(self, hashes: array[int]) -> None:
        """`hashes`: of these ids, in order."""
        self._hashes = hashes
        self._database = sqlite3.connect("")  # a file without a name, gone when it is closed
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE first (key INTEGER PRIMARY KEY, report_id TEXT UNIQUE, input INTEGER, row INTEGER, digest BLOB);"
            "CREATE TABLE image (key INTEGER, path TEXT, view TEXT, image_id TEXT, UNIQUE (key, path));"
        )

    def close(self) -> None:
        self._database.close()

    def collect(self, tables: Sequence[_ReportTable], end: _End) -> None:
        """Read the rows, and keep the images of those whose id comes again with the text of the first."""
        try:
            for index, row in _rows_until(tables, end):
                if isinstance(row, Reject) or not self._may_repeat(row.report_id):
                    continue
                digest = _digest(tables[index].text(row)[0])
                first = self.first(row.report_id)
                if first is None:
                    key = self._database.execute(
                        "INSERT INTO first (report_id, input, row, digest) VALUES (?, ?, ?, ?)",
                        (row.report_id, index, row.source_row, digest),
                    ).lastrowid
                elif first.digest == digest:
                    key = first.key
                else:
                    continue
                self._database.executemany(
                    "INSERT OR IGNORE INTO image VALUES (?, ?, ?, ?)",
                    [(key, image.path, image.view, image.image_id) for image in tables[index].images(row)[0]],
                )
        except UserError:  # the last pass comes to the same place, and raises it there
            pass

    def first(self, report_id: str) -> _First | None:
        """The first row with an id, if it is one that comes again."""
        if not self._may_repeat(report_id):
            return None
        query = "SELECT key, input, row, digest FROM first WHERE report_id = ?"
        found = self._database.execute(query, (report_id,)).fetchone()
        return _First(found[0], (found[1], found[2]), found[3]) if found else None

    def images(self, first: _First) -> list[Image]:
        """The images of all rows of an id, in the order of the rows."""
        query = "SELECT path, view, image_id FROM image WHERE key = ? ORDER BY rowid"
        return [Image(*found) for found in self._database.execute(query, (first.key,))]

    def _may_repeat(self, report_id: str) -> bool:
        value = hash(report_id)
        at = bisect_left(self._hashes, value)
        return at < len(self._hashes) and self._hashes[at] == value


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
