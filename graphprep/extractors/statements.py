"""Read the phrases of a sentence as statements: which word modifies which, what is where, what suggests what.

A sentence is cut into clauses, one statement about one subject each. Within a clause a small set of patterns covers how
reports are written, with no statistical parser and no weights:

- inside a phrase: "small right pleural effusion" (modifiers, place, head), "heart size normal" (place, state);
- phrase to phrase: "effusion *in* the base", "heart *is* enlarged", "Lungs: clear", "opacity *may represent* pneumonia",
  "effusion, unchanged", and lists of each.

The relations are those of RadGraph: `modify`, `located_at`, `suggestive_of`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from graphprep.extractors.phrases import Joint, Phrase, Word
from graphprep.records import RelationType
from graphprep.words import stem

# Words for a shape or measure, said of what was named before ("normal in size", "stable in appearance").
_SHAPES = frozenset(
    "size sizes contour contours configuration caliber calibre silhouette width height heights alignment thickness position".split()
)
# Level words that need an organ: "left lower and right upper lobe".
_LEVELS = frozenset(
    "upper lower mid middle superior inferior anterior posterior lateral medial central peripheral proximal distal internal external apical basilar basal".split()
)
# Nouns so general that the word before them says what they are ("granulomatous disease", "airspace opacity").
_GENERAL = frozenset(
    "opacity density disease process change abnormality lesion finding formation pattern infiltrate structure body material lucency shadow component".split()
)
# Places that are not of the lung: a list does not carry them over ("pleural effusion and atelectasis").
_LUNG_PLACES = frozenset(
    "lung lobe hilar perihilar suprahilar infrahilar retrocardiac parenchymal pulmonary hemithorax lingula base apex zone field thorax chest airspace interstitial".split()
)
# The lung as a whole says nothing of where the next finding is ("pulmonary consolidation or pneumothorax").
_WHOLE_LUNG = frozenset(("lung", "pulmonary", "parenchymal", "airspace", "interstitial"))
_PLAIN_STATES = frozenset(
    "normal clear unremarkable intact midline sharp preserved maintained expanded symmetric patent".split()
)
_POSITIVE_STARTS = frozenset(
    (
        "unchanged",
        "stable",
        "persistent",
        "similar",
        "increased",
        "decreased",
        "mild",
        "minimal",
        "moderate",
        "severe",
        "marked",
        "chronic",
        "old",
    )
)
# Findings that are signs of something rather than diagnoses.
_SIGNS = frozenset(
    "opacity opacification density infiltrate nodule marking blunting blunted haziness thickening lucency consolidation calcification prominence pattern disease process change crowding".split()
)
# A part of a device: where it lies is where the device is.
_DEVICE_PARTS = frozenset("tip end terminus position placement port course sidehole sideport".split())
_LISTING = frozenset(("conjunction", "comma", "negation", "versus", "placeholder"))
_PRONOUNS = frozenset("it this these they those both".split())
_SINGULAR = frozenset("is was has remains appears seems".split())


@dataclass(slots=True)
class Link:
    """A relation between two words of the sentence."""

    type: RelationType
    source: Word
    target: Word


@dataclass(slots=True)
class Statements:
    """What a sentence states: its mention words, their relations, and where its clauses begin (token indices).

    `alternatives` are observation heads joined by "versus", or by "or" outside a list that is denied; `back_modifiers` and
    `back_suggestions` say something of a finding of the sentence before ("It is unchanged.").
    """

    words: list[Word] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    clause_starts: list[int] = field(default_factory=list)
    alternatives: list[Word] = field(default_factory=list)
    or_pairs: list[tuple[Word, Word]] = field(default_factory=list)
    back_modifiers: list[Word] = field(default_factory=list)
    back_suggestions: list[Word] = field(default_factory=list)


def read_statements(
    tokens: Sequence[str],
    phrases: list[Phrase],
    tail: list[Joint],
    standalone: Collection[str],
    compounds: Collection[frozenset[str]],
) -> Statements:
    """Return the statements of a sentence.

    `standalone` holds the stems of words that name a finding by themselves: two of them side by side are two findings
    ("atelectasis effusion"), otherwise the first modifies the second ("compression fracture").
    """
    reader = _Reader(tokens, _drop_technique(phrases, tail), tail, standalone, compounds)
    return reader.read()


def _drop_technique(phrases: list[Phrase], tail: list[Joint]) -> list[Phrase]:
    """Leave out phrases that describe the film ("lateral view", "prior CT"), their joints kept for the next phrase."""
    kept: list[Phrase] = []
    carried: list[Joint] = []
    for index, phrase in enumerate(phrases):
        following = phrases[index + 1].joints if index + 1 < len(phrases) else tail
        weak = all(
            (word.is_anatomy and (word.entry.anatomy == 1 or stem(word.text) == "chest"))
            or (word.entry.modifier is not None and word.entry.modifier[0] in {"temporal", "number"})
            for word in phrase.words
        )
        if (
            weak
            and following
            and following[0].kind == "technique"
            and following[0].start == phrase.end
            and not phrase.has_observation
        ):
            carried += phrase.joints
            continue
        if carried:
            phrase = Phrase(phrase.words, carried + phrase.joints)
            carried = []
        kept.append(phrase)
    return kept


class _Reader:
    def __init__(
        self,
        tokens: Sequence[str],
        phrases: list[Phrase],
        tail: list[Joint],
        standalone: Collection[str],
        compounds: Collection[frozenset[str]],
    ) -> None:
        self.tokens = [token.lower() for token in tokens]
        if len(phrases) > 1 and [word.text for word in phrases[0].words] == ["both"] and phrases[1].joined_by("copula"):
            phrases = phrases[1:]  # "Both are unchanged.": a pronoun
        self.phrases = phrases
        self.tail = tail
        self.standalone = standalone
        self.compounds = compounds
        self.out = Statements()
        self.located: dict[int, list[Word]] = {}  # start token of a head → its places

    # -- clauses ---------------------------------------------------------------------------------------------------

    def read(self) -> Statements:
        clauses: list[list[int]] = []
        for index in range(len(self.phrases)):
            boundary = self._clause_boundary(index, clauses[-1]) if clauses else 0
            if boundary is not None:
                clauses.append([])
                self.out.clause_starts.append(boundary)
            clauses[-1].append(index)
        for clause in clauses:
            self._read_clause(clause)
        self.out.words.sort(key=lambda word: word.start)
        return self.out

    def _clause_boundary(self, index: int, clause: list[int]) -> int | None:
        """Return the token where a new clause begins before this phrase, or None if the phrase belongs to the clause."""
        phrase = self.phrases[index]
        for joint in reversed(phrase.joints):
            if joint.text == "otherwise" and not phrase.joined_by("comma"):
                continue  # "lungs otherwise clear"
            if joint.kind in {"break", "existential"}:
                return joint.start
        denied = any(joint.kind in {"negation", "without"} for at in clause for joint in self.phrases[at].joints)
        with_joint = next((joint for joint in reversed(phrase.joints) if joint.kind == "with"), None)
        if with_joint is not None and denied and not phrase.joined_by("negation", "without", "preposition"):
            return with_joint.start
        separator = next((joint for joint in reversed(phrase.joints) if joint.kind in {"comma", "conjunction"}), None)
        if phrase.joints and separator is None:
            return None
        start = separator.start if separator is not None else phrase.start
        said = any(not self.phrases[at].is_anatomy_only for at in clause)
        if not said:
            return None
        after = self._next_subject_end(index)
        predicate = self.phrases[after] if after < len(self.phrases) else None
        if phrase.is_anatomy_only:
            if phrase.joined_by("preposition", "with", "without", "suggest", "negation"):
                return None
            if predicate is not None and predicate.joined_by("copula", "colon"):
                located = any(
                    self.phrases[at].is_anatomy_only and self.phrases[at].joined_by("preposition") for at in clause
                )
                if not located or predicate.has_state or predicate.joined_by("colon"):
                    return start
            if (
                predicate is not None
                and not predicate.has_observation
                and predicate.has_state
                and not predicate.has_anatomy
                and not predicate.joined_by("preposition")
            ):
                return start
            return None
        if (
            phrase.words[0].is_anatomy
            and not phrase.has_observation
            and phrase.has_state
            and not phrase.joined_by("negation")
        ):
            return start
        if denied and not phrase.joined_by("negation", "without"):
            first = phrase.words[0]
            if first.is_state and first.text in _PLAIN_STATES and phrase.has_anatomy:
                return start
            if (
                phrase.has_observation
                and separator is not None
                and self._canonical(first) in _POSITIVE_STARTS
                and not self.phrases[clause[-1]].is_modifier_only
            ):
                return start
            if (
                phrase.has_observation
                and predicate is not None
                and any(joint.kind == "copula" and joint.text in _SINGULAR for joint in predicate.joints)
                and not predicate.joined_by("suggest")
            ):
                return start
        return None

    def _next_subject_end(self, index: int) -> int:
        """Return the index of the first phrase after this one that is not coordinated anatomy ("heart and mediastinum")."""
        after = index + 1
        while (
            after < len(self.phrases)
            and self.phrases[after].is_anatomy_only
            and all(joint.kind in {"conjunction", "comma", "preposition"} for joint in self.phrases[after].joints)
        ):
            after += 1
        return after

    @staticmethod
    def _canonical(word: Word) -> str:
        return word.entry.modifier[1] if word.entry.modifier else word.text

    # -- inside a phrase -------------------------------------------------------------------------------------------

    def _mention(self, word: Word) -> Word:
        if not any(known is word for known in self.out.words):
            self.out.words.append(word)
        return word

    def _link(self, type_: RelationType, source: Word, target: Word) -> None:
        if source is target:
            return
        self._mention(source)
        self._mention(target)
        if not any(link.source is source and link.target is target and link.type == type_ for link in self.out.links):
            self.out.links.append(Link(type_, source, target))
        if type_ == "located_at":
            self.located.setdefault(source.start, []).append(target)

    def _anatomy_head(self, run: Sequence[Word]) -> Word:
        """Return the head of a run of anatomy words; the others modify it."""
        organs = [word for word in run if word.entry.anatomy == 2]
        parts = [
            word for word in run if word.entry.side is None and word.text not in _LEVELS and word.text not in _SHAPES
        ]
        levels = [word for word in run if word.entry.side is None]
        head = (organs or parts or levels or list(run))[-1]
        for word in run:
            self._mention(word)
            self._link("modify", word, head)
        return head

    def _blocks(self, words: Sequence[Word]) -> list[tuple[bool, list[Word]]]:
        blocks: list[tuple[bool, list[Word]]] = []
        for word in words:
            if blocks and blocks[-1][0] == word.is_anatomy:
                blocks[-1][1].append(word)
            else:
                blocks.append((word.is_anatomy, [word]))
        return blocks

    def _observation_heads(self, block: Sequence[Word]) -> list[Word]:
        """Return the heads of a block of observation words; the words around them modify them."""
        nouns = [word for word in block if word.is_observation]
        heads: list[Word] = []
        for position, noun in enumerate(nouns):
            last = position == len(nouns) - 1
            separate = (
                not last
                and stem(noun.text) in self.standalone
                and stem(nouns[position + 1].text) in self.standalone
                and stem(nouns[position + 1].text) not in _GENERAL
                and frozenset((stem(noun.text), stem(nouns[position + 1].text))) not in self.compounds
            )
            if last or separate:
                heads.append(noun)
        for position, word in enumerate(block):
            self._mention(word)
            if any(word is head for head in heads):
                continue
            following = [head for head in heads if head.start > word.start]
            beside = block[position + 1] if position + 1 < len(block) else None
            if (
                word.text.endswith("ly")
                and beside is not None
                and not beside.is_observation
                and not beside.text.endswith("ly")
            ):
                self._link("modify", word, beside)  # "minimally displaced fracture"
                continue
            self._link("modify", word, following[0] if following else heads[-1])
        return heads

    def _inside(self, phrase: Phrase) -> tuple[list[Word], list[Word]]:
        """Link the words of a phrase; return its observation heads and its anatomy heads."""
        blocks = self._blocks(phrase.words)
        if phrase.has_observation:
            return self._inside_observation(blocks)
        if phrase.has_anatomy:
            return self._inside_states(blocks)
        heads = [word for word in phrase.words if word.is_state] or phrase.words
        return self._state_heads(heads, phrase.words), []

    def _inside_observation(self, blocks: list[tuple[bool, list[Word]]]) -> tuple[list[Word], list[Word]]:
        heads_of = {
            at: self._observation_heads(block)
            for at, (anatomy, block) in enumerate(blocks)
            if not anatomy and any(word.is_observation for word in block)
        }
        all_heads = [head for at in sorted(heads_of) for head in heads_of[at]]
        anatomy_heads: list[Word] = []
        for at, (anatomy, block) in enumerate(blocks):
            following = next((heads_of[other] for other in sorted(heads_of) if other > at), None)
            preceding = next((heads_of[other] for other in sorted(heads_of, reverse=True) if other < at), None)
            if anatomy:
                head = self._anatomy_head(block)
                anatomy_heads.append(head)
                for observation in following or (preceding or [])[-1:]:
                    self._link("located_at", observation, head)
            elif at not in heads_of:
                for word in block:
                    self._link("modify", word, (following or preceding or [word])[0 if following else -1])
        return all_heads, anatomy_heads

    def _inside_states(self, blocks: list[tuple[bool, list[Word]]]) -> tuple[list[Word], list[Word]]:
        """Anatomy with states and modifiers only: "enlarged heart", "heart size normal", "stable cardiac silhouette"."""
        preposed = not blocks[0][0]
        heads: list[Word] = []
        anatomy_heads = {at: self._anatomy_head(block) for at, (anatomy, block) in enumerate(blocks) if anatomy}
        for at, (anatomy, block) in enumerate(blocks):
            if anatomy:
                continue
            states = self._state_heads([word for word in block if word.is_state] or [block[-1]], block)
            order = (at + 1, at - 1) if preposed else (at - 1, at + 1)
            place = next((anatomy_heads[other] for other in order if other in anatomy_heads), None)
            for state in states:
                heads.append(state)
                if place is not None:
                    self._link("located_at", state, place)
        return heads, list(anatomy_heads.values())

    def _state_heads(self, states: Sequence[Word], block: Sequence[Word]) -> list[Word]:
        """The last state of a block is its head; adverbs and modifiers before it modify it ("mildly enlarged")."""
        head = states[-1]
        for word in block:
            self._mention(word)
            self._link("modify", word, head)
        return [head]

    # -- from phrase to phrase -------------------------------------------------------------------------------------

    def _read_clause(self, clause: list[int]) -> None:
        topics: list[Word] = []  # anatomy that the clause is about
        group: list[Word] = []  # the coordinated findings said last
        group_is_state = False
        located_by_preposition = False
        waiting_anatomy: list[Word] = []  # "hilar or" before "mediastinal adenopathy"
        waiting_levels: list[list[Word]] = []  # "left lower and" before "right upper lobe"
        waiting_modifiers: list[Word] = []
        spreading: list[Word] = []  # a change said of every finding of a list
        waiting_states: list[Word] = []  # "normal and" before "stable cardiac silhouette"
        signs: list[Word] = []  # what the findings said last are suggested by
        elided = bool(self.phrases[clause[0]].joints) and self.phrases[clause[0]].joints[0].kind == "suggest"
        pronoun = clause[0] == 0 and (elided or (bool(self.tokens) and self.tokens[0] in _PRONOUNS))

        for place, index in enumerate(clause):
            phrase = self.phrases[index]
            following = self.phrases[clause[place + 1]] if place + 1 < len(clause) else None
            listed = all(joint.kind in _LISTING for joint in phrase.joints)

            if phrase.is_anatomy_only:
                if (
                    self._needs_organ(phrase)
                    and following is not None
                    and following.has_anatomy
                    and self._coordinated(following)
                ):
                    waiting_levels.append(phrase.words)
                    if phrase.joined_by("preposition") and group:
                        located_by_preposition = True
                    continue
                head = self._anatomy_head_with(phrase.words, waiting_levels)
                if (
                    following is not None
                    and not phrase.joined_by("preposition")
                    and self._coordinated(following)
                    and following.has_observation
                    and following.words[0].is_anatomy
                    and not located_by_preposition
                    and (not topics)
                ):
                    waiting_anatomy.append(head)
                    continue
                if (
                    all(word.text in _SHAPES for word in phrase.words)
                    and topics
                    and (phrase.joined_by("preposition") or group_is_state)
                ):
                    self._link("modify", head, topics[-1])
                elif group and (
                    phrase.joined_by("preposition") or all(word.entry.side is not None for word in phrase.words)
                ):
                    self._locate(group, head)
                    located_by_preposition = True
                elif (
                    group_is_state and listed and not (following is not None and following.joined_by("copula", "colon"))
                ):
                    for state in group:  # "normal heart, lungs and mediastinum"
                        self._link("located_at", state, head)
                elif phrase.joined_by("preposition") and topics and not group:
                    # "the base of the left lung": one place
                    self._link("modify", topics[-1], head)
                    topics[-1] = head
                elif group and located_by_preposition and listed:
                    self._locate(group, head)
                elif (
                    group
                    and listed
                    and not group_is_state
                    and not (following is not None and following.joined_by("copula", "colon"))
                ):
                    self._locate(group[-1:], head)
                elif topics and not group and listed:
                    topics.append(head)
                else:
                    topics, group = [head], []
                continue

            if phrase.is_modifier_only:
                if following is not None and self._shared_modifier(phrase, following):
                    waiting_modifiers += phrase.words
                    following.joints = phrase.joints + following.joints
                    continue
                self._modifier_phrase(phrase, following, topics, group, waiting_modifiers, pronoun)
                if not group and topics and phrase.joined_by("copula", "colon"):
                    head = self._state_heads(phrase.words, phrase.words)[0]
                    for topic in topics:
                        self._link("located_at", head, topic)
                    group, group_is_state = [head], True
                elif not group and pronoun and phrase.joined_by("copula"):
                    self.out.back_modifiers += [self._mention(word) for word in phrase.words]
                continue

            for levels in waiting_levels:
                organ = self._first_organ(phrase)
                for word in levels:
                    if organ is not None:
                        self._link("modify", word, organ)
            waiting_levels.clear()
            heads, places = self._inside(phrase)
            if not listed or not group:
                spreading = []
            if phrase.joints and phrase.joints[0].text in {"of", "in"}:
                spreading = [
                    word
                    for word in waiting_modifiers
                    if word.entry.modifier is not None and word.entry.modifier[0] == "change"
                ]
            elif spreading and phrase.has_observation:
                waiting_modifiers += (
                    spreading  # "removal of the tube and the catheter", "no change in effusion and atelectasis"
                )
            for head in waiting_modifiers:
                self._link("modify", head, heads[0])
            waiting_modifiers.clear()
            for anatomy in waiting_anatomy:
                for head in heads:
                    self._link("located_at", head, anatomy)
            waiting_anatomy.clear()

            if not phrase.has_observation:
                if not places and following is not None and not group and not topics and self._shares_state(following):
                    waiting_states += heads
                    continue
                if places and waiting_states:
                    for state in waiting_states:
                        for anatomy in places:
                            self._link("located_at", state, anatomy)
                    heads = waiting_states + heads
                    waiting_states = []
                if not places:
                    if group and not group_is_state and phrase.joined_by("copula", "comma") and not topics:
                        for state in heads:
                            for finding in group:
                                self._link("modify", state, finding)
                        continue
                    for state in heads:
                        for topic in topics:
                            self._link("located_at", state, topic)
                    if not topics and pronoun and phrase.joined_by("copula"):
                        self.out.back_modifiers += heads
                elif topics and (
                    phrase.joined_by("copula", "colon")
                    or (
                        listed and not group and phrase.words[0].is_anatomy
                    )  # "heart and mediastinal contours within normal limits"
                ):
                    for state in heads:
                        for topic in topics:
                            self._link("located_at", state, topic)
                else:
                    topics = places
                group, group_is_state = heads, True
                located_by_preposition = False
                continue

            part = self._device_part(group, phrase) or self._device_part(heads, phrase, of_group=group)
            if part is not None:
                for word, whole in part:
                    self._link("modify", word, whole)
                group = [part[-1][1]]
                group_is_state = False
                located_by_preposition = False
                continue
            suggested = bool(group) and (
                (self._suggests(phrase, group, group_is_state) and not self._new_item(phrase))
                or (not group_is_state and self._explains(phrase, following, group))
            )
            signs = list(group) if suggested else signs if listed and group and not group_is_state else []
            for finding in signs:
                for head in heads:
                    self._link("suggestive_of", finding, head)
            if suggested:
                group = []
            elif pronoun and not group and phrase.joined_by("suggest"):
                self.out.back_suggestions += heads
            if group_is_state and phrase.joined_by("with") and not phrase.joined_by("negation"):
                for state in group:
                    if state.entry.modifier is not None and state.entry.modifier[0] == "change":
                        for head in heads:
                            self._link("modify", state, head)  # "stable silhouette with cardiomegaly"
            self._alternatives(phrase, group or signs, heads)
            if (
                topics
                and (
                    phrase.joined_by("copula", "colon", "with", "without", "existential")
                    or (listed and not group)
                    or self._fronted(clause)
                )
                and not group_is_state
            ):
                for head in heads:
                    for topic in topics:
                        if not self._places_of(head):
                            self._link("located_at", head, topic)
            if group and listed and not group_is_state and not suggested:
                if not places and phrase.joined_by("conjunction", "versus"):
                    self._carry_place(group, heads)
                if phrase.words[0].is_observation and (phrase.joined_by("versus") or self._alternative(phrase)):
                    self._carry_modifiers(group[-1], heads)
                group = group + heads
            elif suggested and listed is False and phrase.joined_by("versus"):
                group = group + heads
            else:
                group = heads
            group_is_state = False
            located_by_preposition = False

        for levels in waiting_levels:
            head = self._anatomy_head(levels)
            if group and located_by_preposition:
                self._locate(group, head)
        if waiting_modifiers and group:
            for word in waiting_modifiers:
                self._link("modify", word, group[-1])
        elif waiting_modifiers and topics:
            head = self._state_heads(waiting_modifiers, waiting_modifiers)[0]
            for topic in topics:
                self._link("located_at", head, topic)

    def _modifier_phrase(
        self,
        phrase: Phrase,
        following: Phrase | None,
        topics: list[Word],
        group: list[Word],
        waiting: list[Word],
        pronoun: bool,
    ) -> None:
        """Modifiers alone: of the finding before ("effusion, unchanged"), or of the one to come ("small, round nodule")."""
        said_of = phrase.joined_by("copula", "colon")
        forward = (
            following is not None
            and not following.is_anatomy_only
            and not said_of
            and (
                not group
                or (
                    following.joined_by("preposition")
                    and following.joints[0].text == "of"
                    and following.has_observation
                )
                or (phrase.joined_by("conjunction") and following.joined_by("comma"))
                or not following.joints
                or (
                    following.joined_by("conjunction")
                    and phrase.joined_by("comma")
                    and not following.has_anatomy
                    and following.is_modifier_only
                )
            )
        )
        if forward and not (group and following is not None and following.is_modifier_only):
            waiting += phrase.words
            return
        if group:
            targets = group if said_of else group[-1:]
            for word in phrase.words:
                for finding in targets:
                    self._link("modify", word, finding)
        elif following is not None and not said_of and not topics and not pronoun:
            waiting += phrase.words

    @staticmethod
    def _suggests(phrase: Phrase, group: Sequence[Word], group_is_state: bool) -> bool:
        """Whether the findings before the phrase are signs of what it names."""
        if phrase.joined_by("suggest"):
            return not group_is_state or not all(word.text in _PLAIN_STATES or word.is_modifier for word in group)
        # A word removed by de-identification between a sign and a diagnosis.
        return (
            phrase.joined_by("placeholder")
            and stem(group[-1].text) in _SIGNS
            and not any(stem(word.text) in _SIGNS | _GENERAL for word in phrase.words)
        )

    def _shares_state(self, following: Phrase) -> bool:
        return (
            self._coordinated(following)
            and following.has_anatomy
            and not following.has_observation
            and not following.is_anatomy_only
        )

    def _explains(self, phrase: Phrase, following: Phrase | None, group: Sequence[Word]) -> bool:
        """Whether alternatives follow a sign after a comma: "opacities, atelectasis versus pneumonia"."""
        return (
            following is not None
            and bool(phrase.joints)
            and all(joint.kind == "comma" for joint in phrase.joints)
            and stem(group[-1].text) in _SIGNS
            and not any(stem(word.text) in _SIGNS for word in phrase.words)
            and (following.joined_by("versus") or self._alternative(following))
            and not any(other.joined_by("negation", "without") for other in self.phrases if other.start <= phrase.start)
        )

    def _device_part(
        self, group: Sequence[Word], phrase: Phrase, of_group: Sequence[Word] | None = None
    ) -> list[tuple[Word, Word]] | None:
        """Return which part modifies which device: "tip *of* the catheter", "tube *with* tip", "tube, tip in"."""
        if of_group is None:
            parts = [word for word in group if stem(word.text) in _DEVICE_PARTS]
            wholes = [word for word in phrase.words if word.is_observation and stem(word.text) not in _DEVICE_PARTS]
            if parts and len(parts) == len(group) and wholes and any(joint.text == "of" for joint in phrase.joints):
                return [(part, wholes[-1]) for part in parts]
            return None
        parts = [word for word in group if stem(word.text) in _DEVICE_PARTS]
        if parts and len(parts) == len(group) and of_group and stem(of_group[-1].text) not in _DEVICE_PARTS:
            return [(part, of_group[-1]) for part in parts]
        return None

    @staticmethod
    def _new_item(phrase: Phrase) -> bool:
        """Whether the phrase opens another item of a list rather than an explanation ("and probable effusion")."""
        kinds = [joint.kind for joint in phrase.joints]
        return (
            "with" in kinds
            or "existential" in kinds
            or (
                kinds[0] == "conjunction"
                and phrase.joints[0].text in {"and", "as well as", "plus"}
                and "suggest" in kinds
            )
        )

    @staticmethod
    def _shared_modifier(phrase: Phrase, following: Phrase) -> bool:
        """Whether "healing or old fractures" follows: two modifiers of one finding."""
        return (
            phrase.joined_by("suggest", "negation", "existential")
            and following.has_observation
            and all(joint.kind == "conjunction" for joint in following.joints)
            and following.words[0].is_modifier
        )

    @staticmethod
    def _coordinated(following: Phrase) -> bool:
        return bool(following.joints) and all(
            joint.kind in {"conjunction", "comma", "versus"} for joint in following.joints
        )

    @staticmethod
    def _needs_organ(phrase: Phrase) -> bool:
        """Whether the words are sides and levels only; apical, basilar and bibasilar name a place by themselves."""
        return all(
            (word.entry.side is not None or word.text in _LEVELS)
            and not stem(word.text).endswith(("apical", "basilar", "basal", "hilar"))
            for word in phrase.words
        )

    @staticmethod
    def _first_organ(phrase: Phrase) -> Word | None:
        run: list[Word] = []
        for word in phrase.words:
            if word.is_anatomy:
                run.append(word)
            elif run:
                break
        organs = (
            [word for word in run if word.entry.anatomy == 2]
            or [word for word in run if word.entry.side is None and word.text not in _LEVELS]
            or run
        )
        return organs[-1] if organs else None

    def _anatomy_head_with(self, run: list[Word], waiting_levels: list[list[Word]]) -> Word:
        head = self._anatomy_head(run)
        for levels in waiting_levels:
            for word in levels:
                self._link("modify", word, head)
        waiting_levels.clear()
        return head

    def _places_of(self, head: Word) -> list[Word]:
        return self.located.get(head.start, [])

    def _locate(self, group: Sequence[Word], place: Word) -> None:
        """Put the findings of a list at a place: the last of them, and those that have none."""
        bare = [head for head in group if not self._places_of(head)]
        for head in group:
            if head is group[-1] or any(head is other for other in bare):
                self._link("located_at", head, place)

    def _carry_place(self, group: Sequence[Word], heads: Sequence[Word]) -> None:
        """Carry the lung place of the first finding of a list to the next ("left basilar atelectasis and infiltrate").

        Of another place ("left pleural effusion and atelectasis") only the side is carried.
        """
        for place in self._places_of(group[0]):
            narrowed = any(link.type == "modify" and link.target is place for link in self.out.links)
            if place.start > group[0].start or (stem(place.text) in _WHOLE_LUNG and not narrowed):
                continue
            of_lung = place.entry.anatomy == 1 or stem(place.text) in _LUNG_PLACES
            sides = [
                link.source for link in self.out.links if link.target is place and link.source.entry.side is not None
            ]
            for head in heads:
                for carried in [place] if of_lung else sides:
                    self._link("located_at", head, carried)

    @staticmethod
    def _alternative(phrase: Phrase) -> bool:
        return any(joint.kind == "conjunction" and joint.text in {"or", "and / or", "/"} for joint in phrase.joints)

    def _carry_modifiers(self, first: Word, heads: Sequence[Word]) -> None:
        """What is one thing or another has the modifiers of the first: "minimal scarring or atelectasis"."""
        carried = [
            link.source
            for link in self.out.links
            if link.type == "modify" and link.target is first and link.source.is_modifier
        ]
        for word in carried:
            for head in heads:
                if word.start < first.start:
                    self._link("modify", word, head)

    def _fronted(self, clause: list[int]) -> bool:
        """Whether the place came first, after a preposition: "In the left base, an opacity"."""
        first = self.phrases[clause[0]]
        return first.is_anatomy_only and first.joined_by("preposition")

    def _alternatives(self, phrase: Phrase, group: Sequence[Word], heads: Sequence[Word]) -> None:
        if not group:
            return
        if phrase.joined_by("versus"):
            self.out.alternatives += [group[-1], *heads]
        elif any(joint.kind == "conjunction" and joint.text in {"or", "and / or"} for joint in phrase.joints):
            self.out.or_pairs += [(group[-1], head) for head in heads]
