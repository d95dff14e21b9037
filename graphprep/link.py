"""Link mentions to the vocabularies: which concept, on which side, where, with which attributes.

The same linker serves every extractor: it sees only mentions and their relations. It works sentence by sentence, and a
sentence of the same mentions is linked once.

An observation is linked by the bag of its words, the words that modify it and the words of the place it is located at:
the vocabulary's synonym with the most words in that bag wins, so "effusion" is a pleural effusion and, located at
*pericardial*, a pericardial one. A word said of a structure ("enlarged" at the heart) is linked by the vocabulary's compositions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from graphprep.lexicon import Lexicon, midline
from graphprep.records import Assertion, Attribute, Document, Label, Mention, RelationType, Side, Temporality
from graphprep.vocabulary import Vocabulary
from graphprep.words import TOKEN, content_stems, has_placeholder, stem, tokenize

_CACHE_SIZE = 32_768

# "Increased interstitial markings" are prominent ones; nothing is said of an earlier film.
_PROMINENT_WHEN_INCREASED = frozenset(
    (
        "diameter",
        "marking",
        "density",
        "opacity",
        "lucency",
        "attenuation",
        "opacification",
        "kyphosis",
        "curvature",
        "lordosis",
    )
)
_BETTER_OR_WORSE = frozenset((Attribute("change", "increased"), Attribute("change", "decreased")))
# How a statement begins that something is as it should be.
_NORMAL = ("normal", "within normal", "within limits", "within the normal", "in normal range", "wnl", "unremarkable")
# Tissue that a finding's name may have ("airspace disease"), and the lung as a whole: where it is, is not said by them.
_TISSUES = frozenset(("airspace", "alveoli", "pulmonary_interstitium", "pulmonary_parenchyma", "lung", "chest"))
# Attributes that say how a finding is, and do not say what.
_ONE = frozenset(("one", "ones", "that", "those"))
_SAID_OF_FINDINGS = frozenset(("severity", "change", "extent"))
_JOINING = frozenset(("and", "or", ",", "/", "&", "to"))


UNCHANGED = ("change", "unchanged")
GONE = (("change", "resolved"), ("change", "removed"))  # what has them is absent


class Item(NamedTuple):
    """What the linker needs to know of a mention; `relations` are (type, index in the sentence)."""

    text: str
    label: Label
    assertion: Assertion
    temporality: Temporality
    measurement: bool
    relations: tuple[tuple[RelationType, int], ...]
    after_join: bool  # whether a comma, "and" or "or" stands between this mention and the one before


@dataclass(frozen=True, slots=True)
class Place:
    """An anatomy that a sentence names: its concept (None: a side alone), its side, and the mentions that say so, head first."""

    concept: str | None
    side: Side | None
    mentions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A pathology that a sentence names. `mentions` are those that say it, head first."""

    concept: str
    side: Side | None
    assertion: Assertion
    places: tuple[Place, ...]
    attributes: tuple[Attribute, ...]
    mentions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LinkedSentence:
    """What a sentence says, in the words of the vocabularies; indices are of its mentions.

    `concepts` gives the concept of each mention (None: no concept, or a modifier); `suggestions` are pairs of heads.
    """

    concepts: tuple[str | None, ...]
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]
    suggestions: tuple[tuple[int, int], ...]


class Linker:
    """Links the mentions of documents to two vocabularies."""

    def __init__(self, anatomy: Vocabulary, pathology: Vocabulary, lexicon: Lexicon) -> None:
        self._anatomy, self._pathology, self._lexicon = anatomy, pathology, lexicon
        self._place_index = _Index(anatomy)
        self._finding_index = _Index(pathology)
        # stem → (concept, words said, words beside them, anatomies they are said of)
        self._compositions: dict[str, list[tuple[str, frozenset[str], frozenset[str], frozenset[str]]]] = {}
        for concept in pathology.concepts.values():
            for composition in concept.compositions:
                below = frozenset(place for at in composition.at for place in (at, *anatomy.descendants(at)))
                beside = frozenset(part for word in composition.with_ for part in content_stems(word))
                for word in composition.words:
                    said = content_stems(word)
                    for part in said:
                        self._compositions.setdefault(part, []).append((concept.id, said, beside, below))
        self._wholes = {
            concept: {*anatomy.ancestors(concept), *anatomy.wholes(concept)} for concept in anatomy.concepts
        }
        self._midline = midline(anatomy)
        self._named_sides = {
            concept.id: {word for synonym in concept.synonyms for word in content_stems(synonym)} & {"left", "right"}
            for concept in anatomy.concepts.values()
        }
        self._place_words = {
            concept.id: frozenset(stem(synonym) for synonym in concept.synonyms if len(tokenize(synonym)) == 1)
            for concept in anatomy.concepts.values()
        }
        self._link_sentence = lru_cache(maxsize=_CACHE_SIZE)(self._link_items)

    def __call__(self, document: Document, mentions: Sequence[Mention]) -> list[tuple[list[Mention], LinkedSentence]]:
        """Return, sentence by sentence, the mentions and what they say; sets `Mention.concept`."""
        linked: list[tuple[list[Mention], LinkedSentence]] = []
        for group in _by_sentence(mentions):
            items = _items(document.report.text, group, self._lexicon)
            sentence = self._link_sentence(items, ())
            if not sentence.findings and linked and _follows(group[0], linked[-1][0][-1]):
                before = tuple(_without_mentions(finding) for finding in linked[-1][1].findings)
                sentence = self._link_sentence(items, before)
            for mention, concept in zip(group, sentence.concepts, strict=True):
                mention.concept = concept
            linked.append((group, sentence))
        return linked

    # -- one sentence ----------------------------------------------------------------------------------------------

    def _link_items(self, items: tuple[Item, ...], before: tuple[Finding, ...]) -> LinkedSentence:
        """Link a sentence; `before` are the findings of the one before it, where this one may leave their noun out."""
        modifiers = _modifiers(items)
        concepts: list[str | None] = [None] * len(items)
        places_of: dict[int, tuple[Place, ...]] = {}
        for index, item in enumerate(items):
            if item.label == "anatomy":
                places_of[index] = self._link_place(items, index, modifiers)
                head = not any(
                    type_ == "modify" and items[target].label == "anatomy" for type_, target in item.relations
                )
                concepts[index] = (
                    next((place.concept for place in places_of[index] if place.concept is not None), None)
                    if head
                    else None
                )
        all_places = [
            place
            for index, places in places_of.items()
            if not any(
                type_ == "modify" and items[target].label == "anatomy" for type_, target in items[index].relations
            )
            for place in places
            if place.concept is not None
        ]
        findings: list[Finding] = []
        for index, item in enumerate(items):
            if item.label != "observation" or any(
                type_ == "modify" and items[target].label == "observation" for type_, target in item.relations
            ):
                continue
            found = (
                self._link_one(items, index, modifiers, places_of, findings or before)
                or self._link_finding(items, index, modifiers, places_of)
                or self._link_other_side(items, index, modifiers, places_of, findings or before)
            )
            if found:
                concepts[index] = found[0].concept
            if item.temporality == "current":
                findings += found
        suggestions = tuple(
            (source, target)
            for source, item in enumerate(items)
            for type_, target in item.relations
            if type_ == "suggestive_of"
        )
        findings = self._place_suggested(findings, suggestions)
        named = [place for finding in findings for place in finding.places]
        sided = {(place.concept, place.mentions) for place in named if place.side is not None}
        all_places = [
            place for place in all_places if place.side is not None or (place.concept, place.mentions) not in sided
        ]
        return LinkedSentence(tuple(concepts), tuple(dict.fromkeys(all_places + named)), tuple(findings), suggestions)

    # -- anatomy ---------------------------------------------------------------------------------------------------

    def _link_place(self, items: Sequence[Item], head: int, modifiers: dict[int, list[int]]) -> tuple[Place, ...]:
        """Return the places that an anatomy mention and its modifiers name: "left lower and right upper lobe" are two."""
        own = sorted(
            [
                head,
                *(
                    index
                    for index in _closure(head, modifiers)
                    if items[index].label == "anatomy" and not _shared(items, head, index)
                ),
            ]
        )
        groups: list[list[int]] = []
        for position, index in enumerate(own):
            joined = items[index].after_join and position > 0
            if not groups or (joined and index != head) or (joined and index == head and groups[-1]):
                groups.append([])
            groups[-1].append(index)
        sided_or_level = [group for group in groups if head not in group]
        if len(groups) == 1 or not sided_or_level:
            groups = [own]
        places: list[Place] = []
        last_side: Side | None = None
        for number, group in enumerate(groups):
            members = group if head in group else [*group, head]
            if all(self._lexicon.side(items[index].text) is not None for index in group) and number + 1 < len(groups):
                # "right and left upper lobes": the level is said once
                level = [index for index in groups[number + 1] if self._lexicon.side(items[index].text) is None]
                members = [*group, *(index for index in level if index != head), head]
            side = self._side(items, group) or (last_side if head in group or len(groups) > 1 else None)
            last_side = self._side(items, group) or last_side
            words: set[str] = set()
            for index in members:
                words |= content_stems(items[index].text)
            mentioned = (head, *(index for index in members if index != head))
            found, abbreviated = self._place_concepts(items, members, head, words)
            places += [Place(concept, self._own_side(concept, side or abbreviated), mentioned) for concept in found]
        merged: dict[str | None, Place] = {}
        for place in places:
            known = merged.get(place.concept)
            if known is not None and {known.side, place.side} == {"left", "right"}:
                merged[place.concept] = Place(
                    place.concept, "bilateral", tuple(dict.fromkeys(known.mentions + place.mentions))
                )
            elif known is not None and (known.side == place.side or None in (known.side, place.side)):
                merged[place.concept] = Place(
                    place.concept, known.side or place.side, tuple(dict.fromkeys(known.mentions + place.mentions))
                )
            else:
                merged[place.concept] = place
        return tuple(merged.values())

    def _side(self, items: Sequence[Item], group: Iterable[int]) -> Side | None:
        sides = {side for side in (self._lexicon.side(items[index].text) for index in group) if side is not None}
        if not sides:
            return None
        return sides.pop() if len(sides) == 1 else "bilateral"

    def _own_side(self, concept: str | None, side: Side | None) -> Side | None:
        """A side that is part of a name is no side: the right atrium is not on the right."""
        return None if concept is not None and side is not None and side in self._named_sides[concept] else side

    def _place_concepts(
        self, items: Sequence[Item], members: Sequence[int], head: int, words: set[str]
    ) -> tuple[list[str | None], Side | None]:
        """Return the concept that the words name, and a second one that the rest of them names ("bibasilar airspace")."""
        if has_placeholder(items[head].text):
            return [None], None
        for index in members:
            abbreviation = self._anatomy.abbreviations.get(items[index].text.lower())
            if abbreviation is not None:
                rest = words - content_stems(items[index].text)
                other = self._place_index.best(rest, rest)  # "RLL airspace opacity"
                beside = other is not None and other not in self._wholes[abbreviation.concept]
                return [abbreviation.concept, *([other] if beside else [])], abbreviation.side
        match = self._place_index.best_match(content_stems(items[head].text), words) or self._place_index.best_match(
            words, words
        )
        if match is None or (match[0] == "vein" and "venous" in words):
            return [None], None  # "venous catheter": what it is, not where
        concept, rest = match[0], words - match[2]
        second = self._place_index.best(rest, rest)
        if second is None or second == concept or second in self._wholes[concept]:
            # "left lung airspace disease": the tissue is in the finding's name, the lung is where it is
            return (
                [concept, second] if second == "lung" and concept in _TISSUES - {"lung", "chest"} else [concept]
            ), None
        return ([second] if concept in self._wholes[second] else [concept, second]), None

    # -- findings --------------------------------------------------------------------------------------------------

    def _link_finding(
        self, items: Sequence[Item], head: int, modifiers: dict[int, list[int]], places_of: dict[int, tuple[Place, ...]]
    ) -> list[Finding]:
        chain = [index for index in _closure(head, modifiers) if items[index].label == "observation"]
        located = [
            target
            for index in (head, *chain)
            for type_, target in items[index].relations
            # "stable silhouette with effusion": the change is of both, the place is not
            if type_ == "located_at" and (index == head or not self._is_change(items[index].text))
        ]
        places = [place for target in dict.fromkeys(located) for place in places_of.get(target, ())]
        if "lobectomy" in content_stems(items[head].text):  # "upper lobectomy": of the upper lobe
            places = [self._named_lobe(items, place) for place in places]
        bare_sides = {place.side for place in places if place.concept is None and place.side is not None}
        bare_side = _joint_side(bare_sides)
        own_side = next(
            (side for index in (head, *chain) if (side := self._lexicon.convexity(items[index].text)) is not None), None
        )
        bare_side = bare_side or own_side
        side_mentions = [index for place in places if place.concept is None for index in place.mentions]
        named = [place for place in places if place.concept is not None]
        own_words = set(content_stems(items[head].text))
        modifier_words: set[str] = set()
        for index in chain:
            if not self._is_count(items[index].text):
                modifier_words |= content_stems(items[index].text)

        for unnamed in places:
            if unnamed.concept is None and not has_placeholder(
                items[unnamed.mentions[0]].text
            ):  # "volume" of a volume loss names no place, and is needed for the finding
                modifier_words |= {
                    word
                    for index in unnamed.mentions
                    if self._lexicon.side(items[index].text) is None
                    for word in content_stems(items[index].text)
                }
        before = sorted((place for place in named if place.mentions[0] < head), key=lambda place: place.mentions[0])
        said_of = self._lexicon.is_state(items[head].text)  # "heart and hila are normal": each by itself

        by_concept: dict[str, list[Place]] = {}
        used: dict[str, set[int]] = {}
        targets: Sequence[Place | None] = named or [None]
        for place in targets:
            place_words = self._words_of(items, place)
            linked = self._finding_concept(own_words, modifier_words, place_words, place)
            if linked is not None and linked[0] == "abnormality" and _denies_change(items, head):
                continue  # "no change in the lungs" is no denial of an abnormality
            apart = [other for other in before if place is not None and _coordinated(items, place, other)]
            if not said_of and not (linked is not None and linked[1] and apart):
                # A place before the head names it too ("basal airspace disease"), of coordinated places the nearest.
                others = [other for other in before if other is before[-1] or other not in apart]
                place_words = place_words.union(*(self._words_of(items, other) for other in others))
                linked = self._finding_concept(own_words, modifier_words, place_words, place)
            if linked is None and own_words == {"acute"} and items[head].assertion == "absent":
                linked = self._finding_concept({"abnormality"}, {"acute"}, place_words, place)  # "nothing acute"
            if linked is None:
                continue
            concept, uses_place = linked
            by_concept.setdefault(concept, [])
            if place is not None:
                by_concept[concept].append(place)
                if uses_place:
                    used.setdefault(concept, set()).update(place.mentions)
        # One device: "left jugular catheter, tip in the right atrium" is named by the first place, and lies at both.
        kinds = [concept for concept in by_concept if self._pathology.concepts[concept].category == "device"]
        named_by_place = [concept for concept in kinds if concept in used]
        narrowest = [kind for kind in kinds if all(self._pathology.is_a(kind, other) for other in kinds)]
        if len(kinds) > 1 and narrowest:
            by_concept = {narrowest[0]: [place for concept in kinds for place in by_concept[concept]]}
        elif len(kinds) > 1 and len(named_by_place) == 1:
            by_concept = {named_by_place[0]: [place for concept in kinds for place in by_concept[concept]]}
        device = self._intact_device(items, head, chain, by_concept)
        if device is not None:
            by_concept[device] = list(next(iter(by_concept.values())))
        attributes = self._attributes(items, head, chain)
        findings: list[Finding] = []
        normal = any(items[index].text.startswith(_NORMAL) and items[index].assertion != "absent" for index in chain)
        for concept, at in by_concept.items():
            of_normality = not said_of and self._pathology.concepts[concept].category == "normality"
            if of_normality and not _BETTER_OR_WORSE.isdisjoint(attributes):
                continue  # "improved aeration": what has improved need not be normal
            if normal and not said_of and self._pathology.concepts[concept].category == "finding":
                continue  # "engorgement appears within normal limits"
            if places and not named and self._is_bare_normality(concept, own_words, bare_side):
                continue  # "pulmonary ___ are normal", "contours normal", "the right is normal": of what is not said
            said = (head, *sorted(chain), *sorted(used.get(concept, set())), *side_mentions)
            side_of_device = self._device_side(concept, places, head)
            if side_of_device is not None:
                findings.append(
                    Finding(
                        concept,
                        side_of_device,
                        self._assertion(items, head, chain),
                        tuple(at),
                        attributes,
                        tuple(dict.fromkeys(said)),
                    )
                )
                continue
            split = self._sides_apart(items, head, chain, places)
            for side, where in _by_side(at, bare_side, apart=split is not None):
                own = attributes if split is None or side not in split else self._attributes(items, head, split[side])
                findings.append(
                    Finding(
                        concept,
                        side,
                        self._assertion(items, head, chain),
                        tuple(self._with_side(place, side) for place in where),
                        own,
                        tuple(dict.fromkeys(said)),
                    )
                )
        return findings

    def _link_other_side(
        self,
        items: Sequence[Item],
        head: int,
        modifiers: dict[int, list[int]],
        places_of: dict[int, tuple[Place, ...]],
        before: Sequence[Finding],
    ) -> list[Finding]:
        """Read what is said of the other side, its noun left out: "the right effusion has decreased, the left is unchanged"."""
        targets = [target for type_, target in items[head].relations if type_ == "located_at"]
        if any(
            ("located_at", target) in other.relations
            for target in targets
            for other in items
            if other is not items[head]
        ):
            return []
        places = [place for target in targets for place in places_of.get(target, ())]
        sides = {place.side for place in places}
        none = items[head].text == "none"
        if len(sides) != 1 or (not none and any(place.concept is not None for place in places)):
            return []
        side = sides.pop()
        same = next((finding for finding in reversed(before) if {finding.side, side} == {"left", "right"}), None)
        if same is None:
            return []
        chain = [index for index in _closure(head, modifiers) if items[index].label == "observation"]
        said_here = before[0].mentions != ()
        if not said_here and len({finding.concept for finding in before if finding.side == same.side}) > 1:
            return []  # of several findings of the sentence before
        where = tuple(self._with_side(replace(place, side=None), side) for place in same.places)
        shown = where if said_here else ()  # no word of this sentence says the places of the one before
        said = (head, *sorted(chain), *(index for place in places for index in place.mentions))
        assertion = self._assertion(items, head, chain)
        attributes = set(self._attributes(items, head, chain))
        if none:
            return [Finding(same.concept, side, "absent", shown, (), said)]
        own = self._lexicon.attribute(items[head].text)
        if own in GONE:
            assertion = "absent"
        if own is not None and own[0] in _SAID_OF_FINDINGS:
            if self._pathology.concepts[same.concept].category == "normality":
                return []
            return [Finding(same.concept, side, assertion, shown, tuple(sorted({*attributes, Attribute(*own)})), said)]
        if not self._lexicon.is_state(items[head].text):
            return []
        words = {word for index in chain for word in content_stems(items[index].text)}
        for place in where:
            linked = self._finding_concept(
                set(content_stems(items[head].text)), words, self._words_of(items, place), place
            )
            if linked is not None:
                at = (place,) if said_here else ()
                return [Finding(linked[0], side, assertion, at, tuple(sorted(attributes)), said)]
        return []

    def _link_one(
        self,
        items: Sequence[Item],
        head: int,
        modifiers: dict[int, list[int]],
        places_of: dict[int, tuple[Place, ...]],
        before: Sequence[Finding],
    ) -> list[Finding]:
        """Read "one" as what was named last: "no large effusion, but a small one cannot be excluded"."""
        if items[head].text not in _ONE or not before:
            return []
        concept = before[-1].concept
        chain = [index for index in _closure(head, modifiers) if items[index].label == "observation"]
        places = [
            place
            for type_, target in items[head].relations
            if type_ == "located_at"
            for place in places_of.get(target, ())
        ]
        sides = {place.side for place in places} - {None}
        return [
            Finding(
                concept,
                sides.pop() if len(sides) == 1 else None,
                self._assertion(items, head, chain),
                tuple(place for place in places if place.concept is not None),
                self._attributes(items, head, chain),
                (head, *sorted(chain), *(index for place in places for index in place.mentions)),
            )
        ]

    def _named_lobe(self, items: Sequence[Item], place: Place) -> Place:
        """Return the lobe that a level says when the word lobe is part of the operation's name."""
        words = {word for index in place.mentions for word in content_stems(items[index].text)} | {"lobe"}
        concept = self._place_index.best(words - {"lobe"}, words) if place.concept is None else None
        return place if concept is None else replace(place, concept=concept)

    def _intact_device(
        self, items: Sequence[Item], head: int, chain: Sequence[int], found: Iterable[str]
    ) -> str | None:
        """Return the device that is said to be intact: "intact sternotomy wires" are wires, and intact."""
        if "intact_device" not in found:
            return None
        words = {word for index in (head, *chain) for word in content_stems(items[index].text)} - {"intact"}
        concept = self._finding_index.best(content_stems(items[head].text), words)
        return concept if concept is not None and self._pathology.concepts[concept].category == "device" else None

    def _is_count(self, text: str) -> bool:
        """Whether a modifier counts the leads or chambers ("dual-lead pacemaker": not a lead)."""
        attribute = self._lexicon.attribute(text)
        return attribute is not None and attribute[0] == "number" and tokenize(text)[-1] in {"lead", "chamber"}

    def _is_change(self, text: str) -> bool:
        attribute = self._lexicon.attribute(text)
        return attribute is not None and attribute[0] == "change"

    def _is_bare_normality(self, concept: str, words: set[str], side: Side | None) -> bool:
        """Whether the concept is what a word such as normal means by itself, of no structure that has the side."""
        site = self._pathology.concepts[concept].site
        return (
            self._pathology.concepts[concept].category == "normality"
            and (side is None or (site is not None and not self._anatomy.concepts[site].sided))
            and self._finding_index.best(words, words) == concept
        )

    def _with_side(self, place: Place, side: Side | None) -> Place:
        """Give a place named without side the side of the finding ("pleural thickening at the left apex": the left pleura)."""
        if place.side is not None or side is None or place.concept is None:
            return place
        return replace(place, side=side) if self._anatomy.concepts[place.concept].sided else place

    def _device_side(self, concept: str, places: Sequence[Place], head: int) -> Side | None:
        """The side that a device itself is said to have; where its tip lies is another matter ("left PICC, tip in the right atrium")."""
        if self._pathology.concepts[concept].category != "device":
            return None
        before = {place.side for place in places if place.side is not None and place.mentions[0] < head}
        after = {place.side for place in places if place.side is not None and place.mentions[0] > head}
        return before.pop() if len(before) == 1 and after else None

    def _sides_apart(
        self, items: Sequence[Item], head: int, chain: Sequence[int], places: Sequence[Place]
    ) -> dict[Side | None, list[int]] | None:
        """Return the modifiers of each side where two sides of one noun differ: "moderate right and small left effusions"."""
        before = sorted(
            (index, side)
            for place in places
            for index in place.mentions
            if index < head and (side := self._lexicon.side(items[index].text)) in ("left", "right")
        )
        if [side for _, side in before] not in (["left", "right"], ["right", "left"]):
            return None
        (first, first_side), (second, second_side) = before
        turn = next((index for index in range(first + 1, second + 1) if items[index].after_join), None)
        if turn is None:
            return None
        own = {
            first_side: [index for index in chain if index < turn],
            second_side: [index for index in chain if turn <= index < head],
        }
        kinds = [{attribute.kind for attribute in self._attributes(items, head, indices)} for indices in own.values()]
        if kinds[0].isdisjoint(kinds[1]):
            return None
        shared = [index for index in chain if index > head]
        return {side: indices + shared for side, indices in own.items()}

    def _words_of(self, items: Sequence[Item], place: Place | None) -> frozenset[str]:
        if place is None or place.concept is None:
            return frozenset()
        said = [content_stems(items[index].text) for index in place.mentions]
        if any(items[index].text in self._anatomy.abbreviations for index in place.mentions):
            said.append(content_stems(self._anatomy.concepts[place.concept].name))  # RIJ: internal jugular vein
        return self._place_words[place.concept].union(*said)

    def _words_above(self, place: Place | None) -> frozenset[str]:
        if place is None or place.concept is None:
            return frozenset()
        return frozenset[str]().union(*(self._place_words[above] for above in self._anatomy.ancestors(place.concept)))

    def _finding_concept(
        self, own: set[str], modifiers: set[str], place_words: frozenset[str], place: Place | None
    ) -> tuple[str, bool] | None:
        """Return the concept and whether the place's words were needed for it."""
        bag = own | modifiers | place_words
        for heads in (own, modifiers):
            found = self._finding_index.best_match(heads, bag)
            direct = self._finding_index.best_match(heads, own | modifiers)
            if (
                found is not None
                and direct is not None
                and direct[1] == found[1]
                and self._prevails(direct[0], found[0])
            ):
                found = direct
            wider = self._finding_index.best_match(heads, bag | self._words_above(place))
            if wider is not None and (found is None or wider[1] > found[1]):
                found = wider
            composed = self._composed(heads, bag, place)
            if composed is not None and (found is None or composed[1] > found[1]):
                return composed[0], True
            if found is not None:
                return found[0], not found[2] <= (own | modifiers)
        return None

    def _prevails(self, direct: str, found: str) -> bool:
        """Whether the finding's own words outweigh those of its place, of equal length ("arthritic changes of the bones")."""
        return self._pathology.concepts[direct].category != "generic" and not self._pathology.is_a(found, direct)

    def _composed(self, heads: set[str], bag: set[str], place: Place | None) -> tuple[str, int] | None:
        best: tuple[str, int] | None = None
        if place is None or place.concept is None:
            return None
        for word in sorted(heads):
            for concept, said, beside, below in self._compositions.get(word, ()):
                if place.concept in below and said <= bag and beside <= bag:
                    score = 1 + len(said) + len(beside)
                    if best is None or score > best[1]:
                        best = (concept, score)
        return best

    def _place_suggested(self, findings: Sequence[Finding], suggestions: Iterable[tuple[int, int]]) -> list[Finding]:
        """Put what a sign suggests where the sign is, unless it has a place of its own ("left basilar opacity, likely atelectasis").

        The site that its name gives it anyway ("pulmonary edema") is no place of its own.
        """
        signs_of: dict[int, list[int]] = {}
        for sign, meaning in suggestions:
            signs_of.setdefault(meaning, []).append(sign)
        placed: list[Finding] = []
        for finding in findings:
            head = finding.mentions[0]
            signs = [
                sign for sign in findings if sign.mentions[0] in signs_of.get(head, ()) and (sign.places or sign.side)
            ]
            if finding.side or not signs or not self._at_its_site(finding):
                placed.append(finding)
            elif self._pathology.concepts[finding.concept].site in self._midline:
                central = [place for sign in signs for place in sign.places if place.concept in self._midline]
                placed.append(replace(finding, places=tuple(dict.fromkeys((*finding.places, *central)))))
            else:
                placed += [
                    replace(finding, side=sign.side, places=tuple(dict.fromkeys(finding.places + sign.places)))
                    for sign in signs
                ]
        return placed

    def _at_its_site(self, finding: Finding) -> bool:
        site = self._pathology.concepts[finding.concept].site
        usual = {site, *self._wholes[site], *self._anatomy.ancestors(site)} if site is not None else set()
        return all(place.concept in usual or place.concept in _TISSUES for place in finding.places)

    def _attributes(self, items: Sequence[Item], head: int, chain: Sequence[int]) -> tuple[Attribute, ...]:
        found: set[Attribute] = set()
        for index in chain:
            item = items[index]
            if not any(
                type_ == "modify"
                and (
                    target == head
                    or self._lexicon.attribute(items[target].text) is None
                    or self._only_prominent(items, target, head)
                )
                for type_, target in item.relations
            ):
                continue  # "minimally displaced": not a minimal fracture
            if item.measurement:
                found.add(Attribute("measurement", measured(item.text)))
                continue
            attribute = UNCHANGED if _denies_change(items, index) else self._lexicon.attribute(item.text)
            if attribute is None:
                continue
            if self._only_prominent(items, index, head):
                continue
            denied = item.assertion == "absent" and items[head].assertion != "absent"
            if not denied or attribute[1] in {"resolved", "removed", "unchanged"}:
                found.add(Attribute(*attribute))
        return tuple(sorted(found))

    @staticmethod
    def _only_prominent(items: Sequence[Item], index: int, head: int) -> bool:
        """Whether "increased" is no change ("mildly increased interstitial markings" are mild)."""
        return items[index].text == "increased" and index < head and stem(items[head].text) in _PROMINENT_WHEN_INCREASED

    def _assertion(self, items: Sequence[Item], head: int, chain: Sequence[int]) -> Assertion:
        """The assertion of the head; what has resolved or was removed is absent, also where a "resolved pneumonia" is suggested."""
        gone = [index for index in chain if self._lexicon.attribute(items[index].text) in GONE]
        before = gone and min(gone) < head
        if (gone and items[head].assertion == "present") or (before and items[head].assertion == "uncertain"):
            return "absent"
        return items[head].assertion


def _shared(items: Sequence[Item], head: int, index: int) -> bool:
    """Whether a word that modifies an anatomy is beyond another one: the contours of "mediastinal and hilar contours"."""
    return any(
        items[between].label == "anatomy" and not any(type_ == "modify" for type_, _ in items[between].relations)
        for between in range(head + 1, index)
    )


def _follows(mention: Mention, other: Mention) -> bool:
    """Whether a mention is in the next sentence of the same section."""
    return mention.sentence == other.sentence + 1 and mention.section == other.section


def _without_mentions(finding: Finding) -> Finding:
    """A finding as the next sentence may mean it; what says it is not in that sentence."""
    return replace(finding, mentions=(), places=tuple(replace(place, mentions=()) for place in finding.places))


def _denies_change(items: Sequence[Item], index: int) -> bool:
    """Whether a mention is the change of "no change" or of "little change"."""
    item = items[index]
    return item.text == "change" and (
        item.assertion == "absent"
        or any(other.text == "little" and ("modify", index) in other.relations for other in items)
    )


class _Index:
    """Finds the synonym with the most words in a bag, one of them a given head word."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        # Of synonyms of equal length the more specific concept's comes first ("clavicle fracture" before "displaced fracture").
        self._by_word: dict[str, list[tuple[int, int, int, frozenset[str], str]]] = {}
        synonyms = [(concept, synonym) for concept in vocabulary.concepts.values() for synonym in concept.synonyms]
        for order, (concept, synonym) in enumerate(synonyms):
            words = content_stems(synonym)
            for word in words:
                entry = (-len(words), -len(vocabulary.ancestors(concept.id)), order, words, concept.id)
                self._by_word.setdefault(word, []).append(entry)
        for candidates in self._by_word.values():
            candidates.sort(key=lambda candidate: candidate[:3])

    def best_match(
        self, heads: Iterable[str], bag: set[str] | frozenset[str]
    ) -> tuple[str, int, frozenset[str]] | None:
        best: tuple[int, int, int, frozenset[str], str] | None = None
        for head in heads:
            for candidate in self._by_word.get(head, ()):
                if candidate[3] <= bag:
                    if best is None or candidate[:3] < best[:3]:
                        best = candidate
                    break
        return None if best is None else (best[4], -best[0], best[3])

    def best(self, heads: Iterable[str], bag: set[str]) -> str | None:
        found = self.best_match(heads, bag)
        return None if found is None else found[0]


def measured(text: str) -> str:
    """Return a measurement as it is written in attributes: "1.5 cm"."""
    return " ".join(tokenize(text.lower())).replace(" . ", ".")


def _by_sentence(mentions: Sequence[Mention]) -> Iterable[list[Mention]]:
    group: list[Mention] = []
    for mention in mentions:
        if group and mention.sentence != group[0].sentence:
            yield group
            group = []
        group.append(mention)
    if group:
        yield group


def _items(text: str, group: Sequence[Mention], lexicon: Lexicon) -> tuple[Item, ...]:
    first, last = group[0].mention_id, group[-1].mention_id
    items = []
    for position, mention in enumerate(group):
        gap = text[group[position - 1].end : mention.start].lower() if position else ""
        items.append(
            Item(
                TOKEN.sub(lambda token: lexicon.spelled(token.group()), mention.text.lower()),
                mention.label,
                mention.assertion,
                mention.temporality,
                mention.measurement,
                tuple(
                    (relation.type, relation.target - first)
                    for relation in mention.relations
                    if first <= relation.target <= last
                ),
                not gap.isspace() and not _JOINING.isdisjoint(tokenize(gap)),
            )
        )
    return tuple(items)


def _modifiers(items: Sequence[Item]) -> dict[int, list[int]]:
    """Map each mention to those that modify it."""
    out: dict[int, list[int]] = {}
    for source, item in enumerate(items):
        for type_, target in item.relations:
            if type_ == "modify":
                out.setdefault(target, []).append(source)
    return out


def _closure(head: int, modifiers: dict[int, list[int]]) -> list[int]:
    """Return what modifies a mention, directly or through another modifier."""
    found: list[int] = []
    open_ = list(modifiers.get(head, ()))
    while open_:
        index = open_.pop(0)
        if index != head and index not in found:
            found.append(index)
            open_ += modifiers.get(index, ())
    return found


def _coordinated(items: Sequence[Item], one: Place, other: Place) -> bool:
    """Whether "and" or a comma stands between two places: "the lungs and pleural spaces show no abnormality"."""
    return items[max(min(one.mentions), min(other.mentions))].after_join and one != other


def _joint_side(sides: set[Side]) -> Side | None:
    if not sides:
        return None
    return next(iter(sides)) if len(sides) == 1 else "bilateral"


def _by_side(
    places: Sequence[Place], bare_side: Side | None, apart: bool
) -> list[tuple[Side | None, tuple[Place, ...]]]:
    """Split the places of a finding by side; places without side go with the only side, or with every side.

    `apart`: a side said before the place's is another finding's ("moderate right and small left pleural effusions").
    """
    sides: list[Side] = []
    for place in places:
        if place.side is not None and place.side not in sides:
            sides.append(place.side)
    if apart:
        return [
            (side, tuple(replace(place, side=side) for place in places if place.concept is not None))
            for side in ("left", "right")
        ]
    if "bilateral" in sides or bare_side == "bilateral":
        return [("bilateral", tuple(places))]
    if not sides:
        return [(bare_side, tuple(places))]
    return [(side, tuple(place for place in places if place.side in (side, None))) for side in sides]
