"""Documents to mentions by a model.

The model sees every wanted section of a report as a text of its own, as its authors use it (they annotated findings and
impressions): a relation cannot join statements of two sections, and an impression that many reports share is read once.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from graphprep.errors import UserError
from graphprep.extractors import ModelSettings
from graphprep.extractors.context import rules_hash
from graphprep.extractors.radgraph.contexts import ContextFinder
from graphprep.extractors.radgraph.devices import choose_device, share_processors
from graphprep.extractors.radgraph.folder import open_model
from graphprep.extractors.radgraph.inference import BATCH_TOKENS, Annotation, Annotator
from graphprep.extractors.radgraph.labels import RELATIONS, read_meanings
from graphprep.extractors.radgraph.network import HALF, Network
from graphprep.extractors.radgraph.tokens import Tokens, tokenize
from graphprep.records import Document, Mention, Relation, Sentence
from graphprep.vocabulary import Vocabulary

SPLIT_WORDS = 1_000
"""Longer texts are cut at sentences: the memory of the package's loop grows with the square of the length, 10 GB at 800 words
and some 16 at 1,000, so that the published model is not used beyond."""

ASSERTIONS = ("model", "context", "both")


class RadgraphExtractor:
    """Mentions of documents by a model of the radgraph package.

    What is kept of assertions: `assertion_model` is what the model says; `assertion_context` what ConText says of an
    observation, unless `settings.assertion` is `model`. Which of them is the mention's `assertion`:

        model      the model's; every mention is current, since the model has no label for history
        context    ConText's for observations, and its temporality
        both       the model's, with ConText's temporality

    Raises:
        UserError: the model's folder is not complete, a label is none that is known, or there is no such device.
    """

    def __init__(
        self, settings: ModelSettings, anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None
    ) -> None:
        if settings.assertion not in ASSERTIONS:
            raise UserError(f"There is no --assertion {settings.assertion}. Expected one of {', '.join(ASSERTIONS)}.")
        self._settings = settings
        self._folder = open_model(settings.folder)
        self._meanings = read_meanings(self._folder)
        self._device = choose_device(settings.device)
        self._half = self._device.type == "cuda"
        self._context_rules = context_rules
        self._contexts = None
        if settings.assertion != "model":
            self._contexts = ContextFinder(anatomy, pathology, context_rules)

    def describe(self) -> dict[str, object]:
        """Return what decides the mentions: model, hashes of its files, versions, precision and what is done beside it."""
        encoder = self._folder.encoder_config()["model_type"]
        described: dict[str, object] = {
            "model": self._folder.name,
            "encoder": self._folder.encoder,
            "files": {name: entry["sha256"] for name, entry in self._folder.files.items()},
            "versions": {name: version(name) for name in ("radgraph", "torch", "transformers")},
            "precision": str(HALF[encoder]).removeprefix("torch.") if self._half else "float32",
            "split_words": SPLIT_WORDS,
            "assertion": self._settings.assertion,
        }
        if self._half:  # in float32 it changes nothing
            described["batch_tokens"] = self._settings.batch_tokens or BATCH_TOKENS["cuda"]
        if self._contexts is not None:
            described["rules"] = rules_hash(self._context_rules)
        return described

    def __call__(self, documents: Sequence[Document]) -> list[list[Mention]]:
        texts = [list(self._texts(document)) for document in documents]
        annotations = iter(self._annotator([tokens.words for found in texts for tokens in found]))
        return [
            self._mentions(document, [(tokens, next(annotations)) for tokens in found])
            for document, found in zip(documents, texts, strict=True)
        ]

    @cached_property
    def _annotator(self) -> Annotator:
        """Built when it is first needed: a finished folder needs no network."""
        if self._settings.processes > 1:
            share_processors(self._settings.processes)
        return Annotator(Network(self._folder, self._device, self._half), self._settings.batch_tokens)

    # Documents → texts

    def _texts(self, document: Document) -> Iterator[Tokens]:
        """The texts that the model sees of a document, with places in the report: its wanted sections, long ones in pieces."""
        wanted = [s for s, extract in zip(document.sentences, document.extract, strict=True) if extract]
        for _, group in groupby(wanted, key=lambda sentence: sentence.section):
            sentences = list(group)
            start, end = sentences[0].start, sentences[-1].end
            found = tokenize(document.report.text[start:end], self._folder.name)
            tokens = Tokens(found.words, tuple((start + first, start + last) for first, last in found.spans))
            pieces = split(tokens, [sentence.start for sentence in sentences])
            if len(pieces) > 1:
                self._say_split(document, len(tokens.words), len(pieces))
            yield from pieces

    def _say_split(self, document: Document, words: int, pieces: int) -> None:
        report = document.report
        print(
            f"{report.source}, row {report.source_row}: a section of {words:,} words was cut at sentences and read in {pieces} "
            f"pieces, because the published model is not used on more than {SPLIT_WORDS:,}.",
            file=sys.stderr,
        )

    # Annotations → mentions

    def _mentions(self, document: Document, annotated: Sequence[tuple[Tokens, Annotation]]) -> list[Mention]:
        text = document.report.text
        found: list[tuple[int, int, str]] = []
        related: list[tuple[int, int, str]] = []
        for tokens, annotation in annotated:
            before = len(found)
            for first, last, label in annotation.entities:
                found.append((tokens.spans[first][0], tokens.spans[last][1], label))
            related += [(before + one, before + other, label) for one, other, label in annotation.relations]
        order = sorted(range(len(found)), key=lambda number: found[number][:2])
        place = {number: position for position, number in enumerate(order)}
        cover(document, [found[number][:2] for number in order])
        starts = [sentence.start for sentence in document.sentences]
        mentions = []
        for number in order:
            start, end, label = found[number]
            meaning = self._meanings[label]
            sentence = bisect_right(starts, start) - 1
            section = document.sentences[sentence].section
            mentions.append(
                Mention(
                    mention_id=place[number],
                    label=meaning.label,
                    assertion=meaning.assertion,
                    text=text[start:end],
                    start=start,
                    end=end,
                    section=document.sections[section].name if section >= 0 else None,
                    sentence=sentence,
                    measurement=meaning.measurement,
                    assertion_model=meaning.assertion,
                )
            )
        for one, other, label in related:
            if one != other:
                mentions[place[one]].relations.append(Relation(RELATIONS[label], place[other]))
        self._add_contexts(document, mentions)
        return mentions

    def _add_contexts(self, document: Document, mentions: Sequence[Mention]) -> None:
        if self._contexts is None:
            return
        observations = [mention for mention in mentions if mention.label == "observation"]
        for number, group in groupby(observations, key=lambda mention: mention.sentence):
            sentence, said = document.sentences[number], list(group)
            spans = tuple((mention.start - sentence.start, mention.end - sentence.start) for mention in said)
            contexts = self._contexts(document.report.text[sentence.start : sentence.end], spans)
            for mention, context in zip(said, contexts, strict=True):
                mention.assertion_context = context.assertion
                mention.temporality = context.temporality
                if self._settings.assertion == "context":
                    mention.assertion = context.assertion


def split(tokens: Tokens, sentence_starts: Sequence[int], longest: int = SPLIT_WORDS) -> list[Tokens]:
    """Cut a text into pieces of at most `longest` words: after as many sentences as fit, within one only where it is longer."""
    size = len(tokens.words)
    ends = [end for _, end in tokens.spans]
    starts = sorted({bisect_right(ends, start) for start in sentence_starts} | {size})
    pieces: list[Tokens] = []
    at = 0
    while at < size or not pieces:
        within = [start for start in starts if at < start <= at + longest]
        to = within[-1] if within else at + longest
        pieces.append(Tokens(tokens.words[at:to], tokens.spans[at:to]))
        at = to
    return pieces


def cover(document: Document, spans: Sequence[tuple[int, int]]) -> None:
    """Make each of the spans, which are sorted, lie in one sentence: those that a span joins become one sentence."""
    sentences: list[Sentence] = []
    extract: list[bool] = []
    waiting = list(reversed(spans))
    for sentence, wanted in zip(document.sentences, document.extract, strict=True):
        if sentences and sentence.start < sentences[-1].end:
            sentences[-1].end = max(sentences[-1].end, sentence.end)
        else:
            sentences.append(Sentence(sentence.start, sentence.end, sentence.section))
            extract.append(wanted)
        while waiting and waiting[-1][0] < sentences[-1].end:
            start, end = waiting.pop()
            sentences[-1].start = min(sentences[-1].start, start)
            sentences[-1].end = max(sentences[-1].end, end)
    document.sentences, document.extract = sentences, extract
