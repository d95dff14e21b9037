"""The comparisons that all stages are made of, and how well they come out: really, with shuffled images, and by chance.

An anchor i has candidates j with similarities s_ij, weights w_ij ≥ 0 and a set P_i of positives (of weight 1). Its loss is the
divergence of the softmax from the uniform distribution over the positives,

    ℓ_i = KL(U(P_i) ‖ p_i) = −log |P_i| − 1/|P_i| Σ_{j ∈ P_i} log p_ij,    p_ij = w_ij e^{s_ij} / Σ_k w_ik e^{s_ik},

which is 0 where the positives share all probability alike. An anchor without positive, or without a negative, is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.graph.batch import State
from trainer.model.take import take

_NEVER = -1e9  # a finite logarithm of weight 0, so that no gradient is NaN
_TIE = 1e-4  # similarities that differ by less are equal: rounding is no answer


class Accuracy(NamedTuple):
    """Shares of anchors whose most similar known candidate is a positive; each a 0-d tensor without gradient."""

    real: Tensor
    blind: Tensor  # the same with the images shuffled within the batch
    prior: Tensor  # by chance: the mean share of positives among the candidates


@dataclass
class StageLoss:
    loss: Tensor  # 0-d; 0 where nothing can be compared
    accuracy: Accuracy


def full_precision(x: Tensor) -> torch.autocast:
    """Similarities are computed in the precision of their inputs, also in mixed precision: a temperature magnifies rounding."""
    return torch.autocast(x.device.type, enabled=False)


def divergence(similarity: Tensor, positive: Tensor, weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """ℓ of the module's docstring along `dim`, and which anchors count.

    Args:
        similarity: any shape, scaled by the temperature
        positive: bool, and `weight`: of the same shape; the weight of a positive is not looked at
    Returns:
        ℓ, 0 where an anchor does not count, and bool, both without `dim`
    """
    candidate = positive | (weight > 0)
    counts = positive.any(dim) & (candidate & ~positive).any(dim)
    weight = torch.where(positive, 1.0, weight)
    weighted = torch.where(candidate, similarity + weight.clamp(min=1e-30).log(), _NEVER)
    number = positive.sum(dim).clamp(min=1).to(similarity.dtype)
    attracted = torch.where(positive, similarity, 0.0).sum(dim) / number
    loss = weighted.logsumexp(dim) - attracted - number.log()
    return torch.where(counts, loss, 0.0), counts


@torch.no_grad()
def hits(similarity: Tensor, positive: Tensor, known: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each anchor: whether its nearest known candidate is a positive (ties shared), the chance of it, and whether it counts."""
    counts = positive.any(dim) & (known & ~positive).any(dim)
    nearest = torch.where(known, similarity, _NEVER)
    nearest = known & (nearest >= nearest.amax(dim, keepdim=True) - _TIE)
    hit = (nearest & positive).sum(dim) / nearest.sum(dim).clamp(min=1)
    chance = positive.sum(dim) / known.sum(dim).clamp(min=1)
    return hit * counts, chance * counts, counts


def mean_of(values: Tensor, weight: Tensor) -> Tensor:
    """Σ values · weight / Σ weight, 0 where there is no weight."""
    return (values * weight).sum() / weight.sum().clamp(min=torch.finfo(values.dtype).tiny)


def in_chunks(function: Callable[[int, int], Tensor], rows: int, size: int) -> Tensor:
    """Σ function(start, end) over chunks of rows; with more than one chunk each is recomputed in the backward pass.

    Memory is that of one chunk. `size` 0 means all at once.
    """
    if not size or rows <= size:
        return function(0, rows)
    total: Tensor | None = None
    for start in range(0, rows, size):
        part: Tensor = checkpoint(function, start, min(start + size, rows), use_reentrant=False)
        total = part if total is None else total + part
    assert total is not None
    return total


def state_contrast(
    texts: Tensor,
    query: Tensor,
    state: Tensor,
    answers: Tensor,
    states: Tensor,
    scale: Tensor,
    unknown_weight: float = 0.25,
    unknown_weight_absent: float = 0.0,
    item_weight: Tensor | None = None,
    bank: Tensor | None = None,
    bank_known: Tensor | None = None,
    both_directions: bool = True,
    chunk: int = 0,
    shift: int = 1,
) -> StageLoss:
    """Texts of a query against the answers of all images to the same query, in both directions.

    Text to image: the anchor is text i of query u_i and state c_i, the candidates are the images b with s_ib = t_i · v[u_i, b] · scale;
    positives have S[u_i, b] = c_i, images of another known state have weight 1, images of unknown state `unknown_weight` (against a
    denial `unknown_weight_absent`).
    Image to text: the anchor is (u, b) of known state, the candidates are the texts i of query u and the bank's texts of u, with the
    similarities as above; positives have c_i = S[u, b].
    Each direction is the (weighted) mean of ℓ over its anchors, and the loss is the mean of the two. Nothing is compared across
    queries, so that which questions a report raises tells nothing.

    Args:
        texts: (I, d), unit length
        query, state: (I,) the row of `answers`, and State, never unknown
        answers: (U, B, d), unit length
        states: (U, B) State
        scale: 0-d, one over the temperature
        item_weight: (I,) weights of texts; (U,) weights of the image anchors are their means by query
        bank: (U, 3, d) texts of present, uncertain, absent, unit length, without gradient; bank_known: (U, 3) which there are
        both_directions: with image to text
        chunk: queries at once
        shift: how far images are rolled for the blind accuracy
    """
    active, query = torch.unique(query, return_inverse=True)  # queries without a text have nothing to compare
    answers, states = take(answers, active), states[active].long()
    slots = _slots(query, len(active))  # (A, K) item of each place, −1 for none
    filled = slots >= 0
    padded = take(texts, slots.clamp(min=0))  # (A, K, d)
    said = torch.where(filled, state[slots.clamp(min=0)], int(State.UNKNOWN))  # (A, K)
    weights = torch.ones_like(texts[:, 0]) if item_weight is None else item_weight
    anchor_weight = torch.where(filled, weights[slots.clamp(min=0)], 0.0)  # (A, K)
    query_weight = anchor_weight.sum(1) / filled.sum(1).clamp(min=1)  # (A,)
    if bank is not None and bank_known is not None:
        bank, bank_known = bank[active], bank_known[active]

    def compare(start: int, end: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = slice(start, end)
        with full_precision(texts):
            similarity = torch.bmm(padded[rows], answers[rows].transpose(1, 2)) * scale  # (A, K, B)
        positive = (said[rows, :, None] == states[rows, None]) & filled[rows, :, None]
        known = (states[rows, None] != State.UNKNOWN) & filled[rows, :, None]
        return similarity, positive, known

    def losses(start: int, end: int) -> Tensor:
        rows = slice(start, end)
        similarity, positive, known = compare(start, end)
        silent = torch.where(said[rows, :, None] == State.ABSENT, unknown_weight_absent, unknown_weight)
        weight = torch.where(known, 1.0, silent.to(similarity.dtype)) * filled[rows, :, None]
        loss, counts = divergence(similarity, positive, weight, dim=2)  # (A, K)
        weight = counts * anchor_weight[rows]
        sums = [(loss * weight).sum(), weight.sum()]
        if both_directions:
            if bank is not None and bank_known is not None:
                with full_precision(texts):
                    extra = torch.bmm(bank[rows], answers[rows].transpose(1, 2)) * scale  # (A, 3, B)
                bank_states = torch.arange(1, 4, device=states.device)[None, :, None]
                there = bank_known[rows, :, None] & (states[rows, None] != State.UNKNOWN)
                similarity = torch.cat([similarity, extra], 1)
                positive = torch.cat([positive, there & (bank_states == states[rows, None])], 1)
                known = torch.cat([known, there], 1)
            loss, counts = divergence(similarity, positive, known.to(similarity.dtype), dim=1)  # (A, B)
            weight = counts * query_weight[rows, None]
            sums += [(loss * weight).sum(), weight.sum()]
        return torch.stack(sums)

    with torch.no_grad():
        right = torch.zeros(4, device=texts.device)
        for start in range(0, len(active), chunk or max(len(active), 1)):
            similarity, positive, known = compare(start, min(start + (chunk or len(active)), len(active)))
            hit, chance, counts = hits(similarity, positive, known, dim=2)
            shuffled, _, _ = hits(similarity.roll(shift, 2), positive, known, dim=2)
            right += torch.stack([hit.sum(), shuffled.sum(), chance.sum(), counts.sum()])
        accuracy = Accuracy(*(right[:3] / right[3].clamp(min=1)))

    if not len(active):
        return StageLoss(texts.sum() * 0.0, accuracy)
    sums = in_chunks(losses, len(active), chunk)
    means = sums[0::2] / sums[1::2].clamp(min=torch.finfo(sums.dtype).tiny)
    return StageLoss(means.mean(), accuracy)


def _slots(query: Tensor, queries: int) -> Tensor:
    """Items by query: (I,) query of each item → (U, K) items in their order, filled up with −1."""
    counts = torch.bincount(query, minlength=queries)
    width = int(counts.max()) if len(query) else 0
    order = torch.sort(query, stable=True).indices
    place = torch.arange(len(query), device=query.device) - (torch.cumsum(counts, 0) - counts)[query[order]]
    slots = torch.full((queries, width), -1, dtype=torch.long, device=query.device)
    slots[query[order], place] = order
    return slots


def pair_contrast(
    texts: Tensor,
    images: Tensor,
    content: Tensor | None,
    scale: Tensor,
    both_directions: bool = True,
    chunk: int = 0,
    shift: int = 1,
) -> StageLoss:
    """Whole against whole (InfoNCE): s_ab = t_a · v_b · scale, a positive where a = b or the contents are equal; both directions.

    Args:
        texts, images: (B, d), unit length
        content: (B,) keys, equal for equal texts; None: each text is its own
    """
    size = len(texts)
    same = torch.eye(size, dtype=torch.bool, device=texts.device)
    if content is not None:
        same = content[:, None] == content[None, :]

    def rows_of(first: Tensor, second: Tensor) -> Tensor:
        def losses(start: int, end: int) -> Tensor:
            with full_precision(first):
                similarity = first[start:end] @ second.T * scale
            loss, counts = divergence(similarity, same[start:end], torch.ones_like(similarity), dim=1)
            return torch.stack([loss.sum(), counts.sum().to(loss.dtype)])

        total = in_chunks(losses, size, chunk)
        return total[0] / total[1].clamp(min=1)

    loss = rows_of(texts, images)
    if both_directions:
        loss = (loss + rows_of(images, texts)) / 2
    with torch.no_grad(), full_precision(texts):
        similarity = texts @ images.T * scale
    return StageLoss(loss, whole_accuracy(similarity, same, shift))


def whole_accuracy(similarity: Tensor, same: Tensor, shift: int) -> Accuracy:
    """Accuracy of (anchors, candidates) of which all are known."""
    known = torch.ones_like(same)
    hit, chance, counts = hits(similarity, same, known, dim=1)
    shuffled, _, _ = hits(similarity.roll(shift, 1), same, known, dim=1)
    total = counts.sum().clamp(min=1)
    return Accuracy(hit.sum() / total, shuffled.sum() / total, chance.sum() / total)
