"""Objectives by name: every part can be switched, every one can be called on any batch, and what a step gives."""

from __future__ import annotations

from typing import Any

import hand_batches as hand
import pytest
import torch
from tiny_model import tiny_model

from trainer.bank import ConceptBank
from trainer.errors import UserError
from trainer.graph.batch import EdgeKind, GraphBatch, State
from trainer.graph.items import node_items
from trainer.losses.relations import RelationHead
from trainer.losses.summary import other_images, topology
from trainer.model.config import ObjectiveConfig
from trainer.objectives import (
    TERMS,
    Cascade,
    Context,
    Objective,
    Scale,
    Scene,
    StateClassification,
    Step,
    make_objective,
    parse,
)

REPORTS = hand.random_reports(8, seed=11)


def step_of(
    batch: GraphBatch, bank: bool = False, context: Context | None = None, **options: Any
) -> tuple[Step, Objective]:
    model = tiny_model()
    objective = make_objective(ObjectiveConfig(**options), model)
    context = context or Context(bank=ConceptBank(model.table, 16) if bank else None)
    done = objective(model, batch, batch.images.float() / 255, context)
    done.loss.backward()
    parameters = [*model.named_parameters(), *objective.named_parameters()]
    for name, parameter in parameters:
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
    return done, objective


@pytest.mark.parametrize("name", [*TERMS, "state+clip", "cga+0.3*local"])
def test_every_objective_on_a_batch(name: str) -> None:
    done, _ = step_of(hand.pack(REPORTS), name=name)
    assert done.loss.isfinite()
    assert done.loss.requires_grad
    for values in (done.parts, done.metrics):
        assert all(value.dim() == 0 and not value.requires_grad for value in values.values())
    for accuracy in done.accuracies.values():
        assert all(0 <= float(value) <= 1 for value in accuracy)
    assert done.parts.keys() == done.accuracies.keys()


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(
    "reports",
    [
        pytest.param([([], []), ([], [])], id="empty graphs"),
        pytest.param([([("effusion", None, "+")], [])], id="one pair"),
        pytest.param([([("lung", "left", "+")], []), ([], [])], id="places only"),
        pytest.param([(REPORTS[0][0] * 25, []), ([], []), *REPORTS], id="hundreds of nodes"),
    ],
)
def test_batches_that_are_poor_or_rich(name: str, reports: list[hand.Report]) -> None:
    done, _ = step_of(hand.pack(reports), name=name, bank=True)
    assert done.loss.isfinite()


@pytest.mark.parametrize("stage", ["anatomy", "pathology", "relation", "summary", "whole"])
def test_each_stage_alone(stage: str) -> None:
    weights = dict.fromkeys(("anatomy", "pathology", "relation", "summary", "whole"), 0.0) | {stage: 0.5}
    done, _ = step_of(hand.pack(REPORTS), **weights)
    assert set(done.parts) == {stage}
    torch.testing.assert_close(done.loss.detach(), 0.5 * done.parts[stage])
    assert done.parts[stage] > 0


@pytest.mark.parametrize(
    "options",
    [
        {"statements": False},
        {"closure": False},
        {"unknown_weight": 0.0},
        {"unknown_weight_absent": 1.0},
        {"uncertain": "ignore"},
        {"uncertain": "present"},
        {"count_weights": True},
        {"both_directions": False},
        {"temperature": 0.5},
        {"items_per_state": 1},
        {"max_queries": 3},
        {"max_pairs": 1},
        {"summary_others": 1},
    ],
    ids=str,
)
def test_every_switch_does_something(options: dict[str, Any]) -> None:
    anatomy, pathology = hand.rows()
    assert anatomy
    assert pathology
    reports = hand.random_reports(12, seed=3)
    plain, _ = step_of(hand.pack(reports))
    switched, _ = step_of(hand.pack(reports), **options)
    if options == {"count_weights": True}:  # all concepts of this table are equally frequent
        torch.testing.assert_close(switched.loss, plain.loss)
    else:
        assert not torch.isclose(switched.loss, plain.loss)


def test_equal_reports_are_no_negatives() -> None:
    reports = [REPORTS[0], REPORTS[0], REPORTS[1], REPORTS[1]]
    for name in ("clip", "local", "graph"):
        with_keys, _ = step_of(hand.pack(reports), name=name)
        without, _ = step_of(hand.pack(reports), name=name, content_keys=False)
        assert float(with_keys.accuracies[name].prior) == pytest.approx(0.5)
        assert float(without.accuracies[name].prior) == pytest.approx(0.25)


def test_memory_can_be_traded_for_time() -> None:
    for name in TERMS:
        whole, _ = step_of(hand.pack(REPORTS), name=name)
        in_parts, _ = step_of(hand.pack(REPORTS), name=name, chunk=2)
        torch.testing.assert_close(in_parts.loss, whole.loss)


def test_stages_enter_in_turn() -> None:
    model = tiny_model()
    cascade = Cascade(ObjectiveConfig(schedule="staged", stage_start=0.1), model)
    assert [cascade.share(stage, 0.0) for stage in ("anatomy", "pathology", "relation", "whole")] == [1, 0, 0, 1]
    assert cascade.share("pathology", 0.15) == pytest.approx(0.5)
    assert [cascade.share(stage, 1.0) for stage in ("anatomy", "pathology", "relation", "summary")] == [1, 1, 1, 1]
    done, _ = step_of(hand.pack(REPORTS), schedule="staged", context=Context(step=0, total_steps=100))
    torch.testing.assert_close(done.loss.detach(), 0.2 * done.parts["anatomy"] + 0.3 * done.parts["whole"])


def test_a_step_depends_on_its_number_alone() -> None:
    batch = hand.pack(hand.random_reports(20, seed=5))
    options = {"items_per_state": 1, "summary_others": 2}
    losses = [step_of(batch, context=Context(step=step), **options)[0].loss for step in (4, 4, 5)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_the_bank_adds_candidates_and_is_kept_in_training_only() -> None:
    batch = hand.pack(REPORTS)
    model = tiny_model()
    objective = make_objective(ObjectiveConfig(), model)
    bank = ConceptBank(model.table, 16)
    images = batch.images.float() / 255
    objective.eval()
    before = objective(model, batch, images, Context(bank=bank)).loss
    assert bank.counts.sum() == 0
    objective.train()
    objective(model, batch, images, Context(bank=bank))
    assert bank.counts.sum() > 0
    objective.eval()
    assert not torch.equal(objective(model, batch, images, Context(bank=bank)).loss, before)


def test_what_no_term_uses_is_frozen() -> None:
    for name in TERMS:
        batch = hand.pack(REPORTS)
        model = tiny_model()
        objective = make_objective(ObjectiveConfig(name=name), model)
        objective(model, batch, batch.images.float() / 255, Context()).loss.backward()
        for parameter_name, parameter in (*model.named_parameters(), *objective.named_parameters()):
            if not parameter.requires_grad:
                assert parameter.grad is None
            elif parameter_name != "nodes.silent":  # every node of this batch has a text
                assert parameter.grad is not None, f"{name} leaves {parameter_name} without gradient"


def test_sums() -> None:
    assert parse("cga") == [(1.0, "cga")]
    assert parse("cga + 0.3*clip") == [(1.0, "cga"), (0.3, "clip")]
    batch = hand.pack(REPORTS)
    total, _ = step_of(batch, name="state+0.5*clip")
    torch.testing.assert_close(total.loss.detach(), total.parts["state"] + 0.5 * total.parts["clip"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "no objective"),
        ("clip++state", "no objective"),
        ("0.3clip", "no objective"),
        ("clip+clip", "twice"),
        ("klip", "did you mean clip"),
        ("x", "there are cga, clip"),
    ],
)
def test_names_that_are_no_objective(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_objective(ObjectiveConfig(name=name), tiny_model())


def test_a_cascade_without_stages() -> None:
    weights = dict.fromkeys(("anatomy", "pathology", "relation", "summary", "whole"), 0.0)
    with pytest.raises(UserError, match="weight 0"):
        make_objective(ObjectiveConfig(**weights), tiny_model())


# The parts of the stages


def test_states_are_classified_as_the_equation_says() -> None:
    batch = hand.pack(REPORTS)
    model = tiny_model().eval()
    config = ObjectiveConfig(name="state", unknown_weight=0.3)
    objective = make_objective(config, model)
    images = batch.images.float() / 255
    [term] = objective.terms
    assert isinstance(term, StateClassification)
    scene = Scene(model, batch, images, config, Context())
    logits = term.logits(model, scene.values, scene.queries.concept, scene.queries.side)
    total = weight = 0.0
    for query in torch.nonzero(scene.queries.is_pathology).flatten().tolist():
        for pair in range(batch.size):
            state = int(scene.queries.states[query, pair])
            if state == State.UNCERTAIN:
                continue
            w = 0.3 if state == State.UNKNOWN else 1.0
            logit = logits[query, pair].detach()
            probability = torch.sigmoid(logit if state == State.PRESENT else -logit)
            total -= w * float(probability.log())
            weight += w
    assert float(objective(model, batch, images, Context()).loss.detach()) == pytest.approx(total / weight, rel=1e-4)


def test_the_joint_answer_looks_where_both_maps_meet() -> None:
    reports: list[hand.Report] = [
        ([("opacity", "left", "+"), ("lung", "left", "+")], [(0, 1, EdgeKind.LOCATED_AT)])
    ] * 2
    batch = hand.pack(reports)
    model = tiny_model()
    scene = Scene(model, batch, batch.images.float() / 255, ObjectiveConfig(), Context())
    assert len(scene.queries.pairs) == 1
    source, target = scene.queries.pairs[0].tolist()
    values = model.attend.values(scene.features.keys)
    head = RelationHead(16)
    for layer in (head.seen["source"], head.seen["target"], head.seen_relation):
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
    seen = head.images(scene.answers, model.attend, values, scene.queries)
    product = scene.answers.attention[source] * scene.answers.attention[target]  # (B, L), one head
    product = product / product.sum(-1, keepdim=True)
    joint = model.attend.out(torch.einsum("bl,bld->bd", product, values.flatten(2)))
    torch.testing.assert_close(seen[0], head.seen_out(head.seen["joint"](joint).relu()))


def test_the_graphs_of_a_summary_are_isomorphic() -> None:
    batch = hand.pack(REPORTS)
    model = tiny_model()
    queries = Scene(model, batch, batch.images.float(), ObjectiveConfig(), Context()).queries
    graph = topology(batch, queries, model.table.column("sided"))
    assert len(graph.node) == len(batch.node_report)
    assert torch.equal(batch.node_concept, queries.concept[graph.first])
    assert torch.equal(queries.concept[graph.first], queries.concept[graph.second])
    assert len(graph.kind) == len(batch.edge_kind)
    cut = Scene(model, batch, batch.images.float(), ObjectiveConfig(max_queries=4), Context()).queries
    fewer = topology(batch, cut, model.table.column("sided"))
    assert len(fewer.node) < len(graph.node)
    if len(fewer.kind):
        assert int(torch.cat([fewer.source, fewer.target]).max()) < len(fewer.node)


def test_other_images() -> None:
    candidates = other_images(6, 3, torch.Generator().manual_seed(0))
    assert candidates.shape == (6, 4)
    assert torch.equal(candidates[:, 0], torch.arange(6))
    assert all(len(set(row)) == 4 for row in candidates.tolist())
    assert other_images(2, 5, torch.Generator()).shape == (2, 2)
    assert other_images(1, 5, torch.Generator()).shape == (1, 1)


def test_a_temperature_at_its_limit_can_come_back() -> None:
    objective = make_objective(ObjectiveConfig(name="clip", temperature=0.01), tiny_model())
    [scale] = [module for module in objective.modules() if isinstance(module, Scale)]
    scale.log.data += 1.0  # a step beyond
    objective.limit_temperatures()
    assert float(scale().detach()) == pytest.approx(100.0)
    scale().backward()
    assert scale.log.grad is not None
    assert float(scale.log.grad) > 0


def test_an_uncertain_finding_can_be_taken_as_present_with_its_text() -> None:
    """Its text is an item, and it excludes what a present finding excludes."""
    reports: list[hand.Report] = [([("effusion", "left", "?")], []), ([("effusion", "left", "-")], [])]
    plain = hand.pack(reports)
    states = {}
    for uncertain in ("own", "present", "ignore"):
        config = ObjectiveConfig(uncertain=uncertain)  # type: ignore[arg-type]
        scene = Scene(tiny_model(), plain, plain.images.float() / 255, config, Context())
        items = node_items(scene.batch, scene.queries, scene.table, pathology=True)
        states[uncertain] = sorted(set(items.state.tolist()))
    assert states == {
        "own": [State.UNCERTAIN, State.ABSENT],
        "present": [State.PRESENT, State.ABSENT],
        "ignore": [State.ABSENT],
    }
