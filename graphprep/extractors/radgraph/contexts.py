"""What ConText, with the rules that the rules extractor uses, says of observations that a model found."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from graphprep.extractors.context import Context, ContextReader
from graphprep.extractors.phrases import PhraseCutter
from graphprep.extractors.rules import hedge_breaks
from graphprep.extractors.statements import read_statements, word_classes
from graphprep.lexicon import Lexicon
from graphprep.vocabulary import Vocabulary
from graphprep.words import TOKEN

_SENTENCES_REMEMBERED = 32_768

Spans = tuple[tuple[int, int], ...]


class ContextFinder:
    """Gives the context of spans of a sentence; a pure function of both."""

    def __init__(self, anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None) -> None:
        self._cut = PhraseCutter(Lexicon(anatomy, pathology))
        self._classes = word_classes(anatomy, pathology)
        self._context = ContextReader(context_rules)
        self._find = lru_cache(_SENTENCES_REMEMBERED)(self._contexts)

    def __call__(self, sentence: str, spans: Spans) -> list[Context]:
        """The context of each span, given in characters of the sentence."""
        tokens = [match.span() for match in TOKEN.finditer(sentence)]
        covered = []
        for start, end in spans:
            inside = [number for number, (first, last) in enumerate(tokens) if first < end and start < last]
            covered.append((inside[0], inside[-1] + 1))
        # ConText knows no two observations of the same tokens.
        distinct = tuple(sorted(set(covered)))
        contexts = self._find(tuple(sentence[start:end] for start, end in tokens), distinct)
        found = dict(zip(distinct, contexts, strict=True))
        return [found[span] for span in covered]

    def _contexts(self, tokens: tuple[str, ...], spans: Spans) -> list[Context]:
        phrases, tail = self._cut(tokens)
        statements = read_statements(tokens, phrases, tail, self._classes)
        breaks = hedge_breaks([joint for phrase in phrases for joint in phrase.joints] + tail)
        states = {word.start for word in statements.words if word.is_state}
        return self._context(tokens, spans, statements.clause_starts, breaks, states)
