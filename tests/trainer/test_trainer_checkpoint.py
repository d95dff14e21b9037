"""Checkpoints are whole or not there, hold every bit, and nothing in them is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer import checkpoint
from trainer.errors import UserError
from trainer.metrics import MetricsLog, read_metrics

_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
_STATES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_STATES)
def test_nested_state_comes_back_as_it_was(state: Any) -> None:
    assert checkpoint.unpack(*checkpoint.pack(state)) == state


def test_an_optimizer_comes_back_to_the_bit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([{"params": [layer.weight], "peak": 0.1}, {"params": [layer.bias]}])
    layer(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    folder = checkpoint.save_checkpoint(
        tmp_path,
        7,
        {"model": layer.state_dict()},
        {"optimizer": optimizer.state_dict()},
        {0: checkpoint.random_state()},
    )
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", *[".safetensors"] * 3]
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(checkpoint.load_weights(folder))
    assert torch.equal(other.weight, layer.weight)
    loaded = checkpoint.load_training(folder)["optimizer"]
    assert loaded["param_groups"] == optimizer.state_dict()["param_groups"]
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, loaded["state"][index][name]) for name, value in state.items())


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    torch.manual_seed(3)
    folder = checkpoint.save_checkpoint(tmp_path, 1, {}, {}, {0: checkpoint.random_state()})
    expected = torch.rand(4)
    torch.manual_seed(99)
    checkpoint.set_random_state(checkpoint.load_rank_state(folder, 0))
    assert torch.equal(torch.rand(4), expected)
    with pytest.raises(UserError, match="1 processes"):
        checkpoint.load_rank_state(folder, 1)


def test_what_was_not_finished_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save_checkpoint(tmp_path, 1, {"model": {"w": torch.ones(2)}}, {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda self, target: (_ for _ in ()).throw(OSError("full")))  # noqa: ARG005
        with pytest.raises(OSError, match="full"):
            checkpoint.save_checkpoint(tmp_path, 2, {"model": {"w": torch.zeros(2)}}, {}, {})
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["step-00000001"]
    checkpoint.save_checkpoint(tmp_path, 2, {"model": {"w": torch.zeros(2)}}, {}, {})
    assert checkpoint.choose("auto", tmp_path) == tmp_path / "step-00000002"
    assert not list(tmp_path.glob(".partial*"))


def test_the_best_the_last_and_milestones_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        folder = checkpoint.save_checkpoint(tmp_path, step, {}, {}, {})
        if step == 2:
            checkpoint.mark_best(tmp_path, folder, "validation/loss", 0.5)
        checkpoint.prune(tmp_path, keep=2, milestone=4)
    assert [int(path.name[5:]) for path in checkpoint.list_checkpoints(tmp_path)] == [2, 4, 6, 7]
    assert checkpoint.best_of(tmp_path) == (tmp_path / "step-00000002", 0.5)


def test_resume_takes_auto_never_a_run_and_a_checkpoint(tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    assert checkpoint.choose("auto", checkpoints) is None
    folder = checkpoint.save_checkpoint(checkpoints, 3, {}, {}, {})
    assert checkpoint.choose("never", checkpoints) is None
    for path in (tmp_path / "run", checkpoints, folder):
        assert checkpoint.choose(str(path), tmp_path / "elsewhere") == folder
    with pytest.raises(UserError, match="there is no checkpoint"):
        checkpoint.choose(str(tmp_path), checkpoints)


def test_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    folder = checkpoint.save_checkpoint(tmp_path, 1, {"model": {"w": torch.ones(100)}}, {}, {})
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(UserError, match="no whole safetensors file"):
        checkpoint.load_weights(folder)
    (folder / "training.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="no complete checkpoint"):
        checkpoint.load_training(folder)


def test_metrics_grow_columns_and_drop_rows_that_are_done_again(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.log(1, {"loss": 2.0})
        log.log(2, {"loss": 1.0})
        log.log(2, {"validation": 0.5})
        log.log(3, {"loss": 0.5, "validation": 0.25})
    assert (tmp_path / "metrics.csv").read_text(encoding="utf-8") == "step,loss,validation\n1,2,\n2,1,0.5\n3,0.5,0.25\n"
    with (tmp_path / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("4,0.")  # cut off by a kill
    with MetricsLog(tmp_path, resume_step=2, tensorboard=False) as log:
        assert [row["step"] for row in read_metrics(tmp_path / "metrics.csv")] == ["1", "2"]
        log.log(3, {"loss": 0.5, "validation": 0.25})
    assert (tmp_path / "metrics.csv").read_text(encoding="utf-8") == "step,loss,validation\n1,2,\n2,1,0.5\n3,0.5,0.25\n"
