"""Message passing over report graphs and the readout of a graph, one network for each modality.

    h_i ← h_i + MLP(h_i + Σ_{j → i} relu(h_j + r_{ji})),   z = Σ_i softmax_i(g(h_i)) h_i

with r the embedding of the relation, one for each direction (Hu et al., GINE, with residual; attentional aggregation).
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

with warnings.catch_warnings():  # it compiles functions in a way that newer torch versions warn of
    warnings.simplefilter("ignore")
    from torch_geometric.nn import GINEConv  # type: ignore[import-untyped]
    from torch_geometric.nn.aggr import AttentionalAggregation  # type: ignore[import-untyped]

from trainer.graph.batch import EdgeKind


class GraphSummary(nn.Module):
    """Node features and edges of packed graphs → one vector for each graph."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.relation = nn.Embedding(2 * len(EdgeKind), dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.layers = nn.ModuleList(
            GINEConv(nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))) for _ in range(layers)
        )
        self.readout = AttentionalAggregation(nn.Linear(dim, 1))

    def forward(
        self, nodes: Tensor, source: Tensor, target: Tensor, kind: Tensor, graph: Tensor, graphs: int
    ) -> Tensor:
        """Summaries of packed graphs; zero for a graph without nodes.

        Args:
            nodes: (N, d)
            source, target, kind: (E,) edges, which are read in both directions
            graph: (N,) the graph of each node, ascending
            graphs: their number G
        Returns:
            (G, d)
        """
        edges = torch.stack([torch.cat([source, target]), torch.cat([target, source])])  # (2, 2E)
        relation = self.relation(torch.cat([kind, kind + len(EdgeKind)])).to(nodes.dtype)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            nodes = nodes + layer(norm(nodes), edges, relation)
        summary: Tensor = self.readout(nodes, graph, dim_size=graphs)
        return summary
