"""Words and regions (the local term of GLoRIA, Huang et al. 2021): the `local` objective.

α_abtl = softmax_l(w_at · p_bl / τ_a),   c_abt = Σ_l α_abtl p_bl,   s_ab = τ_w log Σ_{t of a} exp(cos(w_at, c_abt) / τ_w) / T_a
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainer.model.take import take


def word_region_similarity(
    words: Tensor, mask: Tensor, regions: Tensor, attention_temperature: float, word_temperature: float, chunk: int = 0
) -> Tensor:
    """How well every text's words find their regions in every image.

    Args:
        words: (A, T, d) token features, mask: (A, T) 1 for a token (of W in all)
        regions: (B, L, d) patch features
        chunk: texts at once, recomputed in the backward pass; 0: all
    Returns:
        (A, B) s, which lies about between −1 and 1
    """
    words, regions = functional.normalize(words, dim=-1), functional.normalize(regions, dim=-1)
    inner = regions @ regions.mT  # (B, L, L)

    def rows(some: Tensor, some_mask: Tensor) -> Tensor:
        said = some_mask.flatten().nonzero()[:, 0]  # only the words: padding would cost as much
        similarity = take(some.flatten(0, 1), said) @ regions.mT  # (B, W, L)
        attention = (similarity / attention_temperature).softmax(-1)
        # cos(w, c) without c itself: w · c from the similarities, |c|² from the regions' inner products.
        dot = (attention * similarity).sum(-1)  # (B, W)
        norm = (attention @ inner * attention).sum(-1).clamp(min=1e-8).sqrt()
        # A cosine is at most 1, which takes the place of the maximum that a sum of exponentials is usually freed of.
        alike = ((dot / norm - 1) / word_temperature).exp()
        sums = alike.new_zeros(len(some), len(regions)).index_add(0, said // some.shape[1], alike.T)
        count = some_mask.sum(1, keepdim=True).clamp(min=1)
        return 1 + word_temperature * (sums / count).clamp(min=torch.finfo(sums.dtype).tiny).log()

    if not chunk or len(words) <= chunk:
        return rows(words, mask)
    return torch.cat(
        [
            checkpoint(rows, part, part_mask, use_reentrant=False)
            for part, part_mask in zip(torch.split(words, chunk), torch.split(mask, chunk), strict=True)
        ]
    )
