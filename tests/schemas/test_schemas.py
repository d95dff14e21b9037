"""The contract: its files are sound, say everything about every column, and agree with the records and with Arrow."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from graphprep import records

ARROW_TABLES = (*schemas.TABLES, "vocabulary")

MANIFEST: dict[str, Any] = {
    "schema_version": "1.0",
    "extractor": {"name": "rules", "settings": {"any": ["thing"]}},
    "sections": ["findings", "impression"],
    "text": True,
    "vocabulary": {kind: {"sha256": "0" * 64, "concepts": 3} for kind in ("anatomy", "pathology")},
    "input": {
        "files": [{"name": "a.csv", "bytes": 10, "sha256": "a" * 64}, {"name": "stdin", "bytes": None, "sha256": None}],
        "columns": {"report_id": "id", "text": ["findings", "impression"]},
        "fingerprint": "f" * 64,
    },
    "image_root": None,
    "shard_size": 10,
    "shards": [
        {
            "part": 0,
            "tables": {
                table: {"file": f"{table}/part-00000.parquet", "rows": 1, "sha256": "0" * 64}
                for table in schemas.TABLES
            },
        }
    ],
    "vocabulary_files": {
        kind: {"file": f"vocab/{kind}.parquet", "rows": 3, "sha256": "0" * 64} for kind in ("anatomy", "pathology")
    },
    "totals": dict.fromkeys(schemas.TABLES, 1),
    "rejected": {"empty_text": 1},
    "something_of_a_newer_minor": 1,
}


def leaves(spec: schemas.Schema) -> Iterator[schemas.Schema]:
    """The values at the bottom of a schema."""
    if "items" in spec:
        yield from leaves(spec["items"])
    elif "properties" in spec:
        for child in spec["properties"].values():
            yield from leaves(child)
    else:
        yield spec


# The documents


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_document_is_json_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["title"] == name
    assert document["description"].endswith(".")


@pytest.mark.parametrize("name", ARROW_TABLES)
def test_every_column_says_what_it_means(name: str) -> None:
    document = schemas.load(name)
    assert document["required"] == list(document["properties"])
    for column, spec in document["properties"].items():
        assert spec["description"].endswith("."), column
        assert all("arrow" in leaf and leaf["description"].endswith(".") for leaf in leaves(spec)), column


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="no schema 'reprots'"):
        schemas.load("reprots")
    with pytest.raises(KeyError, match="no Arrow schema"):
        schemas.arrow_schema("manifest")


def test_reading_a_schema_does_not_import_pyarrow() -> None:
    program = "import sys, schemas; schemas.load('nodes'); sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# Arrow


def test_arrow_types_and_nulls() -> None:
    schema = schemas.arrow_schema("mentions")
    assert schema.names == list(schemas.load("mentions")["properties"])
    assert schema.field("report_id").equals(pa.field("report_id", pa.string(), nullable=False))
    assert schema.field("measurement").type == pa.bool_()
    assert schema.field("concept").nullable
    relation = pa.struct(
        [pa.field("type", pa.string(), nullable=False), pa.field("target", pa.int32(), nullable=False)]
    )
    assert schema.field("relations").type == pa.list_(pa.field("element", relation, nullable=False))
    assert schemas.arrow_schema("reports").field("source_row").type == pa.int64()


@pytest.mark.parametrize(
    ("table", "record", "elsewhere"),
    [
        ("mentions", records.Mention, {"report_id"}),
        ("nodes", records.Node, {"report_id"}),
        ("edges", records.Edge, {"report_id"}),
        ("rejects", records.Reject, set()),
        ("reports", records.Report, {"sentences", "n_mentions", "n_nodes", "n_edges"}),
    ],
)
def test_tables_hold_the_fields_of_the_records(table: str, record: type, elsewhere: set[str]) -> None:
    assert set(schemas.arrow_schema(table).names) == {field.name for field in fields(record)} | elsewhere


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("mentions", "label", records.Label),
        ("mentions", "assertion", records.Assertion),
        ("mentions", "temporality", records.Temporality),
        ("nodes", "kind", records.Kind),
        ("nodes", "side", records.Side),
        ("nodes", "origin", records.Origin),
        ("edges", "relation", records.EdgeRelation),
    ],
)
def test_allowed_values_are_those_of_the_records(table: str, column: str, values: Any) -> None:
    allowed = schemas.load(table)["properties"][column]["enum"]
    assert [value for value in allowed if value is not None] == list(get_args(values))


# Versions


@pytest.mark.parametrize(("version", "parsed"), [("1.0", (1, 0)), ("1.7", (1, 7)), ("1.10", (1, 10))])
def test_the_same_major_is_read(version: str, parsed: tuple[int, int]) -> None:
    assert schemas.check_version(version) == parsed


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2.0", "version 2.0 cannot be read: this program reads 1.x; update this program"),
        ("0.9", "version 0.9 cannot be read: this program reads 1.x; extract the graphs again"),
        ("1", "must look like 1.0"),
        ("1.0.1", "must look like 1.0"),
        ("1.0\n", "must look like 1.0"),
        ("", "must look like 1.0"),
    ],
)
def test_others_are_refused_with_a_sentence(version: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        schemas.check_version(version)


# Checks of JSON files


def test_a_good_manifest_has_no_violations() -> None:
    assert list(schemas.violations("manifest", MANIFEST)) == []


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        (["text"], "yes", ("text", "must be of type boolean")),
        (["shard_size"], True, ("shard_size", "must be of type integer")),
        (["shard_size"], 0, ("shard_size", "must be at least 1")),
        (["schema_version"], "1", ("schema_version", r"must match ^[0-9]+\.[0-9]+$")),
        (["extractor", "name"], "", ("extractor.name", "must not be empty")),
        (["input", "files", 0, "bytes"], "10", ("input.files[0].bytes", "must be of type integer or null")),
        (["totals", "nodes"], -1, ("totals.nodes", "must be at least 0")),
        (["shards", 0, "tables", "edges"], {}, ("shards[0].tables.edges.file", "is missing")),
        (["input", "fingerprint"], "f" * 64 + "\n", ("input.fingerprint", "must match ^[0-9a-f]{64}$")),
    ],
)
def test_a_violation_names_its_place(path: list[Any], value: Any, violation: tuple[str, str]) -> None:
    document = copy.deepcopy(MANIFEST)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert next(schemas.violations("manifest", document)) == violation


def test_a_document_that_is_no_object() -> None:
    assert list(schemas.violations("manifest", [])) == [("", "must be of type object")]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything inside a document."""
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key)
        yield from paths(child, (*path, key))


@given(
    st.sampled_from(list(paths(MANIFEST))),
    st.one_of(
        st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from(["", "1.0", "a" * 64]), st.just([]), st.just({})
    ),
    st.booleans(),
)
def test_violations_are_those_of_json_schema(path: tuple[Any, ...], value: Any, remove: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = copy.deepcopy(MANIFEST)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    peer = jsonschema.Draft202012Validator(schemas.load("manifest")).is_valid(document)
    assert (not list(schemas.violations("manifest", document))) == peer
