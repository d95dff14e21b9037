"""Cut a sentence into phrases: runs of mention words, and the words that join one run to the next.

"Patchy opacity in the left lower lobe may represent pneumonia" becomes the phrases [Patchy opacity], [left lower lobe] and
[pneumonia], joined by *in* (a preposition) and *may represent* (a suggestion).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from graphprep.lexicon import Entry, Lexicon
from graphprep.words import PLACEHOLDER

# Numbers that count ribs and vertebrae ("5th", "T8", "L1") or list them; they never end a phrase.
_NUMBER = re.compile(r"\d+(st|nd|rd|th)?|[ctls]\d{1,2}|\d+s?")
_UNITS = frozenset("cm mm centimeter centimeters millimeter millimeters cms mms".split())
_FORMERLY = frozenset(("previously", "formerly", "originally"))
_OPEN_ADJECTIVES = frozenset(("pulmonary", "thoracic"))
_INDEFINITE = frozenset(("a", "an"))
_DETERMINERS = frozenset(("the", "a", "an"))
_COMPLETING = frozenset("seen identified noted demonstrated visualized visualised detected".split())
# How adjectives end; one that no vocabulary knows ("granular") may stand in a noun phrase.
_ADJECTIVE_ENDINGS = (
    "al",
    "ar",
    "ic",
    "ive",
    "ous",
    "ent",
    "ant",
    "ary",
    "ory",
    "oid",
    "able",
    "ible",
    "like",
    "ed",
    "ish",
)
_PLAIN_STATES = frozenset(("clear", "normal", "unremarkable", "intact"))
_CENTRAL = frozenset(("central", "centrally"))  # "trachea central"
_OF_DEVICES = frozenset(("position", "placement", "tip"))  # they say something of the device that follows
_WEAK_HEADS = frozenset("finding findings".split())
_WEAK_HEAD_CUES = frozenset("acute active abnormal significant acutely".split())


@dataclass(slots=True)
class Word:
    """A mention-to-be: tokens `start` (inclusive) to `end` (exclusive) of the sentence."""

    start: int
    end: int
    text: str
    entry: Entry
    measurement: bool = False

    @property
    def is_anatomy(self) -> bool:
        return self.entry.anatomy > 0

    @property
    def is_observation(self) -> bool:
        return self.entry.observation

    @property
    def is_state(self) -> bool:
        return self.entry.state and not self.entry.anatomy

    @property
    def is_modifier(self) -> bool:
        return self.entry.modifier is not None and not self.entry.anatomy and not self.entry.observation


@dataclass(slots=True)
class Joint:
    """A connector between phrases: its kind (a key of `connectors` in the lexicon), its words and tokens."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(slots=True)
class Phrase:
    """A run of mention words, and the joints between the phrase before it and this one."""

    words: list[Word]
    joints: list[Joint] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return self.words[-1].end

    def joined_by(self, *kinds: str) -> bool:
        return any(joint.kind in kinds for joint in self.joints)

    @property
    def has_observation(self) -> bool:
        return any(word.is_observation for word in self.words)

    @property
    def has_state(self) -> bool:
        return any(word.is_state for word in self.words)

    @property
    def has_anatomy(self) -> bool:
        return any(word.is_anatomy for word in self.words)

    @property
    def is_anatomy_only(self) -> bool:
        return all(word.is_anatomy for word in self.words)

    @property
    def is_modifier_only(self) -> bool:
        return all(word.is_modifier or word.measurement for word in self.words)


class PhraseCutter:
    """Cuts the tokens of a sentence into phrases with the words of a lexicon."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._lexicon = lexicon

    def __call__(self, tokens: Sequence[str]) -> tuple[list[Phrase], list[Joint]]:
        """Return the phrases of a sentence and the joints after the last of them."""
        lower = [token.lower() for token in tokens]
        phrases: list[Phrase] = []
        words: list[Word] = []
        joints: list[Joint] = []

        def close() -> None:
            nonlocal words, joints
            if words:
                phrases.append(Phrase(words, joints))
                words, joints = [], []

        at = 0
        while at < len(lower):
            length = self._measurement(lower, at)
            if length and at and lower[at - 1] in _FORMERLY:
                at += length  # what it measured is no property of it now
                continue
            if length:
                words.append(
                    Word(at, at + length, " ".join(lower[at : at + length]), Entry(modifier=("measurement", "")), True)
                )
                at += length
                continue
            kind, joint_length = self._lexicon.connector(lower, at)
            length, entry = self._lexicon.match(lower, at)
            if self._stands_for_noun(lower, at, words):
                if lower[at] == "none":
                    close()
                words.append(Word(at, at + 1, lower[at], Entry(observation=True)))
                at += 1
                continue
            if kind is not None and (entry is None or joint_length >= length):
                close()
                joints.append(Joint(kind, " ".join(lower[at : at + joint_length]), at, at + joint_length))
                at += joint_length
                continue
            text = " ".join(lower[at : at + length])
            if text in _CENTRAL and self._says_where(lower, at):
                entry = Entry(state=True)
            if entry is not None and text in _WEAK_HEADS and any(self._cues_weak_head(word) for word in words):
                entry = Entry(observation=True)
            if (
                entry is not None
                and entry.filler
                and not (entry.anatomy or entry.modifier or entry.state or entry.observation)
            ):
                # A determiner after a noun begins another phrase, also where the dictation has no stop.
                if (
                    text in _DETERMINERS
                    and words
                    and (words[-1].is_anatomy or words[-1].is_observation or (words[-1].is_state and joints))
                ):
                    close()
                elif (
                    text in _COMPLETING and words and words[-1].is_observation and self._finding_follows(lower, at + 1)
                ):
                    close()  # "pneumothorax seen left effusion"
            elif entry is not None and entry.state and not words and self._describes_unknown(lower, at, length):
                joints.append(Joint("other", text, at, at + length))  # "appears to be a normal orientation"
            elif entry is not None:
                if self._told(words) and entry.anatomy == 2 and self._is_described(lower, at + length):
                    close()  # "pneumothorax heart size is normal", "effusion unchanged heart is enlarged"
                elif (
                    words
                    and words[-1].is_observation
                    and (
                        (self._opens(entry) and self._finding_follows(lower, at + length))
                        or (
                            entry.side is not None
                            and words[-1].text not in _OF_DEVICES
                            and not words[-1].text.endswith(_ADJECTIVE_ENDINGS)
                            and self._finding_follows(lower, at + length)
                        )
                    )
                ):
                    close()  # dictated without a stop: "pneumothorax stable cardiomegaly"
                words.append(Word(at, at + length, text, entry))
            elif _NUMBER.fullmatch(lower[at]):
                pass
            elif PLACEHOLDER.fullmatch(lower[at]):
                # The removed noun of "pulmonary ___" may be the vessels or the tissue; the linker gives it no concept.
                if words and words[-1].text in _OPEN_ADJECTIVES and not self._noun_phrase_goes_on(lower, at + length):
                    words[-1] = Word(words[-1].start, at + 1, f"{words[-1].text} {text}", words[-1].entry)
                # A removed word between a place or a modifier and the finding ("costophrenic ___ blunting") ends nothing.
                if not words or any(word.is_observation for word in words):
                    close()
                    joints.append(Joint("placeholder", text, at, at + 1))
            elif (
                words
                and text.endswith(_ADJECTIVE_ENDINGS)
                and not any(word.is_observation for word in words)
                and self._finding_follows(lower, at + length)
            ):
                pass  # "bilateral granular opacities"
            else:
                close()
                joints.append(Joint("other", text, at, at + length))
            at += length
        close()
        return phrases, joints

    def _stands_for_noun(self, lower: Sequence[str], at: int, words: Sequence[Word]) -> bool:
        """Whether "none" or "one" takes the place of a finding: "none on the right", "a small one cannot be excluded"."""
        after = lower[at + 1 : at + 4]
        if (
            lower[at] in {"that", "those"} and after[:1] in (["on"], ["in"], ["at"]) and at
        ):  # "whereas that on the right has enlarged"
            place = after[2:] if after[1:2] == ["the"] else after[1:]
            return bool(place) and self._lexicon.side(place[0]) is not None
        if lower[at] == "none":
            place = after[1:] if after[:1] in (["on"], ["at"], ["in"]) else []
            place = place[1:] if place[:1] == ["the"] else place
            if not place and (not after or not after[0].isalnum()):
                place = [word for word in lower[max(at - 2, 0) : at] if word not in {"-", "--", ":", "="}][-1:]
                place = place if {",", ";"} & set(lower[:at]) else []  # "right: moderate, left: none"
            return bool(place) and self._lexicon.side(place[0]) is not None
        return (
            lower[at] in {"one", "ones"}
            and bool(words)
            and words[-1].is_modifier
            and (not after or not after[0].isalpha() or self._lexicon.connector(lower, at + 1)[0] is not None)
        )

    def _says_where(self, lower: Sequence[str], at: int) -> bool:
        """Whether "central" is what the trachea or the mediastinum is, and not which part of something."""
        before = [word for word in lower[max(at - 3, 0) : at] if self._lexicon.connector([word], 0)[0] != "copula"]
        after = lower[at + 1 : at + 2]
        return before[-1:] in (["trachea"], ["mediastinum"], ["airway"]) and (
            not after or not after[0].isalpha() or self._lexicon.connector(lower, at + 1)[0] is not None
        )

    @staticmethod
    def _opens(entry: Entry) -> bool:
        """Whether a word may begin a noun phrase: how large or how changed a finding is."""
        return (
            entry.modifier is not None
            and entry.modifier[0] in {"change", "severity"}
            and not (entry.anatomy or entry.observation or entry.state)
        )

    @staticmethod
    def _told(words: Sequence[Word]) -> bool:
        """Whether a statement may end here: after a finding, or after how it has changed."""
        changed = bool(words) and words[-1].entry.modifier is not None and words[-1].entry.modifier[0] == "change"
        told = words[:-1] if changed else words
        return bool(told) and told[-1].is_observation

    def _is_described(self, lower: Sequence[str], at: int) -> bool:
        """Whether anatomy that goes on here is the subject of a state: "heart size is normal", "lungs clear"."""
        while at < len(lower):
            kind, joint_length = self._lexicon.connector(lower, at)
            if kind == "copula":
                return self._says_state(lower, at + joint_length)
            length, entry = self._lexicon.match(lower, at)
            if lower[at] in _PLAIN_STATES and not self._noun_phrase_goes_on(lower, at + length):
                return True
            if kind is not None or entry is None or not entry.anatomy:
                return False
            at += length
        return False

    def _says_state(self, lower: Sequence[str], at: int) -> bool:
        """Whether a state stands here, with or without an adverb: "clear", "otherwise clear", "not enlarged"."""
        for _ in range(3):
            if at >= len(lower):
                return False
            length, entry = self._lexicon.match(lower, at)
            if entry is not None and entry.state:
                return True
            passed = self._lexicon.connector(lower, at)[0] in {"negation", "break"} or (
                entry is not None and (entry.filler or entry.modifier is not None)
            )
            if not passed or lower[at] in {".", ";", "!"}:
                return False
            at += length
        return False

    def _finding_follows(self, lower: Sequence[str], at: int) -> bool:
        """Whether the phrase that goes on here has a finding."""
        while at < len(lower):
            length, entry = self._lexicon.match(lower, at)
            if entry is None or self._lexicon.connector(lower, at)[0] is not None:
                return False
            if entry.observation:
                return True
            at += length
        return False

    def _noun_phrase_goes_on(self, lower: Sequence[str], at: int) -> bool:
        if at >= len(lower) or self._lexicon.connector(lower, at)[0] is not None:
            return False
        entry = self._lexicon.match(lower, at)[1]
        return entry is not None and bool(entry.anatomy or entry.modifier or entry.observation)

    def _describes_unknown(self, lower: Sequence[str], at: int, length: int) -> bool:
        """Whether an adjective stands before a noun that no vocabulary knows, so that nothing is said of the chest."""
        after = at + length
        return (
            at > 0
            and lower[at - 1] in _INDEFINITE
            and after < len(lower)
            and lower[after].isalpha()
            and not PLACEHOLDER.fullmatch(lower[after])
            and self._lexicon.connector(lower, after)[0] is None
            and self._lexicon.match(lower, after)[1] is None
        )

    @staticmethod
    def _cues_weak_head(word: Word) -> bool:
        return word.is_anatomy or word.text in _WEAK_HEAD_CUES

    @staticmethod
    def _measurement(lower: Sequence[str], at: int) -> int:
        """Return the number of tokens of a measurement such as "1 . 5 x 2 cm" that starts here (0: none)."""
        if not lower[at][0].isdigit():
            return 0
        end, digits = at, False
        while end < len(lower) and (
            lower[end].isdigit() or (digits and lower[end] in {".", "x", "-", "by", "to", "×"})
        ):
            digits = digits or lower[end].isdigit()
            end += 1
        if digits and end < len(lower) and lower[end] in _UNITS:
            return end + 1 - at
        if lower[at].lstrip("0123456789") in _UNITS:
            return 1
        return 0
