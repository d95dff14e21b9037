"""RadGraph's JSON: the mentions of reports as the `radgraph` package gives them.

    {"0": {"text": "no effusion", "entities": {"1": {"tokens": "effusion", "label": "Observation::definitely absent",
     "start_ix": 1, "end_ix": 1, "relations": [["located_at", "2"]]}}}}

Keys are report ids (or numbers in the order given). `text` is the report as tokens with blanks between them; `start_ix` and
`end_ix` count tokens, both inclusive. What the format has no place for: sections, the nodes and edges, concepts, and the
temporality of a mention, which we write as a further key `temporality` where it is not current and read again. A further key
`unmarked` is on mentions that the rules extractor needs and RadGraph's annotators leave unmarked ("persistent").
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from graphprep.errors import UserError
from graphprep.records import Assertion, Label, RelationType, ReportGraph, Temporality
from graphprep.words import TOKEN

_ASSERTIONS: dict[str, Assertion] = {
    "definitely present": "present",
    "uncertain": "uncertain",
    "definitely absent": "absent",
}
_ASSERTION_NAMES = {assertion: name for name, assertion in _ASSERTIONS.items()}
_LABELS: dict[str, Label] = {"Anatomy": "anatomy", "Observation": "observation"}

#: The labels of the first RadGraph release.
_OLD_LABELS = {
    "ANAT-DP": "Anatomy::definitely present",
    "ANAT-U": "Anatomy::uncertain",
    "ANAT-DA": "Anatomy::definitely absent",
    "OBS-DP": "Observation::definitely present",
    "OBS-U": "Observation::uncertain",
    "OBS-DA": "Observation::definitely absent",
}


#: Words that RadGraph's annotators leave unmarked (radgraph-conventions: counts of the published model, marked in three of ten
#: or fewer). The rules extractor marks them, since a graph's attributes and assertions are made of mentions.
UNMARKED = frozenset(
    "persistent persisting persists persist continued ongoing known underlying recent recently previous prior removed removal "
    "cleared resolution appropriate appropriately expected status superimposed advanced both level".split()
)


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention: tokens `start_ix` to `end_ix`, both inclusive; relations are (type, index of the entity they go to).

    `unmarked` says that RadGraph's annotators leave such words unmarked: it is there for what graphs are made of, and no part
    of a comparison with RadGraph.
    """

    start_ix: int
    end_ix: int
    label: Label
    assertion: Assertion
    measurement: bool = False
    temporality: Temporality = "current"
    relations: tuple[tuple[RelationType, int], ...] = ()
    unmarked: bool = False

    @property
    def label_name(self) -> str:
        """`Observation::measurement::definitely present`, as the newer models write it."""
        parts = [self.label.capitalize(), *(["measurement"] if self.measurement else [])]
        return "::".join([*parts, _ASSERTION_NAMES[self.assertion]])


@dataclass(frozen=True, slots=True)
class Annotation:
    """A report as RadGraph has it."""

    tokens: list[str]
    entities: list[Entity] = field(default_factory=list)

    def words(self, entity: Entity) -> str:
        return " ".join(self.tokens[entity.start_ix : entity.end_ix + 1])


# Tokens and offsets

#: What the package blanks out or replaces before it looks for tokens, each by as many characters.
_ESCAPES = {"\\n": "  ", "\\f": "  ", "\\u2122": "      ", "\n": " ", '\\"': "``"}
#: Where it cuts runs of punctuation, in this order.
_CUTS = (").", "%.", ".'", "%,", "%)")

#: So many places are looked at for one where no token has a blank in it.
_PLACES_TRIED = 20


def token_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of every token in a text, as the package's models since RadGraph-XL cut it."""
    text = _unescaped(text)
    spans = []
    for start, end in _runs(text):
        for piece in _pieces(text[start:end]):
            spans.append((start, start + len(piece)))
            start += len(piece)
    return spans


def tokens_of(text: str) -> list[str]:
    """The tokens of a text, as the package's models since RadGraph-XL cut it."""
    plain = _unescaped(text)
    return [plain[start:end] for start, end in token_spans(text)]


def align(tokens: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Where in a text the tokens stand, in their order; None where they do not.

    Case and blanks do not count. The text may say more: before and after, and, where both are cut into tokens alike, in
    between (headings, sections that were not annotated).
    """
    plain = _unescaped(text)
    places = [place for place, character in enumerate(plain) if not character.isspace()]
    there, wanted = _lower("".join(plain[place] for place in places)), _lower("".join(tokens))
    first: list[tuple[int, int]] | None = None
    found = there.find(wanted)
    for _ in range(_PLACES_TRIED):
        if found < 0:
            break
        spans = []
        at = found
        for token in tokens:
            spans.append((places[at], places[at + len(token) - 1] + 1))
            at += len(token)
        if all(end - start == len(token) for (start, end), token in zip(spans, tokens, strict=True)):
            return spans
        first = first or spans  # a token with a blank in it: rather where there is none
        found = there.find(wanted, found + 1)
    return first or _align_parts(tokens, text)


def _align_parts(tokens: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Where every token stands, if the text holds them all in their order; the longest common stretches go first."""
    wanted, there = ([_lower(token) for token in side] for side in (tokens, tokens_of(text)))
    blocks = SequenceMatcher(None, wanted, there, autojunk=False).get_matching_blocks()
    if sum(block.size for block in blocks) < len(tokens):
        return None
    spans = token_spans(text)
    return [span for block in blocks for span in spans[block.b : block.b + block.size]]


def _unescaped(text: str) -> str:
    """The text as the package sees it; every character keeps its place."""
    for old, new in _ESCAPES.items():
        text = text.replace(old, new)
    return text


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Runs of word characters and of others between blanks, as NLTK's `wordpunct_tokenize` has them.

    Its newer versions use the package `regex`, to which ² is no word character and a combining accent is one.
    """
    if text.isascii():
        yield from (match.span() for match in TOKEN.finditer(text))
        return
    for kind, run in groupby(enumerate(text), lambda item: None if item[1].isspace() else _in_word(item[1])):
        if kind is not None:
            places = [place for place, _ in run]
            yield places[0], places[-1] + 1


def _in_word(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Nl", "Pc")


def _pieces(token: str) -> list[str]:
    if len(token) == 1 or _in_word(token[0]):
        return [token]
    for cut in _CUTS:
        token = token.replace(cut, f"{cut[0]} {cut[1]}")
    return token.split(" ")


def _lower(text: str) -> str:
    """Lower case, character by character: none becomes two."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


# Graph → annotation


def annotation_of(
    graph: ReportGraph, tokens: Sequence[str] | None = None, unmarked: frozenset[str] = frozenset()
) -> Annotation | None:
    """The mentions of a graph in RadGraph's form; a mention that ends inside a token takes the whole token.

    Tokens are those of the text. If others are given, mentions are counted in them, those that they do not reach are left
    out, and the answer is None if the text does not hold them (see `align`). Mentions that end in an `unmarked` word are told
    apart. Raises ValueError for mentions without a text.
    """
    text = graph.report.text
    if graph.mentions and not text:
        raise ValueError("the graph holds no text")
    spans = token_spans(text) if tokens is None else align(tokens, text)
    if spans is None:
        return None
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    covered = [(bisect_right(ends, mention.start), bisect_left(starts, mention.end) - 1) for mention in graph.mentions]
    place: dict[int, int] = {}
    for number, (first, last) in enumerate(covered):
        if first <= last:
            place[number] = len(place)
    entities = [
        Entity(
            *covered[number],
            mention.label,
            mention.assertion,
            mention.measurement,
            mention.temporality,
            tuple(
                (relation.type, place[relation.target]) for relation in mention.relations if relation.target in place
            ),
            not unmarked.isdisjoint(mention.text.lower().split()[-1:]),
        )
        for number, mention in enumerate(graph.mentions)
        if number in place
    ]
    return Annotation(tokens_of(text) if tokens is None else list(tokens), entities)


def marked_only(annotation: Annotation) -> Annotation:
    """An annotation without the entities that are told apart as unmarked, and without the relations that they have."""
    place: dict[int, int] = {}
    for number, entity in enumerate(annotation.entities):
        if not entity.unmarked:
            place[number] = len(place)
    entities = [
        replace(
            annotation.entities[number],
            relations=tuple(
                (kind, place[target]) for kind, target in annotation.entities[number].relations if target in place
            ),
        )
        for number in place
    ]
    return Annotation(annotation.tokens, entities)


def unmarked_by(manifest: Mapping[str, Any]) -> frozenset[str]:
    """The words that the graphs of a manifest mark and RadGraph does not: none, where a model marked them."""
    return UNMARKED if manifest.get("extractor", {}).get("name") == "rules" else frozenset()


# Annotation ↔ JSON


def to_json(annotation: Annotation) -> dict[str, Any]:
    """What the package writes of one report."""
    return {
        "text": " ".join(annotation.tokens),
        "entities": {
            str(number): {
                "tokens": annotation.words(entity),
                "label": entity.label_name,
                "start_ix": entity.start_ix,
                "end_ix": entity.end_ix,
                "relations": [[kind, str(target + 1)] for kind, target in entity.relations],
                **({"temporality": entity.temporality} if entity.temporality != "current" else {}),
                **({"unmarked": True} if entity.unmarked else {}),
            }
            for number, entity in enumerate(annotation.entities, 1)
        },
        "data_source": None,
        "data_split": "inference",
    }


def read_annotations(path: str | Path) -> dict[str, Annotation]:
    """The annotations in a file by their keys, in file order.

    Raises UserError if the file is missing, no JSON, or an entity is not what it should be; it names report and entity.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Give a file of RadGraph's JSON.") from None
    except ValueError:
        raise UserError(f"{path} is not valid JSON. Expected the output of the radgraph package.") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} holds no JSON object. Expected report ids with `text` and `entities` for each.")
    return {key: _annotation(report, f"{path}, report {key!r}") for key, report in document.items()}


def is_json(path: str | Path) -> bool:
    """Whether a path is meant as RadGraph's JSON rather than a graphs folder."""
    return Path(path).suffix.lower() == ".json" and not Path(path).is_dir()


def _annotation(report: Any, where: str) -> Annotation:
    text = report.get("text") if isinstance(report, dict) else None
    entities = report.get("entities") if isinstance(report, dict) else None
    if not isinstance(text, str) or not isinstance(entities, dict):
        raise UserError(f"{where}: expected an object with `text` and `entities`, as the radgraph package writes it.")
    tokens = text.split()
    numbers = {key: number for number, key in enumerate(entities)}
    return Annotation(tokens, [_entity(e, tokens, numbers, f"{where}, entity {k!r}") for k, e in entities.items()])


def _entity(entity: Any, tokens: Sequence[str], numbers: dict[str, int], where: str) -> Entity:
    def expect(holds: bool, what: str) -> None:
        if not holds:
            raise UserError(f"{where}: {what}.")

    expect(isinstance(entity, dict), "expected an object")
    start, end = entity.get("start_ix"), entity.get("end_ix")
    expect(
        type(start) is int and type(end) is int and 0 <= start <= end < len(tokens),
        f"start_ix and end_ix must be tokens of the text, 0 to {len(tokens) - 1}, the start first",
    )
    words = entity.get("tokens")
    expect(
        isinstance(words, str) and _lower("".join(words.split())) == _lower("".join(tokens[start : end + 1])),
        "`tokens` must be the tokens that start_ix and end_ix say",
    )
    label = entity.get("label")
    kind, *middle, assertion = _OLD_LABELS.get(str(label), str(label)).split("::")
    expect(
        kind in _LABELS and assertion in _ASSERTIONS and middle in ([], ["measurement"]),
        "the label must be such as Anatomy::definitely present or Observation::uncertain",
    )
    temporality = entity.get("temporality", "current")
    expect(temporality in get_args(Temporality), f"temporality must be one of {', '.join(get_args(Temporality))}")
    relations = entity.get("relations", [])
    expect(
        isinstance(relations, list)
        and all(isinstance(r, list) and len(r) == 2 and r[0] in get_args(RelationType) for r in relations)
        and all(str(r[1]) in numbers for r in relations),
        f"relations must be pairs of {', '.join(get_args(RelationType))} and the key of an entity of the report",
    )
    return Entity(
        start,
        end,
        _LABELS[kind],
        _ASSERTIONS[assertion],
        bool(middle),
        temporality,
        tuple((type_, numbers[str(target)]) for type_, target in relations),
        entity.get("unmarked") is True,
    )
