"""The vocabularies: the places (anatomy) and findings (pathology) that reports are linked to.

A vocabulary is a YAML file. At its top stand `version: 1`, `kind: anatomy` or `kind: pathology`, optionally
`extends: default`, and `concepts`, a list of mappings with the keys

- `id`: the concept's name in the graphs, in snake_case; never changed once published;
- `name`: what to show; left out, the id with spaces;
- `parent`: the concept of the same kind that this one is a kind of;
- `synonyms`: phrases that name the concept, matched as bags of words without regard to order and plurals;
- `labels`: what other label sets call it, as lists by name of the set;
- `mesh`, `radlex`: its id there, where known to be right;
- anatomy only: `part_of` (an anatomy) and `sided` (true: a left and a right one exist);
- pathology only: `category` (one of `CATEGORIES`), `site` (the anatomy where it is when nothing is said), `opposite` (findings
  that it excludes), and `when`: compositions `{words: [...], at: [...], with: [...]}`, read as "one of these words said of one of
  these anatomies, with all of those words beside it".

An anatomy file may also map `abbreviations` that name a place and its side in one word: `rul: {concept: upper_lobe, side: right}`.

A file without `extends` takes the place of ours. With it, the file adds to ours: a new id is a new concept; under an id of
ours, `synonyms` and `when` are added, `labels` are added by set, any other key replaces, and `replace: true` makes the whole
entry replace ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast, where PyYAML was built with libyaml
except ImportError:  # pragma: no cover
    from yaml import SafeLoader  # type: ignore[assignment]

from graphprep.errors import UserError
from graphprep.records import Kind, Side
from graphprep.words import content_stems

VERSION = 1
CATEGORIES = ("finding", "normality", "device", "postoperative", "generic")
SIDES: tuple[Side, ...] = ("left", "right", "bilateral")

_FOLDER = Path(__file__).with_name("vocabularies")
_TOP_KEYS = {"version", "kind", "extends", "abbreviations", "concepts"}
_COMMON_KEYS = {"id", "name", "parent", "synonyms", "labels", "mesh", "radlex", "replace"}
_KEYS = {
    "anatomy": _COMMON_KEYS | {"part_of", "sided"},
    "pathology": _COMMON_KEYS | {"category", "site", "opposite", "when"},
}
_ID = re.compile(r"[a-z][a-z0-9_]*")
_CROSS_REFERENCE = {"mesh": re.compile(r"[CD]\d{6,9}"), "radlex": re.compile(r"RID\d+")}
_MAX_DEPTH = 20  # ours need 6
_SIDE_WORDS = frozenset({"left", "right", "bilateral", "bilaterally", "both", "sided"})


@dataclass(frozen=True)
class Composition:
    """A finding said of a structure: one of `words` at one of the anatomies `at` (or below), with all of `with_` beside it."""

    words: tuple[str, ...]
    at: tuple[str, ...]
    with_: tuple[str, ...] = ()


@dataclass(frozen=True)
class Abbreviation:
    """A place and its side in one word, such as rul."""

    concept: str
    side: Side | None


@dataclass(frozen=True)
class Concept:
    """A place or a finding; fields as in the file (module docstring), `index` is its place in the vocabulary."""

    id: str
    name: str
    kind: Kind
    index: int
    parent: str | None = None
    part_of: str | None = None
    sided: bool = False
    category: str | None = None
    site: str | None = None
    opposites: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    compositions: tuple[Composition, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    mesh: str | None = None
    radlex: str | None = None


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The concepts of one kind, in file order.

    `sources` has the file that each concept and abbreviation comes from, `problems` what is wrong in the files themselves
    (see `check`); neither is part of the hash. Two vocabularies are equal when their hashes are.
    """

    kind: Kind
    concepts: Mapping[str, Concept]
    abbreviations: Mapping[str, Abbreviation] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Hash of what the vocabulary says, the order of its concepts and synonyms included."""
        content = {
            "kind": self.kind,
            "concepts": [asdict(concept) for concept in self.concepts.values()],
            "abbreviations": {word: asdict(meaning) for word, meaning in self.abbreviations.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _parents(self) -> dict[str, list[str]]:
        known = self.concepts
        return {
            concept.id: [concept.parent]
            for concept in known.values()
            if concept.parent is not None and concept.parent in known
        }

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for child, parents in self._parents.items():
            children.setdefault(parents[0], []).append(child)
        return children

    def ancestors(self, concept: str) -> tuple[str, ...]:
        """The parent of a concept, the parent's parent and so on, nearest first."""
        return tuple(_walk(concept, self._parents))

    def descendants(self, concept: str) -> tuple[str, ...]:
        """The concepts that are a kind of this one, itself left out, nearest first."""
        return tuple(_walk(concept, self._children))

    def is_a(self, concept: str, ancestor: str) -> bool:
        """Whether a concept is `ancestor` or a kind of it."""
        return concept == ancestor or ancestor in self.ancestors(concept)

    def wholes(self, concept: str) -> tuple[str, ...]:
        """The anatomies that this one is a part of, by its own `part_of` or that of an ancestor, and so on up, nearest first."""
        found: dict[str, None] = {}
        waiting = [concept]
        for current in waiting:
            for kind in (current, *self.ancestors(current)):
                whole = self.concepts[kind].part_of
                if whole is not None and whole in self.concepts and whole not in found:
                    found[whole] = None
                    waiting.append(whole)
        return tuple(found)


def load_vocabularies(
    anatomy: str | Path | None = None, pathology: str | Path | None = None
) -> tuple[Vocabulary, Vocabulary]:
    """Read an anatomy and a pathology vocabulary; None is the one that comes with the package.

    Raises UserError with the first problem that `check` finds.
    """
    vocabularies = read_vocabulary("anatomy", anatomy), read_vocabulary("pathology", pathology)
    problems = check(*vocabularies)
    if problems:
        more = f" ({len(problems) - 1} more: graphprep vocab check lists all.)" if len(problems) > 1 else ""
        raise UserError(problems[0] + more)
    return vocabularies


def read_vocabulary(kind: Kind, path: str | Path | None = None) -> Vocabulary:
    """Read one vocabulary without judging it: `check` does, and names what could not be understood.

    Raises UserError where there is no file, or no vocabulary of this kind in it.
    """
    given = [] if path is None else [_read(Path(path), str(path), kind)]
    if given and not given[0].extends:
        return _assemble(kind, given)
    return _assemble(kind, [_read(_FOLDER / f"{kind}.yaml", f"{kind}.yaml", kind), *given])


def check(anatomy: Vocabulary, pathology: Vocabulary) -> list[str]:
    """List what is wrong in two vocabularies, and between them, as sentences that name the file and the concept."""
    return [
        *anatomy.problems,
        *pathology.problems,
        *_check_references(anatomy, pathology),
        *_check_cycles(anatomy),
        *_check_cycles(pathology),
        *_check_synonyms(anatomy),
        *_check_synonyms(pathology),
        *_check_abbreviations(anatomy),
    ]


@dataclass(frozen=True)
class Difference:
    """What changed from one vocabulary to another: ids added and removed, and for the others a line per change."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(before: Vocabulary, after: Vocabulary) -> Difference:
    """Compare two vocabularies of a kind by concept, wherever in the file they stand."""
    changed = {}
    for concept in after.concepts:
        if concept in before.concepts:
            lines = tuple(_changes(_facts(before, concept), _facts(after, concept)))
            if lines:
                changed[concept] = lines
    return Difference(
        added=tuple(concept for concept in after.concepts if concept not in before.concepts),
        removed=tuple(concept for concept in before.concepts if concept not in after.concepts),
        changed=changed,
    )


def to_rows(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return the rows of the vocabulary's table (schemas/vocabulary.json), without `count`."""
    anatomy = vocabulary.kind == "anatomy"
    return [
        {
            "index": concept.index,
            "concept": concept.id,
            "name": concept.name,
            "parent": concept.parent,
            "part_of": concept.part_of,
            "sided": concept.sided if anatomy else None,
            "category": concept.category,
            "site": concept.site,
            "opposite": list(concept.opposites),
            "synonyms": list(concept.synonyms),
            "labels": [{"set": name, "name": label} for name, labels in concept.labels.items() for label in labels],
            "mesh": concept.mesh,
            "radlex": concept.radlex,
        }
        for concept in vocabulary.concepts.values()
    ]


# Reading a file


class _Loader(SafeLoader):
    """PyYAML's safe loader, made to refuse two equal keys (it takes the last in silence) and deep nesting (it crashes)."""

    depth = 0

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.YAMLError("nested too deeply to be a vocabulary")
        super().descend_resolver(current_node, current_index)

    def ascend_resolver(self) -> None:
        self.depth -= 1
        super().ascend_resolver()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice in one mapping", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


@dataclass(frozen=True)
class _File:
    """A vocabulary file as it was written, once its top is known to be right."""

    source: str
    extends: bool
    entries: list[Any]
    abbreviations: Any
    problems: list[str]


def _read(path: Path, source: str, kind: Kind) -> _File:
    try:
        with path.open("rb") as stream:
            # a loader derived from PyYAML's safe one: it makes plain data only
            content = yaml.load(stream, _Loader)
    except OSError as error:
        raise UserError(f"The vocabulary {source} cannot be read: {error.strerror or type(error).__name__}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The vocabulary {source} is not UTF-8 text; save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise UserError(f"The vocabulary {source} is not valid YAML{_where(error)}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("concepts"), list):
        raise UserError(
            f"{source} is no vocabulary: it needs a list `concepts` at its top, as graphprep/vocabularies/{kind}.yaml has."
        )
    if content.get("version") != VERSION:
        raise UserError(
            f"{source}: write `version: {VERSION}` at the top; this graphprep reads no other version of the format."
        )
    if content.get("kind") != kind:
        raise UserError(
            f"{source}: expected a vocabulary with `kind: {kind}` at its top, and it has {_show(content.get('kind'))}."
        )
    extends = content.get("extends")
    if extends not in (None, "default"):
        raise UserError(
            f"{source}: `extends` can only be `default` (it has {_show(extends)}); leave it out to replace our vocabulary."
        )
    known = _TOP_KEYS if kind == "anatomy" else _TOP_KEYS - {"abbreviations"}
    problems = [f"{source}: {_unknown(key, known)}" for key in content if key not in known]
    return _File(source, extends is not None, content["concepts"], content.get("abbreviations"), problems)


def _where(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f": {error}"
    mark = error.problem_mark or error.context_mark
    line = f", line {mark.line + 1}" if mark else ""
    return f"{line}: {error.problem or error.context}"


def _assemble(kind: Kind, files: list[_File]) -> Vocabulary:
    """Make a vocabulary of files, a later one adding to the earlier ones."""
    problems = [problem for file in files for problem in file.problems]
    merged: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for file in files:
        own: set[str] = set()
        for number, entry in enumerate(file.entries, 1):
            place = f"{file.source}, entry {number} of `concepts`"
            name = entry.get("id") if isinstance(entry, dict) else None
            if not isinstance(entry, dict):
                problems.append(
                    f"{place}: expected a mapping with `id`, `name`, `synonyms`, and it has {_show(entry)}."
                )
            elif not isinstance(name, str) or not _ID.fullmatch(name):
                problems.append(
                    f"{place}: the `id` must be snake_case, as pleural_effusion is, and it has {_show(name)}."
                )
            elif name in own:
                problems.append(
                    f"{file.source}, concept {name}: this id stands twice in the file; give each concept one entry."
                )
            else:
                own.add(name)
                sources[name] = file.source
                if name not in merged or entry.get("replace") is True:
                    merged[name] = entry
                else:
                    merged[name] = _merge(merged[name], entry)
    concepts = {
        name: _Entry(entry, kind, f"{sources[name]}, concept {name}", problems).concept(index)
        for index, (name, entry) in enumerate(merged.items())
    }
    abbreviations: dict[str, Abbreviation] = {}
    for file in files:
        for word, meaning in _abbreviations(file, problems):
            abbreviations[word] = meaning
            sources.setdefault(word, file.source)
    return Vocabulary(kind, concepts, abbreviations, sources, tuple(problems))


def _merge(ours: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = ours | given
    for key in ("synonyms", "when"):
        more = [given[key]] if isinstance(given.get(key), str) else given.get(key)
        if isinstance(ours.get(key), list) and isinstance(more, list):
            merged[key] = ours[key] + [item for item in more if item not in ours[key]]
    if isinstance(ours.get("labels"), dict) and isinstance(given.get("labels"), dict):
        merged["labels"] = ours["labels"] | given["labels"]
    return merged


class _Entry:
    """One mapping of `concepts`, read key by key; what is not as it should be is noted and left out."""

    def __init__(self, entry: dict[Any, Any], kind: Kind, place: str, problems: list[str]) -> None:
        self._entry = entry
        self._kind = kind
        self._place = place
        self._problems = problems

    def concept(self, index: int) -> Concept:
        for key in self._entry:
            if key not in _KEYS[self._kind]:
                self._note(_unknown(key, _KEYS[self._kind]))
        name = self._entry["id"]
        category = self._text("category")
        if self._kind == "pathology" and category not in CATEGORIES:
            self._note(
                f"`category` must be one of {', '.join(CATEGORIES)}, and it has {_show(self._entry.get('category'))}."
            )
        self._flag("replace")
        return Concept(
            id=name,
            name=self._text("name") or name.replace("_", " "),
            kind=self._kind,
            index=index,
            parent=self._text("parent"),
            part_of=self._text("part_of"),
            sided=self._flag("sided"),
            category=category,
            site=self._text("site"),
            opposites=self._texts("opposite"),
            synonyms=tuple(dict.fromkeys(phrase.lower() for phrase in self._texts("synonyms"))),
            compositions=tuple(self._compositions()),
            labels=self._labels(),
            mesh=self._cross_reference("mesh"),
            radlex=self._cross_reference("radlex"),
        )

    def _note(self, problem: str) -> None:
        self._problems.append(f"{self._place}: {problem}")

    def _text(self, key: str) -> str | None:
        value = self._entry.get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self._note(f"`{key}` must be text, and it has {_show(value)}.")
        return None

    def _flag(self, key: str) -> bool:
        value = self._entry.get(key, False)
        if not isinstance(value, bool):
            self._note(f"`{key}` must be true or false, and it has {_show(value)}.")
        return value is True

    def _texts(self, key: str) -> tuple[str, ...]:
        return self._list(self._entry.get(key), f"`{key}`")

    def _list(self, value: Any, what: str) -> tuple[str, ...]:
        """A list of texts, or a single text for a list of one."""
        items = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            self._note(f"{what} must be a list, and it has {_show(value)}.")
            return ()
        for item in items:
            if not isinstance(item, str) or not item.strip():
                hint = (
                    "; quote words that YAML takes for something else" if isinstance(item, (bool, int, float)) else ""
                )
                self._note(f"{what} must hold texts, and one is {_show(item)}{hint}.")
        return tuple(item for item in items if isinstance(item, str) and item.strip())

    def _labels(self) -> dict[str, tuple[str, ...]]:
        value = self._entry.get("labels") or {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self._note(f"`labels` must map the name of a label set to a list of labels, and it has {_show(value)}.")
            return {}
        return {key: self._list(labels, f"`labels` under {key}") for key, labels in value.items()}

    def _compositions(self) -> Iterator[Composition]:
        value = self._entry.get("when") or []
        for item in value if isinstance(value, list) else [value]:
            if (
                not isinstance(item, dict)
                or not set(item) <= {"words", "at", "with"}
                or not item.get("words")
                or not item.get("at")
            ):
                self._note(
                    f"each item of `when` must be a mapping {{words: [...], at: [...]}}, `with` optional, and one is {_show(item)}."
                )
                continue
            words, at, with_ = (self._list(item.get(key), f"`{key}` of `when`") for key in ("words", "at", "with"))
            yield Composition(tuple(w.lower() for w in words), at, tuple(w.lower() for w in with_))

    def _cross_reference(self, key: str) -> str | None:
        value = self._text(key)
        if value is not None and not _CROSS_REFERENCE[key].fullmatch(value):
            self._note(f"{_show(value)} is no id of `{key}`.")
        return value


def _abbreviations(file: _File, problems: list[str]) -> Iterator[tuple[str, Abbreviation]]:
    value = file.abbreviations or {}
    if not isinstance(value, dict):
        problems.append(
            f"{file.source}: `abbreviations` must map words to {{concept: …, side: …}}, and it has {_show(value)}."
        )
        return
    for word, meaning in value.items():
        place = f"{file.source}, abbreviation {_show(word)}"
        if not isinstance(word, str) or not isinstance(meaning, dict) or not set(meaning) <= {"concept", "side"}:
            problems.append(f"{place}: expected {{concept: …, side: …}}, and it has {_show(meaning)}.")
        elif meaning.get("side") not in (None, *SIDES) or not isinstance(meaning.get("concept"), str):
            problems.append(f"{place}: `concept` must be an id, and `side` one of {', '.join(SIDES)} or left out.")
        else:
            yield word.lower(), Abbreviation(meaning["concept"], meaning.get("side"))


# Checks between concepts


def _check_references(anatomy: Vocabulary, pathology: Vocabulary) -> Iterator[str]:
    for vocabulary in (anatomy, pathology):
        for concept in vocabulary.concepts.values():
            named: list[tuple[str, Vocabulary, str | None]] = [
                ("parent", vocabulary, concept.parent),
                ("part_of", anatomy, concept.part_of),
                ("site", anatomy, concept.site),
                *(("opposite", pathology, opposite) for opposite in concept.opposites),
                *(
                    ("`at` of `when`", anatomy, place)
                    for composition in concept.compositions
                    for place in composition.at
                ),
            ]
            for key, target, value in named:
                if value is not None and value not in target.concepts:
                    advice = _close(value, target.concepts) or "name one of the ids, or leave it out."
                    yield f"{_place(vocabulary, concept.id)}: {key} {_show(value)} is no {target.kind} concept; {advice}"
            if concept.id in concept.opposites:
                yield f"{_place(vocabulary, concept.id)}: it cannot be its own opposite."


def _check_cycles(vocabulary: Vocabulary) -> Iterator[str]:
    """Follow `parent` and `part_of` together: nothing is a part of its own kind either. Each cycle is reported once."""
    done: set[str] = set()
    for start in vocabulary.concepts:
        path: list[str] = []
        waiting = [(start, 0)]
        while waiting:
            current, depth = waiting.pop()
            del path[depth:]
            if current in path:
                cycle = path[path.index(current) :]
                yield (
                    f"{_place(vocabulary, current)}: `parent` and `part_of` lead back to it ({' → '.join([*cycle, current])}); "
                    "take out one of these links."
                )
            elif current not in done:
                done.add(current)
                path.append(current)
                concept = vocabulary.concepts[current]
                links = dict.fromkeys((concept.parent, concept.part_of))
                waiting += [(up, depth + 1) for up in links if up is not None and up in vocabulary.concepts]


def _check_synonyms(vocabulary: Vocabulary) -> Iterator[str]:
    owners: dict[frozenset[str], tuple[str, str]] = {}
    parents = {concept.parent for concept in vocabulary.concepts.values()}
    for concept in vocabulary.concepts.values():
        place = _place(vocabulary, concept.id)
        if not concept.synonyms and not concept.compositions and concept.id not in parents:
            yield f"{place}: it has no `synonyms`, so no text can be linked to it; add at least one, or take the concept out."
        named_sides = _SIDE_WORDS & set(concept.name.lower().split())
        for synonym in concept.synonyms:
            words = content_stems(synonym)
            if not words:
                yield f"{place}: the synonym {_show(synonym)} has no word that could be matched; take it out."
                continue
            if vocabulary.kind == "anatomy" and (sides := (_SIDE_WORDS & words) - named_sides):
                yield (
                    f"{place}: the synonym {_show(synonym)} holds the side word {min(sides)!r}; leave it out (sides are found "
                    "apart from places), or put it into the name of an unsided concept."
                )
            owner, phrase = owners.setdefault(words, (concept.id, synonym))
            if owner != concept.id:
                yield (
                    f"{place}: its synonym {_show(synonym)} has the same words as {_show(phrase)} of the concept {owner} "
                    f"({vocabulary.sources.get(owner, vocabulary.kind)}); keep it in one of them."
                )


def _check_abbreviations(vocabulary: Vocabulary) -> Iterator[str]:
    words = {synonym: concept.id for concept in vocabulary.concepts.values() for synonym in concept.synonyms}
    for abbreviation, meaning in vocabulary.abbreviations.items():
        if meaning.concept not in vocabulary.concepts:
            source = vocabulary.sources.get(abbreviation, vocabulary.kind)
            advice = _close(meaning.concept, vocabulary.concepts) or "name one of the ids."
            yield f"{source}, abbreviation {abbreviation}: {_show(meaning.concept)} is no anatomy concept; {advice}"
        if abbreviation in words:
            yield f"{_place(vocabulary, words[abbreviation])}: {_show(abbreviation)} is a synonym and an abbreviation; keep one."


# Differences


def _facts(vocabulary: Vocabulary, concept: str) -> dict[str, Any]:
    """What a vocabulary says of a concept, apart from where it stands."""
    facts = {
        name: value for name, value in vars(vocabulary.concepts[concept]).items() if name not in ("id", "kind", "index")
    }
    facts["labels"] = tuple(f"{name}: {label}" for name, labels in facts["labels"].items() for label in labels)
    facts["compositions"] = tuple(
        f"{'|'.join(composition.words)} at {'|'.join(composition.at)}"
        + (f" with {'+'.join(composition.with_)}" if composition.with_ else "")
        for composition in facts["compositions"]
    )
    facts["abbreviations"] = tuple(
        f"{word} ({meaning.side})" if meaning.side else word
        for word, meaning in vocabulary.abbreviations.items()
        if meaning.concept == concept
    )
    return facts


def _changes(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key, old in before.items():
        new = after[key]
        if isinstance(old, tuple):
            for sign, items in (
                ("-", [item for item in old if item not in new]),
                ("+", [item for item in new if item not in old]),
            ):
                yield from (f"{key} {sign} {item}" for item in items)
        elif old != new:
            yield f"{key}: {'none' if old is None else old} → {'none' if new is None else new}"


# Words for messages


def _place(vocabulary: Vocabulary, concept: str) -> str:
    return f"{vocabulary.sources.get(concept, vocabulary.kind)}, concept {concept}"


def _unknown(key: object, known: Iterable[str]) -> str:
    return f"the key {_show(key)} is unknown; " + (
        _close(str(key), known) or f"expected one of {', '.join(sorted(known))}."
    )


def _close(word: str, known: Iterable[str]) -> str:
    matches = get_close_matches(word, known, n=1, cutoff=0.8)
    return f"did you mean {matches[0]}?" if matches else ""


def _show(value: object) -> str:
    """A value for a message: short, and as YAML would have it where that is plain."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _walk(start: str, links: Mapping[str, list[str]]) -> Iterator[str]:
    """What is reached from a concept, itself left out, nearest first."""
    seen = {start}
    waiting = [start]
    for current in waiting:
        for following in links.get(current, ()):
            if following not in seen:
                seen.add(following)
                waiting.append(following)
                yield following
