"""Queries and their answers."""

from __future__ import annotations

from dataclasses import replace

import hand_batches as hand
import pytest
import torch
from tiny_model import tiny_model

from trainer.model.queries import Attend, QueryEmbedding


def test_answers_against_a_loop() -> None:
    torch.manual_seed(0)
    attend = Attend(8, heads=2)
    queries, patches = torch.randn(3, 8), torch.randn(2, 5, 8)
    answers = attend(queries, patches)
    for u in range(3):
        for b in range(2):
            q = attend.query(queries[u]).view(2, 4)
            k, v = attend.key(patches[b]).view(5, 2, 4), attend.value(patches[b]).view(5, 2, 4)
            weights = torch.stack([(k[:, head] @ q[head] / 2).softmax(0) for head in range(2)])
            seen = torch.cat([weights[head] @ v[:, head] for head in range(2)])
            torch.testing.assert_close(answers.values[u, b], attend.out(seen))
            torch.testing.assert_close(answers.attention[u, b], weights.mean(0))


def test_nothing_of_the_query_is_in_the_answer() -> None:
    """Over patches that are all alike every query gets the same."""
    attend = Attend(8, heads=1)
    answers = attend(torch.randn(4, 8), torch.randn(1, 1, 8).expand(2, 6, 8)).values
    torch.testing.assert_close(answers, answers[:1, :1].expand_as(answers))


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="3 heads"):
        Attend(8, heads=3)


def test_relatives_share() -> None:
    table = hand.table()
    embedding = QueryEmbedding(table, 8)
    concept = torch.tensor([hand.row("atelectasis"), hand.row("effusion")])
    side = torch.zeros(2, dtype=torch.long)
    before = embedding(concept, side)
    with torch.no_grad():
        embedding.concept.weight[hand.row("opacity")] += 1
    moved = (embedding(concept, side) - before).abs().sum(1)
    assert moved[0] > 0
    assert moved[1] == 0


@pytest.mark.parametrize("guidance", ["detached", "attached"])
def test_guidance_leads_to_the_site(guidance: str) -> None:
    model = tiny_model(guidance=guidance)
    features = model.encode_images(torch.randn(2, 1, 16, 16))
    concept, side = torch.tensor([hand.row("cardiomegaly"), hand.row("abnormality")]), torch.zeros(2, dtype=torch.long)
    guided = model.ask(features, concept, side).attention
    model.config = replace(model.config, guidance="none")
    free = model.ask(features, concept, side).attention
    site = model.ask(features, torch.tensor([hand.row("heart")]), side[:1]).attention[0]
    expected = free[0] * site
    torch.testing.assert_close(guided[0], expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(guided[1], free[1])  # no site


def test_a_finding_at_a_place_is_looked_for_where_both_maps_are() -> None:
    model = tiny_model()
    features = model.encode_images(torch.randn(2, 1, 16, 16))
    concept, side = torch.tensor([hand.row("opacity"), hand.row("effusion")]), torch.tensor([0, 1])
    place = torch.tensor([[hand.row("lung"), 1], [-1, 0]])
    asked = model.ask(features, concept, side, place)
    free = model.ask(features, concept, side)
    lung = model.ask(features, place[:1, 0], place[:1, 1]).attention[0]
    expected = free.attention[0] * lung
    torch.testing.assert_close(asked.attention[0], expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(asked.values[1], free.values[1])  # asked of no place


def test_detached_guidance_gives_the_site_no_gradient() -> None:
    model = tiny_model(guidance="detached")
    features = model.encode_images(torch.randn(2, 1, 16, 16))
    logits = model.attention_logits(features, torch.tensor([hand.row("cardiomegaly")]), torch.tensor([0]))
    (logits.softmax(-1)[..., 0]).sum().backward()
    gradient = model.queries.concept.weight.grad
    assert gradient is not None
    assert gradient[hand.row("heart")].abs().sum() == 0
    assert gradient[hand.row("cardiomegaly")].abs().sum() > 0
