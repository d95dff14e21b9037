"""The objectives, registered by name: what a step compares.

An objective is a weighted sum of terms, `cga` or `state+clip` or `cga+0.3*local`. All terms of a step share one `Scene`: what has been
encoded once is not encoded again. Another package adds a term under the entry point group `trainer.objectives`: a subclass of `Term`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import entry_points
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.bank import ConceptBank
from trainer.errors import UserError
from trainer.graph.batch import GraphBatch, State
from trainer.graph.concepts import SIDES_OF_A_QUERY
from trainer.graph.items import bare_statements, draw_items, node_items, pair_items
from trainer.graph.states import Queries, close_states
from trainer.losses.contrast import (
    Accuracy,
    StageLoss,
    divergence,
    full_precision,
    hits,
    mean_of,
    pair_contrast,
    state_contrast,
    whole_accuracy,
)
from trainer.losses.gather import gather, gather_batch, world_size
from trainer.losses.relations import RelationHead
from trainer.losses.summary import other_images, summary_contrast, topology
from trainer.losses.words import word_region_similarity
from trainer.model.config import ObjectiveConfig
from trainer.model.image import PatchFeatures
from trainer.model.message_passing import GraphSummary
from trainer.model.model import Model
from trainer.model.queries import Answers
from trainer.model.take import take

MAX_SCALE = 100.0
STAGES = ("anatomy", "pathology", "relation", "summary")
PATCHES = ("image.project", "image.norm", "image.place")
ANSWERS = (*PATCHES, "queries", "attend")


@dataclass
class Context:
    """Where in training a step is. `bank` is read and, in training, kept up to date."""

    step: int = 0
    total_steps: int = 1
    bank: ConceptBank | None = None
    seed: int = 0

    @property
    def progress(self) -> float:
        return self.step / max(self.total_steps, 1)

    def generator(self) -> torch.Generator:
        """For what a step draws: the same on every rank and after a resume."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + self.step) % (2**63))


@dataclass
class Step:
    """What a step comes to. Everything but `loss` is without gradient, 0-d tensors on the device."""

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)  # before their weights
    accuracies: dict[str, Accuracy] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Scene:
    """Everything that the terms of one step may look at, each computed at the first look.

    Of images and texts the own rank's are encoded; what comes of them is gathered, so that answers, nodes and vectors are those of
    the joined batch of all ranks (B, N), the same on every rank.
    """

    def __init__(self, model: Model, batch: GraphBatch, images: Tensor, config: ObjectiveConfig, context: Context):
        self.model, self.local, self.images, self.config, self.context = model, batch, images, config, context
        self.table = model.table
        self.batch = gather_batch(batch)
        if config.uncertain == "present":
            state = self.batch.node_state
            self.batch = replace(
                self.batch, node_state=torch.where(state == State.UNCERTAIN, int(State.PRESENT), state)
            )
        self.generator = context.generator()
        self.shift = int(torch.randint(1, max(self.batch.size, 2), (1,), generator=self.generator))

    @cached_property
    def features(self) -> PatchFeatures:
        return self.model.encode_images(self.images)

    @cached_property
    def tokens(self) -> Tensor:
        """(B_local, T, width)"""
        return self.model.encode_texts(self.local)

    @cached_property
    def image_vectors(self) -> Tensor:
        """(B, d)"""
        return gather(self.model.image_vectors(self.features))

    @cached_property
    def report_vectors(self) -> Tensor:
        """(B, d)"""
        return gather(self.model.report_vectors(self.tokens, self.local.attention_mask))

    @cached_property
    def nodes(self) -> Tensor:
        """(N, d) node texts without assertion."""
        return gather(self.model.node_texts(self.tokens, self.local))

    @cached_property
    def queries(self) -> Queries:
        config = self.config
        queries = close_states(
            self.batch, self.table, config.max_queries, config.max_pairs, config.closure, seed=self.context.step
        )
        if config.uncertain == "ignore":
            for states in (queries.states, queries.pair_states):
                states[states == State.UNCERTAIN] = State.UNKNOWN
        return queries

    @cached_property
    def answers(self) -> Answers:
        """Of the own rank's images."""
        return self.model.ask(self.features, self.queries.concept, self.queries.side)

    @cached_property
    def values(self) -> Tensor:
        """v (U, B, d)"""
        return gather(self.answers.values, dim=1)

    @cached_property
    def unit_values(self) -> Tensor:
        return functional.normalize(self.values.float(), dim=-1)

    @cached_property
    def content(self) -> Tensor:
        """(B,) equal for reports that must not be each other's negatives."""
        if self.config.content_keys:
            return self.batch.report_content
        return torch.arange(self.batch.size, device=self.batch.report_content.device)


class Term(nn.Module):
    """One addend of an objective."""

    name: ClassVar[str]
    score: ClassVar[str]  # what zero-shot classification reads: answers | state | graph | report | words
    parts: tuple[str, ...]  # of the model, those that it uses; the backbone aside

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__()
        self.config = config
        self.dim = model.config.dim

    def forward(self, scene: Scene) -> Step:
        raise NotImplementedError


class Scale(nn.Module):
    """One over the temperature, learnt as its logarithm; `limit` holds it at 100 at most."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(-math.log(config.temperature)), requires_grad=config.learn_temperature)

    def forward(self) -> Tensor:
        return self.log.exp()

    @torch.no_grad()
    def limit(self) -> None:
        # Not in `forward`: a value beyond a clamp has no gradient that could lead it back.
        self.log.clamp_(max=math.log(MAX_SCALE))


TERMS: dict[str, type[Term]] = {}


def register(term: type[Term]) -> type[Term]:
    TERMS[term.name] = term
    return term


# The cascade


@register
class Cascade(Term):
    """`cga`: anatomy, pathology, relations, content summary, and the global term (DESIGN, section 5)."""

    name = "cga"
    score = "answers"
    parts: tuple[str, ...] = (*ANSWERS, "text", "nodes", "statement", "whole_image", "whole_report")

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__(config, model)
        self.weights = {name: weight for name in (*STAGES, "whole") if (weight := getattr(config, name)) > 0}
        if not self.weights:
            raise UserError("All stages of cga have weight 0; give at least one of them a weight.")
        if "whole" not in self.weights:
            self.parts = (*ANSWERS, "text", "nodes", "statement")
        self.scales = nn.ModuleDict({name: Scale(config) for name in self.weights})
        if "relation" in self.weights:
            self.relation = RelationHead(self.dim)
        if "summary" in self.weights:
            self.text_summary = GraphSummary(self.dim, model.config.message_layers)
            self.image_summary = GraphSummary(self.dim, model.config.message_layers)

    def forward(self, scene: Scene) -> Step:
        stages: dict[str, Callable[[Scene], StageLoss]] = {
            "anatomy": lambda scene: self.nodes(scene, pathology=False),
            "pathology": lambda scene: self.nodes(scene, pathology=True),
            "relation": self.relations,
            "summary": self.summary,
            "whole": self.whole,
        }
        done = {name: stages[name](scene) for name in self.weights}
        weights = {name: weight * self.share(name, scene.context.progress) for name, weight in self.weights.items()}
        return Step(
            loss=torch.stack([weights[name] * stage.loss for name, stage in done.items()]).sum(),
            parts={name: stage.loss.detach() for name, stage in done.items()},
            accuracies={name: stage.accuracy for name, stage in done.items()},
            metrics={f"temperature_{name}": 1 / scale().detach() for name, scale in self.scales.items()},
        )

    def share(self, name: str, progress: float) -> float:
        """How much of its weight a stage has: all of it, or staged, from its turn on, over as long again."""
        if self.config.schedule == "joint" or name == "whole":
            return 1.0
        start = self.config.stage_start
        turn = list(STAGES).index(name) * start
        return 1.0 if turn == 0 or start == 0 else min(max((progress - turn) / start, 0.0), 1.0)

    def nodes(self, scene: Scene, pathology: bool) -> StageLoss:
        """Stages 1 and 2: the texts of nodes, and bare statements, with the answers of all images to the same query."""
        queries = scene.queries
        items = node_items(scene.batch, queries, scene.table, pathology)
        items = items[draw_items(items, self.config.items_per_state, scene.generator)]
        concept, side = queries.concept[items.query], queries.side[items.query]
        texts = scene.model.item_texts(take(scene.nodes, items.node), items.state, concept, side)
        query, state, said = items.query, items.state, texts
        if self.config.statements:
            asked, stated = bare_statements(queries, pathology)
            bare = scene.model.item_texts(
                texts.new_zeros(len(asked), self.dim), stated, queries.concept[asked], queries.side[asked]
            )
            query, state, said = torch.cat([query, asked]), torch.cat([state, stated]), torch.cat([texts, bare])
        bank = bank_known = None
        if self.config.bank and scene.context.bank is not None:
            bank, bank_known = scene.context.bank.texts(queries.concept, queries.side)
            bank = bank.to(texts.dtype)
        stage = state_contrast(
            said,
            query,
            state,
            scene.unit_values,
            queries.states,
            self.scales["pathology" if pathology else "anatomy"](),
            self.config.unknown_weight,
            self.config.unknown_weight_absent,
            item_weight=self.item_weight(scene, query) if self.config.count_weights else None,
            bank=bank,
            bank_known=bank_known,
            both_directions=self.config.both_directions,
            chunk=self.config.chunk,
            shift=scene.shift,
        )
        if self.training and self.config.bank and scene.context.bank is not None:
            scene.context.bank.add(concept * SIDES_OF_A_QUERY + side, items.state, texts, self.config.bank_momentum)
        return stage

    @staticmethod
    def item_weight(scene: Scene, query: Tensor) -> Tensor:
        count = scene.table.column("count", query.device)[scene.queries.concept[query]]
        return count.clamp(min=1).float() ** -0.5

    def relations(self, scene: Scene) -> StageLoss:
        """Stage 3: the texts of edges with the answers of all images to the same pair of queries."""
        queries = scene.queries
        items = pair_items(scene.batch, queries, scene.table)
        rows = draw_items(items, self.config.items_per_state, scene.generator)
        items = items[rows]
        seen = self.relation.images(scene.answers, scene.model.attend, self._values(scene), queries)
        seen = functional.normalize(gather(seen, dim=1).float(), dim=-1)  # (P, B, d)
        batch = scene.batch
        nodes = scene.model.with_assertion(scene.nodes, batch.node_state, batch.node_concept, batch.node_side)
        texts = functional.normalize(self.relation.texts(items, nodes, queries).float(), dim=-1)
        return state_contrast(
            texts,
            items.query,
            items.state,
            seen,
            queries.pair_states,
            self.scales["relation"](),
            self.config.unknown_weight,
            self.config.unknown_weight_absent,
            both_directions=self.config.both_directions,
            chunk=self.config.chunk,
            shift=scene.shift,
        )

    @staticmethod
    def _values(scene: Scene) -> Tensor:
        return scene.model.attend.values(scene.features.keys)

    def summary(self, scene: Scene) -> StageLoss:
        """Stage 4: every report's graph, read off its own image and K others."""
        batch = scene.batch
        graph = topology(batch, scene.queries, scene.table.column("sided", batch.node_concept.device))
        texts = scene.model.with_assertion(
            take(scene.nodes, graph.node),
            batch.node_state[graph.node],
            batch.node_concept[graph.node],
            batch.node_side[graph.node],
        )
        candidates = other_images(batch.size, self.config.summary_others, scene.generator).to(texts.device)
        return summary_contrast(
            graph,
            texts,
            scene.values,
            candidates,
            scene.content,
            self.text_summary,
            self.image_summary,
            self.scales["summary"](),
        )

    def whole(self, scene: Scene) -> StageLoss:
        """The global term: the whole image with the whole report."""
        return pair_contrast(
            scene.report_vectors,
            scene.image_vectors,
            scene.content,
            self.scales["whole"](),
            chunk=self.config.chunk,
            shift=scene.shift,
        )


# The objectives that it is measured against


@register
class Clip(Term):
    """Whole image and whole report (ConVIRT, Zhang et al. 2022)."""

    name = "clip"
    score = "report"
    parts = ("text", "whole_image", "whole_report")

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__(config, model)
        self.scale = Scale(config)

    def forward(self, scene: Scene) -> Step:
        stage = pair_contrast(
            scene.report_vectors,
            scene.image_vectors,
            scene.content,
            self.scale(),
            chunk=self.config.chunk,
            shift=scene.shift,
        )
        return one_part(self.name, stage, self.scale)


@register
class Local(Term):
    """Words and regions (the local term of GLoRIA, Huang et al. 2021); `clip+local` is the whole of it."""

    name = "local"
    score = "words"
    parts = (*PATCHES, "text", "words")
    ATTENTION_TEMPERATURE: ClassVar[float] = 0.1
    WORD_TEMPERATURE: ClassVar[float] = 0.2

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__(config, model)
        self.scale = Scale(config)

    def forward(self, scene: Scene) -> Step:
        words = gather_texts(scene.model.words(scene.tokens))
        mask = gather_texts(scene.local.attention_mask)
        with full_precision(words):
            similarity = word_region_similarity(
                words.float(),
                mask,
                gather(scene.features.keys.float()),
                self.ATTENTION_TEMPERATURE,
                self.WORD_TEMPERATURE,
                self.config.chunk,
            )
        similarity = similarity * self.scale()  # (B, B)
        same = scene.content[:, None] == scene.content[None, :]
        losses = []
        for dim in (0, 1):
            loss, counts = divergence(similarity, same, torch.ones_like(similarity), dim)
            losses.append(mean_of(loss, counts.to(loss.dtype)))
        accuracy = whole_accuracy(similarity.detach(), same, scene.shift)
        return one_part(self.name, StageLoss(torch.stack(losses).mean(), accuracy), self.scale)


def gather_texts(x: Tensor) -> Tensor:
    """(B, T, …) of all ranks, whose texts may be of other lengths: filled up with zeros."""
    if world_size() == 1:
        return x
    longest = torch.tensor(x.shape[1], device=x.device)
    torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
    padding = x.new_zeros(x.shape[0], int(longest) - x.shape[1], *x.shape[2:])
    return gather(torch.cat([x, padding], 1))


@register
class ReportGraph(Term):
    """Whole image and the report's graph, embedded by message passing over its text nodes (after Khanna et al. 2023)."""

    name = "graph"
    score = "graph"
    parts = ("text", "nodes", "statement", "queries", "whole_image")

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__(config, model)
        self.scale = Scale(config)
        self.summary = GraphSummary(self.dim, max(model.config.message_layers, 2))

    def forward(self, scene: Scene) -> Step:
        vectors = self.vectors(scene.model, scene.nodes, scene.batch)
        stage = pair_contrast(
            vectors, scene.image_vectors, scene.content, self.scale(), chunk=self.config.chunk, shift=scene.shift
        )
        return one_part(self.name, stage, self.scale)

    def vectors(self, model: Model, nodes: Tensor, batch: GraphBatch) -> Tensor:
        """Whole graphs, (B, d), unit length."""
        nodes = model.with_assertion(nodes, batch.node_state, batch.node_concept, batch.node_side)
        graphs = self.summary(
            nodes, batch.edge_source, batch.edge_target, batch.edge_kind, batch.node_report, batch.size
        )
        return functional.normalize(graphs.float(), dim=-1)


@register
class StateClassification(Term):
    """Present or absent, classified from the answers (after MedKLIP, Wu et al. 2023): no text, only states.

    Cross entropy of v[u, b] · c(u) with S: present 1, absent 0, uncertain left out, unknown 0 at `unknown_weight`.
    """

    name = "state"
    score = "state"
    parts = ANSWERS

    def __init__(self, config: ObjectiveConfig, model: Model) -> None:
        super().__init__(config, model)
        self.direction = nn.Linear(self.dim, self.dim)
        self.bias = nn.Linear(self.dim, 1)

    def forward(self, scene: Scene) -> Step:
        rows = torch.nonzero(scene.queries.is_pathology).flatten()
        states = scene.queries.states[rows].long()  # (U', B)
        concept, side = scene.queries.concept[rows], scene.queries.side[rows]
        logits = self.logits(scene.model, take(scene.values, rows), concept, side)
        weight = torch.ones_like(logits)
        weight = torch.where(states == State.UNKNOWN, self.config.unknown_weight, weight)
        weight = torch.where(states == State.UNCERTAIN, 0.0, weight)
        present = states == State.PRESENT
        each = functional.binary_cross_entropy_with_logits(logits, present.to(logits.dtype), reduction="none")
        return one_part(self.name, StageLoss(mean_of(each, weight), self.accuracy(logits, states, scene.shift)))

    def logits(self, model: Model, values: Tensor, concept: Tensor, side: Tensor) -> Tensor:
        """(U, B, d) answers → (U, B)"""
        query = model.queries(concept, side)
        direction, bias = self.direction(query).float(), self.bias(query).float()
        with full_precision(values):
            logits: Tensor = torch.einsum("ubd,ud->ub", values.float(), direction) * self.dim**-0.5 + bias
        return logits

    @staticmethod
    @torch.no_grad()
    def accuracy(logits: Tensor, states: Tensor, shift: int) -> Accuracy:
        """Each present answer against the known ones of its query: is the image with the largest logit one with the finding?"""
        present, known = states == State.PRESENT, (states == State.PRESENT) | (states == State.ABSENT)
        real, chance, counts = hits(logits, present, known, dim=1)
        blind, _, _ = hits(logits.roll(shift, 1), present, known, dim=1)
        total = counts.sum().clamp(min=1)
        return Accuracy(real.sum() / total, blind.sum() / total, chance.sum() / total)


def one_part(name: str, stage: StageLoss, scale: Scale | None = None) -> Step:
    metrics = {} if scale is None else {f"temperature_{name}": 1 / scale().detach()}
    return Step(stage.loss, {name: stage.loss.detach()}, {name: stage.accuracy}, metrics)


# Sums


class Objective(nn.Module):
    """A weighted sum of terms, with their parameters."""

    def __init__(self, terms: list[tuple[float, Term]], config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        self.factors = [factor for factor, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, model: Model, batch: GraphBatch, images: Tensor, context: Context) -> Step:
        """One step over a batch.

        Args:
            images: (B, C, H, W), normalised, on the device of `batch`
        """
        scene = Scene(model, batch, images, self.config, context)
        losses, total = [], Step(images.new_zeros(()))
        for factor, term in zip(self.factors, self.terms, strict=True):
            step: Step = term(scene)
            losses.append(factor * step.loss)
            total.parts |= step.parts
            total.accuracies |= step.accuracies
            total.metrics |= step.metrics
        total.loss = torch.stack(losses).sum()
        if world_size() > 1:  # a batch without an edge must not leave a parameter without gradient
            total.loss = total.loss + 0.0 * sum(
                parameter.sum()
                for module in (self, model)
                for parameter in module.parameters()
                if parameter.requires_grad and parameter.numel() <= 2**20
            )
        return total

    def limit_temperatures(self) -> None:
        """Hold all temperatures at 0.01 or above; called after each step of the optimizer."""
        for module in self.modules():
            if isinstance(module, Scale):
                module.limit()


def parse(name: str) -> list[tuple[float, str]]:
    """`cga+0.3*clip` → [(1.0, "cga"), (0.3, "clip")]. UserError where it is no such sum."""
    found = []
    for addend in name.split("+"):
        match = re.fullmatch(r"\s*(?:([0-9]*\.?[0-9]+)\s*\*\s*)?([A-Za-z][\w-]*)\s*", addend)
        if match is None:
            raise UserError(
                f"{name!r} is no objective; write names joined by +, each with a weight before * if it has one: cga+0.3*clip."
            )
        found.append((float(match[1] or 1), match[2]))
    names = [one for _, one in found]
    if len(set(names)) < len(names):
        raise UserError(f"The objective {name!r} names a term twice; add up its weights.")
    return found


def term_of(name: str) -> type[Term]:
    if name not in TERMS:
        for point in entry_points(group="trainer.objectives"):
            if point.name == name:
                return register(point.load())
        known = sorted({*TERMS, *(point.name for point in entry_points(group="trainer.objectives"))})
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
        raise UserError(f"There is no objective {name!r}; {hint}")
    return TERMS[name]


def make_objective(config: ObjectiveConfig, model: Model) -> Objective:
    """The objective that `config.name` names, for this model, whose parts that no term uses are frozen.

    UserError for a name that is not registered.
    """
    terms = [(factor, term_of(name)(config, model)) for factor, name in parse(config.name)]
    used = ("image.backbone", *(part for _, term in terms for part in term.parts))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(used))
    return Objective(terms, config)
