"""Many texts to annotations: each distinct text once, sorted by length, in batches of a budget of tokens.

Batching changes the last digits of what a network computes, and with them a label where two were as good as equal. In float32
a text of which any decision was that close is run again alone, as the package runs it: so the annotations are the same at any
batch size and in any company. In half precision they are those of the given batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from graphprep.errors import UserError
from graphprep.extractors.radgraph.batches import Batch, Pieces, group, pack
from graphprep.extractors.radgraph.network import Labels, Network, Scores

BATCH_TOKENS = {"cpu": 256, "cuda": 8_192}
"""Tokens of a batch by device. On a processor a batch gains little, and large ones lose what the caches hold; on a GPU the 200
reports that `extract` hands out at a time are to be several batches, so that something is beside it to be prepared."""

_CLOSE = 5e-5
"""Scores that differ by less are as good as equal in float32: batches change them by less than 5e-6 where it was measured."""

_REMEMBERED, _REMEMBERED_WORDS = 32_768, 60
"""Annotations that are kept from call to call, of texts up to so many words: those are the ones that reports share."""

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a model says of a text, in the package's order.

    `entities` are (first word, last word, label), words counted from 0, the last included. `relations` are (entity, entity,
    label); those of spans that are no entities are left out, as the package does.
    """

    entities: tuple[tuple[int, int, str], ...] = ()
    relations: tuple[tuple[int, int, str], ...] = ()


class Annotator:
    """Runs a network over texts, given as their words.

    Args:
        network: of `graphprep.extractors.radgraph.network`.
        batch_tokens: words of a batch, padding counted.
    """

    def __init__(self, network: Network, batch_tokens: int | None = None) -> None:
        self._network = network
        self._budget = batch_tokens or BATCH_TOKENS[network.device.type]
        self._remembered: dict[Words, Annotation] = {}

    def __call__(self, texts: Sequence[Words]) -> list[Annotation]:
        """The annotation of every text; one without words, or with none that the tokenizer knows, has nothing in it.

        Raises:
            UserError: the GPU has no memory for even one text.
        """
        found = {words: self._remembered[words] for words in texts if words in self._remembered}
        distinct = [words for words in dict.fromkeys(texts) if words and words not in found]
        again: list[int] = []
        for number, annotation, margin in self._run(distinct, group([len(words) for words in distinct], self._budget)):
            found[distinct[number]] = annotation
            if margin < _CLOSE and not self._network.half:
                again.append(number)
        for number, annotation, _ in self._run(distinct, [[number] for number in sorted(again)]):
            found[distinct[number]] = annotation
        self._remember(found)
        return [found.get(words, Annotation()) for words in texts]

    def _remember(self, found: dict[Words, Annotation]) -> None:
        if self._network.half:
            return  # there what a text shared its batch with may count
        if len(self._remembered) > _REMEMBERED:
            self._remembered.clear()
        self._remembered.update((words, each) for words, each in found.items() if len(words) <= _REMEMBERED_WORDS)

    def _run(self, texts: Sequence[Words], groups: list[list[int]]) -> Iterator[tuple[int, Annotation, float]]:
        """Number, annotation and margin of the texts of the groups. A thread prepares and decodes beside the device."""

        def prepare(numbers: list[int]) -> list[Batch]:
            pieces = self._network.cut([texts[number] for number in numbers])
            known: list[tuple[int, Pieces]] = [
                (number, each) for number, each in zip(numbers, pieces, strict=True) if each.ids
            ]
            return pack([number for number, _ in known], [each for _, each in known], self._network.cut.padding)

        with ThreadPoolExecutor(1) as beside:
            decoded: list[Future[list[tuple[int, Annotation, float]]]] = []
            ready = beside.submit(prepare, groups[0]) if groups else None
            for following in [*groups[1:], None] if groups else []:
                assert ready is not None
                batches = ready.result()
                ready = None if following is None else beside.submit(prepare, following)
                for batch in batches:
                    for part, scores in halving(self._network, batch):
                        decoded.append(beside.submit(self._decode, part, scores))
                while len(decoded) > 2:  # labels stay on the device until they are decoded
                    yield from decoded.pop(0).result()
            for future in decoded:
                yield from future.result()

    def _decode(self, batch: Batch, scores: Scores) -> list[tuple[int, Annotation, float]]:
        labels = scores.labels()
        annotations = annotations_of(labels, len(batch.texts), self._network.span_labels, self._network.pair_labels)
        return list(zip(batch.texts, annotations, labels.margins.tolist(), strict=True))


def halving(network: Callable[[Batch], Scores], batch: Batch) -> Iterator[tuple[Batch, Scores]]:
    """Run a batch; where the GPU has no memory for it, its halves, and theirs.

    Raises:
        UserError: there is no memory for a single text.
    """
    parts = [batch]
    while parts:
        part = parts.pop()
        try:
            scores: Scores | None = network(part)
        except torch.cuda.OutOfMemoryError:
            scores = None  # the error holds what was computed: memory is free only after this block
        if scores is not None:
            yield part, scores
        elif len(part.texts) > 1:
            torch.cuda.empty_cache()
            parts += reversed(part.halves())
        else:
            raise UserError(
                "The GPU has no memory left for even one report. Give fewer --workers, end other programs that use it, or give "
                "--device cpu."
            )


def annotations_of(
    labels: Labels, texts: int, span_labels: Sequence[str], pair_labels: Sequence[str]
) -> list[Annotation]:
    """The labels of a batch, text by text. `span_labels` has the name of no label at 0, `pair_labels` has no such name."""
    entities: list[list[tuple[int, int, str]]] = [[] for _ in range(texts)]
    relations: list[list[tuple[int, int, str]]] = [[] for _ in range(texts)]
    number: dict[tuple[int, int, int], int] = {}
    for text, first, last, label in labels.spans.tolist():
        number[text, first, last] = len(entities[text])
        entities[text].append((first, last, span_labels[label]))
    for text, first, last, to_first, to_last, label in labels.pairs.tolist():
        one, other = number.get((text, first, last)), number.get((text, to_first, to_last))
        if one is not None and other is not None:
            relations[text].append((one, other, pair_labels[label - 1]))
    return [Annotation(tuple(e), tuple(r)) for e, r in zip(entities, relations, strict=True)]
