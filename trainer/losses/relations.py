"""The relation stage: what an image shows of a finding at a place, compared with what texts say of it.

    e[p, b] = W_2 relu(W_s v[s, b] + W_t v[t, b] + W_j v[s ∧ t, b] + r)     for the pair p = (s, t) of relation r
    t_e     = W_4 relu(W_5 t_source + W_6 t_target + r')

`v[s ∧ t]` is the answer to both queries together: its attention is the normalised product of theirs (the sum of their logits), so
that it looks where the finding's map and the place's map meet. Pairs are asked of all images, like queries.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.graph.batch import EdgeKind
from trainer.graph.items import PairItems
from trainer.graph.states import Queries
from trainer.model.queries import Answers, Attend
from trainer.model.take import take


class RelationHead(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seen = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in ("source", "target", "joint")})
        self.seen_relation = nn.Embedding(len(EdgeKind), dim)
        self.seen_out = nn.Linear(dim, dim)
        self.said = nn.ModuleDict({name: nn.Linear(dim, dim, bias=False) for name in ("source", "target")})
        self.said_relation = nn.Embedding(len(EdgeKind), dim)
        self.said_nowhere = nn.Parameter(torch.zeros(dim))  # in place of the target's text, where a finding is denied
        self.said_out = nn.Linear(dim, dim)

    def images(self, answers: Answers, attend: Attend, values: Tensor, queries: Queries) -> Tensor:
        """e (P, B, d) of answers to U queries in B images whose attended values are `values` (B, L, heads, d_h)."""
        source, target = queries.pairs.unbind(1)
        joint = attend.read(take(answers.logits, source) + take(answers.logits, target), values).values  # (P, B, d)
        hidden = take(self.seen["source"](answers.values), source) + take(self.seen["target"](answers.values), target)
        hidden = hidden + self.seen["joint"](joint) + self.seen_relation(queries.pair_kind)[:, None]
        seen: Tensor = self.seen_out(hidden.relu())
        return seen

    def texts(self, items: PairItems, nodes: Tensor, queries: Queries) -> Tensor:
        """t_e (I, d) of items; `nodes` (N, d) are node texts with their assertion."""
        to_nowhere = (items.target < 0)[:, None]
        target = torch.where(to_nowhere, self.said_nowhere.to(nodes.dtype), take(nodes, items.target.clamp(min=0)))
        hidden = self.said["source"](take(nodes, items.node)) + self.said["target"](target)
        said: Tensor = self.said_out((hidden + self.said_relation(queries.pair_kind[items.query])).relu())
        return said
