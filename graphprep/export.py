"""Graphs in the formats of others: RadGraph's JSON, GraphML, and arrays for PyTorch Geometric.

radgraph    the mentions and relations of every report (see `graphprep.radgraph_json` for what the format cannot hold)
graphml     a zip with one GraphML file per report; lists are JSON within a value, a missing value is left out
pyg         an .npz of packed arrays, read without unpickling; one `Data` object per report is made of it by

    z, t = dict(np.load("graphs.npz")), torch.from_numpy
    cut = lambda name, ptr, axis=0: np.split(z[name], z[ptr][1:-1], axis)
    parts = zip(cut("x", "node_ptr"), cut("edge_index", "edge_ptr", 1), cut("edge_attr", "edge_ptr"))
    data = [Data(x=t(x), edge_index=t(index), edge_attr=t(attr)) for x, index, attr in parts]

    x            (nodes, 5) int32: kind, concept, side, assertion, origin, each a place in the array of its name below
    edge_attr    (edges, 2) int8: relation, origin
    edge_index   (2, edges) int64: source and target, counted within the report
    node_ptr     (reports + 1) int64: the nodes of report i are node_ptr[i] to node_ptr[i + 1]; edge_ptr likewise
    report_id    (reports)
    kinds, concepts, sides, assertions, origins, relations: the names; `concepts` has the anatomies first; no side is ""
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, get_args
from urllib.parse import quote

import networkx as nx
import numpy as np

from graphprep.errors import UserError
from graphprep.graphs import GraphFolder, open_graphs, to_networkx
from graphprep.progress import Progress, progress
from graphprep.radgraph_json import annotation_of, to_json, unmarked_by
from graphprep.records import Assertion, EdgeRelation, Kind, Origin, ReportGraph, Side

_KINDS = get_args(Kind)
_SIDES = ("", *get_args(Side))
_ASSERTIONS = get_args(Assertion)
_ORIGINS = get_args(Origin)
_RELATIONS = get_args(EdgeRelation)


def export(graphs: str | Path, format: str, output: str | Path, *, show_progress: bool = False) -> int:
    """Write a graphs folder to one file in a format of `FORMATS`; returns the number of reports.

    The file is there as a whole or not at all, and the same graphs give the same bytes. Raises UserError if the folder or the
    file's place is no good, if the format is not known, or if it needs the text that the folder was written without.
    """
    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}. Expected one of {', '.join(FORMATS)}.")
    folder = open_graphs(graphs)
    with progress("export", enabled=show_progress) as bar, whole_file(Path(output)) as file:
        bar.start(len(folder), 0)
        FORMATS[format](folder, _counting(folder, bar), file)
    return len(folder)


def _radgraph(folder: GraphFolder, graphs: Iterator[ReportGraph], file: IO[bytes]) -> None:
    if not folder.manifest.get("text", True):
        raise UserError(f"{folder.path} holds no text (--no-text), and RadGraph's JSON is made of it.")
    before, unmarked = b"{\n", unmarked_by(folder.manifest)
    for graph in graphs:
        annotation = annotation_of(graph, unmarked=unmarked)
        assert annotation is not None  # the tokens are the text's own
        entry = json.dumps(to_json(annotation), ensure_ascii=False)
        file.write(before + f"{json.dumps(graph.report.report_id, ensure_ascii=False)}: {entry}".encode())
        before = b",\n"
    file.write((before if before == b"{\n" else b"\n") + b"}\n")


def _graphml(folder: GraphFolder, graphs: Iterator[ReportGraph], file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for graph in graphs:
            content = io.BytesIO()
            nx.write_graphml_xml(_plain(to_networkx(graph, folder.names)), content)
            name = quote(graph.report.report_id, safe="") + ".graphml"  # an id may hold slashes
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())


def _plain(graph: nx.DiGraph[int]) -> nx.DiGraph[int]:
    """The graph with values that GraphML has types for."""
    for values in (graph.graph, *(v for _, v in graph.nodes(data=True)), *(v for *_, v in graph.edges(data=True))):
        for name, value in list(values.items()):
            if value is None:
                del values[name]
            elif not isinstance(value, str):
                values[name] = json.dumps(value, ensure_ascii=False)
            else:
                values[name] = "".join(c for c in value if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff"))
    return graph


def _pyg(folder: GraphFolder, graphs: Iterator[ReportGraph], file: IO[bytes]) -> None:
    concepts = [(kind, concept) for kind in _KINDS for concept in folder.vocabulary(kind)]
    number = {key: place for place, key in enumerate(concepts)}
    ids, nodes, edges, node_counts, edge_counts = [], [], [], [], []
    for graph in graphs:
        ids.append(graph.report.report_id)
        node_counts.append(len(graph.nodes))
        edge_counts.append(len(graph.edges))
        rows = [
            (
                _KINDS.index(node.kind),
                number[node.kind, node.concept],
                _SIDES.index(node.side or ""),
                _ASSERTIONS.index(node.assertion),
                _ORIGINS.index(node.origin),
            )
            for node in graph.nodes
        ]
        nodes.append(np.array(rows, np.int32).reshape(-1, 5))
        pairs = [(e.source, e.target, _RELATIONS.index(e.relation), _ORIGINS.index(e.origin)) for e in graph.edges]
        edges.append(np.array(pairs, np.int32).reshape(-1, 4))
    edge = np.concatenate([np.empty((0, 4), np.int32), *edges])
    np.savez_compressed(
        file,
        x=np.concatenate([np.empty((0, 5), np.int32), *nodes]),
        edge_index=np.ascontiguousarray(edge[:, :2].T, np.int64),
        edge_attr=edge[:, 2:].astype(np.int8),
        node_ptr=np.concatenate([[0], np.cumsum(node_counts, dtype=np.int64)]).astype(np.int64),
        edge_ptr=np.concatenate([[0], np.cumsum(edge_counts, dtype=np.int64)]).astype(np.int64),
        report_id=np.array(ids, np.str_),
        kinds=np.array(_KINDS),
        concepts=np.array([concept for _, concept in concepts], np.str_),
        sides=np.array(_SIDES),
        assertions=np.array(_ASSERTIONS),
        origins=np.array(_ORIGINS),
        relations=np.array(_RELATIONS),
    )


#: Name → what writes the graphs of a folder to a file.
FORMATS: dict[str, Callable[[GraphFolder, Iterator[ReportGraph], IO[bytes]], None]] = {
    "radgraph": _radgraph,
    "graphml": _graphml,
    "pyg": _pyg,
}


def _counting(folder: GraphFolder, bar: Progress) -> Iterator[ReportGraph]:
    for done, graph in enumerate(folder):
        bar.update(done)
        yield graph


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is complete."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror}). Give another file with -o.") from None
    finally:
        with suppress(OSError):  # nothing is there where nothing can be written
            temporary.unlink(missing_ok=True)
