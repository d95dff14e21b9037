"""Reports out of files: ids, texts, images, and rejects for everything that cannot be used."""

from __future__ import annotations

import csv
import gc
import gzip
import hashlib
import io
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprep import read
from graphprep.errors import UserError
from graphprep.read import ReadOptions, describe_inputs, normalise_text, read_reports, resolve_columns
from graphprep.records import Image, Reject, Report, Section

IU = Path(__file__).parents[3] / "shared" / "iu" / "reports.csv"


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()


def read_all(path: Path, content: bytes | str, options: ReadOptions | None = None) -> list[Report | Reject]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_reports([path], options))


def reports(items: Iterable[Report | Reject]) -> list[Report]:
    return [item for item in items if isinstance(item, Report)]


def rejects(items: Iterable[Report | Reject]) -> list[tuple[int, str | None, str]]:
    return [(item.source_row, item.report_id, item.reason) for item in items if isinstance(item, Reject)]


def collect(items: Iterable[Report | Reject], found: list[Report | Reject]) -> None:
    """As `extend`, but what came before an error is kept."""
    for item in items:
        found.append(item)


def images(report: Report) -> list[str]:
    return [image.path for image in report.images]


Stdin = Callable[[bytes], None]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Stdin:
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


# What a report is made of

WHOLE = Report(
    "007", "Heart normal.\nLungs clear.", "REPORTS", 1, [], "0012", "s1", "train", [Image("p/a.png", "PA", "x1")]
)  # fmt: skip
ROLES = ("report_id", "subject_id", "study_id", "split", "path", "view", "dicom_id", "text")
VALUES = (" 007 ", "0012", "s1", "train", "p/a.png", "PA", "x1", "Heart normal.\r\nLungs\u00a0clear.")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_report(tmp_path: Path, stdin: Stdin, suffix: str, compressed: bool) -> None:
    if suffix == "jsonl":
        content = json.dumps(dict(zip(ROLES, VALUES, strict=True))).encode()
    elif suffix == "parquet":
        stream = io.BytesIO()
        pq.write_table(pa.table({role: [value] for role, value in zip(ROLES, VALUES, strict=True)}), stream)
        content = stream.getvalue()
    else:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter="\t" if suffix == "tsv" else ",").writerows([ROLES, VALUES])
        content = text.getvalue().encode()
    name = f"reports.{suffix}"
    if compressed:
        content, name = gzip.compress(content), f"{name}.gz"
    WHOLE.source = name
    assert read_all(tmp_path / name, content) == [WHOLE]
    stdin(content)
    WHOLE.source = "stdin"
    assert list(read_reports(["-"])) == [WHOLE]


def test_sections_are_joined_in_order_and_found_again(tmp_path: Path) -> None:
    header = ["technique", "impression", "id", "findings", "Clinical_Information"]
    rows = [["Two views.", "Normal.", "1", "Clear.\r\nNo effusion.", "Cough."], ["", " ", "2", "Clear.", "\u200b"]]
    first, second = reports(read_all(tmp_path / "a.csv", csv_bytes([header, *rows])))
    assert first.text == (
        "FINDINGS:\nClear.\nNo effusion.\n\nIMPRESSION:\nNormal.\n\nTECHNIQUE:\nTwo views.\n\nCLINICAL INFORMATION:\nCough."
    )
    assert [(section.name, first.text[section.start : section.end]) for section in first.sections] == [
        ("findings", "Clear.\nNo effusion."),
        ("impression", "Normal."),
        ("technique", "Two views."),
        ("indication", "Cough."),
    ]
    assert (second.text, second.sections) == ("FINDINGS:\nClear.", [Section("findings", 10, 16)])


def test_one_column_that_is_a_section_is_one(tmp_path: Path) -> None:
    (report,) = reports(read_all(tmp_path / "a.csv", "id,impression\n1,Normal.\n"))
    assert (report.text, report.sections) == ("IMPRESSION:\nNormal.", [Section("impression", 12, 19)])


def test_normalisation_touches_nothing_else() -> None:
    assert normalise_text("a\r\nb\rc\nd") == "a\nb\nc\nd"
    assert normalise_text("5\u00a0mm\u202f5\u2007\u200bx\u200c\u200d\ufeff\u2060") == "5 mm 5 x"
    kept = "  \t\x0b\x0c\x1c\x85\u2028\u3000\u00ad café ﬁ Ⅳ e\u0301\n\n"
    assert normalise_text(kept) == kept


@given(st.text())
def test_normalisation_is_stable(text: str) -> None:
    assert normalise_text(normalise_text(text)) == normalise_text(text)


TEXTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
        lambda text: normalise_text(text).strip()
    ),
    max_size=8,
)


@given(TEXTS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, suffix: str, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / f"texts.{suffix}"
    rows = [{"id": f"{i:03d}", "text": text} for i, text in enumerate(texts)]
    if suffix == "csv":
        content = csv_bytes([["id", "text"], *(tuple(row.values()) for row in rows)])
    else:
        content = "".join(json.dumps(row) + "\n" for row in [{"id": "x", "text": "first"}, *rows]).encode()
        texts, rows = ["first", *texts], [{"id": "x"}, *rows]
    items = read_all(path, content)
    assert [(item.report_id, item.text) for item in reports(items)] == [
        (row["id"], normalise_text(text)) for row, text in zip(rows, texts, strict=True)
    ]
    assert len(items) == len(texts)


# Ids


def test_ids_are_strings_as_given(tmp_path: Path) -> None:
    items = reports(read_all(tmp_path / "a.csv", "id,subject_id,text\n 007 ,0x1,a\n1e5, ,b\n"))
    assert [(item.report_id, item.subject_id) for item in items] == [("007", "0x1"), ("1e5", None)]
    items = reports(read_all(tmp_path / "a.jsonl", '{"id": 10000000000000000000007, "subject_id": 1.50, "text": "a"}'))
    assert [(item.report_id, item.subject_id) for item in items] == [("10000000000000000000007", "1.50")]
    table = pa.table({"id": [1, 2], "subject_id": [10000032.0, float("nan")], "text": ["a", "b"]})
    pq.write_table(table, tmp_path / "a.parquet")
    items = reports(read_reports([tmp_path / "a.parquet"]))
    assert [(item.report_id, item.subject_id) for item in items] == [("1", "10000032"), ("2", None)]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.csv", "a"),
        ("A.CSV.GZ", "A"),
        ("a.2020.csv.gz", "a.2020"),
        ("a.v1", "a.v1"),
        ("a", "a"),
        (".csv", ".csv"),
        ("a.csv.csv", "a.csv"),
    ],
)
def test_missing_ids_are_stem_and_row(tmp_path: Path, name: str, stem: str) -> None:
    content = b"text\na\n\nb\n"
    items = read_all(tmp_path / name, gzip.compress(content) if name.lower().endswith(".gz") else content)
    assert [item.report_id for item in reports(items)] == [f"{stem}-1", f"{stem}-2"]
    items = read_all(
        tmp_path / name, gzip.compress(b"id,text\n,a\n9,b\n") if name.lower().endswith(".gz") else "id,text\n,a\n9,b\n"
    )
    assert [item.report_id for item in reports(items)] == [f"{stem}-1", "9"]


def test_missing_ids_of_other_sources(tmp_path: Path, stdin: Stdin) -> None:
    items = read_all(tmp_path / "a.jsonl", '{"text": "a"}\n\n{"text": "b"}')
    assert [(item.report_id, item.source_row) for item in reports(items)] == [("a-1", 1), ("a-3", 3)]
    stdin(b"text\na\n")
    assert [item.report_id for item in reports(read_reports(["-"]))] == ["stdin-1"]


def test_files_of_one_name_without_ids_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "x" / "a.tsv"]
    paths[1].parent.mkdir()
    for path in paths:
        path.write_text("text\nnormal\n")
    with pytest.raises(UserError, match="2 inputs without report ids are named 'a'"):
        next(read_reports(paths))
    paths[1].write_text("id\ttext\n1\tnormal\n")
    assert [item.report_id for item in reports(read_reports(paths))] == ["a-1", "1"]


def test_study_ids_are_report_ids_where_there_are_no_others(tmp_path: Path) -> None:
    (item,) = reports(read_all(tmp_path / "a.csv", "study_id,dicom_id,text\n05,x,a\n"))
    assert (item.report_id, item.study_id) == ("05", "05")
    (item,) = reports(read_all(tmp_path / "a.csv", "dicom_id,text\nx,a\n"))
    assert item.report_id == "a-1"


# Rows that belong together


def test_rows_of_a_report_are_joined(tmp_path: Path) -> None:
    content = "id,text,image,view\n1,a\u00a0b,1.png,PA\n1,a b,2.png,LL\n1,a b,1.png,AP\n2,c,3.png,\n"
    first, second = reports(read_all(tmp_path / "a.csv", content))
    assert first.images == [Image("1.png", "PA"), Image("2.png", "LL")]
    assert (first.source_row, second.source_row) == (1, 4)
    assert images(second) == ["3.png"]


def test_rows_of_a_report_are_joined_wherever_they_are(tmp_path: Path) -> None:
    content = "id,text,image\n1,a,1.png\n2,b,2.png\n1,a,3.png\n3,c,4.png\n2,b,5.png\n1,a,1.png\n1,a,6.png\n"
    items = read_all(tmp_path / "a.csv", content)
    assert [(item.report_id, item.source_row, images(item)) for item in reports(items)] == [
        ("1", 1, ["1.png", "3.png", "6.png"]),
        ("2", 2, ["2.png", "5.png"]),
        ("3", 4, ["4.png"]),
    ]
    assert rejects(items) == []


def test_rows_of_a_report_are_joined_over_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,image\n1,a,1.png\n2,b,2.png\n")
    (tmp_path / "b.jsonl").write_text('{"id": 2, "report": "b", "images": ["3.png"]}\n{"id": 1, "report": "x"}\n')
    items = list(read_reports([tmp_path / "a.csv", tmp_path / "b.jsonl"]))
    assert [(item.report_id, images(item), item.source) for item in reports(items)] == [
        ("1", ["1.png"], "a.csv"),
        ("2", ["2.png", "3.png"], "a.csv"),
    ]
    (reject,) = (item for item in items if isinstance(item, Reject))
    assert (reject.source, reject.source_row, reject.report_id, reject.reason) == ("b.jsonl", 2, "1", "duplicate_id")
    assert reject.detail == "The id has another text in row 1 of a.csv."


def test_an_id_with_another_text(tmp_path: Path) -> None:
    content = "id,text,image\n1,a,1.png\n1,b,2.png\n1,a,3.png\n2,c,\n1,c,\n1,b,\n"
    items = read_all(tmp_path / "a.csv", content)
    assert [(item.report_id, images(item)) for item in reports(items)] == [("1", ["1.png", "3.png"]), ("2", [])]
    assert rejects(items) == [(2, "1", "duplicate_id"), (5, "1", "duplicate_id"), (6, "1", "duplicate_id")]


def test_a_row_that_is_no_good_is_not_the_first_of_its_id(tmp_path: Path) -> None:
    items = read_all(tmp_path / "a.csv", "id,text\n1,\n1,a\n2,b\n1,a\n")
    assert [(item.report_id, item.source_row) for item in reports(items)] == [("1", 2), ("2", 3)]
    assert rejects(items) == [(1, "1", "empty_text")]


def test_equal_hashes_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "hash", lambda _: 7, raising=False)
    items = read_all(tmp_path / "a.csv", "id,text,image\n1,a,1.png\n2,b,2.png\n3,c,\n1,a,3.png\n3,d,\n")
    assert [(item.report_id, images(item)) for item in reports(items)] == [
        ("1", ["1.png", "3.png"]),
        ("2", ["2.png"]),
        ("3", []),
    ]
    assert rejects(items) == [(5, "3", "duplicate_id")]


ROW = st.tuples(st.sampled_from("123"), st.sampled_from(["a", "b", "", "c\u00a0", "c "]), st.sampled_from("xyz"))


@given(st.lists(st.lists(ROW, max_size=12), min_size=1, max_size=3))
def test_any_mixture_of_rows_is_joined_as_if_all_were_in_memory(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, str, str]]]
) -> None:
    paths = [tmp_path_factory.getbasetemp() / f"mix{i}.csv" for i in range(len(files))]
    expected: dict[str, tuple[str, int, list[str]]] = {}
    expected_rejects = []
    for i, (path, rows) in enumerate(zip(paths, files, strict=True)):
        path.write_bytes(csv_bytes([("id", "text", "image"), *rows]))
        for number, (report_id, text, image) in enumerate(rows, 1):
            if not text:
                expected_rejects.append((i, number, "empty_text"))
                continue
            known = expected.setdefault(report_id, (normalise_text(text), i, []))
            if known[0] != normalise_text(text):
                expected_rejects.append((i, number, "duplicate_id"))
            elif image not in known[2]:
                known[2].append(image)
    items = list(read_reports(paths))
    assert [(item.report_id, item.text, int(item.source[3]), images(item)) for item in reports(items)] == [
        (report_id, *rest) for report_id, rest in expected.items()
    ]
    assert [
        (int(item.source[3]), item.source_row, item.reason) for item in items if isinstance(item, Reject)
    ] == expected_rejects
    places = [(item.source, item.source_row) for item in items]
    assert places == sorted(places)


# Rejects


def test_every_fault_is_a_reject_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [
        b"1,good,",
        b"2",
        b"3,\xff,",
        b"4,a\0b,",
        b"5,   ,",
        b"6," + b"x" * 101 + b",",
        b"1,other,",
        b"8,good,../a.png",
        b'9,"open,',
        b"10,good,",
    ]
    items = read_all(tmp_path / "a.csv", b"\n".join([b"id,text,image", *rows]), ReadOptions(max_chars=100))
    assert [item.report_id for item in reports(items)] == ["1", "8", "10"]
    assert rejects(items) == [
        (2, None, "malformed_row"),
        (3, "3", "undecodable_bytes"),
        (4, "4", "nul_bytes"),
        (5, "5", "empty_text"),
        (6, "6", "text_too_long"),
        (7, "1", "duplicate_id"),
        (8, "8", "image_outside_root"),
        (9, None, "malformed_row"),
    ]


def test_rejects_hold_the_row_and_their_details_do_not(tmp_path: Path) -> None:
    rows = [
        b"1,Effusion \xff,",
        b'2,"Effusion" x,',
        b"3,Effusion",
        b"4," + b"Effusion " * 1000 + b",",
        b"5,Effusion,/x",
    ]
    items = read_all(
        tmp_path / "a.csv",
        b"\n".join([b"id,text,image", *rows, b"6,Effusion,", b"6,Effusion 2,"]),
        ReadOptions(max_chars=500),
    )
    found = [item for item in items if isinstance(item, Reject)]
    assert len(found) == 6
    for reject in found:
        assert "ffusion" not in reject.detail
        assert reject.detail[0].isupper()
        assert reject.detail.endswith(".")
        assert reject.content is not None
        assert "Effusion" in reject.content
        assert len(reject.content) <= 2000
        reject.content.encode()
    assert json.loads(found[0].content or "") == {"text": "Effusion \ufffd", "id": "1", "image": ""}
    assert json.loads(found[1].content or "") == '2,"Effusion" x,\n'


def test_json_lines_and_their_faults(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "text": "a"}',
        "{",
        "[]",
        '{"id": 4}',
        '{"id": 5, "text": ["a"]}',
        '{"id": 6, "text": {"a": 1}}',
        '{"id": 7, "text": "\\ud800"}',
        '{"text": 8}',
    ]
    items = read_all(tmp_path / "a.jsonl", "\n".join(lines))
    assert [(item.report_id, item.text) for item in reports(items)] == [("1", "a"), ("a-8", "8")]
    assert rejects(items) == [
        (2, None, "invalid_json"),
        (3, None, "invalid_json"),
        (4, "4", "empty_text"),
        (5, "5", "malformed_row"),
        (6, "6", "malformed_row"),
        (7, "7", "undecodable_bytes"),
    ]


def test_the_limit_of_characters_is_of_the_text_alone(tmp_path: Path) -> None:
    content = f"id,findings,impression\n1,{'x' * 60},{'y' * 40}\n2,{'x' * 60},{'y' * 41}\n"
    items = read_all(tmp_path / "a.csv", content, ReadOptions(max_chars=100))
    assert [item.report_id for item in reports(items)] == ["1"]
    assert rejects(items) == [(2, "2", "text_too_long")]


# Images


@pytest.fixture
def image_root(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    root.mkdir()
    (root / "good.png").write_bytes(b"\x89PNG\r\n\x1a\n....")
    (root / "other.jpg").write_bytes(b"\xff\xd8\xff....")
    (root / "bad.png").write_bytes(b"not an image")
    return root


def test_a_report_stays_with_its_good_images(tmp_path: Path, image_root: Path) -> None:
    content = csv_bytes(
        [
            ("id", "text", "images"),
            ("1", "a", "good.png|none.png|bad.png"),
            ("2", "b", f"{image_root}/other.jpg|../good.png|/etc/passwd"),
            ("3", "c", "[broken]"),
            ("1", "a", "none2.png|other.jpg"),
        ]
    )
    options = ReadOptions(image_root=image_root, check_images=True)
    items = read_all(tmp_path / "a.csv", content, options)
    assert [(item.report_id, images(item)) for item in reports(items)] == [
        ("1", ["good.png", "other.jpg"]),
        ("2", ["other.jpg"]),
        ("3", []),
    ]
    assert rejects(items) == [
        (1, "1", "missing_image"),
        (1, "1", "corrupt_image"),
        (2, "2", "image_outside_root"),
        (2, "2", "image_outside_root"),
        (3, "3", "malformed_images"),
        (4, "1", "missing_image"),
    ]
    assert isinstance(items[0], Report)


def test_images_are_not_opened_unless_asked(tmp_path: Path) -> None:
    (item,) = read_all(tmp_path / "a.csv", "id,text,image\n1,a,none.png\n")
    assert isinstance(item, Report)
    assert images(item) == ["none.png"]


def test_the_image_root_is_the_folder_of_the_input(
    tmp_path: Path, stdin: Stdin, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = f"id,text,image\n1,a,{tmp_path}/x/1.png\n"
    (item,) = reports(read_all(tmp_path / "a.csv", content))
    assert images(item) == ["x/1.png"]
    monkeypatch.chdir(tmp_path)
    stdin(content.encode())
    (item,) = reports(read_reports(["-"]))
    assert images(item) == ["x/1.png"]


def test_images_of_json_lines_and_parquet(tmp_path: Path) -> None:
    entries = [{"path": "1.png", "view": "PA", "image_id": "01"}, {"path": "2.png", "view": None, "image_id": None}]
    expected = [Image("1.png", "PA", "01"), Image("2.png")]
    (item,) = reports(read_all(tmp_path / "a.jsonl", json.dumps({"id": "1", "text": "a", "images": entries})))
    assert item.images == expected
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["a", "b"], "images": [entries, None]}), tmp_path / "a.parquet")
    first, second = reports(read_reports([tmp_path / "a.parquet"]))
    assert (first.images, second.images) == (expected, [])


# Inputs


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,text\n1,a\n")
    (tmp_path / "a.tsv").write_text("report_id\tfindings\n2\tb\n")
    items = reports(read_reports([str(tmp_path / "b.csv"), tmp_path / "a.tsv"]))
    assert [(item.report_id, item.source, item.source_row) for item in items] == [("1", "b.csv", 1), ("2", "a.tsv", 1)]
    assert resolve_columns([tmp_path / "b.csv", tmp_path / "a.tsv"], ReadOptions()) == {
        "report_id": "id | report_id",
        "text": "text",
        "findings": "findings",
    }


def test_inputs_are_described(tmp_path: Path, stdin: Stdin) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,a\n")
    stdin(b"id,text\n1,a\n")
    file, piped = describe_inputs([tmp_path / "a.csv", "-"], ReadOptions())
    assert (file.name, file.bytes, file.columns) == ("a.csv", 12, {"report_id": "id", "text": "text"})
    assert file.sha256 == hashlib.sha256(b"id,text\n1,a\n").hexdigest()
    assert (piped.name, piped.sha256) == ("stdin", file.sha256)
    # standard input can be read after it was described
    assert [item.report_id for item in reports(read_reports(["-"]))] == ["1"]


def test_standard_input_that_is_not_there(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(b"")
    with pytest.raises(UserError, match="Standard input is empty"):
        next(read_reports(["-"]))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="Standard input cannot be read"):
        next(read_reports(["-"]))
    with pytest.raises(UserError, match="once"):
        next(read_reports(["-", "-"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ReadOptions(columns={"report_id": "idd"}), "Did you mean 'id'"),
        (ReadOptions(text_columns=("txt",)), "Did you mean 'text'"),
        (ReadOptions(encoding="utf-99"), "encoding"),
        (ReadOptions(limit=0), "limit"),
    ],
)
def test_wrong_options(tmp_path: Path, options: ReadOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_all(tmp_path / "a.csv", "id,text\n1,a\n", options)


def test_no_input() -> None:
    with pytest.raises(UserError, match="no input"):
        next(read_reports([]))


def test_every_input_is_looked_at_before_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    with pytest.raises(UserError, match="cannot be opened"):
        next(read_reports([tmp_path / "a.csv", tmp_path / "none.csv"]))


def test_a_file_that_is_cut_off_gives_its_rows_first(tmp_path: Path) -> None:
    rows = [(f"{i}", f"text {i * 7919 % 1000003} of a row that is not alike", f"{i}.png") for i in range(20_000)]
    rows[10] = (rows[0][0], rows[0][1], "late.png")
    whole = gzip.compress(csv_bytes([("id", "text", "image"), *rows]))
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    found: list[Report | Reject] = []
    with pytest.raises(UserError, match=r"a.csv.gz is cut off or damaged"):
        collect(read_reports([tmp_path / "a.csv.gz"]), found)
    assert len(found) > 5_000
    assert [item.source_row for item in found] == [i + 1 for i in range(len(found) + 1) if i != 10]
    assert images(reports(found)[0]) == ["0.png", "late.png"]


def test_a_limit_ends_the_reading(tmp_path: Path) -> None:
    content = "id,text,image\n1,a,1.png\n2,\n2,b,2.png\n1,a,3.png\n\n4,,\n3,c,4.png\n1,a,5.png\n"
    options = [ReadOptions(limit=limit) for limit in (1, 2, 3, 4)]
    found = [read_all(tmp_path / "a.csv", content, option) for option in options]
    assert [[(item.report_id, images(item)) for item in reports(items)] for items in found] == [
        [("1", ["1.png"])],
        [("1", ["1.png", "3.png"]), ("2", ["2.png"])],
        [("1", ["1.png", "3.png", "5.png"]), ("2", ["2.png"]), ("3", ["4.png"])],
        [("1", ["1.png", "3.png", "5.png"]), ("2", ["2.png"]), ("3", ["4.png"])],
    ]
    assert rejects(found[0]) == [(2, None, "malformed_row")]
    assert rejects(found[1]) == [(2, None, "malformed_row"), (5, "4", "empty_text")]


def test_the_count_is_told_before_the_first_report(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n1,a\n2\n3,c\n")
    counts: list[int] = []
    items = read_reports([tmp_path / "a.csv"], on_count=counts.append)
    next(items)
    assert counts == [3]
    assert len([None, *items]) == 3


def test_nothing_is_left_open_when_reading_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,text\n1,a\n2,b\n1,a\n"))
    items = read_reports([tmp_path / "a.csv.gz"])
    next(items)
    del items
    gc.collect()  # a ResourceWarning would be an error


@pytest.mark.parametrize("apart", [False, True])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, apart: bool) -> None:
    """Also where every id comes again far `apart`, and its images are on disk until then."""

    def peak(n_reports: int) -> int:
        numbers = [*range(n_reports), *range(n_reports)] if apart else [i // 2 for i in range(2 * n_reports)]
        with (tmp_path / "a.csv").open("w") as file:
            file.write("id,text,image\n")
            file.writelines(f"{i},text {i} {'word ' * 100},{row}.png\n" for row, i in enumerate(numbers))
        del numbers
        tracemalloc.start()
        try:
            items = read_reports([tmp_path / "a.csv"])
            assert sum(len(item.images) == 2 for item in items if isinstance(item, Report)) == n_reports
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)  # what is imported or cached once
    assert peak(6_000) - peak(1_000) < 5_000 * 50  # bytes a report; its text alone has 500


@pytest.mark.skipif(not IU.exists(), reason="needs shared/iu")
def test_real_reports() -> None:
    items = list(read_reports([IU]))
    assert len(reports(items)) == len(items) == 1462
    for item in reports(items):
        bodies = [item.text[section.start : section.end] for section in item.sections]
        assert all(body.strip() for body in bodies)
        assert sum(map(len, bodies)) > len(item.text) - 60
