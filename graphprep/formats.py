"""Rows out of files: CSV, TSV, JSON Lines and Parquet.

A row that cannot be read becomes a `Fault` and the reading goes on. Only a file that cannot be read as a whole (of another
kind, without a header) or no further (cut off) raises UserError. The rows of a table can be read any number of times.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TextIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from graphprep.errors import UserError
from graphprep.files import BAD_BYTES, FORMAT_OF_SUFFIX, GZIP_MAGIC, Source, open_binary, open_text, reading

Row = tuple[int, tuple[object, ...]]
"""Number of the data record in its file, from 1 (JSON Lines: of the line), and the values of the columns asked for."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be used, and why. `content` is what could be read of it."""

    number: int
    reason: str
    detail: str
    content: object


@dataclass(frozen=True, slots=True)
class FormatSettings:
    """How files are read, where they do not say it themselves. `max_chars`: of a report; a row may be somewhat longer."""

    encoding: str = "utf-8"
    delimiter: str | None = None
    max_chars: int = 100_000

    @property
    def max_row_chars(self) -> int:
        """More than this is no row, but a quotation mark that was never closed or not a table at all."""
        return max(4 * self.max_chars, 1 << 20)


class Table(ABC):
    """A file of rows with named columns. A new format derives from this."""

    names: list[str]

    @abstractmethod
    def rows(self, wanted: Sequence[str]) -> Iterator[Row | Fault]:
        """All rows in order, with the values of the columns `wanted` in that order."""


def word(value: object) -> str | None:
    """An id as given, without blanks around it; None where there is none."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():  # an integer column with missing values, as pandas writes it
        return str(int(value))
    return None if value is None else str(value)


def open_table(source: Source, settings: FormatSettings) -> Table:
    """The table in a file. What the file begins with counts more than its name; a name that says nothing is tried as CSV.

    Raises UserError if the file is not of a kind that can be read, or has no header.
    """
    try:
        known = codecs.lookup(settings.encoding)
    except LookupError:
        raise UserError(
            f"There is no encoding {settings.encoding!r}. Expected one such as utf-8, latin-1 or cp1252."
        ) from None
    if not getattr(known, "_is_text_encoding", True):
        raise UserError(
            f"{settings.encoding!r} is not an encoding of text. Expected one such as utf-8, latin-1 or cp1252."
        )
    with reading(source), open_binary(source) as stream:
        head = stream.read(4096)
    suffix = Path(source.name.lower().removesuffix(".gz")).suffix
    if head.startswith(_PARQUET_MAGIC):
        return ParquetTable(source, settings)
    name = FORMAT_OF_SUFFIX.get(suffix)
    if name is None:
        for entry in metadata.entry_points(group="graphprep.formats"):
            if entry.name == suffix.removeprefix("."):
                return cast(Table, entry.load()(source, settings))
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise UserError(
                f"{source.name} is {kind}. Expected CSV, TSV, JSON Lines or Parquet, or one of them gzipped."
            )
    if name is None:
        with reading(source), open_text(source, settings.encoding) as text:
            name = "jsonl" if text.read(100).lstrip().startswith("{") else "csv"
    return FORMATS[name](source, settings)


_PARQUET_MAGIC = b"PAR1"
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    GZIP_MAGIC: "gzipped twice",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"%PDF": "a PDF document",
}
_MAX_CONTENT = 2_000
"""So much of a faulty row is kept."""


def _unusable(values: Sequence[object], encoding: str) -> tuple[str, str] | None:
    """Reason and detail if a value holds what text cannot: marked bytes, a lone surrogate, NUL."""
    for value in values:
        if not isinstance(value, str):
            continue
        if "\0" in value or _NUL in value:
            return "nul_bytes", "The row holds a NUL byte."
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                detail = (
                    f"The row holds bytes or escapes that are not {encoding} text; --encoding names another encoding."
                )
                return "undecodable_bytes", detail
    return None


_NUL = "\udcfe"
"""What stands for NUL on its way through the csv module, which refuses it in Python 3.10 and passes it later."""


# CSV and TSV --------------------------------------------------------------------------------------------------------


class DelimitedTable(Table):
    """CSV or TSV with a header. Quoted fields may hold line ends; inner quotation marks are doubled."""

    delimiter = ","

    def __init__(self, source: Source, settings: FormatSettings) -> None:
        self._source = source
        self._encoding = settings.encoding
        self._limit = settings.max_row_chars
        # The limit of the csv module is global and below a long report; `_Records` keeps a row within bounds.
        csv.field_size_limit(max(csv.field_size_limit(), 2 * self._limit))
        if settings.delimiter is not None:
            self.delimiter = _delimiter(settings.delimiter)
        with reading(source), open_text(source, self._encoding) as stream:
            if settings.delimiter is None and self.delimiter == ",":
                self.delimiter = _sniff_delimiter(stream, self._limit)
            header = next(_Records(stream, self.delimiter, self._limit, self._encoding).read(list), None)
        if header is None:
            raise UserError(f"{source.name} holds no rows, not even a header. Expected a table of reports.")
        if isinstance(header, Fault):
            hint = " If the file is UTF-16, give --encoding utf-16-le." if header.reason == "nul_bytes" else ""
            raise UserError(f"{source.name}: the header cannot be read. {header.detail}{hint}")
        self.names = [str(name).strip() for name in header[1]]

    def rows(self, wanted: Sequence[str]) -> Iterator[Row | Fault]:
        indices = [self.names.index(name) for name in wanted]
        pick: Callable[[list[str]], Sequence[str]]
        if len(indices) == 1:
            pick = itemgetter(slice(indices[0], indices[0] + 1))  # of one index it would give no sequence
        else:
            pick = itemgetter(*indices)
        with reading(self._source), open_text(self._source, self._encoding) as stream:
            records = _Records(stream, self.delimiter, self._limit, self._encoding).read(pick)
            next(records)  # the header
            yield from records


class TabDelimitedTable(DelimitedTable):
    delimiter = "\t"


def _delimiter(given: str) -> str:
    delimiter = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UserError(f"The delimiter must be one character, or tab; found {given!r}.")
    return delimiter


def _sniff_delimiter(stream: TextIO, limit: int) -> str:
    """The comma, unless the first line has none and has another usual delimiter. Leaves the stream at its beginning."""
    line = next((line for line in iter(lambda: stream.readline(limit), "") if line.strip()), "")
    stream.seek(0)
    return "," if "," in line else max(",;\t|", key=line.count)


class _BrokenRecord(Exception):
    """A record that cannot be completed; the message says why."""


class _Records:
    """The records of a delimited file, its header as number 0.

    A quotation mark too few or too many would swallow the rows after it. So a record that does not come out right is
    given up at its first line, and reading resumes at the next line that looks like the beginning of a record.
    """

    def __init__(self, stream: TextIO, delimiter: str, limit: int, encoding: str) -> None:
        self._readline = stream.readline
        self._delimiter = delimiter
        self._limit = limit
        self._encoding = encoding
        self._width = -1  # number of fields; -1: the header is still to come
        self._again: deque[str] = deque()  # lines to be read once more
        self._fed: list[str] = []  # the lines of the record that is being read
        self._suspect = False  # one of them may hold what text cannot
        self._first_cells: list[str] = []  # of some good rows: how a row begins

    def read(self, pick: Callable[[list[str]], Sequence[str]]) -> Iterator[Row | Fault]:
        """The records, of each the fields that `pick` takes."""
        fed, first_cells = self._fed, self._first_cells
        number, line = 0, 1
        while True:
            complete = False
            try:
                for cells in csv.reader(self._feed(), delimiter=self._delimiter, strict=True):
                    if len(cells) != self._width:
                        if len(fed) == 1 and not fed[0].strip():  # a blank line
                            line += len(fed)
                            fed.clear()
                            continue
                        if self._width >= 0:
                            complete = True
                            raise _BrokenRecord(f"Expected {self._width} fields as in the header, found {len(cells)}.")
                        self._width = len(cells)
                    elif len(first_cells) < 8:
                        first_cells.append(cells[0])
                    line += len(fed)
                    fed.clear()
                    values = tuple(pick(cells))
                    if self._suspect and (problem := _unusable(values, self._encoding)):
                        yield Fault(number, *problem, values)
                    else:
                        yield number, values
                    self._suspect = False
                    number += 1
                return
            except (csv.Error, _BrokenRecord) as error:
                reason, detail = self._reason(error)
                lines, content = self._give_up(complete)
                where = f"Line {line}" if lines == 1 else f"Lines {line} to {line + lines - 1}"
                yield Fault(number, reason, f"{where}: {detail[0].lower()}{detail[1:]}", content)
                number += 1
                line += lines
                self._suspect = False

    def _line(self) -> str:
        """The next line, with its end; of an overlong one the beginning. Empty at the end of the file."""
        if self._again:
            return self._again.popleft()
        text = self._readline(self._limit)
        if len(text) == self._limit:
            _skip_line(self._readline, text, self._limit)
        return text

    def _feed(self) -> Iterator[str]:
        """The lines for the csv module, noting them in `_fed`."""
        next_line, fed, limit = self._line, self._fed, self._limit
        size = 0
        while text := next_line():
            size = size + len(text) if fed else len(text)
            fed.append(text)
            if size >= limit:
                raise _BrokenRecord(_OVERLONG)
            if not text.isascii() or "\0" in text:
                self._suspect = True
                text = text.replace("\0", _NUL)
            yield text

    def _reason(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, csv.Error):
            if "unexpected end" in str(error):
                return "malformed_row", "A quotation mark is opened and never closed."
            return "malformed_row", "A quotation mark within a quoted field is not doubled, or one is never closed."
        if str(error) != _OVERLONG:
            return "malformed_row", str(error)
        if len(self._fed) == 1:
            return "text_too_long", f"The row has more than {self._limit:,} characters."
        return "malformed_row", f"A quotation mark is opened and not closed within {self._limit:,} characters."

    def _give_up(self, complete: bool) -> tuple[int, str]:
        """Leave a broken record: its first line, and those after it that begin none. Returns their number and the text.

        A record that was complete, only wrong, ends where it ended, unless a row that can be told as such lies within it.
        """
        fed, begins = self._fed, self._begins_record
        if complete:
            inner = (i for i in range(1, len(fed)) if begins(fed[i]))
            lines = next(inner, len(fed)) if self._look() else len(fed)
        else:
            lines = 1
        content = "".join(fed[:lines])[:_MAX_CONTENT]
        self._again.extendleft(reversed(fed[lines:]))
        fed.clear()
        if not complete:
            while text := self._line():
                if begins(text):
                    self._again.appendleft(text)
                    break
                lines += 1
                if len(content) < _MAX_CONTENT:
                    content += text
        return lines, content

    def _begins_record(self, text: str) -> bool:
        """Whether a line looks like the beginning of a row; any line does where the rows before tell nothing."""
        look = self._look()
        if look is None:
            return True
        cells = next(csv.reader([text.replace("\0", _NUL)], delimiter=self._delimiter), [])
        return len(cells) > 1 and look.fullmatch(cells[0].strip()) is not None

    def _look(self) -> re.Pattern[str] | None:
        """What the rows begin with, if that is an id rather than a text that may as well be the inside of another."""
        cells = self._first_cells
        if self._width < 2 or not cells or not all(_TOKEN.fullmatch(cell.strip()) for cell in cells):
            return None
        return _TOKEN_WITH_DIGIT if all(_TOKEN_WITH_DIGIT.fullmatch(cell.strip()) for cell in cells) else _TOKEN


_OVERLONG = "overlong"
_TOKEN = re.compile(r"\S+")
_TOKEN_WITH_DIGIT = re.compile(r"\S*\d\S*")


def _skip_line(readline: Callable[[int], str], text: str, limit: int) -> None:
    """Read on to the end of the line that `text` is the beginning of."""
    while text and not text.endswith(("\n", "\r")):
        text = readline(limit)


# JSON Lines ---------------------------------------------------------------------------------------------------------

_HEADER_LINES = 1_000
"""So many lines are looked at for the names of columns."""


class JsonLinesTable(Table):
    """One JSON object a line. A row is numbered by its line; keys that the first thousand lines lack are not seen."""

    def __init__(self, source: Source, settings: FormatSettings) -> None:
        self._source = source
        self._encoding = settings.encoding
        self._limit = settings.max_row_chars
        names: dict[str, None] = {}
        rows = 0
        with reading(source), open_text(source, self._encoding) as stream:
            for row in islice(self._objects(stream), _HEADER_LINES):
                rows += 1
                if not isinstance(row, Fault):
                    names.update(dict.fromkeys(row[1]))
        if not rows:
            raise UserError(f"{source.name} holds no lines. Expected a JSON object on each.")
        if not names:
            raise UserError(
                f"{source.name} holds no JSON object on a line of its own (lines looked at: {rows:,}). Expected JSON Lines; "
                "one array of objects becomes that by `jq -c '.[]'`."
            )
        self.names = list(names)

    def rows(self, wanted: Sequence[str]) -> Iterator[Row | Fault]:
        with reading(self._source), open_text(self._source, self._encoding) as stream:
            for row in self._objects(stream):
                if isinstance(row, Fault):
                    yield row
                    continue
                number, found = row
                values = tuple(map(found.get, wanted))
                if problem := _unusable(values, self._encoding):
                    yield Fault(number, *problem, values)
                else:
                    yield number, values

    def _objects(self, stream: TextIO) -> Iterator[tuple[int, dict[str, object]] | Fault]:
        readline, limit = stream.readline, self._limit
        number = 0
        while text := readline(limit):
            number += 1
            if len(text) == limit:
                _skip_line(readline, text, limit)
                yield Fault(
                    number, "text_too_long", f"The line has more than {limit:,} characters.", text[:_MAX_CONTENT]
                )
                continue
            if text.isspace():
                continue
            try:
                found = _JSON.decode(text)
            except json.JSONDecodeError as error:
                detail = f"The line is not JSON: {error.msg} (character {error.pos + 1})."
                yield Fault(number, "invalid_json", detail, text[:_MAX_CONTENT])
            except RecursionError:
                yield Fault(number, "invalid_json", "The JSON is nested too deeply.", text[:_MAX_CONTENT])
            else:
                if isinstance(found, dict):
                    yield number, found
                else:
                    kind = _JSON_KINDS.get(type(found), "a number")
                    yield Fault(number, "invalid_json", f"Expected a JSON object, found {kind}.", text[:_MAX_CONTENT])


# Numbers stay as they are spelt, for ids; NaN, which some writers put for a missing value, is one.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda _: None)
_JSON_KINDS = {list: "a list", str: "a string or number", bool: "true or false", type(None): "null"}


# Parquet ------------------------------------------------------------------------------------------------------------

_BATCH_ROWS = 1_000


class ParquetTable(Table):
    """Parquet; a column may be nested (images)."""

    def __init__(self, source: Source, settings: FormatSettings) -> None:
        self._source = source
        self._encoding = settings.encoding
        with reading(source), self._open() as file:
            self.names = list(file.schema_arrow.names)

    def rows(self, wanted: Sequence[str]) -> Iterator[Row | Fault]:
        names = list(dict.fromkeys(wanted))
        number = 0
        with reading(self._source), self._open() as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                for values in zip(*(self._values(batch.column(name)) for name in wanted), strict=True):
                    number += 1
                    if problem := _unusable(values, self._encoding):
                        yield Fault(number, *problem, values)
                    else:
                        yield number, values

    def _values(self, column: pa.Array) -> list[Any]:
        try:
            values: list[Any] = column.to_pylist()
        except UnicodeDecodeError:  # Arrow does not look whether strings are UTF-8
            values = [_value(scalar) for scalar in column]
        if any(isinstance(value, float) for value in values):  # pandas writes NaN for a missing value
            values = [None if value != value else value for value in values]
        if any(isinstance(value, bytes) for value in values):
            values = [
                value.decode(self._encoding, "graphprep.mark") if isinstance(value, bytes) else value
                for value in values
            ]
        return values

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with ExitStack() as stack:
            opened = stack.enter_context(open_binary(self._source))
            if isinstance(opened, gzip.GzipFile):  # Parquet is read from its end
                file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(opened, file)
                file.seek(0)
            else:
                file = opened
            try:
                yield stack.enter_context(pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False))
            except pa.ArrowException as error:
                raise UserError(
                    f"{self._source.name} is no Parquet file that can be read: it is cut off or damaged "
                    f"({type(error).__name__}). Get the file again."
                ) from None


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return BAD_BYTES


FORMATS: dict[str, Callable[[Source, FormatSettings], Table]] = {
    "csv": DelimitedTable,
    "tsv": TabDelimitedTable,
    "jsonl": JsonLinesTable,
    "parquet": ParquetTable,
}
"""The formats by name. Others are found as entry points of the group `graphprep.formats`, named by their suffix."""
