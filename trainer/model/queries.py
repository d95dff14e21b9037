"""Queries over images: a query is (concept, side), it attends over the patches of every image and returns what it sees there.

    k = W_k F_b,  w = W_v F_b,  α[u, b] = softmax_l(q_u · k_l / √d_h),  v[u, b] = W_o Σ_l α_l w_l

Nothing of the query is added to the answer and nothing of any report reaches it: on one and the same image every report gets the
same answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.graph.concepts import ConceptTable
from trainer.model.take import take


class QueryEmbedding(nn.Module):
    """q = concept + side + mean of the ancestors' embeddings, so that rare concepts share what their relatives have learnt."""

    ancestor_of: Tensor
    ancestor: Tensor
    ancestor_count: Tensor

    def __init__(self, table: ConceptTable, dim: int) -> None:
        super().__init__()
        self.concept = nn.Embedding(len(table), dim)
        self.side = nn.Embedding(3, dim)
        nn.init.normal_(self.concept.weight)
        nn.init.normal_(self.side.weight)
        of, ancestor = table.ancestors()
        self.register_buffer("ancestor_of", of, persistent=False)
        self.register_buffer("ancestor", ancestor, persistent=False)
        self.register_buffer("ancestor_count", torch.bincount(of, minlength=len(table)), persistent=False)

    def forward(self, concept: Tensor, side: Tensor) -> Tensor:
        """(U,), (U,) → (U, d)"""
        weight = self.concept.weight
        shared = torch.zeros_like(weight).index_add(0, self.ancestor_of, take(weight, self.ancestor))
        shared = shared / self.ancestor_count[:, None]
        query: Tensor = take(weight, concept) + take(shared, concept) + self.side(side)
        return query


@dataclass
class Answers:
    """What U queries see in B images."""

    values: Tensor  # (U, B, d)
    attention: Tensor  # (U, B, L), mean of the heads; sums to 1
    logits: Tensor  # (U, B, heads, L), before softmax


class Attend(nn.Module):
    """Attention of queries over the patches of all images."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.query = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim, bias=False))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, queries: Tensor, patches: Tensor) -> Answers:
        """(U, d), (B, L, d) → answers"""
        logits = self.logits(queries, patches)
        return self.read(logits, self.values(patches))

    def logits(self, queries: Tensor, patches: Tensor) -> Tensor:
        """(U, d), (B, L, d) → (U, B, heads, L)"""
        q = self.split(self.query(queries))  # (U, h, d_h)
        k = self.split(self.key(patches))  # (B, L, h, d_h)
        logits: Tensor = torch.einsum("uhd,blhd->ubhl", q, k) * float(q.shape[-1]) ** -0.5
        return logits

    def values(self, patches: Tensor) -> Tensor:
        """(B, L, d) → (B, L, heads, d_h)"""
        return self.split(self.value(patches))

    def read(self, logits: Tensor, values: Tensor) -> Answers:
        """Attended values: (U, B, heads, L), (B, L, heads, d_h) → answers"""
        attention = logits.float().softmax(-1).to(values.dtype)
        seen = torch.einsum("ubhl,blhd->ubhd", attention, values)  # (U, B, h, d_h)
        return Answers(self.out(seen.flatten(2)), attention.mean(2), logits)

    def split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
