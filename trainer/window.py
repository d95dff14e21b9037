"""Means of a step's figures over the steps since the last row of the log, kept on the device so that no step waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Window:
    """Sums and counts by name; figures that are no number (a stage without items) do not count."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, figures: Mapping[str, Tensor]) -> None:
        """Add 0-dimensional tensors."""
        for name, value in figures.items():
            value = value.detach().float()
            known = value.isfinite()
            if name not in self._sums:
                self._sums[name], self._counts[name] = torch.zeros_like(value), torch.zeros_like(value)
            self._sums[name] += torch.where(known, value, 0.0)
            self._counts[name] += known

    def means(self) -> dict[str, float]:
        """The means; a figure that never was a number is left out. One transfer from the device."""
        names = sorted(self._sums)
        if not names:
            return {}
        table = torch.stack([torch.stack([self._sums[name], self._counts[name]]) for name in names]).tolist()
        return {name: total / count for name, (total, count) in zip(names, table, strict=True) if count}

    def clear(self) -> None:
        self._sums.clear()
        self._counts.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._counts = {name: value.to(device) for name, value in state["counts"].items()}
