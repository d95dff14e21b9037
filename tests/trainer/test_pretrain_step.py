"""The benchmark of the pre-training step: its turns are the training, its larger graphs are graphs, and it runs as a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import hand_batches as hand
import pytest
import torch
from handmade_pairs import HandmadePairs
from programs import ROOT, load_program
from safetensors.torch import load_file
from tiny_run import TINY

from trainer.config import Config, load_config
from trainer.graph.states import close_states
from trainer.pretrain import _Run, _setup, make_fabric, pretrain

PROGRAM = ROOT / "benchmarks" / "pretrain_step.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return load_program(PROGRAM)


def configuration(pairs: HandmadePairs, cache: Path, output: Path, **changes: Any) -> Config:
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": output, "run.accelerator": "cpu"}
    options = {"run.devices": "1", "run.max_steps": 4}
    return load_config(None, {**TINY, "model.text_dropout": 0.0, **given, **options, **changes})


def set_up(config: Config) -> _Run:
    assert config.run.output is not None
    config.run.output.mkdir()
    return _setup(make_fabric(config), config, config.run.output, progress=False)


def test_turns_are_the_training_itself(program: ModuleType, pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    saving = {"checkpoints.every": 1, "checkpoints.keep": 4}
    pretrain(configuration(pairs, cache, tmp_path / "undisturbed", **saving), progress=False)
    run = set_up(configuration(pairs, cache, tmp_path / "turns"))
    batches = program.draw_batches(run, 8)
    training, encoders = program.training_turn(run, batches), program.encoder_turn(run, batches)
    steps = 0
    for length in (1, 2):
        encoders(0, 1)
        training(steps, length)
        steps += length
        trained = load_file(tmp_path / "undisturbed" / "checkpoints" / f"step-{steps:08d}" / "model.safetensors")
        for name, parameter in run.plain.named_parameters():
            assert torch.equal(parameter, trained[name]), name
    assert run.step == 3


def test_encoders_have_gradients_of_both_and_leave_none(
    program: ModuleType, pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    run = set_up(configuration(pairs, cache, tmp_path / "run"))
    trained = {name: one for name, one in run.plain.model.named_parameters() if one.requires_grad}
    seen: set[str] = set()
    for name, parameter in trained.items():
        parameter.register_post_accumulate_grad_hook(lambda _, name=name: seen.add(name))  # type: ignore[no-untyped-call]
    program.encoder_turn(run, program.draw_batches(run, 8))(0, 1)
    assert seen == {name for name in trained if name.startswith(("image.", "text."))}
    assert all(parameter.grad is None for parameter in run.plain.parameters())


def test_operations_of_an_encoder_step_are_those_of_its_layers(
    program: ModuleType, pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    run = set_up(configuration(pairs, cache, tmp_path / "run"))
    batches = program.draw_batches(run, 8)
    counted = program.encoder_flops(run, batches)
    twice = program.encoder_flops(run, [*batches, *batches])
    assert counted == twice
    checkpointed = set_up(
        configuration(pairs, cache, tmp_path / "checkpointed", **{"model.gradient_checkpointing": True})
    )
    assert program.encoder_flops(checkpointed, batches) == counted


def test_what_does_not_fit_leaves_nothing_behind(
    program: ModuleType, pairs: HandmadePairs, cache: Path, tmp_path: Path
) -> None:
    run = set_up(configuration(pairs, cache, tmp_path / "run"))

    def too_large(first: int, steps: int) -> None:  # noqa: ARG001
        for parameter in run.plain.parameters():
            parameter.grad = torch.ones_like(parameter)
        raise torch.cuda.OutOfMemoryError

    assert not program.warm_up("too large", too_large, 1, [run])
    assert all(parameter.grad is None for parameter in run.plain.parameters())
    assert program.warm_up("small", program.training_turn(run, program.draw_batches(run, 8)), 1, [run])
    assert run.step == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_graphs_are_those_of_the_reports(program: ModuleType, count: int) -> None:
    table = hand.table()
    batches = [hand.pack(hand.random_reports(6, seed), seed=seed) for seed in range(count)]
    for shorter, batch in enumerate(batches):  # a span of another text may lie beyond this one
        batch.attention_mask[:, 12 - 3 * shorter :] = 0
    merged = program.merged(batches[::-1])
    assert merged.images is batches[-1].images

    def said(batch: Any, report: int) -> tuple[list[Any], list[Any]]:
        columns = (batch.node_concept, batch.node_side, batch.node_state, batch.node_content)
        nodes = list(zip(*(column.tolist() for column in columns), strict=True))
        mine = [node for node, of in zip(nodes, batch.node_report.tolist(), strict=True) if of == report]
        edges = [
            (nodes[source], nodes[target], kind)
            for source, target, kind in zip(
                batch.edge_source.tolist(), batch.edge_target.tolist(), batch.edge_kind.tolist(), strict=True
            )
            if int(batch.node_report[source]) == report == int(batch.node_report[target])
        ]
        return mine, edges

    for report in range(6):
        nodes, edges = said(merged, report)
        parts = [said(batch, report) for batch in batches]
        assert sorted(nodes) == sorted(node for mine, _ in parts for node in mine)
        assert sorted(edges) == sorted(edge for _, mine in parts for edge in mine)
    assert (merged.node_report.diff() >= 0).all()
    lengths = merged.attention_mask.sum(1)[merged.node_report[merged.span_node]]
    assert (merged.span_start >= 0).all()
    assert (merged.span_end <= lengths).all()
    assert torch.equal(
        (merged.span_end - merged.span_start).sort().values,
        torch.cat([batch.span_end - batch.span_start for batch in batches]).sort().values,
    )
    assert close_states(merged, table).size >= close_states(batches[0], table).size
    if count == 1:
        whole = replace(batches[0], span_start=merged.span_start, span_end=merged.span_end)
        assert all(torch.equal(getattr(merged, name), getattr(whole, name)) for name in ("node_state", "edge_source"))


def run_program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Where neither graphprep nor spaCy nor pydicom can be found."""
    missing = {"graphprep", "spacy", "medspacy", "pydicom", "radgraph"}
    script = (
        "import runpy, sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"PathFinder.find_spec = lambda name, *rest: None if name.split('.')[0] in {missing!r} else find(name, *rest)\n"
        f"sys.argv[0] = {str(PROGRAM)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_the_program_writes_its_table(pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    settings = [f"--set={key}={value}" for key, value in TINY.items() if key != "run.batch_size"]
    output = tmp_path / "out" / "table.md"
    output.parent.mkdir()
    output.write_text("# Before\n", encoding="utf-8")
    done = run_program(
        *(pairs.graphs, "--setup", "small", "--batch", 8, "--batches", 4, "--nodes", 2, "--rounds", 2, "--threads", 1),
        *("--peak-tflops", 1, "--cache", cache, "--output", output, "--append", *settings),
    )
    assert done.returncode == 0, done.stderr
    text = output.read_text(encoding="utf-8")
    assert text.startswith("# Before\n\n## small\n\n    python benchmarks/pretrain_step.py ")
    assert text.endswith(done.stdout)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    named = {row[0]: row for row in rows}
    encoders, cga = named["the two encoders, forward and backward"], named["`cga`, whole step"]
    assert encoders[4] == "1.00 (1.00–1.00)"
    assert named["`clip`, whole step"][5] == "1.00 (1.00–1.00)"
    assert float(cga[4].split()[0]) > 1
    assert float(cga[6]) > float(encoders[6]) > 0
    assert re.fullmatch(r"\d+\.\d%", cga[8])
    assert [row[0] for row in rows if row[0] in ("4", "8")] == ["4", "8"]
    one, two = (float(row[1]) for row in rows if row[0] in ("1", "2"))
    assert two == pytest.approx(2 * one, rel=0.05)


def test_a_folder_without_graphs_is_an_error_of_the_user(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main([str(tmp_path), "--setup", "small", "--device", "cpu", "--output", str(tmp_path / "table.md")])
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()
