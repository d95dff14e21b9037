"""Tokens are the package's, and stand where we say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphprep.extractors.radgraph.extractor import split
from graphprep.extractors.radgraph.tokens import Tokens, tokenize

# Python's table of characters may be older than that of the package `regex`, which NLTK uses: none that it does not know.
TEXTS = st.one_of(
    st.text(st.sampled_from("ab Z9.,%)(!?/:;\"'\\-_\n\t\u00a0é²İ\u200b"), max_size=60),
    st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=30),
)


@pytest.mark.parametrize("model", ["radgraph", "radgraph-xl", "modern-radgraph-xl"])
@given(text=TEXTS)
def test_the_words_are_those_of_the_package(model: str, text: str) -> None:
    from radgraph.utils import preprocess_reports

    [document] = preprocess_reports([text], model)
    assert list(tokenize(text, model).words) == document["sentences"][0]


@pytest.mark.parametrize("model", ["radgraph", "radgraph-xl"])
@given(text=TEXTS)
def test_spans_are_in_order_and_cover_all_but_blanks(model: str, text: str) -> None:
    tokens = tokenize(text, model)
    at = 0
    for word, (start, end) in zip(tokens.words, tokens.spans, strict=True):
        assert text[at:start].strip() == "" or "\\" in text[at:start]
        assert end - start == len(word)
        assert text[start:end] == word or "\\" in text[start:end]
        at = end


def test_the_first_model_cuts_otherwise() -> None:
    text = "5/6 mm (old)."
    assert tokenize(text, "radgraph").words == ("5", "/", "6", "mm", "(", "old", ")", ".")
    assert tokenize("x-ray", "radgraph").words == ("x-ray",)
    assert tokenize("x-ray", "radgraph-xl").words == ("x", "-", "ray")


@given(
    lengths=st.lists(st.integers(1, 12), max_size=12),
    longest=st.integers(1, 20),
)
def test_long_texts_are_cut_at_sentences(lengths: list[int], longest: int) -> None:
    size = sum(lengths)
    tokens = Tokens(tuple(map(str, range(size))), tuple((3 * at, 3 * at + 2) for at in range(size)))
    begins = [sum(lengths[:number]) for number in range(len(lengths))]
    pieces = split(tokens, [3 * at for at in begins], longest)
    assert [word for piece in pieces for word in piece.words] == list(tokens.words)
    assert [span for piece in pieces for span in piece.spans] == list(tokens.spans)
    assert all(len(piece.words) <= longest for piece in pieces)
    at = 0
    for piece in pieces[:-1]:
        at += len(piece.words)
        assert at in begins or len(piece.words) == longest  # within a sentence only where it does not fit
    if size <= longest:
        assert len(pieces) == 1
