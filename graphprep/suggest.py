"""What reports say and no concept covers: where a vocabulary could grow first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from graphprep.errors import UserError
from graphprep.graphs import GraphFolder, open_graphs
from graphprep.words import PLACEHOLDER, STOP_WORDS, stem

_MOST_TEXTS = 1_000_000
"""Distinct texts that are counted at a time; beyond them, those seen once are forgotten."""

_COLUMNS = {
    "reports": ["text", "sections"],
    "mentions": ["label", "text", "start", "end", "concept", "measurement", "relations"],
}

_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|\S")


@dataclass(frozen=True)
class Suggestion:
    """Words that no concept covers, and how often they are said.

    `label`: `anatomy` or `observation` for mentions without a concept; `unknown` for words that are in no mention, because
    neither a vocabulary nor a rule knows them.
    """

    count: int
    label: str
    text: str


def suggest(folder: str | Path | GraphFolder, top: int | None = 50) -> list[Suggestion]:
    """What no concept covers, in lower case, most frequent first; None for all of it.

    Of mentions, measurements and bare sides ("on the right") are left out, and words that modify another mention: those say
    how something is, not what.
    Unknown words are looked for in the sections that mentions were taken from; neighbours are taken together.

    Raises:
        UserError: the folder is none of ours, or was written without text.
    """
    graphs = folder if isinstance(folder, GraphFolder) else open_graphs(folder)
    if not graphs.manifest["text"]:
        raise UserError(f"{graphs.path} was written with --no-text: there are no words in it that could be ranked.")
    known, sides, sections = _known_stems(graphs), _sides(), set(graphs.manifest["sections"])
    counts: Counter[tuple[str, str]] = Counter()
    for rows in graphs.row_groups(_COLUMNS):
        counts.update(found for found in _unlinked(rows["mentions"]) if found[1] not in sides)
        counts.update(("unknown", words) for words in _unknown(rows["reports"], rows["mentions"], sections, known))
        if len(counts) > _MOST_TEXTS:
            counts = Counter({words: count for words, count in counts.items() if count > 1})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Suggestion(count, label, text) for (label, text), count in ranked[:top]]


def _unlinked(mentions: pa.RecordBatch) -> Iterator[tuple[str, str]]:
    """Label and words of the mentions of a row group that no concept covers."""
    relations = mentions.column("relations")
    modifies = pc.equal(pc.struct_field(relations.flatten(), "type"), "modify")
    wanted = np.ones(mentions.num_rows, dtype=bool)
    wanted[pc.list_parent_indices(relations).filter(modifies).to_numpy()] = False
    unlinked = pc.and_not(pc.is_null(mentions.column("concept")), mentions.column("measurement"))
    rows = mentions.filter(pc.and_(unlinked, pa.array(wanted)))
    for label, text in zip(rows.column("label").to_pylist(), rows.column("text").to_pylist(), strict=True):
        yield label, " ".join(text.lower().split())


def _unknown(reports: pa.RecordBatch, mentions: pa.RecordBatch, wanted: set[str], known: set[str]) -> Iterator[str]:
    """The unknown words of the reports of a row group, neighbours together."""
    spans = list(zip(mentions.column("start").to_pylist(), mentions.column("end").to_pylist(), strict=True))
    texts, sections, n_mentions = (reports.column(name).to_pylist() for name in ("text", "sections", "n_mentions"))
    first = 0
    for text, found, n in zip(texts, sections, n_mentions, strict=True):
        mentioned = bytearray(len(text))
        for start, end in spans[first : first + n]:
            mentioned[start:end] = b"\1" * (end - start)
        first += n
        for section in found:
            if section["name"] in wanted or "all" in wanted:
                yield from _unknown_runs(text, section["start"], section["end"], mentioned, known)


def _unknown_runs(text: str, start: int, end: int, mentioned: bytearray, known: set[str]) -> Iterator[str]:
    run: list[str] = []
    for token in _TOKEN.finditer(text, start, end):
        word = token[0].lower()
        if not (mentioned[token.start()] or len(word) < 3 or PLACEHOLDER.search(word) or _stems(word) <= known):
            run.append(word)
        elif run:
            yield " ".join(run)
            run = []
    if run:
        yield " ".join(run)


def _sides() -> set[str]:
    """The words that say a side and no place."""
    rules = yaml.safe_load(files("graphprep.rules").joinpath("lexicon.yaml").read_text(encoding="utf-8"))
    return set(_strings(rules["sides"]))


def _known_stems(graphs: GraphFolder) -> set[str]:
    """The stems of all words of the folder's vocabularies and of our rules."""
    known = {stem(word) for word in STOP_WORDS}
    for kind in graphs.names:
        for row in graphs.vocabulary(kind).values():
            for phrase in (row["name"], *row["synonyms"]):
                known |= _stems(phrase)
    for name in ("context.yaml", "lexicon.yaml", "sections.yaml"):
        rules = yaml.safe_load(files("graphprep.rules").joinpath(name).read_text(encoding="utf-8"))
        for phrase in _strings(rules):
            known |= _stems(phrase)
    return known


def _stems(phrase: str) -> set[str]:
    return {stem(word) for word in re.findall(r"[^\W\d_]+", phrase.lower())}


def _strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, (dict, list)):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _strings(branch)
