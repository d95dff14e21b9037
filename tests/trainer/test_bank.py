"""The concept bank and what is read from it."""

from __future__ import annotations

import hand_batches as hand
import pytest
import torch
from tiny_model import blob_pairs, tiny_model

from trainer.bank import ConceptBank
from trainer.data.tokenizer import learn_tokenizer
from trainer.errors import UserError
from trainer.graph.batch import State
from trainer.graph.concepts import SIDES_OF_A_QUERY
from trainer.model.config import ObjectiveConfig
from trainer.objectives import TERMS, make_objective
from trainer.readout import fill_bank, finding_maps, gradient_maps, maps, scores

TABLE = hand.table()
TOKENIZER = learn_tokenizer(["no left effusion. possible opacity of the right lung. heart"], 45, max_tokens=16)


def test_an_entry_is_the_mean_of_its_texts() -> None:
    bank = ConceptBank(TABLE, 4)
    texts = torch.randn(5, 4)
    key, state = torch.tensor([3, 3, 7, 3, 3]), torch.tensor([1, 1, 1, 3, 1])
    for part in (slice(0, 2), slice(2, 5)):
        bank.add(key[part], state[part], texts[part])
    torch.testing.assert_close(bank.means[3, 0], texts[[0, 1, 4]].mean(0))
    torch.testing.assert_close(bank.means[3, 2], texts[3])
    assert bank.counts[3].tolist() == [3, 0, 1]
    assert bank.counts.sum() == 5


def test_with_momentum_an_entry_follows() -> None:
    bank = ConceptBank(TABLE, 1)
    key, state = torch.tensor([0]), torch.tensor([1])
    for value in [0.0] * 50 + [1.0]:
        bank.add(key, state, torch.tensor([[value]]), momentum=0.9)
    assert float(bank.means[0, 0]) == pytest.approx(0.1)
    bank.clear()
    bank.add(key, state, torch.tensor([[1.0]]), momentum=0.9)
    assert float(bank.means[0, 0]) == 1


def test_scores_are_the_difference_of_two_similarities() -> None:
    bank = ConceptBank(TABLE, 3)
    concept, side = torch.tensor([2]), torch.tensor([1])
    key = concept * SIDES_OF_A_QUERY + side
    bank.add(key, torch.tensor([int(State.PRESENT)]), torch.tensor([[2.0, 0, 0]]))
    bank.add(key, torch.tensor([int(State.ABSENT)]), torch.tensor([[0, 3.0, 0]]))
    answers = torch.tensor([[[1.0, 0, 0], [0, 5.0, 0], [0, 0, 1.0]]])
    torch.testing.assert_close(bank.scores(answers, concept, side), torch.tensor([[1.0, -1.0, 0.0]]))
    rows, states = bank.missing(torch.tensor([2, 2]), torch.tensor([1, 0]))
    assert list(zip(rows.tolist(), states.tolist(), strict=True)) == [(1, State.PRESENT), (1, State.ABSENT)]


@pytest.mark.parametrize("name", [*TERMS, "state+clip"])
def test_every_objective_can_be_asked(name: str) -> None:
    """Any concept, at any side, on any image, said by reports or not; twice the same."""
    model = tiny_model().eval()
    objective = make_objective(ObjectiveConfig(name=name), model).eval()
    batch = hand.pack(hand.random_reports(6, seed=2))
    found = []
    for _ in range(2):
        bank = ConceptBank(TABLE, 16)
        fill_bank(bank, model, objective, [batch], TOKENIZER)
        concept = torch.tensor([hand.row("effusion"), hand.row("pneumonia"), hand.row("tube")])
        side = torch.tensor([1, 0, 2])
        images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        features = model.encode_images(images)
        found.append(scores(model, objective, bank, features, concept, side))
        assert found[-1].shape == (3, 4)
        assert found[-1].isfinite().all()
        assert found[-1].std() > 0
        for kind in ("attention", "evidence"):
            heat = maps(model, objective, bank, features, concept, side, kind)  # type: ignore[arg-type]
            assert heat.shape == (3, 4, 4, 4)
            assert heat.isfinite().all()
        slopes = gradient_maps(model, objective, bank, images, concept, side)
        assert slopes.shape == (3, 4, 16, 16)
        assert (slopes > 0).any((2, 3)).all()
        assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(found[0], found[1])


def test_the_final_bank_holds_reports_and_phrases() -> None:
    model = tiny_model().eval()
    objective = make_objective(ObjectiveConfig(), model)
    bank = ConceptBank(TABLE, 16)
    bank.add(torch.tensor([0]), torch.tensor([1]), torch.ones(1, 16))  # of training, to be forgotten
    reports, _ = blob_pairs(6, 0)
    batch = hand.pack(reports)
    fill_bank(bank, model, objective, [batch], TOKENIZER)
    assert bank.counts[0].sum() == 0
    left = hand.row("effusion") * SIDES_OF_A_QUERY + 1
    said = sum(nodes[0][2] == "+" for nodes, _ in reports)
    assert bank.counts[left].tolist() == [said, 0, 6 - said]
    nodes = model.node_texts(model.encode_texts(batch), batch)
    own = (batch.node_side == 1) & (batch.node_state == State.PRESENT)
    expected = model.item_texts(nodes[own], batch.node_state[own], batch.node_concept[own], batch.node_side[own]).mean(
        0
    )
    torch.testing.assert_close(bank.means[left, 0], expected.detach())
    concept = torch.arange(len(TABLE))
    for side in range(3):
        asked = concept if side == 0 else concept[TABLE.column("sided")]
        rows, _ = bank.missing(asked, torch.full_like(asked, side))
        assert not len(rows)


def test_evidence_adds_up_to_the_score() -> None:
    """What the patches add is the answer times the difference of the texts."""
    model = tiny_model(heads=2).eval()
    objective = make_objective(ObjectiveConfig(), model)
    bank = ConceptBank(TABLE, 16)
    fill_bank(bank, model, objective, [], TOKENIZER)
    concept, side = torch.tensor([hand.row("effusion")]), torch.tensor([1])
    features = model.encode_images(torch.randn(3, 1, 16, 16))
    evidence = maps(model, objective, bank, features, concept, side, "evidence").sum((2, 3))
    texts, _ = bank.texts(concept, side)
    answers = model.ask(features, concept, side).values
    torch.testing.assert_close(evidence, torch.einsum("ubd,ud->ub", answers, texts[:, 0] - texts[:, 2]).detach())


def test_the_gradient_lies_on_the_pixels_that_the_score_depends_on() -> None:
    """With an encoder that sees one corner alone, the map is highest there, whatever the rest of the image holds."""
    model = tiny_model().eval()
    objective = make_objective(ObjectiveConfig(), model)
    bank = ConceptBank(TABLE, 16)
    fill_bank(bank, model, objective, [], TOKENIZER)
    encode = model.encode_images
    corner = torch.zeros(16, 16)
    corner[10:14, 2:6] = 1
    model.encode_images = lambda images: encode(images * corner)  # type: ignore[method-assign]
    concept, side = torch.tensor([hand.row("effusion"), hand.row("pneumonia")]), torch.tensor([1, 0])
    heat = finding_maps(model, objective, bank, torch.randn(3, 1, 16, 16), concept, side, "gradient")
    highest = heat.flatten(2).argmax(2)
    rows, columns = highest // 16, highest % 16
    assert ((rows >= 10) & (rows < 14) & (columns >= 2) & (columns < 6)).all()


@pytest.mark.parametrize(("name", "places"), [("cga", True), ("state", True), ("clip", False), ("local", False)])
def test_who_can_be_asked_for_a_finding_at_a_place(name: str, places: bool) -> None:
    model = tiny_model().eval()
    objective = make_objective(ObjectiveConfig(name=name), model).eval()
    bank = ConceptBank(TABLE, 16)
    fill_bank(bank, model, objective, [], TOKENIZER)
    features = model.encode_images(torch.randn(2, 1, 16, 16))
    concept, side = torch.tensor([hand.row("opacity")] * 2), torch.tensor([1, 1])
    place = torch.tensor([[hand.row("lung"), 1], [-1, 0]])
    if not places:
        with pytest.raises(UserError, match="cannot be asked for a finding at a place"):
            scores(model, objective, bank, features, concept, side, place)
        return
    found = scores(model, objective, bank, features, concept, side, place)
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(found[1], scores(model, objective, bank, features, concept, side)[1])


def test_the_final_bank_has_the_closure_of_the_training() -> None:
    """A denial without side says nothing of left and right where training had no closure."""
    model = tiny_model().eval()
    batch = hand.pack([([("effusion", None, "-")], []), ([("effusion", "left", "+")], [])])
    left = hand.row("effusion") * SIDES_OF_A_QUERY + 1
    counts = []
    for closure in (True, False):
        bank = ConceptBank(TABLE, 16)
        fill_bank(bank, model, make_objective(ObjectiveConfig(closure=closure), model), [batch], TOKENIZER)
        counts.append(bank.counts[left - 1 : left + 1, 2].tolist())
    assert counts == [[1, 1], [1, 0]]


def test_a_bank_whose_reports_say_all_needs_no_phrases(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model().eval()
    bank = ConceptBank(TABLE, 16)
    none = torch.zeros(0, dtype=torch.long)
    monkeypatch.setattr(bank, "missing", lambda *_: (none, none))
    batch = hand.pack([([("effusion", "left", "+")], [])])
    fill_bank(bank, model, make_objective(ObjectiveConfig(), model), [batch], TOKENIZER)
    assert bank.counts.any()
