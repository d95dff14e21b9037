"""The peer of the rules extractor: medSpaCy as it comes, with our synonyms in its matcher.

Its splitter (PyRuSH), its `TargetMatcher` and its ConText with the rules that it brings; nothing of ours but the synonyms.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from graphprep.records import Assertion
from graphprep.vocabulary import Vocabulary

Splitter = Literal["pyrush", "sentencizer"]


@dataclass(frozen=True)
class Found:
    """A concept that was found, and how it is said of."""

    concept: str
    assertion: Assertion


def stock_pipeline(pathology: Vocabulary, splitter: Splitter = "pyrush") -> Any:
    """medSpaCy's tokenizer, splitter, matcher and ConText as one spaCy `Language`."""
    import medspacy
    from loguru import logger
    from medspacy.ner import TargetRule

    logger.disable("PyRuSH")  # which logs every sentence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nlp = medspacy.load(enable=["medspacy_pyrush", "medspacy_target_matcher", "medspacy_context"])
        if splitter == "sentencizer":
            nlp.replace_pipe("medspacy_pyrush", "sentencizer")
    matcher = nlp.get_pipe("medspacy_target_matcher")
    matcher.add(
        [
            TargetRule(phrase, concept.id)
            for concept in pathology.concepts.values()
            for phrase in dict.fromkeys((concept.name.lower(), *concept.synonyms))
        ]
    )
    return nlp


def stock_findings(nlp: Any, texts: Iterable[str]) -> Iterator[list[Found]]:
    """What the pipeline finds in each text; what is history, hypothetical or of the family is left out."""
    for document in nlp.pipe(texts):
        found = []
        for entity in document.ents:
            said = entity._
            if said.is_historical or said.is_hypothetical or said.is_family:
                continue
            assertion: Assertion = "absent" if said.is_negated else "uncertain" if said.is_uncertain else "present"
            found.append(Found(entity.label_, assertion))
        yield found
