"""Rows of a tensor by index, with a gradient that repeats to the bit."""

from __future__ import annotations

from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """x[index] along the first dimension: (R, …), (any shape) → (that shape, …).

    The gradient of x[index] is added up by several threads in whatever order they come; that of `index_select` on a CPU in order.
    """
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])
