"""The lexicon: what part each word of a report may play in a statement.

`rules/lexicon.yaml` lists sides, parts of organs, states, modifiers and fillers; the words of the vocabularies' synonyms
are anatomy or observations by where they come from. A word may play several parts ("calcified" is a state of the aorta
and a modifier of a granuloma): the phrase it stands in decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Generic, TypeVar

import yaml

from graphprep.records import Side
from graphprep.vocabulary import Vocabulary
from graphprep.words import PLACEHOLDER, STOP_WORDS, alternatives, stem, tokenize

Value = TypeVar("Value")

_CACHE_SIZE = 4096
_WORD_CACHE_SIZE = 65_536
# Of shorter words too many are one letter away from another word.
_LENGTH_FOR_SWAP = 5
_LENGTH_FOR_LETTER = 7
_VOWELS = frozenset("aeiou")

# What is said of these has no side.
_MIDLINE = frozenset(("heart", "mediastinum", "spine", "trachea", "esophagus", "pericardium", "sternum"))


def midline(anatomy: Vocabulary) -> frozenset[str]:
    """Return the structures in the midline, of which there is one."""
    return frozenset(
        place.id
        for place in anatomy.concepts.values()
        if not place.sided
        and not _MIDLINE.isdisjoint((place.id, *anatomy.ancestors(place.id), *anatomy.wholes(place.id)))
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """The parts a word or phrase may play.

    `anatomy` is 0 when it is no anatomy, 1 for a part or shape word (base, size, upper), 2 for an organ or place;
    `side` the side that it says; `modifier` its (kind, canonical word); `state` whether it can be said of a structure;
    `observation` whether a vocabulary has it as (part of) a finding; `filler` whether it can be passed over.
    """

    anatomy: int = 0
    side: Side | None = None
    modifier: tuple[str, str] | None = None
    state: bool = False
    observation: bool = False
    filler: bool = False


class _Phrases(Generic[Value]):
    """Phrases by their first word and length, so that the longest one at a place is found by a few look-ups."""

    def __init__(self) -> None:
        self._tables: dict[str, list[tuple[int, dict[tuple[str, ...], Value]]]] = {}

    def add(self, phrase: tuple[str, ...], value: Value) -> None:
        tables = self._tables.setdefault(phrase[0], [])
        table = next((table for length, table in tables if length == len(phrase)), None)
        if table is None:
            table = {}
            tables.append((len(phrase), table))
            tables.sort(key=lambda entry: -entry[0])
        table.setdefault(phrase, value)

    def longest(self, tokens: Sequence[str], at: int) -> tuple[int, Value] | None:
        for length, table in self._tables.get(tokens[at], ()):
            value = table.get(tuple(tokens[at : at + length]))
            if value is not None:
                return length, value
        return None

    def get(self, phrase: tuple[str, ...]) -> Value | None:
        return next(
            (table.get(phrase) for length, table in self._tables.get(phrase[0], ()) if length == len(phrase)), None
        )

    def items(self) -> Iterator[tuple[tuple[str, ...], Value]]:
        return (item for tables in self._tables.values() for _, table in tables for item in table.items())


class Lexicon:
    """Finds the lexicon's phrases in a sentence, longest first."""

    def __init__(self, anatomy: Vocabulary, pathology: Vocabulary) -> None:
        raw = yaml.safe_load(files("graphprep.rules").joinpath("lexicon.yaml").read_text(encoding="utf-8"))
        self._phrases: _Phrases[Entry] = _Phrases()
        self._stems: dict[str, Entry] = {}
        self._connectors: _Phrases[str] = _Phrases()
        self._convexities: dict[str, Side] = {
            word: side for side, words in raw["convexities"].items() for word in words
        }
        self._abbreviations: dict[str, str] = {
            short: word for word, forms in raw["abbreviations"].items() for short in forms
        }
        self._exact = lru_cache(maxsize=_CACHE_SIZE)(self._look_up)
        self._add_listed(raw)
        self._add_vocabularies(anatomy, pathology)
        self._known = self._count_words((anatomy, pathology))
        self._near: dict[str, list[str]] = {}
        for word in sorted(self._known):
            if len(word) >= _LENGTH_FOR_SWAP and word.isalpha():
                for near in _one_letter_less(word) | {word}:
                    self._near.setdefault(near, []).append(word)
        self.spelled = lru_cache(maxsize=_WORD_CACHE_SIZE)(self._spelled)

    def _add_listed(self, raw: dict[str, Any]) -> None:
        parts: dict[tuple[str, ...], dict[str, Any]] = {}

        def note(phrase: str, **what: Any) -> None:
            for option in alternatives(str(phrase).lower()):
                parts.setdefault(tuple(tokenize(option)), {}).update(what)

        for side, phrases in raw["sides"].items():
            for phrase in phrases:
                note(phrase, side=side, anatomy=1)
        for phrase in raw["anatomy_parts"]:
            note(phrase, anatomy=1)
        for phrase in raw["place_phrases"]:
            note(phrase, anatomy=2)
        for phrase in raw["observation_words"]:
            note(phrase, observation=True)
        for phrase in raw["states"]:
            note(phrase, state=True)
        for kind, words in raw["modifiers"].items():
            for canonical, phrases in words.items():
                for phrase in phrases:
                    note(phrase, modifier=(kind, str(canonical)))
        for phrase in raw["fillers"]:
            note(phrase, filler=True)
        for tokens, what in parts.items():
            self._phrases.add(tokens, Entry(**what))
        for kind, phrases in (*raw["connectors"].items(), ("technique", raw["technique"])):
            for phrase in phrases:
                for option in alternatives(str(phrase).lower()):
                    self._connectors.add(tuple(tokenize(option)), kind)

    def _add_vocabularies(self, anatomy: Vocabulary, pathology: Vocabulary) -> None:
        listed = {tokens[0]: entry for tokens, entry in self._phrases.items() if len(tokens) == 1}

        def words(phrases: Iterable[str]) -> set[str]:
            return {
                stem(word)
                for phrase in phrases
                for word in tokenize(phrase)
                if word not in STOP_WORDS and word[0].isalpha() and not PLACEHOLDER.fullmatch(word)
            }

        for abbreviation in anatomy.abbreviations:
            self._phrases.add((abbreviation,), Entry(anatomy=2))
        places = words(synonym for concept in anatomy.concepts.values() for synonym in concept.synonyms)
        for word in places:
            known = listed.get(word)
            if known is None or not (known.anatomy or known.modifier or known.filler or known.state):
                self._stems[word] = Entry(anatomy=2)
        findings = words(
            phrase
            for concept in pathology.concepts.values()
            for phrase in (
                *concept.synonyms,
                *(word for composition in concept.compositions for word in composition.words),
            )
        )
        for word in findings:
            if word not in self._stems and word not in listed:
                self._stems[word] = Entry(observation=True)

    def _count_words(self, vocabularies: Iterable[Vocabulary]) -> Counter[str]:
        """Return the words that need no correction, with how many phrases and synonyms have them."""
        listed = (token for phrase, _ in (*self._phrases.items(), *self._connectors.items()) for token in phrase)
        named = (
            stem(token)
            for vocabulary in vocabularies
            for concept in vocabulary.concepts.values()
            for synonym in concept.synonyms
            for token in tokenize(synonym.lower())
        )
        return Counter((*self._stems, *listed, *named))

    def _spelled(self, word: str) -> str:
        """Return the word that an abbreviation or a mistyped word is meant for, or the word itself.

        One letter is missing, too many or swapped with its neighbour ("atelectsis", "claer"), not the first; the last only
        of a long word.
        Another letter in its place is no error to mend ("contiguous" is not "continuous"), but for a vowel of a long word
        ("consolodation").
        """
        lower = word.lower()
        if lower in self._abbreviations:
            return self._abbreviations[lower]
        wrong = stem(lower)
        if lower in self._known or wrong in self._known or len(wrong) < _LENGTH_FOR_SWAP or not wrong.isalpha():
            return word
        meant = {
            known
            for near in _one_letter_less(wrong) | {wrong}
            for known in self._near.get(near, ())
            if known[0] == wrong[0] and (known[-1] == wrong[-1] or _cut_short(known, wrong)) and _mistyped(known, wrong)
        }
        return max(meant, key=lambda known: (self._known[known], known), default=word)

    def match(self, tokens: Sequence[str], at: int) -> tuple[int, Entry | None]:
        """Return how many tokens the longest phrase at this place covers, and its entry (None: an unknown word).

        `tokens` are lower case.
        """
        return self._phrases.longest(tokens, at) or (1, self._stems.get(stem(tokens[at])))

    def connector(self, tokens: Sequence[str], at: int) -> tuple[str | None, int]:
        """Return the kind of the longest connector at this place (None: there is none) and how many tokens it covers."""
        found = self._connectors.longest(tokens, at)
        return (None, 1) if found is None else (found[1], found[0])

    def side(self, text: str) -> Side | None:
        """Return the side that a word or phrase says."""
        entry = self._exact(text)
        return entry.side if entry is not None else None

    def is_state(self, text: str) -> bool:
        """Return whether a word says what a structure is like."""
        entry = self._exact(text)
        return entry is not None and entry.state

    def convexity(self, text: str) -> Side | None:
        """Return the side that a word for a curve says: dextroscoliosis is to the right."""
        return self._convexities.get(text.lower())

    def attribute(self, text: str) -> tuple[str, str] | None:
        """Return the kind and the canonical word of a modifier, or None."""
        entry = self._exact(text)
        return entry.modifier if entry is not None and entry.modifier and entry.modifier[0] != "other" else None

    def _look_up(self, text: str) -> Entry | None:
        tokens = tuple(self.spelled(token) for token in tokenize(text.lower()))
        return self._phrases.get(tokens) if tokens else None


def _one_letter_less(word: str) -> set[str]:
    return {word[:at] + word[at + 1 :] for at in range(1, len(word))}


def _cut_short(known: str, wrong: str) -> bool:
    """Whether the last letter of a long word is missing ("infiltrat")."""
    return len(wrong) > _LENGTH_FOR_LETTER and known[:-1] == wrong


def _mistyped(known: str, wrong: str) -> bool:
    """Whether one letter of the known word is missing, doubled or added, two neighbours are swapped, or a vowel is another."""
    if len(known) != len(wrong):
        longer, shorter = (known, wrong) if len(known) > len(wrong) else (wrong, known)
        return len(shorter) >= _LENGTH_FOR_LETTER and shorter in _one_letter_less(longer)
    differing = [at for at, (one, other) in enumerate(zip(known, wrong, strict=True)) if one != other]
    if len(differing) == 1 and len(known) > _LENGTH_FOR_LETTER:
        return {known[differing[0]], wrong[differing[0]]} <= _VOWELS
    if len(differing) != 2 or differing[1] != differing[0] + 1:
        return False
    first, second = differing
    return known[first] == wrong[second] and known[second] == wrong[first]
