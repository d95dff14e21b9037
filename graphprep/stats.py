"""What a graphs folder holds: the counts a researcher asks for first, and their table.

One pass by row group. What is kept grows with the vocabulary, not with the reports: counters, histograms of counts per
report, eight bytes a subject, and the unlinked words, of which rare ones are forgotten when there are too many.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from rich.box import Box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphprep.graphs import GraphFolder, open_graphs
from graphprep.show import printable

#: Reports whose graphs are built in networkx for the connectivity.
CONNECTIVITY_REPORTS = 100_000

#: A counter of words is cut down to half of this when it exceeds it.
_MOST_WORDS = 200_000

#: Categories that are no finding: a report with nothing else present or uncertain counts as one without finding.
_NO_FINDING = ("normality", "device", "postoperative")

_COLUMNS = {
    "reports": ["subject_id", "split", "images", "sections", "sentences"],
    "mentions": ["label", "assertion", "measurement", "text", "section", "temporality", "relations", "concept"],
    "nodes": ["kind", "concept", "side", "assertion", "origin", "attributes", "sections"],
    "edges": ["source", "target", "relation", "origin"],
}

_ASSERTIONS = ("present", "uncertain", "absent")
_SIDES = ("left", "right", "bilateral", None)

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


def stats(folder: str | Path | GraphFolder, top: int = 50) -> dict[str, Any]:
    """All counts of a graphs folder, ready for JSON; `top` limits the lists of words, everything else is complete.

    Shares are between 0 and 1. A *finding* is a pathology node, present or uncertain, of a category other than
    normality, device and postoperative. An *unlinked* mention has no concept and modifies no other mention. Connectivity
    is that of the first 100,000 reports. Raises UserError as `open_graphs` does.
    """
    graphs = folder if isinstance(folder, GraphFolder) else open_graphs(folder)
    counts = _Counts(graphs)
    for batches in graphs.row_groups(_COLUMNS):
        counts.add_reports(batches["reports"])
        counts.add_mentions(batches["mentions"])
        counts.add_nodes(batches["nodes"], batches["reports"])
        counts.add_edges(batches["edges"])
        counts.add_connectivity(batches)
    for rejects in graphs.tables("rejects", ["reason"]):
        counts.rejected.update(_counted(rejects.column("reason")))
    return counts.summary(top)


class _Counts:
    """The counters, filled row group by row group."""

    def __init__(self, graphs: GraphFolder) -> None:
        self.graphs = graphs
        self.vocabulary = {kind: graphs.vocabulary(kind) for kind in graphs.names}
        self.category = {c: row["category"] for c, row in self.vocabulary["pathology"].items()}
        self.text: bool = graphs.manifest.get("text", True)
        self.subjects = _Distinct()
        self.per_report = {name: _Histogram() for name in ("sentences", "mentions", "nodes", "edges", "findings")}
        self.images = _Histogram()
        self.splits: Counter[Any] = Counter()
        self.report_sections: Counter[Any] = Counter()
        self.rejected: Counter[Any] = Counter()
        self.mentions: Counter[Any] = Counter()  # label, assertion, measurement, section, temporality
        self.mention_relations: Counter[Any] = Counter()
        self.heads: Counter[Any] = Counter()  # label, linked
        self.unlinked: Counter[Any] = Counter()  # label, words
        self.nodes: Counter[Any] = Counter()  # kind, concept, side, assertion, origin
        self.node_sections: Counter[Any] = Counter()  # kind, section
        self.attributes: Counter[Any] = Counter()  # kind
        self.words: Counter[Any] = Counter()  # kind, words
        self.edges: Counter[Any] = Counter()  # relation, origin
        self.connected = 0
        self.components, self.isolated, self.degrees = _Histogram(), _Histogram(), _Histogram()

    def add_reports(self, reports: pa.RecordBatch) -> None:
        self.splits.update(_counted(reports.column("split")))
        self.images.add(_lengths(reports.column("images")))
        self.per_report["sentences"].add(_lengths(reports.column("sentences")))
        for name in ("mentions", "nodes", "edges"):
            self.per_report[name].add(_ints(reports.column(f"n_{name}")))
        self.subjects.add(reports.column("subject_id").drop_null().to_pylist())
        owner, sections = _flattened(reports.column("sections"))
        named = pa.table({"report": owner, "name": pc.struct_field(sections, "name")})
        once = named.group_by(["report", "name"], use_threads=False).aggregate([])
        self.report_sections.update(_counted(once.column("name").combine_chunks()))

    def add_mentions(self, mentions: pa.RecordBatch) -> None:
        self.mentions.update(_grouped(mentions, ["label", "assertion", "measurement", "section", "temporality"]))
        owner, relations = _flattened(mentions.column("relations"))
        types = pc.struct_field(relations, "type")
        self.mention_relations.update(_counted(types))
        head = np.ones(mentions.num_rows, bool)
        head[owner.to_numpy()[_flags(pc.equal(types, "modify"))]] = False
        head &= ~_flags(mentions.column("measurement"))
        linked = pc.is_valid(mentions.column("concept"))
        heads = pa.table({"label": mentions.column("label"), "linked": linked}).filter(pa.array(head))
        self.heads.update(_grouped(heads, ["label", "linked"]))
        if self.text:
            words = pc.replace_substring_regex(pc.utf8_lower(mentions.column("text")), r"\s+", " ")
            loose = pa.table({"label": mentions.column("label"), "words": words})
            self.unlinked.update(_grouped(loose.filter(pa.array(head & ~_flags(linked))), ["label", "words"]))
            _forget_rare(self.unlinked)

    def add_nodes(self, nodes: pa.RecordBatch, reports: pa.RecordBatch) -> None:
        self.nodes.update(_grouped(nodes, ["kind", "concept", "side", "assertion", "origin"]))
        owner, sections = _flattened(nodes.column("sections"))
        kinds = nodes.column("kind")
        self.node_sections.update(
            _grouped(pa.table({"kind": kinds.take(owner), "section": sections}), ["kind", "section"])
        )
        _, attributes = _flattened(nodes.column("attributes"))
        named = pa.table({name: pc.struct_field(attributes, name) for name in ("kind", "words")})
        self.attributes.update(_counted(named.column("kind").combine_chunks()))
        self.words.update(_grouped(named, ["kind", "words"]))
        _forget_rare(self.words)
        # Findings per report: the node rows follow the reports, n_nodes each.
        no_finding = pa.array([c for c, category in self.category.items() if category in _NO_FINDING], pa.string())
        finding = _flags(pc.equal(kinds, "pathology")) & ~_flags(pc.equal(nodes.column("assertion"), "absent"))
        finding &= ~_flags(pc.is_in(nodes.column("concept"), no_finding))
        report = np.repeat(np.arange(reports.num_rows), _ints(reports.column("n_nodes")))
        self.per_report["findings"].add(np.bincount(report[finding], minlength=reports.num_rows))

    def add_edges(self, edges: pa.RecordBatch) -> None:
        self.edges.update(_grouped(edges, ["relation", "origin"]))

    def add_connectivity(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        """Components, isolated nodes and degrees of each report's graph, directions ignored."""
        if self.connected == CONNECTIVITY_REPORTS:
            return
        n_nodes = batches["reports"].column("n_nodes").to_pylist()[: CONNECTIVITY_REPORTS - self.connected]
        n_edges = batches["reports"].column("n_edges").to_pylist()
        pairs = zip(*(batches["edges"].column(end).to_pylist() for end in ("source", "target")), strict=True)
        components, isolated, degrees = [], [], []
        for nodes, edges in zip(n_nodes, n_edges, strict=False):
            graph: nx.DiGraph[int] = nx.DiGraph()
            graph.add_nodes_from(range(nodes))
            graph.add_edges_from(next(pairs) for _ in range(edges))
            if nodes:
                components.append(nx.number_weakly_connected_components(graph))
            degree = [d for _, d in graph.degree()]
            isolated.append(degree.count(0))
            degrees += degree
        self.connected += len(n_nodes)
        self.components.add(np.array(components, np.int64))
        self.isolated.add(np.array(isolated, np.int64))
        self.degrees.add(np.array(degrees, np.int64))

    def summary(self, top: int) -> dict[str, Any]:
        manifest = self.graphs.manifest
        per_report = self.per_report
        reports = len(self.graphs)
        return {
            "schema_version": manifest["schema_version"],
            "extractor": manifest.get("extractor", {}).get("name"),
            "text": self.text,
            "totals": {
                "reports": reports,
                "shards": len(manifest["shards"]),
                "subjects": self.subjects.count(),
                "images": self.images.total,
                "reports_with_images": reports - self.images.of(0),
                **{name: per_report[name].total for name in ("sentences", "mentions", "nodes", "edges")},
                "rejected": self.rejected.total(),
            },
            "splits": _ranked(self.splits),
            "per_report": {name: histogram.summary() for name, histogram in per_report.items()},
            "shares": {
                "no_mention": _share(per_report["mentions"].of(0), reports),
                "no_node": _share(per_report["nodes"].of(0), reports),
                "no_finding": _share(per_report["findings"].of(0), reports),
            },
            "pathologies": self._pathologies(),
            "anatomies": self._anatomies(),
            "nodes": {
                kind: {
                    "total": sum(n for (k, *_), n in self.nodes.items() if k == kind),
                    "sides": _by(self.nodes, 2, _SIDES, kind),
                    "assertions": _by(self.nodes, 3, _ASSERTIONS, kind),
                    "origins": _by(self.nodes, 4, ("stated", "vocabulary"), kind),
                    "sections": _ranked({s: n for (k, s), n in self.node_sections.items() if k == kind}),
                }
                for kind in self.vocabulary
            },
            "mentions": {
                "labels": _by(self.mentions, 0, ("anatomy", "observation")),
                "assertions": _by(self.mentions, 1, _ASSERTIONS, "observation"),
                "measurements": sum(n for (_, _, measurement, *_), n in self.mentions.items() if measurement),
                "sections": _by(self.mentions, 3),
                "temporality": _by(self.mentions, 4, ("current", "historical", "hypothetical")),
                "relations": _ranked(self.mention_relations),
            },
            "sections": _ranked(self.report_sections),
            "relations": {
                relation: {origin: self.edges[relation, origin] for origin in ("stated", "vocabulary")}
                for relation in ("located_at", "suggestive_of", "part_of")
            },
            "attributes": {
                kind: {"count": n, "words": _top({w: c for (k, w), c in self.words.items() if k == kind}, top)}
                for kind, n in self.attributes.most_common()
            },
            "rejected": _ranked(self.rejected),
            "linking": {
                label: {
                    "heads": self.heads[label, True] + self.heads[label, False],
                    "linked": self.heads[label, True],
                    "share": _share(self.heads[label, True], self.heads[label, True] + self.heads[label, False]),
                    "unlinked": _top({w: n for (k, w), n in self.unlinked.items() if k == label}, top)
                    if self.text
                    else None,
                }
                for label in ("observation", "anatomy")
            },
            "connectivity": {
                "reports": self.connected,
                "components": self.components.summary(),
                "connected_share": _share(self.components.of(1), self.components.count),
                "isolated_nodes": self.isolated.summary(),
                "isolated_share": _share(self.isolated.total, self.degrees.count),
                "degree": self.degrees.summary(),
            },
        }

    def _pathologies(self) -> dict[str, list[dict[str, Any]]]:
        """Category → concepts by frequency, with counts by assertion; findings first, the other categories by name."""
        table: dict[str, Counter[str]] = {}
        for (kind, concept, _, assertion, _), n in self.nodes.items():
            if kind == "pathology":
                table.setdefault(concept, Counter())[assertion] += n
        result: dict[str, list[dict[str, Any]]] = {}
        for concept, by_assertion in sorted(table.items(), key=lambda item: (-item[1].total(), item[0])):
            row: dict[str, Any] = {"concept": concept, "name": self.graphs.names["pathology"].get(concept, concept)}
            row |= {assertion: by_assertion[assertion] for assertion in _ASSERTIONS}
            row["total"] = by_assertion.total()
            result.setdefault(self.category.get(concept) or "finding", []).append(row)
        return dict(sorted(result.items(), key=lambda item: (item[0] != "finding", item[0])))

    def _anatomies(self) -> list[dict[str, Any]]:
        """Concepts by frequency, with counts by side; `stated` are those that the report itself names."""
        table: dict[str, Counter[Any]] = {}
        for (kind, concept, side, _, origin), n in self.nodes.items():
            if kind == "anatomy":
                row = table.setdefault(concept, Counter())
                row[side] += n
                row["stated"] += n if origin == "stated" else 0
        result = []
        for concept, by_side in table.items():
            sides = {side or "unsided": by_side[side] for side in _SIDES}
            name = self.graphs.names["anatomy"].get(concept, concept)
            total = sum(sides.values())
            result.append({"concept": concept, "name": name, **sides, "total": total, "stated": by_side["stated"]})
        return sorted(result, key=lambda row: (-row["total"], row["concept"]))


class _Distinct:
    """Counts different strings by their hashes in this process, eight bytes each."""

    def __init__(self) -> None:
        self.known: _Ints = np.empty(0, np.int64)
        self.fresh: list[int] = []

    def add(self, values: Iterable[str]) -> None:
        self.fresh += map(hash, values)
        if len(self.fresh) > max(100_000, len(self.known)):  # rarely enough that sorting costs little
            self.count()

    def count(self) -> int:
        self.known = np.union1d(self.known, np.array(self.fresh, np.int64))
        self.fresh = []
        return len(self.known)


class _Histogram:
    """How often each small number occurred: enough for mean, median and maximum of any amount of numbers."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, values: _Ints) -> None:
        found, times = np.unique(values, return_counts=True)
        self.counts.update(dict(zip(found.tolist(), times.tolist(), strict=True)))

    def of(self, value: int) -> int:
        return self.counts[value]

    @property
    def count(self) -> int:
        return self.counts.total()

    @property
    def total(self) -> int:
        return sum(value * times for value, times in self.counts.items())

    def summary(self) -> dict[str, float]:
        """Mean, median and maximum; zeros of nothing."""
        if not self.counts:
            return {"mean": 0.0, "median": 0.0, "max": 0}
        return {"mean": self.total / self.count, "median": self._median(), "max": max(self.counts)}

    def _median(self) -> float:
        low, high = (self.count - 1) // 2, self.count // 2
        middle, seen = [], 0
        for value, times in sorted(self.counts.items()):
            middle += [value for rank in (low, high) if seen <= rank < seen + times]
            seen += times
        return sum(middle) / 2


def _grouped(rows: pa.RecordBatch | pa.Table, keys: Sequence[str]) -> dict[tuple[Any, ...], int]:
    """How often each combination of the key columns occurs."""
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    found = table.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    columns = [found.column(key).to_pylist() for key in keys]
    return dict(zip(zip(*columns, strict=True), found.column("count_all").to_pylist(), strict=True))


def _counted(values: pa.Array) -> dict[Any, int]:
    """How often each value occurs."""
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(values).to_pylist()}


def _flattened(lists: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The items of all lists, and for each the row that holds it."""
    return pc.list_parent_indices(lists), pc.list_flatten(lists)


def _lengths(lists: pa.Array) -> _Ints:
    return _ints(pc.fill_null(pc.list_value_length(lists), 0))


def _ints(values: pa.Array) -> _Ints:
    array: _Ints = values.to_numpy(zero_copy_only=False).astype(np.int64)
    return array


def _flags(values: pa.Array) -> _Flags:
    array: _Flags = pc.fill_null(values, False).to_numpy(zero_copy_only=False).astype(bool)
    return array


def _forget_rare(counter: Counter[Any]) -> None:
    """Keep a counter of open-ended words bounded: drop the rarer half of the allowance when it overflows."""
    if len(counter) > _MOST_WORDS:
        kept = counter.most_common(_MOST_WORDS // 2)
        counter.clear()
        counter.update(dict(kept))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _ranked(counts: Mapping[Any, int]) -> dict[str, int]:
    """By frequency, then name; a missing value is called `none`."""
    named: Counter[str] = Counter()
    for key, n in counts.items():
        named["none" if key is None else str(key)] += n
    return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


def _top(counts: Mapping[str, int], top: int) -> list[dict[str, Any]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [{"text": words, "count": n} for words, n in ranked[:top]]


def _by(counts: Counter[Any], position: int, order: Iterable[Any] = (), first: str | None = None) -> dict[str, int]:
    """The counts summed over all parts of the key but one; `first` restricts the key's first part.

    With `order`, these values in this order, zeros included; else by frequency.
    """
    summed: Counter[Any] = Counter()
    for key, n in counts.items():
        if first is None or key[0] == first:
            summed[key[position]] += n
    return {value or "unsided": summed[value] for value in order} if order else _ranked(summed)


# Rendering. Words and names come from reports and users' files: they are escaped, and no markup is read in them.

_HEAD_RULE = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


def format_stats(found: Mapping[str, Any], width: int = 100, top: int = 20, color: bool = False) -> str:
    """The tables of `stats` as text, `width` columns wide at most; no list is longer than `top`."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        force_jupyter=False,
        legacy_windows=False,
        emoji=False,
        highlight=False,
        markup=False,
    )
    with console.capture() as capture:
        for block in _blocks(found, width, top):
            console.print(block)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _blocks(found: Mapping[str, Any], width: int, top: int) -> Iterable[RenderableType]:
    yield _overview(found)
    yield _titled("Per report", _per_report(found))
    for category, rows in found["pathologies"].items():
        yield _titled(_CATEGORY_TITLES.get(category, f"Pathologies: {category}"), _concepts(rows, _ASSERTIONS, top))
    yield _titled("Anatomies", _concepts(found["anatomies"], ("left", "right", "bilateral", "unsided", "stated"), top))
    yield _titled("Nodes, mentions and sections", _breakdown(found))
    yield _titled("Relations", _relations(found))
    if found["attributes"]:
        yield _titled("Attributes", _attributes(found, width))
    yield _titled("Linking", _linking(found, top))
    yield _titled("Connectivity", _connectivity(found))
    yield _titled("Rejected rows", _rejected(found))


_CATEGORY_TITLES = {
    "finding": "Findings",
    "normality": "Normal statements",
    "device": "Devices",
    "postoperative": "Postoperative states",
    "generic": "Unspecific findings",
}


def _overview(found: Mapping[str, Any]) -> RenderableType:
    totals, shares = found["totals"], found["shares"]
    given = [_n(totals["shards"], "shard")]
    given += [_n(totals[name], name[:-1]) for name in ("subjects", "images") if totals[name]]
    return _lines(
        ("reports", f"{totals['reports']:,} ({', '.join(given)}); {_n(totals['rejected'], 'row')} rejected"),
        ("split", _listed(found["splits"]) if set(found["splits"]) - {"none"} else ""),
        ("without a node", _pct(shares["no_node"])),
        ("without a finding", f"{_pct(shares['no_finding'])} (present or uncertain)"),
        ("rows", ", ".join(_n(totals[name], name[:-1]) for name in ("sentences", "mentions", "nodes", "edges"))),
        ("extractor", f"{found['extractor']}" + ("" if found["text"] else ", without report text (--no-text)")),
    )


def _per_report(found: Mapping[str, Any]) -> Table:
    table = _table("", "mean", "median", "max")
    for name, row in found["per_report"].items():
        table.add_row(name, *_distribution(row))
    return table


def _concepts(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], top: int) -> Table:
    table = _table("", "total", *columns)
    for row in rows[:top]:
        table.add_row(Text(printable(row["name"])), *(f"{row[column]:,}" for column in ("total", *columns)))
    if len(rows) > top:
        rest = rows[top:]
        more = Text(f"… {len(rest)} more", style="dim")
        table.add_row(more, *(f"{sum(row[column] for row in rest):,}" for column in ("total", *columns)))
    return table


def _breakdown(found: Mapping[str, Any]) -> Table:
    nodes, mentions = found["nodes"], found["mentions"]
    return _lines(
        ("pathology nodes", _listed(nodes["pathology"]["assertions"])),
        ("  side", _listed(nodes["pathology"]["sides"])),
        ("  section", _listed(nodes["pathology"]["sections"])),
        ("anatomy nodes", _listed(nodes["anatomy"]["origins"])),
        ("  side", _listed(nodes["anatomy"]["sides"])),
        ("observations", _listed(mentions["assertions"])),
        ("mentions", _listed(mentions["labels"] | {"measurement": mentions["measurements"]})),
        ("  time", _listed(mentions["temporality"])),
        ("  section", _listed(mentions["sections"])),
        ("reports with section", _listed(found["sections"])),
    )


def _relations(found: Mapping[str, Any]) -> RenderableType:
    table = _table("", "total", "stated", "vocabulary")
    for relation, row in found["relations"].items():
        table.add_row(relation, f"{sum(row.values()):,}", f"{row['stated']:,}", f"{row['vocabulary']:,}")
    return Group(table, Text(" between mentions: " + printable(_listed(found["mentions"]["relations"]) or "none")))


def _attributes(found: Mapping[str, Any], width: int) -> Table:
    table = _table("", "total", "most frequent")
    table.columns[2].justify = "left"
    room = max(width - 45, 20)  # what the other columns leave
    for kind, row in found["attributes"].items():
        words = printable(", ".join(f"{entry['text']} {entry['count']:,}" for entry in row["words"][:20]))
        if len(words) > room:
            words = words[: room - 1] + "…"
        table.add_row(Text(printable(kind)), f"{row['count']:,}", Text(words))
    return table


def _linking(found: Mapping[str, Any], top: int) -> RenderableType:
    table = _table("unlinked observation", "count", "unlinked anatomy", "count")
    table.columns[2].justify, table.columns[2].no_wrap = "left", False
    linking = found["linking"]
    columns = [linking[label]["unlinked"] or [] for label in ("observation", "anatomy")]
    for i in range(min(top, max(map(len, columns)))):
        cells = ((Text(printable(c[i]["text"])), f"{c[i]['count']:,}") if i < len(c) else ("", "") for c in columns)
        table.add_row(*(cell for pair in cells for cell in pair))
    shares = ", ".join(f"{_pct(row['share'])} of {_n(row['heads'], f'{label} head')}" for label, row in linking.items())
    parts: list[RenderableType] = [Text(f" Linked to a concept: {shares}")]
    if not found["text"]:
        parts.append(Text(" Which words are not linked cannot be said: the folder holds no text (--no-text)."))
    elif table.row_count:
        parts += [Text(""), table]
    return Group(*parts)


def _connectivity(found: Mapping[str, Any]) -> RenderableType:
    row = found["connectivity"]
    table = _table("", "mean", "median", "max")
    table.add_row("connected components per graph", *_distribution(row["components"]))
    table.add_row("isolated nodes per report", *_distribution(row["isolated_nodes"]))
    table.add_row("edges per node", *_distribution(row["degree"]))
    note = f" {_pct(row['connected_share'])} of the graphs are connected, {_pct(row['isolated_share'])} of the nodes isolated"
    if row["reports"] < found["totals"]["reports"]:
        note += f" (first {row['reports']:,} reports)"
    return Group(table, Text(note))


def _rejected(found: Mapping[str, Any]) -> RenderableType:
    return (
        _lines(*((reason, f"{n:,}") for reason, n in found["rejected"].items())) if found["rejected"] else Text(" none")
    )


def _titled(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(""), Text(printable(title), style="bold"), body)


def _table(*headers: str) -> Table:
    """A plain table: first column left, the others right."""
    table = Table(box=_HEAD_RULE, pad_edge=True, show_edge=False, header_style="dim")
    for i, header in enumerate(headers):
        table.add_column(
            header, justify="right" if i else "left", no_wrap=i > 0, overflow="fold", min_width=20 * (i == 0)
        )
    return table


def _lines(*rows: tuple[str, str]) -> Table:
    """Names and values without a header; long values wrap under themselves."""
    table = Table(box=None, show_header=False, pad_edge=True, padding=(0, 2, 0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(Text(printable(name)), Text(printable(value)))
    return table


def _distribution(row: Mapping[str, float]) -> tuple[str, str, str]:
    return f"{row['mean']:.1f}", f"{row['median']:g}", f"{row['max']:,}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _pct(share: float) -> str:
    return f"{100 * share:.1f} %"
