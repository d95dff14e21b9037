"""Extractors: what turns documents into mentions. Registered by name here, and found by the entry point group `graphprep.extractors`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class ModelSettings:
    """How an extractor runs a model. Where and how fast it runs is no part of its result, but for half precision on a GPU.

    folder       the model's folder
    device       auto (a GPU where there is one), cpu, cuda or cuda:N
    batch_tokens tokens of a batch, padding counted; by default as the device likes it
    assertion    what settles a mention's assertion: model, context or both
    processes    the processes that share this machine
    """

    folder: Path | None = None
    device: str = "auto"
    batch_tokens: int | None = None
    assertion: str = "both"
    processes: int = 1


ExtractorFactory = Callable[[Vocabulary, Vocabulary, "Path | None"], Extractor]


def _rules(anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None) -> Extractor:
    from graphprep.extractors.rules import RulesExtractor

    return RulesExtractor(anatomy, pathology, context_rules)


def _radgraph(
    model: ModelSettings, anatomy: Vocabulary, pathology: Vocabulary, context_rules: Path | None
) -> Extractor:
    from graphprep.extractors.radgraph.folder import describe_model

    describe_model(model.folder)  # a wrong folder is said before torch is imported
    try:
        from graphprep.extractors.radgraph.extractor import RadgraphExtractor
    except ModuleNotFoundError as error:
        raise UserError(
            f"The extractor radgraph needs the package {error.name}, which is not installed. Install the extra: "
            "pip install 'cascading-graph-alignment[radgraph]'."
        ) from None

    return RadgraphExtractor(model, anatomy, pathology, context_rules)


_REGISTERED: dict[str, ExtractorFactory] = {"rules": _rules}
_WITH_MODEL = "radgraph"


def extractor_names() -> list[str]:
    """Return the names that `--extractor` accepts."""
    return sorted({*_REGISTERED, _WITH_MODEL, *(point.name for point in entry_points(group="graphprep.extractors"))})


def make_extractor(
    name: str,
    anatomy: Vocabulary,
    pathology: Vocabulary,
    context_rules: Path | None,
    model: ModelSettings | None = None,
) -> Extractor:
    """Return the extractor of a name.

    Raises:
        UserError: nothing is registered under the name, or it needs a model and has none, or the other way round.
    """
    if name == _WITH_MODEL:
        return _radgraph(model or ModelSettings(), anatomy, pathology, context_rules)
    factory = _REGISTERED.get(name)
    if factory is None:
        for point in entry_points(group="graphprep.extractors"):
            if point.name == name:
                factory = point.load()
    if factory is None:
        raise UserError(f"There is no extractor named {name}; expected one of {', '.join(extractor_names())}.")
    if model is not None:
        raise UserError(
            f"The extractor {name} runs no model. Give --extractor {_WITH_MODEL}, or leave --model, --device, --batch-tokens and "
            "--assertion out."
        )
    return factory(anatomy, pathology, context_rules)


def default_workers(name: str, model: ModelSettings | None, processors: int) -> int:
    """Return how many worker processes an extractor likes on so many processors."""
    if name == _WITH_MODEL:
        from graphprep.extractors.radgraph.devices import default_workers as of_model

        return of_model((model or ModelSettings()).device, processors)
    return min(processors, 8)
