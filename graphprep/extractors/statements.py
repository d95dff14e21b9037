"""Read the phrases of a sentence as statements: which word modifies which, what is where, what suggests what.

A sentence is cut into clauses, one statement about one subject each. Within a clause a small set of patterns covers how
reports are written, with no statistical parser and no weights:

- inside a phrase: "small right pleural effusion" (modifiers, place, head), "heart size normal" (place, state);
- phrase to phrase: "effusion *in* the base", "heart *is* enlarged", "Lungs: clear", "opacity *may represent* pneumonia",
  "effusion, unchanged", and lists of each.

The relations are those of RadGraph: `modify`, `located_at`, `suggestive_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise

from graphprep.extractors.phrases import Joint, Phrase, Word
from graphprep.lexicon import midline
from graphprep.records import RelationType
from graphprep.vocabulary import Concept, Vocabulary
from graphprep.words import content_stems, stem, tokenize

# Words for a shape or measure, said of what was named before ("normal in size", "stable in appearance").
_SHAPES = frozenset(
    "size sizes contour contours configuration caliber calibre silhouette width height heights alignment thickness position".split()
)
# Level words that need an organ: "left lower and right upper lobe".
_LEVELS = frozenset(
    "upper lower mid middle superior inferior anterior posterior lateral medial central peripheral proximal distal internal external apical basilar basal".split()
)
_WHOLE = frozenset(("entire", "whole", "complete"))  # "opacification of the entire left lung"
_HEIGHTS = frozenset(("high", "low"))  # of a vessel: "in the low SVC"
# Nouns so general that the word before them says what they are ("granulomatous disease", "airspace opacity").
_GENERAL = frozenset(
    "opacity density disease process change abnormality lesion finding formation pattern infiltrate structure body material lucency shadow component failure".split()
)
# Places that are not of the lung: a list does not carry them over ("pleural effusion and atelectasis").
_LUNG_PLACES = frozenset(
    "lung lobe hilar perihilar suprahilar infrahilar retrocardiac parenchymal pulmonary hemithorax lingula base apex zone field thorax chest airspace interstitial".split()
)
# Adjectives for the tissue of the lung: they name a finding and do not say where it is.
_TISSUES = frozenset(("lung", "pulmonary", "parenchymal", "airspace", "alveolar", "interstitial"))
# The lung as a whole says nothing of where the next finding is ("pulmonary consolidation or pneumothorax").
_WHOLE_LUNG = frozenset(("lung", "pulmonary", "parenchymal", "airspace", "interstitial"))
_PLAIN_STATES = frozenset(
    "normal clear unremarkable intact midline sharp preserved maintained expanded symmetric patent".split()
)
_CHANGE_NOUNS = frozenset("increase decrease improvement worsening progression".split())
_UNCHANGED = frozenset(("unchanged", "stable", "persistent", "similar"))
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
# Sizes that are seldom denied: "no pneumothorax, small effusion".
_SMALL = frozenset(("small", "tiny", "trace", "slight"))
# What belongs to the finding that has it, and lies where that lies.
_FEATURES = frozenset("bronchogram cavitation cavity calcification loss".split())
# Findings that are signs of something rather than diagnoses.
_INSIDE = frozenset("bronchogram cavitation level".split())
_SIGNS = frozenset(
    "opacity opacification density infiltrate nodule marking accentuation blunting blunted haziness thickening lucency consolidation calcification prominence pattern disease process change crowding".split()
)
_LOOK_ALIKES = frozenset(
    "atelectasis scar scarring infiltrate pneumonia consolidation edema disease fibrosis effusion fluid thickening".split()
)
_SATISFACTORY = frozenset("satisfactory appropriate adequate normal".split())
# A part of a device: where it lies is where the device is.
DEVICE_PARTS = frozenset(
    ("side port", "side hole", *"tip end terminus position placement port course sidehole sideport".split())
)
# Names before a noun that modifies them, as the annotators of RadGraph have it.
_LED_BY_NAME = frozenset({("pacer", "lead"), ("pacemaker", "lead"), ("fluid", "overload")})
# Words for devices of any kind, as headings have them.
_GLANDS = frozenset(("node", "gland"))
_DEVICE_KINDS = frozenset("line tube device catheter drain hardware apparatus equipment".split())
_LISTING = frozenset(("conjunction", "comma", "negation", "versus", "placeholder"))
# Conditions of a structure that stand side by side ("tortuous calcified aorta"); other states qualify the one that follows.
_CONDITIONS = frozenset(
    "tortuous ectatic unfolded uncoiled calcified atherosclerotic kyphotic scoliotic degenerated osteopenic demineralized osteoporotic hyperinflated hyperexpanded emphysematous fibrotic enlarged dilated flattened eventrated deformed fused engorged congested sclerotic lytic".split()
)
# After these a statement is complete: "no effusion is seen, the heart is enlarged".
_COMPLETING = frozenset(
    "seen identified present noted demonstrated visualized visualised evident found appreciated detected observed visible apparent".split()
)
# Words that may join two adjectives of one noun: "persistent but smaller effusion".
_CONTRASTING = frozenset(("but", "though", "although", "yet", "albeit"))
# What stands beside a finding is where it is: "effusion with adjacent atelectasis".
_INSTEAD = frozenset("just only merely simply".split())
_BESIDE = frozenset(
    "associated adjacent overlying underlying subjacent accompanying ipsilateral compressive passive concomitant postobstructive surrounding neighboring neighbouring".split()
)
# What a structure is said to have, after what it is said to be: "aorta is tortuous and shows calcification".
_HAVING = frozenset("demonstrates demonstrate shows show contains contain exhibits exhibit displays has have".split())
# "Possible pneumonia." is a statement of its own; "Probably atelectasis." speaks of what was said before.
_ADJECTIVES_OF_DOUBT = frozenset(("possible", "probable", "questionable", "question", "question of", "?"))
# These join "postsurgical changes" to the operation that they are of.
_SPELLING_OUT = frozenset(
    {
        "from",
        "consistent with",
        "compatible with",
        "related to",
        "due to",
        "in keeping with",
        "secondary to",
        "status post",
    }
)
# Adverbs of likelihood: the second of two says it of the same sign ("likely atelectasis, less likely pneumonia").
_LIKELIHOODS = frozenset(
    {
        "likely",
        "less likely",
        "more likely",
        "most likely",
        "less xxxx",
        "possibly",
        "probably",
        "perhaps",
        "potentially",
    }
    | {"possible", "probable", "questionable", "question", "presumably", "?"}
)
_COMPARATIVES = frozenset("larger greater worse more smaller less".split())
_COMPARED = frozenset(("less likely", "more likely", "most likely"))
_VALUE_MARKS = frozenset((":", "=", "-", "--"))
_CAUSES = ("due to", "secondary to", "related to", "caused by", "resulting from", "from underlying")
_IDENTITY = frozenset(("is", "are", "was", "were"))
_PRONOUNS = frozenset("it this these they those both".split())
_SINGULAR = frozenset("is was has remains appears seems".split())
# Organs that things of one list may be of; a place "of" one organ is not that of a finding of another.
_REGIONS = frozenset(
    ("lung", "pleura", "hilum", "heart", "aorta", "mediastinum", "diaphragm", "spine", "bone", "abdomen")
)
# Words for a side that end so name a place by themselves: bibasilar, biapical.
_PLACE_ENDINGS = ("apical", "basilar", "basal", "hilar")
_PLACE_ADJECTIVES = ("al", "ar", "ary", "ic")
# Parts of both lungs, although one of them may be listed as a place without side (the middle lobe).
_SIDED_PARTS = frozenset(
    ("lobe", "apex", "apical", "basilar", "basal", "airspace", "alveolar", "interstitial", "parenchymal")
)


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


@dataclass(frozen=True, slots=True)
class WordClasses:
    """What the words of the vocabularies are, as stems.

    `standalone` words name a finding by themselves: two of them side by side are two findings ("atelectasis effusion"),
    otherwise the first modifies the second ("compression fracture"), as `compounds` do in any case. `devices` are what
    device names end in, `midline` are findings of structures in the midline, `sided` are places of which there are two:
    a side said of one thing of a list reaches others that can have one. The regions say what part of the body a word is of.
    """

    standalone: frozenset[str]
    compounds: frozenset[frozenset[str]]
    devices: frozenset[str]
    midline: frozenset[str]
    sided: frozenset[str]
    region_of_finding: Mapping[str, str]
    region_of_place: Mapping[str, str]


def word_classes(anatomy: Vocabulary, pathology: Vocabulary) -> WordClasses:
    """Return the classes of the words of two vocabularies."""
    concepts, places = list(pathology.concepts.values()), list(anatomy.concepts.values())
    in_midline = midline(anatomy)
    one_word = [
        (concept, stem(synonym)) for concept in concepts for synonym in concept.synonyms if len(tokenize(synonym)) == 1
    ]
    findings = {word for concept, word in one_word if concept.category == "finding"}

    def last_words(of: Iterable[Concept]) -> frozenset[str]:
        return frozenset(stem(tokenize(synonym)[-1]) for concept in of for synonym in concept.synonyms)

    return WordClasses(
        frozenset(word for concept, word in one_word if concept.category in {"finding", "device"}),
        frozenset(
            frozenset(pair)
            for concept in concepts
            for synonym in concept.synonyms
            for pair in combinations(sorted(content_stems(synonym)), 2)
        ),
        last_words(concept for concept in concepts if concept.category == "device") - findings,
        frozenset(word for concept, word in one_word if concept.category != "device" and concept.site in in_midline),
        last_words(place for place in places if place.sided)
        - last_words(place for place in places if not place.sided)
        - _LEVELS
        | _SIDED_PARTS,
        {word: region for concept, word in one_word if (region := _region(anatomy, concept.site)) is not None},
        {
            stem(synonym): region
            for place in places
            for synonym in place.synonyms
            if len(tokenize(synonym)) == 1 and (region := _region(anatomy, place.id)) is not None
        },
    )


def _region(anatomy: Vocabulary, place: str | None) -> str | None:
    """Return the organ that a place belongs to, as far as places of one list may differ by it."""
    if place is None:
        return None
    return next((part for part in (place, *anatomy.ancestors(place), *anatomy.wholes(place)) if part in _REGIONS), None)


def read_statements(
    tokens: Sequence[str], phrases: list[Phrase], tail: list[Joint], classes: WordClasses
) -> Statements:
    """Return the statements of a sentence."""
    return _Reader(tokens, _join_organs(_drop_heading(_drop_technique(phrases, tail))), tail, classes).read()


def _drop_heading(phrases: list[Phrase]) -> list[Phrase]:
    """Leave out devices that are a heading: "Lines and tubes: PICC in the SVC" names one device."""
    colon = next((at for at, phrase in enumerate(phrases) if phrase.joined_by("colon")), 0)
    heading = phrases[:colon]
    if (
        heading
        and phrases[colon].has_observation
        and not any(phrase.joined_by("negation", "without") for phrase in heading)
        and all(stem(word.text) in _DEVICE_KINDS for phrase in heading for word in phrase.words)
    ):
        return phrases[colon:]
    return phrases


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
            and (
                (following and following[0].kind == "technique" and following[0].start == phrase.end)
                or [joint.kind for joint in phrase.joints[-2:]]
                == ["technique", "preposition"]  # "AP view of the chest"
            )
            and not phrase.has_observation
        ):
            carried += phrase.joints
            continue
        if carried:
            phrase = Phrase(phrase.words, carried + phrase.joints)
            carried = []
        kept.append(phrase)
    return kept


def _join_organs(phrases: list[Phrase]) -> list[Phrase]:
    """Join a state and an adjective to the organs that the adjective is of: "enlarged hilar or mediastinal lymph nodes"."""
    joined: list[Phrase] = []
    for phrase in phrases:
        before = joined[-1] if joined else None
        if (
            before is not None
            and [joint.kind for joint in phrase.joints] == ["conjunction"]
            and phrase.is_anatomy_only
            and phrase.words[0].text.endswith(_PLACE_ADJECTIVES)
            and stem(phrase.words[-1].text) in _GLANDS
            and before.words[-1].is_anatomy
            and before.words[-1].text.endswith(_PLACE_ADJECTIVES)
            and all(word.is_state or word.is_modifier for word in before.words[:-1])
        ):
            joined[-1] = Phrase([*before.words, *phrase.words], before.joints)
        else:
            joined.append(phrase)
    return joined


def _are_inside(phrase: Phrase, heads: Sequence[Word]) -> bool:
    """Whether the phrase names what an opacity has in itself: "consolidation with air bronchograms"."""
    return (
        phrase.joined_by("with")
        and not phrase.joined_by("negation", "without")
        and all(stem(head.text.split()[-1]) in _INSIDE for head in heads)
    )


def _means_both_things(phrase: Phrase, later: Sequence[Phrase]) -> bool:
    """Whether "both" is said of findings: "atelectasis and effusion, both on the left"."""
    return (
        [word.text for word in phrase.words] == ["both"]
        and bool(later)
        and later[0].is_anatomy_only
        and later[0].joined_by("preposition")
        and not phrase.joined_by("preposition")
    )


@dataclass(slots=True)
class _Clause:
    """A clause while it is read: what it is about, what was said last, and what waits for a word to come."""

    indices: list[int]  # of its phrases
    pronoun: bool  # whether it speaks of the sentence before
    place: int = 0  # which of the phrases is being read
    topics: list[Word] = field(default_factory=list)  # anatomy that the clause is about
    headed: bool = False  # whether the topics are a heading ("Pleura: no effusion or pneumothorax")
    group: list[Word] = field(default_factory=list)  # the coordinated findings or states said last
    group_is_state: bool = False
    located_by_preposition: bool = False
    signs: list[Word] = field(default_factory=list)  # what the findings said last are suggested by
    companions: list[Word] = field(default_factory=list)  # what they are beside ("opacity with adjacent effusion")
    earlier: list[Word] = field(default_factory=list)  # findings before a state, with the same predicate
    spreading: list[Word] = field(default_factory=list)  # a change said of every finding of a list
    unchanged: list[Word] = field(default_factory=list)  # a change said of a structure and of the findings that it has
    waiting_anatomy: list[Word] = field(default_factory=list)  # "hilar or" before "mediastinal adenopathy"
    waiting_levels: list[list[Word]] = field(default_factory=list)  # "left lower and" before "right upper lobe"
    waiting_modifiers: list[Word] = field(default_factory=list)  # "small," before "round nodule"
    waiting_states: list[Word] = field(default_factory=list)  # "normal and" before "stable cardiac silhouette"

    @property
    def later(self) -> list[int]:
        """The phrases after the one that is being read."""
        return self.indices[self.place + 1 :]


def _is_listed(phrase: Phrase) -> bool:
    """Whether the phrase goes on with a list."""
    return all(joint.kind in _LISTING for joint in phrase.joints)


class _Reader:
    def __init__(
        self,
        tokens: Sequence[str],
        phrases: list[Phrase],
        tail: list[Joint],
        classes: WordClasses,
    ) -> None:
        self.tokens = [token.lower() for token in tokens]
        if len(phrases) > 1 and [word.text for word in phrases[0].words] == ["both"] and phrases[1].joined_by("copula"):
            phrases = phrases[1:]  # "Both are unchanged.": a pronoun
        phrases = [phrase for at, phrase in enumerate(phrases) if not _means_both_things(phrase, phrases[at + 1 :])]
        for phrase in phrases:
            for joint in phrase.joints:
                if joint.text == "over" and phrase.has_observation and self._favors(joint.start):
                    joint.kind = "versus"  # "favor atelectasis over pneumonia"
        self.phrases = phrases
        self.tail = tail
        self.classes = classes
        self.out = Statements()
        self.located: dict[int, list[Word]] = {}  # start token of a head → its places
        self.mentioned: set[int] = set()  # start tokens of the words that are mentions
        self.linked: set[tuple[RelationType, int, int]] = set()

    # -- clauses ---------------------------------------------------------------------------------------------------

    def read(self) -> Statements:
        clauses: list[list[int]] = []
        for index in range(len(self.phrases)):
            boundary = self._clause_boundary(index, clauses[-1]) if clauses else 0
            if boundary is not None:
                clauses.append([])
                self.out.clause_starts.append(boundary)
            clauses[-1].append(index)
        topics: list[Word] = []
        for clause in clauses:
            topics = self._read_clause(clause, topics)
        self.out.words.sort(key=lambda word: word.start)
        return self.out

    def _favors(self, end: int) -> bool:
        return any(token.startswith(("favor", "favour")) for token in self.tokens[:end])

    def _clause_boundary(self, index: int, clause: list[int]) -> int | None:
        """Return the token where a new clause begins before this phrase, or None if the phrase belongs to the clause."""
        phrase = self.phrases[index]
        if phrase.words[0].text == "none":
            # "effusion on the left, none on the right"; "right: small, left: none" began with the side
            begun = clause == [index - 1] and self._is_a_side(self.phrases[index - 1])
            return None if begun else phrase.start
        following = self.phrases[index + 1] if index + 1 < len(self.phrases) else None
        if (
            following is not None
            and following.words[0].text == "none"
            and not phrase.joined_by("preposition")
            and self._is_a_side(phrase)
        ):
            return phrase.start
        for joint in reversed(phrase.joints):
            if joint.text == "otherwise" and not phrase.joined_by("comma"):
                continue  # "lungs otherwise clear"
            if joint.text in _CONTRASTING and self._contrasts_adjectives(index, clause):
                continue
            if joint.kind == "existential" and self._fronted(clause) and self._anatomy_only(clause):
                continue  # "In the left base there is an opacity"
            if joint.kind in {"break", "existential"}:
                return joint.end if joint.text.endswith((" by", " with", " for")) else joint.start
        denied = any(joint.kind in {"negation", "without"} for at in clause for joint in self.phrases[at].joints)
        with_joint = next((joint for joint in reversed(phrase.joints) if joint.kind == "with"), None)
        if with_joint is not None and denied and not phrase.joined_by("negation", "without", "preposition"):
            return with_joint.start
        separator = next((joint for joint in reversed(phrase.joints) if joint.kind in {"comma", "conjunction"}), None)
        completed = next((joint for joint in phrase.joints if self._completes(joint)), None)
        if completed is not None and separator is None and index + 1 < len(self.phrases):
            opens = phrase.is_anatomy_only and not phrase.joined_by("preposition")
            if opens and self.phrases[index + 1].joined_by("copula"):
                return completed.end + 1  # "no effusion is seen the heart is enlarged"
        if phrase.joints and separator is None:
            return None
        start = separator.start if separator is not None else phrase.start
        if (
            separator is not None
            and separator.kind == "conjunction"
            and phrase.is_modifier_only
            and self._is_change(phrase.words[-1])
            and index + 1 < len(self.phrases)
            and [joint.text for joint in self.phrases[index + 1].joints][:1] in (["in"], ["of"])
            and any(self.phrases[at].has_observation for at in clause)
        ):
            return start  # "resolution of edema and improvement in atelectasis"
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
                if not located or self._describes(predicate) or predicate.joined_by("colon"):
                    return start
            if (
                predicate is not None
                and not predicate.has_observation
                and self._describes(predicate)
                and not predicate.has_anatomy
                and not predicate.joined_by("preposition")
            ):
                return start
            return None
        if self._tells_again(index, clause, separator):
            return start
        if (
            phrase.words[0].is_anatomy
            and not phrase.has_observation
            and phrase.has_state
            and not phrase.joined_by("negation")
        ):
            return start
        if (
            separator is not None
            and separator.kind == "comma"
            and self._tells_change(phrase)
            and self._tells_change(self.phrases[clause[-1]])
        ):
            return start  # "effusion smaller, edema gone"
        if denied and not phrase.joined_by("negation", "without"):
            first = phrase.words[0]
            if separator is not None and separator.kind == "comma" and self.tokens[separator.end] in _INSTEAD:
                return start  # "no pneumonia, just scarring"
            if first.is_state and first.text in _PLAIN_STATES and phrase.has_anatomy:
                return start
            if (
                phrase.has_observation
                and (separator is not None or not phrase.joints)
                and (
                    self._canonical(first) in _POSITIVE_STARTS
                    or (self._canonical(first) in _SMALL and not self._or_follows(index))
                )
                and not self.phrases[clause[-1]].is_modifier_only
            ):
                return start
            if phrase.has_observation and not phrase.joints and first.entry.side is not None:
                return start  # "no pneumothorax right PICC terminates in the SVC"
            if phrase.has_observation and not phrase.joints and self.tokens[phrase.start - 1] in _COMPLETING:
                return start  # "no pneumothorax seen left effusion is noted"
            if (
                phrase.has_observation
                and completed is not None
                and separator is not None
                and separator.kind == "comma"
                and completed.start < separator.start
            ):
                return start  # "no pneumothorax is seen, a fracture is present"
            if (
                phrase.has_observation
                and separator is not None
                and separator.kind == "comma"
                and self.tokens[separator.start - 1] in _COMPLETING
                and not self._or_follows(index)
            ):
                return start  # "no effusion seen, left hilar calcifications"
            if (
                phrase.has_observation
                and predicate is not None
                and any(
                    joint.kind == "copula" and joint.text in _SINGULAR and not self._completes(joint)
                    for joint in predicate.joints
                )
                and not predicate.joined_by("suggest")
                and not self._alternative(phrase)
            ):
                return start
        return None

    def _is_a_side(self, phrase: Phrase) -> bool:
        return all(word.is_anatomy and self._is_bare_side(word) for word in phrase.words)

    def _contrasts_adjectives(self, index: int, clause: list[int]) -> bool:
        """Whether "but" joins adjectives of one noun ("persistent but smaller effusion") or of one subject ("enlarged but stable")."""
        phrase, before = self.phrases[index], self.phrases[clause[-1]]
        following = self.phrases[index + 1] if index + 1 < len(self.phrases) else None
        if phrase.joined_by("existential", "negation", "without", "comma"):
            return False
        if phrase.is_modifier_only:
            return following is None or following.joined_by("comma", "conjunction", "break")
        return before.is_modifier_only and not before.joined_by("copula") and phrase.words[0].is_modifier

    def _tells_again(self, index: int, clause: list[int], separator: Joint | None) -> bool:
        """Whether a finding with a predicate of its own follows one that had its own.

        "The left effusion has decreased and the right effusion has resolved", "a left effusion remains, and the right has …".
        """
        phrase = self.phrases[index]
        following = self.phrases[index + 1] if index + 1 < len(self.phrases) else None
        if (
            separator is None
            or separator.text not in {"and", ","}
            or not phrase.has_observation
            or phrase.joined_by("preposition", "with", "without", "suggest", "negation")
            or following is None
            or not (following.is_modifier_only or following.has_state)
            or following.has_observation
            or [joint.kind for joint in following.joints] != ["copula"]
        ):
            return False
        remains = any(joint.kind == "copula" and joint.start < separator.start for joint in phrase.joints)
        return remains or any(
            [joint.kind for joint in self.phrases[at].joints] == ["copula"]
            and (self.phrases[at].is_modifier_only or self.phrases[at].has_state)
            for at in clause
        )

    def _tells_change(self, phrase: Phrase) -> bool:
        """Whether a finding and its change make a statement without a verb."""
        return len(phrase.words) > 1 and phrase.words[-2].is_observation and self._is_change(phrase.words[-1])

    def _anatomy_only(self, clause: list[int]) -> bool:
        return all(self.phrases[at].is_anatomy_only for at in clause)

    def _completes(self, joint: Joint) -> bool:
        """Whether the verb ends its statement: "is seen", "are present"."""
        return joint.kind == "copula" and joint.end < len(self.tokens) and self.tokens[joint.end] in _COMPLETING

    @staticmethod
    def _describes(predicate: Phrase) -> bool:
        """Whether the predicate says what a structure is like, and not only how a finding has changed."""
        return any(
            word.is_state and not (word.entry.modifier is not None and word.entry.modifier[0] == "change")
            for word in predicate.words
        )

    def _or_follows(self, index: int) -> bool:
        """Whether the list that the phrase stands in goes on to an "or", as denied lists do."""
        return any(self._alternative(later) for later in self.phrases[index:])

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
    def _is_change(word: Word) -> bool:
        return word.entry.modifier is not None and word.entry.modifier[0] == "change"

    @staticmethod
    def _canonical(word: Word) -> str:
        return word.entry.modifier[1] if word.entry.modifier else word.text

    # -- inside a phrase -------------------------------------------------------------------------------------------

    def _mention(self, word: Word) -> Word:
        if word.start not in self.mentioned:
            self.mentioned.add(word.start)
            self.out.words.append(word)
        return word

    def _link(self, type_: RelationType, source: Word, target: Word) -> None:
        if source is target:
            return
        self._mention(source)
        self._mention(target)
        key = (type_, source.start, target.start)
        if key in self.linked:
            return
        self.linked.add(key)
        self.out.links.append(Link(type_, source, target))
        if type_ == "located_at":
            self.located.setdefault(source.start, []).append(target)

    def _unlink(self, type_: RelationType, source: Word, target: Word) -> None:
        self.linked.discard((type_, source.start, target.start))
        self.out.links = [
            link
            for link in self.out.links
            if not (link.type == type_ and link.source is source and link.target is target)
        ]
        self.located[source.start] = [place for place in self.located.get(source.start, []) if place is not target]

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
        while len(nouns) > 1 and stem(nouns[-1].text) in DEVICE_PARTS - {"port"} and nouns[-2].is_observation:
            nouns.pop()  # "catheter tip": the tip modifies the catheter
        while len(nouns) > 1 and (nouns[-2].text, stem(nouns[-1].text)) in _LED_BY_NAME:
            nouns.pop()
        heads: list[Word] = []
        for position, noun in enumerate(nouns):
            last = position == len(nouns) - 1
            separate = (
                not last
                and stem(noun.text) in self.classes.standalone
                and stem(nouns[position + 1].text) in self.classes.standalone
                and stem(nouns[position + 1].text) not in _GENERAL
                and frozenset((stem(noun.text), stem(nouns[position + 1].text))) not in self.classes.compounds
            )
            if last or separate:
                heads.append(noun)
        for position, word in enumerate(block):
            self._mention(word)
            if any(word is head for head in heads):
                continue
            following = [head for head in heads if head.start > word.start]
            beside = block[position + 1] if position + 1 < len(block) else None
            if beside is not None and self._is_adverb_of(word, beside):
                self._link("modify", word, beside)  # "minimally displaced fracture"
                continue
            self._link("modify", word, following[0] if following else heads[-1])
        return heads

    @staticmethod
    def _is_adverb_of(word: Word, beside: Word) -> bool:
        """Whether the word says how much of what stands beside it ("slightly smaller": not a slight finding)."""
        if beside.text in _CHANGE_NOUNS:
            return word.entry.modifier is not None and word.entry.modifier[0] == "severity"  # "slight increase"
        return word.text.endswith("ly") and not beside.is_observation and not beside.text.endswith("ly")

    def _modify(self, words: Sequence[Word], head: Word) -> None:
        """Let modifiers modify a head, adverbs the modifier that follows them."""
        for position, word in enumerate(words):
            beside = words[position + 1] if position + 1 < len(words) else None
            self._link("modify", word, beside if beside is not None and self._is_adverb_of(word, beside) else head)

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
        self._join_names(heads_of)
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
                self._modify(block, (following or preceding or block)[0 if following else -1])
        return all_heads, anatomy_heads

    def _join_names(self, heads_of: dict[int, list[Word]]) -> None:
        """Join a name that a place stands in the midst of: "consolidative right lower lobe opacity" is one finding."""
        for first, second in pairwise(sorted(heads_of)):
            adjective, noun = heads_of[first][-1], heads_of[second][-1]
            pair = frozenset((stem(adjective.text), stem(noun.text)))
            if pair in self.classes.compounds and (stem(noun.text) in _GENERAL or self._is_device(noun)):
                heads_of[first] = heads_of[second]
                self._link("modify", adjective, noun)

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
                if at == 1 and at + 1 == len(blocks) - 1 and all(word.entry.side is not None for word in blocks[-1][1]):
                    self._link("located_at", state, anatomy_heads[at + 1])  # "lungs clear bilaterally"
        return heads, list(anatomy_heads.values())

    def _state_heads(self, states: Sequence[Word], block: Sequence[Word]) -> list[Word]:
        """The last state of a block is its head; adverbs and modifiers before it modify it ("mildly enlarged").

        Conditions side by side are heads each.
        """
        heads = [state for state in states[:-1] if state.text in _CONDITIONS] + [states[-1]]
        for word in block:
            self._mention(word)
            if not any(word is head for head in heads):
                self._link("modify", word, next((head for head in heads if head.start > word.start), heads[-1]))
        return heads

    # -- from phrase to phrase -------------------------------------------------------------------------------------

    def _read_clause(self, clause: list[int], topics: list[Word]) -> list[Word]:
        """Read a clause; `topics` are those of the clause before it, and what is returned those of this one."""
        now = _Clause(clause, self._speaks_back(clause))
        kinds = [joint.kind for joint in self.phrases[clause[0]].joints]
        if kinds == ["break", "copula"] and not self.phrases[clause[0]].has_anatomy:
            now.topics = list(topics)  # "the heart has decreased in size but remains enlarged"
        for now.place, index in enumerate(clause):
            phrase = self.phrases[index]
            following = self.phrases[clause[now.place + 1]] if now.place + 1 < len(clause) else None
            if phrase.is_anatomy_only:
                self._read_anatomy(now, phrase, following)
            elif phrase.is_modifier_only:
                self._read_modifiers(now, phrase, following)
            elif following is not None and (
                self._shares_noun(phrase, following) or self._shares_devices(phrase, following)
            ):
                self._wait_for_noun(now, phrase)
            else:
                self._read_statement(now, phrase, following)
        self._end_clause(now)
        return now.topics

    def _speaks_back(self, clause: list[int]) -> bool:
        """Whether the clause is said of the sentence before: "It is unchanged.", "Likely atelectasis."

        "Likely nodule at the right apex." has a place of its own.
        """
        first = self.phrases[clause[0]].joints
        elided = (
            bool(first)
            and first[0].kind == "suggest"
            and first[0].text not in _ADJECTIVES_OF_DOUBT
            and not any(self.phrases[index].has_anatomy for index in clause)
        )
        return clause[0] == 0 and (elided or (bool(self.tokens) and self.tokens[0] in _PRONOUNS))

    def _end_clause(self, now: _Clause) -> None:
        """Give what still waits for a word to what was said last."""
        for levels in now.waiting_levels:
            head = self._anatomy_head(levels)
            if now.group and now.located_by_preposition:
                self._locate(now.group, head)
        if now.waiting_modifiers and now.group:
            self._modify(now.waiting_modifiers, now.group[-1])
        elif now.waiting_modifiers and any(not self._is_bare_side(topic) for topic in now.topics):
            head = self._state_heads(now.waiting_modifiers, now.waiting_modifiers)[0]
            for topic in now.topics:
                self._link("located_at", head, topic)

    # -- phrases of anatomy only -----------------------------------------------------------------------------------

    def _read_anatomy(self, now: _Clause, phrase: Phrase, following: Phrase | None) -> None:
        if (
            self._needs_organ(phrase)
            and following is not None
            and following.has_anatomy
            and self._coordinated(following)
            and not (phrase.joined_by("preposition") and now.group and following.has_observation)
        ):
            now.waiting_levels.append(phrase.words)
            if phrase.joined_by("preposition") and now.group:
                now.located_by_preposition = True
            return
        head = self._anatomy_head_with(phrase.words, now.waiting_levels)
        if (
            not phrase.joined_by("preposition")
            and self._before_shared_noun(now.later)
            and not now.located_by_preposition
            and (not now.topics or phrase.joined_by("with", "without", "negation"))
        ):
            now.waiting_anatomy.append(head)
            return
        self._place_anatomy(
            now, phrase, head, followed=following is not None and following.joined_by("copula", "colon")
        )

    def _place_anatomy(self, now: _Clause, phrase: Phrase, head: Word, followed: bool) -> None:
        """Say what an anatomy is to what was said: its place, a part of it, or the next subject (`followed` by a predicate)."""
        listed = _is_listed(phrase)
        by_preposition = phrase.joined_by("preposition")
        if all(word.text in _SHAPES for word in phrase.words) and now.topics and (by_preposition or now.group_is_state):
            self._link("modify", head, now.topics[-1])
        elif now.group_is_state and self._shape_of(phrase, now.topics):
            self._move_states(now, head)  # "normal size of the heart"
        elif now.group and (
            by_preposition
            or (phrase.joined_by("colon") and not now.group_is_state)  # "Consolidation: right lower lobe"
            or all(word.entry.side is not None or word.text.endswith("ally") for word in phrase.words)
        ):
            before = self.tokens[max(phrase.joints[0].start - 2, 0) : phrase.joints[0].start] if phrase.joints else []
            group = now.group
            if self._is_a_side(phrase) and not _COMPARATIVES.isdisjoint(before):
                # "edema and bilateral effusions, larger on the right"
                group = [finding for finding in now.group[-1:] if not self._places_of(finding)]
            if group:
                self._locate(group, head, owned=any(joint.text == "of" for joint in phrase.joints))
            if stem(now.group[-1].text.split()[-1]) in _FEATURES:
                for finding in now.companions:  # "consolidation with air bronchograms in the left base"
                    if not self._places_of(finding):
                        self._link("located_at", finding, head)
            for sign in now.signs:  # "nodule, likely granuloma, in the left apex"
                if not self._places_of(sign) and stem(sign.text) in _SIGNS:
                    self._link("located_at", sign, head)
            now.located_by_preposition = True
        elif now.group_is_state and listed and not followed:
            for state in now.group:  # "normal heart, lungs and mediastinum"
                self._link("located_at", state, head)
        elif by_preposition and now.topics and not now.group:
            # "the base of the left lung": one place
            self._link("modify", now.topics[-1], head)
            now.topics[-1] = head
        elif now.group and now.located_by_preposition and listed:
            self._locate(now.group, head)
        elif now.group and listed and not now.group_is_state and not followed:
            self._locate(now.group[-1:], head)
        elif now.topics and not now.group and listed:
            self._share_shape(phrase, head, now.topics)
            now.topics.append(head)
        else:
            now.topics, now.group = [head], []

    def _share_shape(self, phrase: Phrase, head: Word, topics: Sequence[Word]) -> None:
        """Let "contours" modify both of "mediastinal and hilar contours"."""
        for shape in phrase.words:
            if shape.text in _SHAPES and shape is not head:
                for topic in topics:
                    if topic.text.endswith(_PLACE_ADJECTIVES) and not self._narrowed(topic):
                        self._link("modify", shape, topic)

    @staticmethod
    def _shape_of(phrase: Phrase, topics: Sequence[Word]) -> bool:
        """Whether the phrase says of which organ the size or contour is that a state was said of."""
        return (
            bool(topics)
            and all(topic.text in _SHAPES for topic in topics)
            and bool(phrase.joints)
            and phrase.joints[-1].text == "of"
        )

    def _move_states(self, now: _Clause, organ: Word) -> None:
        """Say of the organ what was said of its shape, which modifies it."""
        for state in now.group:
            for shape in now.topics:
                if ("located_at", state.start, shape.start) in self.linked:
                    self._unlink("located_at", state, shape)
                    self._link("located_at", state, organ)
        for shape in now.topics:
            self._link("modify", shape, organ)
        now.topics = [organ]

    # -- phrases of modifiers only ---------------------------------------------------------------------------------

    def _read_modifiers(self, now: _Clause, phrase: Phrase, following: Phrase | None) -> None:
        if following is not None and self._shared_modifier(phrase, following):
            now.waiting_modifiers += phrase.words
            following.joints = phrase.joints + following.joints
            return
        if (
            now.group_is_state
            and now.topics
            and all(word.text in _CONDITIONS for word in phrase.words)
            and self._goes_on_as_predicate(now, phrase)
        ):
            self._read_statement(now, phrase, following)  # "the aorta is tortuous and calcified"
            return
        if not now.group and not now.topics and following is not None and self._is_side_of(following):
            self._state_heads(phrase.words, phrase.words)  # "no effusion on the left; trace on the right"
            now.group = [phrase.words[-1]]
            return
        if (
            following is None
            and phrase.joined_by("negation")
            and [word.text for word in phrase.words] == ["acute"]
            and not now.group
            and not now.topics
        ):
            now.group = [self._mention(phrase.words[0])]  # "Nothing acute."
            return
        if phrase.joined_by("copula"):
            for finding in now.earlier:
                self._modify(phrase.words, finding)
        self._modifier_phrase(phrase, following, now.topics, now.group, now.waiting_modifiers, now.pronoun)
        if not now.group and now.topics and phrase.joined_by("copula", "colon"):
            head = self._state_heads(phrase.words, phrase.words)[0]
            for topic in now.topics:
                self._link("located_at", head, topic)
            now.group, now.group_is_state = [head], True
        elif not now.group and now.pronoun and phrase.joined_by("copula"):
            self.out.back_modifiers += [self._mention(word) for word in phrase.words]

    @staticmethod
    def _is_side_of(following: Phrase) -> bool:
        """Whether a side follows, and no more: "on the right"."""
        return following.joined_by("preposition") and all(
            word.is_anatomy and word.entry.side is not None for word in following.words
        )

    def _wait_for_noun(self, now: _Clause, phrase: Phrase) -> None:
        """Keep a side and its adjectives for the noun to come."""
        sides = [word for word in phrase.words if word.is_anatomy]
        now.waiting_modifiers += [word for word in phrase.words if not word.is_anatomy]
        if any(word.text in _LEVELS for word in sides):
            now.waiting_levels.append(sides)
        elif sides:
            now.waiting_anatomy.append(self._anatomy_head(sides))

    # -- phrases with states or findings ---------------------------------------------------------------------------

    def _read_statement(self, now: _Clause, phrase: Phrase, following: Phrase | None) -> None:
        now.headed = now.headed or (phrase.joined_by("colon") and bool(now.topics))
        for levels in now.waiting_levels:
            organ = self._first_organ(phrase)
            for word in levels:
                if organ is not None:
                    self._link("modify", word, organ)
        now.waiting_levels.clear()
        if self._read_place_of_group(now, phrase) or self._read_shape_of_topics(now, phrase):
            return
        heads, places = self._inside(phrase)
        self._add_what_waited(now, phrase, heads)
        if phrase.has_observation:
            self._read_findings(now, phrase, following, heads, places)
        else:
            self._read_states(now, phrase, following, heads, places)

    def _read_place_of_group(self, now: _Clause, phrase: Phrase) -> bool:
        """Read a place of the findings before, with modifiers, if the phrase is one: "opacity in the left base unchanged"."""
        if not (
            now.group
            and not now.group_is_state
            and self._place_with_modifiers(phrase, of_device=self._is_device(now.group[-1]))
        ):
            return False
        self._locate(now.group, self._anatomy_head([word for word in phrase.words if word.is_anatomy]))
        said = [word for word in phrase.words if not word.is_anatomy and word.text not in _HEIGHTS]
        self._modify(said, now.group[-1])
        now.located_by_preposition = True
        return True

    def _read_shape_of_topics(self, now: _Clause, phrase: Phrase) -> bool:
        """Read what shape the topics have, if that is what the phrase says: "heart and mediastinum of normal size and contour"."""
        if not now.topics or now.group or phrase.has_observation or not self._describes_shape(phrase):
            return False
        for state in self._state_heads([word for word in phrase.words if word.is_state], phrase.words):
            for topic in now.topics:
                self._link("located_at", state, topic)
            now.group.append(state)
        now.group_is_state = True
        return True

    def _add_what_waited(self, now: _Clause, phrase: Phrase, heads: list[Word]) -> None:
        """Link modifiers and places that waited for a noun to the heads of the phrase, and the changes that spread over a list."""
        denies = phrase.joined_by("negation", "without")
        if not _is_listed(phrase) or not now.group or denies:
            now.spreading = []  # "placement of a catheter, and no pneumothorax"
        if phrase.joints and phrase.joints[0].text in {"of", "in"}:
            now.spreading = [
                word
                for word in now.waiting_modifiers
                if word.entry.modifier is not None and word.entry.modifier[0] == "change"
            ]
        elif now.spreading and phrase.has_observation:
            # "removal of the tube and the catheter", "no new effusion, edema or fracture"
            now.waiting_modifiers += now.spreading
        if denies:
            first = phrase.words[0]
            now.spreading = [first] if self._canonical(first) == "new" and phrase.has_observation else []
        self._modify(now.waiting_modifiers, heads[0])
        now.waiting_modifiers.clear()
        for anatomy in now.waiting_anatomy:
            for head in heads:
                self._link("located_at", head, anatomy)
        now.waiting_anatomy.clear()

    def _read_states(
        self, now: _Clause, phrase: Phrase, following: Phrase | None, heads: list[Word], places: list[Word]
    ) -> None:
        """Read what structures are like: "enlarged heart", "is normal"."""
        listed = _is_listed(phrase)
        if not places and following is not None and not now.group and not now.topics and self._shares_state(following):
            now.waiting_states += heads
            return
        if places and now.waiting_states:
            for state in now.waiting_states:
                for anatomy in places:
                    self._link("located_at", state, anatomy)
            heads = now.waiting_states + heads
            now.waiting_states = []
        if not places:
            joined = phrase.joined_by("copula", "comma") or self._goes_on_as_predicate(now, phrase)
            if now.group and not now.group_is_state and joined and not now.topics:
                for state in heads:
                    for finding in now.group:
                        self._link("modify", state, finding)
                return
            self._say_of_topics(now, heads)
            if not now.topics and now.pronoun and phrase.joined_by("copula"):
                self.out.back_modifiers += heads
        elif now.topics and (
            phrase.joined_by("copula")
            # "Airways: midline trachea" is of the trachea
            or (phrase.joined_by("colon") and all(place.entry.anatomy == 1 for place in places))
            # "heart and mediastinal contours within normal limits"
            or (listed and not now.group and phrase.words[0].is_anatomy)
        ):
            self._say_of_topics(now, heads)
        else:
            now.topics = places
        if (
            places
            and now.group
            and not now.group_is_state
            and phrase.joined_by("suggest")
            and not any(joint.text.endswith(_CAUSES) for joint in phrase.joints)
        ):
            for sign in now.group:  # "prominence may reflect ectatic vessels or adenopathy"
                for state in heads:
                    self._link("suggestive_of", sign, state)
            now.signs, now.group, now.group_is_state = now.group, heads, False
            now.located_by_preposition = False
            return
        now.earlier = now.group if listed and not now.group_is_state else []
        now.group, now.group_is_state = heads, True
        now.located_by_preposition = False

    def _goes_on_as_predicate(self, now: _Clause, phrase: Phrase) -> bool:
        """Whether a second predicate follows by "and": "wires are midline and intact"."""
        before = self.phrases[now.indices[now.place - 1]]
        return (
            now.place > 0
            and [joint.text for joint in phrase.joints] == ["and"]
            and before.joined_by("copula")
            and not (before.has_observation or before.has_anatomy)
        )

    def _say_of_topics(self, now: _Clause, states: Sequence[Word]) -> None:
        for state in states:
            for topic in now.topics:
                self._link("located_at", state, topic)

    def _read_findings(
        self, now: _Clause, phrase: Phrase, following: Phrase | None, heads: list[Word], places: list[Word]
    ) -> None:
        """Read findings and devices: what suggests them, where they are, and whether they go on with a list."""
        part = self._device_part(now.group, phrase) or self._device_part(heads, phrase, of_group=now.group)
        if part is not None:
            for word, whole in part:
                self._link("modify", word, whole)
            now.group, now.group_is_state = [part[-1][0]], False  # the tip lies where the sentence goes on to
            now.located_by_preposition = False
            return
        if now.group and not now.group_is_state and self._spelled_out(now.group, phrase, heads):
            for head in now.group:
                self._link("modify", head, heads[-1])
            now.group = heads
            return
        before = now.group
        if (self._beside(phrase) or _are_inside(phrase, heads)) and not now.group_is_state:
            self._give_sides_beside(now.group, heads)
        suggested = self._read_suggestion(now, phrase, following, heads)
        self._spread_unchanged(now, phrase, heads)
        self._alternatives(phrase, before if phrase.joined_by("versus") else now.group, heads)
        self._place_at_topics(now, phrase, heads)
        if suggested or not _is_listed(phrase):
            now.companions = []
        if (
            now.group
            and not now.group_is_state
            and not suggested
            and (self._beside(phrase) or _are_inside(phrase, heads))
        ):
            self._carry_place(now.group, heads, alternative=False, denied=False)
        if (
            now.group
            and not now.group_is_state
            and not suggested
            and phrase.joined_by("with")
            and not phrase.joined_by("negation")
        ):
            now.companions = now.group
        if now.group_is_state and phrase.joints and phrase.joints[0].text == "by":
            for topic in now.topics:  # "hemidiaphragm obscured by effusion"
                self._give_sides(self._sides_of(topic), [head for head in heads if self._may_have_side(head)])
        placed = self._placed_after(now.later)
        if now.group and not places and not placed:
            self._carry_spine(now.group[-1], phrase, heads)
        if now.group and _is_listed(phrase) and not now.group_is_state and not suggested:
            self._carry_over_list(now, phrase, heads, placed)
            now.group = now.group + heads
        elif suggested and not _is_listed(phrase) and phrase.joined_by("versus"):
            now.group = now.group + heads
        else:
            now.group = heads
        now.group_is_state = False
        now.located_by_preposition = False

    def _read_suggestion(self, now: _Clause, phrase: Phrase, following: Phrase | None, heads: list[Word]) -> bool:
        """Link the signs of what the phrase names; return whether it is suggested, and no further item of a list."""
        suggested = bool(now.group) and (
            (self._suggests(phrase, now.group, now.group_is_state) and not self._new_item(phrase))
            or (not now.group_is_state and self._explains(phrase, following, now.group))
        )
        again = suggested and bool(now.signs) and self._second_likelihood(phrase)
        if suggested and not again:
            now.signs = now.companions + now.group
        elif not again and not (_is_listed(phrase) and now.group and not now.group_is_state):
            now.signs = []
        for finding in now.signs:
            for head in heads:
                self._link("suggestive_of", finding, head)
        if suggested:
            now.group = []
        elif now.pronoun and not now.group and phrase.joined_by("suggest"):
            self.out.back_suggestions += heads
        return suggested

    def _spread_unchanged(self, now: _Clause, phrase: Phrase, heads: list[Word]) -> None:
        """Say of findings what was said of the structure that has them: "stable silhouette with cardiomegaly and tortuous aorta"."""
        if now.group_is_state and phrase.joined_by("with") and not phrase.joined_by("negation"):
            now.unchanged = [
                state
                for state in now.group
                if state.entry.modifier is not None and state.entry.modifier[1] in _UNCHANGED
            ]
        elif not _is_listed(phrase) or now.group_is_state or phrase.joined_by("negation"):
            now.unchanged = []
        for state in now.unchanged:
            for head in heads:
                self._link("modify", state, head)

    def _place_at_topics(self, now: _Clause, phrase: Phrase, heads: list[Word]) -> None:
        """Put findings where the clause said first: "left lung: opacity", "lungs show nodules"."""
        has = any(joint.text in _HAVING for joint in phrase.joints)
        if (now.group_is_state and not has) or not (
            phrase.joined_by("copula", "colon", "with", "without", "existential")
            or (_is_listed(phrase) and (not now.group or now.headed))
            or self._fronted(now.indices)
        ):
            return
        for head in heads:
            bare = all(place.text.endswith("ly") for place in self._places_of(head))  # "dislocated anteriorly"
            for topic in now.topics:
                if bare:
                    self._link("located_at", head, topic)
                else:
                    self._give_sides(self._sides_of(topic), [head])

    def _carry_spine(self, finding: Word, phrase: Phrase, heads: list[Word]) -> None:
        """Put what a curve of the spine comes with at the same part of it: "curvature of the lumbar spine with degenerative change"."""
        if all(joint.kind in {"with", "placeholder"} for joint in phrase.joints):
            for spine in self._places_of(finding):
                if stem(spine.text) == "spine":
                    for head in heads:
                        self._link("located_at", head, spine)

    def _carry_over_list(self, now: _Clause, phrase: Phrase, heads: list[Word], placed: bool) -> None:
        """Carry places, sides and modifiers of a list to its next finding (`placed`: a place of its own follows)."""
        denied = self._denied(now.indices, now.indices[now.place])
        if phrase.joined_by("negation", "without"):
            return  # "left effusion and no pneumothorax"
        if not phrase.joined_by("conjunction", "versus") and (denied or not self._and_ends_list(now.later)):
            return
        alternative = phrase.joined_by("versus") or self._alternative(phrase)
        carried = [head for head in heads if not placed or stem(head.text) == "thickening"]
        self._carry_place(now.group, carried, alternative, denied)
        if alternative and phrase.words[0].is_observation:
            self._carry_modifiers(now.group[-1], heads, denied)

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
            measured = all(word.measurement for word in phrase.words)
            for finding in group if said_of and not measured else group[-1:]:
                self._modify(phrase.words, finding)
        elif following is not None and not said_of and not pronoun and (not topics or phrase.joined_by("existential")):
            waiting += phrase.words
        elif not topics and not pronoun:
            for word in phrase.words:
                if self._is_change(word):
                    self._mention(word)  # "There is no relevant change."

    @staticmethod
    def _suggests(phrase: Phrase, group: Sequence[Word], group_is_state: bool) -> bool:
        """Whether the findings before the phrase are signs of what it names."""
        if phrase.joined_by("suggest"):
            return not group_is_state or not all(
                word.text in _PLAIN_STATES or (word.is_modifier and not word.is_state) for word in group
            )
        if all(joint.text in _IDENTITY for joint in phrase.joints):  # "the opacities are atelectasis"
            return (
                bool(phrase.joints)
                and stem(group[-1].text) in _SIGNS
                and not any(stem(word.text) in _SIGNS | _GENERAL for word in phrase.words)
            )
        if phrase.joined_by("doubt"):  # "bibasilar opacities, cannot exclude pneumonia"
            return stem(group[-1].text) in _SIGNS
        # A word removed by de-identification between a sign and a diagnosis.
        return (
            phrase.joined_by("placeholder")
            and not phrase.joined_by("versus")
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
            and any(word.is_observation and stem(word.text) not in _SIGNS | _GENERAL for word in phrase.words)
            and (following.joined_by("versus") or self._alternative(following))
            and not any(other.joined_by("negation", "without") for other in self.phrases if other.start <= phrase.start)
        )

    def _device_part(
        self, group: Sequence[Word], phrase: Phrase, of_group: Sequence[Word] | None = None
    ) -> list[tuple[Word, Word]] | None:
        """Return which part modifies which device: "tip *of* the catheter", "tube *with* tip", "tube, tip in"."""
        if of_group is None:
            parts = [word for word in group if stem(word.text) in DEVICE_PARTS]
            wholes = [word for word in phrase.words if word.is_observation and stem(word.text) not in DEVICE_PARTS]
            if parts and len(parts) == len(group) and wholes and any(joint.text == "of" for joint in phrase.joints):
                return [(part, wholes[-1]) for part in parts]
            return None
        if any(word.text in _SATISFACTORY for word in phrase.words):
            return None  # "in satisfactory position" is a statement of its own
        parts = [word for word in group if stem(word.text) in DEVICE_PARTS]
        if parts and len(parts) == len(group) and of_group and stem(of_group[-1].text) not in DEVICE_PARTS:
            return [(part, of_group[-1]) for part in parts]
        return None

    def _spelled_out(self, group: Sequence[Word], phrase: Phrase, heads: Sequence[Word]) -> bool:
        """Whether the phrase says what the finding before is of: "postsurgical changes of CABG", "fracture of the wire"."""
        said = phrase.joints[0] if phrase.joints else None
        if said is None or len(group) != 1 or any(place.entry.anatomy == 2 for place in self._places_of(group[0])):
            return False
        if stem(group[0].text) == "fracture":
            return said.text == "of" and self._is_device(heads[-1])
        if stem(group[0].text) != "change":
            return False
        operated = any(
            link.target is group[0]
            and link.type == "modify"
            and link.source.entry.modifier == ("temporal", "postoperative")
            for link in self.out.links
        )
        return said.text == "of" or (operated and said.text in _SPELLING_OUT)

    @staticmethod
    def _new_item(phrase: Phrase) -> bool:
        """Whether the phrase opens another item of a list rather than an explanation ("and probable effusion")."""
        kinds = [joint.kind for joint in phrase.joints]
        if phrase.joints[-1].text in _COMPARED:
            return False  # "likely atelectasis and less likely aspiration"
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

    def _and_ends_list(self, later: Sequence[int]) -> bool:
        """Whether the list of findings goes on by commas to an "and": "effusion, consolidation, and volume loss"."""
        for at in later:
            following = self.phrases[at]
            if not self._coordinated(following) or not following.has_observation:
                return False
            if following.joined_by("conjunction"):
                return True
        return False

    def _before_shared_noun(self, later: Sequence[int]) -> bool:
        """Whether the noun of a list of organs follows: "rib, clavicle or sternal fracture"."""
        for at in later:
            following = self.phrases[at]
            if not self._coordinated(following) or not following.words[0].is_anatomy:
                return False
            if not following.is_anatomy_only:
                return following.has_observation
        return False

    @staticmethod
    def _shares_noun(phrase: Phrase, following: Phrase) -> bool:
        """Whether a side and its adjectives wait for the noun after "and": "moderate right and small left effusions"."""
        anatomy = [word for word in phrase.words if word.is_anatomy]
        if (
            phrase.words[0].is_modifier
            and not phrase.has_observation
            and phrase.words[-1].text.endswith(_PLACE_ADJECTIVES)
            and following.words[0].text.endswith(_PLACE_ADJECTIVES)
            and following.words[0].is_anatomy
            and following.has_observation
            and [joint.kind for joint in following.joints] == ["conjunction"]
            and all(word.is_anatomy or word.is_modifier for word in phrase.words)
        ):
            return True  # "mild biapical pleural and parenchymal scarring"
        return (
            bool(anatomy)
            and all(word.entry.side is not None or (word.text in _LEVELS and following.has_anatomy) for word in anatomy)
            and any(word.entry.side is not None for word in anatomy)
            and all(word.is_anatomy or word.is_modifier for word in phrase.words)
            and following.has_observation
            and bool(following.joints)
            and all(joint.kind == "conjunction" for joint in following.joints)
        )

    def _shares_devices(self, phrase: Phrase, following: Phrase) -> bool:
        """Whether "monitoring and support devices" are meant."""
        return (
            phrase.words[-1].text == "monitoring"
            and all(word.is_modifier for word in phrase.words[:-1])
            and [joint.kind for joint in following.joints] == ["conjunction"]
            and self._is_device(following.words[-1])
        )

    @staticmethod
    def _describes_shape(phrase: Phrase) -> bool:
        """Whether the phrase is a state with a word for size or shape, said of what was named before: "of normal size"."""
        anatomy = [word for word in phrase.words if word.is_anatomy]
        return (
            bool(anatomy)
            and all(word.text in _SHAPES for word in anatomy)
            and phrase.words[0].is_state
            and any(joint.text in {"of", "with", "in"} for joint in phrase.joints)
        )

    def _is_device(self, word: Word) -> bool:
        return stem(word.text.split()[-1]) in self.classes.devices

    @staticmethod
    def _place_with_modifiers(phrase: Phrase, of_device: bool) -> bool:
        """Whether modifiers of the finding stand beside its place: "opacity in the left base unchanged", "fractures of multiple ribs"."""
        first = next((word.start for word in phrase.words if word.is_anatomy), None)
        if first is not None and any(joint.text in _VALUE_MARKS for joint in phrase.joints):
            # "Pleural effusion: small left"
            return all(word.is_anatomy or word.measurement or word.is_modifier for word in phrase.words)
        return (
            first is not None
            and phrase.joined_by("preposition")
            and all(
                word.is_anatomy
                or word.measurement
                or (of_device and word.text in _HEIGHTS and word.start < first)
                or (word.text in _WHOLE and word.start < first)
                or (
                    word.entry.modifier is not None
                    and not word.is_observation
                    and word.entry.modifier[0]
                    in (("number",) if word.start < first else ("change", "severity", "extent"))
                )
                for word in phrase.words
            )
        )

    @staticmethod
    def _second_likelihood(phrase: Phrase) -> bool:
        """Whether the phrase is another thing that the same sign may be: ", less likely pneumonia", "?infection"."""
        return all(joint.kind in {"comma", "conjunction"} or joint.text in _LIKELIHOODS for joint in phrase.joints)

    def _beside(self, phrase: Phrase) -> bool:
        """Whether the phrase names what is where the finding before is: "with adjacent atelectasis"."""
        joint = next((joint for joint in phrase.joints if joint.kind in {"with", "conjunction"}), None)
        head = next((word.start for word in phrase.words if word.is_observation), phrase.end)
        return joint is not None and not _BESIDE.isdisjoint(self.tokens[joint.start : head])

    @staticmethod
    def _needs_organ(phrase: Phrase) -> bool:
        """Whether the words are sides and levels only; apical, basilar and bibasilar name a place by themselves."""
        return all(
            (word.entry.side is not None or word.text in _LEVELS) and not stem(word.text).endswith(_PLACE_ENDINGS)
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

    def _sides_of(self, place: Word) -> list[Word]:
        """Return the words that say the side of a place, the place itself if it is no more than a side."""
        if place.entry.side is not None:
            return [place] if self._is_bare_side(place) else []
        return [link.source for link in self.out.links if link.target is place and self._is_bare_side(link.source)]

    @staticmethod
    def _is_bare_side(word: Word) -> bool:
        """Whether the word says a side and no more; apical, basilar and bibasilar name a place by themselves."""
        return word.entry.side is not None and not stem(word.text).endswith(_PLACE_ENDINGS)

    def _narrowed(self, place: Word) -> bool:
        """Whether other words say which part of it is meant: "left lung", "LLL airspace"."""
        return any(link.type == "modify" and link.target is place for link in self.out.links)

    def _has_side(self, head: Word) -> bool:
        return any(self._sides_of(place) for place in self._places_of(head))

    def _give_sides(self, sides: Sequence[Word], heads: Sequence[Word]) -> None:
        """Say sides of findings at places of which there are two, and that have no side yet."""
        for head in heads:
            places = self._places_of(head)
            if not self._has_side(head) and all(
                stem(place.text) in self.classes.sided or stem(place.text) == "volume"  # of a volume loss
                for place in places
            ):
                for side in sides:
                    self._link("located_at", head, side)

    def _give_sides_beside(self, group: Sequence[Word], heads: Sequence[Word]) -> None:
        """Give the sides of findings to what is beside them: "elevation of the right hemidiaphragm with overlying atelectasis"."""
        for finding in group:
            for place in self._places_of(finding):
                self._give_sides(self._sides_of(place), [head for head in heads if self._may_have_side(head)])

    def _locate(self, group: Sequence[Word], place: Word, owned: bool = False) -> None:
        """Put the findings of a list at a place: the last of them, and those that have none but tissue ("airspace").

        A side alone ("effusion and thickening on the left") is also of those that have a place without side. A place `owned`
        by the last ("consolidation or elevation of the diaphragm") is of others of its region only.
        """
        before = [head for head in group[:-1] if not self._sides_of(place) or self._may_have_side(head)]
        if before and self._is_device(group[-1]) and self._listed_by_comma(before[-1], group[-1]):
            before = []  # "tracheostomy tube in place, PICC in the axillary vein": each device has a place of its own
        if owned:
            region = self.classes.region_of_place.get(stem(place.text))
            before = [head for head in before if region is None or self._of_region(head, region)]
        bare = [
            head
            for head in before
            if all(
                stem(other.text) in _TISSUES | {"volume"} and not self._narrowed(other)
                for other in self._places_of(head)
            )
        ]
        for head in [*bare, group[-1]]:
            self._link("located_at", head, place)
        if self._is_bare_side(place):
            self._give_sides([place], before)

    def _listed_by_comma(self, one: Word, other: Word) -> bool:
        between = self.tokens[one.end : other.start]
        return "," in between and "and" not in between

    def _of_region(self, head: Word, region: str) -> bool:
        return stem(head.text) == "change" or self.classes.region_of_finding.get(stem(head.text)) == region

    def _may_have_side(self, head: Word) -> bool:
        return stem(head.text) not in self.classes.midline

    def _placed_after(self, later: Sequence[int]) -> bool:
        """Whether a place of its own follows the finding, modifiers between ("nodule measuring 2 cm at the base")."""
        after = next((self.phrases[at] for at in later if not self.phrases[at].is_modifier_only), None)
        return after is not None and after.is_anatomy_only and after.joined_by("preposition")

    def _denied(self, clause: list[int], index: int) -> bool:
        return any(self.phrases[at].joined_by("negation", "without") for at in clause if at <= index)

    def _carry_place(self, group: Iterable[Word], heads: Sequence[Word], alternative: bool, denied: bool) -> None:
        """Carry the lung place of a finding of a list to the next ("left basilar atelectasis and infiltrate").

        Of another place ("left pleural effusion and atelectasis"), in a denial ("no hilar fullness or consolidation") and to findings that have a place of their own or to those
        outside the lung, only the side is carried; to findings in the midline and, but for alternatives, to devices nothing.
        """
        heads = [head for head in heads if self._may_have_side(head) and (alternative or not self._is_device(head))]
        placed = [head for head in group if self._places_of(head)]
        if not placed:
            return
        sided = [head for head in placed if self._has_side(head)]
        source = (sided or placed)[-1] if alternative else placed[0]
        for place in self._places_of(source):
            if place.start > source.start or (stem(place.text) in _WHOLE_LUNG and not self._narrowed(place)):
                continue
            of_lung = not denied and (place.entry.anatomy == 1 or stem(place.text) in _LUNG_PLACES)
            for head in heads:
                if (of_lung or stem(head.text) == "thickening") and not self._places_of(head):
                    self._link("located_at", head, place)
                else:
                    self._give_sides(self._sides_of(place), [head])

    @staticmethod
    def _alternative(phrase: Phrase) -> bool:
        return any(joint.kind == "conjunction" and joint.text in {"or", "and / or", "/"} for joint in phrase.joints)

    def _carry_modifiers(self, first: Word, heads: Sequence[Word], denied: bool) -> None:
        """What is one thing or another has the modifiers of the first: "minimal scarring or atelectasis".

        In a denial it has only the change: "no new infiltrate or effusion", but "no large effusion or pneumothorax".
        """
        carried = [
            link.source
            for link in self.out.links
            if link.type == "modify"
            and link.target is first
            and link.source.is_modifier
            and (not denied or (link.source.entry.modifier is not None and link.source.entry.modifier[0] == "change"))
        ]
        for word in carried:
            for head in heads:
                if word.start < first.start:
                    self._link("modify", word, head)

    def _fronted(self, clause: list[int]) -> bool:
        """Whether the place came first, after a preposition: "In the left base, an opacity"."""
        first = self.phrases[clause[0]]
        return first.is_anatomy_only and first.joined_by("preposition")

    @staticmethod
    def _is_or(joint: Joint, one: Word, other: Word) -> bool:
        """Whether the joint leaves open which of two it is; a stroke does between findings that look alike ("atelectasis/scar")."""
        if joint.text == "/":
            return stem(one.text) != stem(other.text) and {stem(one.text), stem(other.text)} <= _LOOK_ALIKES
        return joint.text in {"or", "and / or"}

    def _alternatives(self, phrase: Phrase, group: Sequence[Word], heads: Sequence[Word]) -> None:
        if not group:
            return
        if phrase.joined_by("versus"):
            self.out.alternatives += [group[-1], *heads]
        elif any(joint.kind == "conjunction" and self._is_or(joint, group[-1], heads[0]) for joint in phrase.joints):
            self.out.or_pairs += [(group[-1], head) for head in heads]
