"""The whole model: image encoder, queries, text encoder, and the projections of whole images and whole reports."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.batch import GraphBatch, QuerySide, State
from trainer.graph.concepts import ConceptTable
from trainer.model.config import ModelConfig
from trainer.model.image import ImageEncoder, PatchFeatures
from trainer.model.queries import Answers, Attend, QueryEmbedding
from trainer.model.text import NodeTexts, TextEncoder, report_means


class Model(nn.Module):
    """Encoders of both sides. What stages need beyond that (relations, graphs, temperatures) belongs to the objective.

    Args:
        table: the concepts that queries are asked about
        vocabulary_size: tokens of the tokenizer
        image_size: side of the training images, in pixels
        max_tokens: longest text
    """

    def __init__(
        self, config: ModelConfig, table: ConceptTable, vocabulary_size: int, image_size: int, max_tokens: int = 512
    ) -> None:
        super().__init__()
        self.config = config
        self.table = table
        self.image = ImageEncoder(
            config.backbone,
            image_size,
            config.dim,
            config.in_chans,
            config.min_patches,
            config.weights,
            config.gradient_checkpointing,
        )
        self.queries = QueryEmbedding(table, config.dim)
        self.attend = Attend(config.dim, config.heads)
        self.text = TextEncoder(
            vocabulary_size,
            config.text_model,
            config.text_layers,
            config.text_width,
            config.text_heads,
            config.text_dropout,
            max_tokens,
            config.gradient_checkpointing,
        )
        self.nodes = NodeTexts(self.text.width, config.dim)
        self.statement = nn.Linear(config.dim, len(State) * config.dim, bias=False)
        self.words = nn.Linear(self.text.width, config.dim)
        self.whole_image = _projection(self.image.features, config.dim)
        self.whole_report = _projection(self.text.width, config.dim)

    # Images

    def encode_images(self, images: Tensor) -> PatchFeatures:
        """(B, C, H, W), normalised → patches and pooled features."""
        features: PatchFeatures = self.image(images)
        return features

    def ask(self, features: PatchFeatures, concept: Tensor, side: Tensor, place: Tensor | None = None) -> Answers:
        """Answers to the queries (U,), (U,) in all images, `place` as `logits_at`."""
        logits = self.attention_logits(features, concept, side)
        if place is not None:
            logits = self.logits_at(logits, features, place)
        return self.attend.read(logits, self.attend.values(features.keys))

    def logits_at(self, logits: Tensor, features: PatchFeatures, place: Tensor) -> Tensor:
        """The attention of queries where that of a place is too, the product of both maps, as the relation stage has it.

        Args:
            logits: (U, B, heads, L) of the queries
            place: (U, 2) concept and side of the anatomy, −1 for a query that asks of no place
        """
        at = torch.nonzero(place[:, 0] >= 0).flatten()
        there = self.attention_logits(features, place[at, 0], place[at, 1])
        return logits.index_add(0, at, there.to(logits.dtype))

    def attention_logits(self, features: PatchFeatures, concept: Tensor, side: Tensor) -> Tensor:
        """(U, B, heads, L): own logits, under guidance with the log-attention of the site added.

        The site is the vocabulary's, at the query's side where the site has sides; where this report puts a finding never enters.
        """
        logits = self.attend.logits(self.queries(concept, side), features.keys)
        if self.config.guidance == "none":
            return logits
        site = self.table.column("site", concept.device)[concept]
        guided = torch.nonzero(site >= 0).flatten()
        site = site[guided]
        site_side = torch.where(self.table.column("sided", concept.device)[site], side[guided], 0)
        map_of_site = self.attend.logits(self.queries(site, site_side), features.keys).log_softmax(-1)
        if self.config.guidance == "detached":
            map_of_site = map_of_site.detach()
        return logits.index_add(0, guided, map_of_site.to(logits.dtype))

    def image_vectors(self, features: PatchFeatures) -> Tensor:
        """Whole images, (B, d), unit length."""
        return functional.normalize(self.whole_image(features.pooled).float(), dim=-1)

    # Texts

    def encode_texts(self, batch: GraphBatch) -> Tensor:
        """Token states (B, T, width)."""
        tokens: Tensor = self.text(batch.input_ids, batch.attention_mask)
        return tokens

    def node_texts(self, tokens: Tensor, batch: GraphBatch) -> Tensor:
        """(N, d) node texts without their assertion, which `item_texts` adds."""
        nodes: Tensor = self.nodes(tokens, batch)
        return nodes

    def with_assertion(self, nodes: Tensor, state: Tensor, concept: Tensor, side: Tensor) -> Tensor:
        """What nodes say of their concept, t_n + assertion[s] + W_s q(concept, side): (I, d), (I,) State, (I,), (I,) → (I, d).

        With the last addend a text differs by its state from the first step on in a way of its concept's own, before the text
        encoder has learnt to read. A bilateral `side` is none.
        """
        query = self.queries(concept, torch.where(side == QuerySide.BILATERAL, int(QuerySide.NONE), side))
        by_state = self.statement(query).unflatten(-1, (len(State), -1))  # (I, 4, d)
        said = by_state.gather(1, state.long()[:, None, None].expand(-1, 1, by_state.shape[-1]))[:, 0]
        stated: Tensor = nodes + self.nodes.assertion(state) + said
        return stated

    def item_texts(self, nodes: Tensor, state: Tensor, concept: Tensor, side: Tensor) -> Tensor:
        """The same, of unit length, as answers to the query (concept, side) are compared with them."""
        return functional.normalize(self.with_assertion(nodes, state, concept, side).float(), dim=-1)

    def report_vectors(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """Whole reports, (B, d), unit length."""
        return functional.normalize(self.whole_report(report_means(tokens, attention_mask)).float(), dim=-1)


def _projection(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
