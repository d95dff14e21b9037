"""RadGraph's JSON → a graphs folder: the mentions as they are, linked and assembled as those of every other extractor.

Without the reports, the texts are those of the JSON: tokens with blanks between them. With the reports, the tokens are found
in their texts, so that offsets, sections, images and splits are those of the reports.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from graphprep.errors import ReportError
from graphprep.extract import ExtractSummary, extract
from graphprep.graphs import open_graphs
from graphprep.pipeline import ALL_SECTIONS, Pipeline, PipelineSettings
from graphprep.radgraph_json import Annotation, align, read_annotations
from graphprep.read import ReadOptions, read_reports
from graphprep.records import Document, Mention, Relation, Report, Sentence


@dataclass(frozen=True)
class ImportSummary:
    """What `import_radgraph` did; `unused` are the annotations whose id no report has."""

    extract: ExtractSummary
    unused: int


class ImportPipeline(Pipeline):
    """The pipeline with mentions that are looked up; `ids` are the reports that the annotations belong to, in their order."""

    def __init__(self, settings: PipelineSettings, path: Path, ids: Sequence[str] | None = None) -> None:
        super().__init__(settings)
        self._extractor = AnnotatedMentions(path, ids)

    def describe(self) -> dict[str, object]:
        return {"name": "radgraph-json", "settings": self._extractor.describe()}


class AnnotatedMentions:
    """The extractor that looks mentions up in RadGraph's JSON."""

    def __init__(self, path: Path, ids: Sequence[str] | None = None) -> None:
        found = read_annotations(path)
        self._annotations = found if ids is None else dict(zip(ids, found.values(), strict=True))
        self._sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def describe(self) -> dict[str, object]:
        return {"sha256": self._sha256}

    def __call__(self, documents: Sequence[Document]) -> list[list[Mention]]:
        return [self._mentions(document) for document in documents]

    def _mentions(self, document: Document) -> list[Mention]:
        annotation = self._annotations.get(document.report.report_id)
        if annotation is None:
            raise ReportError("not_annotated", "The JSON holds no report of this id.")
        spans = align(annotation.tokens, document.report.text)
        if spans is None:
            raise ReportError("other_text", "The tokens of the JSON are not those of the report, in its order.")
        entities = [(spans[entity.start_ix][0], spans[entity.end_ix][1], entity) for entity in annotation.entities]
        _cover(document, [(start, end) for start, end, _ in entities])
        order = sorted(range(len(entities)), key=lambda number: entities[number][:2])
        place = {number: position for position, number in enumerate(order)}
        starts = [sentence.start for sentence in document.sentences]
        mentions = []
        for number in order:
            start, end, entity = entities[number]
            targets = [(kind, target) for kind, target in entity.relations if target != number]
            mentions.append(
                Mention(
                    mention_id=place[number],
                    label=entity.label,
                    assertion=entity.assertion,
                    text=document.report.text[start:end],
                    start=start,
                    end=end,
                    section=next((s.name for s in document.sections if s.start <= start and end <= s.end), None),
                    sentence=bisect_right(starts, start) - 1,
                    measurement=entity.measurement,
                    temporality=entity.temporality,
                    relations=[Relation(kind, place[target]) for kind, target in targets],
                )
            )
        return mentions


def _cover(document: Document, spans: Sequence[tuple[int, int]]) -> None:
    """Make every span lie in a sentence: sentences that one joins become one, and one outside of all is its own."""
    pieces = sorted(
        [(sentence.start, sentence.end, sentence.section) for sentence in document.sentences]
        + [(start, end, -1) for start, end in spans]
    )
    sentences: list[Sentence] = []
    for start, end, section in pieces:
        last = sentences[-1] if sentences else None
        if last is None or start >= last.end:
            sentences.append(Sentence(start, end, section))
        else:
            last.end, last.section = max(last.end, end), max(last.section, section)
    document.sentences, document.extract = sentences, [True] * len(sentences)


def import_radgraph(
    path: str | Path,
    output: str | Path,
    *,
    reports: Sequence[str | Path] = (),
    read: ReadOptions | None = None,
    settings: PipelineSettings | None = None,
    images: str | Path | None = None,
    text: bool = True,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    command: Sequence[str] = (),
) -> ImportSummary:
    """Write the graphs of annotated reports into the folder `output`, as `graphprep.extract.extract` does.

    `reports` are the tables that hold the texts; the keys of the JSON are their ids, or, where they are the numbers that the
    package gives, the places of as many reports. A report that is not annotated, or whose text is another, is a reject.
    `settings` give vocabularies and section rules. Raises UserError where the JSON is not RadGraph's, and as `extract` does.
    """
    path = Path(path)
    annotations = read_annotations(path)
    settings = replace(settings or PipelineSettings(), sections=(ALL_SECTIONS,))
    with TemporaryDirectory(prefix="graphprep-") as folder:
        inputs: Sequence[str | Path] = reports or [_texts(annotations, Path(folder), path.stem)]
        ids = _counted_ids(annotations, reports, read) if reports else None
        done = extract(
            inputs,
            output,
            read=read if reports else None,
            settings=settings,
            images=images,
            text=text,
            workers=workers,
            overwrite=overwrite,
            progress=progress,
            pipeline=partial(ImportPipeline, settings, path, ids),
            command=command,
        )
    unused = set(annotations if ids is None else ids)
    for batch in open_graphs(output).tables("reports", ["report_id"]):
        unused.difference_update(batch.column(0).to_pylist())
    return ImportSummary(done, len(unused))


def _texts(annotations: Mapping[str, Annotation], folder: Path, name: str) -> Path:
    """The texts of the JSON as a table of reports."""
    path = folder / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for key, annotation in annotations.items():
            file.write(json.dumps({"report_id": key, "text": " ".join(annotation.tokens)}) + "\n")
    return path


def _counted_ids(
    annotations: Mapping[str, Annotation], reports: Sequence[str | Path], read: ReadOptions | None
) -> list[str] | None:
    """The ids of the reports, where the JSON numbers as many and does not call them by their ids."""
    if list(annotations) != [str(number) for number in range(len(annotations))]:
        return None
    ids = [item.report_id for item in read_reports(reports, read) if isinstance(item, Report)]
    return ids if len(ids) == len(annotations) and set(ids) != set(annotations) else None
