"""The comparisons against slow loops in double precision, their gradients, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.graph.batch import State
from trainer.losses.contrast import divergence, hits, in_chunks, pair_contrast, state_contrast

PRESENT, UNCERTAIN, ABSENT, UNKNOWN = State.PRESENT, State.UNCERTAIN, State.ABSENT, State.UNKNOWN


def unit(*shape: int, generator: torch.Generator) -> Tensor:
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(x, dim=-1)


class Case:
    """Random texts and answers, some queries of which have no text and some states of which are unknown."""

    def __init__(self, seed: int, items: int = 11, queries: int = 5, images: int = 6, dim: int = 4) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.texts = unit(items, dim, generator=generator)
        self.query = torch.randint(0, queries, (items,), generator=generator)
        self.state = torch.randint(1, 4, (items,), generator=generator)
        self.answers = unit(queries, images, dim, generator=generator)
        self.states = torch.randint(0, 4, (queries, images), generator=generator).to(torch.int8)
        self.bank = unit(queries, 3, dim, generator=generator)
        self.bank_known = torch.rand(queries, 3, generator=generator) < 0.6
        self.weight = torch.rand(items, generator=generator, dtype=torch.float64) + 0.1
        self.scale = torch.tensor(5.0, dtype=torch.float64)

    def loss(self, **options: object) -> Tensor:
        return state_contrast(self.texts, self.query, self.state, self.answers, self.states, self.scale, **options).loss  # type: ignore[arg-type]


def naive_divergence(similarities: list[float], positives: list[bool], weights: list[float]) -> float | None:
    """KL(uniform over positives ‖ softmax with weights), or None where there is nothing to compare."""
    candidates = [j for j in range(len(similarities)) if positives[j] or weights[j] > 0]
    number = sum(positives)
    if number == 0 or number == len(candidates):
        return None
    mass = {j: (1.0 if positives[j] else weights[j]) * math.exp(similarities[j]) for j in candidates}
    total = sum(mass.values())
    return sum(1 / number * math.log((1 / number) / (mass[j] / total)) for j in candidates if positives[j])


def naive_state_contrast(case: Case, w: float, w_absent: float, weighted: bool, bank: bool) -> float:
    to_images, to_images_weight = 0.0, 0.0
    items = range(len(case.texts))
    images = range(case.answers.shape[1])
    for i in items:
        u, c = int(case.query[i]), int(case.state[i])
        similarity = [float(case.texts[i] @ case.answers[u, b] * case.scale) for b in images]
        said = [int(case.states[u, b]) for b in images]
        silent = w_absent if c == ABSENT else w
        loss = naive_divergence(similarity, [s == c for s in said], [silent if s == UNKNOWN else 1.0 for s in said])
        if loss is not None:
            weight = float(case.weight[i]) if weighted else 1.0
            to_images += weight * loss
            to_images_weight += weight
    to_texts, to_texts_weight = 0.0, 0.0
    for u in range(len(case.answers)):
        of_query = [i for i in items if int(case.query[i]) == u]
        if not of_query:
            continue
        weight = sum(float(case.weight[i]) for i in of_query) / len(of_query) if weighted else 1.0
        for b in images:
            said = int(case.states[u, b])
            if said == UNKNOWN:
                continue
            candidates = [(case.texts[i], int(case.state[i])) for i in of_query]
            if bank:
                candidates += [(case.bank[u, s], s + 1) for s in range(3) if case.bank_known[u, s]]
            similarity = [float(text @ case.answers[u, b] * case.scale) for text, _ in candidates]
            loss = naive_divergence(similarity, [c == said for _, c in candidates], [1.0] * len(candidates))
            if loss is not None:
                to_texts += weight * loss
                to_texts_weight += weight
    return (to_images / max(to_images_weight, 1e-300) + to_texts / max(to_texts_weight, 1e-300)) / 2


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.5]), st.booleans(), st.booleans()
)
def test_states_against_a_loop(seed: int, w: float, w_absent: float, weighted: bool, bank: bool) -> None:
    case = Case(seed)
    options = {"bank": case.bank, "bank_known": case.bank_known} if bank else {}
    loss = case.loss(
        unknown_weight=w,
        unknown_weight_absent=w_absent,
        item_weight=case.weight if weighted else None,
        **options,
    )
    assert float(loss) == pytest.approx(naive_state_contrast(case, w, w_absent, weighted, bank), abs=1e-9)


def test_gradients_of_the_state_comparison() -> None:
    case = Case(3, items=6, queries=3, images=4, dim=3)
    case.texts.requires_grad_()
    case.answers.requires_grad_()
    case.scale.requires_grad_()

    def loss(texts: Tensor, answers: Tensor, scale: Tensor, chunk: int) -> Tensor:
        return state_contrast(
            texts,
            case.query,
            case.state,
            answers,
            case.states,
            scale,
            bank=case.bank,
            bank_known=case.bank_known,
            chunk=chunk,
        ).loss

    for chunk in (0, 2):
        inputs = (case.texts, case.answers, case.scale)
        assert torch.autograd.gradcheck(lambda *x, chunk=chunk: loss(*x, chunk), inputs)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    case = Case(5)
    case.answers.requires_grad_()
    whole, in_parts = case.loss(), case.loss(chunk=chunk)
    torch.testing.assert_close(in_parts, whole)
    [expected] = torch.autograd.grad(whole, case.answers)
    [found] = torch.autograd.grad(in_parts, case.answers)
    torch.testing.assert_close(found, expected)


def test_chunks_bound_the_memory_that_is_saved() -> None:
    """Between forward and backward a chunked loss keeps its inputs, not the similarities."""

    def saved(chunk: int) -> int:
        total = 0

        def count(x: Tensor) -> Tensor:
            nonlocal total
            total += x.numel()
            return x

        case = Case(1, items=64, queries=16, images=32, dim=4)
        case.answers.requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            case.loss(chunk=chunk)
        return total

    assert saved(2) < saved(0) / 2


def test_the_order_of_items_and_images_does_not_matter() -> None:
    case = Case(7)
    expected = case.loss()
    order, images = torch.randperm(len(case.texts)), torch.randperm(case.answers.shape[1])
    case.texts, case.query, case.state = case.texts[order], case.query[order], case.state[order]
    case.answers, case.states = case.answers[:, images], case.states[:, images]
    assert float(case.loss()) == pytest.approx(float(expected), abs=1e-12)


def test_other_queries_are_never_compared() -> None:
    """What is said and seen of one query leaves the gradient of another alone."""
    case = Case(9)
    case.answers.requires_grad_()
    [before] = torch.autograd.grad(case.loss(both_directions=False) * len(case.texts), case.answers)
    with torch.no_grad():
        case.answers[0] = case.answers[0].flip(0)
    [after] = torch.autograd.grad(case.loss(both_directions=False) * len(case.texts), case.answers)
    torch.testing.assert_close(before[1:], after[1:])


def test_a_text_agrees_with_every_image_of_its_state() -> None:
    """With similarities at their best the loss is (nearly) zero: equals share, nothing is left to push apart."""
    present, absent = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    texts = torch.stack([present, absent])
    answers = torch.stack([present, present, absent, absent])[None]
    states = torch.tensor([[PRESENT, PRESENT, ABSENT, ABSENT]])
    stage = state_contrast(
        texts, torch.tensor([0, 0]), torch.tensor([PRESENT, ABSENT]), answers, states, torch.tensor(50.0)
    )
    assert float(stage.loss) == pytest.approx(0, abs=1e-6)
    assert float(stage.accuracy.real) == 1
    assert float(stage.accuracy.prior) == pytest.approx(0.5)


def test_ties_count_as_chance() -> None:
    case = Case(11)
    case.answers = case.answers[:, :1].expand_as(case.answers)
    stage = state_contrast(case.texts, case.query, case.state, case.answers, case.states, case.scale)
    assert float(stage.accuracy.real) == pytest.approx(float(stage.accuracy.prior))
    assert float(stage.accuracy.blind) == pytest.approx(float(stage.accuracy.prior))


def test_nothing_to_compare() -> None:
    case = Case(0)
    empty = torch.zeros(0, dtype=torch.long)
    answers = case.answers.requires_grad_()
    none = state_contrast(case.texts[:0], empty, empty, answers, case.states, case.scale)
    assert float(none.loss) == 0
    case.states = torch.full_like(case.states, int(PRESENT))
    case.state = torch.full_like(case.state, int(PRESENT))
    loss = case.loss()
    assert loss.item() == 0
    [gradient] = torch.autograd.grad(loss, answers)
    assert gradient.abs().sum() == 0


# Wholes


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_wholes_against_a_loop(seed: int, kinds: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    texts, images = unit(5, 3, generator=generator), unit(5, 3, generator=generator)
    content = torch.randint(0, kinds, (5,), generator=generator)
    scale = torch.tensor(4.0, dtype=torch.float64)
    similarity = (texts @ images.T * scale).tolist()
    directions = []
    for rows in (similarity, [list(column) for column in zip(*similarity, strict=True)]):
        losses = [
            naive_divergence(rows[a], [bool(content[a] == content[b]) for b in range(5)], [1.0] * 5) for a in range(5)
        ]
        counted = [loss for loss in losses if loss is not None]
        directions.append(sum(counted) / len(counted) if counted else 0.0)
    found = pair_contrast(texts, images, content, scale)
    assert float(found.loss) == pytest.approx(sum(directions) / 2, abs=1e-9)
    in_parts = pair_contrast(texts, images, content, scale, chunk=2)
    assert float(in_parts.loss) == pytest.approx(float(found.loss), abs=1e-12)


def test_without_content_it_is_the_cross_entropy_of_the_diagonal() -> None:
    generator = torch.Generator().manual_seed(0)
    texts, images = unit(6, 4, generator=generator), unit(6, 4, generator=generator)
    similarity = texts @ images.T * 3
    target = torch.arange(6)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(similarity, target) + cross_entropy(similarity.T, target)) / 2
    found = pair_contrast(texts, images, None, torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(found.loss, expected)


def test_gradients_of_wholes() -> None:
    generator = torch.Generator().manual_seed(1)
    texts = unit(4, 3, generator=generator).requires_grad_()
    images = unit(4, 3, generator=generator).requires_grad_()
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    content = torch.tensor([0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda *x: pair_contrast(x[0], x[1], content, x[2], chunk=3).loss, (texts, images, scale)
    )


def test_a_weight_of_one_is_no_weight_and_zero_leaves_out() -> None:
    similarity = torch.tensor([[1.0, 2.0, 3.0]])
    positive = torch.tensor([[True, False, False]])
    loss, counts = divergence(similarity, positive, torch.tensor([[1.0, 1.0, 1.0]]), dim=1)
    assert counts.all()
    torch.testing.assert_close(loss, -similarity.log_softmax(1)[:, 0])
    loss, _ = divergence(similarity, positive, torch.tensor([[1.0, 1.0, 0.0]]), dim=1)
    torch.testing.assert_close(loss, -similarity[:, :2].log_softmax(1)[:, 0])
    _, counts = divergence(similarity, positive, torch.zeros(1, 3), dim=1)
    assert not counts.any()


def test_hits() -> None:
    similarity = torch.tensor([[3.0, 1.0, 2.0, 9.0], [0.0, 0.0, 0.0, 9.0]])
    positive = torch.tensor([[True, False, True, False], [True, False, False, False]])
    known = torch.tensor([[True, True, True, False], [True, True, True, False]])
    hit, chance, counts = hits(similarity, positive, known, dim=1)
    torch.testing.assert_close(hit, torch.tensor([1.0, 1 / 3]))
    torch.testing.assert_close(chance, torch.tensor([2 / 3, 1 / 3]))
    assert counts.all()


def test_sums_over_chunks() -> None:
    x = torch.arange(10.0, requires_grad=True)
    for size in (0, 1, 3, 10):
        total = in_chunks(lambda start, end: (x[start:end] ** 2).sum(), 10, size)
        [gradient] = torch.autograd.grad(total, x)
        torch.testing.assert_close(gradient, 2 * x.detach())
