"""A batch of texts to the label of every span and of every pair of spans.

The modules and their weights are those of the package's DyGIE model; what runs through them is ours. The package's own
`forward` knows one document at a time, builds an object for every span, holds the embeddings of all pairs of spans at once
(their memory grows with the square of the length), and in a batch masks only the second span of a pair. Here spans are
numbered by arithmetic, the first layer over a pair is applied to its parts and pairs are taken row by row, so that the same
sums need a fraction of the memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graphprep.errors import UserError
from graphprep.extractors.radgraph.batches import Batch, PieceCutter
from graphprep.extractors.radgraph.convert import read_weights
from graphprep.extractors.radgraph.folder import MADE_BY, ModelFolder, label_files

_PAIR_NUMBERS = {"cpu": 1 << 21, "cuda": 1 << 27}
"""So many numbers of pair embeddings are held at once."""

HALF = {"bert": torch.float16, "modernbert": torch.bfloat16}
"""Half precision by encoder; ModernBERT was trained in bfloat16, and what it computes can be too large for float16."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the network says of a batch; spans and pairs that it gives no label are left out.

    `spans` (S, 4): text (row of the batch), first word, last word, label. `pairs` (R, 6): text, first and last word of the one
    span, of the other, label. Both in the package's order. `margins` (B,): by how much the closest of a text's decisions was
    decided.
    """

    spans: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    margins: npt.NDArray[np.float32]


class Network:
    """A model on a device. With `half`, the encoder computes in half precision; labels are decided in float32 always.

    Raises:
        UserError: the folder's files do not belong together.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, half: bool = False) -> None:
        self.device = device
        self.half = half
        config = folder.config()
        encoder = folder.encoder_config()["model_type"]
        with _quiet():
            model, indexer = _build(folder, config)
        self.cut = PieceCutter(indexer)
        self._width: int = model._max_span_width
        self._spans_per_word: float = model._relation._spans_per_word
        mentions, relations = (file.removesuffix(".txt") for file in label_files(folder.name))
        self.span_labels = _names(model.vocab, mentions)
        self.pair_labels = _names(model.vocab, relations)
        self._embed = model._embedder.token_embedder_bert
        self._embed._matched_embedder.transformer_model.config.reference_compile = False  # seconds for every new length
        self._span = model._endpoint_span_extractor
        self._score_spans = model._ner._ner_scorers[mentions]
        self._score_candidates = model._relation._mention_pruners[relations]._scorer
        self._pair_layers = model._relation._relation_feedforwards[relations]
        self._score_pairs = model._relation._relation_scorers[relations]
        model.requires_grad_(False).eval().to(device)
        if half:  # the weights alone: positions are computed from buffers that must stay exact
            for weight in self._embed.parameters():
                weight.data = weight.data.to(HALF[encoder])

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Scores:
        """Run the network. On a GPU this returns before it is done; `Scores.labels` waits for it."""
        words = self._words(batch)
        row, first, last = (torch.from_numpy(each).to(self.device) for each in self._enumerate(batch.lengths))
        at = row * words.size(1)
        spans = self._span(words.flatten(0, 1)[None], torch.stack([first + at, last + at], dim=1)[None])
        span_labels, span_margins = _decide(self._score_spans(spans)[0])
        size = len(batch.texts)
        margins = torch.full((size,), torch.inf, device=self.device)
        margins.scatter_reduce_(0, row, span_margins, "amin")

        # The candidates of every text: as many spans as its length allows, the highest scores first.
        scores = self._score_candidates(spans)[0, :, 0]
        starts, counts = _span_ranges(batch.lengths, self._width)
        kept = torch.ceil(torch.from_numpy(batch.lengths).float() * self._spans_per_word).long().clamp(min=1)
        kept = torch.minimum(kept, torch.from_numpy(counts))
        most = int(kept.max())
        starts_, counts_, kept_ = (torch.as_tensor(each, device=self.device) for each in (starts, counts, kept))
        table = scores.new_full((size, int(counts.max())), -torch.inf)
        table[row, torch.arange(len(row), device=self.device) - starts_[row]] = scores
        ranked = F.pad(table, (0, 1), value=-torch.inf).topk(most + 1, dim=1)
        number = torch.arange(most + 1, device=self.device)
        boundary = ranked.values.gather(1, torch.stack([kept_ - 1, kept_], dim=1))
        margins = torch.minimum(margins, torch.where(kept_ < counts_, boundary[:, 0] - boundary[:, 1], torch.inf))
        wanted = number[:most] < kept_[:, None]
        chosen = torch.where(wanted, ranked.indices[:, :most], table.size(1)).sort(dim=1).values
        chosen = chosen.clamp(max=table.size(1) - 1)
        chosen = torch.where(wanted, chosen + starts_[:, None], starts_[:, None])  # (B, K), places in `spans`
        pair_labels, pair_margins = self._pairs(spans[0][chosen], scores[chosen], wanted)
        margins = torch.minimum(margins, pair_margins)
        return Scores(row, first, last, span_labels, chosen, pair_labels, margins)

    def _words(self, batch: Batch) -> torch.Tensor:
        """The embeddings of all words, (B, T, d), in float32."""
        ids, seen, mask, places = (
            each.to(self.device, non_blocking=True) for each in (batch.ids, batch.seen, batch.word_mask, batch.places)
        )
        embedded: torch.Tensor = self._embed(ids, mask, places, wordpiece_mask=seen, segment_concat_mask=seen)
        return embedded.float()

    def _enumerate(self, lengths: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
        """Text, first and last word of all spans, by text, first word and last word."""
        words = np.arange(int(lengths.max()))
        ends = words[:, None] + np.arange(self._width)  # (T, width)
        inside = ends[None] < lengths[:, None, None]
        row, first, width = inside.nonzero()
        return row, first, first + width

    def _pairs(
        self, spans: torch.Tensor, scores: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The labels of all pairs of candidates, (B, K, K), 0 for none, and the margin of every text, (B,).

        `spans` (B, K, d) and `scores` (B, K) are the candidates' own; those that are not `wanted` get no label.

        The first layer is linear in [one, other, one ⊙ other]. Its first two parts do not depend on the pair; that
        they are computed once for every span is what makes pairs cheap.
        """
        size, candidates, width = spans.shape
        (first, *others), activations = self._pair_layers._linear_layers, self._pair_layers._activations
        one, other, product = first.weight.split(width, dim=1)
        from_one, from_other = F.linear(spans, one, first.bias), F.linear(spans, other)
        rows = max(1, _PAIR_NUMBERS[self.device.type] // (size * candidates * width))
        labels, margins = [], torch.full((size,), torch.inf, device=spans.device)
        for start in range(0, candidates, rows):
            part = slice(start, start + rows)
            hidden = F.linear(spans[:, part, None] * spans[:, None], product)
            hidden += from_one[:, part, None]
            hidden += from_other[:, None]
            hidden = activations[0](hidden)
            for layer, activation in zip(others, activations[1:], strict=True):
                hidden = activation(layer(hidden))
            found = self._score_pairs(hidden) + (scores[:, part, None] + scores[:, None])[..., None]
            label, margin = _decide(found)
            both = wanted[:, part, None] & wanted[:, None]
            labels.append(torch.where(both, label, 0))
            margins = torch.minimum(margins, torch.where(both, margin, torch.inf).amin(dim=(1, 2)))
        return torch.cat(labels, dim=1), margins


@dataclass(frozen=True, slots=True)
class Scores:
    """What the network decided, still on the device; S spans, B texts, K candidates of each."""

    row: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    span_labels: torch.Tensor
    candidates: torch.Tensor
    pair_labels: torch.Tensor
    margins: torch.Tensor

    def labels(self) -> Labels:
        """Bring the labels here."""
        row, first, last, labels, candidates, pairs, margins = (
            each.cpu().numpy()
            for each in (
                self.row,
                self.first,
                self.last,
                self.span_labels,
                self.candidates,
                self.pair_labels,
                self.margins,
            )
        )
        (found,) = labels.nonzero()
        spans = np.stack([row[found], first[found], last[found], labels[found]], axis=1)
        text, one, other = pairs.nonzero()
        from_, to = candidates[text, one], candidates[text, other]
        related = np.stack([text, first[from_], last[from_], first[to], last[to], pairs[text, one, other]], axis=1)
        return Labels(spans, related, margins)


def _decide(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The best label, counted from 1, or 0 where none scores above nothing, which scores 0; and by how much it is best."""
    best, label = scores.max(dim=-1)
    if scores.size(-1) > 1:
        second = scores.topk(2, dim=-1).values[..., 1].clamp(min=0)
        margin = torch.where(best > 0, best - second, -best)
    else:
        margin = best.abs()
    return torch.where(best > 0, label + 1, 0), margin


def _span_ranges(lengths: npt.NDArray[np.int64], width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every text, the place of its first span among the spans of all, and how many it has."""
    full = np.minimum(lengths, width)
    counts = lengths * full - full * (full - 1) // 2
    return np.cumsum(counts) - counts, counts


# The package's model from a folder


def check_model(folder: ModelFolder) -> None:
    """Raise UserError where the files of a folder do not make a model."""
    Network(folder, torch.device("cpu"))


def _build(folder: ModelFolder, config: dict[str, Any]) -> tuple[Any, Any]:
    """The package's model and its indexer, as `radgraph.RadGraph` builds them; no lock file, no network, no pickle."""
    from radgraph.allennlp.common import cached_transformers
    from radgraph.allennlp.data.token_indexers import PretrainedTransformerMismatchedIndexer
    from radgraph.allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
    from radgraph.allennlp.modules.token_embedders import PretrainedTransformerMismatchedEmbedder
    from radgraph.dygie.models.dygie import DyGIE

    base = str(folder.base)
    try:
        settings = dict(config["model"])
        longest = config["dataset_reader"]["token_indexers"]["bert"].get("max_length")
        embedded = settings.pop("embedder")["token_embedders"]["bert"].get("max_length")
        for name in ("type", "initializer", "module_initializer"):
            settings.pop(name, None)
        indexer = PretrainedTransformerMismatchedIndexer(model_name=base, max_length=longest)
        embedder = PretrainedTransformerMismatchedEmbedder(model_name=base, max_length=embedded)
        vocabulary = _vocabulary(folder.labels)
        model = DyGIE(vocab=vocabulary, embedder=BasicTextFieldEmbedder({"bert": embedder}), **settings)
    except (KeyError, TypeError, AttributeError, ValueError, AssertionError, OSError) as error:
        raise UserError(
            f"{folder.path}: the model cannot be built from its configuration ({type(error).__name__}). {MADE_BY}"
        ) from error
    finally:
        cached_transformers._model_cache.clear()  # the package keeps a second copy of the encoder,
        cached_transformers._tokenizer_cache.clear()  # and takes a tokenizer by its path alone
    # Written by older versions of transformers as weights, though they are only counted.
    weights = {
        name: tensor
        for name, tensor in read_weights(folder.weights).items()
        if not name.endswith("embeddings.position_ids")
    }
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError:
        raise UserError(
            f"{folder.weights} holds the weights of another model than config.json says. {MADE_BY}"
        ) from None
    return model, indexer


def _vocabulary(folder: Path) -> Any:
    """The package's `Vocabulary` of the labels in a folder; its own reader wants to write a lock file there."""
    from radgraph.allennlp.common.util import namespace_match
    from radgraph.allennlp.data import Vocabulary

    unpadded = folder / "non_padded_namespaces.txt"
    patterns = unpadded.read_text(encoding="utf-8").split()
    vocabulary = Vocabulary(non_padded_namespaces=patterns)
    for file in sorted(folder.glob("*.txt")):
        if file != unpadded:
            padded = not any(namespace_match(pattern, file.stem) for pattern in patterns)
            vocabulary.set_from_file(str(file), padded, namespace=file.stem)
    return vocabulary


def _names(vocabulary: Any, namespace: str) -> list[str]:
    names = vocabulary.get_index_to_token_vocabulary(namespace)
    return [names[number] for number in range(len(names))]


@contextmanager
def _quiet() -> Iterator[None]:
    """The package turns on every deprecation warning when it is imported, and libraries of its age give many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import radgraph  # noqa: F401

        yield
