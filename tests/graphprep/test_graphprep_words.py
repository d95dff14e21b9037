"""Word forms, and the phrases that a rule's phrase stands for."""

from __future__ import annotations

import pytest

from graphprep.lexicon import Lexicon
from graphprep.vocabulary import load_vocabularies
from graphprep.words import alternatives


@pytest.mark.parametrize(
    ("phrase", "phrases"),
    [
        ("no longer seen", ["no longer seen"]),
        ("has|have now| resolved", ["has now resolved", "has resolved", "have now resolved", "have resolved"]),
        ("may_be|likely due to", ["may be due to", "likely due to"]),
        ("near|nearly complete|", ["near complete", "near", "nearly complete", "nearly"]),
    ],
)
def test_a_phrase_stands_for_all_its_choices(phrase: str, phrases: list[str]) -> None:
    assert alternatives(phrase) == phrases


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("neg", "negative"),
        ("NL", "normal"),
        ("inthe", "in"),
        ("atelectsis", "atelectasis"),
        ("infiltrat", "infiltrate"),
        ("contiguous", "contiguous"),
        ("norml", "norml"),
    ],
)
def test_short_and_mistyped_words_are_read_as_what_they_are_meant_for(word: str, meant: str) -> None:
    assert Lexicon(*load_vocabularies()).spelled(word) == meant
