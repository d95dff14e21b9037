"""The graphs that phantom reports say: `truth/graphs/`, in the tables of the data contract.

They are made from the statements that the report was written from, by the rules that hold for every graph (`graphprep.assemble`), and
not by reading the text; so they can be compared with what an extractor reads. Text and offsets are those of `graphprep extract` on
the phantom's reports.csv.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from graphprep.assemble import Assembler
from graphprep.lexicon import Lexicon
from graphprep.link import Finding, LinkedSentence, Place, measured
from graphprep.phantom.report import ReportText, Sentence
from graphprep.phantom.scene import Study
from graphprep.records import (
    Attribute,
    Edge,
    Image,
    Label,
    Mention,
    Node,
    Relation,
    Report,
    ReportGraph,
    Section,
    Side,
    Span,
)
from graphprep.vocabulary import Vocabulary, load_vocabularies
from graphprep.write import FileEntry, ShardWriter, part_file, tables_of, write_manifest, write_vocabulary
from schemas import SCHEMA_VERSION, TABLES

GRAPHS = Path("truth", "graphs")
"""Where the graphs are in the phantom's folder."""
REPORTS = "reports.csv"
"""The table of reports that the phantom has, and that the graphs name as their input."""
_GROUP_REPORTS = 1_000
_HEADINGS = (("findings", "FINDINGS:\n"), ("impression", "IMPRESSION:\n"))


class GraphMaker:
    """Makes the graph of a report from its statements."""

    def __init__(self) -> None:
        self.anatomy, self.pathology = load_vocabularies(None, None)
        self._lexicon = Lexicon(self.anatomy, self.pathology)
        self._assemble = Assembler(self.anatomy, self.pathology, self._lexicon)

    def __call__(self, study: Study, text: ReportText, images: Sequence[tuple[str, str]], row: int) -> ReportGraph:
        """Return the graph of a study's report.

        Args:
            images: path, relative to the phantom's folder, and view of each.
            row: number of the report's row in the table of reports, from 1.

        Raises:
            ValueError: the report has no text.
        """
        body, sections = _joined(text)
        report = Report(
            study.report_id,
            body,
            REPORTS,
            row,
            sections,
            study.subject_id,
            study.study_id,
            study.split,
            [Image(path, view) for path, view in images],
        )
        begins = {section.name: section.start for section in sections}
        mentions: list[Mention] = []
        spans: list[Span] = []
        linked: list[tuple[list[Mention], LinkedSentence]] = []
        antecedent: tuple[Mention, Finding] | None = None
        for sentence in text.sentences:
            start = begins[sentence.section] + sentence.start
            spans.append(Span(start, start + len(sentence.marked.text)))
            group = _mentions(sentence, start, len(spans) - 1, len(mentions))
            mentions += group
            findings = self._findings(sentence, group)
            if group:
                if antecedent is not None:
                    _say_back(sentence, group, antecedent[0])
                linked.append((group, self._linked(sentence, group, findings)))
            if findings:
                antecedent = (group[findings[0].mentions[0]], findings[0])
        nodes, edges = self._graph(mentions, linked)
        return ReportGraph(report, sections, spans, mentions, nodes, edges)

    def _graph(
        self, mentions: list[Mention], linked: list[tuple[list[Mention], LinkedSentence]]
    ) -> tuple[list[Node], list[Edge]]:
        return self._assemble(mentions, linked)

    def _linked(self, sentence: Sentence, group: list[Mention], findings: list[Finding]) -> LinkedSentence:
        marked = sentence.marked
        of_findings = [place for finding in findings for place in finding.places]
        named = {place.mentions[0] for place in of_findings}
        alone = [
            place
            for index, word in enumerate(marked.words)
            if word.role == "place" and index not in named and (place := self._place(sentence, group, index)).concept
        ]
        places = tuple(dict.fromkeys((*alone, *of_findings)))
        for place in places:
            group[place.mentions[0]].concept = place.concept
        current: list[Finding] = []
        for phrase, head in zip(sentence.phrases, marked.heads, strict=True):
            group[head].concept = phrase.concepts[0]
            if phrase.temporality == "current":
                current += [finding for finding in findings if finding.mentions[0] == head]
        pairs = tuple((marked.heads[sign], marked.heads[meaning]) for sign, meaning in sentence.suggestions)
        return LinkedSentence(tuple(mention.concept for mention in group), places, tuple(current), pairs)

    def _findings(self, sentence: Sentence, group: list[Mention]) -> list[Finding]:
        """What the phrases of a sentence say; a meaning is where its sign is, unless it is of the heart or another unpaired place."""
        said: list[list[Finding]] = []
        for number, (phrase, head) in enumerate(zip(sentence.phrases, sentence.marked.heads, strict=True)):
            near = [
                index
                for index, word in enumerate(sentence.marked.words)
                if word.phrase in (number, None) and word.role == "place"
            ]
            places = [self._place(sentence, group, index) for index in near]
            device = self.pathology.concepts[phrase.concepts[0]].category == "device"
            named = tuple(
                place if device else self._with_side(place, phrase.side)
                for place in places
                if place.concept is not None
            )
            modifiers = [
                index
                for index, word in enumerate(sentence.marked.words)
                if word.role == "modifier" and (word.target == head or (word.phrase is None and not sentence.back))
            ]
            attributes = tuple(sorted({found for index in modifiers if (found := self._attribute(group[index]))}))
            sides = [index for place in places if place.concept is None for index in place.mentions]
            mentions = tuple(dict.fromkeys((head, *modifiers, *sides)))
            if len(phrase.concepts) > 1:
                said.append(
                    [
                        Finding(concept, None, phrase.assertion, (place,), attributes, (*mentions, *place.mentions))
                        for concept, place in zip(phrase.concepts, named, strict=True)
                    ]
                )
            else:
                said.append([Finding(phrase.concepts[0], phrase.side, phrase.assertion, named, attributes, mentions)])
        for sign, meaning in sentence.suggestions:
            said[meaning] = [self._placed(finding, said[sign][0]) for finding in said[meaning]]
        return [finding for phrase in said for finding in phrase]

    def _placed(self, finding: Finding, sign: Finding) -> Finding:
        site = self.pathology.concepts[finding.concept].site
        if site is not None and not self.anatomy.concepts[site].sided:
            return finding  # heart failure is not in the lung that its edema is in
        places = tuple(dict.fromkeys((*finding.places, *sign.places)))
        return replace(finding, side=sign.side, places=places)

    def _place(self, sentence: Sentence, group: list[Mention], at: int) -> Place:
        """The place that an anatomy and the words that narrow it name."""
        words = sentence.marked.words
        own = (at, *(index for index, word in enumerate(words) if word.role == "part" and word.target == at))
        return Place(words[at].concept, self._side(words[at].concept, [group[index].text for index in own]), own)

    def _with_side(self, place: Place, side: Side | None) -> Place:
        """A place named without side has that of the finding ("hilar fullness on the left")."""
        if side is None or place.side is not None or not self.anatomy.concepts[place.concept or ""].sided:
            return place
        return replace(place, side=side)

    def _side(self, concept: str | None, texts: Sequence[str]) -> Side | None:
        if concept is not None and not self.anatomy.concepts[concept].sided:
            return None
        sides = {side for text in texts if (side := self._lexicon.side(text) or self._abbreviated(text)) is not None}
        return sides.pop() if len(sides) == 1 else None

    def _abbreviated(self, text: str) -> Side | None:
        abbreviation = self.anatomy.abbreviations.get(text.lower())
        return None if abbreviation is None else abbreviation.side

    def _attribute(self, mention: Mention) -> Attribute | None:
        if mention.measurement:
            return Attribute("measurement", measured(mention.text))
        found = self._lexicon.attribute(mention.text)
        return None if found is None else Attribute(*found)


def _joined(text: ReportText) -> tuple[str, list[Section]]:
    """The sections under their headings, as the reader joins columns of text."""
    body, sections = "", []
    for (name, heading), part in zip(_HEADINGS, (text.findings, text.impression), strict=True):
        if part:
            body += f"\n\n{heading}" if body else heading
            sections.append(Section(name, len(body), len(body) + len(part)))
            body += part
    if not sections:
        raise ValueError("The report has no text.")
    return body, sections


def _mentions(sentence: Sentence, start: int, number: int, first: int) -> list[Mention]:
    """The mentions of a sentence that begins at `start`, with the relations inside it; `first` is the id of the first."""
    marked = sentence.marked
    mentions = []
    for index, word in enumerate(marked.words):
        label: Label = "anatomy" if word.role in ("place", "part") else "observation"
        phrase = sentence.phrases[word.phrase] if word.phrase is not None else None
        observed = phrase is not None and label == "observation"
        relations: list[Relation] = []
        if word.target is not None:
            relations.append(Relation("modify", first + word.target))
        elif word.role == "modifier" and not sentence.back:
            relations += [Relation("modify", first + head) for head in marked.heads]
        elif word.role == "head":
            relations += [
                Relation("located_at", first + at)
                for at, place in enumerate(marked.words)
                if place.role == "place" and place.phrase in (word.phrase, None)
            ]
            relations += [
                Relation("suggestive_of", first + marked.heads[meaning])
                for sign, meaning in sentence.suggestions
                if sign == word.phrase
            ]
        mentions.append(
            Mention(
                first + index,
                label,
                phrase.assertion if phrase is not None and observed else "present",
                marked.text[word.start : word.end],
                start + word.start,
                start + word.end,
                sentence.section,
                number,
                word.measurement,
                phrase.temporality if phrase is not None and observed else "current",
                relations,
            )
        )
    return mentions


def _say_back(sentence: Sentence, group: list[Mention], antecedent: Mention) -> None:
    """Relate what is said of the finding before to it."""
    if sentence.back:
        for word, mention in zip(sentence.marked.words, group, strict=True):
            if word.role == "modifier" and word.phrase is None:
                mention.relations.append(Relation("modify", antecedent.mention_id))
    if sentence.suggested_by_last:
        antecedent.relations.append(Relation("suggestive_of", group[sentence.marked.heads[0]].mention_id))


class TruthWriter:
    """Writes the graphs of a phantom's reports to `truth/graphs/` in its folder; a context manager.

    Reports are added in the order of the table of reports. The manifest is written when all is done; after an exception
    there is none, and what is unfinished goes.

    Args:
        folder: the phantom's folder, which image paths are relative to.
        shard_size: reports per shard.
    """

    def __init__(self, folder: str | Path, *, shard_size: int = 10_000) -> None:
        if shard_size < 1:
            raise ValueError(f"shard_size must be at least 1; it is {shard_size}.")
        self._root = Path(folder)
        self._folder = self._root / GRAPHS
        self._shard_size = shard_size
        self._make = GraphMaker()
        self._graphs: list[ReportGraph] = []
        self._added = 0
        self._writer: ShardWriter | None = None
        self._shards: list[dict[str, FileEntry]] = []
        self._counts: dict[str, Counter[str]] = {"anatomy": Counter(), "pathology": Counter()}

    def add(self, study: Study, text: ReportText, images: Sequence[tuple[str, str]]) -> None:
        """Write the graph of the next report; `images` are path, relative to the phantom's folder, and view of each."""
        if self._added and self._added % self._shard_size == 0:
            self._end_shard()
        self._added += 1
        self._graphs.append(self._make(study, text, images, self._added))
        if len(self._graphs) == _GROUP_REPORTS:
            self._write_group()

    def __enter__(self) -> TruthWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "manifest.json").unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            if self._writer is not None:
                self._writer.discard()
            return
        if self._added == 0:
            self._write_group()
        self._end_shard()
        self._remove_older_parts()
        self._finish()

    def _write_group(self) -> None:
        if self._writer is None:
            self._writer = ShardWriter(self._folder, len(self._shards))
        self._writer.write(tables_of(self._graphs, [], text=True))
        for graph in self._graphs:
            for node in graph.nodes:
                self._counts[node.kind][node.concept] += 1
        self._graphs = []

    def _end_shard(self) -> None:
        if self._graphs:
            self._write_group()
        if self._writer is not None:
            self._shards.append(self._writer.close())
            self._writer = None

    def _remove_older_parts(self) -> None:
        """Remove what a longer run left."""
        for table in TABLES:
            kept = {self._folder / part_file(table, part) for part in range(len(self._shards))}
            for file in (self._folder / table).glob("part-*.parquet"):
                if file not in kept:
                    file.unlink()

    def _finish(self) -> None:
        vocabularies: tuple[Vocabulary, ...] = (self._make.anatomy, self._make.pathology)
        source: dict[str, Any] = {
            "files": [_input_file(self._root / REPORTS)],
            "columns": {
                "findings": "findings",
                "impression": "impression",
                "images": "images",
                "report_id": "report_id",
            },
            "options": {},
        }
        fingerprint = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
        write_manifest(
            self._folder,
            {
                "schema_version": SCHEMA_VERSION,
                "extractor": {"name": "phantom", "settings": {}},
                "sections": [name for name, _ in _HEADINGS],
                "section_rules": None,
                "text": True,
                "vocabulary": {
                    each.kind: {"sha256": each.sha256, "concepts": len(each.concepts)} for each in vocabularies
                },
                "shard_size": self._shard_size,
                "input": source | {"fingerprint": fingerprint},
                "image_root": Path(*[".."] * len(GRAPHS.parts)).as_posix(),
                "shards": [{"part": part, "tables": tables} for part, tables in enumerate(self._shards)],
                "vocabulary_files": {
                    each.kind: write_vocabulary(self._folder, each, self._counts[each.kind]) for each in vocabularies
                },
                "totals": {table: sum(shard[table]["rows"] for shard in self._shards) for table in TABLES},
                "rejected": {},
            },
        )


def _input_file(path: Path) -> dict[str, Any]:
    """Name, size and hash of the table of reports; unknown where it is not there yet."""
    if not path.exists():
        return {"name": path.name, "bytes": None, "sha256": None}
    content = path.read_bytes()
    return {"name": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
