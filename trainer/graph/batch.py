"""A batch of image-report pairs with their graphs packed flat: no padding to the largest graph.

B  pairs                      N  stated nodes of all reports         E  stated edges of all reports
T  tokens of a text           M  spans of all nodes                  U  distinct queries of the batch
                                                                     P  distinct pair queries (finding, anatomy)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor


class State(IntEnum):
    """What a report says of a query. For an anatomy, PRESENT is abnormal and ABSENT is normal."""

    UNKNOWN = 0
    PRESENT = 1
    UNCERTAIN = 2
    ABSENT = 3


class QuerySide(IntEnum):
    NONE = 0
    LEFT = 1
    RIGHT = 2
    BILATERAL = 3  # of nodes; a query is never bilateral: it is asked of the left and of the right


class EdgeKind(IntEnum):
    LOCATED_AT = 0
    SUGGESTIVE_OF = 1
    PART_OF = 2


@dataclass
class GraphBatch:
    """B pairs. Concepts are rows of one table: anatomies first, then pathologies, both in vocabulary order.

    Nodes and edges are those that a report states (edges and nodes of `origin = vocabulary` are not here), in report order.
    """

    report_ids: list[str]  # B
    images: Tensor  # (B, C, H, W), uint8
    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T), 1 for a token

    node_report: Tensor  # (N,) which pair
    node_concept: Tensor  # (N,) row of the concept table
    node_side: Tensor  # (N,) QuerySide
    node_state: Tensor  # (N,) State, never UNKNOWN
    node_is_pathology: Tensor  # (N,) bool
    node_content: Tensor  # (N,) equal for nodes that say the same (concept, side, assertion, attributes, words)
    span_node: Tensor  # (M,) which node
    span_start: Tensor  # (M,) first token
    span_end: Tensor  # (M,) one past the last token
    edge_source: Tensor  # (E,) node
    edge_target: Tensor  # (E,) node
    edge_kind: Tensor  # (E,) EdgeKind

    report_content: Tensor  # (B,) equal for reports with the same text

    @property
    def size(self) -> int:
        return len(self.report_ids)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> GraphBatch:
        moved: dict[str, Any] = {
            field.name: value.to(device, non_blocking=non_blocking)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> GraphBatch:
        pinned: dict[str, Any] = {
            field.name: value.pin_memory()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **pinned)
