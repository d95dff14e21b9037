"""The benchmark on small real sets, on an invented set in the same layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from programs import ROOT, load_program, run_program
from tiny_run import TINY

from trainer.config import load_config
from trainer.errors import UserError
from trainer.scores import auroc
from trainer.settings import to_document, updated

SCRIPT = ROOT / "benchmarks" / "small_real_sets.py"


bench = load_program(SCRIPT)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 labelled images of 60 patients, of which `Mass` is a bright corner and `Line` is seen in AP alone; 24 with reports."""
    folder = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    for name in ("nih", "covid"):
        (folder / name / "images").mkdir(parents=True)
    with (folder / "nih" / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "view", "labels"])
        for number in range(90):
            patient, view = number % 60, ("AP", "PA")[number % 3 == 0]
            mass = patient % 2 == 0
            pixels = random.integers(0, 120, (40, 32)).astype(np.uint8)
            pixels[:14, :14] += np.uint8(120 * mass)
            Image.fromarray(pixels).save(folder / "nih" / "images" / f"{number}.png")
            said = [*(["Mass"] if mass else ["No Finding"]), *(["Line"] if view == "AP" else [])]
            said += ["Rare"] if patient == 0 else []
            writer.writerow([f"images/{number}.png", f"{patient:03d}", view, "|".join(said)])
    with (folder / "covid" / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "patient", "view", "report"])
        for number in range(24):
            Image.fromarray(random.integers(0, 255, (32, 40)).astype(np.uint8)).save(
                folder / "covid" / "images" / f"{number}.png"
            )
            finding = ("", "Left pleural effusion", "No pleural effusion. The heart is enlarged")[number % 3]
            report = finding and f"{finding}, as on day {number // 2}."
            writer.writerow([f"images/{number}.png", number // 2, "PA", report])
    settings = updated(load_config(), TINY, "test")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(to_document(settings)), encoding="utf-8")
    return folder


def arguments(data: Path, work: Path, *more: str) -> list[str]:
    given = {
        "data": data,
        "config": data / "tiny.yaml",
        "image-size": 32,
        "splits": 2,
        "supervised-splits": 1,
        "random-seeds": 2,
        "covid-seeds": 1,
        "covid-steps": 2,
        "supervised-steps": 4,
        "least-patients": 10,
        "work": work,
        "output": work / "table.md",
    }
    return [*(part for name, value in given.items() for part in (f"--{name}", str(value))), *more]


def cells(table: str) -> dict[str, list[str]]:
    """Rows of the first table by encoder."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows if len(row) == 11}


def test_a_table_that_goes_on_where_it_was_broken_off(data: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    bench.main(arguments(data, work))
    first = (work / "table.md").read_text(encoding="utf-8")
    table = cells(first)
    assert list(table)[1:] == ["view alone", "random", "covid", "supervised"]
    assert [row[0] for row in table.values()][1:] == ["2", "2", "2", "1"]
    assert table["view alone"][5] == "50.0 ± 0.0"  # within a view it knows nothing
    assert table["view alone"][-1] == "100.0 ± 0.0"
    assert "| Line | 60 |" in first
    assert "| Mass | 45 |" in first
    assert "No Finding, Rare" in first  # the contrary of Mass, and too few patients

    [untrained] = sorted((work / "runs").glob("random_seed-0_*"))
    rows = (work / "rows.jsonl").read_text(encoding="utf-8")
    assert len(rows.splitlines()) == 2 * (2 + 2 + 2 + 1)
    lines = rows.splitlines(keepends=True)
    (work / "rows.jsonl").write_text("".join(lines[:-2]) + lines[-2][:40], encoding="utf-8")
    bench.main(arguments(data, work, "--run", f"toy={untrained}", "--start", "toy", "--shuffled"))
    again = (work / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {json.loads(line)["key"]: json.loads(line)["scores"] for line in lines}
    found = {json.loads(line)["key"]: json.loads(line)["scores"] for line in again}
    assert {key: found[key] for key in kept} == kept  # those that were lost came out the same
    assert len(again) == len(found)
    second = cells((work / "table.md").read_text(encoding="utf-8"))
    assert {name: second[name] for name in table} == table
    assert set(second) - set(table) == {"toy", "covid from toy", "covid shuffled", "supervised from toy"}
    assert found[next(key for key in found if key.startswith("encoder-") and "split-0 fraction-1" in key)] == next(
        scores for key, scores in kept.items() if key.startswith("random seed-0") and key.endswith("split-0 fraction-1")
    )


def test_patients_are_in_one_part_and_tested_once_in_five_splits(data: Path, tmp_path: Path) -> None:
    judge = bench.read_judge(data, tmp_path, 10)
    tested: list[str] = []
    for number in range(5):
        labels = judge.split(number)
        parts = [{labels.subjects[row] for row in labels.rows(name)} for name in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 60
        assert [len(part) for part in parts] == [42, 6, 12]
        tested += parts[2]
    assert sorted(tested) == sorted(set(judge.labels.subjects))
    assert judge.split(5).splits != judge.split(0).splits


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from("ab"), st.integers(0, 3)), min_size=1))
def test_a_resampled_auroc_is_that_of_the_repeated_rows(rows: list[tuple[int, bool, str, int]]) -> None:
    scores, positive, view, times = (np.asarray(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(rows)), times)
    whole = bench.resampled_auroc(scores, positive, np.zeros(len(rows)), np.stack([np.ones(len(rows)), times]))
    assert whole == pytest.approx([auroc(scores, positive), auroc(scores[repeated], positive[repeated])], nan_ok=True)
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i in repeated[positive[repeated]]
        for j in repeated[~positive[repeated]]
        if view[i] == view[j]
    ]
    [within] = bench.resampled_auroc(scores, positive, view, times[None])
    assert within == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


def test_patients_are_drawn_with_all_their_images() -> None:
    draws = bench.patient_draws(["b", "a", "b", "c"], 50)
    assert draws.shape == (51, 4)
    assert (draws[0] == 1).all()
    assert (draws[:, 0] == draws[:, 2]).all()
    assert (draws[1:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_a_difference_is_over_the_splits_that_both_have() -> None:
    own = np.full((2, 101), 0.7)
    other = np.concatenate([np.full((2, 101), 0.6), np.full((3, 101), 0.1)])
    assert str(bench.difference(own, other)) == "+10.0 [+10.0, +10.0]"


def test_shuffled_reports_are_of_other_patients(data: Path, tmp_path: Path) -> None:
    right, wrong = (bench.covid_graphs(data / "covid", tmp_path, shuffled=shuffled) for shuffled in (False, True))
    assert (right.name, wrong.name) == ("graphs", "graphs-shuffled")
    reports = [
        list(csv.DictReader((tmp_path / name).read_text(encoding="utf-8").splitlines()))
        for name in ("reports.csv", "reports-shuffled.csv")
    ]
    assert [row["image"] for row in reports[0]] == [row["image"] for row in reports[1]]
    owners: dict[str, set[str]] = {}
    for row in reports[0]:
        owners.setdefault(row["report"], set()).add(row["patient"])
    for row in reports[1]:
        assert row["patient"] not in owners[row["report"]]


def test_what_cannot_be_compared_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no label is there in 1000 patients"):
        bench.read_judge(data, tmp_path, 1000)
    config = updated(load_config(data / "tiny.yaml"), {"data.image_size": 64}, "test")
    for text, message in (
        ("toy", "expected NAME=RUN"),
        ("covid=x", "no other row"),
        (f"a={tmp_path}", "no run folder"),
    ):
        with pytest.raises(UserError, match=message):
            bench.named_runs([text], config)


def test_the_program_says_what_is_missing(tmp_path: Path) -> None:
    arguments = ("--data", "nowhere", "--work", "work", "--output", "table.md")
    done = run_program(SCRIPT, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: nowhere")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "table.md").exists()
