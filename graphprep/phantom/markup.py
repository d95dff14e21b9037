"""Sentences that say of their own words what they are, so that their meaning need not be read off them.

    There is {a ~small ^left @pleural:pleura *effusion}, ~unchanged.

Braces hold a phrase: what names one finding. Marks stand before a word, and `_` in a marked word is a space:

- `*word`  the head of the phrase, an observation
- `~word`  an observation that modifies the head; outside of phrases, the heads of all of them
- `#4_cm`  a measurement, which does the same
- `@word:concept`  an anatomy, where the head is located; outside of phrases, where all heads are. Without a concept: a side alone
- `^word`  an anatomy that modifies the `@` after it, `<word` the one before it

Words without a mark are no mentions. These are the granularity and the relations of RadGraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Role = Literal["head", "modifier", "place", "part"]

_TOKEN = re.compile(
    r"(?P<brace>[{}])|(?P<mark>[*~@^<])(?P<word>[\w'/-]+)(?::(?P<concept>\w+))?|#(?P<size>[\d.]+_[cm]m)"
)
_ARTICLE = re.compile(r"\b([Aa])(?= [{*~@^]*[aeiou])")
_ROLES: dict[str, Role] = {"*": "head", "~": "modifier", "@": "place", "^": "part", "<": "part"}


@dataclass(frozen=True, slots=True)
class MarkedWord:
    """A mention of a sentence: `start` and `end` are offsets into its text; `target` is the word that it modifies.

    `phrase` is the number of the phrase that it stands in, None outside of phrases.
    """

    role: Role
    start: int
    end: int
    phrase: int | None
    concept: str | None = None
    measurement: bool = False
    target: int | None = None


@dataclass(frozen=True, slots=True)
class MarkedSentence:
    """The text of a sentence, its mentions in order, and the index of the head of each phrase."""

    text: str
    words: tuple[MarkedWord, ...]
    heads: tuple[int, ...]


@lru_cache(maxsize=32_768)
def read_markup(markup: str) -> MarkedSentence:
    """Return the sentence that a markup says; its first letter is made a capital, "a" an "an" where it must be.

    Raises:
        ValueError: a phrase has no head or two, a `^` or `<` no anatomy beside it, or a `~` outside of phrases no phrase.
    """
    markup = _ARTICLE.sub(r"\1n", " ".join(markup.split()))
    pieces: list[str] = []
    words: list[MarkedWord] = []
    heads: list[int] = []
    waiting: list[int] = []  # `^` words before their `@`
    length, phrase, phrases, at = 0, None, 0, 0
    for token in _TOKEN.finditer(markup):
        literal = markup[at : token.start()]
        pieces.append(literal)
        length += len(literal)
        at = token.end()
        if token["brace"]:
            if token["brace"] == "{":
                phrase, phrases = phrases, phrases + 1
            else:
                if len(heads) != phrases:
                    raise ValueError(f"A phrase needs one head: {markup}")
                phrase = None
            continue
        text = (token["size"] or token["word"]).replace("_", " ")
        role = "modifier" if token["size"] else _ROLES[token["mark"]]
        target = None
        if token["mark"] == "^":
            waiting.append(len(words))
        elif token["mark"] == "<":
            target = next((index for index in reversed(range(len(words))) if words[index].role == "place"), None)
            if target is None:
                raise ValueError(f"No anatomy stands before {text}: {markup}")
        elif role == "place":
            for index in waiting:
                words[index] = _aimed(words[index], len(words))
            waiting = []
        elif role == "head":
            heads.append(len(words))
        words.append(
            MarkedWord(role, length, length + len(text), phrase, token["concept"], bool(token["size"]), target)
        )
        pieces.append(text)
        length += len(text)
    pieces.append(markup[at:])
    if waiting:
        raise ValueError(f"No anatomy stands after a word that narrows one: {markup}")
    for index, word in enumerate(words):
        if word.role == "modifier" and word.phrase is not None:
            words[index] = _aimed(word, heads[word.phrase])
    text = "".join(pieces)
    return MarkedSentence(text[:1].upper() + text[1:], tuple(words), tuple(heads))


def _aimed(word: MarkedWord, target: int) -> MarkedWord:
    return MarkedWord(word.role, word.start, word.end, word.phrase, word.concept, word.measurement, target)
