"""What reports say and no concept covers: where a vocabulary could grow first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from graphprep.errors import UserError
from graphprep.graphs import GraphFolder, open_graphs

_MOST_TEXTS = 1_000_000
"""Distinct texts that are counted at a time; beyond them, those seen once are forgotten."""


@dataclass(frozen=True)
class Suggestion:
    """Words that name a place or a finding to the extractor, and how many mentions of them no concept covers."""

    count: int
    label: str
    text: str


def suggest(folder: str | Path | GraphFolder, top: int | None = 50) -> list[Suggestion]:
    """The words of mentions without a concept, in lower case, most frequent first; None for all of them.

    Left out are measurements, and words that modify another mention: those say how something is, not what.

    Raises:
        UserError: the folder is none of ours, or was written without text.
    """
    graphs = folder if isinstance(folder, GraphFolder) else open_graphs(folder)
    if not graphs.manifest["text"]:
        raise UserError(
            f"{graphs.path} was written with --no-text: the words of its mentions are not there to be ranked."
        )
    counts: Counter[tuple[str, str]] = Counter()
    for mentions in graphs.tables("mentions", ["label", "text", "concept", "measurement", "relations"]):
        counts.update(_unlinked(mentions))
        if len(counts) > _MOST_TEXTS:
            counts = Counter({words: count for words, count in counts.items() if count > 1})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Suggestion(count, label, text) for (label, text), count in ranked[:top]]


def _unlinked(mentions: pa.RecordBatch) -> list[tuple[str, str]]:
    """Label and words of the mentions of a row group that no concept covers."""
    relations = mentions.column("relations")
    modifies = pc.equal(pc.struct_field(relations.flatten(), "type"), "modify")
    wanted = np.ones(mentions.num_rows, dtype=bool)
    wanted[pc.list_parent_indices(relations).filter(modifies).to_numpy()] = False
    open_ = pc.and_not(pc.is_null(mentions.column("concept")), mentions.column("measurement"))
    rows = mentions.filter(pc.and_(open_, pa.array(wanted)))
    words = (" ".join(text.lower().split()) for text in rows.column("text").to_pylist())
    return list(zip(rows.column("label").to_pylist(), words, strict=True))
