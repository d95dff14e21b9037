"""A training that starts with the weights of another run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import hand_batches as hand
import pytest
import torch
from handmade_pairs import HandmadePairs
from safetensors.torch import load_file
from tiny_model import tiny_model
from tiny_run import TINY

from trainer.checkpoint import list_checkpoints
from trainer.config import Config, load_config
from trainer.data.tokenizer import Tokenizer
from trainer.errors import UserError
from trainer.graph.concepts import ConceptTable
from trainer.pretrain import pretrain
from trainer.start import adapted


def tiny(pairs: HandmadePairs, cache: Path, output: Path, **changes: object) -> Config:
    given = {"run.graphs": pairs.graphs, "run.cache": cache, "run.output": output, "run.max_steps": 2}
    return load_config(None, {**TINY, **given, **{key.replace("__", "."): value for key, value in changes.items()}})


@pytest.fixture(scope="module")
def first(pairs: HandmadePairs, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tiny(pairs, cache, tmp_path_factory.mktemp("first") / "run"), progress=False).output


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(list_checkpoints(run / "checkpoints")[-1] / "model.safetensors")


def test_all_weights_and_the_tokenizer_go_over(first: Path, pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    again = tiny(pairs, cache, tmp_path / "again", run__start_from=first, run__max_steps=1, run__seed=5)
    started = pretrain(again, progress=False).output
    unrelated = pretrain(tiny(pairs, cache, tmp_path / "other", run__max_steps=1, run__seed=5), progress=False).output
    before, after, other = weights(first), weights(started), weights(unrelated)
    assert before.keys() == after.keys()
    words = "model.text.encoder.embeddings.word_embeddings.weight"
    for name in ("model.image.backbone.conv1.0.weight", "model.queries.concept.weight", words):  # a step moves little
        assert (after[name] - before[name]).norm() < 0.2 * (other[name] - before[name]).norm(), name
    tokenizers = [Tokenizer.load(run / "tokenizer", 48).fingerprint for run in (first, started)]
    assert tokenizers[0] == tokenizers[1]
    encoder = hashlib.sha256((first / "encoder.safetensors").read_bytes()).hexdigest()
    assert f"| started from | run, encoder sha256 `{encoder}` |" in (started / "README.md").read_text(encoding="utf-8")
    assert "started from" not in (unrelated / "README.md").read_text(encoding="utf-8")


def test_another_objective_takes_what_it_shares(first: Path, pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    config = tiny(pairs, cache, tmp_path / "clip", run__start_from=first, objective__name="clip", run__max_steps=1)
    assert pretrain(config, progress=False).figures


def test_concepts_are_matched_by_name_and_places_by_the_grid() -> None:
    old = tiny_model(seed=1)
    kept = [concept for concept in hand.table().concepts if concept.id != "tube"]
    new = tiny_model(seed=2)
    state = old.state_dict()
    row = hand.row("tube")
    weight = state["queries.concept.weight"]
    state["queries.concept.weight"] = torch.cat([weight[:row], weight[row + 1 :]])
    h, w = old.image.place.shape[2:]
    state["image.place"] = torch.nn.functional.interpolate(state["image.place"], size=(2 * h, 2 * w), mode="bicubic")
    found = adapted(state, new, ConceptTable(kept))
    new_weight = new.queries.concept.weight.detach()
    assert torch.equal(found["queries.concept.weight"][row], new_weight[row])
    assert torch.equal(found["queries.concept.weight"][:row], weight[:row])
    assert torch.equal(found["queries.concept.weight"][row + 1 :], weight[row + 1 :])
    assert found["image.place"].shape == new.image.place.shape
    new.load_state_dict(found)


def test_what_cannot_be_started_from_is_named(first: Path, pairs: HandmadePairs, cache: Path, tmp_path: Path) -> None:
    for changes, said in (
        ({"run__start_from": tmp_path}, "expected the folder of a finished run"),
        ({"run__start_from": first, "model__dim": 32}, "its model is another one"),
        ({"run__start_from": first, "model__weights": "some.pth"}, "--weights none"),
    ):
        with pytest.raises(UserError, match=said):
            pretrain(tiny(pairs, cache, tmp_path / "run", **changes), progress=False)
