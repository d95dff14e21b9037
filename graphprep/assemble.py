"""Assemble a report's graph from its linked sentences.

What a graph says is fixed (`schemas/nodes.json`, `schemas/edges.json`), so that two people build the same one: a node is
(kind, concept, side, assertion) of the report; a statement without side joins the one sided node of the same concept and
assertion; a finding with no stated place is at its concept's site with `origin = vocabulary`; nothing else is invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphprep.lexicon import Lexicon, midline
from graphprep.link import GONE, UNCHANGED, Finding, LinkedSentence, Place, measured
from graphprep.records import Assertion, Attribute, Edge, EdgeRelation, Kind, Mention, Node, Origin, Side, Span
from graphprep.vocabulary import Vocabulary

Key = tuple[Kind, str, Side | None, Assertion]


@dataclass(slots=True)
class _Draft:
    """A node while it collects what is said of it."""

    key: Key
    origin: Origin = "stated"
    attributes: set[Attribute] = field(default_factory=set)
    mentions: dict[int, None] = field(default_factory=dict)
    places: dict[Key, None] = field(default_factory=dict)

    def take_in(self, other: _Draft) -> None:
        """Say what another draft says, too."""
        self.attributes |= other.attributes
        self.mentions |= other.mentions
        self.places |= other.places


class Assembler:
    """Builds the nodes and edges of a report."""

    def __init__(self, anatomy: Vocabulary, pathology: Vocabulary, lexicon: Lexicon) -> None:
        self._anatomy, self._pathology, self._lexicon = anatomy, pathology, lexicon
        self._midline = midline(anatomy)

    def __call__(
        self, mentions: Sequence[Mention], sentences: Sequence[tuple[list[Mention], LinkedSentence]]
    ) -> tuple[list[Node], list[Edge]]:
        """Return nodes and edges; `mentions` are those of the report, `sentences` what the linker made of them."""
        drafts: dict[Key, _Draft] = {}
        key_of_head: dict[int, list[Key]] = {}
        for group, sentence in sentences:
            first = group[0].mention_id
            for place in sentence.places:
                self._add_place(drafts, place, first)
            for finding in sentence.findings:
                self._add_finding(drafts, key_of_head, finding, first)
        self._say_back(drafts, key_of_head, mentions)
        self._place_suggested(drafts, key_of_head, mentions)
        renamed = _join_unsided(drafts)
        for keys in key_of_head.values():
            keys[:] = [renamed.get(key, key) for key in keys]
        self._place_suggested(drafts, key_of_head, mentions)  # the sign may have got its side only now
        suggestions = self._suggestions(mentions, key_of_head)
        self._add_sites(drafts)
        order = sorted(
            drafts.values(),
            key=lambda draft: (
                _first_start(draft, mentions),
                draft.origin != "stated",
                draft.key[0],
                draft.key[1],
                draft.key[2] or "",
                draft.key[3],
            ),
        )
        number = {draft.key: index for index, draft in enumerate(order)}
        nodes = [_node(number[draft.key], draft, mentions) for draft in order]
        edges = self._edges(order, number, suggestions)
        return nodes, edges

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _place_key(self, place: Place) -> Key:
        assert place.concept is not None
        side = place.side if self._anatomy.concepts[place.concept].sided else None
        return ("anatomy", place.concept, side, "present")

    def _add_place(self, drafts: dict[Key, _Draft], place: Place, first: int) -> Key:
        key = self._place_key(place)
        draft = drafts.setdefault(key, _Draft(key))
        for mention in place.mentions:
            draft.mentions.setdefault(first + mention)
        return key

    def _add_finding(
        self, drafts: dict[Key, _Draft], key_of_head: dict[int, list[Key]], finding: Finding, first: int
    ) -> None:
        if finding.assertion == "absent" and Attribute("change", "new") in finding.attributes:
            return  # "no new opacity" does not say that there is none
        key: Key = ("pathology", finding.concept, finding.side, finding.assertion)
        draft = drafts.setdefault(key, _Draft(key))
        draft.attributes.update(finding.attributes)
        for mention in finding.mentions:
            draft.mentions.setdefault(first + mention)
        for place in finding.places:
            draft.places.setdefault(self._place_key(place))
        key_of_head.setdefault(first + finding.mentions[0], []).append(key)

    def _say_back(
        self, drafts: dict[Key, _Draft], key_of_head: dict[int, list[Key]], mentions: Sequence[Mention]
    ) -> None:
        """Give a finding what a later sentence says of it ("It is unchanged."): a `modify` across sentences."""
        for mention in mentions:
            for relation in mention.relations:
                target = mentions[relation.target]
                if relation.type != "modify" or target.sentence == mention.sentence or mention.label != "observation":
                    continue
                attribute = self._lexicon.attribute(mention.text)
                if mention.text.lower() == "change" and mention.assertion == "absent":
                    attribute = UNCHANGED
                if mention.measurement:
                    attribute = ("measurement", measured(mention.text))
                if attribute is None or (mention.assertion == "absent" and attribute not in (UNCHANGED, *GONE)):
                    continue
                keys = key_of_head.get(target.mention_id, [])
                for number, key in enumerate(keys):
                    if attribute in GONE and key[3] == "present" and not _said_again(key_of_head, key):
                        keys[number] = key = _denied(drafts, key)
                    drafts[key].attributes.add(Attribute(*attribute))
                    drafts[key].mentions.setdefault(mention.mention_id)

    def _place_suggested(
        self, drafts: dict[Key, _Draft], key_of_head: dict[int, list[Key]], mentions: Sequence[Mention]
    ) -> None:
        """Put what is suggested where the sign is that another sentence places ("Opacity in the right base. This may be pneumonia.")."""
        for mention in mentions:
            for relation in mention.relations:
                meanings, signs = key_of_head.get(relation.target, []), key_of_head.get(mention.mention_id, [])
                if relation.type != "suggestive_of" or len(meanings) != 1 or len(signs) != 1 or meanings == signs:
                    continue
                old, sign = meanings[0], signs[0]
                if old[2] is not None or drafts[old].places or self._pathology.concepts[old[1]].site in self._midline:
                    continue
                new: Key = (old[0], old[1], sign[2], old[3])
                places = drafts[sign].places
                draft = drafts.pop(old)
                kept = drafts.setdefault(new, _Draft(new))
                kept.attributes |= draft.attributes
                kept.mentions |= draft.mentions
                kept.places |= places
                for keys in key_of_head.values():
                    keys[:] = [new if key == old else key for key in keys]

    def _add_sites(self, drafts: dict[Key, _Draft]) -> None:
        """Put findings without a stated place at the site that the vocabulary gives them."""
        for draft in [draft for draft in drafts.values() if draft.key[0] == "pathology" and not draft.places]:
            site = self._pathology.concepts[draft.key[1]].site
            if site is None:
                continue
            side = draft.key[2] if self._anatomy.concepts[site].sided else None
            key: Key = ("anatomy", site, side, "present")
            drafts.setdefault(key, _Draft(key, origin="vocabulary"))

    # -- edges -----------------------------------------------------------------------------------------------------

    def _suggestions(self, mentions: Sequence[Mention], key_of_head: dict[int, list[Key]]) -> list[tuple[Key, Key]]:
        return [
            (source, target)
            for mention in mentions
            for relation in mention.relations
            if relation.type == "suggestive_of"
            for source in key_of_head.get(mention.mention_id, ())
            for target in key_of_head.get(relation.target, ())
        ]

    def _edges(
        self, drafts: Sequence[_Draft], number: dict[Key, int], suggestions: Sequence[tuple[Key, Key]]
    ) -> list[Edge]:
        found: dict[tuple[int, int, EdgeRelation], Origin] = {}
        for draft in drafts:
            if draft.key[0] == "pathology":
                for place in draft.places:
                    found.setdefault((number[draft.key], number[place], "located_at"), "stated")
                site = self._pathology.concepts[draft.key[1]].site
                if not draft.places and site is not None:
                    side = draft.key[2] if self._anatomy.concepts[site].sided else None
                    found.setdefault(
                        (number[draft.key], number[("anatomy", site, side, "present")], "located_at"), "vocabulary"
                    )
            else:
                whole = self._whole(draft.key, number)
                if whole is not None:
                    found.setdefault((number[draft.key], number[whole], "part_of"), "vocabulary")
        for source, target in suggestions:
            if source in number and target in number and source != target:
                found.setdefault((number[source], number[target], "suggestive_of"), "stated")
        return [Edge(source, target, relation, origin) for (source, target, relation), origin in sorted(found.items())]

    def _whole(self, key: Key, number: dict[Key, int]) -> Key | None:
        """Return the nearest anatomy of the report that this one is a part of, on a side that agrees."""
        for whole in self._anatomy.wholes(key[1]):
            for side in dict.fromkeys((key[2], None)):
                candidate: Key = ("anatomy", whole, side, "present")
                if candidate in number:
                    return candidate
        return None


def _said_again(key_of_head: dict[int, list[Key]], key: Key) -> bool:
    """Whether another mention states the same."""
    return sum(key in keys for keys in key_of_head.values()) > 1


def _denied(drafts: dict[Key, _Draft], key: Key) -> Key:
    """Deny what a sentence stated and a later one takes back; return its key."""
    denied: Key = (*key[:3], "absent")
    draft = drafts.pop(key)
    drafts.setdefault(denied, _Draft(denied)).take_in(draft)
    return denied


def _join_unsided(drafts: dict[Key, _Draft]) -> dict[Key, Key]:
    """Let a statement without side join the one sided node of the same concept and assertion; return who became whom."""
    renamed: dict[Key, Key] = {}
    for key in [key for key in drafts if key[0] == "pathology" and key[2] is None]:
        sided = [
            other
            for other in drafts
            if other[0] == "pathology" and other[1] == key[1] and other[3] == key[3] and other[2] is not None
        ]
        if len(sided) != 1:
            continue
        drafts[sided[0]].take_in(drafts.pop(key))
        renamed[key] = sided[0]
    return renamed


def _first_start(draft: _Draft, mentions: Sequence[Mention]) -> int:
    return min((mentions[mention].start for mention in draft.mentions), default=len(mentions) and mentions[-1].end + 1)


def _node(node_id: int, draft: _Draft, mentions: Sequence[Mention]) -> Node:
    kind, concept, side, assertion = draft.key
    spans = sorted({(mentions[mention].start, mentions[mention].end) for mention in draft.mentions})
    sections = dict.fromkeys(
        section for mention in sorted(draft.mentions) if (section := mentions[mention].section) is not None
    )
    return Node(
        node_id,
        kind,
        concept,
        side,
        assertion,
        draft.origin,
        sorted(draft.attributes),
        list(sections),
        list(draft.mentions),
        [Span(start, end) for start, end in spans],
    )
