"""Packed inference says what the package's loop says, one text at a time, whatever the batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import Tiny

from graphprep.errors import UserError
from graphprep.extractors.radgraph.batches import Batch, group, pack
from graphprep.extractors.radgraph.inference import Annotation, Annotator, halving
from graphprep.extractors.radgraph.network import Network, Scores
from graphprep.extractors.radgraph.tokens import tokenize

ODD = [
    "Pneumothorax",
    "?",
    "No effusion",
    "Effusion \u200b left \u4e2d\u6587 \U0001fac1 lung.",
    "/. opacity /? nodule \\n \\u2122 2.5 cm (old).",
    "The heart is normal in size. " * 100,  # 700 words, more pieces than the encoder takes at once
    "No focal consolidation, effusion or pneumothorax; lungs are clear. " * 45,
]


@pytest.fixture(autouse=True)
def _package_warnings() -> Iterator[None]:
    """The package warns of texts of one token, and prints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def words_of(tiny: Tiny, texts: list[str]) -> list[tuple[str, ...]]:
    return [tokenize(text, tiny.name).words for text in texts]


def as_package(words: tuple[str, ...], annotation: Annotation) -> dict[str, Any]:
    """An annotation as the package writes it."""
    entities = {
        str(number): {
            "tokens": " ".join(words[first : last + 1]),
            "label": label,
            "start_ix": first,
            "end_ix": last,
            "relations": [[kind, str(to + 1)] for one, to, kind in annotation.relations if one == number - 1],
        }
        for number, (first, last, label) in enumerate(annotation.entities, 1)
    }
    return {"text": " ".join(words), "entities": entities, "data_source": None, "data_split": "inference"}


def test_the_same_as_the_loop_at_any_batch_size(tiny: Tiny, texts: list[str]) -> None:
    texts = [*texts, *ODD]
    expected = tiny.loop(texts)
    assert sum(len(each["entities"]) for each in expected) > len(texts)
    assert sum(len(e["relations"]) for each in expected for e in each["entities"].values()) > 50
    words = words_of(tiny, texts)
    for budget in (1, 300, 3000):
        found = Annotator(tiny.network, budget)(words)
        for text, annotation, wanted in zip(words, found, expected, strict=True):
            assert as_package(text, annotation) == wanted


def test_no_maximal_length_in_the_configuration(tmp_path: Any) -> None:
    """ModernBERT takes long texts whole where its configuration says so."""
    import tiny_models

    from graphprep.models import import_model

    name = "modern-radgraph-xl"
    out = tiny_models.build(tmp_path / "built", name, max_length=None)
    made = import_model(out / "published" / name, tmp_path / "model", encoder=out / "encoder")
    tiny = Tiny(name, out, made, Network(made, torch.device("cpu")))
    words = words_of(tiny, ODD)
    found = Annotator(tiny.network, 2000)(words)
    assert [as_package(*pair) for pair in zip(words, found, strict=True)] == tiny.loop(ODD)


def test_pieces_are_those_of_the_package(tiny: Tiny) -> None:
    from radgraph.allennlp.data import Vocabulary
    from radgraph.allennlp.data.token_indexers import PretrainedTransformerMismatchedIndexer
    from radgraph.allennlp.data.tokenizers import Token

    indexer = PretrainedTransformerMismatchedIndexer(model_name=str(tiny.folder.base), max_length=512)
    for words in words_of(tiny, ODD[3:]):
        normal = [word[1:] if word in ("/.", "/?") else word for word in words]
        expected = indexer.tokens_to_indices([Token(word) for word in normal], Vocabulary())
        [pieces] = tiny.network.cut([words])
        assert pieces.ids == expected["token_ids"]
        shown = pieces.places[:, 0] >= 0
        assert (pieces.places[shown, 0] == np.array(expected["offsets"])[shown, 0]).all()


def test_nothing_to_see(tiny: Tiny) -> None:
    annotate = Annotator(tiny.network)
    assert annotate([]) == []
    nothing = words_of(tiny, ["", " \n ", "\u00a0"])
    assert annotate(nothing) == [Annotation()] * 3
    if tiny.name != "modern-radgraph-xl":  # whose tokenizer knows every byte
        [unknown] = words_of(tiny, ["\u200b\u200b"])
        assert unknown
        assert annotate([unknown]) == [Annotation()]
        whole, clear = annotate([(*unknown, "lung"), ("lungs", "are", "clear")])
        assert annotate([("lungs", "are", "clear")]) == [clear]
        assert all(last <= 1 for _, last, _ in whole.entities)


def test_identical_texts_are_computed_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = Network.__call__

    def counted(network: Network, batch: Batch) -> Scores:
        seen.extend(batch.texts)
        return real(network, batch)

    monkeypatch.setattr(Network, "__call__", counted)
    annotate = Annotator(tiny.network, 10_000)
    [first, second] = words_of(tiny, ["No acute disease.", "Heart size is normal."])
    one, two, again = annotate([first, second, first])
    assert one == again
    computed = len(seen)
    assert set(seen) == {0, 1}
    assert annotate([second, first]) == [two, one]
    assert len(seen) == computed


def test_half_precision_agrees(tiny: Tiny, texts: list[str]) -> None:
    words = words_of(tiny, texts[:40])
    exact = Annotator(tiny.network)(words)
    half = Network(tiny.folder, torch.device("cpu"), half=True)
    found = Annotator(half)(words)
    assert half._embed._matched_embedder.transformer_model.dtype in (torch.float16, torch.bfloat16)
    entities = [set(each.entities) for each in exact]
    common = sum(len(a & set(b.entities)) for a, b in zip(entities, found, strict=True))
    assert common > 0.8 * sum(map(len, entities))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu_in_float32(tiny: Tiny, texts: list[str]) -> None:
    words = words_of(tiny, texts)
    on_gpu = Annotator(Network(tiny.folder, torch.device("cuda", 0)))(words)
    same = sum(a == b for a, b in zip(on_gpu, Annotator(tiny.network)(words), strict=True))
    assert same > 0.98 * len(words)


# Memory


class Cramped:
    """A network whose GPU takes so many texts at once."""

    def __init__(self, network: Network, most: int) -> None:
        self._network, self._most = network, most
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def __call__(self, batch: Batch) -> Scores:
        if len(batch.texts) > self._most:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self._network(batch)


def test_a_batch_without_memory_is_halved(tiny: Tiny, texts: list[str]) -> None:
    words = words_of(tiny, texts[:50])
    cramped: Any = Cramped(tiny.network, 3)
    assert Annotator(cramped, 10_000)(words) == Annotator(tiny.network, 10_000)(words)
    assert cramped.refused > 5


def test_no_memory_for_one_text_is_said(tiny: Tiny) -> None:
    cramped: Any = Cramped(tiny.network, 0)
    with pytest.raises(UserError, match=r"no memory left.*--device cpu"):
        Annotator(cramped)(words_of(tiny, ["No effusion."]))


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 200))
def test_groups_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    groups = group(lengths, budget)
    assert sorted(number for numbers in groups for number in numbers) == list(range(len(lengths)))
    for numbers in groups:
        assert len(numbers) == 1 or len(numbers) * max(lengths[number] for number in numbers) <= budget
    sizes = [lengths[number] for numbers in groups for number in numbers]
    assert sizes == sorted(sizes, reverse=True)


def test_halves_together_are_the_batch(tiny: Tiny) -> None:
    words = words_of(tiny, ["a b c", "no effusion", "d"])
    [batch] = pack([7, 8, 9], tiny.network.cut(words), 0)
    parts = [part for part, _ in halving(Cramped(tiny.network, 1), batch)]
    assert [part.texts for part in parts] == [[7], [8], [9]]
    assert torch.equal(torch.cat([part.ids for part in parts]), batch.ids)
