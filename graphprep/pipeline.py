"""Reports to graphs: sections and sentences, mentions, links, assembly. One object does it for a process."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graphprep.assemble import Assembler
from graphprep.errors import UserError
from graphprep.extractors import ModelSettings, make_extractor
from graphprep.lexicon import Lexicon
from graphprep.link import Linker
from graphprep.records import Document, Report, ReportGraph, Sentence, Span
from graphprep.sections import SectionFinder
from graphprep.sentences import split_sentences
from graphprep.vocabulary import load_vocabularies

ALL_SECTIONS = "all"


@dataclass(frozen=True)
class PipelineSettings:
    """What decides the graphs of a report. `sections` are those that mentions are wanted of, ("all",) for every one."""

    extractor: str = "rules"
    sections: tuple[str, ...] = ("findings", "impression")
    section_rules: Path | None = None
    context_rules: Path | None = None
    anatomy_vocab: Path | None = None
    pathology_vocab: Path | None = None
    model: ModelSettings | None = None


class Pipeline:
    """Turns reports into graphs.

    Raises:
        UserError: a vocabulary or rules file is not what it should be, or the extractor's name is unknown.
    """

    def __init__(self, settings: PipelineSettings | None = None) -> None:
        self.settings = settings or PipelineSettings()
        self.anatomy, self.pathology = load_vocabularies(self.settings.anatomy_vocab, self.settings.pathology_vocab)
        if not self.settings.sections:
            raise UserError("No section to extract was named; expected names such as findings,impression, or all.")
        self._sections = SectionFinder(self.settings.section_rules)
        self._wanted = {self._sections.canonical_name(name) for name in self.settings.sections}
        self._extractor = make_extractor(
            self.settings.extractor,
            self.anatomy,
            self.pathology,
            self.settings.context_rules,
            self.settings.model,
        )
        lexicon = Lexicon(self.anatomy, self.pathology)
        self._linker = Linker(self.anatomy, self.pathology, lexicon)
        self._assembler = Assembler(self.anatomy, self.pathology, lexicon)

    def describe(self) -> dict[str, object]:
        """Return the extractor's name and settings, for the manifest."""
        return {"name": self.settings.extractor, "settings": self._extractor.describe()}

    def run(self, reports: Sequence[Report]) -> list[ReportGraph]:
        """Return the graph of each report, in order."""
        with _collection_paused():
            documents = [self.prepare(report) for report in reports]
            graphs = []
            for document, mentions in zip(documents, self._extractor(documents), strict=True):
                linked = self._linker(document, mentions)
                nodes, edges = self._assembler(mentions, linked)
                sentences = [Span(sentence.start, sentence.end) for sentence in document.sentences]
                graphs.append(ReportGraph(document.report, document.sections, sentences, mentions, nodes, edges))
            return graphs

    def prepare(self, report: Report) -> Document:
        """Cut a report into sections and sentences."""
        sections = self._sections(report.text, report.sections)
        sentences = [
            Sentence(start, end, number)
            for number, section in enumerate(sections)
            for start, end in split_sentences(report.text, section.start, section.end)
        ]
        everything = ALL_SECTIONS in self._wanted
        extract = [everything or sections[sentence.section].name in self._wanted for sentence in sentences]
        return Document(report, sections, sentences, extract)


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Records are many and in no cycles: looking for cycles among them takes a third of the time and finds none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
