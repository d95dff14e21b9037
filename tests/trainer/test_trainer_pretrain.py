"""The loop as it is run: the run folder, interruption at any moment, divergence, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from handmade_pairs import HandmadePairs, HandReport, write_graphs
from safetensors.torch import load_file
from tiny_run import TINY

import trainer.pretrain as loop
from trainer.checkpoint import list_checkpoints
from trainer.config import Config, load_config
from trainer.errors import Diverged, UserError
from trainer.metrics import read_metrics
from trainer.model.image import ImageEncoder
from trainer.pretrain import pretrain
from trainer.run_folder import open_run
from trainer.schedule import learning_rate_scale, parameter_groups

STEPS = 9
SUBPROCESS = {**os.environ, "OMP_NUM_THREADS": "1"}


def tiny(pairs: HandmadePairs, cache: Path, output: Path, **changes: object) -> Config:
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": output, "run.max_steps": 4}
    return load_config(None, {**TINY, **given, **{key.replace("__", "."): value for key, value in changes.items()}})


def command(pairs: HandmadePairs, cache: Path, output: Path) -> list[str]:
    settings = [
        f"--set={key}={'true' if value is True else 'false' if value is False else value}"
        for key, value in TINY.items()
    ]
    return [
        *(sys.executable, "-m", "trainer", "pretrain", "--graphs", str(pairs.graphs), "--cache", str(cache)),
        *("-o", str(output), "--max-steps", str(STEPS), *settings, "--set=checkpoints.every=3", "--quiet"),
    ]


@pytest.fixture(scope="module")
def undisturbed(pairs: HandmadePairs, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, by the command line."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(command(pairs, cache, output), env=SUBPROCESS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def trained_figures(run: Path) -> list[dict[str, str]]:
    """What a run logged, times and memory aside."""
    rows = read_metrics(run / "metrics.csv")
    return [{name: value for name, value in row.items() if not name.startswith(("speed/", "memory/"))} for row in rows]


def test_the_run_folder_holds_what_others_need(undisturbed: Path) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    expected = {
        "config.yaml",
        "encoder.safetensors",
        "concepts.safetensors",
        "concepts.json",
        "metrics.csv",
        "README.md",
    }
    assert names == expected | {"checkpoints", "tokenizer", "validation.json"}
    weights = undisturbed / "encoder.safetensors"
    encoder = timm.create_model("resnet10t", in_chans=1, num_classes=0, checkpoint_path=str(weights)).eval()
    run = open_run(undisturbed, "cpu")
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(run.model.encode_images(images).pooled, encoder(images))
    card = (undisturbed / "README.md").read_text(encoding="utf-8")
    assert 'timm.create_model("resnet10t", in_chans=1, num_classes=0' in card
    for said in ("sha256", "| train |", "state_auroc", "mirrored", "| cardiomegaly |"):
        assert said in card, said
    rows = trained_figures(undisturbed)
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "9"]
    for column in (
        "train/loss",
        "train/accuracy/pathology",
        "train/accuracy_blind/pathology",
        "norm/update",
        "learning_rate",
    ):
        assert all(row[column] for row in rows), column


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_is_uninterrupted_to_the_bit(
    number: signal.Signals, pairs: HandmadePairs, cache: Path, tmp_path: Path, undisturbed: Path
) -> None:
    output = tmp_path / "run"
    started = subprocess.Popen(command(pairs, cache, output), env=SUBPROCESS, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: bool(list_checkpoints(output / "checkpoints")), started)
    started.send_signal(number)
    _, said = started.communicate(timeout=120)
    if number == signal.SIGTERM:
        assert started.returncode == 143, said
        assert "goes on from there" in said
        assert "Traceback" not in said
    assert not (output / "README.md").exists()
    done = subprocess.run(command(pairs, cache, output), env=SUBPROCESS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("encoder.safetensors", "concepts.safetensors", "concepts.json"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert trained_figures(output) == trained_figures(undisturbed)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.01)


def test_two_processes_train_together(pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    together = [*command(pairs, cache, output), "--devices", "2", "--set=run.max_steps=3", "--set=run.accelerator=cpu"]
    done = subprocess.run(together, env=SUBPROCESS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [folder] = list_checkpoints(output / "checkpoints")
    assert sorted(path.name for path in folder.glob("rank-*")) == ["rank-00000.safetensors", "rank-00001.safetensors"]
    first, second = (load_file(folder / f"rank-0000{rank}.safetensors")["augment"] for rank in (0, 1))
    assert not torch.equal(first, second)  # each augments in its own way
    assert [row["step"] for row in trained_figures(output)] == ["2", "3"]
    assert open_run(output, "cpu").bank.counts.any()
    config = load_config(output / "config.yaml")
    alone = replace(config, run=replace(config.run, devices="1", output=tmp_path / "alone"))
    with pytest.raises(UserError, match="written by 2 processes"):
        pretrain(alone, resume=str(folder), progress=False)


def test_a_finished_run_is_left_alone_and_another_is_refused(
    pairs: HandmadePairs, cache: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(undisturbed, output)
    config = replace(load_config(output / "config.yaml"))
    config = replace(config, run=replace(config.run, output=output, workers=3))
    before = (output / "encoder.safetensors").stat().st_mtime_ns
    assert pretrain(config, progress=False).already
    assert (output / "encoder.safetensors").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another run\.seed"):
        pretrain(replace(config, run=replace(config.run, seed=5)), progress=False)
    with pytest.raises(UserError, match="holds a run"):
        pretrain(config, resume="never", progress=False)
    shutil.rmtree(output / "checkpoints")
    (output / "README.md").unlink()  # as after a first try that got nowhere: nothing to lose
    assert pretrain(tiny(pairs, cache, output, run__max_steps=1), progress=False).step == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty"):
        pretrain(tiny(pairs, cache, tmp_path / "other"), progress=False)
    outcome = pretrain(tiny(pairs, cache, output, run__max_steps=1), overwrite=True, progress=False)
    assert (outcome.step, [path.name for path in list_checkpoints(output / "checkpoints")]) == (1, ["step-00000001"])


def test_options_of_the_loop_do_what_they_say(pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    """Gradient accumulation, moving average, bfloat16, tensorboard, no steps at all, validation by steps."""
    output = tmp_path / "ema"
    changes = {"run__accumulate": 2, "optimization__ema": 0.5, "run__precision": "bf16", "run__tensorboard": True}
    outcome = pretrain(tiny(pairs, cache, output, **changes, validation__every=2), progress=False)
    assert outcome.step == 4
    [last] = [path for path in list_checkpoints(output / "checkpoints") if path.name == "step-00000004"]
    average = load_file(last / "ema.safetensors")
    encoder = load_file(output / "encoder.safetensors")
    assert all(torch.equal(value, average[f"model.image.backbone.{name}"]) for name, value in encoder.items())
    assert not torch.equal(
        average["model.attend.key.weight"], load_file(last / "model.safetensors")["model.attend.key.weight"]
    )
    assert list((output / "tensorboard").iterdir())
    assert [row["step"] for row in read_metrics(output / "metrics.csv") if row["validation/loss"]] == ["2", "4"]
    untrained = pretrain(tiny(pairs, cache, tmp_path / "untrained", run__max_steps=0), progress=False)
    assert untrained.step == 0
    assert open_run(tmp_path / "untrained", "cpu").table.concepts


def test_a_loss_that_is_no_number_stops_with_reports_and_the_last_good_checkpoint(
    pairs: HandmadePairs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, seen = loop.prepare_images, 0

    def prepare_once_badly(*arguments: object) -> torch.Tensor:
        nonlocal seen
        images = prepare(*arguments)  # type: ignore[arg-type]
        seen += 1
        if seen == 4:
            images[5] = float("nan")
        return images

    monkeypatch.setattr(loop, "prepare_images", prepare_once_badly)
    output = tmp_path / "run"
    with pytest.raises(Diverged, match="not a number") as error:
        pretrain(tiny(pairs, cache, output, checkpoints__every=1, run__max_steps=8), progress=False)
    assert "step-00000003" in str(error.value)
    noted = json.loads((output / "failed-batch.json").read_text(encoding="utf-8"))
    assert noted["step"] == 4
    assert set(noted["report_ids"]) <= {report.report_id for report in pairs.reports}
    assert all(report_id in str(error.value) for report_id in noted["report_ids"][:8])
    weights = load_file(list_checkpoints(output / "checkpoints")[-1] / "model.safetensors")
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())


def test_a_gradient_out_of_proportion_stops(
    pairs: HandmadePairs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SETTLING_STEPS", 1)
    config = tiny(pairs, cache, tmp_path / "run", optimization__explosion=1e-3)
    with pytest.raises(Diverged, match="exploded") as error:
        pretrain(config, progress=False)
    assert "There is no checkpoint yet" in str(error.value)


def test_graphs_without_images_are_refused_in_a_sentence(pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    write_graphs(tmp_path / "graphs", [[[HandReport("r1", "No effusion.", split="train")]]], image_root=None)
    config = tiny(pairs, cache, tmp_path / "run")
    with pytest.raises(UserError, match="no images"):
        pretrain(replace(config, run=replace(config.run, graphs=tmp_path / "graphs")), progress=False)
    with pytest.raises(UserError, match="--graphs"):
        pretrain(replace(config, run=replace(config.run, graphs=None, output=tmp_path / "a")), progress=False)
    with pytest.raises(UserError, match=r"model\.in_chans"):
        pretrain(tiny(pairs, cache, tmp_path / "b", model__in_chans=3), progress=False)


def test_options_are_checked_before_anything_takes_long(pairs: HandmadePairs, tmp_path: Path) -> None:
    for changes, said in (
        ({"model__backbone": "resnet10"}, "Did you mean"),
        ({"objective__name": "clpi"}, "did you mean clip"),
        ({"run__labels": tmp_path / "labels.csv"}, "does not exist"),
        ({"run__accelerator": "gpu", "run__devices": "99"}, "GPU"),
    ):
        with pytest.raises(UserError, match=said):
            pretrain(tiny(pairs, tmp_path / "cache", tmp_path / "run", **changes), progress=False)
    assert not list(tmp_path.iterdir())


def test_the_learning_rate_rises_and_falls() -> None:
    config = load_config(None, {"optimization.warmup": 0.1, "optimization.final_scale": 0.01}).optimization
    scales = [learning_rate_scale(step, 100, config) for step in range(100)]
    assert scales[0] == pytest.approx(0.1)
    assert max(scales) == scales[10] == scales[9] == 1.0
    assert scales[9:] == sorted(scales[9:], reverse=True)
    assert scales[-1] == pytest.approx(0.01, abs=2e-3)
    assert learning_rate_scale(0, 1, config) == 1.0


def test_only_matrices_decay_and_the_text_encoder_has_its_own_rate() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = torch.nn.Sequential(torch.nn.Embedding(3, 2), torch.nn.Linear(2, 2))
            self.image = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
            self.image[0].bias.requires_grad = False

    module = Two()
    config = load_config(
        None, {"optimization.text_learning_rate_scale": 0.1, "optimization.learning_rate": 1.0}
    ).optimization
    groups = parameter_groups(module, config, "text")
    of = {id(p): (group["peak"], group["weight_decay"] > 0) for group in groups for p in group["params"]}
    text, image = module.text, module.image
    assert of[id(text[0].weight)] == (pytest.approx(0.1), False)
    assert of[id(text[1].weight)] == (pytest.approx(0.1), True)
    assert of[id(image[0].weight)] == (1.0, True)
    assert of[id(image[1].weight)] == (1.0, False)
    assert id(image[0].bias) not in of


def test_embeddings_of_places_and_tokens_do_not_decay() -> None:
    encoder = ImageEncoder("vit_tiny_patch16_224", 32, 16, min_patches=1)
    config = load_config(None).optimization
    decayed = {
        id(p) for group in parameter_groups(encoder, config, "text") if group["weight_decay"] for p in group["params"]
    }
    spared = {
        name for name, parameter in encoder.named_parameters() if id(parameter) not in decayed and parameter.ndim > 1
    }
    assert spared == {"place", "backbone.cls_token", "backbone.pos_embed"}


def test_a_start_that_got_nowhere_leaves_no_tokenizer_behind(pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    """Without a checkpoint there is nothing to go on with, and the next start may be of other graphs."""
    output = tmp_path / "run"
    pretrain(tiny(pairs, cache, output, run__max_steps=0, data__vocabulary_size=100), progress=False)
    (output / "README.md").unlink()
    first = (output / "tokenizer" / "tokenizer.json").read_bytes()
    pretrain(tiny(pairs, cache, output, run__max_steps=0, data__vocabulary_size=150), progress=False)
    assert (output / "tokenizer" / "tokenizer.json").read_bytes() != first


def test_processes_agree_on_what_is_best(
    pairs: HandmadePairs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision to save is made of what the first process found, and validation draws the same each time."""
    seen: list[tuple[int, int]] = []

    def figures(self: object, model: object, objective: object, context: loop.Context, **_: object) -> dict[str, float]:  # noqa: ARG001
        seen.append((context.step, context.total_steps))
        return {"validation/loss": 5.0}

    monkeypatch.setattr(loop.Validator, "validate", figures)
    monkeypatch.setattr("lightning.fabric.Fabric.broadcast", lambda _, found: dict.fromkeys(found, 3.0))
    output = tmp_path / "run"
    pretrain(tiny(pairs, cache, output, validation__every=2), progress=False)
    assert seen == [(4, 4), (4, 4)]
    assert json.loads((output / "checkpoints" / "best.json").read_text(encoding="utf-8"))["value"] == 3.0
    assert [row["validation/loss"] for row in read_metrics(output / "metrics.csv") if row["validation/loss"]] == [
        "3"
    ] * 2


def test_steps_are_checked_before_they_are_validated(
    pairs: HandmadePairs, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is not waited for, a step without number may be noticed at the validation after it only."""
    validate, unchecked = loop._validate, []

    def noted(run: loop._Run, **options: bool) -> None:
        unchecked.append(len(run.unchecked))
        validate(run, **options)

    monkeypatch.setattr(loop, "_validate", noted)
    check = loop._check
    calls = iter(range(100))
    monkeypatch.setattr(loop, "_check", lambda *given: check(*given) if next(calls) > 1 else None)
    pretrain(tiny(pairs, cache, tmp_path / "run", validation__every=2, run__log_every=100), progress=False)
    assert unchecked == [0, 0]


def test_a_signal_to_one_process_stops_all_at_the_same_step() -> None:
    """What a process is told at one step, all know at the next one."""
    told = iter([1.0, 1.0, 0.0])
    fabric = SimpleNamespace(world_size=2, device="cpu", all_reduce=lambda _, reduce_op: torch.tensor(next(told)))  # noqa: ARG005
    run, signals = SimpleNamespace(fabric=fabric, stop=None), SimpleNamespace(received=None)
    assert [loop._stop_wanted(run, signals), signals.received] == [False, None]  # type: ignore[arg-type]
    assert [loop._stop_wanted(run, signals), signals.received] == [True, signal.SIGTERM]  # type: ignore[arg-type]
