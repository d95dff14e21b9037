"""The concept bank: for every (concept, side, state) the mean of the texts that say so.

While training it is a set of running means that adds candidates to the image-to-text comparisons, so that a query whose texts in the
batch all say the same still meets the other polarity. After training it is what zero-shot classification and grounding read:
`sim(v_c, present) − sim(v_c, absent)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.concepts import SIDES_OF_A_QUERY, ConceptTable

STATES_OF_A_BANK = 3  # present, uncertain, absent


class ConceptBank(nn.Module):
    """Running means of unit texts, as buffers: `means` (C * 3, 3, d) and `counts` (C * 3, 3) by key and state."""

    means: Tensor
    counts: Tensor

    def __init__(self, table: ConceptTable, dim: int) -> None:
        super().__init__()
        keys = len(table) * SIDES_OF_A_QUERY
        self.register_buffer("means", torch.zeros(keys, STATES_OF_A_BANK, dim))
        self.register_buffer("counts", torch.zeros(keys, STATES_OF_A_BANK))

    @torch.no_grad()
    def add(self, key: Tensor, state: Tensor, texts: Tensor, momentum: float | None = None) -> None:
        """Take in texts (I, d) of queries with these keys (I,) and states (I,).

        Without momentum an entry is the mean of all its texts. With it, the mean of a batch counts for at least 1 − momentum, so
        that an entry follows an encoder that changes; the first texts count in full.
        """
        flat = key * STATES_OF_A_BANK + state - 1
        rows, inverse = torch.unique(flat, return_inverse=True)
        texts = texts.detach().to(self.means.dtype)
        number = torch.bincount(inverse, minlength=len(rows)).to(texts.dtype)
        mean = torch.zeros(len(rows), texts.shape[1], dtype=texts.dtype, device=texts.device)
        mean = mean.index_add_(0, inverse, texts) / number[:, None]
        means, counts = self.means.view(-1, texts.shape[1]), self.counts.view(-1)
        share = number / (counts[rows] + number)
        if momentum is not None:
            share = share.clamp(min=1 - momentum)
        means[rows] += share[:, None] * (mean - means[rows])
        counts[rows] += number

    @torch.no_grad()
    def put(self, key: Tensor, state: Tensor, texts: Tensor) -> None:
        """Set entries that no report gave, such as encoded phrases; their counts stay 0."""
        self.means[key, state - 1] = texts.detach().to(self.means.dtype)

    def clear(self) -> None:
        self.means.zero_()
        self.counts.zero_()

    def texts(self, concept: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """For queries (U,), (U,): their texts (U, 3, d) of unit length and which of them there are (U, 3)."""
        key = concept * SIDES_OF_A_QUERY + side
        means = self.means[key]
        return functional.normalize(means, dim=-1), means.abs().sum(-1) > 0

    def missing(self, concept: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """The (query, state) pairs, state present or absent, for which there is no text: rows of the queries and states."""
        _, there = self.texts(concept, side)
        there[:, 1] = True  # nobody asks how uncertain something looks
        rows, state = torch.nonzero(~there, as_tuple=True)
        return rows, state + 1

    def scores(self, answers: Tensor, concept: Tensor, side: Tensor) -> Tensor:
        """sim(v, present) − sim(v, absent): (U, B, d), (U,), (U,) → (U, B). Where one of the two is missing it counts 0."""
        texts, _ = self.texts(concept, side)
        contrast = texts[:, 0] - texts[:, 2]
        return torch.einsum("ubd,ud->ub", functional.normalize(answers.float(), dim=-1), contrast.float())
