"""Tiny image-report pairs with their graphs, written with the schemas alone: what the tests of the trainer train on.

An image is noise with two dark lung fields and a heart. A finding is a bright blob at a side and a zone: an opacity is wide and
soft, a nodule small and sharp; cardiomegaly is a wide heart; an effusion fills the base of a lung. The patient's left is on the
right of the image. Reports state what is there (some of it left out), deny some of what is not, and say where, also of what
they deny. A few hundred pairs can be learnt in seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from schemas import SCHEMA_VERSION, TABLES, arrow_schema

_CONCEPT: dict[str, Any] = dict.fromkeys(arrow_schema("vocabulary").names) | {
    "opposite": [],
    "synonyms": [],
    "labels": [],
    "count": 0,
}

ANATOMY = [
    _CONCEPT | {"concept": concept, "name": concept.replace("_", " "), "part_of": part_of, "sided": sided}
    for concept, part_of, sided in [
        ("thorax", None, False),
        ("lung", "thorax", True),
        ("upper_zone", "lung", True),
        ("lower_zone", "lung", True),
        ("pleural_space", "thorax", True),
        ("heart", "thorax", False),
    ]
]
PATHOLOGY = [
    _CONCEPT
    | {
        "concept": concept,
        "name": concept.replace("_", " "),
        "parent": parent,
        "category": category,
        "site": site,
        "opposite": opposite,
    }
    for concept, parent, category, site, opposite in [
        ("lung_opacity", None, "finding", "lung", ["clear_lungs"]),
        ("opacity", "lung_opacity", "finding", "lung", []),
        ("nodule", "lung_opacity", "finding", "lung", []),
        ("pleural_effusion", None, "finding", "pleural_space", []),
        ("cardiomegaly", None, "finding", "heart", ["normal_heart_size"]),
        ("normal_heart_size", None, "normality", "heart", ["cardiomegaly"]),
        ("clear_lungs", None, "normality", "lung", ["lung_opacity"]),
        ("pacemaker", None, "device", None, []),
    ]
]
for _rows in (ANATOMY, PATHOLOGY):
    for _index, _row in enumerate(_rows):
        _row["index"] = _index

FINDINGS = ("opacity", "nodule", "pleural_effusion", "cardiomegaly")


@dataclass
class HandNode:
    kind: str
    concept: str
    side: str | None = None
    assertion: str = "present"
    spans: list[tuple[int, int]] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)  # kind, words
    origin: str = "stated"


@dataclass
class HandEdge:
    source: int
    target: int
    relation: str = "located_at"
    origin: str = "stated"


@dataclass
class HandReport:
    report_id: str
    text: str = ""
    nodes: list[HandNode] = field(default_factory=list)
    edges: list[HandEdge] = field(default_factory=list)
    images: list[tuple[str, str | None]] = field(default_factory=list)  # path, view
    subject_id: str | None = None
    split: str | None = None
    sections: list[tuple[str, int, int]] | None = None  # None: all of it is findings


@dataclass
class HandmadePairs:
    """A folder with `graphs/`, `images/`, and the truth of every image."""

    folder: Path
    reports: list[HandReport]
    labels: list[dict[str, int]]  # by report: "opacity/left/upper" … "cardiomegaly" → 0 or 1
    pixels: list[NDArray[np.uint8]]
    boxes: list[dict[str, tuple[int, int, int, int]]]  # by report: as labels → x, y, width, height

    @property
    def graphs(self) -> Path:
        return self.folder / "graphs"

    @property
    def images(self) -> Path:
        return self.folder / "images"


def write_pairs(
    folder: Path, count: int = 240, size: int = 64, seed: int = 0, splits: bool = True, text: bool = True
) -> HandmadePairs:
    """Write pairs with their images; two parts, row groups of 50. Subjects have one to three reports."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    result = HandmadePairs(folder, [], [], [], [])
    subject = 0
    for number in range(count):
        if number == 0 or random.random() < 0.6:
            subject += 1
            share = random.random()
        labels = sample_labels(random)
        pixels, boxes = draw(labels, size, random)
        path = f"{number:05d}.png"
        Image.fromarray(pixels).save(folder / "images" / path)
        report = write_report(labels, random)
        report.report_id = f"r{number:05d}"
        report.subject_id = f"s{subject:04d}"
        report.split = ("train" if share < 0.7 else "validate" if share < 0.85 else "test") if splits else None
        report.images = [(path, "PA")]
        result.reports.append(report)
        result.labels.append(labels)
        result.pixels.append(pixels)
        result.boxes.append(boxes)
    half = -(-count // 2)
    parts = [
        [part[start : start + 50] for start in range(0, len(part), 50)]
        for part in (result.reports[:half], result.reports[half:])
    ]
    write_graphs(folder / "graphs", parts, image_root="../images", text=text)
    return result


# The truth, its picture and its report


def sample_labels(random: np.random.Generator) -> dict[str, int]:
    labels = {
        f"{finding}/{side}/{zone}": int(random.random() < 0.15)
        for finding in ("opacity", "nodule")
        for side in ("left", "right")
        for zone in ("upper", "lower")
    }
    labels |= {f"pleural_effusion/{side}": int(random.random() < 0.2) for side in ("left", "right")}
    return labels | {"cardiomegaly": int(random.random() < 0.3)}


def draw(
    labels: dict[str, int], size: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], dict[str, tuple[int, int, int, int]]]:
    """The picture of some labels, (size, size), and the box of each that is 1."""
    y, x = np.mgrid[0:size, 0:size] / size
    shift_x, shift_y = random.uniform(-0.03, 0.03, 2)

    def disc(centre_x: float, centre_y: float, radius_x: float, radius_y: float) -> NDArray[np.float64]:
        distance = ((x - centre_x - shift_x) / radius_x) ** 2 + ((y - centre_y - shift_y) / radius_y) ** 2
        return np.clip(1.5 - distance, 0, 1)

    image = np.full((size, size), 0.55)
    for centre in (0.28, 0.72):
        image -= 0.3 * disc(centre, 0.5, 0.18, 0.36)
    heart = 0.24 if labels["cardiomegaly"] else 0.13
    image += 0.25 * disc(0.54, 0.66, heart, 0.16)
    boxes = {}
    if labels["cardiomegaly"]:
        boxes["cardiomegaly"] = (0.54, 0.66, heart, 0.16)
    for name, value in labels.items():
        finding, _, place = name.partition("/")
        if not value or not place:
            continue
        side, _, zone = place.partition("/")
        centre = 0.72 if side == "left" else 0.28  # the patient's left is on the right of the image
        if finding == "pleural_effusion":
            boxes[name] = (centre, 0.84, 0.17, 0.08)
        else:
            height = (0.34 if zone == "upper" else 0.64) + random.uniform(-0.04, 0.04)
            radius = 0.11 if finding == "opacity" else 0.045
            boxes[name] = (centre + random.uniform(-0.05, 0.05), height, radius, radius)
        image += (0.5 if finding == "nodule" else 0.3) * disc(*boxes[name])
    image += random.normal(0, 0.03, image.shape)
    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return pixels, {
        name: (
            round((cx + shift_x - rx) * size),
            round((cy + shift_y - ry) * size),
            max(1, round(2 * rx * size)),
            max(1, round(2 * ry * size)),
        )
        for name, (cx, cy, rx, ry) in boxes.items()
    }


def write_report(labels: dict[str, int], random: np.random.Generator) -> HandReport:
    """Sentences on some of the labels, in random order."""
    builder = _Builder()
    statements = []
    for name, value in labels.items():
        if random.random() < (0.9 if value else 0.25):
            assertion = "uncertain" if value and random.random() < 0.15 else "present" if value else "absent"
            statements.append((name, assertion))
    lungs = [name for name in labels if name.startswith(("opacity", "nodule"))]
    if not any(labels[name] for name in lungs) and random.random() < 0.5:
        statements = [(name, assertion) for name, assertion in statements if name not in lungs]
        statements.append(("clear_lungs", "present"))
    if not labels["cardiomegaly"] and random.random() < 0.5:
        statements = [(name, assertion) for name, assertion in statements if name != "cardiomegaly"]
        statements.append(("normal_heart_size", "present"))
    for index in random.permutation(len(statements)):
        builder.state(*statements[index], random)
    return HandReport("", builder.text, builder.nodes, builder.edges)


class _Builder:
    def __init__(self) -> None:
        self.text = ""
        self.nodes: list[HandNode] = []
        self.edges: list[HandEdge] = []

    def state(self, name: str, assertion: str, random: np.random.Generator) -> None:
        concept, _, place = name.partition("/")
        side, _, zone = place.partition("/")
        lead = {
            "present": ("There is", "Again seen is"),
            "uncertain": ("Possible", "There may be"),
            "absent": ("No", "There is no"),
        }
        self.text += " " if self.text else ""
        if concept == "clear_lungs":
            self._node("pathology", concept, None, assertion, "The lungs are clear")
        elif concept == "normal_heart_size":
            self._node("pathology", concept, None, assertion, "Heart size is normal")
        else:
            self.text += str(random.choice(lead[assertion])) + " "
            small = concept == "pleural_effusion" and random.random() < 0.3
            self.text += "small " if small else ""
            words = f"{side} pleural effusion" if concept == "pleural_effusion" else concept
            finding = self._node("pathology", concept, side or None, assertion, words)
            if small and ("severity", "small") not in self.nodes[finding].attributes:
                self.nodes[finding].attributes.append(("severity", "small"))
            if zone:
                self.text += " in the "
                target = self._node("anatomy", f"{zone}_zone", side, "present", f"{side} {zone} zone")
                if all((edge.source, edge.target) != (finding, target) for edge in self.edges):
                    self.edges.append(HandEdge(finding, target))
        self.text += "."

    def _node(self, kind: str, concept: str, side: str | None, assertion: str, words: str) -> int:
        """Write the words of a node, joining the node that says the same."""
        span = (len(self.text), len(self.text) + len(words))
        self.text += words
        for number, node in enumerate(self.nodes):
            if (node.kind, node.concept, node.side, node.assertion) == (kind, concept, side, assertion):
                node.spans.append(span)
                return number
        self.nodes.append(HandNode(kind, concept, side, assertion, [span]))
        return len(self.nodes) - 1


# The folder


def write_graphs(
    folder: Path,
    parts: Sequence[Sequence[Sequence[HandReport]]],
    image_root: str | None = "../images",
    text: bool = True,
) -> Path:
    """Write parts of row groups of reports as a finished graphs folder."""
    shards = []
    for part, groups in enumerate(parts):
        files = {}
        for table in TABLES:
            path = folder / table / f"part-{part:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(path, arrow_schema(table)) as writer:
                for group in groups:
                    rows = _rows(table, group, text)
                    if rows or table != "rejects":
                        writer.write_table(pa.Table.from_pylist(rows, arrow_schema(table)), row_group_size=10**6)
            files[table] = _entry(folder, path)
        shards.append({"part": part, "tables": files})
    vocabularies = {}
    for kind, concepts in (("anatomy", ANATOMY), ("pathology", PATHOLOGY)):
        path = folder / "vocab" / f"{kind}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        nodes = [node for groups in parts for group in groups for report in group for node in report.nodes]
        counted = [
            row | {"count": sum((node.kind, node.concept) == (kind, row["concept"]) for node in nodes)}
            for row in concepts
        ]
        pq.write_table(pa.Table.from_pylist(counted, arrow_schema("vocabulary")), path)
        vocabularies[kind] = _entry(folder, path)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "extractor": {"name": "handmade", "settings": {}},
        "sections": ["findings", "impression"],
        "text": text,
        "vocabulary": {
            kind: {"sha256": "0" * 64, "concepts": len(rows)}
            for kind, rows in (("anatomy", ANATOMY), ("pathology", PATHOLOGY))
        },
        "input": {"files": [], "columns": {}, "fingerprint": "0" * 64},
        "image_root": image_root,
        "shard_size": 1000,
        "shards": shards,
        "vocabulary_files": vocabularies,
        "totals": {table: sum(shard["tables"][table]["rows"] for shard in shards) for table in TABLES},
        "rejected": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return folder


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    return {
        "file": path.relative_to(folder).as_posix(),
        "rows": pq.ParquetFile(path).metadata.num_rows,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _rows(table: str, reports: Sequence[HandReport], text: bool) -> list[dict[str, Any]]:
    if table == "reports":
        return [_report_row(row, report, text) for row, report in enumerate(reports, start=1)]
    if table == "nodes":
        return [
            {
                "report_id": report.report_id,
                "node_id": node_id,
                "kind": node.kind,
                "concept": node.concept,
                "side": node.side,
                "assertion": node.assertion,
                "origin": node.origin,
                "attributes": [{"kind": kind, "words": words} for kind, words in sorted(node.attributes)],
                "sections": ["findings"],
                "mentions": [0],
                "spans": [{"start": start, "end": end} for start, end in node.spans],
            }
            for report in reports
            for node_id, node in enumerate(report.nodes)
        ]
    if table == "edges":
        return [
            {
                "report_id": report.report_id,
                "source": edge.source,
                "target": edge.target,
                "relation": edge.relation,
                "origin": edge.origin,
            }
            for report in reports
            for edge in report.edges
        ]
    return []  # the trainer reads neither mentions nor rejects


def _report_row(row: int, report: HandReport, text: bool) -> dict[str, Any]:
    sections = [("findings", 0, len(report.text))] if report.sections is None else report.sections
    return {
        "report_id": report.report_id,
        "subject_id": report.subject_id,
        "study_id": None,
        "split": report.split,
        "images": [{"path": path, "view": view, "image_id": None} for path, view in report.images],
        "text": report.text if text else None,
        "sections": [{"name": name, "start": start, "end": end} for name, start, end in sections],
        "sentences": [],
        "source": "handmade",
        "source_row": row,
        "n_mentions": 0,
        "n_nodes": len(report.nodes),
        "n_edges": len(report.edges),
    }
