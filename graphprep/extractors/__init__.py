"""Extractors: what turns documents into mentions. Registered by name here, and found by the entry point group `graphprep.extractors`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from graphprep.errors import UserError
from graphprep.records import Document, Mention
from graphprep.vocabulary import Vocabulary


class Extractor(Protocol):
    """Finds the mentions of documents; `describe` gives what must be in the manifest to repeat it."""

    def __call__(self, documents: Sequence[Document]) -> list[list[Mention]]: ...

    def describe(self) -> dict[str, object]: ...


ExtractorFactory = Callable[[Vocabulary, Vocabulary, "Path | None"], Extractor]


def _rules(anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None) -> Extractor:
    from graphprep.extractors.rules import RulesExtractor

    return RulesExtractor(anatomy, pathology, context_rules)


_REGISTERED: dict[str, ExtractorFactory] = {"rules": _rules}


def extractor_names() -> list[str]:
    """Return the names that `--extractor` accepts."""
    return sorted({*_REGISTERED, *(point.name for point in entry_points(group="graphprep.extractors"))})


def make_extractor(name: str, anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None) -> Extractor:
    """Return the extractor of a name.

    Raises:
        UserError: nothing is registered under the name.
    """
    factory = _REGISTERED.get(name)
    if factory is None:
        for point in entry_points(group="graphprep.extractors"):
            if point.name == name:
                factory = point.load()
    if factory is None:
        raise UserError(f"There is no extractor named {name}; expected one of {', '.join(extractor_names())}.")
    return factory(anatomy, pathology, context_rules)
