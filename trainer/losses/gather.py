"""Tensors of all ranks on every rank, with gradient: every rank then computes the loss of the joined batch.

With `gather` the gradient of the joined loss comes back summed over ranks, and data-parallel training averages it again: the
gradient of one process with the joined batch. In one process everything here returns what it was given.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from trainer.graph.batch import GraphBatch


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Tensor, dim: int = 0) -> Tensor:
    """The tensors of all ranks, in their order, joined along `dim`, where their sizes may differ."""
    if world_size() == 1:
        return x
    joined: Tensor = _Gather.apply(x.movedim(dim, 0))
    return joined.movedim(0, dim)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        sizes = sizes_of_ranks(len(x), x.device)
        ctx.start = sum(sizes[: dist.get_rank()])
        ctx.size = len(x)
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded.contiguous())
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.size]


def sizes_of_ranks(size: int, device: torch.device) -> list[int]:
    sizes = torch.zeros(world_size(), dtype=torch.long, device=device)
    sizes[dist.get_rank()] = size
    dist.all_reduce(sizes)
    found: list[int] = sizes.tolist()
    return found


def gather_batch(batch: GraphBatch) -> GraphBatch:
    """The graphs of all ranks as one batch, without images, tokens and spans' texts: pairs, nodes and edges in rank order."""
    if world_size() == 1:
        return batch
    device = batch.node_report.device
    reports = sizes_of_ranks(batch.size, device)
    nodes = sizes_of_ranks(len(batch.node_report), device)
    rank = dist.get_rank()
    report_offset, node_offset = sum(reports[:rank]), sum(nodes[:rank])
    node = gather(
        torch.stack(
            [
                batch.node_report + report_offset,
                batch.node_concept,
                batch.node_side,
                batch.node_state,
                batch.node_is_pathology.long(),
                batch.node_content,
            ],
            1,
        )
    )
    span = gather(torch.stack([batch.span_node + node_offset, batch.span_start, batch.span_end], 1))
    edge = gather(torch.stack([batch.edge_source + node_offset, batch.edge_target + node_offset, batch.edge_kind], 1))
    return replace(
        batch,
        report_ids=[""] * sum(reports),
        images=batch.images[:0],
        input_ids=batch.input_ids[:0],
        attention_mask=batch.attention_mask[:0],
        node_report=node[:, 0],
        node_concept=node[:, 1],
        node_side=node[:, 2],
        node_state=node[:, 3],
        node_is_pathology=node[:, 4].bool(),
        node_content=node[:, 5],
        span_node=span[:, 0],
        span_start=span[:, 1],
        span_end=span[:, 2],
        edge_source=edge[:, 0],
        edge_target=edge[:, 1],
        edge_kind=edge[:, 2],
        report_content=gather(batch.report_content),
    )
