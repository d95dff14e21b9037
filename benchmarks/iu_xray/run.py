#!/usr/bin/env python
"""Extract, predict and score on reports that were read with care, beside medSpaCy as it comes on the same reports.

    python benchmarks/iu_xray/run.py --data ../shared/iu

DATA holds reports.csv, read.jsonl, gold.jsonl and score.py in the form that predict.py writes for. Nothing of the data goes
into the table, which is written to benchmarks/results/iu_xray.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from predict import predict, settle

from graphprep.extract import extract
from graphprep.graphs import open_graphs
from graphprep.read import ReadOptions, read_reports
from graphprep.records import Report
from graphprep.vocabulary import Vocabulary, load_vocabularies

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # a script sees its own folder only

from stock_medspacy import stock_findings, stock_pipeline  # noqa: E402

MEASURES = (
    ("positive findings F1", "positive", 0.97),
    ("absent findings F1", "absent", 0.99),
    ("assertion, present against uncertain", "assertion", 0.97),
    ("side F1", "side", 0.97),
    ("places F1", "places", 0.93),
    ("severity F1", "severity", 0.93),
    ("change F1", "change", 0.90),
    ("structures stated normal F1", "normal", 0.96),
    ("45 codes, micro F1", "codes", 0.88),
    ("NegBio 14, micro F1", "negbio14", 0.86),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "iu", help="the folder of the reports")
    parser.add_argument("--graphs", type=Path, help="a graphs folder of the same reports; extracted anew by default")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "iu_xray.md")
    options = parser.parse_args(arguments)
    for name in ("reports.csv", "read.jsonl", "gold.jsonl", "score.py"):
        if not (options.data / name).is_file():
            parser.error(f"{options.data / name} is not there; --data must name a folder that holds it.")
    anatomy, pathology = load_vocabularies()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        graphs = options.graphs or scratch / "graphs"
        if options.graphs is None:
            extract([options.data / "reports.csv"], graphs, progress=False)
        ours = [predict(graph, anatomy, pathology) for graph in open_graphs(graphs)]
        reports = [r for r in read_reports([options.data / "reports.csv"], ReadOptions()) if isinstance(r, Report)]
        peers = {"graphprep": ours, "medSpaCy as it comes": stock(reports, pathology)}
        scores = {name: score(options.data, found, scratch) for name, found in peers.items()}
    table = render(scores, len(reports))
    print(table)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(table + "\n", encoding="utf-8")


def stock(reports: Sequence[Report], pathology: Vocabulary) -> list[dict[str, Any]]:
    """What medSpaCy finds in findings and impression, in the words of the careful reading; it has no sides or places."""
    nlp = stock_pipeline(pathology)
    parts = [
        (number, section.name == "impression", report.text[section.start : section.end])
        for number, report in enumerate(reports)
        for section in report.sections
        if section.name in ("findings", "impression")
    ]
    predictions: list[dict[str, Any]] = [
        {"report_id": report.report_id, "findings": [], "normal": [], "codes": set(), "negbio14": set()}
        for report in reports
    ]
    for (number, impression, _), found in zip(parts, stock_findings(nlp, [text for _, _, text in parts]), strict=True):
        prediction = predictions[number]
        for finding in found:
            labels = pathology.concepts[finding.concept].labels
            prediction["findings"] += [
                {"label": label, "assertion": finding.assertion, "side": None, "places": [], "severity": None,
                 "change": None, "section": impression}
                for label in labels.get("iu_read", ())
            ]  # fmt: skip
            if finding.assertion != "absent":
                prediction["codes"] |= set(labels.get("iu_codes", ()))
                prediction["negbio14"] |= set(labels.get("chestxray14", ()))
    return [
        prediction
        | {
            "findings": settle(prediction["findings"]),
            "codes": sorted(prediction["codes"]),
            "negbio14": sorted(prediction["negbio14"]),
        }
        for prediction in predictions
    ]


def score(data: Path, predictions: Sequence[dict[str, Any]], scratch: Path) -> dict[str, Any]:
    """What the data's own score.py says."""
    file = scratch / "predictions.jsonl"
    file.write_text("".join(json.dumps(prediction) + "\n" for prediction in predictions), encoding="utf-8")
    command = [sys.executable, str(data / "score.py"), str(file), str(data / "read.jsonl"), str(data / "gold.jsonl")]
    done = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def render(scores: dict[str, dict[str, Any]], reports: int) -> str:
    lines = [
        f"# Extraction on {reports:,} Indiana University reports",
        "",
        "`python benchmarks/iu_xray/run.py --data DIR`; the careful reading covers those of them that read.jsonl holds.",
        "",
        f"| | {' | '.join(scores)} | target |",
        f"|---|{'---|' * len(scores)}---|",
    ]
    for title, key, target in MEASURES:
        cells = [_figure(found, key) for found in scores.values()]
        lines.append(f"| {title} | {' | '.join(cells)} | {target:.2f} |")
    return "\n".join(lines)


def _figure(found: dict[str, Any], key: str) -> str:
    entry = found.get(key)
    if not entry or (key in ("side", "places", "severity", "change", "normal") and not entry.get("f1")):
        return "–"
    return f"{entry.get('f1', entry.get('accuracy')):.4f}"


if __name__ == "__main__":
    main()
