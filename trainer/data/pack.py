"""The graphs and tokens of a folder as flat memory-mapped arrays, so that a training step decodes no Parquet and tokenizes nothing.

A table is a set of flat columns and the offsets of its rows: `nodes.offsets.npy`, `nodes.concept.npy` … The items of report r are
`offsets[r] : offsets[r + 1]`. A pack is made once for a graphs folder and a tokenizer, a part at a time; a killed run goes on
behind its last finished part. `pack.json` is written last.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.files import locked, read_json, write_file, write_json
from trainer.data.graphs import KINDS, GraphFolder, ReportRows, content_key
from trainer.data.parallel import unordered
from trainer.data.progress import progress
from trainer.data.ragged import Rows, offsets_of, places
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError
from trainer.graph.batch import EdgeKind, QuerySide, State

PACKING = 1
"""Version of what is in a pack; packs of another version are made again."""

_TABLES: dict[str, dict[str, Any]] = {
    "reports": {"content": np.int64},
    "report_ids": {"byte": np.uint8},
    "subject_ids": {"byte": np.uint8},  # empty: none is known
    "tokens": {"id": np.int32},
    "nodes": {"concept": np.int32, "side": np.int8, "state": np.int8, "content": np.int64},
    "spans": {"node": np.int32, "start": np.int32, "end": np.int32},
    "edges": {"source": np.int32, "target": np.int32, "kind": np.int8},
    "images": {"rank": np.int8},
}
_UNRAGGED = "reports"

_SIDES = {None: QuerySide.NONE, "left": QuerySide.LEFT, "right": QuerySide.RIGHT, "bilateral": QuerySide.BILATERAL}
_STATES = {"present": State.PRESENT, "uncertain": State.UNCERTAIN, "absent": State.ABSENT}
_EDGES = {kind.name.lower(): kind for kind in EdgeKind}


@dataclass
class Table:
    """Flat columns, and where the items of each row begin."""

    offsets: Rows
    columns: dict[str, NDArray[Any]]

    def take(self, rows: Rows) -> tuple[dict[str, NDArray[Any]], Rows]:
        """The items of some rows, one after the other, and the length of each row."""
        where, lengths = places(self.offsets, rows)
        return {name: column[where] for name, column in self.columns.items()}, lengths

    def strings(self, rows: Rows) -> list[str]:
        """Rows of bytes as text."""
        column = self.columns["byte"]
        return [bytes(column[self.offsets[row] : self.offsets[row + 1]]).decode() for row in rows]


class Pack:
    """A complete pack.

    Raises:
        UserError: the folder holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.settings: dict[str, Any] = read_json(folder / "pack.json")["settings"]
            self.content: NDArray[np.int64] = _open(folder, "reports", "content")
            self.tables = {
                name: Table(_open(folder, name, "offsets"), {column: _open(folder, name, column) for column in columns})
                for name, columns in _TABLES.items()
                if name != _UNRAGGED
            }
        except (TypeError, KeyError, OSError, ValueError):
            raise UserError(f"{folder} holds no complete pack. Remove the folder; it is made again.") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return Pack, (self.folder,)

    def __len__(self) -> int:
        return len(self.content)

    @property
    def pad_id(self) -> int:
        return int(self.settings["pad_id"])

    @property
    def anatomies(self) -> int:
        """Concepts below this number are anatomies, those from it on pathologies."""
        return int(self.settings["anatomies"])

    @property
    def concepts(self) -> int:
        """Concepts of both kinds."""
        return int(self.settings["concepts"])

    def report_ids(self, rows: Rows) -> list[str]:
        return self.tables["report_ids"].strings(rows)

    def subject_ids(self, rows: Rows) -> list[str | None]:
        return [subject or None for subject in self.tables["subject_ids"].strings(rows)]


def pack_graphs(graphs: GraphFolder, tokenizer: Tokenizer, folder: Path, workers: int = 1) -> Pack:
    """The pack of these graphs below `folder`, made or finished where it is not complete.

    Args:
        workers: processes, each for a part at a time; the pack is the same for any number.

    Raises:
        UserError: the graphs are damaged, the folder cannot be written, or another process writes there.
    """
    settings = {
        "packing": PACKING,
        "graphs": graphs.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "pad_id": tokenizer.pad_id,
        "anatomies": len(graphs.concepts["anatomy"]),
        "concepts": sum(len(graphs.concepts[kind]) for kind in KINDS),
    }
    key = hashlib.sha256(f"{settings['graphs']}{settings['tokenizer']}".encode()).hexdigest()[:12]
    place = folder / f"graphs-{key}"
    if not _complete(place, settings):
        with locked(place):
            if not _complete(place, settings):
                _build(place, graphs, tokenizer, settings, workers)
    return Pack(place)


def _complete(place: Path, settings: dict[str, Any]) -> bool:
    found = read_json(place / "pack.json")
    return isinstance(found, dict) and found.get("settings") == settings


def _build(place: Path, graphs: GraphFolder, tokenizer: Tokenizer, settings: dict[str, Any], workers: int) -> None:
    parts = place / ".parts"
    if (place / "pack.json").exists() or read_json(parts / "settings.json") != settings:
        (place / "pack.json").unlink(missing_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir()
        write_json(parts / "settings.json", settings)
    files = [parts / f"part-{part:05d}.npz" for part in range(graphs.parts)]
    rows = [shard["tables"]["reports"]["rows"] for shard in graphs.manifest["shards"]]
    missing = [part for part, file in enumerate(files) if not file.exists()]
    tasks = [(files[part], graphs, part, tokenizer) for part in missing]
    with progress("pack graphs", graphs.count) as update:
        done = graphs.count - sum(rows[part] for part in missing)
        for part in unordered(_write_part, tasks, min(workers, len(missing))):
            done += rows[part]
            update(done)
    _join(place, files)
    write_json(place / "pack.json", {"settings": settings})
    shutil.rmtree(parts)


def _write_part(file: Path, graphs: GraphFolder, part: int, tokenizer: Tokenizer) -> int:
    arrays = _arrays(graphs, part, tokenizer)
    write_file(file, lambda stream: np.savez(stream, **arrays))
    return part


def _open(folder: Path, table: str, column: str) -> NDArray[Any]:
    path = folder / f"{table}.{column}.npy"
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    # A subclass of array as memmap is costs microseconds at every index.
    return array.view(np.ndarray)


def _join(place: Path, parts: list[Path]) -> None:
    """Put the arrays of the parts one after the other, never more than one part in memory."""
    for table, columns in _TABLES.items():
        for column, dtype in columns.items():
            _concatenate(place / f"{table}.{column}.npy", parts, f"{table}.{column}", dtype)
        if table != _UNRAGGED:
            _concatenate(place / f"{table}.offsets.npy", parts, f"{table}.lengths", np.int64, offsets=True)


def _concatenate(path: Path, parts: list[Path], key: str, dtype: Any, offsets: bool = False) -> None:
    """Write a flat array, or the offsets that follow from an array of lengths."""

    def arrays() -> Iterator[NDArray[Any]]:
        for part in parts:
            with np.load(part, allow_pickle=False) as loaded:
                yield loaded[key]

    total = sum(len(array) for array in arrays()) + offsets

    def write(file: IO[bytes]) -> None:
        np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
            file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (total,)}
        )
        last = 0
        if offsets:
            file.write(np.zeros(1, dtype).tobytes())
        for array in arrays():
            values = offsets_of(array)[1:] + last if offsets else array
            last = int(values[-1]) if offsets and len(values) else last
            file.write(np.ascontiguousarray(values, dtype).tobytes())

    write_file(path, write)


# A part's rows → arrays


def _arrays(graphs: GraphFolder, part: int, tokenizer: Tokenizer) -> dict[str, NDArray[Any]]:
    names = [f"{kind}:{row['concept']}" for kind in KINDS for row in graphs.concepts[kind]]
    graphs.verify(part)
    groups = [_group(rows, names, tokenizer) for rows in graphs.read(part)]
    keys = [f"{table}.{column}" for table, columns in _TABLES.items() for column in columns]
    keys += [f"{table}.lengths" for table in _TABLES if table != _UNRAGGED]
    return {key: np.concatenate([group[key] for group in groups]) if groups else np.zeros(0, np.int64) for key in keys}


def _group(rows: ReportRows, names: list[str], tokenizer: Tokenizer) -> dict[str, NDArray[Any]]:
    of_report = np.repeat(np.arange(len(rows.texts)), rows.node_counts)
    first_node = offsets_of(rows.node_counts)
    spans_of_report = [
        [span for of_node in rows.spans[first_node[i] : first_node[i + 1]] for span in of_node]
        for i in range(len(rows.texts))
    ]
    encoded = tokenizer.encode(rows.texts, spans_of_report)
    spans_per_node = np.fromiter((len(spans) for spans in rows.spans), np.int64, len(rows.spans))
    node_of_span = np.repeat(np.arange(len(rows.spans)), spans_per_node)
    kept = encoded.span_end > encoded.span_start
    node_of_span = node_of_span[kept]
    report_of_span = of_report[node_of_span]

    images = [image for of_report in rows.images for image in of_report]
    report_ids, report_id_lengths = _bytes(rows.report_ids)
    subject_ids, subject_id_lengths = _bytes([subject or "" for subject in rows.subject_ids])
    return {
        "reports.content": np.array([content_key(text) for text in rows.texts], np.int64),
        "report_ids.byte": report_ids,
        "report_ids.lengths": report_id_lengths,
        "subject_ids.byte": subject_ids,
        "subject_ids.lengths": subject_id_lengths,
        "tokens.id": encoded.tokens,
        "tokens.lengths": encoded.lengths,
        "nodes.concept": rows.concepts,
        "nodes.side": np.array([_SIDES[side] for side in rows.sides], np.int8),
        "nodes.state": np.array([_STATES[assertion] for assertion in rows.assertions], np.int8),
        "nodes.content": _node_contents(rows, of_report, names),
        "nodes.lengths": rows.node_counts,
        "spans.node": (node_of_span - first_node[report_of_span]).astype(np.int32),
        "spans.start": encoded.span_start[kept],
        "spans.end": encoded.span_end[kept],
        "spans.lengths": np.bincount(report_of_span, minlength=len(rows.texts)),
        "edges.source": rows.sources.astype(np.int32),
        "edges.target": rows.targets.astype(np.int32),
        "edges.kind": np.array([_EDGES[relation] for relation in rows.relations], np.int8),
        "edges.lengths": rows.edge_counts,
        "images.rank": np.array([_view_rank(image["view"]) for image in images], np.int8),
        "images.lengths": np.array([len(of_report) for of_report in rows.images], np.int64),
    }


def _bytes(texts: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [text.encode() for text in texts]
    return np.frombuffer(b"".join(encoded), np.uint8), np.array([len(text) for text in encoded], np.int64)


def _node_contents(rows: ReportRows, of_report: NDArray[np.int64], names: list[str]) -> NDArray[np.int64]:
    """Keys of what the nodes say: concept, side, assertion, attributes and words, in lower case."""
    keys = np.empty(len(rows.concepts), np.int64)
    for node, (report, concept) in enumerate(zip(of_report, rows.concepts, strict=True)):
        text = rows.texts[report]
        parts = [names[concept], rows.sides[node] or "", rows.assertions[node]]
        parts += [f"{attribute['kind']}:{attribute['words']}" for attribute in rows.attributes[node]]
        parts += ["", *(text[start:end] for start, end in rows.spans[node])]
        keys[node] = content_key("\n".join(parts).lower())
    return keys


VIEW_RANKS = ("PA", "AP", "another frontal view", "unknown", "another view")
"""Images of a study are used in this order; those of the first three are frontal."""

FRONTAL = 3

_FRONTAL_WORDS = ("frontal", "posteroanterior", "anteroposterior", "antero posterior", "postero anterior")


def _view_rank(view: str | None) -> int:
    """Place of a view in `VIEW_RANKS`."""
    words = (view or "").lower().replace("-", " ").replace("_", " ").split()
    if not words or words == ["unknown"]:
        return 3
    if "pa" in words or "posteroanterior" in words:
        return 0
    if any(word in ("ap", "anteroposterior") for word in words) or words[0].startswith("ap"):
        return 1
    return 2 if any(phrase in " ".join(words) for phrase in _FRONTAL_WORDS) else 4
