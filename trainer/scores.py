"""Area under the ROC curve and retrieval, as NumPy functions of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """The probability that a positive scores above a negative, ties counted half; NaN without one of either.

    Args:
        scores: (n,), no NaN.
        positive: (n,), bool.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    if np.isnan(scores).any():
        raise ValueError("A score is not a number.")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2.0  # ranks from 1; equals share their mean
    rank_sum = float(mean_rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def aurocs(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Array:
    """`auroc` of each column.

    Args:
        scores: (n, classes).
        labels: (n, classes), 1, 0 or NaN where it is not known.
    Returns:
        (classes,), NaN where a class lacks positives or negatives.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    found = []
    for column in range(labels.shape[1]):
        known = ~np.isnan(labels[:, column])
        found.append(auroc(scores[known, column], labels[known, column] > 0.5))
    return np.asarray(found, np.float64)


def mean_of_known(values: npt.ArrayLike) -> float:
    """The mean of what is not NaN; NaN if all is."""
    values = np.asarray(values, np.float64)
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def recall_at(
    similarity: npt.ArrayLike, contents: npt.ArrayLike, ranks: Sequence[int] = (1, 5, 10)
) -> dict[int, float]:
    """The share of rows whose own column, or one with equal content, is among the first `ranks` columns.

    Args:
        similarity: (n, n), row and column i are a pair. Of equal similarities the wrong ones count as first.
        contents: (n,), equal where two pairs say the same.
    """
    similarity, contents = np.asarray(similarity, np.float64), np.asarray(contents)
    equal = contents[:, None] == contents[None, :]
    best = np.where(equal, similarity, -np.inf).max(axis=1)
    ahead = ((similarity >= best[:, None]) & ~equal).sum(axis=1)
    return {rank: float((ahead < rank).mean()) for rank in ranks}
