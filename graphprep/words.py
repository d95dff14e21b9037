"""Tokens and word forms: what "the same word" means to the lexicon, the extractors and the linker."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

# NLTK's wordpunct pattern: RadGraph counts its tokens this way, so our mentions can be compared with the model's.
TOKEN = re.compile(r"\w+|[^\w\s]+")

# What de-identification leaves in place of a word (Open-i writes XXXX, MIMIC ___).
PLACEHOLDER = re.compile(r"x{3,}|_{2,}", re.IGNORECASE)

STOP_WORDS = frozenset(
    "a an and are as at be by for from in into is it its near no not of off on or over per s than that the their there this to too under up "
    "upon via was were with within without - / , . ( ) '".split()
)

_IRREGULAR = {
    "apices": "apex",
    "apexes": "apex",
    "atelectases": "atelectasis",
    "axillae": "axilla",
    "bases": "base",
    "bronchi": "bronchus",
    "bullae": "bulla",
    "bursae": "bursa",
    "calcis": "calcis",
    "cavae": "cava",
    "costae": "costa",
    "diagnoses": "diagnosis",
    "diverticula": "diverticulum",
    "emboli": "embolus",
    "exostoses": "exostosis",
    "fibroses": "fibrosis",
    "foci": "focus",
    "foramina": "foramen",
    "hernias": "hernia",
    "hila": "hilum",
    "hili": "hilum",
    "hilus": "hilum",
    "lumina": "lumen",
    "maxima": "maximum",
    "metastases": "metastasis",
    "pleurae": "pleura",
    "pneumothoraces": "pneumothorax",
    "pneumothoracies": "pneumothorax",
    "pneumothoraxes": "pneumothorax",
    "pneumothoracis": "pneumothorax",
    "hemothoraces": "hemothorax",
    "hydropneumothoraces": "hydropneumothorax",
    "prostheses": "prosthesis",
    "pulmonis": "pulmonis",
    "scapulae": "scapula",
    "septa": "septum",
    "stenoses": "stenosis",
    "sterna": "sternum",
    "sulci": "sulcus",
    "thoraces": "thorax",
    "thrombi": "thrombus",
    "tracheae": "trachea",
    "vertebrae": "vertebra",
    "viscera": "viscus",
    "biopsies": "biopsy",
    "lenses": "lens",
    "gas": "gas",
    "biceps": "biceps",
    "pus": "pus",
    "plus": "plus",
    "ribs": "rib",
}


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return the lower-case singular of a word: "Opacities" → "opacity", "apices" → "apex"."""
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is", "ous")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word[:-1]


def alternatives(phrase: str) -> list[str]:
    """Return the phrases that a rule's phrase stands for: a place may be left to one of several words, or to none.

    "has|have now| resolved" stands for four; "may_be|likely due to" has two words in one place.
    """
    if "|" not in phrase:
        return [phrase]
    options = product(*(place.split("|") for place in phrase.split()))
    return [" ".join(filter(None, words)).replace("_", " ") for words in options]


def has_placeholder(text: str) -> bool:
    """Return whether a word of the text was removed by de-identification."""
    return any(PLACEHOLDER.fullmatch(token) for token in tokenize(text))


def tokenize(text: str) -> list[str]:
    """Return the tokens of a text, as RadGraph counts them."""
    return TOKEN.findall(text)


@lru_cache(maxsize=65_536)
def content_stems(phrase: str) -> frozenset[str]:
    """Return the stems of a phrase's words, words without content left out."""
    return frozenset(
        stem(token) for token in tokenize(phrase.lower()) if token not in STOP_WORDS and token[0].isalnum()
    )
