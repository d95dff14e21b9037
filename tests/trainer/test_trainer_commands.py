"""The commands on a finished run, as they are typed, and the plain functions below them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command_line import Ended, runner
from handmade_pairs import ANATOMY, PATHOLOGY, HandmadePairs
from PIL import Image
from tiny_run import TINY as TINY_RUN

import trainer.pretrain as loop
from trainer.ablate import _measured, ablate, read_plan, table
from trainer.blind import BlindStage, read_stages
from trainer.cli import app
from trainer.config import load_config
from trainer.errors import Diverged, UserError
from trainer.findings import find_finding, findings_of
from trainer.graph.batch import QuerySide
from trainer.graph.concepts import ConceptTable
from trainer.ground import lifted, square_mask
from trainer.pretrain import pretrain
from trainer.run_folder import open_run

TINY = TINY_RUN | {"run.log_every": 1, "validation.reports": 24}


@pytest.fixture
def trainer(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process."""
    return runner(app, capsys)


@pytest.fixture(scope="module")
def labels(pairs: HandmadePairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """labels.csv of the pairs, beside boxes.json; image paths are relative to the pairs' folder of images."""
    folder = tmp_path_factory.mktemp("labels")
    names = list(pairs.labels[0])
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject_id", "split", *names])
        for report, truth in zip(pairs.reports, pairs.labels, strict=True):
            writer.writerow([report.images[0][0], report.subject_id, report.split, *(truth[name] for name in names)])
    images = [report.images[0][0] for report in pairs.reports]
    coco: dict[str, Any] = {
        "images": [{"id": i, "file_name": image, "height": 64, "width": 64} for i, image in enumerate(images)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(["opacity", "unheard_of"])],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    for i, boxes in enumerate(pairs.boxes):
        coco["annotations"] += [
            {"image_id": i, "category_id": 0, "bbox": list(map(int, box))}
            for name, box in boxes.items()
            if name.startswith("opacity")
        ]
    (folder / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def run(pairs: HandmadePairs, cache: Path, labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps with labels."""
    output = tmp_path_factory.mktemp("runs") / "run"
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": output, "run.max_steps": 6}
    given |= {"run.labels": labels, "run.label_images": pairs.images}
    outcome = pretrain(load_config(None, {**TINY, **given}), progress=False)
    assert {"validation/zero_shot_auroc", "validation/probe_auroc", "validation/retrieval/report_r1"} <= set(
        outcome.figures
    )
    return output


# Findings by name


def test_findings_are_known_by_id_name_synonym_label_and_side() -> None:
    rows = [dict(row) for row in PATHOLOGY]
    effusion = next(row for row in rows if row["concept"] == "pleural_effusion")
    effusion["synonyms"], effusion["labels"] = ["pleural fluid"], [{"set": "chexpert14", "name": "Effusion"}]
    table_of_concepts = ConceptTable.from_rows(ANATOMY, rows)
    row = table_of_concepts.row("pathology", "pleural_effusion")
    for name in ("pleural_effusion", "Pleural Effusion", "pleural fluid", "effusion"):
        assert find_finding(name, table_of_concepts) is not None, name
        assert find_finding(name, table_of_concepts).concept == row  # type: ignore[union-attr]
    for name in ("left pleural effusion", "pleural_effusion/left", "Effusion, left"):
        found = find_finding(name, table_of_concepts)
        assert found is not None
        assert (found.concept, found.side) == (row, QuerySide.LEFT)
    for name in ("pleural effusion in the left lung", "left pleural_effusion at the lung", "Effusion/left/lung"):
        found = find_finding(name, table_of_concepts)
        assert found is not None, name
        lung = table_of_concepts.row("anatomy", "lung")
        assert (found.concept, found.side, found.place, found.place_side) == (row, QuerySide.LEFT, lung, QuerySide.LEFT)
    assert find_finding("lung in the lung", table_of_concepts) is None
    assert find_finding("effusion in the moon", table_of_concepts) is None
    assert find_finding("left heart", table_of_concepts) is None  # there is one
    assert find_finding("left right lung", table_of_concepts) is None
    with pytest.raises(UserError, match="Near to it: pleural effusion"):
        findings_of(["pleural efusion"], table_of_concepts)


@pytest.mark.parametrize(("objective", "judged"), [("cga", True), ("clip", False)])
def test_classes_with_a_place_are_left_to_models_that_answer(
    pairs: HandmadePairs, cache: Path, labels: Path, tmp_path: Path, objective: str, judged: bool
) -> None:
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    column = rows[0].index("opacity/left/upper")
    kept = [[*row[:3], row[column]] for row in rows]
    kept[0][3] = "opacity in the left lung"
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(kept)
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": tmp_path / "run", "run.max_steps": 1}
    given |= {"run.labels": tmp_path / "labels.csv", "run.label_images": pairs.images, "objective.name": objective}
    figures = pretrain(load_config(None, {**TINY, **given}), progress=False).figures
    assert ("validation/zero_shot_auroc" in figures) == judged


# Commands


def test_zeroshot_prints_scores_and_draws_maps(
    trainer: Callable[..., Ended], run: Path, pairs: HandmadePairs, tmp_path: Path
) -> None:
    images = [pairs.images / "00000.png", pairs.images / "00001.png"]
    asked = ["--findings", "left pleural effusion, nodule"]
    ended = trainer("zeroshot", run, *images, tmp_path / "none.png", *asked, "--heat-maps", tmp_path / "maps", "--json")
    assert ended.code == 0
    assert "none.png: The file is not there." in ended.err
    records = json.loads(ended.out)
    assert [record["image"] for record in records] == [str(path) for path in images]
    assert set(records[0]["scores"]) == {"left pleural effusion", "nodule"}
    names = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert names[:2] == ["00000.left_pleural_effusion.png", "00000.nodule.png"]
    with Image.open(tmp_path / "maps" / names[0]) as picture:
        assert picture.size == (256, 256)
    alone = trainer("zeroshot", run, images[1], *asked, "--json")  # an image's score does not depend on its neighbours
    assert json.loads(alone.out)[0]["scores"] == pytest.approx(records[1]["scores"], abs=1e-5)
    there = trainer("zeroshot", run, *images, "--findings", "nodule,nodule in the lung", "--json")
    assert there.code == 0, there.err
    for record in json.loads(there.out):
        assert record["scores"]["nodule"] != record["scores"]["nodule in the lung"]
    by_itself = trainer("zeroshot", run, images[0], "-o", tmp_path / "scores.csv")
    assert by_itself.code == 0
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").startswith("image,")
    for arguments, said in (
        ((images[0], "--findings", "moon"), "No concept of this run is called 'moon'"),
        ((tmp_path / "none.png",), "None of the 1 images can be read"),
    ):
        ended = trainer("zeroshot", run, *arguments)
        assert (ended.code, said in ended.err) == (2, True), ended.err


def test_embed_writes_features_of_every_kind(
    trainer: Callable[..., Ended], run: Path, labels: Path, pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    where = ["--images", pairs.images, "--cache", cache]
    for kind in ("pooled", "nodes", "patches"):
        ended = trainer("embed", run, labels, "-o", tmp_path / f"{kind}.parquet", "--features", kind, *where)
        assert ended.code == 0, ended.err
    pooled, nodes, patches = (pq.read_table(tmp_path / f"{kind}.parquet") for kind in ("pooled", "nodes", "patches"))
    assert pooled.column_names == ["image", "subject_id", "features"]
    assert pooled.column("image").to_pylist() == [report.images[0][0] for report in pairs.reports]
    opened = open_run(run, "cpu")
    assert {len(row) for row in pooled.column("features").to_pylist()} == {opened.model.image.features}
    findings = json.loads(nodes.schema.metadata[b"findings"])
    assert {len(row) for row in nodes.column("features").to_pylist()} == {16 * len(findings)}
    assert {"opacity", "pleural_effusion/left"} <= set(findings)
    assert len(patches.column("features")[0]) % 16 == 0


def test_probe_prints_the_table_and_writes_the_figures(
    trainer: Callable[..., Ended], run: Path, labels: Path, pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    where = ["--labels", labels, "--images", pairs.images, "--cache", cache]
    chosen = ["--fraction", "0.2,1", "--seeds", "0,1", "--classes", "cardiomegaly,pleural_effusion/left"]
    ended = trainer("probe", run, *where, *chosen, "-o", tmp_path / "probe.json")
    assert ended.code == 0, ended.err
    assert "macro AUROC" in ended.out
    written = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))
    assert written["classes"] == ["cardiomegaly", "pleural_effusion/left"]
    assert [len(entry["runs"]) for entry in written["fractions"]] == [2, 2]
    assert trainer("probe", run, "--labels", labels, "--cache", tmp_path).code == 2  # the images are elsewhere
    assert trainer("probe", run, *where, "--fraction", "0,1").code == 2
    assert trainer("probe", run, *where, "--classes", "moon").code == 2
    assert trainer("probe", tmp_path, *where).code == 2


def test_ground_judges_the_classes_that_have_a_concept(
    trainer: Callable[..., Ended], run: Path, labels: Path, pairs: HandmadePairs, cache: Path
) -> None:
    where = ["--images", pairs.images, "--cache", cache]
    for chosen in ([], ["--labels", labels, "--split", "test"], ["--map", "evidence"], ["--map", "attention"]):
        ended = trainer("ground", run, labels.parent / "boxes.json", *where, *chosen, "--json")
        assert ended.code == 0, ended.err
        found = json.loads(ended.out)
        assert set(found["classes"]) == {"opacity"}
        figures = found["classes"]["opacity"]
        assert 0 < figures["pointing_chance"] < 0.3
        assert 0 <= figures["pointing"] <= 1
    marked = sum(any(name.startswith("opacity") for name in boxes) for boxes in pairs.boxes)
    ended = trainer("ground", run, labels.parent / "boxes.json", *where)
    assert f"{marked:,}" in ended.out
    assert "unheard_of: no concept" in ended.out
    assert trainer("ground", run, labels.parent / "boxes.json", "--split", "test").code == 2


def test_cache_images_can_be_verified(trainer: Callable[..., Ended], pairs: HandmadePairs, tmp_path: Path) -> None:
    arguments = ["cache-images", "--graphs", pairs.graphs, "--cache", tmp_path / "cache", "--image-size", 16]
    assert trainer(*arguments).code == 0
    [pixels] = (tmp_path / "cache").glob("*/images.npy")
    assert "240 can be used" in trainer(*arguments, "--verify").out
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 255
    pixels.write_bytes(content)
    ended = trainer(*arguments, "--verify")
    assert ended.code == 1
    assert "damaged" in ended.out


def test_config_shows_what_there_is(trainer: Callable[..., Ended]) -> None:
    assert "phantom-cpu" in trainer("config").out
    assert "optimization.learning_rate (0.001): Peak" in trainer("config", "--keys").out
    shown = trainer("config", "phantom-cpu", "--set", "run.seed=7")
    assert "seed: 7" in shown.out
    assert "backbone: test_resnet" in shown.out
    assert trainer("pretrain", "--set", "run.sed=1").code == 2


def test_help_is_quick_and_names_every_command() -> None:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "trainer", "--help"], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    for name in ("pretrain", "cache-images", "zeroshot", "embed", "probe", "ground", "blind", "ablate", "config"):
        assert name in done.stdout
    loaded = "import sys, trainer.cli; print([name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert seconds < 5  # half a second on a quiet machine


# Where things are in the square


def test_small_regions_survive_the_square_and_keep_their_place() -> None:
    mask = np.zeros((300, 200), bool)
    mask[10:12, 150:152] = True
    shown = square_mask(mask, 30, "letterbox")
    y, x = np.nonzero(shown)
    assert len(y)
    assert (y <= 2).all()
    assert (np.abs(x - (5 + 15)) <= 1).all()  # 300 → 30; 200 → 20 in the middle
    assert not square_mask(np.zeros((4, 4), bool), 8, "letterbox").any()
    assert lifted(np.array([[[-1.0, 1.0]], [[0.5, 1.0]]])).tolist() == [[[0.0, 2.0]], [[0.5, 1.0]]]


# Blind


def test_blind_trains_on_grey_images_and_judges_every_stage(
    trainer: Callable[..., Ended], pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    settings = [
        f"--set={key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in TINY.items()
    ]
    common = ["--graphs", pairs.graphs, "--cache", cache, "--max-steps", 9, "-q", *settings]
    ended = trainer("blind", *common, "-o", tmp_path / "blind")
    assert ended.code in (0, 1), ended.err
    for stage in ("anatomy", "pathology", "relation", "summary", "whole"):
        assert stage in ended.out
    opened = open_run(tmp_path / "blind", "cpu")
    assert opened.config.run.constant_images
    images = loop.prepare_images(
        torch.randint(255, (2, 1, 32, 32), dtype=torch.uint8), opened.config, torch.Generator()
    )
    assert not images.any()


def test_a_stage_above_its_prior_is_told_from_noise(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = ["step,train/loss,train/accuracy/fair,train/prior/fair,train/accuracy/leaky,train/prior/leaky"]
    for step in range(90):
        noise = random.normal(0, 0.05)
        leaky = 0.1 if step < 60 else 0.9
        rows.append(f"{step},1,{0.25 + noise:.4f},0.25,{leaky},0.25")
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    verdicts = {stage.name: stage.at_prior for stage in read_stages(tmp_path)}
    assert verdicts == {"fair": True, "leaky": False}
    assert not BlindStage("relation", 0.43, 0.25, 0.01).at_prior


# Ablation


def write_plan(path: Path, pairs: HandmadePairs, labels: Path, cache: Path) -> Path:
    base = "\n".join(
        f"  {key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in TINY.items()
    )
    path.write_text(
        f"base:\n{base}\n  run.graphs: {pairs.graphs}\n  run.cache: {cache}\n  run.max_steps: 2\n"
        f"seeds: [0, 1]\nruns:\n  clip: {{objective.name: clip}}\n  no relation: {{objective.relation: 0}}\n"
        f"probe: {{labels: {pairs.images / 'labels.csv'}, fractions: [1]}}\n",
        encoding="utf-8",
    )
    (pairs.images / "labels.csv").write_text(labels.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def test_ablate_runs_what_is_not_finished_and_prints_the_table(
    pairs: HandmadePairs,
    labels: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainer: Callable[..., Ended],
) -> None:
    plan = write_plan(tmp_path / "plan.yaml", pairs, labels, cache)
    interrupted = ablate(read_plan(plan), tmp_path / "runs", progress=False)
    assert [row.seeds for row in next(interrupted)] == [1, 0]
    trained: list[Path] = []

    def counted(config: Any, **options: Any) -> Any:
        outcome = pretrain(config, **options)
        if not outcome.already:
            trained.append(outcome.output)
        return outcome

    monkeypatch.setattr(loop, "pretrain", counted)
    ended = trainer("ablate", plan, "-o", tmp_path / "runs", "-q")
    assert ended.code == 0, ended.err
    folders = [path.relative_to(tmp_path / "runs").as_posix() for path in trained]
    assert folders == ["no-relation/seed-0", "clip/seed-1", "no-relation/seed-1"]
    assert "±" in ended.out
    assert "probe 1" in ended.out
    again = trainer("ablate", plan, "-o", tmp_path / "runs", "-q")
    assert (again.out, len(trained)) == (ended.out, 3)
    assert (tmp_path / "runs" / "table.md").read_text(encoding="utf-8").startswith("| run | seeds |")


def test_a_run_that_diverges_does_not_stop_the_others(
    pairs: HandmadePairs, labels: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: Any, **_: Any) -> Any:
        raise Diverged(f"no number with {config.objective.name}")

    monkeypatch.setattr(loop, "pretrain", fails)
    *_, rows = ablate(read_plan(write_plan(tmp_path / "plan.yaml", pairs, labels, cache)), tmp_path / "runs")
    assert [len(row.failed) for row in rows] == [2, 2]
    assert "clip" in table(rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: {}\n", "expected `runs`"),
        ("runs: {a: {}}\nseed: [1]\n", "no `seed` here"),
        ("runs: {a: {objective.nam: clip}}\n", "Did you mean `objective.name`"),
        ("runs: {a: 3}\n", "must hold keys and values"),
        ("runs: {a b: {}, a/b: {}}\n", "share a folder"),
        ("runs: {a: {}}\nseeds: [x]\n", "lists of numbers"),
    ],
)
def test_a_mistake_in_a_plan_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r".") as error:
        read_plan(tmp_path / "plan.yaml")
    assert said in str(error.value)
    assert "plan.yaml" in str(error.value)


def test_a_plan_that_asks_otherwise_is_measured_anew(tmp_path: Path) -> None:
    path, asked = tmp_path / "probe.json", {"fractions": [0.1]}
    assert _measured(path, asked, lambda: {"probe 0.1": 0.5}) == {"probe 0.1": 0.5}
    assert _measured(path, asked, lambda: {"probe 0.1": 0.9}) == {"probe 0.1": 0.5}
    assert _measured(path, {"fractions": [1.0]}, lambda: {"probe 1": 0.9}) == {"probe 1": 0.9}


def test_labels_of_the_test_split_alone_are_no_reason_to_stop(
    pairs: HandmadePairs, cache: Path, labels: Path, tmp_path: Path
) -> None:
    header, *rows = labels.read_text(encoding="utf-8").splitlines()
    only = tmp_path / "labels.csv"
    only.write_text("\n".join([header, *(row for row in rows if ",test," in row)]) + "\n", encoding="utf-8")
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": tmp_path / "run", "run.max_steps": 1}
    given |= {"run.labels": only, "run.label_images": pairs.images}
    figures = pretrain(load_config(None, {**TINY, **given}), progress=False).figures
    assert "validation/probe_auroc" not in figures
    assert "validation/loss" in figures


def test_a_blind_run_without_a_logged_step_has_no_stages(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step\n", encoding="utf-8")
    assert read_stages(tmp_path) == []


def test_labels_that_judge_by_training_images_are_told(
    pairs: HandmadePairs, cache: Path, labels: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "are training images" not in (run / "README.md").read_text(encoding="utf-8")
    swapped = tmp_path / "labels.csv"
    text = labels.read_text(encoding="utf-8")
    swapped.write_text(
        text.replace(",train,", ",-,").replace(",test,", ",train,").replace(",-,", ",test,"), encoding="utf-8"
    )
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": tmp_path / "run", "run.max_steps": 0}
    given |= {"run.labels": swapped, "run.label_images": pairs.images}
    pretrain(load_config(None, {**TINY, **given}))
    assert "val and test images" in capsys.readouterr().err
    assert "are training images" in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")
