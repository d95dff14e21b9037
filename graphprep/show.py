"""One report for the eye: its text with the mentions marked, and its graph as a tree.

Report text, ids and names come from files of others. Whatever could act on a terminal is shown escaped, and text is never
read as markup.
"""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from graphprep.graphs import GraphFolder, open_graphs
from graphprep.records import Edge, Kind, Mention, Node, ReportGraph

_STYLES = {"present": "green", "uncertain": "yellow", "absent": "red", "anatomy": "cyan"}
_SIGNS = {"present": "+", "uncertain": "?", "absent": "-", "anatomy": "@"}

#: What is left out around text; other blanks are control characters, which are shown.
_BLANKS = " \t\n"

#: Categories that are listed apart from the findings, with their titles.
_APART = {"normality": "normal", "device": "devices", "postoperative": "postoperative states"}


@dataclass(frozen=True)
class ReportView:
    """A report's graph with what is needed to show it. A rich renderable: `rich.print(view)` uses the terminal's colours."""

    graph: ReportGraph
    has_text: bool
    names: Mapping[Kind, Mapping[str, str]]
    """Kind → concept → name."""
    categories: Mapping[str, str | None]
    """Pathology concept → category."""

    def __rich__(self) -> RenderableType:
        body = _marked_text(self.graph) if self.has_text else _mention_list(self.graph)
        return Group(_header(self), Text(""), *body, Text(""), *_graph(self))

    def text(self, width: int = 100, color: bool = False) -> str:
        """The view as plain text, or with the colours of a terminal."""
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
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"

    def data(self) -> dict[str, Any]:
        """All there is of the report: its row of `reports`, its mentions, and nodes and edges with names."""
        graph = asdict(self.graph)
        report = graph.pop("report")
        report["sections"], report["sentences"] = graph.pop("sections"), graph.pop("sentences")
        for node in graph["nodes"]:
            node["name"] = self.names[node["kind"]].get(node["concept"], node["concept"])
            node["category"] = self.categories.get(node["concept"]) if node["kind"] == "pathology" else None
        if not self.has_text:
            for row in (report, *graph["mentions"]):
                row["text"] = None
        return {"report": report, **graph}

    def json(self) -> str:
        """`data` as JSON; characters beyond ASCII are escaped, so nothing in it acts on a terminal."""
        return json.dumps(self.data(), indent=2)


def show(folder: str | Path | GraphFolder, report_id: str) -> ReportView:
    """The view of one report. Raises UserError for an unknown id (naming near ones), and as `open_graphs` does."""
    graphs = folder if isinstance(folder, GraphFolder) else open_graphs(folder)
    return ReportView(
        graph=graphs.get(report_id),
        has_text=bool(graphs.manifest["text"]),
        names=graphs.names,
        categories={concept: row["category"] for concept, row in graphs.vocabulary("pathology").items()},
    )


def printable(text: str) -> str:
    r"""The text with every character that could act on a terminal, or hide, as an escape; newlines stay, tabs are blanks.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():  # no control, format, surrogate, private or unassigned character, no separator but a space
        return text
    return "".join(map(_printable_character, text.replace("\t", "    ")))


def _printable_character(character: str) -> str:
    if character == "\n" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def _header(view: ReportView) -> Text:
    report = view.graph.report
    text = Text(f"Report {printable(report.report_id)}", style="bold")
    facts = [
        f"{name} {value}"
        for name, value in (("subject", report.subject_id), ("study", report.study_id), ("split", report.split))
        if value
    ]
    facts.append(f"{report.source}, row {report.source_row}")
    images = [image.path + (f" ({image.view})" if image.view else "") for image in report.images]
    if images:
        facts.append(f"{len(images)} image{'s' * (len(images) > 1)}: " + ", ".join(images))
    return text.append("\n" + printable("; ".join(facts)), style="not bold dim")


# The text


def _marked_text(graph: ReportGraph) -> Iterator[RenderableType]:
    """The report from its first character to its last: section by section, what lies outside of them dimmed."""
    text = graph.report.text
    position = 0
    for section in sorted(graph.sections, key=lambda section: (section.start, section.end)):
        before, heading = _split_heading(text[position : section.start])
        yield from _block(graph, position, position + len(before), "dim")
        title = Text(printable(section.name).upper(), style="bold")
        written = heading.rstrip(_BLANKS + ":")
        if written and written.casefold() != section.name.casefold():
            title.append(f"  ({printable(written)})", style="not bold dim")
        yield title
        yield from _block(graph, section.start, section.end)
        position = max(position, section.end)
    yield from _block(graph, position, len(text), "dim" if graph.sections else "")
    if not text.strip(_BLANKS):
        yield Text("  (the report is empty)", style="dim")
    yield Text("\n[words]+n present   ?n uncertain   -n absent   @n anatomy   n~ past or hypothetical", style="dim")


def _split_heading(between: str) -> tuple[str, str]:
    """What stands before a section's body, split into text that belongs to no section, and the section's own heading."""
    start = between.rstrip(_BLANKS).rfind("\n") + 1
    heading = between[start:].strip(_BLANKS)
    return (between[:start], heading) if len(heading) <= 60 else (between, "")


def _block(graph: ReportGraph, start: int, end: int, style: str = "") -> Iterator[RenderableType]:
    """A stretch of the report with its mentions in brackets, indented; nothing if it is blank."""
    text = graph.report.text
    while start < end and text[start] in _BLANKS:
        start += 1
    while start < end and text[end - 1] in _BLANKS:
        end -= 1
    if start == end:
        return
    marks = [m for m in graph.mentions if start <= m.start < m.end <= end]
    # Brackets by position: at one place, closing ones (inner mention first) stand before opening ones (outer first).
    edges = [(m.end, 0, -m.start, m) for m in marks] + [(m.start, 1, -m.end, m) for m in marks]
    block, position, active = Text(style=style), start, list[Mention]()
    for place, opens, _, mention in sorted(edges, key=lambda edge: (*edge[:3], edge[3].mention_id)):
        block.append(printable(text[position:place]), style=_style(active[-1]) if active else "")
        position = place
        if opens:
            active.append(mention)
            block.append("[", style=_style(mention))
        else:
            active.remove(mention)
            block.append(f"]{_label(mention)}", style=_style(mention))
    block.append(printable(text[position:end]))
    yield Padding(block, (0, 0, 0, 2))


def _sign_of(mention: Mention) -> str:
    return "anatomy" if mention.label == "anatomy" else mention.assertion


def _style(mention: Mention) -> str:
    return f"not dim {_STYLES[_sign_of(mention)]}"


def _label(mention: Mention) -> str:
    return f"{_SIGNS[_sign_of(mention)]}{mention.mention_id}" + ("" if mention.temporality == "current" else "~")


def _mention_list(graph: ReportGraph) -> Iterator[RenderableType]:
    """What can be said of the mentions of a report whose text was not kept: where they are and what they were linked to."""
    yield Text("The folder was written without report text; mentions by their offsets.", style="dim")
    section: str | None = ""
    for mention in graph.mentions:
        if mention.section != section:
            section = mention.section
            yield Text(printable(section or "outside of every section").upper(), style="bold")
        line = Text("  ").append(f"[{mention.start}–{mention.end}]{_label(mention)}", style=_style(mention))
        details = [mention.label, f"sentence {mention.sentence}"]
        if mention.measurement:
            details.append("measurement")
        details += [f"{relation.type} {relation.target}" for relation in mention.relations]
        if mention.temporality != "current":
            details.append(mention.temporality)
        line.append("  " + ", ".join(details), style="dim")
        yield line.append(f"  {printable(mention.concept)}" if mention.concept else "")


# The graph


def _graph(view: ReportView) -> Iterator[RenderableType]:
    """A tree for each assertion of the findings, for each other category, and for the anatomies that no finding is at."""
    nodes = {node.node_id: node for node in view.graph.nodes}
    out: dict[int, list[Edge]] = {}
    for edge in view.graph.edges:
        out.setdefault(edge.source, []).append(edge)
    yield Text(f"GRAPH  nodes {len(nodes)}, edges {len(view.graph.edges)}", style="bold")

    trees: dict[str, Tree] = {}
    for node in _in_order(view):
        title = _APART.get(view.categories.get(node.concept) or "", node.assertion)
        if title not in trees:
            trees[title] = Tree(Text(title, style=_STYLES.get(title, "bold")), guide_style="dim")
        branch = trees[title].add(_node_line(view, node, sign=title != node.assertion))
        for edge in out.get(node.node_id, []):
            leaf = branch.add(_edge_line(view, edge, nodes[edge.target]))
            if edge.relation == "located_at":
                _add_wholes(view, leaf, edge.target, nodes, out, {edge.target})
    yield from trees.values()

    located = {edge.target for edge in view.graph.edges if edge.relation == "located_at"}
    reached = located | _wholes(located, out)
    others = [node for node in nodes.values() if node.kind == "anatomy" and node.node_id not in reached]
    if others:
        tree = Tree(Text("anatomy without a finding", style=_STYLES["anatomy"]), guide_style="dim")
        for node in others:
            _add_wholes(view, tree.add(_node_line(view, node)), node.node_id, nodes, out, {node.node_id})
        yield tree
    if not nodes:
        yield Text("  (no mention is covered by the vocabulary)", style="dim")


def _in_order(view: ReportView) -> list[Node]:
    """The pathology nodes: findings by assertion, then the other categories; in each, as in the report."""
    groups = ["present", "uncertain", "absent", *_APART.values()]

    def rank(node: Node) -> tuple[int, int]:
        return groups.index(_APART.get(view.categories.get(node.concept) or "", node.assertion)), node.node_id

    return sorted((node for node in view.graph.nodes if node.kind == "pathology"), key=rank)


def _node_line(view: ReportView, node: Node, sign: bool = False) -> Text:
    """`pleural effusion, left  #3  severity: small; change: unchanged`, with the assertion where the title lacks it."""
    line = Text().append(_name(view, node), style=_STYLES["anatomy"] if node.kind == "anatomy" else "")
    if sign and node.assertion != "present":
        line.append(f" ({node.assertion})", style=_STYLES[node.assertion])
    line.append(f"  #{node.node_id}", style="dim")
    attributes: dict[str, list[str]] = {}
    for attribute in node.attributes:
        attributes.setdefault(attribute.kind, []).append(attribute.words)
    details = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in attributes.items())
    if details:
        line.append("  " + printable(details))
    return line


def _edge_line(view: ReportView, edge: Edge, target: Node) -> Text:
    """`located at pleural space, left  #1  (vocabulary)`."""
    line = Text().append(edge.relation.replace("_", " ") + " ", style="dim")
    line.append(_node_line(view, target, sign=True))
    if edge.origin == "vocabulary":
        line.append("  (vocabulary)", style="dim")
    return line


def _name(view: ReportView, node: Node) -> str:
    name = printable(view.names[node.kind].get(node.concept, node.concept))
    return f"{name}, {node.side}" if node.side else name


def _add_wholes(
    view: ReportView, tree: Tree, node_id: int, nodes: Mapping[int, Node], out: Mapping[int, list[Edge]], seen: set[int]
) -> None:
    """Below an anatomy, what it is part of; `seen` ends a circle, which a damaged folder might hold."""
    for edge in out.get(node_id, []):
        if edge.relation == "part_of" and edge.target not in seen:
            seen.add(edge.target)
            _add_wholes(view, tree.add(_edge_line(view, edge, nodes[edge.target])), edge.target, nodes, out, seen)


def _wholes(start: set[int], out: Mapping[int, list[Edge]]) -> set[int]:
    """Everything that the anatomies are part of, however far up."""
    found: set[int] = set()
    todo = list(start)
    while todo:
        for edge in out.get(todo.pop(), []):
            if edge.relation == "part_of" and edge.target not in found:
                found.add(edge.target)
                todo.append(edge.target)
    return found
