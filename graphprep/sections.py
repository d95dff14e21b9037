"""Sections of a report: medspaCy's sectionizer over our own titles, and what the text between headings is.

medspaCy finds the titles of `rules/sections.yaml` and makes the sections; which of the titles found are headings is
decided here (`_Headings`), because its own test knows only the start of a line. A title is a heading if it stands
- before a colon: in capitals anywhere ("COMPARISON: None. IMPRESSION: Normal."), else at the start of a line or of a
  sentence, or inside the head of a report in title case ("cough Comparison: none Findings: ...");
- without a colon: in capitals at the start of a line or sentence and not as part of one ("FINDINGS The lungs are
  clear", but not "FINDINGS ARE CONSISTENT WITH"); alone on its line; before a spaced dash; between marks ("**Findings**").
Numbers, bullets and marks before a heading belong to it ("1. FINDINGS:", "** FINDINGS **"). Words in `not_before`
directly before it, or in `not_after` directly behind it, make a title part of a sentence. What is no title of ours
(LUNGS:, PA and lateral chest:) stays in the text of the section around it.

The text of a report without any heading is `findings`. Text before the first heading, and behind "FINAL REPORT", is
`preamble`. If nothing is headed as findings, they are looked for where reports have them: behind the blank line that
ends an indication, history, comparison, technique, exam or procedure; behind the first sentence of one of the last four
and in the preamble, where two of the `body_words` are; behind that of an indication or history in a report without findings
and impression, where moreover nothing is asked; and in the preamble of a report that has no other head.
The name of a column holds where the column itself has no heading. A heading of a report's head within a line of
findings or impression ("... Comparison: none. ...") takes only its own sentence, unless it is in capitals.

To keep this fast, and spaCy's string store from growing with the reports, medspaCy sees a skeleton of the text: the
words that occur in titles, and one placeholder for whatever lies between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import spacy
import yaml
from medspacy.section_detection import Sectionizer, SectionRule
from spacy.tokens import Doc
from spacy.vocab import Vocab

from graphprep.errors import UserError
from graphprep.records import Section
from graphprep.sentences import split_sentences

OUR_RULES = Path(__file__).parent / "rules" / "sections.yaml"

PREAMBLE = "preamble"
BODY = frozenset(["findings", "impression"])
# Sections of a report's head: findings without a heading may follow them in the same paragraph (the second set) or after it.
_HEAD = frozenset(["comparison", "exam", "history", "indication", "procedure", "technique"])
_SHORT_HEAD = frozenset(["comparison", "exam", "procedure", "technique"])

_WORD = re.compile(r"[^\W_]+")
_MARKS = re.compile(r"[\s*#=>_\[•·–-]*(?:\(?[0-9]{1,2}[.)]\s*)?[\s*#_\[]*$")
_MARKS_BEHIND_TEXT = re.compile(r"(?<=\s)[*#=>•·–-]*(?:\(?[0-9]{1,2}[.)])?[ \t*#\[]*$")
_LAST_WORD = re.compile(r"[^\W_]+$")
_COLON = re.compile(r"[ \t]*(?:\([^()\n]{0,40}\)[ \t]*)?[*\]=#]*[ \t]*[:：][:*]*")
_DASH = re.compile(r"[*\]]*(?:[ \t]+[-–—]+(?=\s)|—)")
_CLOSING_MARKS = re.compile(r"[ \t]*[*#=\]_]+(?!\w)")
_REST_OF_LINE = re.compile(r"[ \t]*[*#=\]_]*[ \t]*(?=\n|\Z)")
_RULER = re.compile(r"[ \t]*\n[ \t]*[-=_*]{3,}[ \t]*(?=\n|\Z)")
_JOINER = re.compile(r"\s*(?:/|&|,|\+|\band\b|\bor\b)\s*", re.IGNORECASE)
_BLANK_LINE = re.compile(r"\n\s*\n")
_PATIENT = re.compile(r"\W*(?:\d+|_+|X{2,}|an?\b)[\s-]*(?:years?|y/?o|y\.o|[FM]|man|woman)\b", re.IGNORECASE)
# A body behind a history says how things are, and asks nothing.
_STATES = re.compile(r"\b(?:is|are|no|clear|normal|unremarkable|unchanged|stable)\b", re.IGNORECASE)
_ASKS = re.compile(
    r"\?|\b(?:evaluat\w*|assess\w*|exclude|rule out|r/o|(?:is|are) there|follow.?up|f/u|symptoms?|cough|pain|fever|dyspn\w*|sob|please|history|hx|known|patient|pt|s/p|status post|y/?o|year)\b",
    re.IGNORECASE,
)
_SENTENCE_ENDS = ".!?:;"
_MOST_JOINED = 4
_FIRST_PLACEHOLDER = 0xE000  # private use: one character stands for each pattern, and one for all that is no title
_GAP = "\uf8ff"


def canonical_name(name: str) -> str:
    """The section that a column or section name means: `Conclusion` → `impression`, `clinical_information` → `indication`.

    Names that no title of ours covers are given back in lower case, words joined by underscores.
    """
    return _our_rules().canonical_name(name)


class SectionFinder:
    """Finds the sections of reports by our rules and, going before them, those of `rules_file`.

    Raises UserError if the file cannot be used.
    """

    def __init__(self, rules_file: Path | None = None) -> None:
        ours = _our_rules()
        self._rules = ours if rules_file is None else ours.extended(_read_rules(rules_file, ours))
        self._headings = _Headings(self._rules)

    def canonical_name(self, name: str) -> str:
        """As the function of this name, with the titles of the user's rules."""
        return self._rules.canonical_name(name)

    def __call__(self, text: str, given: Sequence[Section]) -> list[Section]:
        """Sections of `text`, ascending and disjoint, trimmed, headings left out, none without a word.

        `given` are the columns that the text was joined from (empty: free text); headings are looked for inside them.
        """
        columns = [(self.canonical_name(column.name), column.start, column.end) for column in given]
        cut = [
            (name, self._headings.cut(text, name, start, end))
            for name, start, end in columns or [(PREAMBLE, 0, len(text))]
        ]
        headed = any(part.name == "findings" for _, parts in cut for part in parts)
        sections: list[Section] = []
        for column, parts in cut:
            if column == PREAMBLE and all(part.name == PREAMBLE for part in parts):
                parts = [part._replace(name="findings") for part in parts]
            elif column in BODY:
                parts = self._resume(text, parts, column)
            elif column == PREAMBLE and not headed:
                parts = self._resume(text, parts, "findings")
                parts = self._from_preamble(text, parts)
            else:
                parts = self._resume(text, parts, None)
            sections.extend(Section(part.name, part.start, part.end) for part in parts)
        return sections

    def _resume(self, text: str, parts: list[_Part], body: str | None) -> list[_Part]:
        """Take out of the parts of the report's head what no longer belongs to them.

        It goes to `body`, the section of what has no heading, or back to the findings or impression they stand in.
        """
        resumed: list[_Part] = []
        around = body
        for part in parts:
            if part.name in BODY or part.name == PREAMBLE:
                around = part.name
            end = part.end
            if part.name in _HEAD and part.inside:
                end = _second_sentence(text, part)
            elif part.name in _HEAD and body:
                end, around = self._paragraph_end(text, part, alone=not any(one.name in BODY for one in parts)), body
            elif part.name in _SHORT_HEAD and around in BODY:
                end = self._body_begin(text, part)
            own, rest = _cut_at(text, part, end)
            resumed += own + [piece._replace(name=around or part.name) for piece in rest]
        return resumed

    def _paragraph_end(self, text: str, part: _Part, alone: bool) -> int:
        """The end of a part of the report's head that a blank line, or the words of a body, may end.

        `alone`: the report has neither findings nor impression, so that its body must be behind the history.
        """
        blank = _BLANK_LINE.search(text, part.start, part.end)
        if blank is None:
            if part.name not in _SHORT_HEAD and not alone:
                return part.end
            begin = self._body_begin(text, part)
            told = part.name in _SHORT_HEAD or (
                _STATES.search(text, begin, part.end) and not _ASKS.search(text, begin, part.end)
            )
            return begin if told else part.end
        return part.end if _PATIENT.match(text, blank.end(), part.end) else blank.end()

    def _body_begin(self, text: str, part: _Part) -> int:
        """Where a sentence after the first one reads like the body of a report: the end of the part if none does."""
        for start, end in split_sentences(text, part.start, part.end):
            if start > part.start and self._rules.is_body(text[start:end], 1):
                return start if self._rules.is_body(text[start : part.end], 2) else part.end
        return part.end

    def _from_preamble(self, text: str, parts: list[_Part]) -> list[_Part]:
        """Name the preamble, or its later paragraphs, findings if it reads like them."""
        head = any(part.name in _HEAD for part in parts)
        impression = any(part.name in BODY for part in parts)
        named: list[_Part] = []
        begun = not head and not impression
        for part in parts:
            begin = part.end
            if part.name == PREAMBLE and begun:
                begin = part.start
            elif part.name == PREAMBLE and self._rules.is_body(text[part.start : part.end], 2):
                blank = _BLANK_LINE.search(text, part.start, part.end) if impression else None
                begin = blank.end() if blank else part.start
                if _PATIENT.match(text, begin, part.end):
                    begin = part.end
            begun = begun or begin < part.end
            own, rest = _cut_at(text, part, begin)
            named += own + [piece._replace(name="findings") for piece in rest]
        return named


class _Part(NamedTuple):
    """A stretch of text under one heading; `inside`: the heading stood within a line of findings or impression."""

    name: str
    start: int
    end: int
    inside: bool = False


def _trimmed(text: str, part: _Part) -> list[_Part]:
    """The part without white space around it, or nothing if no word is in it."""
    body = text[part.start : part.end]
    stripped = body.strip()
    if not re.search(r"\w", stripped):
        return []
    start = part.start + len(body) - len(body.lstrip())
    return [part._replace(start=start, end=start + len(stripped))]


def _cut_at(text: str, part: _Part, at: int) -> tuple[list[_Part], list[_Part]]:
    """The part up to `at` and from there on, each trimmed."""
    return _trimmed(text, part._replace(end=at)), _trimmed(text, part._replace(start=at))


def _second_sentence(text: str, part: _Part) -> int:
    return next((start for start, _ in split_sentences(text, part.start, part.end) if start > part.start), part.end)


# Headings: medspaCy's sectionizer, with another test of what a heading is.


@dataclass(slots=True)
class _Heading:
    """A heading with its marks and colon, as offsets into the text."""

    start: int
    end: int
    inside: bool = False


@dataclass(slots=True)
class _Stretch:
    """The text in which headings are looked for, and what its skeleton's tokens stand for."""

    text: str
    start: int
    end: int
    column: str
    offsets: list[tuple[int, int]] = field(default_factory=list)
    headings: dict[int, _Heading] = field(default_factory=dict)  # by their first token


class _Skeleton:
    """Makes the skeleton of a text; as a tokenizer, makes that of a title."""

    def __init__(self, vocab: Vocab, rules: _Rules) -> None:
        self._vocab = vocab
        self._patterns = [(chr(_FIRST_PLACEHOLDER + i), pattern) for i, (_, pattern) in enumerate(rules.patterns)]
        words = [title.split() for title in rules.titles]
        self._first = frozenset(title[0] for title in words)
        self._other = frozenset(word for title in words for word in title)

    def __call__(self, title: str) -> Doc:
        return Doc(self._vocab, words=title.split())

    def of(self, stretch: _Stretch) -> Doc | None:
        """The skeleton, or None if no word of it can begin a title."""
        text, first, other = stretch.text, self._first, self._other
        words: list[str] = []
        offsets = stretch.offsets
        last = -1  # end of the last word kept, if nothing else came since
        patterns = self._pattern_matches(stretch)[::-1]
        for match in _WORD.finditer(text, stretch.start, stretch.end):
            word = match.group().lower()
            if last < 0 and not patterns and word not in first:
                continue
            start = match.start()
            while patterns and patterns[-1][1] <= start:
                placeholder, begin, last = patterns.pop()
                words += [_GAP, placeholder]
                offsets += [(0, 0), (begin, last)]
            if start < last:
                continue
            between = text[last:start] if last >= 0 else _GAP
            follows = between.strip() in ("", "-", "_") and "\n" not in between
            if word not in (other if follows else first):
                last = -1
                continue
            if not follows:
                if match.group()[0].islower() and not _can_be_heading(text, start, match.end()):
                    last = -1
                    continue
                words.append(_GAP)
                offsets.append((0, 0))
            words.append(word)
            last = match.end()
            offsets.append((start, last))
        for placeholder, begin, end in patterns[::-1]:
            words.append(placeholder)
            offsets.append((begin, end))
        if not words:
            return None
        doc = Doc(self._vocab, words=words)
        doc.user_data["stretch"] = stretch
        return doc

    def _pattern_matches(self, stretch: _Stretch) -> list[tuple[str, int, int]]:
        """Placeholder and offsets of what the patterns match: ascending, of two that overlap the first."""
        found: list[tuple[str, int, int]] = []
        for placeholder, pattern in self._patterns:
            for match in pattern.finditer(stretch.text, stretch.start, stretch.end):
                if match.group().strip():
                    found.append((placeholder, *match.span()))
        found.sort(key=lambda match: (match[1], -match[2]))
        apart: list[tuple[str, int, int]] = []
        for one in found:
            if not apart or one[1] >= apart[-1][2]:
                apart.append(one)
        return apart


class _Headings(Sectionizer):  # type: ignore[misc]
    """medspaCy's Sectionizer for skeletons of texts; its test for the start of a line is replaced by ours for headings."""

    def __init__(self, rules: _Rules) -> None:
        nlp = spacy.blank("en")
        self._skeleton = _Skeleton(nlp.vocab, rules)
        nlp.tokenizer = self._skeleton
        super().__init__(nlp, name="graphprep_sections", rules=None, span_attrs=None, require_start_line=True)
        self._rules = rules
        self.add([SectionRule(literal=title, category=name) for title, name in rules.titles.items()])
        # Token patterns, not phrases: spaCy's Matcher inside would warn at every text if it had none.
        for i, (name, _) in enumerate(rules.patterns):
            placeholder = chr(_FIRST_PLACEHOLDER + i)
            self.add(SectionRule(literal=placeholder, category=name, pattern=[{"ORTH": placeholder}]))
        self._names: dict[int, str] = {nlp.vocab.strings[rule._rule_id]: rule.category for rule in self.rules}

    def cut(self, text: str, column: str, start: int, end: int) -> list[_Part]:
        """What stands under each heading of text[start:end], trimmed; what comes before the first has the column's name."""
        stretch = _Stretch(text, start, end, column)
        doc = self._skeleton.of(stretch)
        if doc is None:
            return _trimmed(text, _Part(column, start, end))
        self(doc)
        headed = [
            (section.category, stretch.headings[section.title_start]) for section in doc._.sections if section.category
        ]
        begins = [heading.start for _, heading in headed] + [end]
        parts = [_Part(column, start, begins[0])]
        parts += [
            _Part(name, heading.end, following, heading.inside)
            for (name, heading), following in zip(headed, begins[1:], strict=True)
        ]
        return [trimmed for part in parts for trimmed in _trimmed(text, part)]

    def filter_start_lines(self, doc: Doc, matches: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Those of the titles that are headings; titles that are joined ("INDICATION/HISTORY:") make one."""
        stretch: _Stretch = doc.user_data["stretch"]
        kept: list[tuple[int, int, int]] = []
        current = stretch.column
        i = 0
        while i < len(matches):
            rule, first, end = matches[i]
            name = self._names[rule]
            last = i
            while last + 1 < min(len(matches), i + _MOST_JOINED) and _joined(stretch, matches[last], matches[last + 1]):
                last += 1
            heading = self._heading(stretch, doc, first, matches[last][2], name, current)
            if heading is None and last > i:
                last = i
                heading = self._heading(stretch, doc, first, end, name, current)
            if heading is not None:
                stretch.headings[first] = heading
                kept.append((rule, first, matches[last][2]))
                if not heading.inside:
                    current = name
            i = last + 1
        return kept

    def _heading(self, stretch: _Stretch, doc: Doc, first: int, end: int, name: str, current: str) -> _Heading | None:
        """The heading of section `name` that the title doc[first:end] makes in the midst of section `current`, if any."""
        text = stretch.text
        title_start, title_end = stretch.offsets[first][0], stretch.offsets[end - 1][1]
        if _FIRST_PLACEHOLDER <= ord(doc[first].text[0]) < ord(_GAP):
            return _Heading(title_start, title_end)
        place = _place(stretch, title_start)
        if place is None:
            return None
        title = text[title_start:title_end]
        upper, capital = title.isupper(), title[0].isupper()
        spoken = not place.new_sentence and place.word.lower() in self._rules.not_before
        colon = _COLON.match(text, title_end, stretch.end)
        if colon is None:
            heading_end = None if spoken else self._end_without_colon(stretch, place, title, title_end)
        elif upper:
            heading_end = colon.end() if place.at_line or not spoken else None
        elif place.at_line or place.new_sentence or (capital and (name in BODY or current not in BODY)):
            heading_end = colon.end() if not spoken else None
        else:
            heading_end = None
        if heading_end is None:
            return None
        ruler = _RULER.match(text, heading_end, stretch.end)
        inside = name in _HEAD and (current in BODY or current == PREAMBLE) and not upper and not place.at_line
        return _Heading(place.start, ruler.end() if ruler else heading_end, inside)

    def _end_without_colon(self, stretch: _Stretch, place: _Place, title: str, title_end: int) -> int | None:
        """The end of the heading that the title without a colon is, or None."""
        text, rules = stretch.text, self._rules
        key = _key(title)
        upper, capital = title.isupper(), title[0].isupper()
        if place.marked and (marks := _CLOSING_MARKS.match(text, title_end, stretch.end)):
            return marks.end()
        if place.at_line and (rest := _REST_OF_LINE.match(text, title_end, stretch.end)):
            goes_on = text[rest.end() : rest.end() + 40].lstrip()[:1].islower()
            alone = upper or place.marked or (capital and key not in rules.colon_only and not goes_on)
            return rest.end() if alone else None
        if (upper and place.new_sentence) or (capital and place.at_line):
            dash = _DASH.match(text, title_end, stretch.end)
            if dash:
                return dash.end()
        if key in rules.colon_only:
            return None
        if key in rules.bare and capital and (place.at_line or place.new_sentence):
            return title_end
        following = text[title_end : min(title_end + 60, stretch.end)]
        words = following.split()[:3]
        if not upper or not words or not following[0].isspace() or words[0].strip(".,;()").lower() in rules.not_after:
            return None
        mixed = any(map(str.islower, "".join(words)))
        shouted = mixed and any(map(str.islower, place.word)) and words[0].istitle()
        return title_end if place.at_line or (mixed and place.new_sentence) or shouted else None


class _Place(NamedTuple):
    """Where a title stands: `start` of the marks before it, whether nothing but these is before it in its line, whether
    a sentence begins there, whether marks that can be closed precede it ("**"), and the word before."""

    start: int
    at_line: bool
    new_sentence: bool
    marked: bool
    word: str


def _place(stretch: _Stretch, title_start: int) -> _Place | None:
    """Where the title at `title_start` stands; None if it is but a part of a word or bracket ("non-findings")."""
    text = stretch.text
    line_start = max(text.rfind("\n", stretch.start, title_start) + 1, stretch.start)
    before = text[max(line_start, title_start - 60) : title_start]
    marks = _MARKS.match(before)
    at_line = marks is not None and len(before) == title_start - line_start
    if not at_line:
        marks = _MARKS_BEHIND_TEXT.search(before)
        if marks is None and before[-1] not in _SENTENCE_ENDS:
            return None
    mark = marks.group() if marks else ""
    start = title_start - len(mark)
    gap = text[max(stretch.start, start - 60) : start]
    ahead = gap.rstrip().rstrip("\"')]*”’")
    new_sentence = (
        not ahead or ahead[-1] in _SENTENCE_ENDS or _BLANK_LINE.search(gap + mark, len(gap.rstrip())) is not None
    )
    word = _LAST_WORD.search(ahead)
    return _Place(start, at_line, new_sentence, mark.rstrip()[-1:] in tuple("*#=_["), word.group() if word else "")


def _can_be_heading(text: str, start: int, end: int) -> bool:
    """Whether a title that begins with the lower-case word text[start:end] can be a heading: only before a colon or in marks."""
    return ":" in text[end : end + 80] or "：" in text[end : end + 80] or text[start - 1 : start] in ("*", "[")


def _joined(stretch: _Stretch, one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    """Whether "/", "and" or the like is all that lies between two titles."""
    start, end = stretch.offsets[one[2] - 1][1], stretch.offsets[other[1]][0]
    return end - start < 8 and _JOINER.fullmatch(stretch.text, start, end) is not None


# Rules files.


@dataclass(frozen=True)
class _Rules:
    """The content of a rules file; titles are keys (`_key`)."""

    titles: dict[str, str]
    patterns: list[tuple[str, re.Pattern[str]]]
    colon_only: frozenset[str]
    bare: frozenset[str]
    not_before: frozenset[str]
    not_after: frozenset[str]
    body_words: frozenset[str]

    @cached_property
    def _body_word(self) -> re.Pattern[str]:
        alternatives = "|".join(map(re.escape, sorted(self.body_words, key=len, reverse=True)))
        return re.compile(rf"\b(?:{alternatives})", re.IGNORECASE)

    def is_body(self, text: str, words: int) -> bool:
        """Whether that many different words of the body of a report are in the text."""
        return len({word.lower() for word in self._body_word.findall(text)}) >= words

    def canonical_name(self, name: str) -> str:
        key = _key(name)
        key = key.removeprefix("section ").removesuffix(" section").removesuffix(" text")
        return self.titles.get(key, key.replace(" ", "_"))

    def extended(self, other: _Rules) -> _Rules:
        """These rules and those of `other`, which go first."""
        return _Rules(
            titles={**self.titles, **other.titles},
            patterns=other.patterns + self.patterns,
            colon_only=(self.colon_only - other.titles.keys()) | other.colon_only,
            bare=(self.bare - other.titles.keys()) | other.bare,
            not_before=self.not_before | other.not_before,
            not_after=self.not_after | other.not_after,
            body_words=self.body_words | other.body_words,
        )


def _key(title: str) -> str:
    """A title's words in lower case: what titles are compared by."""
    return " ".join(_WORD.findall(title.lower()))


@lru_cache(maxsize=1)
def _our_rules() -> _Rules:
    return _read_rules(OUR_RULES, None)


_LISTS = ("colon_only", "bare", "not_before", "not_after", "body_words")


def _read_rules(path: Path, ours: _Rules | None) -> _Rules:
    """The rules in a file. Raises UserError that names the entry that is wrong."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the section rules {path}: {error.strerror}.") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: not YAML ({error.problem}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a YAML file in UTF-8 ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping with `sections` (a section's name → its titles).")
    unknown = [str(key) for key in content if key not in ("version", "sections", "patterns", *_LISTS)]
    if unknown:
        known = ", ".join(["sections", "patterns", *_LISTS])
        raise UserError(f"{path}: unknown key `{unknown[0]}`; known are {known}.")
    if content.get("version", 1) != 1:
        raise UserError(f"{path}, version: expected 1.")

    titles: dict[str, str] = {}
    for where, section, title in _entries(path, content, "sections"):
        name, key = _section_name(section, ours), _key(title)
        if not key:
            raise UserError(f"{where}: a title needs a letter or digit.")
        if titles.setdefault(key, name) != name:
            raise UserError(f"{where}: the title {title!r} is already one of `{titles[key]}`; leave it in one section.")
    patterns: list[tuple[str, re.Pattern[str]]] = []
    for where, section, expression in _entries(path, content, "patterns"):
        try:
            pattern = re.compile(expression, re.IGNORECASE | re.MULTILINE)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(f"{where}: {expression!r} is not a regular expression ({error}).") from error
        if pattern.fullmatch(""):
            raise UserError(f"{where}: {expression!r} matches nothing at all; say what the heading must hold.")
        patterns.append((_section_name(section, ours), pattern))
    if ours is not None and not (titles or patterns):
        raise UserError(f"{path}: expected `sections` (a section's name → its titles) or `patterns`, found neither.")
    lists = {
        key: frozenset(_key(text) for _, text in _texts(f"{path}, {key}", content.get(key) or [])) for key in _LISTS
    }
    return _Rules(titles, patterns, **lists)


def _section_name(name: str, ours: _Rules | None) -> str:
    """A section's name as the user wrote it, in our words if we know it."""
    return ours.canonical_name(name) if ours else _key(name).replace(" ", "_")


def _entries(path: Path, content: dict[Any, Any], key: str) -> Iterator[tuple[str, str, str]]:
    """Where it stands, section and text of every entry of the mapping under `key`."""
    mapping = content.get(key) or {}
    if not isinstance(mapping, dict):
        raise UserError(f"{path}, {key}: expected a mapping (a section's name → a list).")
    for section, texts in mapping.items():
        if not isinstance(section, str) or not _key(section):
            raise UserError(f"{path}, {key}: the section's name {section!r} must be a word; put it in quotes.")
        for where, text in _texts(f"{path}, {key}, {section}", texts):
            yield where, section, text


def _texts(where: str, texts: Any) -> Iterable[tuple[str, str]]:
    """Where it stands, and text of every item of a list (or of a single text)."""
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list):
        raise UserError(f"{where}: expected a list of texts.")
    for i, text in enumerate(texts, 1):
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}, entry {i}: expected a text, not {text!r}; put it in quotes.")
        yield f"{where}, entry {i}", text
