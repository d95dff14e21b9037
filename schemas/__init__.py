"""The data contract that `graphprep` writes and `trainer` reads: one JSON Schema per table and per file kind.

Tables (`TABLES` and `vocabulary`) and files (`manifest`, `run`) are described in the same way, in `<name>.json` beside this
module. Three things go beyond plain JSON Schema, all in tables: the keyword `arrow` names the Arrow type of a value, a column
may be null where its `type` lists "null", and all columns are there. Arrow schemas are derived from these files, nothing else.

The loader needs the standard library alone; PyArrow is imported when an Arrow schema is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = "1.0"
TABLES = ("reports", "mentions", "nodes", "edges", "rejects")
FILES = ("manifest", "run")
NAMES = (*TABLES, "vocabulary", *FILES)

Schema = dict[str, Any]


@cache
def load(name: str) -> Schema:
    """The JSON document of one of `NAMES`; shared between callers, so leave it as it is. KeyError for another name."""
    if name not in NAMES:
        raise KeyError(f"There is no schema {name!r}; there are {', '.join(NAMES)}.")
    document: Schema = json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return document


@cache
def arrow_schema(name: str) -> pa.Schema:
    """The Arrow schema of a table: one of `TABLES`, or `vocabulary`. KeyError for another name."""
    import pyarrow as pa

    if name in FILES:
        raise KeyError(f"{name}.json describes a JSON file, which has no Arrow schema.")
    return pa.schema([_arrow_field(column, spec) for column, spec in load(name)["properties"].items()])


def check_version(version: str) -> tuple[int, int]:
    """Major and minor of a folder's schema version that this program reads.

    The same major is read; columns of a newer minor are to be ignored. ValueError, with a sentence for the user, for another
    major and for what is no version.
    """
    parsed = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", version)
    if parsed is None:
        raise ValueError(f"The schema version must look like {SCHEMA_VERSION}, major.minor; this one does not.")
    major, minor = int(parsed[1]), int(parsed[2])
    own = int(SCHEMA_VERSION.split(".")[0])
    if major != own:
        remedy = "update this program" if major > own else "extract the graphs again"
        raise ValueError(f"Schema version {version} cannot be read: this program reads {own}.x; {remedy}.")
    return major, minor


def violations(name: str, document: object) -> Iterator[tuple[str, str]]:
    """Where a parsed JSON file breaks its schema: pairs of a place (`shards[0].part`) and what is expected there.

    Knows the keywords that the files here use; values are never quoted.
    """
    root = load(name)
    yield from _violations(document, root, root, "")


def allows_null(spec: Schema) -> bool:
    """Whether the values that `spec` describes may be null."""
    return "null" in _types(spec)


# JSON Schema → Arrow


def _arrow_field(name: str, spec: Schema) -> pa.Field:
    import pyarrow as pa

    return pa.field(name, _arrow_type(spec), nullable=allows_null(spec))


def _arrow_type(spec: Schema) -> pa.DataType:
    import pyarrow as pa

    if "items" in spec:
        return pa.list_(_arrow_field("element", spec["items"]))  # `element` is Parquet's own name for it
    if "properties" in spec:
        return pa.struct([_arrow_field(name, child) for name, child in spec["properties"].items()])
    return pa.type_for_alias(spec["arrow"])


# JSON Schema → checks of a JSON document


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def _types(spec: Schema) -> list[str]:
    declared = spec.get("type", [])
    return [declared] if isinstance(declared, str) else list(declared)


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):  # a bool is an int in Python, not in JSON
        return kind == "boolean"
    return isinstance(value, _PYTHON_TYPES[kind])


def _violations(value: object, spec: Schema, root: Schema, place: str) -> Iterator[tuple[str, str]]:
    if "$ref" in spec:
        spec = root["$defs"][spec["$ref"].removeprefix("#/$defs/")]
    kinds = _types(spec)
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield place, f"must be of type {' or '.join(kinds)}"
        return
    if "enum" in spec and value not in spec["enum"]:
        yield place, f"must be one of {', '.join(map(str, spec['enum']))}"
    if isinstance(value, (int, float)) and "minimum" in spec and value < spec["minimum"]:
        yield place, f"must be at least {spec['minimum']}"
    if isinstance(value, str):
        if len(value) < spec.get("minLength", 0):
            yield place, "must not be empty"
        if "pattern" in spec and not re.fullmatch(spec["pattern"], value):  # all are written from ^ to $
            yield place, f"must match {spec['pattern']}"
    if isinstance(value, list) and "items" in spec:
        for index, item in enumerate(value):
            yield from _violations(item, spec["items"], root, f"{place}[{index}]")
    if isinstance(value, dict):
        for key in spec.get("required", []):
            if key not in value:
                yield f"{place}.{key}".lstrip("."), "is missing"
        properties, others = spec.get("properties", {}), spec.get("additionalProperties")
        for key, item in value.items():
            child = properties.get(key, others)
            if child is not None:
                yield from _violations(item, child, root, f"{place}.{key}".lstrip("."))
