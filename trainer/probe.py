"""Linear probe: how much a frozen encoder's features say of some labels, by the number of labels.

Features are standardised on the training rows; every class is an L2-regularised logistic regression; the strength of the
regularisation is the one of `STRENGTHS` with the best macro AUROC on the validation split, the same for all classes. A
fraction takes that share of the training *subjects*, in an order drawn with the seed, so that small fractions lie in large ones.

A class that the fraction has no positive or no negative of has learnt nothing: it counts as 0.5 in the mean, and is counted
beside it. A class that the test split has no positive or no negative of cannot be judged: it is left out and named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.errors import UserError
from trainer.labels import Labels, subjects_in_order
from trainer.scores import aurocs, mean_of_known

_CURVATURE = 0.1  # of the logistic loss, which is p (1 − p), for labels that are neither rare nor common

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4)

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ProbeRun:
    """One fraction with one seed: `per_class` AUROC on the test split, NaN for a class that cannot be judged.

    `scores` (test images, classes) are the logits behind it, 0 for a class that nothing could be learnt of.
    """

    fraction: float
    seed: int
    subjects: int
    images: int
    strength: float
    per_class: npt.NDArray[np.float64]
    unlearnt: tuple[str, ...]
    scores: npt.NDArray[np.float64]

    @property
    def macro(self) -> float:
        return mean_of_known(self.per_class)


@dataclass(frozen=True)
class ProbeResult:
    classes: tuple[str, ...]
    runs: tuple[ProbeRun, ...]

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Classes that the test split cannot judge."""
        missing = np.isnan(self.runs[0].per_class)
        return tuple(name for name, left_out in zip(self.classes, missing, strict=True) if left_out)

    def of_fraction(self, fraction: float) -> list[ProbeRun]:
        return [run for run in self.runs if run.fraction == fraction]

    def to_json(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "unjudged": list(self.unjudged),
            "rule": "a class without a positive or a negative in the fraction counts 0.5; in the test split: left out",
            "fractions": [
                {
                    "fraction": fraction,
                    "macro_auroc": mean_and_deviation([run.macro for run in self.of_fraction(fraction)])[0],
                    "deviation": mean_and_deviation([run.macro for run in self.of_fraction(fraction)])[1],
                    "runs": [
                        {
                            "seed": run.seed,
                            "subjects": run.subjects,
                            "images": run.images,
                            "strength": run.strength,
                            "macro_auroc": run.macro,
                            "unlearnt": list(run.unlearnt),
                            "auroc": {
                                name: None if math.isnan(value) else float(value)
                                for name, value in zip(self.classes, run.per_class, strict=True)
                            },
                        }
                        for run in self.of_fraction(fraction)
                    ],
                }
                for fraction in dict.fromkeys(run.fraction for run in self.runs)
            ],
        }

    def table(self) -> str:
        """The figures in per cent, a column per fraction: the mean and the deviation over seeds."""
        fractions = list(dict.fromkeys(run.fraction for run in self.runs))
        lines = [["class", *(f"{fraction:.4g}" for fraction in fractions)]]
        runs = [self.of_fraction(fraction) for fraction in fractions]
        lines.append(["subjects", *(_span([run.subjects for run in group]) for group in runs)])
        lines.append(["images", *(_span([run.images for run in group]) for group in runs)])
        lines.append(["macro AUROC", *(percent([run.macro for run in group]) for group in runs)])
        lines.append(["classes counted as 0.5", *(_span([len(run.unlearnt) for run in group]) for group in runs)])
        for column, name in enumerate(self.classes):
            lines.append([name, *(percent([float(run.per_class[column]) for run in group]) for group in runs)])
        return align(lines)


def probe(
    features: Features, labels: Labels, fractions: Sequence[float] = (0.01, 0.1, 1.0), seeds: Sequence[int] = (0, 1, 2)
) -> ProbeResult:
    """Probe the features of the labels' images.

    Args:
        features: (images, d), row i of the labels' image i.
        fractions: shares of the training subjects, each above 0 and at most 1.
    Raises:
        UserError: a split is empty, or a fraction is out of range.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise UserError(f"--fraction {fraction}: expected shares above 0 and at most 1, such as 0.01,0.1,1.")
    train, validation, test = (labels.rows(split) for split in ("train", "val", "test"))
    for split, rows in (("train", train), ("val", validation), ("test", test)):
        if not len(rows):
            raise UserError(f"{labels.path} has no image of the split {split}; the probe needs train, val and test.")
    runs: list[ProbeRun] = []
    for fraction in fractions:
        for seed in seeds:
            rows = training_rows(labels, fraction, seed)
            same = [run for run in runs if run.fraction == fraction and run.images == len(train)]
            if same:  # all subjects are the same subjects whatever the seed, and nothing else is drawn
                runs.append(replace(same[0], seed=seed))
            else:
                runs.append(_probe_once(features, labels, rows, validation, test, fraction, seed))
    return ProbeResult(labels.classes, tuple(runs))


def training_rows(labels: Labels, fraction: float, seed: int) -> npt.NDArray[np.int64]:
    """The rows of a share of the training subjects, in an order drawn with the seed."""
    train, subjects = labels.rows("train"), np.asarray(labels.subjects)
    order = subjects_in_order(subjects[train].tolist(), seed)
    chosen = order[: max(1, math.ceil(fraction * len(order) - 1e-9))]
    return train[np.isin(subjects[train], chosen)]


def _probe_once(
    features: Features,
    labels: Labels,
    train: npt.NDArray[np.int64],
    validation: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    fraction: float,
    seed: int,
) -> ProbeRun:
    known = labels.values[train]
    learnt = ((known == 1).any(axis=0)) & ((known == 0).any(axis=0))
    mean, scale = standardisation(features[train])
    standard = [((features[rows] - mean) / scale).astype(np.float64) for rows in (train, validation, test)]
    best, chosen, scores = -1.0, STRENGTHS[0], np.zeros((len(test), len(labels.classes)))
    if learnt.any():
        for strength, weights in fit_logistic(standard[0], known, STRENGTHS):
            of_validation, of_test = (part @ weights[:-1] + weights[-1] for part in standard[1:])
            figure = mean_of_known(np.where(learnt, aurocs(of_validation, labels.values[validation]), np.nan))
            if (0.5 if math.isnan(figure) else figure) > best:
                best, chosen = figure, strength
                scores = np.where(learnt, of_test, 0.0)  # ties are an AUROC of 0.5
    per_class = aurocs(scores, labels.values[test])
    unlearnt = tuple(name for name, known_class in zip(labels.classes, learnt, strict=True) if not known_class)
    subjects = len({labels.subjects[row] for row in train})
    return ProbeRun(fraction, seed, subjects, len(train), chosen, per_class, unlearnt, scores)


def standardisation(features: Features) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and deviation (d,) of each feature; the deviation of a constant feature is 1."""
    wide = features.astype(np.float64)
    mean, deviation = wide.mean(axis=0), wide.std(axis=0)
    return mean, np.where(deviation > 1e-6 * (1e-6 + np.abs(mean)), deviation, 1.0)


def fit_logistic(
    features: npt.NDArray[np.float64], labels: npt.NDArray[np.float32], strengths: Sequence[float]
) -> list[tuple[float, npt.NDArray[np.float64]]]:
    r"""Logistic regressions of all classes, for each strength λ: per class, over the rows where its label is known,

        \min_{w, b} \tfrac1n \sum_i \log(1 + e^{-y_i (w·x_i + b)}) + \tfrac{λ}{2} |w|^2

    Args:
        features: (n, d).
        labels: (n, classes), 1, 0 or NaN.
        strengths: from strong to weak; each starts where the one before ended.
    Returns:
        λ and (d + 1, classes) weights, the last row the intercept.
    """
    x = torch.from_numpy(np.ascontiguousarray(features))
    y = torch.from_numpy(np.nan_to_num(labels.astype(np.float64)))
    known = torch.from_numpy(~np.isnan(labels)).double()
    share = known / known.sum(dim=0).clamp(min=1)  # (n, classes)
    # In the axes of the features' covariance, each scaled by about the root of the loss's curvature along it, the loss is
    # nearly round, and a few steps find its minimum however correlated the features are.
    axes, variance = _axes(x)
    along = x @ axes  # (n, r)
    weights = torch.zeros(axes.shape[1], y.shape[1], dtype=torch.float64)
    intercept = torch.zeros(y.shape[1], dtype=torch.float64)
    found = []
    for strength in strengths:
        scale = (_CURVATURE * variance + strength).rsqrt()[:, None]  # (r, 1)
        scaled = along * scale.T
        u = (weights / scale).requires_grad_()
        intercept = intercept.detach().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [u, intercept],
            max_iter=300,
            history_size=20,
            tolerance_grad=1e-7,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()  # noqa: B023 -- called before the next round
            logits = scaled @ u + intercept  # noqa: B023 -- (n, classes)
            each = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, weight=share, reduction="sum")
            total = each + 0.5 * strength * (u * scale).square().sum()  # noqa: B023
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]
        weights = u.detach() * scale
        found.append((strength, torch.cat([axes @ weights, intercept.detach()[None]]).numpy()))
    return found


def _axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal axes (d, r) that span the rows of x (n, d), and the mean square of x along each (r,)."""
    if len(x) < x.shape[1]:
        _, singular, axes = torch.linalg.svd(x, full_matrices=False)
        return axes.T, singular.square() / len(x)
    variance, axes = torch.linalg.eigh(x.T @ x / len(x))
    return axes, variance.clamp(min=0.0)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample deviation; a single value deviates by 0."""
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def percent(values: Sequence[float]) -> str:
    """`86.6 ± 0.3`, or `–` where a value is missing."""
    if not len(values) or any(math.isnan(value) for value in values):
        return "–"
    mean, deviation = mean_and_deviation(values)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}" if len(values) > 1 else f"{100 * mean:.1f}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, the first column to the left, the others to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        ).rstrip()
        for line in lines
    )
