"""The content summary: a report's graph with the features that its own image, and those of K others, give to its nodes.

For report a and image b the visual graph has the topology of G_a and at node n the answer v[u(n), b] (of a bilateral node the mean of
left and right). All candidates of a comparison share the topology, so that it tells nothing:

    z_a = summary of G_a with the texts t_n,   z_ab = summary of G_a with v[u(n), b],   s_aj = z_a · z_{a, b_j} · scale,  j = 0 … K

with b_0 = a. The positive is j = 0, and every j whose report says the same. Only text to image: of one image against several
reports the topologies would differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.batch import GraphBatch, QuerySide
from trainer.graph.states import Queries
from trainer.losses.contrast import StageLoss, divergence, full_precision, whole_accuracy
from trainer.model.message_passing import GraphSummary
from trainer.model.take import take


@dataclass
class Topology:
    """The nodes whose queries are asked, with their edges, packed."""

    node: Tensor  # (N',) nodes of the batch
    first: Tensor  # (N',) query of the node; of a bilateral one that of the left
    second: Tensor  # (N',) the same query; of a bilateral one that of the right
    report: Tensor  # (N',)
    source: Tensor  # (E',) positions in `node`
    target: Tensor  # (E',)
    kind: Tensor  # (E',)


def topology(batch: GraphBatch, queries: Queries, sided: Tensor) -> Topology:
    """`sided` (C,): which concepts have sides; the side of the others is none."""
    side = torch.where(sided[batch.node_concept], batch.node_side, int(QuerySide.NONE))
    both = side == QuerySide.BILATERAL
    first = queries.locate(batch.node_concept, torch.where(both, int(QuerySide.LEFT), side))
    second = queries.locate(batch.node_concept, torch.where(both, int(QuerySide.RIGHT), side))
    kept = (first >= 0) & (second >= 0)
    node = torch.nonzero(kept).flatten()
    position = torch.cumsum(kept, 0) - 1
    edges = kept[batch.edge_source] & kept[batch.edge_target]
    return Topology(
        node=node,
        first=first[node],
        second=second[node],
        report=batch.node_report[node],
        source=position[batch.edge_source[edges]],
        target=position[batch.edge_target[edges]],
        kind=batch.edge_kind[edges],
    )


def other_images(size: int, others: int, generator: torch.Generator) -> Tensor:
    """(B, 1 + K) images with which each report is compared: its own, then K others, the same rotations for all reports."""
    count = min(others, size - 1)
    shifts = torch.cat([torch.zeros(1, dtype=torch.long), torch.randperm(size - 1, generator=generator)[:count] + 1])
    return (torch.arange(size)[:, None] + shifts) % size


def summary_contrast(
    graph: Topology,
    texts: Tensor,
    answers: Tensor,
    candidates: Tensor,
    content: Tensor,
    text_summary: GraphSummary,
    image_summary: GraphSummary,
    scale: Tensor,
) -> StageLoss:
    """The loss of the module's docstring.

    Args:
        texts: (N', d) node texts
        answers: (U, B, d)
        candidates: (B, 1 + K) images
        content: (B,) keys, equal for reports that say the same
    """
    reports, width = candidates.shape
    z_text = text_summary(texts, graph.source, graph.target, graph.kind, graph.report, reports)  # (B, d)

    # One graph for each (report, candidate): graph a · (1 + K) + j, its nodes together.
    images = candidates[graph.report]  # (N', 1 + K)
    cells = answers.flatten(0, 1)  # (U · B, d)
    first, second = (query[:, None] * answers.shape[1] + images for query in (graph.first, graph.second))
    seen = (take(cells, first) + take(cells, second)) / 2  # (N', 1 + K, d)
    offset = torch.arange(width, device=seen.device) * len(graph.node)

    def copies(positions: Tensor) -> Tensor:
        return (offset[:, None] + positions).flatten()

    z_image = image_summary(
        seen.transpose(0, 1).flatten(0, 1),  # (width · N', d), candidate by candidate
        copies(graph.source),
        copies(graph.target),
        graph.kind.repeat(width),
        (torch.arange(width, device=seen.device)[:, None] * reports + graph.report).flatten(),
        reports * width,
    ).view(width, reports, -1)  # (1 + K, B, d)
    z_text, z_image = functional.normalize(z_text.float(), dim=-1), functional.normalize(z_image.float(), dim=-1)
    with full_precision(z_text):
        similarity = torch.einsum("ad,jad->aj", z_text, z_image) * scale  # (B, 1 + K)

    has_nodes = torch.bincount(graph.report, minlength=reports) > 0
    same = (content[:, None] == content[candidates]) & has_nodes[:, None]
    loss, counts = divergence(similarity, same, torch.ones_like(similarity), dim=1)
    return StageLoss(loss.sum() / counts.sum().clamp(min=1), whole_accuracy(similarity.detach(), same, shift=1))
