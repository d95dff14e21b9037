"""The whole model: precision, and what a step costs in graph nodes."""

from __future__ import annotations

import hand_batches as hand
import pytest
import torch
from tiny_model import tiny_model

from trainer.model.config import ObjectiveConfig
from trainer.model.take import take
from trainer.objectives import TERMS, Context, make_objective


@pytest.mark.parametrize("name", TERMS)
def test_a_step_in_bfloat16(name: str) -> None:
    batch = hand.pack(hand.random_reports(8, seed=11))
    model = tiny_model()
    objective = make_objective(ObjectiveConfig(name=name), model)
    losses = {}
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            done = objective(model, batch, batch.images.float() / 255, Context())
        done.loss.backward()
        losses[enabled] = done.loss.detach()
    assert losses[True].dtype == torch.float32
    torch.testing.assert_close(losses[True], losses[False], rtol=0.05, atol=0.05)


def test_vectors_have_unit_length() -> None:
    batch = hand.pack(hand.random_reports(4, seed=1))
    model = tiny_model()
    features = model.encode_images(batch.images.float() / 255)
    reports = model.report_vectors(model.encode_texts(batch), batch.attention_mask)
    for vectors in (model.image_vectors(features), reports):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(4))


def test_rows_by_index_have_a_gradient_that_repeats() -> None:
    """To the bit, on two threads: what a run gives after a resume must not hang on how threads were scheduled."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 64, generator=generator, requires_grad=True)
    index = torch.randint(0, 20, (300, 30), generator=generator)
    weight = torch.randn(300, 30, 64, generator=generator)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = [torch.autograd.grad((take(x, index) * weight).sum(), x)[0] for _ in range(5)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], again) for again in gradients[1:])
    assert torch.equal(take(x, index), x[index])
    torch.testing.assert_close(gradients[0], torch.autograd.grad((x[index] * weight).sum(), x)[0], rtol=1e-4, atol=1e-4)
