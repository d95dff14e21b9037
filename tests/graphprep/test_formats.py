"""Rows out of every format, and what becomes of rows and files that are broken."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprep.errors import UserError
from graphprep.files import find_source
from graphprep.formats import Fault, FormatSettings, Row, Table, open_table

HEADER = ["id", "text"]
ROWS = [["007", 'Heart "normal",\nlungs clear.'], ["8", "Größe normal; café — 2 µm."]]


def written(name: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A table as the bytes of a file of this name."""
    if name.endswith(".gz"):
        return gzip.compress(written(name[:-3], header, rows))
    if name.endswith((".csv", ".tsv", ".txt", ".tab")):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter="\t" if name.endswith((".tsv", ".tab")) else ",").writerows([header, *rows])
        return text.getvalue().encode()
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows).encode()
    table = pa.table({column: [row[i] for row in rows] for i, column in enumerate(header)})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def table_of(path: Path, content: bytes | str, settings: FormatSettings | None = None) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_table(find_source(path), settings or FormatSettings())


def rows_of(table: Table, wanted: Sequence[str] = HEADER) -> list[Row | Fault]:
    return list(table.rows(wanted))


def collect(rows: Iterable[Row | Fault], found: list[Row | Fault]) -> None:
    """As `extend`, but what came before an error is kept."""
    for row in rows:
        found.append(row)


def good(rows: Sequence[Row | Fault]) -> list[Row]:
    return [row for row in rows if not isinstance(row, Fault)]


def faults(rows: Sequence[Row | Fault]) -> list[tuple[int, str]]:
    return [(row.number, row.reason) for row in rows if isinstance(row, Fault)]


# Formats


@pytest.mark.parametrize("compressed", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["csv", "CSV", "tsv", "tab", "txt", "jsonl", "ndjson", "json", "parquet", "pq"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, compressed: str) -> None:
    table = table_of(tmp_path / f"a.{suffix}{compressed}", written(f"a.{suffix.lower()}{compressed}", HEADER, ROWS))
    assert table.names == HEADER
    for _ in range(2):
        assert rows_of(table) == [(1, tuple(ROWS[0])), (2, tuple(ROWS[1]))]
    assert rows_of(table, ["text"]) == [(1, (ROWS[0][1],)), (2, (ROWS[1][1],))]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "csv.gz", "parquet.gz"])
@pytest.mark.parametrize("name", ["reports", "reports.2020", "reports.dat"])
def test_a_name_that_says_nothing_is_no_obstacle(tmp_path: Path, name: str, kind: str) -> None:
    table = table_of(tmp_path / name, written(f"a.{kind}", HEADER, ROWS))
    assert good(rows_of(table)) == [(1, tuple(ROWS[0])), (2, tuple(ROWS[1]))]


@pytest.mark.parametrize(("delimiter", "given_as"), [(";", None), ("\t", None), ("|", None), ("~", "~"), ("\t", "tab")])
def test_delimiters(tmp_path: Path, delimiter: str, given_as: str | None) -> None:
    content = f'id{delimiter}text\n1{delimiter}"a, b"\n'
    assert rows_of(table_of(tmp_path / "a.csv", content, FormatSettings(delimiter=given_as))) == [(1, ("1", "a, b"))]


def test_a_delimiter_must_be_one_character(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one character"):
        table_of(tmp_path / "a.csv", "id,text\n", FormatSettings(delimiter="::"))


@pytest.mark.parametrize(
    ("encoding", "bom"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_byte_order_marks(tmp_path: Path, suffix: str, encoding: str, bom: bytes) -> None:
    content = bom + written(f"a.{suffix}", HEADER, ROWS).decode().encode(encoding)
    for name, body in (("a", content), ("b.gz", gzip.compress(content))):
        table = table_of(tmp_path / name.replace(".", f".{suffix}."), body)
        assert table.names == HEADER
        assert good(rows_of(table)) == [(1, tuple(ROWS[0])), (2, tuple(ROWS[1]))]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.csv", "id,text\n1,Größe\n".encode("latin-1"), FormatSettings("latin-1"))
    assert rows_of(table) == [(1, ("1", "Größe"))]


@pytest.mark.parametrize("encoding", ["utf-9", "base64", ""])
def test_an_encoding_that_is_none(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UserError, match="encoding"):
        table_of(tmp_path / "a.csv", "id,text\n", FormatSettings(encoding))


def test_line_ends_and_blank_lines(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        content = end.join(["", "id,text", "1,a", "", '2,"b', 'c"', "  ", "3,d"])
        assert rows_of(table_of(tmp_path / "a.csv", content)) == [
            (1, ("1", "a")),
            (2, ("2", f"b{end}c")),
            (3, ("3", "d")),
        ]


def test_json_lines_are_numbered_by_line_and_keep_numbers_as_spelt(tmp_path: Path) -> None:
    content = '{"id": 12345678901234567890, "text": "a"}\n\n{"id": 1.50, "other": NaN}\n{"text": null, "id": true}'
    rows = rows_of(table_of(tmp_path / "a.jsonl", content))
    assert rows == [(1, ("12345678901234567890", "a")), (3, ("1.50", None)), (4, (True, None))]


def test_parquet_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "int": pa.array([7, None], pa.int64()),
            "float": pa.array([7.0, float("nan")]),
            "category": pa.array(["a", "b"]).dictionary_encode(),
            "bytes": pa.array([b"caf\xc3\xa9", b"x"], pa.binary()),
            "list": pa.array([["a", "b"], []]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    opened = open_table(find_source(tmp_path / "a.parquet"), FormatSettings())
    assert rows_of(opened, opened.names) == [(1, (7, 7.0, "a", "café", ["a", "b"])), (2, (None, None, "b", "x", []))]


def test_a_format_can_be_added_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("tables", "graphprep.formats:TabDelimitedTable", "graphprep.formats")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert rows_of(table_of(tmp_path / "a.tables", "id\ttext,\n1\ta,b\n"), ["id"]) == [(1, ("1",))]


# Rows that are broken


def test_wrong_number_of_fields(tmp_path: Path) -> None:
    rows = rows_of(table_of(tmp_path / "a.csv", "id,text\n1,a\n2\n3,b,c\n4,d\n"))
    assert good(rows) == [(1, ("1", "a")), (4, ("4", "d"))]
    assert faults(rows) == [(2, "malformed_row"), (3, "malformed_row")]
    first = next(row for row in rows if isinstance(row, Fault))
    assert first.detail == "Line 3: expected 2 fields as in the header, found 1."
    assert first.content == "2\n"


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_quotation_mark_that_is_never_closed_costs_its_own_row_only(tmp_path: Path, end: str) -> None:
    content = "id,text\n" + "".join(f"{i},text {i}\n" for i in range(1, 6)) + '6,"open\n7,seven\n8,eight' + end
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert [number for number, _ in good(rows)] == [1, 2, 3, 4, 5, 7, 8]
    assert faults(rows) == [(6, "malformed_row")]


def test_quoted_blanks_are_no_blank_line(tmp_path: Path) -> None:
    assert faults(rows_of(table_of(tmp_path / "a.csv", 'id,text\n1,a\n"\n"\n2,b\n'))) == [(2, "malformed_row")]


def test_a_quotation_mark_that_is_not_closed_before_the_next_quoted_field(tmp_path: Path) -> None:
    content = 'id,text\n1,"one"\n2,"two\n3,"three"\n4,"four"\n5,"five, ""5"""\n'
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert good(rows) == [(1, ("1", "one")), (3, ("3", "three")), (4, ("4", "four")), (5, ("5", 'five, "5"'))]
    assert faults(rows) == [(2, "malformed_row")]


def test_an_open_quotation_mark_that_a_later_row_happens_to_close(tmp_path: Path) -> None:
    content = 'id,text\n1,one\n2,"two\n3,",x"\n4,four\n'
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert faults(rows) == [(2, "malformed_row")]
    assert good(rows) == [(1, ("1", "one")), (3, ("3", ",x")), (4, ("4", "four"))]


def test_the_inside_of_a_broken_text_is_not_taken_for_rows(tmp_path: Path) -> None:
    broken = '3,"FINDINGS:\nLungs clear, no effusion.\nThe "sail" sign is seen, as before.\nHeart normal, stable."\n'
    content = 'id,text\n1,"a\nb"\n2,c\n' + broken + '4,"d\ne"\n'
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert good(rows) == [(1, ("1", "a\nb")), (2, ("2", "c")), (4, ("4", "d\ne"))]
    fault = next(row for row in rows if isinstance(row, Fault))
    assert (fault.number, fault.reason) == (3, "malformed_row")
    assert fault.detail.startswith("Lines 5 to 8: ")
    assert fault.content == broken


def test_a_multi_line_row_with_a_comma_too_many_is_one_fault(tmp_path: Path) -> None:
    content = 'id,text\n1,a\n2,"Lungs clear,\nno effusion.\nHeart normal, stable.",x\n3,c\n'
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert good(rows) == [(1, ("1", "a")), (3, ("3", "c"))]
    assert faults(rows) == [(2, "malformed_row")]


def test_an_open_quotation_mark_in_a_large_file_is_noticed_before_the_end(tmp_path: Path) -> None:
    settings = FormatSettings(max_chars=100)
    filler = "".join(f"{i},{'x' * 500}\n" for i in range(3, 5000))
    rows = rows_of(table_of(tmp_path / "a.csv", 'id,text\n1,one\n2,"two\n' + filler, settings))
    assert faults(rows) == [(2, "malformed_row")]
    assert len(good(rows)) == 4998
    assert next(row for row in rows if isinstance(row, Fault)).detail.endswith("within 1,048,576 characters.")


@pytest.mark.parametrize("quote", ["", '"'])
def test_an_enormous_row_is_skipped_whole(tmp_path: Path, quote: str) -> None:
    enormous = "x" * 3_000_000
    content = f"id,text\n1,one\n2,{quote}{enormous}{quote}\n3,three\n"
    rows = rows_of(table_of(tmp_path / "a.csv", content))
    assert good(rows) == [(1, ("1", "one")), (3, ("3", "three"))]
    assert faults(rows) == [(2, "text_too_long")]
    content = json.dumps({"id": "1", "text": enormous}) + '\n{"id": "2", "text": "two"}\n'
    rows = rows_of(table_of(tmp_path / "a.jsonl", content))
    assert (faults(rows), good(rows)) == ([(1, "text_too_long")], [(2, ("2", "two"))])


def test_a_long_text_below_that_passes_here(tmp_path: Path) -> None:
    long = "word " * 50_000  # more than the limit that the csv module sets by itself
    assert good(rows_of(table_of(tmp_path / "a.csv", f'id,text\n1,"{long}"\n'))) == [(1, ("1", long))]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_bytes_that_are_not_text(tmp_path: Path, suffix: str) -> None:
    content = written(f"a.{suffix}", HEADER, [["1", "a"], ["2", "b?c"], ["3", "é"]])
    rows = rows_of(table_of(tmp_path / f"a.{suffix}", content.replace(b"?", b"\xe9")))
    assert good(rows) == [(1, ("1", "a")), (3, ("3", "é"))]
    assert faults(rows) == [(2, "undecodable_bytes")]


def test_bad_bytes_in_columns_that_are_not_read_do_no_harm(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.csv", b"id,name,text\n1,J\xf6rg\0,a\n2,b,c\n")
    rows = rows_of(table)
    assert [row for row in rows if isinstance(row, Fault) and row.reason == "undecodable_bytes"] == []
    assert good(rows)[-1] == (2, ("2", "c"))


@pytest.mark.parametrize(
    "content",
    ["id,text\n1,a\n2,b\0c\n3,d\n", '{"id":"1","text":"a"}\n{"id":"2","text":"\\u0000"}\n{"id":"3","text":"d"}'],
)
def test_nul_bytes(tmp_path: Path, content: str) -> None:
    rows = rows_of(table_of(tmp_path / "a", content))
    assert (faults(rows), good(rows)) == ([(2, "nul_bytes")], [(1, ("1", "a")), (3, ("3", "d"))])


def test_invalid_json(tmp_path: Path) -> None:
    lines = [
        '{"id": "1", "text": "a"',
        "[1, 2]",
        '"x"',
        "null",
        "12",
        "[" * 100_000,
        '{"id": "7", "text": "g"}',
        "true",
    ]
    rows = rows_of(table_of(tmp_path / "a.jsonl", "\n".join(lines)))
    assert faults(rows) == [(i, "invalid_json") for i in (1, 2, 3, 4, 5, 6, 8)]
    assert good(rows) == [(7, ("7", "g"))]
    details = [row.detail for row in rows if isinstance(row, Fault)]
    assert details[0].startswith("The line is not JSON: Expecting ',' delimiter (character 2")
    assert details[1] == "Expected a JSON object, found a list."


def test_a_lone_surrogate_by_escape(tmp_path: Path) -> None:
    rows = rows_of(
        table_of(tmp_path / "a.jsonl", '{"id": "1", "text": "a\\ud800"}\n{"id": "2", "text": "\\ud83d\\ude00"}')
    )
    assert (faults(rows), good(rows)) == ([(1, "undecodable_bytes")], [(2, ("2", "\N{GRINNING FACE}"))])


def test_parquet_strings_that_are_not_text(tmp_path: Path) -> None:
    bad = pa.array([b"a", b"\xff", b"b\0", b"c"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"id": ["1", "2", "3", "4"], "text": bad}), tmp_path / "a.parquet")
    rows = rows_of(open_table(find_source(tmp_path / "a.parquet"), FormatSettings()))
    assert faults(rows) == [(2, "undecodable_bytes"), (3, "nul_bytes")]
    assert good(rows) == [(1, ("1", "a")), (4, ("4", "c"))]


# Files that are broken


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b" \n\n", "holds no rows"),
        ("a.csv", codecs.BOM_UTF8, "holds no rows"),
        ("a.csv.gz", gzip.compress(b""), "holds no rows"),
        ("a.jsonl", b"\n\n", "holds no lines"),
        ("a.json", b'[{"text": "a"},\n{"text": "b"}]', "jq -c"),
        ("a.json", b'[{"text": "a"}, {"text": "b"}]', "jq -c"),
        ("a.csv", b'id,"text\n1,a\n', "the header cannot be read"),
        ("a.csv", "id,text\n1,a\n".encode("utf-16-le"), "--encoding utf-16-le"),
        ("a.csv.gz", b"id,text\n1,a\n", "is not gzipped"),
        ("a.csv.gz", gzip.compress(gzip.compress(b"id,text\n")), "gzipped twice"),
        ("a.csv.gz", gzip.compress(b"id,text\n")[:12], "cut off or damaged"),
        ("a.csv.gz", b"\x1f\x8bnothing of it", "cut off or damaged|cannot be read"),
        ("a.parquet", b"id,text\n1,a\n", "is no Parquet file"),
        ("a.parquet", b"PAR1", "is no Parquet file"),
        ("a.csv", b"PK\x03\x04....", "zip archive or an Excel workbook"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        table_of(tmp_path / name, content)
    assert name in str(raised.value)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.csv", "No such file"),
        ("/dev/null", "regular file"),
        ("a\0", "opened"),
    ):
        with pytest.raises(UserError, match=message):
            find_source(path)


def test_a_gzip_file_that_is_cut_off_gives_its_rows_first(tmp_path: Path) -> None:
    rows = [[f"{i}", f"text {i * 7919 % 1000003} of a row that is not alike"] for i in range(20_000)]
    for suffix in ("csv", "jsonl"):
        whole = written(f"a.{suffix}.gz", HEADER, rows)
        table = table_of(tmp_path / f"a.{suffix}.gz", whole[: len(whole) // 2])
        found: list[Row | Fault] = []
        with pytest.raises(UserError, match="cut off or damaged"):
            collect(table.rows(HEADER), found)
        assert len(found) > 5_000
        assert found == [(i + 1, tuple(row)) for i, row in enumerate(rows[: len(found)])]


def test_a_parquet_file_that_is_cut_off(tmp_path: Path) -> None:
    whole = written("a.parquet", HEADER, ROWS)
    for content in (whole[:-1], whole[: len(whole) // 2]):
        with pytest.raises(UserError, match="cut off or damaged"):
            table_of(tmp_path / "a.parquet", content)


def test_a_parquet_file_that_is_damaged_inside(tmp_path: Path) -> None:
    whole = bytearray(written("a.parquet", HEADER, [[f"{i}", f"text {i}"] for i in range(1000)]))
    whole[4:200] = bytes(196)
    table = table_of(tmp_path / "a.parquet", bytes(whole))
    with pytest.raises(UserError, match="damaged"):
        rows_of(table)


@given(st.binary(max_size=300))
def test_no_bytes_bring_the_reader_down(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.csv"
    for name in ("anything.csv", "anything.jsonl"):
        path = path.with_name(name)
        try:
            table = table_of(
                path, b'id,text\n1,"a"\n' + content if name.endswith("csv") else b'{"id":1,"text":""}\n' + content
            )
        except UserError:
            continue
        numbers = [row.number if isinstance(row, Fault) else row[0] for row in rows_of(table)]
        assert numbers == sorted(set(numbers))


LINES = st.lists(st.text(st.sampled_from('a1,"\n \r'), max_size=12), max_size=12)


@given(LINES)
def test_rows_before_and_after_broken_ones_survive(tmp_path_factory: pytest.TempPathFactory, middle: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "middle.csv"
    before = "".join(f"r{i},text {i}\n" for i in range(3))
    # The line before the last rows ends in what closes any quotation mark in a way that is an error.
    content = "id,text\n" + before + "".join(f"{line}\n" for line in middle) + '"x"x\nlast9,end\nlast10,end\n'
    rows = good(rows_of(table_of(path, content)))
    assert [values for _, values in rows[:3]] == [(f"r{i}", f"text {i}") for i in range(3)]
    assert [values for _, values in rows[-2:]] == [("last9", "end"), ("last10", "end")]
