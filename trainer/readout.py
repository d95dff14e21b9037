"""What a trained model says of findings in images: the final concept bank, scores without training, and maps.

How an objective's model answers (`Term.score`) differs, what it is asked does not:

    answers  cga          sim(v_c, present) − sim(v_c, absent), with the bank's texts of c
    state    state        the classifier's logit
    report   clip         whole image with the phrases "c" and "no c"
    graph    graph        whole image with graphs of one node, that says c or denies it
    words    local        regions with the words of the two phrases
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from trainer.bank import ConceptBank
from trainer.data.phrases import phrase
from trainer.errors import UserError
from trainer.graph.batch import GraphBatch, State
from trainer.graph.concepts import SIDES_OF_A_QUERY, ConceptTable
from trainer.graph.items import node_items
from trainer.graph.states import close_states
from trainer.losses.gather import world_size
from trainer.losses.words import word_region_similarity
from trainer.model.image import PatchFeatures
from trainer.model.model import Model
from trainer.objectives import Local, Objective, ReportGraph, StateClassification, Term

if TYPE_CHECKING:
    from trainer.data.tokenizer import Tokenizer

_CELLS = 64  # of a map of gradients, which are smooth, a side
Map = Literal["attention", "evidence", "gradient"]
_PREFERRED = ("answers", "state", "graph", "report", "words")
_SIDES = (None, "left", "right")
_PHRASES_AT_ONCE = 256


def reading_term(objective: Objective) -> Term:
    """The term of a sum that is read: answers and states, which are asked about findings, before wholes."""
    terms: list[Term] = list(objective.terms)  # type: ignore[arg-type]
    return min(terms, key=lambda term: _PREFERRED.index(term.score))


def answers_questions(objective: Objective) -> bool:
    """Whether its models answer queries, and so can be asked for a finding at a place."""
    return reading_term(objective).score in ("answers", "state")


# The bank


@torch.no_grad()
def fill_bank(
    bank: ConceptBank, model: Model, objective: Objective, batches: Iterable[GraphBatch], tokenizer: Tokenizer
) -> None:
    """The final bank: means over all texts of `batches`, training reports, and phrases for what none of them says.

    Batches may come without images. Each rank takes its own batches, and all end with the same bank.
    """
    term = reading_term(objective)
    bank.clear()
    if "text" not in term.parts:
        return
    if term.score == "answers":
        for batch in batches:
            _take_in(bank, model, batch, objective.config.closure)
        if world_size() > 1:
            _join_ranks(bank)
    device = bank.means.device
    rows = torch.arange(len(model.table), device=device)
    has_sides = model.table.column("sided", device)
    for side in range(SIDES_OF_A_QUERY):
        concept = rows if side == 0 else rows[has_sides]
        missing, state = bank.missing(concept, torch.full_like(concept, side))
        if not len(missing):
            continue
        for part in torch.split(torch.arange(len(missing), device=device), _PHRASES_AT_ONCE):
            chosen = concept[missing[part]]
            sides = torch.full_like(chosen, side)
            texts = phrase_vectors(model, term, tokenizer, chosen, sides, state[part])
            bank.put(chosen * SIDES_OF_A_QUERY + sides, state[part], texts)


def _take_in(bank: ConceptBank, model: Model, batch: GraphBatch, closure: bool) -> None:
    queries = close_states(batch, model.table, closure=closure)
    nodes = model.node_texts(model.encode_texts(batch), batch)
    for pathology in (False, True):
        items = node_items(batch, queries, model.table, pathology)
        concept, side = queries.concept[items.query], queries.side[items.query]
        texts = model.item_texts(nodes[items.node], items.state, concept, side)
        bank.add(concept * SIDES_OF_A_QUERY + side, items.state, texts)


def _join_ranks(bank: ConceptBank) -> None:
    sums = bank.means * bank.counts[..., None]
    torch.distributed.all_reduce(sums)
    torch.distributed.all_reduce(bank.counts)
    bank.means.copy_(sums / bank.counts.clamp(min=1)[..., None])


def phrase_vectors(
    model: Model, term: Term, tokenizer: Tokenizer, concept: Tensor, side: Tensor, state: Tensor
) -> Tensor:
    """Vectors (Q, d), unit length, of the phrases of (concept, side, state), each (Q,), as the term compares texts."""
    batch = phrase_batch(tokenizer, model.table, concept, side, state)
    tokens = model.encode_texts(batch)
    if term.score == "answers":
        return model.item_texts(model.node_texts(tokens, batch), state, concept, side)
    if term.score == "report":
        return model.report_vectors(tokens, batch.attention_mask)
    if isinstance(term, ReportGraph):
        return term.vectors(model, model.node_texts(tokens, batch), batch)
    words = functional.normalize(model.words(tokens).float(), dim=-1)
    inside = torch.zeros_like(batch.attention_mask, dtype=words.dtype)
    for row, (start, end) in enumerate(zip(batch.span_start.tolist(), batch.span_end.tolist(), strict=True)):
        inside[row, start:end] = 1
    return functional.normalize((words * inside[..., None]).sum(1), dim=-1)


def phrase_batch(tokenizer: Tokenizer, table: ConceptTable, concept: Tensor, side: Tensor, state: Tensor) -> GraphBatch:
    """One report of one node for each phrase, without images."""
    device = concept.device
    words = [
        phrase(table.concepts[row].name, _SIDES[at], State(value).name.lower())
        for row, at, value in zip(concept.tolist(), side.tolist(), state.tolist(), strict=True)
    ]
    encoded = tokenizer.encode([f"{one}." for one in words], [[(0, len(one))] for one in words])
    input_ids, attention_mask = encoded.padded()
    count = torch.arange(len(words), device=device)
    none = count[:0]
    return GraphBatch(
        report_ids=words,
        images=torch.zeros(len(words), 1, 0, 0, dtype=torch.uint8, device=device),
        input_ids=input_ids.to(device),
        attention_mask=attention_mask.to(device),
        node_report=count,
        node_concept=concept,
        node_side=side,
        node_state=state,
        node_is_pathology=table.column("is_pathology", device)[concept],
        node_content=count,
        span_node=count,
        span_start=torch.from_numpy(encoded.span_start).long().to(device),
        span_end=torch.from_numpy(encoded.span_end).long().to(device),
        edge_source=none,
        edge_target=none,
        edge_kind=none,
        report_content=count,
    )


# Scores and maps


@torch.no_grad()
def scores(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    features: PatchFeatures,
    concept: Tensor,
    side: Tensor,
    place: Tensor | None = None,
) -> Tensor:
    """How much each image (B) speaks for each query (U,), (U,) being present: (U, B), higher is more.

    `place` (U, 2) is the concept and side of an anatomy that it is asked for, −1 where none is (`Model.ask`). UserError for an
    objective that compares whole images and so cannot say where.
    """
    return _scores(model, objective, bank, features, concept, side, place)


def _scores(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    features: PatchFeatures,
    concept: Tensor,
    side: Tensor,
    place: Tensor | None,
) -> Tensor:
    term = reading_term(objective)
    if term.score == "answers":
        return bank.scores(model.ask(features, concept, side, place).values, concept, side)
    if isinstance(term, StateClassification):
        return term.logits(model, model.ask(features, concept, side, place).values, concept, side)
    if place is not None and bool((place >= 0).any()):
        raise UserError(
            f"A model trained with {term.name} answers no questions and cannot be asked for a finding at a place; "
            "ask for the finding alone."
        )
    texts, _ = bank.texts(concept, side)  # (U, 3, d)
    if isinstance(term, Local):
        both = torch.cat([texts[:, 0], texts[:, 2]])[:, None]  # (2U, 1, d)
        mask = torch.ones(both.shape[:2], device=both.device)
        similarity = word_region_similarity(
            both, mask, features.keys.float(), term.ATTENTION_TEMPERATURE, term.WORD_TEMPERATURE
        )
        present, absent = similarity.chunk(2)
        return present - absent
    return (texts[:, 0] - texts[:, 2]) @ model.image_vectors(features).T


def finding_maps(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    images: Tensor,
    concept: Tensor,
    side: Tensor,
    kind: Map = "gradient",
    place: Tensor | None = None,
) -> Tensor:
    """Where each image (B, C, H, W) shows each query: (U, B, h, w), higher is more; see `maps` and `gradient_maps`."""
    if kind == "gradient":
        return gradient_maps(model, objective, bank, images, concept, side, place)
    with torch.no_grad():
        return maps(model, objective, bank, model.encode_images(images), concept, side, kind, place)


@torch.no_grad()
def maps(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    features: PatchFeatures,
    concept: Tensor,
    side: Tensor,
    kind: Literal["attention", "evidence"] = "attention",
    place: Tensor | None = None,
) -> Tensor:
    """Where each image shows each query: (U, B, h, w), on the grid of the encoder, higher is more.

    `attention` is where a query looks, whatever it sees there. `evidence` is what each patch adds to the score, in a model that
    answers queries. Models of whole images have one map, the similarity of each cell's features with the text; `kind` does not matter.
    """
    term = reading_term(objective)
    if term.score in ("answers", "state"):
        answers = model.ask(features, concept, side, place)
        if kind == "attention":
            return on_grid(answers.attention, features.grid)
        if isinstance(term, StateClassification):
            direction = term.direction(model.queries(concept, side))
        else:
            texts, _ = bank.texts(concept, side)
            direction = texts[:, 0] - texts[:, 2]
        by_head = model.attend.split(direction @ model.attend.out.weight)  # (U, h, d_h)
        each = torch.einsum("blhd,uhd->ubhl", model.attend.values(features.keys), by_head)
        return on_grid((each * answers.logits.softmax(-1)).sum(2), features.grid)
    texts, _ = bank.texts(concept, side)
    if term.score == "words":
        regions = functional.normalize(features.keys.float(), dim=-1)
        return on_grid(torch.einsum("bld,ud->ubl", regions, texts[:, 0]), features.grid)
    cells = features.cells.flatten(2).transpose(1, 2)  # (B, L', C)
    if cells.shape[-1] != features.pooled.shape[-1]:
        raise UserError(
            f"{model.config.backbone} pools other features than those of its map, so there are no maps of wholes."
        )
    vectors = functional.normalize(model.whole_image(cells).float(), dim=-1)
    contrast = texts[:, 0] - texts[:, 2]
    h, w = features.cells.shape[2:]
    return on_grid(torch.einsum("bld,ud->ubl", vectors, contrast), (h, w))


def gradient_maps(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    images: Tensor,
    concept: Tensor,
    side: Tensor,
    place: Tensor | None = None,
) -> Tensor:
    """What in each image (B, C, H, W) the score of each query depends on: (U, B, h, w), at most 64 × 64, for any objective.

    Σ_channels |∂ score / ∂ pixel| (Simonyan et al. 2014), smoothed by a Gaussian of a sixteenth of the image: single pixels are
    noise. A backward pass for each query.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        found = _scores(model, objective, bank, model.encode_images(images), concept, side, place).sum(1)  # (U,)
        slopes = torch.stack([torch.autograd.grad(one, images, retain_graph=True)[0].abs().sum(1) for one in found])
    size = images.shape[-1]
    width = min(6 * (size // 16) + 1, size // 2 * 2 - 1)
    smooth: Tensor = gaussian_blur(slopes, [width, width], [size / 16, size / 16])
    h, w = (min(side, _CELLS) for side in images.shape[2:])
    return functional.adaptive_avg_pool2d(smooth, (h, w))


def on_grid(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """(U, B, L) → (U, B, h, w)"""
    return x.reshape(*x.shape[:2], *grid)
