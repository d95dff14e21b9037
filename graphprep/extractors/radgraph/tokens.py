"""The tokens that a model counts in, and where in the text they stand; the package gives the tokens alone.

The first model cuts at blanks and around some punctuation, the later ones as `graphprep.radgraph_json` does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphprep.radgraph_json import token_spans, tokens_of

# The package splits around [/,-,:,.,!?()], in which `,-,` is a range from comma to comma.
_FIRST = re.compile(r"[/,:.!?()]|[^\s/,:.!?()]+")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text as the model sees them; `spans` are their places in the text, end exclusive."""

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def tokenize(text: str, model: str) -> Tokens:
    """The tokens of a text for the model of a name, as `radgraph.utils.preprocess_reports` gives them."""
    if model == "radgraph":
        matches = list(_FIRST.finditer(text))
        return Tokens(tuple(match[0] for match in matches), tuple(match.span() for match in matches))
    return Tokens(tuple(tokens_of(text)), tuple(token_spans(text)))
