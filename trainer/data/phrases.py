"""What a node says, in words: for graphs without text, and for statements that no report has made."""

from __future__ import annotations

from collections.abc import Iterable

_BEFORE = {"present": "", "uncertain": "possible", "absent": "no"}


def phrase(name: str, side: str | None, assertion: str, attributes: Iterable[str] = ()) -> str:
    """Words of a node: `phrase("pleural effusion", "left", "absent", ["small"])` is "no small left pleural effusion".

    Args:
        name: the concept's name in the vocabulary.
        side: left, right, bilateral or None.
        assertion: present, uncertain or absent.
        attributes: words of its attributes.
    """
    return " ".join(part for part in (_BEFORE[assertion], *attributes, side, name) if part)


def join(phrases: Iterable[str]) -> tuple[str, list[tuple[int, int]]]:
    """One text of several phrases, and where each lies in it (code points, end exclusive)."""
    text, spans = "", []
    for words in phrases:
        text += "; " if text else ""
        spans.append((len(text), len(text) + len(words)))
        text += words
    return text, spans
