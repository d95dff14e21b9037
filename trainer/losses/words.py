"""Words and regions (the local term of GLoRIA, Huang et al. 2021): the `local` objective.

α_abtl = softmax_l(w_at · p_bl / τ_a),   c_abt = Σ_l α_abtl p_bl,   s_ab = τ_w log Σ_{t of a} exp(cos(w_at, c_abt) / τ_w) / T_a
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def word_region_similarity(
    words: Tensor, mask: Tensor, regions: Tensor, attention_temperature: float, word_temperature: float, chunk: int = 0
) -> Tensor:
    """How well every text's words find their regions in every image.

    Args:
        words: (A, T, d) token features, mask: (A, T) 1 for a token
        regions: (B, L, d) patch features
        chunk: texts at once, recomputed in the backward pass; 0: all
    Returns:
        (A, B) s, which lies about between −1 and 1
    """
    words, regions = functional.normalize(words, dim=-1), functional.normalize(regions, dim=-1)

    def rows(some: Tensor, some_mask: Tensor) -> Tensor:
        similarity = torch.einsum("atd,bld->abtl", some, regions)
        attention = (similarity / attention_temperature).softmax(-1)
        # cos(w, c) without c itself: w · c from the similarities, |c|² from the regions' inner products.
        dot = (attention * similarity).sum(-1)  # (A, B, T)
        inner = regions @ regions.transpose(1, 2)  # (B, L, L)
        norm = torch.einsum("abtl,blm,abtm->abt", attention, inner, attention).clamp(min=1e-8).sqrt()
        cosine = dot / norm / word_temperature
        absent = (some_mask == 0)[:, None]
        count = some_mask.sum(1).clamp(min=1).to(cosine.dtype).log()[:, None]
        return (cosine.masked_fill(absent, -1e9).logsumexp(-1) - count) * word_temperature

    if not chunk or len(words) <= chunk:
        return rows(words, mask)
    return torch.cat(
        [
            checkpoint(rows, part, part_mask, use_reentrant=False)
            for part, part_mask in zip(torch.split(words, chunk), torch.split(mask, chunk), strict=True)
        ]
    )
