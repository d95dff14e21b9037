#!/usr/bin/env python
"""How far graphs agree with RadGraph's annotations of the same reports, mention by mention.

    python benchmarks/radgraph_agreement.py MENTIONS.json GRAPHS [-o FILE]

MENTIONS.json is the output of the radgraph package, keyed by report id or by the place of the report in GRAPHS. The table is
printed and written to benchmarks/results/radgraph_agreement.txt. Beside our figures stand those of the two published models
against each other, on 687 reports: more than that, agreement with one of them cannot mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graphprep.evaluate import evaluate

RESULTS = Path(__file__).parent / "results" / "radgraph_agreement.txt"

#: Title → where `evaluate` has the score, and what the two models reach. RadGraph's label includes the assertion.
MEASURES: dict[str, tuple[tuple[str, ...], float]] = {
    "span": (("mentions", "span"), 0.850),
    "span and label": (("mentions",), 0.829),
    "relations": (("relations",), 0.732),
    "relations with typed ends": (("relations", "typed"), 0.708),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mentions", type=Path, help="RadGraph's JSON")
    parser.add_argument("graphs", type=Path, help="a graphs folder")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="where to write the table")
    options = parser.parse_args(arguments)
    table = agreement(evaluate(options.graphs, options.mentions))
    print(table, end="")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(table, encoding="utf-8")


def agreement(found: Mapping[str, Any]) -> str:
    """The table of what `graphprep.evaluate` found."""
    reports = found["reports"]
    lines = [
        f"{reports['compared']:,} reports, {reports['texts_differ']:,} of them with another text and left out",
        f"{'':<27}{'precision':>9}{'recall':>9}{'F1':>9}   {'95 %':<15}{'two models':>10}",
    ]
    for title, (path, models) in MEASURES.items():
        score = found
        for name in path:
            score = score[name]
        lines.append(f"{title:<27}{_figures(score)}   {_interval(score):<15}{models:>10.3f}")
    for name in ("mentions", "relations"):
        lines.append(f"{name} by type")
        lines += [f"  {kind:<25}{_figures(score)}" for kind, score in found[name]["types"].items()]
    reward = ", ".join(f"{name} {value:.3f}" for name, value in found["radgraph_reward"].items())
    lines.append(f"reward of the radgraph package: {reward}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _figures(score: Mapping[str, Any]) -> str:
    return "".join(
        f"{'–' if score[key] is None else format(score[key], '.3f'):>9}" for key in ("precision", "recall", "f1")
    )


def _interval(score: Mapping[str, Any]) -> str:
    found = (score.get("interval") or {}).get("f1")
    return f"{found[0]:.3f} – {found[1]:.3f}" if found else "–"


if __name__ == "__main__":
    main()
