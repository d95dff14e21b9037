"""No stage can be solved without looking: answers know nothing of reports, and on constant images all end at their prior."""

from __future__ import annotations

import hand_batches as hand
import pytest
import torch
from tiny_model import blob_pairs, tiny_model
from torch import Tensor

from trainer.bank import ConceptBank
from trainer.graph.batch import EdgeKind, GraphBatch, State
from trainer.model.config import ObjectiveConfig
from trainer.model.model import Model
from trainer.objectives import Accuracy, Context, Objective, Scene, make_objective

STAGES = {"anatomy", "pathology", "relation", "summary", "whole"}


def train(
    model: Model,
    objective: Objective,
    pairs: list[tuple[GraphBatch, Tensor]],
    steps: int,
    bank: ConceptBank | None = None,
) -> dict[str, list[Accuracy]]:
    """Accuracies of the last pass over `pairs`, after training."""
    bank = bank or ConceptBank(model.table, model.config.dim)
    parameters = [p for p in (*model.parameters(), *objective.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    found: dict[str, list[Accuracy]] = {}
    for step in range(steps + len(pairs)):
        batch, images = pairs[step % len(pairs)]
        done = objective(model, batch, images, Context(step, steps, bank))
        if step < steps:
            optimizer.zero_grad()
            done.loss.backward()
            optimizer.step()
        else:
            for name, accuracy in done.accuracies.items():
                found.setdefault(name, []).append(accuracy)
    return found


def mean(accuracies: list[Accuracy], name: str) -> float:
    return float(torch.stack([getattr(accuracy, name) for accuracy in accuracies]).mean())


def located_pairs(count: int, seed: int) -> tuple[list[hand.Report], Tensor]:
    """Pairs with all that a report can have: places, suggestions, denials, and a picture of the findings."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 16, 16, generator=generator) * 0.1
    reports: list[hand.Report] = []
    for image in images:
        nodes: list[hand.Node] = []
        edges: list[hand.Edge] = []
        for side, column in (("left", 8), ("right", 4)):
            for lobe, row in (("upper_lobe", 0), ("lower_lobe", 12)):
                chance = float(torch.rand((), generator=generator))
                if chance < 0.3:
                    image[:, row : row + 4, column : column + 4] += 2
                    finding: hand.Node = ("opacity", side, "+")
                    if finding not in nodes:
                        nodes.append(finding)
                    nodes.append((lobe, side, "+"))
                    edges.append((nodes.index(finding), len(nodes) - 1, EdgeKind.LOCATED_AT))
                elif chance < 0.35:
                    nodes.append((lobe, side, "+"))  # a place by the way: what is mentioned must tell nothing
        if not any(node[0] == "opacity" for node in nodes):
            nodes.append(("opacity", None, "-"))
        if torch.rand((), generator=generator) < 0.5:
            image[:, 4:8, 0:4] += 2
            nodes.append(("cardiomegaly", None, "+"))
            nodes.append(("effusion", None, "?"))
            edges.append((len(nodes) - 2, len(nodes) - 1, EdgeKind.SUGGESTIVE_OF))
        else:
            nodes.append(("cardiomegaly", None, "-"))
        reports.append((nodes, edges))
    return reports, images


def batches(constant: bool, count: int = 4, size: int = 24) -> list[tuple[GraphBatch, Tensor]]:
    found = []
    for seed in range(count):
        reports, images = located_pairs(size, seed)
        batch = hand.pack(reports, seed=seed)
        found.append((batch, torch.ones_like(images) if constant else images))
    return found


@pytest.fixture(scope="module")
def cascade_on_constant_images() -> dict[str, list[Accuracy]]:
    model = tiny_model()
    return train(model, make_objective(ObjectiveConfig(), model), batches(constant=True), steps=120)


def test_on_constant_images_every_stage_ends_at_its_prior(
    cascade_on_constant_images: dict[str, list[Accuracy]],
) -> None:
    assert set(cascade_on_constant_images) == STAGES
    for name, accuracies in cascade_on_constant_images.items():
        prior = mean(accuracies, "prior")
        assert 0 < prior < 0.9, f"{name} compares nothing"
        assert mean(accuracies, "real") == pytest.approx(prior, abs=0.02), name
        assert mean(accuracies, "blind") == pytest.approx(prior, abs=0.02), name


def test_on_real_images_the_same_training_leaves_its_prior() -> None:
    model = tiny_model()
    found = train(model, make_objective(ObjectiveConfig(), model), batches(constant=False), steps=240)
    for name in STAGES:
        real, blind, prior = (mean(found[name], key) for key in ("real", "blind", "prior"))
        assert real > 1.2 * prior, name
        assert blind < prior + 0.6 * (real - prior), name


@pytest.mark.parametrize("name", ["clip", "local", "graph", "state"])
def test_the_other_objectives_end_at_their_prior_too(name: str) -> None:
    model = tiny_model()
    found = train(model, make_objective(ObjectiveConfig(name=name), model), batches(constant=True), steps=20)
    assert mean(found[name], "real") == pytest.approx(mean(found[name], "prior"), abs=0.02)


def test_no_answer_moves_when_all_that_reports_say_is_changed() -> None:
    model = tiny_model().eval()
    reports, images = located_pairs(8, 0)
    batch = hand.pack(reports)
    changed = hand.pack(reports, seed=99)  # other texts and spans
    changed.node_state = torch.where(batch.node_state == State.ABSENT, int(State.PRESENT), int(State.ABSENT))
    changed.node_content, changed.report_content = batch.node_content + 1, batch.report_content + 1
    changed.edge_source, changed.edge_target, changed.edge_kind = (
        column[:0] for column in (batch.edge_source, batch.edge_target, batch.edge_kind)
    )
    one, other = (Scene(model, some, images, ObjectiveConfig(), Context()) for some in (batch, changed))
    common = 0
    for query, key in enumerate(zip(one.queries.concept, one.queries.side, strict=True)):
        again = int(other.queries.locate(*key))
        if again < 0:
            continue  # a place that only the edges had
        common += 1
        torch.testing.assert_close(one.answers.values[query], other.answers.values[again], rtol=0, atol=1e-6)
        torch.testing.assert_close(one.answers.attention[query], other.answers.attention[again], rtol=0, atol=1e-6)
    assert common >= 8
    assert not torch.equal(one.queries.states[:1], other.queries.states[:1])


def test_no_gradient_reaches_an_answer_from_the_own_report_alone() -> None:
    """The answer of a query depends on its image and on nothing of the other images."""
    model = tiny_model().eval()
    _, images = located_pairs(3, 1)
    images.requires_grad_()
    values = model.ask(model.encode_images(images), torch.tensor([hand.row("opacity")]), torch.tensor([1])).values
    [gradient] = torch.autograd.grad(values[0, 1].sum(), images)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].abs().sum() == 0


def test_a_left_finding_and_its_mirror_image_are_told_apart() -> None:
    model = tiny_model()
    pairs = []
    for seed in range(4):
        reports, images = blob_pairs(24, seed)
        pairs.append((hand.pack(reports, seed=seed), images))
    objective = make_objective(ObjectiveConfig(anatomy=0, relation=0, summary=0, whole=0), model)
    bank = ConceptBank(model.table, model.config.dim)
    train(model, objective, pairs, 120, bank)
    reports, images = blob_pairs(40, seed=7)
    only_left = torch.tensor([[node[2] for node in nodes] == ["+", "-"] for nodes, _ in reports])
    assert only_left.sum() > 5
    concept, side = torch.tensor([hand.row("effusion")] * 2), torch.tensor([1, 2])
    for seen, expected in ((images[only_left], 0), (images[only_left].flip(3), 1)):
        answers = model.ask(model.encode_images(seen), concept, side).values
        scores = bank.scores(answers, concept, side)  # left, right
        assert (scores[expected] > scores[1 - expected]).float().mean() > 0.9
