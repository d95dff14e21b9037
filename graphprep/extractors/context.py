"""Assertion and temporality of observations, by medSpaCy's ConText with radiology rules (`rules/context.yaml`).

ConText (Harkema et al. 2009) finds cue phrases and their scopes; here a scope is a clause. What several cues together mean
("no opacity to suggest pneumonia") is settled in `_settle`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from medspacy.context import ConText, ConTextModifier, ConTextRule
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.vocab import Vocab

from graphprep.errors import UserError
from graphprep.records import Assertion, Temporality
from graphprep.words import TOKEN, alternatives

CATEGORIES = (
    "NEGATED_EXISTENCE",
    "POSSIBLE_EXISTENCE",
    "RESOLVED",
    "HISTORICAL",
    "HYPOTHETICAL",
    "PSEUDO",
    "TERMINATE",
)

# Hedges that say how sure a sign's meaning is; under a negation the meaning is denied with the sign.
_MEANING_CUES = ("suggest", "concern", "suspicio", "worrisome", "indicat")


# Hedges that a whole list follows: "differential includes edema, infection, aspiration".
_LISTING_CUES = re.compile("differential|possibilities|etiologies|consideration|includes")
_THOUGHT = re.compile("suspected|suggested|questioned|raised|favou?red")
_APPEARING = frozenset(("appears to be", "appear to be", "seems to be", "seem to be", "seems"))
_JOINING = frozenset(("and", "with", ",", "or", "but"))
_NOT_NOUNS = frozenset("since on in from at by as after following compared when than and or but with without".split())
# How the rules write a question mark at the end of a sentence; one before a word says it of that word ("?pneumonia").
_QUESTION = "(?)"
_QUESTION_MARKS = ("?", "(?")


@dataclass(frozen=True, slots=True)
class Context:
    """What the cues around an observation make of it."""

    assertion: Assertion = "present"
    temporality: Temporality = "current"
    denied_after: bool = False  # absent by a cue that follows: "tip not seen"


class _Tokenizer:
    """RadGraph's tokens as a spaCy tokenizer, so that rule phrases and sentences are cut alike."""

    def __init__(self, vocab: Vocab) -> None:
        self.vocab = vocab

    def __call__(self, text: str) -> Doc:
        return Doc(self.vocab, words=TOKEN.findall(text) or [" "])


def load_rules(rules_file: Path | None = None) -> list[ConTextRule]:
    """Return our ConText rules, and a user's: YAML in the form of `rules/context.yaml`, or medSpaCy's own JSON.

    Raises:
        UserError: the file cannot be read, or an entry is not a rule.
    """
    ours = yaml.safe_load(files("graphprep.rules").joinpath("context.yaml").read_text(encoding="utf-8"))
    rules = _rules_of(ours, "context.yaml")
    if rules_file is not None:
        try:
            text = rules_file.read_text(encoding="utf-8")
            raw = json.loads(text) if rules_file.suffix == ".json" else yaml.safe_load(text)
        except (OSError, UnicodeDecodeError, ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"{rules_file}: the ConText rules cannot be read ({type(error).__name__}); expected YAML as in graphprep/rules/context.yaml."
            ) from error
        rules += _rules_of(raw, str(rules_file))
    return rules


def rules_hash(rules_file: Path | None = None) -> str:
    """Return the sha256 of everything that the rules are read from: the lexicon, our section and context rules, a user's."""
    digest = hashlib.sha256()
    for name in ("lexicon.yaml", "context.yaml", "sections.yaml"):
        digest.update(files("graphprep.rules").joinpath(name).read_bytes())
    if rules_file is not None:
        digest.update(rules_file.read_bytes())
    return digest.hexdigest()


def _rules_of(raw: Any, name: str) -> list[ConTextRule]:
    if isinstance(raw, dict) and isinstance(raw.get("context_rules"), list):
        rules = []
        for number, entry in enumerate(raw["context_rules"], 1):
            try:
                rules.append(ConTextRule.from_dict(entry))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{name}: entry {number} of `context_rules` is no medSpaCy ConTextRule: {error}"
                ) from error
        return rules
    if not isinstance(raw, dict) or not isinstance(raw.get("rules"), list):
        raise UserError(f"{name}: expected a mapping with a list `rules` (or medSpaCy's `context_rules`).")
    rules = []
    known: set[tuple[str, str, str]] = set()  # phrases that several alternatives give
    for number, entry in enumerate(raw["rules"], 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("phrases"), list):
            raise UserError(f"{name}: entry {number} of `rules` needs `category`, `direction` and a list `phrases`.")
        category, direction = str(entry.get("category", "")).upper(), str(entry.get("direction", "FORWARD")).upper()
        if category not in CATEGORIES:
            raise UserError(
                f"{name}: entry {number} of `rules` has the category {category or 'nothing'}; expected one of {', '.join(CATEGORIES)}."
            )
        for pattern in entry.get("patterns", ()):
            try:
                rules.append(ConTextRule(f"pattern {len(rules)}", category, pattern=pattern, direction=direction))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{name}: entry {number} of `rules` has a pattern that spaCy does not take: {error}"
                ) from error
        for phrase in entry["phrases"]:
            if not isinstance(phrase, str) or not phrase.strip():
                raise UserError(
                    f"{name}: entry {number} of `rules` has a phrase that is no text; put it in quotes (no is a truth value in YAML)."
                )
            for option in alternatives(phrase):
                literal = " ".join(TOKEN.findall(option))
                if (literal.lower(), category, direction) in known:
                    continue
                known.add((literal.lower(), category, direction))
                try:
                    rules.append(ConTextRule(literal, category, direction=direction))
                except ValueError as error:
                    raise UserError(f"{name}: entry {number} of `rules`: {error}") from error
    return rules


class ContextReader:
    """Applies ConText to the observations of a sentence."""

    def __init__(self, rules_file: Path | None = None) -> None:
        self._language = Language()
        self._language.tokenizer = _Tokenizer(self._language.vocab)
        self._context = ConText(
            self._language, rules=None, span_attrs=None, input_span_type="group", span_group_name="observations"
        )
        rules = load_rules(rules_file)
        self._context.add(rules)
        anchors = [_anchors(rule) for rule in rules if rule.category not in {"PSEUDO", "TERMINATE"}]
        # Words of which a sentence has one if it has a cue; None: a rule's pattern does not tell.
        self._anchors = None if any(not words for words in anchors) else frozenset[str]().union(*anchors)

    def _has_no_cue(self, tokens: Sequence[str]) -> bool:
        if self._anchors is None or tokens[-1].startswith(_QUESTION_MARKS):
            return False
        return self._anchors.isdisjoint([token.lower() for token in tokens])

    def __call__(
        self,
        tokens: Sequence[str],
        observations: Sequence[tuple[int, int]],
        clause_starts: Sequence[int],
        breaks: Sequence[int],
        states: Collection[int] = (),
    ) -> list[Context]:
        """Return the context of each observation (token spans), scopes ending where clauses begin.

        `states` are the first tokens of words that say what a structure is like: "appears to be normal" is no hedge.
        `breaks` are the tokens of commas, "with" and "and" outside an "or" list: a hedge does not reach beyond them.
        """
        if not observations or not tokens or self._has_no_cue(tokens):
            return [Context() for _ in observations]
        starts: list[bool | int | None] = [False] * len(tokens)
        starts[0] = True
        for at in clause_starts:
            starts[at] = True
        words = list(tokens)
        if words[-1].startswith(_QUESTION_MARKS):
            words[-1] = _QUESTION  # said of what stands before: "small pneumothorax?"
        doc = Doc(self._language.vocab, words=words, sent_starts=starts)
        spans = [Span(doc, start, end, label="OBSERVATION") for start, end in observations]
        doc.spans["observations"] = spans
        self._context(doc)
        cues: dict[tuple[int, int], list[ConTextModifier]] = {}
        for target, cue in doc._.context_graph.edges:
            if target.start in states and doc[slice(*cue.modifier_span)].text.lower() in _APPEARING:
                continue
            cues.setdefault((target.start, target.end), []).append(cue)
        return [_settle(doc, span, cues.get((span.start, span.end), []), breaks) for span in spans]


def _anchors(rule: ConTextRule) -> frozenset[str]:
    """Return words of which one stands wherever the rule matches: its longest one (empty: the pattern does not tell)."""
    if rule.pattern is None:
        return frozenset((max(TOKEN.findall(rule.literal.lower()), key=len),))
    if not isinstance(rule.pattern, list):
        return frozenset()
    options = [_words_of(token) for token in rule.pattern if isinstance(token, dict) and "OP" not in token]
    return max((words for words in options if words), key=lambda words: min(map(len, words)), default=frozenset())


def _words_of(token: dict[str, Any]) -> frozenset[str]:
    lower = token.get("LOWER")
    if isinstance(lower, dict):
        lower = lower.get("IN")
    return frozenset((lower,)) if isinstance(lower, str) else frozenset(lower or ())


def _of_another(doc: Doc, cue: ConTextModifier, span: Span) -> bool:
    """Whether what has resolved is another thing: "resolution of the edema with effusions", "effusions with resolved edema"."""
    start, end = cue.modifier_span
    if start >= span.end:
        before, after = doc[start - 1].lower_, doc[end].lower_ if end < len(doc) else "."
        adjective = before in _JOINING and after.isalpha() and after not in _NOT_NOUNS  # "and resolved left effusion"
        return adjective or any(token.lower_ == "with" for token in doc[max(start - 2, span.end) : start])
    return end <= span.start and any(token.lower_ == "with" for token in doc[end : span.start])


def _settle(doc: Doc, span: Span, cues: Sequence[ConTextModifier], breaks: Sequence[int]) -> Context:
    """Say what several cues around one observation mean together."""
    if not cues:
        return Context()
    categories = {cue.category for cue in cues}
    temporality: Temporality = "current"
    if "HYPOTHETICAL" in categories:
        temporality = "hypothetical"
    elif "HISTORICAL" in categories:
        temporality = "historical"

    if temporality == "historical" and any(
        history.modifier_span[0] < denial.modifier_span[0] < span.start
        for history in cues
        if history.category == "HISTORICAL"
        for denial in cues
        if denial.category == "NEGATED_EXISTENCE"
    ):
        temporality = "current"  # "history of heart failure, no edema today"

    def stops(cue: ConTextModifier) -> bool:
        start, end = cue.modifier_span
        low, high = (end, span.start) if start < span.start else (span.end, start)
        lists = _LISTING_CUES.search(doc[start:end].text.lower())
        return lists is None and any(low <= at < high for at in breaks)

    negated = [cue for cue in cues if cue.category == "NEGATED_EXISTENCE"]
    hedges = [cue for cue in cues if cue.category == "POSSIBLE_EXISTENCE" and not stops(cue)]
    resolved = [cue for cue in cues if cue.category == "RESOLVED" and not _of_another(doc, cue, span)]
    # "suggesting resolved pneumonia": what is between the hedge and the finding counts
    if resolved and all(hedge.modifier_span[0] < resolved[-1].modifier_span[0] < span.start for hedge in hedges):
        return Context("absent", temporality)
    if not hedges:
        after = bool(negated) and all(cue.modifier_span[0] >= span.end for cue in negated)
        return Context("absent" if negated else "present", temporality, denied_after=after)
    if not negated:
        return Context("uncertain", temporality)
    after_it = [cue for cue in hedges if cue.direction == "BACKWARD"]
    if after_it:
        # "no fracture is suspected" denies it
        thought = all(_THOUGHT.search(doc[slice(*cue.modifier_span)].text.lower()) for cue in after_it)
        denied = any(cue.direction == "FORWARD" and cue.modifier_span[0] < span.start for cue in negated)
        return Context("absent" if thought and denied else "uncertain", temporality)
    hedge = max(hedges, key=lambda cue: cue.modifier_span[0])
    denial = max(negated, key=lambda cue: cue.modifier_span[0])
    words = doc[hedge.modifier_span[0] : hedge.modifier_span[1]].text.lower()
    between = range(denial.modifier_span[1], hedge.modifier_span[0])
    new_statement = any(at in between for at in breaks) or any(doc[at].lower_ in {"and", ","} for at in between)
    if (
        hedge.modifier_span[0] > denial.modifier_span[1] - 1
        and new_statement
        and not any(cue in words for cue in _MEANING_CUES)
    ):
        return Context("uncertain", temporality)
    return Context("absent", temporality)
