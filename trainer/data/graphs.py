"""A graphs folder as `schemas/` describes it: its manifest, its vocabularies, its splits, and its reports by row group."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

import schemas
from trainer.data.phrases import join, phrase
from trainer.errors import UserError

KINDS = ("anatomy", "pathology")


class Split(IntEnum):
    LEFT_OUT = 0
    TRAIN = 1
    VALIDATION = 2
    TEST = 3


_SPLIT_NAMES = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validate": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
    "testing": Split.TEST,
}


@dataclass(frozen=True)
class Splits:
    """Which part of the data each report is in."""

    codes: NDArray[np.uint8]  # (reports,) of Split
    notes: tuple[str, ...]  # what the user should know of how they came about

    def rows(self, split: Split) -> NDArray[np.int64]:
        """The reports of a part, in report order."""
        return np.flatnonzero(self.codes == split)

    @property
    def counts(self) -> dict[str, int]:
        """Part → reports."""
        return {split.name.lower(): int((self.codes == split).sum()) for split in Split}


@dataclass
class ReportRows:
    """The reports of some rows with what they state. Lists are by report; nodes and edges are flat, in report order."""

    report_ids: list[str]
    subject_ids: list[str | None]
    images: list[list[dict[str, str | None]]]  # path, view, image_id
    texts: list[str]  # what the text encoder reads
    node_counts: NDArray[np.int64]
    concepts: NDArray[np.int32]  # anatomies first, then pathologies, both in vocabulary order
    sides: list[str | None]
    assertions: list[str]
    attributes: list[list[dict[str, str]]]
    spans: list[list[tuple[int, int]]]  # by node: code points of the report's text in `texts`
    edge_counts: NDArray[np.int64]
    sources: NDArray[np.int64]  # node of its report, from 0
    targets: NDArray[np.int64]
    relations: list[str]


class GraphFolder:
    """A finished graphs folder.

    Raises:
        UserError: it is none, its schema version cannot be read, or a file of it is missing or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        manifest = self.path / "manifest.json"
        try:
            content = manifest.read_bytes()
            self.manifest: dict[str, Any] = json.loads(content)
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is no finished graphs folder: it has no manifest.json. Make one with `graphprep extract`."
            ) from None
        except (OSError, ValueError):
            raise UserError(f"{manifest} cannot be read as JSON. Extract the graphs again.") from None
        try:
            schemas.check_version(str(self.manifest.get("schema_version") if isinstance(self.manifest, dict) else None))
        except ValueError as error:
            raise UserError(f"{manifest}: {error}") from None
        for place, expected in schemas.violations("manifest", self.manifest):
            raise UserError(f"{manifest}: {place} {expected}. Extract the graphs again.")
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self.count: int = self.manifest["totals"]["reports"]
        self.has_text: bool = self.manifest["text"]
        self._sections = frozenset(self.manifest["sections"])

    def __reduce__(self) -> tuple[Any, ...]:
        return GraphFolder, (self.path,)

    @property
    def parts(self) -> int:
        return len(self.manifest["shards"])

    def image_root(self, instead: Path | None = None) -> Path:
        """The folder that image paths are relative to: the manifest's, or the one given.

        Raises:
            UserError: the reports have no images, or the folder is not there.
        """
        root = self.manifest["image_root"]
        if root is None:
            raise UserError(
                f"{self.path} has no images: its reports were extracted without any. Training needs pairs of images and "
                "reports; extract again from a table with a column of image paths (`graphprep extract --images ROOT`)."
            )
        found = instead if instead is not None else Path(os.path.normpath(self.path / root))
        if not found.is_dir():
            raise UserError(
                f"The image folder {found} of {self.path} is not there. Say where it is with --images FOLDER."
            )
        return found

    @cached_property
    def concepts(self) -> dict[str, list[dict[str, Any]]]:
        """The rows of `vocab/anatomy.parquet` and `vocab/pathology.parquet`, by kind."""
        return {kind: self._file(self.manifest["vocabulary_files"][kind]).read().to_pylist() for kind in KINDS}

    @cached_property
    def _rows_of_concepts(self) -> dict[str, dict[str, int]]:
        first = {"anatomy": 0, "pathology": len(self.concepts["anatomy"])}
        return {kind: {row["concept"]: first[kind] + i for i, row in enumerate(self.concepts[kind])} for kind in KINDS}

    @cached_property
    def _names(self) -> list[str]:
        return [row["name"] for kind in KINDS for row in self.concepts[kind]]

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of `reports`, of all reports."""
        files = [self._file(shard["tables"]["reports"]) for shard in self.manifest["shards"]]
        chunks = [chunk for file in files for chunk in file.read(columns=[name]).column(name).chunks]
        return pa.chunked_array(chunks, type=schemas.arrow_schema("reports").field(name).type)

    def splits(self, validation_fraction: float = 0.1) -> Splits:
        """Which reports train, validate and test.

        By the column `split`, where there is one; reports that it does not name then belong to none. Where it names no
        validation part, or there are no splits at all, subjects are held out by the hash of their id.
        """
        names = self.column("split").combine_chunks().dictionary_encode()
        notes: list[str] = []
        if names.null_count == len(names):
            codes = np.full(self.count, Split.TRAIN, dtype=np.uint8)
        else:
            known = [_SPLIT_NAMES.get(name.strip().lower(), Split.LEFT_OUT) for name in names.dictionary.to_pylist()]
            places = names.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
            codes = np.array([*known, Split.LEFT_OUT], dtype=np.uint8)[places]
            if not (codes == Split.TRAIN).any():
                raise UserError(
                    f"{self.path}: no report is in the split `train`; the column `split` says "
                    f"{', '.join(sorted(names.dictionary.to_pylist())[:10])}. Extract with train, validate and test."
                )
            if left_out := int((codes == Split.LEFT_OUT).sum()):
                notes.append(f"{left_out:,} reports are in no split that is known (train, validate, test): left out.")
        if not (codes == Split.VALIDATION).any() and validation_fraction > 0:
            notes += self._hold_out(codes, validation_fraction)
        return Splits(codes, tuple(notes))

    def _hold_out(self, codes: NDArray[np.uint8], fraction: float) -> list[str]:
        """Move subjects from training to validation."""
        ids = self.column("subject_id")
        note = f"No validation split: {fraction:.0%} of the subjects are held out by hash."
        if missing := ids.null_count:
            ids = pc.coalesce(ids, self.column("report_id"))
            note += (
                f" {missing:,} reports name no subject and are held out by report id instead, so that "
                "a patient may be on both sides."
            )
        subjects = ids.combine_chunks().dictionary_encode()
        chosen = np.array(
            [_hash(b"subject", subject) / 2**63 < fraction for subject in subjects.dictionary.to_pylist()], bool
        )
        held_out = chosen[subjects.indices.to_numpy()] if len(chosen) else np.zeros(0, bool)
        codes[held_out & (codes == Split.TRAIN)] = Split.VALIDATION
        return [note]

    def texts(self, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[str]:
        """The texts of some reports (ascending rows), as the text encoder reads them."""
        wanted = np.asarray(rows)
        first = 0
        for part, shard in enumerate(self.manifest["shards"]):
            last = first + shard["tables"]["reports"]["rows"]
            if ((wanted >= first) & (wanted < last)).any():
                for texts in self._texts(part):
                    for row in wanted[(wanted >= first) & (wanted < first + len(texts))]:
                        yield texts[row - first]
                    first += len(texts)
            first = last

    def _texts(self, part: int) -> Iterator[list[str]]:
        """The texts of a part by row group; phrases need the nodes, a written text does not."""
        if not self.has_text:
            yield from (rows.texts for rows in self.read(part))
            return
        file = self._file(self.manifest["shards"][part]["tables"]["reports"])
        for group in range(file.num_row_groups):
            reports = self._row_group(part, {"reports": file}, group, {"reports": ("text", "sections")})["reports"]
            yield self._written(reports, np.zeros(reports.num_rows, np.int64), [])[0]

    def read(self, part: int) -> Iterator[ReportRows]:
        """The reports of a part, a row group at a time. Only what is stated: nothing with origin `vocabulary`."""
        files = {table: self._file(self.manifest["shards"][part]["tables"][table]) for table in _COLUMNS}
        for group in range(files["reports"].num_row_groups):
            tables = self._row_group(part, files, group, _COLUMNS)
            try:
                yield self._rows(tables)
            except (pa.ArrowException, IndexError, KeyError):
                raise self._damaged(part) from None

    def verify(self, part: int) -> None:
        """UserError where a table of a part is not the one that the manifest describes."""
        for table in _COLUMNS:
            entry = self.manifest["shards"][part]["tables"][table]
            self._file(entry)
            with (self.path / entry["file"]).open("rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            if digest.hexdigest() != entry["sha256"]:
                raise UserError(
                    f"{self.path / entry['file']} was changed after the graphs were made. Extract them again."
                )

    def _row_group(
        self, part: int, files: dict[str, pq.ParquetFile], group: int, columns: dict[str, tuple[str, ...]]
    ) -> dict[str, pa.Table]:
        try:
            return {name: files[name].read_row_group(group, columns=list(columns[name])) for name in columns}
        except (pa.ArrowException, OSError, IndexError, KeyError):
            raise self._damaged(part) from None

    def _damaged(self, part: int) -> UserError:
        return UserError(
            f"{self.path}: part {part} is damaged, or its tables do not agree. `graphprep validate` says where; extract it again."
        )

    def _file(self, entry: dict[str, Any]) -> pq.ParquetFile:
        path = self.path / entry["file"]
        if Path(entry["file"]).is_absolute() or ".." in Path(entry["file"]).parts:
            raise UserError(f"{self.path / 'manifest.json'} names a file outside the folder. Extract the graphs again.")
        try:
            file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise UserError(f"{path} is missing, though the manifest names it. Extract the graphs again.") from None
        except (pa.ArrowException, OSError):
            raise UserError(f"{path} is no whole Parquet file. Extract the graphs again.") from None
        if file.metadata.num_rows != entry["rows"]:
            raise UserError(
                f"{path} has {file.metadata.num_rows:,} rows where the manifest says {entry['rows']:,}. Extract the graphs again."
            )
        return file

    def _rows(self, tables: dict[str, pa.Table]) -> ReportRows:
        reports, nodes, edges = (tables[name] for name in ("reports", "nodes", "edges"))
        n_nodes = reports.column("n_nodes").to_numpy().astype(np.int64)
        n_edges = reports.column("n_edges").to_numpy().astype(np.int64)
        if n_nodes.sum() != nodes.num_rows or n_edges.sum() != edges.num_rows:
            raise IndexError("rows")

        # Stated nodes are numbered anew within their report.
        report_of_node = np.repeat(np.arange(len(n_nodes)), n_nodes)
        stated = pc.equal(nodes.column("origin"), "stated").to_numpy()
        node_counts = np.bincount(report_of_node[stated], minlength=len(n_nodes))
        number = np.cumsum(stated) - 1 - (np.cumsum(node_counts) - node_counts)[report_of_node]

        report_of_edge = np.repeat(np.arange(len(n_edges)), n_edges)
        first_node = (np.cumsum(n_nodes) - n_nodes)[report_of_edge]
        ends = [edges.column(end).to_numpy().astype(np.int64) for end in ("source", "target")]
        if any(((end < 0) | (end >= n_nodes[report_of_edge])).any() for end in ends):
            raise IndexError("ends")
        source, target = (first_node + end for end in ends)
        kept = pc.equal(edges.column("origin"), "stated").to_numpy() & stated[source] & stated[target]

        nodes = nodes.filter(pa.array(stated))
        sides, assertions = nodes.column("side").to_pylist(), nodes.column("assertion").to_pylist()
        kinds, concepts = nodes.column("kind").to_pylist(), nodes.column("concept").to_pylist()
        rows = np.fromiter(
            (self._rows_of_concepts[kind][concept] for kind, concept in zip(kinds, concepts, strict=True)),
            np.int32,
            len(kinds),
        )
        attributes = nodes.column("attributes").to_pylist()
        if self.has_text:
            texts, spans = self._written(reports, node_counts, nodes.column("spans").to_pylist())
        else:
            texts, spans = self._rebuilt(node_counts, rows, sides, assertions, attributes)
        return ReportRows(
            report_ids=reports.column("report_id").to_pylist(),
            subject_ids=reports.column("subject_id").to_pylist(),
            images=reports.column("images").to_pylist(),
            texts=texts,
            node_counts=node_counts,
            concepts=rows,
            sides=sides,
            assertions=assertions,
            attributes=attributes,
            spans=spans,
            edge_counts=np.bincount(report_of_edge[kept], minlength=len(n_edges)),
            sources=number[source[kept]],
            targets=number[target[kept]],
            relations=edges.column("relation").filter(pa.array(kept)).to_pylist(),
        )

    def _written(
        self, reports: pa.Table, node_counts: NDArray[np.int64], spans: list[list[dict[str, int]]]
    ) -> tuple[list[str], list[list[tuple[int, int]]]]:
        """The bodies of the sections that were extracted, and the nodes' spans there.

        Indication and technique say nothing of the image; without them, reports that say the same have equal texts. A
        report without such a section is read whole.
        """
        texts: list[str] = []
        moved: list[list[tuple[int, int]]] = []
        node = 0
        for text, sections, count in zip(
            reports.column("text").to_pylist(), reports.column("sections").to_pylist(), node_counts, strict=True
        ):
            text = text or ""
            bodies = [(s["start"], s["end"]) for s in sections if s["name"] in self._sections and s["start"] < s["end"]]
            bodies = sorted(bodies) or [(0, len(text))]
            starts, shifts, kept = [], [], ""
            for start, end in bodies:
                kept += "\n" if kept else ""
                starts.append(start)
                shifts.append(len(kept) - start)
                kept += text[start:end]
            texts.append(kept)
            for of_node in spans[node : node + count]:
                inside = []
                for span in of_node:
                    body = int(np.searchsorted(starts, span["start"], side="right")) - 1
                    if body >= 0 and span["end"] <= bodies[body][1]:
                        inside.append((span["start"] + shifts[body], span["end"] + shifts[body]))
                moved.append(inside)
            node += count
        return texts, moved

    def _rebuilt(
        self,
        node_counts: NDArray[np.int64],
        rows: NDArray[np.int32],
        sides: list[str | None],
        assertions: list[str],
        attributes: list[list[dict[str, str]]],
    ) -> tuple[list[str], list[list[tuple[int, int]]]]:
        """Graphs without text: a phrase for each node."""
        phrases = [
            phrase(self._names[row], side, assertion, [attribute["words"] for attribute in of_node])
            for row, side, assertion, of_node in zip(rows, sides, assertions, attributes, strict=True)
        ]
        texts: list[str] = []
        spans: list[list[tuple[int, int]]] = []
        node = 0
        for count in node_counts:
            text, places = join(phrases[node : node + count])
            texts.append(text)
            spans += [[place] for place in places]
            node += count
        return texts, spans


_COLUMNS = {
    "reports": ("report_id", "subject_id", "images", "text", "sections", "n_nodes", "n_edges"),
    "nodes": ("kind", "concept", "side", "assertion", "origin", "attributes", "spans"),
    "edges": ("source", "target", "relation", "origin"),
}


def _hash(purpose: bytes, text: str) -> int:
    """63 bits that are the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=purpose).digest(), "little") >> 1


def content_key(text: str) -> int:
    """A 63-bit key of what is said: equal texts, equal keys."""
    return _hash(b"content", text)
