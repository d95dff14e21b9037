"""The result of `evaluate` as text for the eye."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graphprep.evaluate.label_scores import label_rows
from graphprep.show import printable

_HEADER = ("", "precision", "recall", "F1", "95 % interval", "matched", "predicted", "gold")

_MEASURES = {
    "mentions": {"span": "span", "span_label": "span, label", "": "span, label, assertion"},
    "relations": {"": "between spans", "typed": "between typed spans"},
    "nodes": {
        "concept": "concept",
        "concept_assertion": "concept, assertion",
        "": "concept, assertion, side",
    },
    "edges": {"": "with both end nodes"},
}
_PARTS = {"mentions": ["types"], "relations": ["types"], "nodes": ["kinds", "assertions"], "edges": ["relations"]}


def format_evaluation(found: Mapping[str, Any], top: int = 20) -> str:
    """The tables of `evaluate`, with all confusions that it holds; at most `top` concepts of each kind."""
    lines = list(_reports(found))
    rows: list[Sequence[str] | None] = []
    for name, measures in _MEASURES.items():
        if found.get(name) is not None:
            rows.append(None)
            rows += _rows(name, found[name], measures, _PARTS[name])
    lines += _columns(rows)
    if "radgraph_reward" in found:
        reward = ", ".join(f"{name} {_share(value)}" for name, value in found["radgraph_reward"].items())
        lines += ["", f"Reward of the radgraph package: {reward}"]
    if found.get("nodes") is not None:
        for kind, concepts in found["nodes"]["concepts"].items():
            if concepts:
                lines += ["", f"{kind.capitalize()} nodes by concept"]
                lines += _columns([_row(f"  {concept}", score) for concept, score in list(concepts.items())[:top]])
            if len(concepts) > top:
                lines.append(f"  … {len(concepts) - top:,} more")
    if found.get("labels"):
        lines += ["", "Labels"]
        lines += _columns([_row(f"  {title}", score) for title, score in label_rows(found["labels"])])
    lines += _errors(found["errors"])
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _reports(found: Mapping[str, Any]) -> Iterator[str]:
    reports = found["reports"]
    yield f"{_n(reports['compared'], 'report')} compared"
    for key, side in (("only_predicted", "predicted"), ("only_gold", "gold")):
        if reports[key]:
            yield f"{_n(reports[key], 'report')} only in the {side}: left out"
    if reports["texts_differ"]:
        yield f"{_n(reports['texts_differ'], 'report')} of another text: no score of their mentions and relations"
    if reports["texts_unknown"]:
        yield f"{_n(reports['texts_unknown'], 'report')} without text: taken to be the same"
    if found.get("nodes") is not None:
        yield f"origin of nodes and edges: {found['origin']}"


def _rows(
    name: str, scores: Mapping[str, Any], measures: Mapping[str, str], parts: Sequence[str]
) -> Iterator[Sequence[str]]:
    for key, title in measures.items():
        yield _row(f"{name}: {title}", scores[key] if key else scores)
    for part in parts:
        for kind, score in scores.get(part, {}).items():
            yield _row(f"  {kind}", score)


def _row(title: str, score: Mapping[str, Any]) -> Sequence[str]:
    interval = (score.get("interval") or {}).get("f1")
    return (
        printable(title),
        *(_share(score[key]) for key in ("precision", "recall", "f1")),
        f"{_share(interval[0])} – {_share(interval[1])}" if interval else "",
        *(f"{score[key]:,}" for key in ("matched", "predicted", "gold")),
    )


def _columns(rows: Sequence[Sequence[str] | None]) -> Iterator[str]:
    """The rows under a header, first column left, the others right; None is an empty line."""
    table = [_HEADER, *rows]
    widths = [max(len(row[place]) for row in table if row is not None) for place in range(len(_HEADER))]
    for row in table:
        if row is None:
            yield ""
            continue
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([first, *others])


def _errors(errors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if errors:
        yield from ("", "Most frequent confusions")
    for error in errors:
        yield f"{error['count']:>9,}  {printable(error['error'])}: {printable(error['concept'])}{_said(error)}"
        where = f"report {error['report_id']}"
        yield printable(f"{'':>11}{where}: {error['sentence']}" if error["sentence"] else f"{'':>11}{where}")


def _said(error: Mapping[str, Any]) -> str:
    words = [
        ", ".join(value or "no side" for value in said.values())
        for said in (error["gold"], error["predicted"])
        if said is not None
    ]
    return f" ({' → '.join(words)})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
