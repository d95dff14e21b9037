"""Tokenizers: the learnt vocabulary, transformers folders, and where spans are among the tokens."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from handmade_pairs import HandmadePairs, HandReport, write_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer.data.graphs import GraphFolder
from trainer.data.phrases import join, phrase
from trainer.data.tokenizer import Tokenizer, learn_tokenizer, load_tokenizer
from trainer.errors import UserError

TEXTS = [
    "Small left pleural effusion. No pneumothorax.",
    "Opacity in the left lower lobe, likely atelectasis; the effusion is small.",
    "The heart is enlarged. No effusion or pneumothorax is seen.",
] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokenizer(TEXTS, 200, 64)


def words_of(tokenizer: Tokenizer, ids: NDArray[np.int32]) -> list[str]:
    return [tokenizer.backend.id_to_token(int(token)) for token in ids]


def test_the_vocabulary_is_the_same_in_every_run_and_order(tokenizer: Tokenizer) -> None:
    for seed in range(4):
        texts = list(TEXTS)
        random.Random(seed).shuffle(texts)
        again = learn_tokenizer(texts, 200, 64)
        assert again.backend.get_vocab() == tokenizer.backend.get_vocab()
        assert again.fingerprint == tokenizer.fingerprint


def test_the_vocabulary_has_the_size_that_was_asked_for(tokenizer: Tokenizer) -> None:
    assert len(learn_tokenizer(TEXTS, 90, 64)) == 90
    assert tokenizer.backend.token_to_id("[PAD]") == tokenizer.pad_id == 0


def test_words_are_whole_where_they_are_common_and_case_does_not_matter(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(["EFFUSION Pneumothorax"])
    assert words_of(tokenizer, encoded.tokens) == ["[CLS]", "effusion", "pneumothorax", "[SEP]"]


def test_special_words_in_a_report_are_words(tokenizer: Tokenizer) -> None:
    """A letter that was given to the trainer first is no special token afterwards."""
    encoded = tokenizer.encode(["the effusion, a"], [[(4, 12), (14, 15)]])
    words = words_of(tokenizer, encoded.tokens)
    assert [words[start:end] for start, end in zip(encoded.span_start, encoded.span_end, strict=True)] == [
        ["effusion"],
        ["a"],
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("aefhinoprstux é.\n😀İ", max_size=60),
            st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5),
        ),
        max_size=4,
    )
)
def test_spans_hold_the_tokens_that_share_a_character_with_them(
    tokenizer: Tokenizer, cases: list[tuple[str, list[tuple[int, int]]]]
) -> None:
    texts = [text for text, _ in cases]
    spans = [[(min(span), max(span)) for span in of_text if span[0] != span[1]] for _, of_text in cases]
    encoded = tokenizer.encode(texts, spans)
    assert len(encoded.tokens) == encoded.lengths.sum()
    first, span = 0, 0
    for text, of_text, length in zip(texts, spans, encoded.lengths, strict=True):
        reference = tokenizer.backend.encode(text)
        assert reference.ids == encoded.tokens[first : first + length].tolist()
        for start, end in of_text:
            expected = [i for i, (a, b) in enumerate(reference.offsets) if b > a and a < end and b > start]
            found = list(range(encoded.span_start[span], encoded.span_end[span]))
            assert found == expected
            span += 1
        first += length
    assert span == len(encoded.span_start)


def test_spans_beyond_the_cut_hold_nothing() -> None:
    short = learn_tokenizer(TEXTS, 200, 8)
    text = "effusion " * 20
    encoded = short.encode([text], [[(0, 8), (0, 180), (100, 108)]])
    assert encoded.lengths.tolist() == [8]
    assert list(zip(encoded.span_start, encoded.span_end, strict=True))[:2] == [(1, 2), (1, 7)]
    assert encoded.span_start[2] == encoded.span_end[2]


def test_padding(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer.encode(["effusion", "", "no effusion is seen"]).padded()
    assert ids.shape == mask.shape == (3, 6)
    assert mask.sum(dim=1).tolist() == [3, 2, 6]
    assert (ids[mask == 0] == tokenizer.pad_id).all()


def test_what_is_saved_is_loaded_and_by_transformers_too(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path, 64)
    assert again.fingerprint == tokenizer.fingerprint
    assert Tokenizer.load(tmp_path, 16).max_tokens == 16
    whole = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert whole(TEXTS[1])["input_ids"] == tokenizer.encode([TEXTS[1]]).tokens.tolist()
    assert (whole.pad_token, whole.mask_token, whole.unk_token) == ("[PAD]", "[MASK]", "[UNK]")


def test_a_bert_folder_with_only_a_word_list(tmp_path: Path, pairs: HandmadePairs) -> None:
    from transformers import BertConfig

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "effusion", "pleural", "no", ".", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertConfig(vocab_size=len(words)).save_pretrained(str(tmp_path))
    loaded = load_tokenizer(tmp_path, GraphFolder(pairs.graphs), max_tokens=32)
    encoded = loaded.encode(["No pleural effusions."], [[(3, 20)]])
    assert words_of(loaded, encoded.tokens) == ["[CLS]", "no", "pleural", "effusion", "##s", ".", "[SEP]"]
    assert (encoded.span_start[0], encoded.span_end[0]) == (2, 5)


@pytest.mark.parametrize("content", [None, {}, {"tokenizer.json": "{"}, {"config.json": "{}"}])
def test_folders_without_a_tokenizer_are_an_error(tmp_path: Path, content: dict[str, str] | None) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="model"):
        Tokenizer.load(folder, 32)


def test_a_vocabulary_is_learnt_from_training_reports_only(tmp_path: Path) -> None:
    reports = [
        HandReport(f"r{split}{number}", text, split=split)
        for split, text in [("train", "alpha beta"), ("val", "gamma"), ("test", "omega")]
        for number in range(5)
    ]
    tokenizer = load_tokenizer(None, GraphFolder(write_graphs(tmp_path, [[reports]])), 200, 32)
    vocabulary = tokenizer.backend.get_vocab()
    assert {"alpha", "beta"} <= vocabulary.keys()
    assert not {"gamma", "omega"} & vocabulary.keys()
    assert "g" not in vocabulary


def test_phrases() -> None:
    assert phrase("pleural effusion", "left", "absent", ["small"]) == "no small left pleural effusion"
    assert phrase("heart", None, "present") == "heart"
    assert phrase("pneumonia", None, "uncertain") == "possible pneumonia"
    text, spans = join(["no nodule", "left lung"])
    assert [text[start:end] for start, end in spans] == ["no nodule", "left lung"]
    assert join([]) == ("", [])
