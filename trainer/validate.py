"""Validation while training: losses, retrieval, what the images' answers say of the reports, and what labels say of both.

All figures but the losses are of the whole validation sample, so they do not depend on the batch size of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.bank import ConceptBank
from trainer.config import Config
from trainer.data.cache import ImageStore, image_store
from trainer.data.graphs import Split
from trainer.features import image_batches, pooled_features, rows_of_labels
from trainer.findings import Finding, find_finding, names_of, questions
from trainer.graph.batch import GraphBatch, State
from trainer.graph.concepts import SIDES_OF_A_QUERY
from trainer.graph.states import close_states
from trainer.labels import Labels, read_labels
from trainer.losses.gather import world_size
from trainer.model.model import Model
from trainer.objectives import Cascade, Clip, Context, Objective, ReportGraph, Scene, Step
from trainer.probe import probe
from trainer.readout import answers_questions, fill_bank, scores
from trainer.scores import aurocs, mean_of_known, recall_at
from trainer.training_data import TrainingData, decoders

LEAST_OF_EACH = 5  # present and absent reports that a concept needs to be judged
BANK_REPORTS = 2000  # training reports whose statements make the bank of a validation


class Validator:
    """Validates a model on a fixed sample of the validation split, and on labels where there are any.

    Every process of a training calls it: what has to see all pairs of a batch at once shares the work out, the rest is done by
    each, and all come to the same figures.

    Raises:
        UserError: the labels cannot be read, or an image of theirs cannot be used.
    """

    def __init__(self, config: Config, data: TrainingData, device: torch.device, cache: Path) -> None:
        self._config, self._data, self._device = config, data, device
        self._rows = data.validation_rows
        self._bank_rows = evenly(data.pairs.rows(Split.TRAIN), BANK_REPORTS)
        self._states = (
            _States(self._batches(images=False), data) if config.validation.states and len(self._rows) else None
        )
        self.per_concept: dict[str, dict[str, float]] = {}
        """Accuracy and AUROC of the last validation, by concept."""
        self._labels: Labels | None = None
        if config.run.labels is not None:
            self._labels = read_labels(config.run.labels)
            root = config.run.label_images or config.run.labels.parent
            names = list(self._labels.images)
            self._store: ImageStore = image_store(
                root, names, cache, config.data.image_size, config.data.fit, decoders(config, len(names))
            )
            self._label_rows = rows_of_labels(self._store, self._labels)
            known = names_of(data.table)
            found = [find_finding(name, data.table, known) for name in self._labels.classes]
            self._findings = [(column, finding) for column, finding in enumerate(found) if finding is not None]

    @property
    def warning(self) -> str | None:
        """A sentence, where images that labels judge by are images that the run trains on."""
        if self._labels is None:
            return None
        pairs, labels = self._data.pairs, self._labels
        rows = pairs.rows(Split.TRAIN)
        trained = set(zip(pairs.pack.subject_ids(rows), pairs.paths(rows), strict=True))
        judging = np.concatenate([labels.rows("val"), labels.rows("test")]).tolist()
        seen = sum((labels.subjects[row], labels.images[row]) in trained for row in judging)
        if not seen:
            return None
        return (
            f"{seen:,} of {len(judging):,} val and test images of {labels.path} are training images of the graphs, so that "
            "figures on them are too good. Give graphs and labels the same split."
        )

    def validate(self, model: Model, objective: Objective, context: Context, *, probed: bool) -> dict[str, float]:
        """The figures by their columns in metrics.csv; the modules must be in evaluation mode."""
        figures: dict[str, float] = {}
        with torch.no_grad():
            if len(self._rows):
                figures |= self._losses(model, objective, context)
                if self._config.validation.retrieval:
                    figures |= self._retrieval(model, objective)
            asked_states = self._states is not None and len(self._states.keys) > 0
            if asked_states or (self._labels is not None and self._findings):
                final = self._bank(model, objective)
                if asked_states:
                    figures |= self._state_figures(model, objective, final)
                if self._labels is not None and self._findings:
                    figures |= self._label_figures(model, objective, final, self._labels)
            if probed and self._labels is not None:
                figures |= self._probe_figures(model, self._labels)
        return figures

    def _batches(self, images: bool = True) -> Iterator[GraphBatch]:
        size = self._config.validation.batch_size or self._config.run.batch_size
        return report_batches(self._data, self._rows, size, images=images)

    def _shares(self) -> Iterator[GraphBatch]:
        """This process's share of each batch; a last batch with less than a pair for each process is left out."""
        rank = torch.distributed.get_rank() if world_size() > 1 else 0
        size = self._config.validation.batch_size or self._config.run.batch_size
        for start in range(0, len(self._rows), size):
            shares = np.array_split(self._rows[start : start + size], world_size())
            if len(shares[-1]):
                yield next(report_batches(self._data, shares[rank], size))

    def _images(self, batch: GraphBatch) -> Tensor:
        from trainer.data.augment import normalise

        images = normalise(batch.images, self._config.data.mean, self._config.data.std)
        return torch.zeros_like(images) if self._config.run.constant_images else images

    def _losses(self, model: Model, objective: Objective, context: Context) -> dict[str, float]:
        """Loss and accuracies of the objective, as in training, but with nothing augmented and nothing dropped."""
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}
        for batch in self._shares():
            batch = batch.to(self._device)
            step: Step = objective(model, batch, self._images(batch), context)
            figures = {"loss": step.loss} | {f"loss/{name}": value for name, value in step.parts.items()}
            for stage, accuracy in step.accuracies.items():
                figures |= {f"accuracy/{stage}": accuracy.real, f"accuracy_blind/{stage}": accuracy.blind}
                figures[f"prior/{stage}"] = accuracy.prior
            for name, value in figures.items():
                if bool(value.isfinite()):
                    sums[name] = sums.get(name, 0.0) + float(value) * batch.size
                    counts[name] = counts.get(name, 0) + batch.size
        return {f"validation/{name}": total / counts[name] for name, total in sums.items()}

    def _retrieval(self, model: Model, objective: Objective) -> dict[str, float]:
        """Reports by images and images by reports, where the objective trains vectors of both."""
        graph = next((term for term in objective.terms if isinstance(term, ReportGraph)), None)
        whole = any(isinstance(t, Clip) or (isinstance(t, Cascade) and "whole" in t.weights) for t in objective.terms)
        if graph is None and not whole:
            return {}
        images, reports, contents = [], [], []
        for batch in self._shares():
            batch = batch.to(self._device)
            scene = Scene(model, batch, self._images(batch), objective.config, Context())
            images.append(scene.image_vectors.float().cpu())
            text = scene.report_vectors if whole or graph is None else graph.vectors(model, scene.nodes, scene.batch)
            reports.append(text.float().cpu())
            contents.append(scene.batch.report_content.cpu())
        similarity = (torch.cat(images) @ torch.cat(reports).T).numpy()
        content = torch.cat(contents).numpy()
        return {
            f"validation/retrieval/{name}_r{rank}": value
            for name, table in (("report", similarity), ("image", similarity.T))
            for rank, value in recall_at(table, content).items()
        }

    def _bank(self, model: Model, objective: Objective) -> ConceptBank:
        """The bank as it would be if training ended here, from a sample of the training reports."""
        bank = ConceptBank(self._data.table, model.config.dim).to(self._device)
        rows = own_share(self._bank_rows)
        batches = (batch.to(self._device) for batch in report_batches(self._data, rows, images=False))
        fill_bank(bank, model, objective, batches, self._data.tokenizer)
        return bank

    def _state_figures(self, model: Model, objective: Objective, bank: ConceptBank) -> dict[str, float]:
        """Present against absent, by what reports say, a figure per concept: accuracy at 0 (balanced), and AUROC."""
        states = self._states
        if states is None or not len(states.keys):
            return {}
        concept, side = (each.to(self._device) for each in states.queries)
        found = []
        for batch in self._batches():
            features = model.encode_images(self._images(batch.to(self._device)))
            found.append(scores(model, objective, bank, features, concept, side).T.float().cpu().numpy())
        table = np.concatenate(found)  # (n, K)
        labels = states.labels  # (n, K): 1, 0, NaN
        present = np.nanmean(np.where(labels == 1, table > 0, np.nan), axis=0)
        absent = np.nanmean(np.where(labels == 0, table <= 0, np.nan), axis=0)
        per_concept = aurocs(table, labels)
        self.per_concept = {
            name: {"accuracy": float(accuracy), "auroc": float(area)}
            for name, accuracy, area in zip(states.names, (present + absent) / 2, per_concept, strict=True)
        }
        return {
            "validation/state_accuracy": float(((present + absent) / 2).mean()),
            "validation/state_auroc": mean_of_known(per_concept),
        }

    def _label_figures(self, model: Model, objective: Objective, bank: ConceptBank, labels: Labels) -> dict[str, float]:
        """Zero-shot AUROC on the validation images of labels.csv, over the classes that a concept has the name of."""
        rows = labels.rows("val")
        batches = (images for _, images in self._label_batches(rows))
        places = answers_questions(objective)
        asked = [(column, finding) for column, finding in self._findings if places or finding.place < 0]
        if not asked:
            return {}
        found = zero_shot_scores(model, objective, bank, batches, [finding for _, finding in asked], self._device)
        columns = [column for column, _ in asked]
        return {"validation/zero_shot_auroc": mean_of_known(aurocs(found, labels.values[rows][:, columns]))}

    def _label_batches(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[slice, Tensor]]:
        config = self._config
        return image_batches(self._store, self._label_rows[rows], config.data, self._device, config.run.batch_size)

    def _probe_figures(self, model: Model, labels: Labels) -> dict[str, float]:
        """Linear probe with all training labels, judged on the validation images; the test images are not looked at."""
        training, validation = labels.rows("train"), labels.rows("val")
        if not len(training) or not len(validation):
            return {}
        seen = np.concatenate([training, validation])
        features = pooled_features(
            model, self._store, self._label_rows[seen], self._config.data, self._device, self._config.run.batch_size
        )
        features = np.concatenate([features, features[len(training) :]])
        kept = np.concatenate([seen, validation])
        splits = ["train"] * len(training) + ["val"] * len(validation) + ["test"] * len(validation)
        sample = Labels(
            labels.path,
            tuple(labels.images[row] for row in kept),
            tuple(labels.subjects[row] for row in kept),
            tuple(splits),
            labels.classes,
            labels.values[kept],
        )
        return {"validation/probe_auroc": probe(features, sample, (1.0,), (0,)).runs[0].macro}


class _States:
    """What the validation reports say of each finding of which enough say yes and enough say no."""

    def __init__(self, batches: Iterator[GraphBatch], data: TrainingData) -> None:
        table = data.table
        keys_in_all = len(table) * SIDES_OF_A_QUERY
        found = []
        for batch in batches:
            queries = close_states(batch, table, closure=data.config.objective.closure)
            states = torch.zeros(keys_in_all, batch.size, dtype=torch.int8)
            states[queries.concept * SIDES_OF_A_QUERY + queries.side] = queries.states
            found.append(states)
        all_states = torch.cat(found, dim=1)  # (C * 3, n)
        enough = ((all_states == State.PRESENT).sum(1) >= LEAST_OF_EACH) & (
            (all_states == State.ABSENT).sum(1) >= LEAST_OF_EACH
        )
        enough[: table.anatomy_count * SIDES_OF_A_QUERY] = False
        self.keys = torch.nonzero(enough).flatten()
        self.queries = (self.keys // SIDES_OF_A_QUERY, self.keys % SIDES_OF_A_QUERY)
        chosen = all_states[self.keys].T.numpy()
        self.labels: npt.NDArray[np.float64] = np.full(chosen.shape, np.nan)
        self.labels[chosen == State.PRESENT] = 1
        self.labels[chosen == State.ABSENT] = 0
        sides = ("", "/left", "/right")
        self.names = [
            table.concepts[int(key) // SIDES_OF_A_QUERY].id + sides[int(key) % SIDES_OF_A_QUERY] for key in self.keys
        ]


@torch.no_grad()
def zero_shot_scores(
    model: Model,
    objective: Objective,
    bank: ConceptBank,
    batches: Iterable[Tensor],
    findings: list[Finding],
    device: torch.device,
) -> npt.NDArray[np.float32]:
    """Scores of findings in batches of normalised images: (images, findings)."""
    concept, side, place = questions(findings, device)
    found = [np.zeros((0, len(findings)), np.float32)]
    for images in batches:
        features = model.encode_images(images)
        found.append(scores(model, objective, bank, features, concept, side, place).T.float().cpu().numpy())
    return np.concatenate(found)


def own_share(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The part of some rows that this process works on."""
    return rows[torch.distributed.get_rank() :: world_size()] if world_size() > 1 else rows


def report_batches(
    data: TrainingData, rows: npt.NDArray[np.int64], size: int = 64, *, images: bool = True
) -> Iterator[GraphBatch]:
    """Reports by batches, in order, with their images or without any."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield data.pairs.batch(part, data.pairs.images(part if images else part[:0]))


def evenly(rows: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[np.int64]:
    """At most so many rows, evenly spaced."""
    return rows if len(rows) <= wanted else rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]
