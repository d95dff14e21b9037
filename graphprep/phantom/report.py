"""The report of a phantom study: what it says of the truth, in which words, and which words mean what.

What is said is decided in `graphprep.phantom.plan`. Here each statement is put into words, in marks that keep their meaning
(`graphprep.phantom.markup`), and the sentences are laid out in two sections. Everything follows from the study's seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, NamedTuple

from graphprep.phantom import phrases as language
from graphprep.phantom.markup import MarkedSentence, read_markup
from graphprep.phantom.phrases import Normality, Noun, PlaceWords
from graphprep.phantom.plan import CHRONIC, LUNG_FINDINGS, Claim, Denial, Plan, ReportOptions, WrongStatement, make_plan
from graphprep.phantom.scene import KINDS, Finding, LungSide, Study, Zone
from graphprep.records import Assertion, Side, Temporality

__all__ = ["Phrase", "ReportOptions", "ReportText", "Sentence", "Statement", "WrongStatement", "write_report"]

SectionName = Literal["findings", "impression"]


@dataclass(frozen=True, slots=True)
class Phrase:
    """What a phrase of a sentence means. A phrase of several concepts says each of one of its places, in their order."""

    concepts: tuple[str, ...]
    side: Side | None = None
    assertion: Assertion = "present"
    temporality: Temporality = "current"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a report.

    `marked` has its words, `phrases` what they mean. `suggestions` are pairs of phrases, sign and meaning. `back`: what is said
    outside of phrases is said of the finding before; `suggested_by_last`: that finding suggests the first phrase.
    `start` is its offset in its section.
    """

    marked: MarkedSentence
    phrases: tuple[Phrase, ...] = ()
    suggestions: tuple[tuple[int, int], ...] = ()
    back: bool = False
    suggested_by_last: bool = False
    section: SectionName = "findings"
    start: int = 0


class Statement(NamedTuple):
    """What a report says of one finding; `start` and `end` are of the word that names it, in its section."""

    concept: str
    side: Side | None
    assertion: Assertion
    section: SectionName
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ReportText:
    """A report: its two sections (one of them may be empty), its sentences in order, what it left out and got wrong."""

    findings: str
    impression: str
    sentences: tuple[Sentence, ...]
    omitted: tuple[Finding, ...]
    wrong: tuple[WrongStatement, ...]

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What is said of findings now, in the order of the text."""
        return tuple(
            Statement(
                concept,
                phrase.side,
                phrase.assertion,
                sentence.section,
                sentence.start + sentence.marked.words[head].start,
                sentence.start + sentence.marked.words[head].end,
            )
            for sentence in self.sentences
            for phrase, head in zip(sentence.phrases, sentence.marked.heads, strict=True)
            if phrase.temporality == "current"
            for concept in phrase.concepts
        )


def write_report(study: Study, options: ReportOptions | None = None) -> ReportText:
    """Return the report of a study; the same study and options give the same report on every machine."""
    options = options or ReportOptions()
    rng = Random(f"report {study.seed}")
    plan = make_plan(study, options, rng)
    return _Writer(study, plan, rng).report()


#: How often a report is all in capitals; how telegraphic its sentences are, one of these; how often their order is shuffled.
CAPITALS, TERSE, SHUFFLED = 0.03, (0.15, 0.5, 0.85), 0.6
#: How often all stands in the impression, and how often there is none.
ALL_IN_IMPRESSION, NO_IMPRESSION = 0.12, 0.08
#: How often each sentence that says nothing of the chest is there, and advice where a finding asks for it.
BESIDE, ADVICE = 0.22, 0.2
#: How often two findings share a sentence, and what a finding's look suggests is said.
PAIRED, SUGGESTED = 0.3, 0.75
#: How often an opacity, a consolidation or an atelectasis that suggests nothing, or nothing that is said, is read as another thing.
DIFFERENTIAL = 0.06
#: How often the place of a finding in a zone is not said, or said as the lung; and the side of other findings is not said.
NO_PLACE, WHOLE_LUNG, NO_SIDE = 0.09, 0.09, 0.1
#: How often the healthy lung is called clear, and a denial leaves open what was there before ("no new opacity").
OTHER_LUNG_CLEAR, NOT_NEW = 0.3, 0.04
#: An endotracheal tube out of place is said to be low below so many millimetres above the carina, else high.
_LOW_TUBE = 40


@dataclass(frozen=True, slots=True)
class _Named:
    """A phrase with its words in marks, before it stands in a sentence."""

    words: str
    number: language.Number
    meaning: Phrase


_AGREEMENT = {"is": "are", "has": "have", "remains": "remain", "appears": "appear"}
_SLOT = re.compile(r"\$\d?")
_ADJECTIVES = re.compile(r"(?:~\S+ )*")
_VERB = re.compile(r"\[(is|has|remains|appears)\]")


def _sentence(
    frame: str, *named: _Named, suggestions: tuple[tuple[int, int], ...] = (), back: bool = False, by_last: bool = False
) -> Sentence:
    """Put phrases into a frame, and let its article and verbs agree with them."""
    if named:
        one = named[0].number == "one"
        frame = frame.replace("[a]", "a " if one else "").replace("[A]", "A " if one else "")
        many = (named[-1] if " or $" in frame else named[0]).number == "many"  # "No mass or effusions are seen"
        frame = _VERB.sub(lambda verb: _AGREEMENT[verb[1]] if many else verb[1], frame)
        words = iter(named)
        frame = _SLOT.sub(lambda _: "{" + next(words).words + "}", frame)
    return Sentence(read_markup(frame), tuple(each.meaning for each in named), suggestions, back, by_last)


def _at(words: str, side: str | None) -> str:
    """Put a side where the words have room for it; none: leave the room out."""
    if side is None:
        return re.sub(r"@?SIDE(WORD)?(-sided)? ", "", words)
    return words.replace("SIDEWORD", side).replace("SIDE", f"^{side}")


def _with_assertion(named: _Named, assertion: Assertion) -> _Named:
    return replace(named, meaning=replace(named.meaning, assertion=assertion))


class _Writer:
    """Puts a plan into words."""

    def __init__(self, study: Study, plan: Plan, rng: Random) -> None:
        self._study, self._plan, self._rng = study, plan, rng
        self._places: dict[tuple[str, Side | None, Zone | None], PlaceWords] = {}
        self._capitals = rng.random() < CAPITALS
        self._terse = rng.choice(TERSE)  # how telegraphic this reader dictates

    def report(self) -> ReportText:
        rng = self._rng
        units = self._positives()
        units += self._negatives()
        units += self._one_lung_clear()
        units += self._advice()
        if rng.random() < SHUFFLED:
            rng.shuffle(units)
        beside = self._beside()
        units = beside[:1] + units + beside[1:] if rng.random() < 0.7 else units + beside
        impression = self._impression()
        layout = rng.random()
        if layout < ALL_IN_IMPRESSION:
            units, impression = [], [*units, *impression]
        elif layout < ALL_IN_IMPRESSION + NO_IMPRESSION and units:
            impression = []
        sections: dict[SectionName, str] = {}
        sentences: list[Sentence] = []
        parts_of: tuple[tuple[SectionName, list[list[Sentence]]], ...] = (
            ("findings", units),
            ("impression", impression),
        )
        for name, parts in parts_of:
            text, placed = self._laid_out(name, parts)
            sections[name] = text
            sentences += placed
        return ReportText(
            sections["findings"], sections["impression"], tuple(sentences), self._plan.omitted, self._plan.wrong
        )

    def _laid_out(self, section: SectionName, units: list[list[Sentence]]) -> tuple[str, list[Sentence]]:
        """Return the text of a section and its sentences where they lie in it."""
        numbered = section == "impression" and len(units) > 1 and self._rng.random() < 0.4
        if self._capitals:
            units = [[_in_capitals(sentence) for sentence in unit] for unit in units]
        between = "\n" if self._rng.random() < (0.6 if numbered else 0.15) else " "
        text, placed = "", []
        for number, unit in enumerate(units, 1):
            if text:
                text += between
            if numbered:
                text += f"{number}. "
            for position, sentence in enumerate(unit):
                text += " " if position else ""
                placed.append(replace(sentence, section=section, start=len(text)))
                text += sentence.marked.text
        return text, placed

    # -- positives -------------------------------------------------------------------------------------------------

    def _positives(self) -> list[list[Sentence]]:
        """The claims in sentences, now and then two in one."""
        rng = self._rng
        units: list[list[Sentence]] = []
        waiting = list(self._plan.claims)
        while waiting:
            claim = waiting.pop(0)
            other = next((other for other in waiting if _fit(claim, other)), None)
            if other is None or rng.random() > PAIRED:
                units.append(self._claim(claim))
                continue
            waiting.remove(other)
            if claim.change is not None and claim.change == other.change and rng.random() < 0.6:
                frame = rng.choice(language.PAIRS_CHANGED[claim.change])
                named = [self._named(each, bare=True, paired=True) for each in (claim, other)]
            else:
                frame = rng.choice(language.PAIRS)
                named = [self._named(each, change=True, paired=True) for each in (claim, other)]
            units.append([_sentence(frame, *named)])
        return units

    def _claim(self, claim: Claim, brief: bool = False) -> list[Sentence]:
        rng = self._rng
        if claim.device:
            return [self._device(claim)]
        if claim.gone:
            return [_sentence(rng.choice(language.RESOLVED), self._named(claim, bare=True))]
        if claim.assertion == "absent":
            return [self._denied([self._named(claim, denied=True)], firm=True)]
        if claim.suggests in language.MEANINGS and claim.assertion == "present" and rng.random() < SUGGESTED:
            return self._suggestion(claim, claim.suggests)
        if claim.concept in language.DIFFERENTIAL and claim.assertion == "present" and rng.random() < DIFFERENTIAL:
            return self._suggestion(claim, language.DIFFERENTIAL[claim.concept])
        if claim.change is not None and claim.assertion == "present" and rng.random() < 0.5:
            named = self._named(claim, bare=rng.random() < 0.5)
            return [_sentence(rng.choice(language.CHANGE_SENTENCES[claim.change]), named)]
        style = "telegraphic" if rng.random() < (0.8 if brief else self._terse) else "full"
        frames = language.UNCERTAIN if claim.assertion == "uncertain" else language.PRESENT
        seen_before = claim.change in ("unchanged", "larger", "smaller")
        frame = rng.choice([frame for frame in frames[style] if seen_before or "again" not in frame])
        after = self._change_after(claim, frame)
        if after:
            return [_sentence(frame[:-1] + after + ".", self._named(claim, change=False))]
        said = [_sentence(frame, self._named(claim, change=not brief))]
        if claim.assertion == "present" and claim.change is not None and rng.random() < 0.15:
            said = [_sentence(frame, self._named(claim, change=False))]
            said.append(_sentence(rng.choice(language.CHANGE_BACK[claim.change]), back=True))
        return said

    def _change_after(self, claim: Claim, frame: str) -> str:
        """Words for a change at the end of the sentence, or none."""
        rng = self._rng
        if claim.change is None or claim.assertion != "present" or "again" in frame or rng.random() > 0.45:
            return ""
        return rng.choice(language.CHANGE_AFTER[claim.change])

    def _named(
        self, claim: Claim, *, bare: bool = False, change: bool = False, denied: bool = False, paired: bool = False
    ) -> _Named:
        """A noun phrase of a finding: adjectives, noun and place.

        `bare`: with no adjectives. `paired`: with its place beyond doubt, for it shares the sentence with another.
        """
        rng = self._rng
        nouns = language.NOUNS[claim.concept]
        if denied:
            nouns = nouns + language.DENIED_ONLY.get(claim.concept, ())
        plural = claim.side == "bilateral"
        fitting = [noun for noun in nouns if (noun.number == "many") == plural]
        noun = rng.choice(fitting or nouns)
        before, after, side = self._place(claim, noun, bare, sure=denied or paired, paired=paired)
        adjectives: list[str] = []
        if change and claim.change is not None and claim.assertion == "present" and rng.random() < 0.5:
            adjectives.append(rng.choice(language.CHANGE_BEFORE[claim.change]))
        size = ""
        if not bare and not denied:
            adjectives += self._adjectives(claim, noun)
            if claim.millimetres is not None and rng.random() < 0.8:
                size = f"#{_length(claim.millimetres, rng)}"
        words = noun.words
        if side == "bilateral":
            words = words.replace("the SIDE @hemidiaphragm:", "^both @hemidiaphragms:")
            before, after = ("", "") if "hemidiaphragm" in words else (before, after)
        if "SIDE" in words and before != "SIDE":  # the noun has a slot for it, which stays empty here
            words = words.replace("SIDE ", "")
        elif "SIDE" in words:
            before = ""
        elif before == "SIDE" and "@" not in words:  # a side of the finding itself
            before = "@SIDEWORD-sided" if rng.random() < 0.15 and side != "bilateral" else "@SIDEWORD"
        if size and rng.random() < 0.6:
            adjectives.append(size)
            size = ""
        measured = f" measuring {size}" if size else ""
        if "@" in words or rng.random() < 0.3:  # "acute left rib fracture"
            first, words = words[: (at := _after_adjectives(words))], words[at:]
            adjectives.append(first)
        text = _at(" ".join((*adjectives, before, words)) + measured + " " + after, claim.side)
        return _Named(" ".join(text.split()), noun.number, Phrase((noun.concept,), side, claim.assertion))

    def _adjectives(self, claim: Claim, noun: Noun) -> list[str]:
        rng = self._rng
        words: list[str] = []
        if claim.severity is not None and claim.concept not in language.UNGRADED:
            scale = "size" if claim.concept in language.SIZED else "degree"
            words.append(rng.choice(language.SEVERITY[scale][claim.severity]))
        form = rng.choice(language.FORMS.get(claim.concept, ("",)))
        if claim.morphology and rng.random() < 0.7:
            form = f"~{claim.morphology}"
        if "~" not in noun.words and form[1:4] not in noun.words:  # not "hazy haziness"
            words.append(form.replace(" ", "_"))
        return [word for word in dict.fromkeys(words) if word]

    def _place(self, claim: Claim, noun: Noun, bare: bool, sure: bool, paired: bool) -> tuple[str, str, Side | None]:
        """Words for the place before and after the noun, and the side that they say. `sure`: not left out."""
        rng = self._rng
        side = claim.side
        if side is None:
            return "", "", None
        if not KINDS[claim.concept].zoned:
            return self._place_of_one_side(claim, side, sure, paired)
        whole = language.BOTH_LUNGS if side == "bilateral" else language.WHOLE_LUNG
        if claim.zone is None:
            options: Sequence[PlaceWords] = whole
        else:
            draw = rng.random()
            if draw < NO_PLACE and not sure:
                return "", "", None
            zone = language.PLACES_OF_BOTH[claim.zone] if side == "bilateral" else language.PLACES[claim.zone][side]
            options = whole if draw < NO_PLACE + WHOLE_LUNG else zone
        if sure:
            options = [place for place in options if place.sided]
        if claim.concept == "mass":  # a perihilar mass is another finding
            options = [place for place in options if "hilar" not in place.before] or whole
        place = rng.choice(options)
        if claim.assertion != "absent" and rng.random() < 0.7:  # in the words that it was stated with before
            place = self._places.setdefault((claim.concept, claim.side, claim.zone), place)
        said = side if place.sided else None
        of_lung = "@" in noun.words and (place in whole or ":lung " in noun.words)  # not "right lung lung mass"
        if place.before and not of_lung and rng.random() < (0.8 if bare else 0.45):
            return place.before, "", said
        return "", place.after, said

    def _place_of_one_side(self, claim: Claim, side: Side, sure: bool, paired: bool) -> tuple[str, str, Side | None]:
        """Words for the side of what lies outside the lungs, or in the whole of one."""
        draw = self._rng.random()
        if draw < NO_SIDE and not sure:
            return "", "", None
        if draw < 0.25 and not paired:  # "on the left and right rib fracture" could be read in two ways
            return "", "@bilaterally" if side == "bilateral" else "on the @SIDEWORD", side
        if claim.concept == "pneumothorax" and draw < 0.5 and side != "bilateral":
            return "SIDE @apical:lung_apex", "", side
        return "SIDE", "", side

    # -- devices ---------------------------------------------------------------------------------------------------

    def _device(self, claim: Claim) -> Sentence:
        rng = self._rng
        side = claim.side
        noun = rng.choice(language.DEVICE_NOUNS[claim.concept])
        named = _Named(_at(noun.words, side), noun.number, Phrase((noun.concept,), side, claim.assertion))
        if claim.gone:
            return _sentence(rng.choice(language.REMOVED), named)
        if claim.assertion == "absent":
            return self._denied([named], firm=True)
        if claim.change == "unchanged" and rng.random() < 0.4:
            return _sentence(rng.choice(language.CHANGE_SENTENCES["unchanged"]), named)
        options = language.DEVICES[claim.concept]
        if claim.malpositioned and claim.concept == "endotracheal_tube":
            options = language.MALPOSITIONED["low" if (claim.millimetres or 0) < _LOW_TUBE else "high"]
        elif claim.malpositioned:
            options = language.MALPOSITIONED[claim.concept]
        options = tuple(text for text in options if claim.millimetres is not None or "SIZE" not in text)
        text = rng.choice(options)
        if claim.millimetres is not None:
            text = text.replace("SIZE", f"#{_length(claim.millimetres, rng)}")
        meanings = [Phrase((claim.concept,), side, claim.assertion)]
        if "leads" in text:
            meanings.append(Phrase(("pacing_lead",), None, claim.assertion))
        return Sentence(read_markup(_at(text, side)), tuple(meanings))

    # -- what a sign means -----------------------------------------------------------------------------------------

    def _suggestion(self, claim: Claim, meaning: str) -> list[Sentence]:
        rng = self._rng
        sign = self._named(claim, change=True)
        meant = self._meaning(meaning)
        draw = rng.random()
        if draw < 0.15:
            style = "telegraphic" if rng.random() < self._terse else "full"
            first = _sentence(rng.choice(language.PRESENT[style]), sign)
            second = _sentence(rng.choice(language.SUGGESTIONS_BACK), _with_assertion(meant, "uncertain"), by_last=True)
            return [first, second]
        other = language.DIFFERENTIAL.get(claim.concept)
        if draw < 0.3 and other is not None and other != meaning:
            named = [sign, _with_assertion(meant, "uncertain"), _with_assertion(self._meaning(other), "uncertain")]
            return [_sentence(rng.choice(language.ALTERNATIVES), *named, suggestions=((0, 1), (0, 2)))]
        assertion: Assertion = "present" if draw < 0.55 and meaning == claim.suggests else "uncertain"
        frame = rng.choice(language.SUGGESTIONS[assertion])
        return [_sentence(frame, sign, _with_assertion(meant, assertion), suggestions=((0, 1),))]

    def _meaning(self, concept: str) -> _Named:
        noun = self._rng.choice(language.MEANINGS[concept])
        return _Named(noun.words, noun.number, Phrase((noun.concept,)))

    # -- denials and normal structures -----------------------------------------------------------------------------

    def _negatives(self) -> list[list[Sentence]]:
        """Denials, and structures called normal; clear lungs may come with a denial."""
        rng = self._rng
        denials = list(self._plan.denials)
        units: list[list[Sentence]] = []
        for normality in self._plan.normal:
            unplaced = [denial for denial in denials if denial.side is None]
            if normality.concepts == ("clear_lungs",) and normality.side is None and unplaced and rng.random() < 0.5:
                denial = rng.choice(unplaced)
                denials.remove(denial)
                named = [self._denied_noun(concept) for concept in denial.concepts]
                frame = rng.choice(language.CLEAR_WITHOUT).replace("$", _listed(_slots(named), rng))
                sentence = _sentence(frame, *named)
                units.append([replace(sentence, phrases=(Phrase(normality.concepts), *sentence.phrases))])
            else:
                units.append(self._normality(normality))
        return units + [[self._denial(denial)] for denial in denials]

    def _denial(self, denial: Denial) -> Sentence:
        rng = self._rng
        if denial.side is None:
            named = [self._denied_noun(concept) for concept in denial.concepts]
            return self._denied(named)
        claims = [Claim(concept, denial.side, denial.zone, None, "absent") for concept in denial.concepts]
        if len(claims) == 1:
            return self._denied([self._named(claims[0], denied=True)])
        if len(claims) == 2 and denial.zone is None and rng.random() < 0.5:  # "no left effusion or left rib fracture"
            return self._denied([self._named(claim, denied=True) for claim in claims])
        named = [self._denied_noun(concept, denial.side) for concept in denial.concepts]
        if denial.zone is not None:
            options = [place for place in language.PLACES[denial.zone][denial.side] if place.sided]
            if "mass" in denial.concepts:
                options = [place for place in options if "hilar" not in place.before]
            place = rng.choice(options)
            after = _at(place.after, denial.side)
        elif all(KINDS[concept].zoned for concept in denial.concepts):
            after = f"in the ^{denial.side} @lung:lung"
        else:
            after = f"on the @{denial.side}"
        return self._denied(named, " " + after)

    def _denied_noun(self, concept: str, side: LungSide | None = None) -> _Named:
        nouns = (language.NOUNS.get(concept) or language.MEANINGS[concept]) + language.DENIED_ONLY.get(concept, ())
        noun = self._rng.choice([noun for noun in nouns if "~atelectatic" not in noun.words])
        return _Named(_at(noun.words, None), noun.number, Phrase((noun.concept,), side, "absent"))

    def _denied(self, named: list[_Named], after: str = "", *, firm: bool = False) -> Sentence:
        """Deny findings; `firm`: with no way out ("no new opacity")."""
        rng = self._rng
        if len(named) == 1 and not after and rng.random() < 0.08:
            return _sentence(rng.choice(language.NOT_SEEN), *named)
        frames = language.DENIED["telegraphic" if rng.random() < self._terse else "full"]
        pleural = all(each.meaning.concepts[0] in ("pleural_effusion", "pneumothorax") for each in named)
        if not after and not firm and rng.random() < NOT_NEW:
            frames = language.NOT_NEW
        elif pleural and not after and all("@" not in each.words for each in named) and rng.random() < 0.15:
            frames = language.PLEURA_FREE
        frame = rng.choice(frames).replace("$", _listed(_slots(named), rng))
        return _sentence(frame[:-1] + after + ".", *named)

    def _normality(self, normality: Normality) -> list[Sentence]:
        meaning = Phrase(normality.concepts, normality.side)
        return [Sentence(read_markup(normality.markup), (meaning,))]

    def _one_lung_clear(self) -> list[list[Sentence]]:
        """Say of a lung without findings that it is clear, where the other has some."""
        there = [finding for finding in self._study.findings if finding.concept in LUNG_FINDINGS]
        said = [claim for claim in self._plan.claims if claim.concept in LUNG_FINDINGS]
        sides = {finding.side for finding in there} | {claim.side for claim in said}
        if len(sides) != 1 or not sides <= {"left", "right"} or self._rng.random() > OTHER_LUNG_CLEAR:
            return []
        side: LungSide = "left" if "right" in sides else "right"
        text = _at(self._rng.choice(language.ONE_LUNG_CLEAR), side)
        return [[Sentence(read_markup(text), (Phrase(("clear_lungs",), side),))]]

    # -- the rest --------------------------------------------------------------------------------------------------

    def _advice(self) -> list[list[Sentence]]:
        rng = self._rng
        claims = [
            claim for claim in self._plan.claims if claim.concept in language.ADVICE and claim.assertion != "absent"
        ]
        if not claims or rng.random() > ADVICE:
            return []
        text = rng.choice(language.ADVICE[claims[0].concept])
        concept = next(name for words, name in language.ADVISED.items() if words in text)
        return [[Sentence(read_markup(text), (Phrase((concept,), temporality="hypothetical"),))]]

    def _impression(self) -> list[list[Sentence]]:
        rng = self._rng
        plan = self._plan
        stated = [claim for claim in plan.claims if claim.assertion != "absent"]
        important = [claim for claim in stated if not claim.device or rng.random() < 0.3]
        if len(important) > 2:
            important = [claim for claim in important if claim.concept not in CHRONIC or rng.random() < 0.5]
        rng.shuffle(important)
        units = [self._claim(claim, brief=True) for claim in important[:4]]
        if not plan.acute and not (plan.nothing and rng.random() < 0.2):
            text = rng.choice(language.NOT_ACUTE)
            units.insert(0, [Sentence(read_markup(text), (Phrase(("acute_abnormality",), None, "absent"),))])
        elif not plan.acute:
            units.insert(0, [Sentence(read_markup(rng.choice(language.NORMAL_CHEST)), (Phrase(("normal_chest",)),))])
        elif plan.denials and rng.random() < 0.35:
            units.append([self._denial(rng.choice(plan.denials))])
        return units

    def _beside(self) -> list[list[Sentence]]:
        """Sentences that say nothing of the chest."""
        rng = self._rng
        kinds = ["technique", "comparison" if self._study.number else "first", "recommendation"]
        chosen = [rng.choice(language.BESIDE[kind]) for kind in kinds if rng.random() < BESIDE]
        return [[Sentence(read_markup(text.replace("VIEW", self._study.view)))] for text in chosen]


def _in_capitals(sentence: Sentence) -> Sentence:
    return replace(sentence, marked=replace(sentence.marked, text=sentence.marked.text.upper()))


def _plain(claim: Claim) -> bool:
    """Whether a claim can share a sentence with another: no device, no meaning, no doubt."""
    return claim.assertion == "present" and claim.suggests is None and not claim.device


def _fit(first: Claim, second: Claim) -> bool:
    """Whether two claims can share a sentence: both with a side or both without, lest one be taken for the other's."""
    return (
        _plain(first)
        and _plain(second)
        and first.concept != second.concept
        and (first.side is None) == (second.side is None)
    )


def _slots(named: Sequence[_Named]) -> list[str]:
    return [f"${number}" for number in range(1, len(named) + 1)]


def _after_adjectives(words: str) -> int:
    found = _ADJECTIVES.match(words)
    return found.end() if found else 0


def _listed(items: Sequence[str], rng: Random) -> str:
    """Join denied things: "A, B, or C"."""
    if len(items) == 1:
        return items[0]
    comma = "," if len(items) > 2 and rng.random() < 0.5 else ""
    return f"{', '.join(items[:-1])}{comma} or {items[-1]}"


def _length(millimetres: int, rng: Random) -> str:
    """A length in mm or cm, as marked words have it: "12_mm", "1.2_cm"."""
    if millimetres >= 10 and rng.random() < 0.6:
        whole, tenths = divmod(millimetres, 10)
        return f"{whole}.{tenths}_cm" if tenths else f"{whole}_cm"
    return f"{millimetres}_mm"
