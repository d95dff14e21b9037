"""Texts and character spans to tokens and token ranges: a WordPiece vocabulary learnt from the shards, or a transformers folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from trainer.data.graphs import GraphFolder, Split
from trainer.data.ragged import padded
from trainer.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LEARNT_FROM = 100_000
"""Texts that a vocabulary is learnt from; more of them do not change it."""


@dataclass(frozen=True)
class Encoded:
    """Tokens of some texts one after the other, and where their spans are."""

    tokens: NDArray[np.int32]
    lengths: NDArray[np.int64]  # by text
    span_start: NDArray[np.int32]  # by span, in the order given: first token of its text
    span_end: NDArray[np.int32]  # one past the last; equal to the start where the span is cut off or holds no token
    pad_id: int

    def padded(self) -> tuple[Tensor, Tensor]:
        """`input_ids` and `attention_mask`, (texts, longest text)."""
        return padded(self.tokens, self.lengths, self.pad_id)


class Tokenizer:
    """A fast tokenizer with a longest length."""

    def __init__(self, backend: tokenizers.Tokenizer, pad_token: str, max_tokens: int) -> None:
        pad_id = backend.token_to_id(pad_token)
        if pad_id is None:
            raise UserError(f"The tokenizer has no padding token {pad_token}.")
        self.backend, self.pad_token, self.pad_id, self.max_tokens = backend, pad_token, int(pad_id), max_tokens
        backend.no_padding()
        backend.enable_truncation(max_tokens)

    def __len__(self) -> int:
        """Entries of the vocabulary; ids are below."""
        return int(max(self.backend.get_vocab().values())) + 1

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the tokens of a text."""
        return hashlib.sha256(f"{self.backend.to_str()}{self.pad_id}/{self.max_tokens}".encode()).hexdigest()

    def encode(self, texts: Sequence[str], spans: Sequence[Sequence[tuple[int, int]]] | None = None) -> Encoded:
        """Tokens of texts with their special tokens, cut at the longest length.

        Args:
            texts: any number.
            spans: for each text, ranges of code points, end exclusive.
        """
        encodings = self.backend.encode_batch(list(texts))
        lengths = np.fromiter((len(encoding.ids) for encoding in encodings), np.int64, len(encodings))
        tokens = np.fromiter((token for encoding in encodings for token in encoding.ids), np.int32, int(lengths.sum()))
        ranges = [np.zeros((2, 0), np.int32)]
        for encoding, of_text in zip(encodings, spans or [()] * len(encodings), strict=True):
            if of_text:
                ranges.append(_token_ranges(encoding, np.asarray(of_text)))
        starts, ends = np.concatenate(ranges, axis=1)
        return Encoded(tokens, lengths, starts, ends, self.pad_id)

    def save(self, folder: Path) -> None:
        """Write a folder that `transformers.AutoTokenizer` loads."""
        from transformers import PreTrainedTokenizerFast

        special = dict(zip(("unk_token", "cls_token", "sep_token", "mask_token"), _SPECIAL[1:], strict=True))
        known = {key: token for key, token in special.items() if self.backend.token_to_id(token) is not None}
        whole = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_object=self.backend, pad_token=self.pad_token, model_max_length=self.max_tokens, **known
        )
        whole.save_pretrained(str(folder))

    @classmethod
    def load(cls, folder: Path | str, max_tokens: int) -> Tokenizer:
        """The tokenizer of a transformers folder; nothing is downloaded, and no code of the folder is run.

        Raises:
            UserError: there is none, or it has no fast form, which alone knows where in the text a token is.
        """
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(
                f"The tokenizer folder {folder} is not there. Give a folder with tokenizer.json or vocab.txt."
            )
        try:
            # The class that the folder names may be one of another major version; tokenizer.json alone says it all.
            kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").is_file() else AutoTokenizer
            loaded = kind.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # whatever transformers and tokenizers raise for a broken folder
            raise UserError(f"{folder} holds no tokenizer that can be read ({type(error).__name__}).") from None
        if not getattr(loaded, "is_fast", False):
            raise UserError(f"The tokenizer of {folder} has no fast form. Save it once with tokenizer.json in it.")
        if loaded.pad_token is None:
            raise UserError(f"The tokenizer of {folder} has no padding token, so it is not that of a text encoder.")
        longest = min(max_tokens, int(loaded.model_max_length))
        return cls(loaded.backend_tokenizer, str(loaded.pad_token), longest)


def load_tokenizer(
    folder: Path | str | None,
    graphs: GraphFolder,
    vocabulary_size: int = 8000,
    max_tokens: int = 256,
    validation_fraction: float = 0.1,
) -> Tokenizer:
    """The tokenizer of a transformers folder, or one learnt from the training reports of the graphs."""
    if folder is not None:
        return Tokenizer.load(folder, max_tokens)
    rows = graphs.splits(validation_fraction).rows(Split.TRAIN)
    if len(rows) > _LEARNT_FROM:
        rows = rows[np.linspace(0, len(rows) - 1, _LEARNT_FROM).astype(np.int64)]
    return learn_tokenizer(list(graphs.texts(rows)), vocabulary_size, max_tokens)


def learn_tokenizer(texts: Iterable[str], vocabulary_size: int, max_tokens: int) -> Tokenizer:
    """Learn word pieces, in lower case. The order of the texts does not matter."""
    texts = list(texts)
    # The trainer numbers the pieces ##a, ##b … in the order of a hash table that differs from run to run, and breaks ties by
    # number. So they are found first, and given in their order as if they were special tokens.
    letters = sorted(set(_train(texts, 0, _SPECIAL).get_vocab()) - set(_SPECIAL))
    vocabulary = _train(texts, max(vocabulary_size, len(_SPECIAL) + len(letters)), (*_SPECIAL, *letters)).get_vocab()
    backend = _empty(dict(sorted(vocabulary.items(), key=lambda entry: entry[1])))
    backend.add_special_tokens(list(_SPECIAL))
    cls, sep = (("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"]))
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[cls, sep])
    return Tokenizer(backend, "[PAD]", max_tokens)


def _empty(vocabulary: dict[str, int] | None) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def _train(texts: list[str], size: int, special: Sequence[str]) -> tokenizers.Tokenizer:
    backend = _empty(None)
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=list(special), show_progress=False
    )
    backend.train_from_iterator(texts, trainer=trainer)
    return backend


def _token_ranges(encoding: tokenizers.Encoding, spans: NDArray[np.int64]) -> NDArray[np.int32]:
    """First and one past the last token of each span: those that share a code point with it. (2, spans)"""
    places = np.asarray(encoding.offsets)
    text = np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
    if not len(text):
        return np.zeros((2, len(spans)), np.int32)
    starts, ends = places[text].T
    first = np.searchsorted(ends, spans[:, 0], side="right")
    last = np.maximum(np.searchsorted(starts, spans[:, 1], side="left"), first)
    ranges: NDArray[np.int32] = (np.stack([first, last]) + text[0]).astype(np.int32)
    return ranges
