"""The benchmark of agreement with RadGraph, on two invented reports and as a program."""

from __future__ import annotations

import json
from pathlib import Path

from programs import ROOT, run_program

from graphprep.evaluate import evaluate
from graphprep.export import export
from graphprep.extract import extract


def test_a_table_of_two_reports(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text(
        "report_id,findings\nx,No pleural effusion.\ny,The heart is mildly enlarged.\n", encoding="utf-8"
    )
    extract([tmp_path / "reports.csv"], tmp_path / "graphs", progress=False, workers=1)

    def entity(tokens: str, start: int, label: str, *relations: list[str]) -> dict[str, object]:
        return {"tokens": tokens, "label": label, "start_ix": start, "end_ix": start, "relations": list(relations)}

    present, absent = "::definitely present", "::definitely absent"
    mentions = {
        "0": {
            "text": "no pleural effusion .",
            "entities": {
                "1": entity("pleural", 1, f"Anatomy{present}"),
                "2": entity("effusion", 2, f"Observation{absent}", ["located_at", "1"]),
            },
        },
        "1": {
            "text": "the heart is mildly enlarged .",
            "entities": {
                "1": entity("heart", 1, f"Anatomy{present}"),
                "2": entity("mildly", 3, f"Observation{present}", ["modify", "3"]),
                "3": entity("enlarged", 4, "Observation::uncertain"),  # not as we read it, and without its place
            },
        },
    }
    (tmp_path / "mentions.json").write_text(json.dumps(mentions), encoding="utf-8")
    program = ROOT / "benchmarks" / "radgraph_agreement.py"
    done = run_program(program, "mentions.json", "graphs", "-o", "out/table.txt", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "table.txt").read_text(encoding="utf-8") == done.stdout
    figures = {line[:27].strip(): line[27:].split()[:3] for line in done.stdout.splitlines()}
    assert figures["span"] == ["1.000", "1.000", "1.000"]
    assert figures["span and label"] == ["0.800", "0.800", "0.800"]
    assert figures["relations"] == ["0.667", "1.000", "0.800"]
    assert figures["relations with typed ends"] == ["0.333", "0.500", "0.400"]


def test_words_that_annotators_leave_unmarked_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "reports.csv").write_text("report_id,findings\nx,Persistent effusion.\n", encoding="utf-8")
    extract([tmp_path / "reports.csv"], tmp_path / "graphs", progress=False, workers=1)
    assert export(tmp_path / "graphs", "radgraph", tmp_path / "ours.json") == 1
    report = json.loads((tmp_path / "ours.json").read_text(encoding="utf-8"))["x"]
    ours = report["entities"]
    mentions = {"x": {"text": report["text"], "entities": {"1": {**ours["2"], "relations": []}}}}  # the effusion alone
    (tmp_path / "mentions.json").write_text(json.dumps(mentions), encoding="utf-8")
    assert [entity.get("unmarked") for entity in ours.values()] == [True, None]
    assert ours["1"]["relations"] == [["modify", "2"]]  # written all the same, so that nothing of the graph is lost
    for own in ("graphs", "ours.json"):
        found = evaluate(tmp_path / own, tmp_path / "mentions.json")
        assert (found["mentions"]["predicted"], found["mentions"]["f1"]) == (1, 1.0), own
