"""Tokens to word pieces, and many texts to one padded batch.

The package cuts every word into pieces by itself, so the pieces of a word are remembered. What it does with pieces and their
places is kept, its oddities included; `Pieces` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_WORDS_REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text as the encoder gets it.

    `places` (words, 2) are the first and last piece of every word, (-1, -1) where it has none. A text of more pieces than the
    encoder takes is cut into segments, each with special tokens of its own; `places` counts as if there were one segment.
    With some tokenizers (ModernBERT's) the package forgets the special tokens when it cuts, but not in `places`: every word is
    then one piece late and the last may have none. The models were published that way.
    """

    ids: list[int]
    places: npt.NDArray[np.int64]
    segmented: bool


class PieceCutter:
    """Cuts words into pieces; `indexer` is the package's PretrainedTransformerMismatchedIndexer."""

    def __init__(self, indexer: Any) -> None:
        inner = indexer._matched_indexer
        self._tokenizer = indexer._tokenizer
        self._before = [token.text_id for token in indexer._allennlp_tokenizer.single_sequence_start_tokens]
        self._after = [token.text_id for token in indexer._allennlp_tokenizer.single_sequence_end_tokens]
        self._longest: int | None = inner._max_length
        self._segment: int | None = None if self._longest is None else inner._effective_max_length
        self._known: dict[str, list[int]] = {}
        self.padding: int = self._tokenizer.pad_token_id or 0

    def __call__(self, texts: Sequence[Sequence[str]]) -> list[Pieces]:
        """The pieces of every text."""
        if len(self._known) > _WORDS_REMEMBERED:
            self._known.clear()
        unknown = sorted({word for words in texts for word in words} - self._known.keys())
        if unknown:
            # As the package's reader has it: "/." and "/?" lose their slash.
            encoded = self._tokenizer(
                [word[1:] if word in ("/.", "/?") else word for word in unknown],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
            self._known.update(zip(unknown, encoded["input_ids"], strict=True))
        return [self._pieces(words) for words in texts]

    def _pieces(self, words: Sequence[str]) -> Pieces:
        cut = [self._known[word] for word in words]
        lengths = np.fromiter(map(len, cut), np.int64, len(cut))
        ends = np.cumsum(lengths) + len(self._before)
        places = np.stack([ends - lengths, ends - 1], axis=1)
        ids = [piece for pieces in cut for piece in pieces]
        inside = len(ids)
        if self._segment is None:
            ids = [*self._before, *ids, *self._after]
            seen = len(ids)
        else:
            segments = [ids[at : at + self._segment] for at in range(0, len(ids), self._segment)]
            ids = [piece for part in segments for piece in self._tokenizer.build_inputs_with_special_tokens(part)]
            # What is left when the special tokens between segments are taken out again.
            seen = len(ids) - (_segments(len(ids), self._longest) - 1) * (len(self._before) + len(self._after))
        places[:, 1] = np.minimum(places[:, 1], seen - 1)
        places[(lengths == 0) | (places[:, 0] >= seen)] = -1
        return Pieces(ids if inside else [], places, self._longest is not None and len(ids) > self._longest)


def _segments(pieces: int, longest: int | None) -> int:
    return 1 if longest is None else max(1, -(-pieces // longest))


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts side by side. `texts` are their numbers; B of them, of at most T words and P pieces.

    `ids` (B, P), `seen` (B, P) and `word_mask` (B, T) and `places` (B, T, 2) are as the package's embedder takes them;
    `lengths` (B,) are the words of every text.
    """

    texts: list[int]
    lengths: npt.NDArray[np.int64]
    ids: torch.Tensor
    seen: torch.Tensor
    word_mask: torch.Tensor
    places: torch.Tensor

    def halves(self) -> tuple[Batch, Batch]:
        """The batch as two, of fewer texts each; the padding stays."""
        middle = len(self.texts) // 2
        return self._part(slice(0, middle)), self._part(slice(middle, None))

    def _part(self, part: slice) -> Batch:
        return Batch(
            self.texts[part],
            self.lengths[part],
            self.ids[part],
            self.seen[part],
            self.word_mask[part],
            self.places[part],
        )


def group(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The numbers of texts in groups of at most `budget` tokens, padding counted, the longest first; one text may be more."""
    groups: list[list[int]] = []
    longest = 0
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if groups and (len(groups[-1]) + 1) * longest <= budget:
            groups[-1].append(number)
        else:
            groups.append([number])
            longest = lengths[number]
    return groups


def pack(texts: Sequence[int], pieces: Sequence[Pieces], padding: int) -> list[Batch]:
    """Texts as one batch, those of several segments each as its own: the package's joining of segments is for one text."""
    together = [at for at, each in enumerate(pieces) if not each.segmented]
    alone = [at for at, each in enumerate(pieces) if each.segmented]
    groups = [*([together] if together else []), *([at] for at in alone)]
    return [_pack([texts[at] for at in group], [pieces[at] for at in group], padding) for group in groups]


def _pack(texts: list[int], pieces: list[Pieces], padding: int) -> Batch:
    lengths = np.array([len(each.places) for each in pieces], np.int64)
    size, words, width = len(pieces), int(lengths.max()), max(len(each.ids) for each in pieces)
    ids = np.full((size, width), padding, np.int64)
    seen = np.zeros((size, width), np.bool_)
    places = np.zeros((size, words, 2), np.int64)
    for row, each in enumerate(pieces):
        ids[row, : len(each.ids)] = each.ids
        seen[row, : len(each.ids)] = True
        places[row, : len(each.places)] = each.places
    word_mask = np.arange(words) < lengths[:, None]
    return Batch(texts, lengths, *(torch.from_numpy(array) for array in (ids, seen, word_mask, places)))
