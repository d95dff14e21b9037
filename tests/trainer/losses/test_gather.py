"""Two ranks compute the loss and the gradients of one process with the joined batch."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import hand_batches as hand
import torch
from tiny_model import tiny_model
from torch import distributed as dist
from torch import multiprocessing, nn

from trainer.graph.batch import GraphBatch
from trainer.losses.gather import gather, gather_batch
from trainer.model.config import ObjectiveConfig
from trainer.objectives import Context, make_objective

REPORTS = hand.random_reports(7, seed=4)
SHARES = (3, 4)  # ranks need not have the same number of pairs
NAME = "cga+0.5*clip+0.3*local+0.2*graph+0.7*state"


class Training(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = tiny_model()
        self.objective = make_objective(ObjectiveConfig(name=NAME, items_per_state=2, bank=False), self.model)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        loss: torch.Tensor = self.objective(self.model, batch, batch.images.float() / 255, Context(step=3)).loss
        return loss


def share(rank: int) -> GraphBatch:
    """The pairs of one rank, cut out of the joined batch."""
    batch = hand.pack(REPORTS)
    first, last = sum(SHARES[:rank]), sum(SHARES[: rank + 1])
    nodes = (batch.node_report >= first) & (batch.node_report < last)
    spans, edges = nodes[batch.span_node], nodes[batch.edge_source]
    offset = int((batch.node_report < first).sum())
    return replace(
        batch,
        report_ids=batch.report_ids[first:last],
        images=batch.images[first:last],
        input_ids=batch.input_ids[first:last],
        attention_mask=batch.attention_mask[first:last],
        node_report=batch.node_report[nodes] - first,
        node_concept=batch.node_concept[nodes],
        node_side=batch.node_side[nodes],
        node_state=batch.node_state[nodes],
        node_is_pathology=batch.node_is_pathology[nodes],
        node_content=batch.node_content[nodes],
        span_node=batch.span_node[spans] - offset,
        span_start=batch.span_start[spans],
        span_end=batch.span_end[spans],
        edge_source=batch.edge_source[edges] - offset,
        edge_target=batch.edge_target[edges] - offset,
        edge_kind=batch.edge_kind[edges],
        report_content=batch.report_content[first:last],
    )


def run_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    batch = share(rank)
    joined, whole = gather_batch(batch), hand.pack(REPORTS)
    for name in (
        "node_report",
        "node_concept",
        "node_content",
        "span_node",
        "edge_source",
        "edge_kind",
        "report_content",
    ):
        assert torch.equal(getattr(joined, name), getattr(whole, name)), name
    x = torch.full((2, SHARES[rank]), float(rank), requires_grad=True)
    y = gather(x, dim=1)
    (y * torch.arange(7.0)).sum().backward()
    assert y.shape == (2, 7)
    assert x.grad is not None

    training = nn.parallel.DistributedDataParallel(Training())
    loss = training(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in training.module.named_parameters() if p.requires_grad}
    torch.save({"loss": loss.detach(), "gradients": gradients, "gathered": x.grad}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_are_one_process_with_the_joined_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run_rank, (port, tmp_path), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]

    training = Training()
    loss = training(hand.pack(REPORTS))
    loss.backward()
    expected = {name: p.grad for name, p in training.named_parameters() if p.requires_grad}
    assert any(gradient.abs().sum() > 0 for gradient in expected.values() if gradient is not None)
    for rank in ranks:
        torch.testing.assert_close(rank["loss"], loss.detach())
        for name, gradient in expected.items():
            found = rank["gradients"][name]
            assert found is not None, f"{name} had no gradient"
            torch.testing.assert_close(found, torch.zeros_like(found) if gradient is None else gradient, msg=name)
    # Both ranks use all of the gathered tensor: the gradient that comes back is the sum over ranks.
    torch.testing.assert_close(ranks[1]["gathered"], 2 * torch.arange(3.0, 7.0).expand(2, -1))


def test_one_process_gathers_nothing() -> None:
    batch = hand.pack(REPORTS)
    x = torch.ones(3)
    assert gather_batch(batch) is batch
    assert gather(x) is x
