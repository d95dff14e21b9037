"""Words and regions against a loop."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from trainer.losses.words import word_region_similarity


def test_against_a_loop() -> None:
    torch.manual_seed(0)
    words, regions = torch.randn(3, 4, 5, dtype=torch.float64), torch.randn(2, 6, 5, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    found = word_region_similarity(words, mask, regions, 0.1, 0.2)
    for a in range(3):
        for b in range(2):
            terms = []
            for t in range(int(mask[a].sum())):
                word, patches = normalize(words[a, t], dim=0), normalize(regions[b], dim=1)
                context = (patches @ word / 0.1).softmax(0) @ patches
                terms.append(cosine_similarity(word, context, dim=0) / 0.2)
            expected = 0.2 * (torch.stack(terms).exp().mean()).log()
            assert float(found[a, b]) == pytest.approx(float(expected), abs=1e-9)


def test_chunks_and_gradient() -> None:
    torch.manual_seed(1)
    words = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    regions = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1], [1, 0], [1, 1]])
    whole = word_region_similarity(words, mask, regions, 0.1, 0.2)
    torch.testing.assert_close(word_region_similarity(words, mask, regions, 0.1, 0.2, chunk=2), whole)
    assert torch.autograd.gradcheck(
        lambda w, r: word_region_similarity(w, mask, r, 0.1, 0.2, chunk=2), (words, regions)
    )
