"""The sections of a MIMIC-CXR report, cut as the data set's own tool does, by general rules in place of its lists of studies.

A heading is capitals before a colon at the start of a line. Misspelt headings count as what they resemble, names of views
("CHEST, PA AND LATERAL:") as findings, findings headed together with the impression as impression. Of several sections of
one name the last with any text counts. Where there are neither findings nor impression, the findings are, in this order:
the paragraphs behind the first of the last section; a comparison in which the radiologist has written the report; the last
other section that reads as one; all that a report without headings says.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

COLUMNS = (
    "findings_from",
    "examination",
    "indication",
    "history",
    "technique",
    "comparison",
    "recommendations",
    "addendum",
    "notification",
    "wet_read",
    "other",
)
"""Columns behind findings and impression. `findings_from` says where the findings stood, `other` is all that has no column."""

_HEADING = re.compile(r"^[ \t]?([A-Z][A-Z ()/,-]*):(?=\s|\Z)", re.MULTILINE)
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_TITLE = re.compile(r"^\s*FINAL (?:REPORT|ADDENDUM)[ \t]*(?:\n|\Z)")
_NAMES = {
    "impression": ("impression", "conclusion", "findings and impression", "findings/impression", "impression and findings"),
    "findings": ("findings", "finding", "chest, two views", "reference findings"),
    "comparison": ("comparison", "comparisons", "comparison exam", "comparison film", "reference exam"),
    "indication": ("indication", "clinical indication", "reason for exam", "reason for examination"),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "examination": ("examination", "exam", "type of examination"),
    "technique": ("technique",),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "addendum": ("addendum",),
    "notification": ("notification",),
    "wet read": ("wet read", "wetread"),
}  # fmt: skip
_NAME_OF = {heading: name for name, headings in _NAMES.items() for heading in headings}
_WORTH_RESEMBLING = [heading for heading in _NAME_OF if " " not in heading and len(heading) > 7]
_PARTS = ("impression", "findings", "history", "comparison", "addendum")
_VIEWS = re.compile(
    r"\bchest\b|\bportable\b|\bribs?\b|\bbone window|\bfrontal (?:and|(?:semi-?)?upright)"
    r"|\b(?:pa|ap|lateral|lat|frontal|one|two|three|single) views?\b|\b(?:pa|ap|lateral) and (?:pa|ap|lat(?:eral)?)\b"
)
# Words of a report's body; two of them, and a section is no plain comparison or technique.
_BODY = re.compile(
    r"\b(lungs?|heart|cardiac|cardiomediastinal|mediastin\w+|hilar|pleura\w*|effusions?|pneumothora\w+|consolidations?|"
    r"opacit\w+|opacification|atelectas\w+|edema|pneumonia|tube|catheter|line|silhouette|vascul\w+|acute|clear|normal)\b",
    re.IGNORECASE,
)


class _Part(NamedTuple):
    name: str
    heading: str
    text: str


def cut(text: str) -> dict[str, str]:
    """The text of each column of a report (`findings`, `impression` and `COLUMNS`), without those that are empty."""
    parts = _parts(text)
    found: dict[str, str] = {}
    source = "heading"
    if not any(part.name in ("findings", "impression") for part in parts):
        parts, source = _findings_without_heading(parts)
    last = {part.name: i for i, part in enumerate(parts)}
    others = []
    for i, part in enumerate(parts):
        column = part.name.replace(" ", "_")
        if last[part.name] == i and column in ("findings", "impression", *COLUMNS):
            found[column] = part.text
        else:
            others.append(f"{part.heading}: {part.text}" if part.heading else part.text)
    if "findings" in found:
        found["findings_from"] = source
    if others:
        found["other"] = "\n\n".join(others)
    return found


def _parts(text: str) -> list[_Part]:
    """The sections in order, none empty; what stands before the first is named `preamble`."""
    text = _TITLE.sub("", text, count=1)
    headings = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)][: len(headings)]
    parts = [_Part("preamble", "", _tidy(text[: headings[0].start()] if headings else text))]
    parts += [
        _Part(_name(heading[1]), heading[1].strip(), _tidy(text[heading.end() : end]))
        for heading, end in zip(headings, ends, strict=True)
    ]
    return [part for part in parts if part.text]


def _name(heading: str) -> str:
    """The section that a heading means."""
    name = re.sub(r"\s*/\s*", "/", " ".join(heading.lower().split()))
    if name in _NAME_OF:
        return _NAME_OF[name]
    if nearest := difflib.get_close_matches(name, _WORTH_RESEMBLING, n=1, cutoff=0.85):
        return _NAME_OF[nearest[0]]
    for part in _PARTS:
        if part in name:
            return part
    return "findings" if _VIEWS.search(name) else name


def _findings_without_heading(parts: list[_Part]) -> tuple[list[_Part], str]:
    """The sections with one of findings made of what the report has in their place, and what that was."""
    if not parts:
        return parts, ""
    first, *rest = _BLANK_LINE.split(parts[-1].text, maxsplit=1)
    alone = parts[-1].name == "preamble"
    if rest and not (alone and _reads_as_body(first)):
        return [*parts[:-1], parts[-1]._replace(text=first), _Part("findings", "", rest[0].strip())], "last_paragraph"
    if alone:
        return [parts[0]._replace(name="findings")], "report"
    in_order = sorted(range(len(parts)), key=lambda i: (parts[i].name == "comparison", i), reverse=True)
    for i in in_order:
        if parts[i].name != "preamble" and _reads_as_body(parts[i].text):
            source = parts[i].name.replace(" ", "_")
            return [*parts[:i], parts[i]._replace(name="findings"), *parts[i + 1 :]], source
    return parts, ""


def _reads_as_body(text: str) -> bool:
    return len({word.lower() for word in _BODY.findall(text)}) > 1


def _tidy(text: str) -> str:
    """A text without the blanks at the ends of its lines; blank lines stay."""
    return re.sub(r"[ \t]*\n[ \t]*", "\n", text).strip()
