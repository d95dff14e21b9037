#!/usr/bin/env python
"""Reports per second of the rules extractor on one core, beside medSpaCy and beside spaCy's tokenizer alone.

    python benchmarks/rules_extraction.py ../shared/iu/reports.csv

Every pipeline sees the same findings and impressions, starts without anything computed before, and runs in this process on
one thread; the best of --repeat runs counts, and the runs take turns, because machines are noisy. Loading is not timed.
The table is written to benchmarks/results/rules_extraction.md.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stock_medspacy import stock_findings, stock_pipeline

from graphprep.extract import extract
from graphprep.pipeline import Pipeline
from graphprep.read import ReadOptions, read_reports
from graphprep.records import Report
from graphprep.vocabulary import load_vocabularies

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[[], None]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, help="a table of reports")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "rules_extraction.md")
    options = parser.parse_args(arguments)
    reports = [r for r in read_reports([options.reports], ReadOptions()) if isinstance(r, Report)]
    seconds = time_all(runs(options.reports, reports), options.repeat)
    table = render(seconds, len(reports))
    print(table)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(table + "\n", encoding="utf-8")


def runs(file: Path, reports: Sequence[Report]) -> dict[str, Callable[[], Run]]:
    """Name → what loads a pipeline and gives the call to be timed."""
    _, pathology = load_vocabularies()
    texts = [_wanted(report) for report in reports]

    def ours() -> Run:
        pipeline = Pipeline()
        return lambda: _discard(pipeline.run(reports[i : i + 512]) for i in range(0, len(reports), 512))

    def command() -> Run:
        folder = tempfile.TemporaryDirectory()

        def run() -> None:
            with folder as path:
                extract([file], Path(path) / "graphs", workers=1, progress=False)

        return run

    def medspacy(splitter: str) -> Callable[[], Run]:
        def load() -> Run:
            nlp = stock_pipeline(pathology, splitter)  # type: ignore[arg-type]
            return lambda: _discard(stock_findings(nlp, texts))

        return load

    def tokenizer() -> Run:
        import spacy

        nlp = spacy.blank("en")
        return lambda: _discard(nlp.tokenizer.pipe(texts))

    return {
        "graphprep, text to graph": ours,
        "graphprep extract, file to Parquet, loading included": command,
        "medSpaCy as it comes (PyRuSH)": medspacy("pyrush"),
        "medSpaCy with the sentencizer": medspacy("sentencizer"),
        "spaCy's tokenizer alone": tokenizer,
    }


def time_all(pipelines: dict[str, Callable[[], Run]], repeat: int) -> dict[str, float]:
    """Name → seconds of the best run."""
    best = dict.fromkeys(pipelines, float("inf"))
    for _ in range(repeat):
        for name, load in pipelines.items():
            run = load()
            begun = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def render(seconds: dict[str, float], reports: int) -> str:
    names = list(seconds)
    ours = seconds[names[0]]
    lines = [
        f"# Rules extraction, {reports:,} reports, one core",
        "",
        f"`python benchmarks/rules_extraction.py REPORTS`; {platform.machine()}, Python {platform.python_version()}. "
        "The ratio is how many times as fast `graphprep, text to graph` is.",
        "",
        "| | reports/s | ratio |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {reports / seconds[name]:,.0f} | {seconds[name] / ours:.1f} |" for name in names]
    return "\n".join(lines)


def _wanted(report: Report) -> str:
    parts = [s for s in report.sections if s.name in ("findings", "impression")] or report.sections
    return "\n".join(report.text[s.start : s.end] for s in parts) or report.text


def _discard(results: object) -> None:
    for _ in results:  # type: ignore[attr-defined]
        pass


if __name__ == "__main__":
    sys.exit(main())
