"""Sentences of a report section, by rules: radiologists' punctuation, lists and lines, not those of prose.

A sentence ends
- at `.`, `!` or `?` before white space or the end, or directly before an upper-case letter ("apex.There are"); not at
  decimals, abbreviations, initials and ellipses, nor at a `?` that stands before a word ("? pneumonia");
- before a list item: "1.", "2)", "-", "•" on a new line, and numbers that count on within a line ("1. Scar 2. Nodule").
  The number or bullet belongs to no sentence;
- at a blank line or a ruler ("_____"); and at a single line end if the next line begins a list item or a label ("Lungs: clear"), or if the
  line was ended on purpose and not wrapped: the next line begins with a capital, this one does not end in a word that
  asks for another, and the next word would still have fitted. The longest line is taken for the width. If all lines are
  shorter than 50 characters, or all but the longest would have had room, none is taken as wrapped; and then, if there
  are no capitals at all, none is asked for.

Colons and semicolons end nothing.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

# Where a sentence may end: a run of marks with the quotes and brackets that close it; a line end; before a number that
# may count a list on within a line. (One set of characters comes first so that the search runs fast.)
_CANDIDATE = re.compile(
    r"[.!?\n(0-9](?:"
    r"(?<=[.!?])(?P<stop>[.!?]*)(?:[\"'”’)\]>*]|&gt;)*"
    r"|(?<=\n)(?P<line>[^\S\n]*)(?P<blank>(?:\n|[-_=*]{5,}[^\S\n]*(?:\n|$))\s*)?"
    r"|(?:(?<=[^\S\n]\()[0-9]{1,2}(?=\))|(?<=[^\S\n][0-9])[0-9]?(?=[.)]))(?=.[^\S\n]*[^\W\d_])"
    r")"
)
_LIST_ITEM = re.compile(
    r"(?:\(?(?P<number>[0-9]{1,2})[.)](?=\s|[^\W\d_]|$|,\s),?|[A-Za-z]\)(?=\s)|[-–—•*·▪►●◦>](?!\d))\s*"
)
_LABEL = re.compile(r"[A-Z][\w/&,()-]*(?: [\w/&,()-]+){0,4} ?:(?=\s|$)")
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘/]*$")
_NEXT_WORD = re.compile(r"[^\s.,;:!?)]*")
_GOES_ON_AFTER_QUESTION = re.compile(r"\s+(?:versus|vs|or)\b")
_LENGTH = re.compile(r"\d+ ?[cm]m\b")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A full stop after one of these never ends a sentence ...
_ABBREVIATIONS = _words("al cf dr drs e.g eg fig figs i.e mr mrs ms prof st vs viz")
# ... after one of these only before a capital letter ...
_ABBREVIATIONS_MOSTLY = _words(
    "a.m am ant approx appr avg bilat c.o dept est etc h.o hosp hx incl inf lat lt max min p.m pm post pt r.o resp rt s.p"
    " sup v w.o y.o yo yr yrs"
)
# ... and after a unit not before one of these ("2.5 cm. in diameter").
_UNITS = _words("cm mm in ml cc fr deg hr hrs")
_AFTER_UNIT = _words("above and at below beyond by diameter distal from in into long of or proximal thick to wide x")
# These begin a sentence even after what looks like an initial ("Hepatitis C. No").
_BEGINS = _words("heart it lungs mild no normal stable the there this")
# A number after one of these is no list item ("segment 2. The").
_TAKES_NUMBER = _words(
    "about and approximately by c day days equals factor figure frame grade image images l least level levels measuring"
    " measures no number of or phase rib ribs segment segments series stage t than to type vertebra view views x zone"
)
# A line that ends in one of these goes on in the next.
_GOES_ON = _words(
    "a above an and anterior are as at be been below between bilateral but by compared distal dr for from has have in is its large likely lower may mid mild"
    " middle moderate near new no nor not of on or over per possible posterior probable projects proximal severe since small than that the these this"
    " to versus via vs was were which with within without"
)
_UNWRAPPED_WIDTH = 50


def split_sentences(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of the sentences of text[start:end]: offsets into `text`, ascending, disjoint, trimmed, each with a word.

    Every letter and digit of the stretch lies in one sentence, except those of list numbers ("2.", "b)").
    """
    stretch = text[start:end]
    spans: list[tuple[int, int]] = []
    lines: _Lines | None = None  # looked at only if there is a line end
    begin, number = _skip_list_item(stretch, 0, 0)
    for match in _CANDIDATE.finditer(stretch):
        at = match.start()
        if at < begin:  # the full stop of a list number
            continue
        if match["stop"] is not None:
            ends, stop, after = _stops(stretch, begin, at, match.end("stop"), match.end()), match.end(), match.end()
        elif match["line"] is not None:
            lines = lines or _lines(stretch)
            ends = match["blank"] is not None or _line_ends_sentence(stretch, begin, at, match.end(), lines)
            stop, after = at, match.end()
        else:
            ends, stop, after = _counts_on(stretch, begin, at, match.end(), number), at, at
        if ends:
            _add(spans, stretch, begin, stop, start)
            begin, number = _skip_list_item(stretch, after, number)
    _add(spans, stretch, begin, len(stretch), start)
    return spans


def _add(spans: list[tuple[int, int]], text: str, begin: int, end: int, offset: int) -> None:
    """Add text[begin:end], trimmed and shifted by `offset`, if there is a letter or digit in it."""
    sentence = text[begin:end]
    if _LETTER_OR_DIGIT.search(sentence):
        left = len(sentence) - len(sentence.lstrip())
        spans.append((offset + begin + left, offset + begin + len(sentence.rstrip())))


def _skip_list_item(text: str, at: int, number: int) -> tuple[int, int]:
    """Where the words begin after white space, list numbers and bullets at `at`, and the number last counted."""
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        item = _LIST_ITEM.match(text, at)
        if item is None:
            return at, number
        at = item.end()
        number = int(item["number"]) if item["number"] else number


def _stops(text: str, begin: int, at: int, mark_end: int, end: int) -> bool:
    """Whether the marks text[at:mark_end], with closing quotes and brackets up to `end`, end the sentence from `begin`."""
    if end == len(text):
        return True
    mark = text[at:mark_end]
    if not text[end].isspace():
        # "apex.There", "fibrosis.2. Scar"; not "1.5", "T.spine", "U.S.A"
        if mark != "." or end != mark_end:
            return False
        word = _last_word(text, begin, at)
        if not (text[end].isupper() or (_LIST_ITEM.match(text, end) and not word.isdigit())):
            return False
        return (len(word) > 1 or word.isdigit()) and "." not in word and word.lower() not in _ABBREVIATIONS
    if mark[0] != ".":
        if mark[0] == "?" and _GOES_ON_AFTER_QUESTION.match(text, end):
            return False  # "failure? versus infection"
        return at > 0 and not text[at - 1].isspace()  # "? pneumonia" is a hedge
    if len(mark) > 2:
        return False
    word = _last_word(text, begin, at)
    lower = word.lower()
    if lower in _ABBREVIATIONS:
        return False
    following = end
    while following < len(text) and text[following].isspace():
        following += 1
    if not word or following == len(text):
        return True
    if lower in _ABBREVIATIONS_MOSTLY or "." in word:  # "M.D.", "a.k.a."
        return text[following].isupper()
    if lower == "no":
        return not text[following].isdigit()
    if lower in _UNITS:
        return _next_word(text, following).lower() not in _AFTER_UNIT
    if word.isdigit():
        return _LENGTH.match(text, following) is None  # "1. 5 cm": a decimal with a space too many
    if len(word) == 1 and word.isupper():
        return not _is_initial(text, begin, at, following)
    return True


def _is_initial(text: str, begin: int, at: int, following: int) -> bool:
    """Whether the single capital before the full stop at `at` stands for a name or word ("J. Smith", "T. spine")."""
    follower = _next_word(text, following).lower()
    if follower == "spine" or follower in _BEGINS:
        return follower == "spine"
    words = text[max(begin, at - 40) : at].split()
    previous = words[-2] if len(words) > 1 else ""
    if len(follower) == 1 and text[following + 1 : following + 2] == ".":
        return True
    named = previous in ("", "by") or previous.endswith(".") or (previous[0].isupper() and not previous.isupper())
    return named and not text[following].isdigit()


def _last_word(text: str, begin: int, at: int) -> str:
    """The word that ends at `at`, in so far as it lies after `begin` (and within 24 characters)."""
    match = _LAST_WORD.search(text, max(begin, at - 24), at)
    return match.group() if match else ""


def _next_word(text: str, at: int) -> str:
    match = _NEXT_WORD.match(text, at)
    return match.group() if match else ""


def _counts_on(text: str, begin: int, at: int, end: int, last: int) -> bool:
    """Whether the number text[at:end] in the midst of a line is the list item after `last`."""
    number = int(text[at:end].lstrip("("))
    before = text[max(begin, at - 120) : at].rstrip()
    if not before:
        return False
    if before[-1] == ":":
        return number == 1
    if text[end] == ")":
        if text[at] != "(" and before.count("(") > before.count(")"):
            return False  # "(series 2, image 3) Nodule"
    elif not text[end + 1 : end + 8].lstrip()[:1].isupper():
        return False
    if number == 1 and len(before.split()) > 3:  # "Chest 1. Clear lungs. 2. Normal heart. Abdomen 1. ..."
        return False
    if number > 1 and (last == 0 or number != last + 1):
        return False
    return _last_word(before, 0, len(before)).lower() not in _TAKES_NUMBER


class _Lines(NamedTuple):
    """How the lines of a text look: the length of the longest, whether no line is wrapped, whether there are capitals."""

    width: int
    unwrapped: bool
    capitals: bool


def _lines(text: str) -> _Lines:
    lines = text.split("\n")
    width = max(map(len, lines))
    fits = [
        len(line) + 1 + len(_next_word(following, len(following) - len(following.lstrip()))) < width
        for line, following in pairwise(lines)
        if len(line) < width and line.strip() and following.strip()
    ]
    return _Lines(width, width < _UNWRAPPED_WIDTH or (len(fits) > 1 and all(fits)), text != text.lower())


def _line_ends_sentence(text: str, begin: int, at: int, following: int, lines: _Lines) -> bool:
    """Whether the line end at `at`, before a line whose text begins at `following`, is more than a wrap."""
    if following == len(text) or _LIST_ITEM.match(text, following) or _LABEL.match(text, following):
        return True
    before = text[max(begin, at - 40) : at].rstrip()
    if not before or before[-1] in ",;:-–(/":
        return False
    if not text[following].isupper() and (lines.capitals or not lines.unwrapped):
        return False
    if _last_word(before, 0, len(before)).lower().rstrip(".") in _GOES_ON:
        return False
    length = at - (text.rfind("\n", 0, at) + 1)
    return lines.unwrapped or length + 1 + len(_next_word(text, following)) < lines.width
