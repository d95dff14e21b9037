#!/usr/bin/env python
"""What each objective's encoder is worth on the phantom: the same encoder, budget, augmentation and tuning for all.

    graphprep phantom -o runs/phantom --n 8000 --size 64 --no-masks
    graphprep extract runs/phantom/reports.csv -o runs/phantom/graphs
    python benchmarks/phantom_objectives.py runs/phantom

For every objective the learning rate is chosen from one small grid with seed 0, by the linear probe on the validation split;
the chosen rate is run with the other seeds. Judged on patients of the test split: linear probe with 1 %, 10 % and all training
patients, the same per finding and place, zero-shot, also for a zone of a lung, pointing game. `random` is the untrained encoder; `supervised` is trained on all
labels of the training images with the same budget, augmentation and grid.

Figures are appended to benchmarks/results/phantom_objectives.jsonl as they come, and what stands there is not run again: the script can
be stopped at any time, and goes on. The table is written beside it. Classes without a positive or a negative in a
fraction count 0.5; at 1 the deviation is that of the training seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from supervised import fit_supervised

from trainer.config import Config, load_config
from trainer.data.cache import image_store
from trainer.embed import compute_features, open_images
from trainer.features import image_batches, rows_of_labels
from trainer.findings import find_finding, findings_of, names_of
from trainer.ground import ground, macro
from trainer.labels import Labels, read_labels
from trainer.pretrain import pretrain
from trainer.probe import probe
from trainer.readout import answers_questions
from trainer.regions import regions_of
from trainer.run_folder import TrainedRun, last_figures, open_run
from trainer.scores import aurocs, mean_of_known
from trainer.settings import updated
from trainer.validate import zero_shot_scores

RESULTS = Path(__file__).resolve().parent / "results"
OBJECTIVES = ("random", "clip", "local", "graph", "state", "state+0.3*clip", "cga", "supervised")
FRACTIONS = (0.01, 0.1, 1.0)
FIGURES = (
    ("probe 0.01", "probe 1 %"),
    ("probe 0.1", "probe 10 %"),
    ("probe 1", "probe 100 %"),
    ("place 0.1", "by place, 10 %"),
    ("place 1", "by place, 100 %"),
    ("zero_shot", "zero-shot"),
    ("zero_shot_place", "zero-shot by zone"),
    ("zone", "which zone"),
    ("pointing", "pointing"),
    ("pointing_blind", "pointing, blind map"),
    ("pointing_gradient", "pointing, gradient"),
    ("pointing_gradient_blind", "the same, blind map"),
)


@dataclass(frozen=True)
class Run:
    """One training: an objective (with keys that differ from the base, for ablations), a learning rate and a seed."""

    objective: str
    rate: float
    seed: int
    steps: int
    images: int
    changes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        parts = [
            self.objective,
            *self.changes,
            f"rate-{self.rate:g}",
            f"seed-{self.seed}",
            f"steps-{self.steps}",
            f"n-{self.images}",
        ]
        return " ".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phantom", type=Path, help="the phantom's folder, with graphs/ in it")
    parser.add_argument("--config", default="phantom-cpu")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), help="names, or NAME:key=value,key=value")
    parser.add_argument("--rates", nargs="+", type=float, default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as there are")
    parser.add_argument("--results", type=Path, default=RESULTS / "phantom_objectives.jsonl")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    bench = Bench(options)
    for seed in options.seeds:
        for name in options.objectives:
            for rate in bench.rates(name, seed):
                bench.run(name, rate, seed)
                bench.write_table()


class Bench:
    """Runs what is not in the results yet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.phantom
        self.labels = read_labels(self.folder / "labels.csv")
        self.by_place = read_labels(self.folder / "labels-by-place.csv")
        self.done: dict[str, dict[str, Any]] = {}
        if options.results.is_file():
            for line in options.results.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                self.done[row["key"]] = row

    def rates(self, name: str, seed: int) -> list[float]:
        """The grid with the first seed; then the rate that the validation split chose."""
        if name == "random":
            return [0.0]
        if seed == self.options.seeds[0]:
            return list(self.options.rates)
        return [self.best(name)[0]]

    def best(self, name: str) -> tuple[float, dict[str, Any]]:
        first = self.options.seeds[0]
        rates = [0.0] if name == "random" else self.options.rates
        rows = {
            rate: self.done[self.described(name, rate, first).key]
            for rate in rates
            if self.described(name, rate, first).key in self.done
        }
        rate = max(rows, key=lambda rate: rows[rate]["validation_probe"])
        return rate, rows[rate]

    def described(self, name: str, rate: float, seed: int) -> Run:
        objective, _, changes = name.partition(":")
        steps = 0 if objective == "random" else self.options.steps
        return Run(objective, rate, seed, steps, len(self.labels), tuple(filter(None, changes.split(","))))

    def run(self, name: str, rate: float, seed: int) -> None:
        described = self.described(name, rate, seed)
        if described.key in self.done:
            return
        begun = time.monotonic()
        folder = self.folder / "runs" / described.key.replace(" ", "_").replace("*", "x")
        config = self.config(described, folder)
        if described.objective == "supervised":
            figures = supervised(config, self.labels, self.by_place, self.folder)
        else:
            outcome = pretrain(config, progress=True)
            if outcome.stopped is not None:
                raise KeyboardInterrupt
            figures = self.measured(open_run(folder))
            figures["blind_gap"] = {
                name.removeprefix("validation/"): value
                for name, value in last_figures(folder).items()
                if "accuracy" in name or "prior" in name
            }
        row = {"key": described.key, **figures, "seconds": round(time.monotonic() - begun, 1)}
        self.done[described.key] = row
        self.options.results.parent.mkdir(parents=True, exist_ok=True)
        with self.options.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def config(self, run: Run, folder: Path) -> Config:
        changes: dict[str, Any] = {
            "run.graphs": self.folder / "graphs",
            "run.output": folder,
            "run.cache": self.folder / "cache",
            "run.seed": run.seed,
            "run.max_steps": run.steps,
            "validation.every": max(run.steps, 1),  # at the end alone: nothing is chosen on the way
            "data.image_size": self.options.image_size,
            "objective.name": run.objective if run.objective not in ("random", "supervised") else "cga",
        }
        if run.rate:
            changes["optimization.learning_rate"] = run.rate
        config = updated(load_config(self.options.config), changes, "phantom_objectives")
        for change in run.changes:
            key, _, value = change.partition("=")
            config = updated(config, {key: json.loads(value)}, "phantom_objectives")
        return config

    def measured(self, run: TrainedRun) -> dict[str, Any]:
        """The figures of a finished run, on the test split."""
        cache = self.folder / "cache"
        store = open_images(run, self.folder, self.labels.images, cache)
        rows = rows_of_labels(store, self.labels)
        features = compute_features(run, store, rows)
        figures = probes(features, self.labels, self.by_place, run.config.run.seed)
        if run.config.run.max_steps == 0:
            return figures
        test = self.labels.rows("test")
        known = names_of(run.table)
        asked = [
            (i, found) for i, name in enumerate(self.labels.classes) if (found := find_finding(name, run.table, known))
        ]
        batches = (images for _, images in image_batches(store, rows[test], run.config.data, run.device, 64))
        scores = zero_shot_scores(
            run.model, run.objective, run.bank, batches, [found for _, found in asked], run.device
        )
        figures["zero_shot"] = mean_of_known(aurocs(scores, self.labels.values[test][:, [i for i, _ in asked]]))
        figures |= self.by_zone(run, store, rows[test], self.by_place.values[test])
        regions = regions_of(self.folder / "boxes.json", self.folder / "labels.csv", "test")
        found, _ = ground(run, regions, self.folder, kind="attention", cache=cache)
        grounding = macro(found)
        figures |= {name: grounding[name] for name in ("pointing", "pointing_blind", "mass")}
        found, _ = ground(run, regions, self.folder, kind="gradient", cache=cache)
        grounding = macro(found)
        figures |= {
            "pointing_gradient": grounding["pointing"],
            "pointing_gradient_blind": grounding["pointing_blind"],
        }
        return figures

    def by_zone(self, run: TrainedRun, store: Any, rows: Any, truth: Any) -> dict[str, float]:
        """Zero-shot for findings of a zone of a lung ("nodule in the right upper lung zone"), which models of answers can be asked for.

        `zone` is the same among the images in which the finding is somewhere: which of the six zones is it in? Models of whole
        images are asked for the finding at its side.
        """
        named = [(column, name.split("/")) for column, name in enumerate(self.by_place.classes) if name.count("/") == 2]
        places = answers_questions(run.objective)
        findings = findings_of(
            [f"{side} {name}" + (f" in the {zone} lung zone" if places else "") for _, (name, side, zone) in named],
            run.table,
        )
        batches = (images for _, images in image_batches(store, rows, run.config.data, run.device, 64))
        scores = zero_shot_scores(run.model, run.objective, run.bank, batches, findings, run.device)
        truth = truth[:, [column for column, _ in named]]
        within = []
        for at, (_, (name, _, _)) in enumerate(named):
            same = [other for other, (_, parts) in enumerate(named) if parts[0] == name]
            there = (truth[:, same] == 1).any(1)
            within += list(aurocs(scores[there][:, [at]], truth[there][:, [at]]))
        return {"zero_shot_place": mean_of_known(aurocs(scores, truth)), "zone": mean_of_known(within)}

    def write_table(self) -> None:
        lines = [
            "# Objectives on the phantom",
            "",
            f"`python benchmarks/phantom_objectives.py PHANTOM --steps {self.options.steps} --image-size {self.options.image_size}`; "
            f"{len(self.labels):,} images. Per cent, mean ± deviation over seeds (none: one seed); the learning rate of each from the same grid.",
            "",
            f"| objective | rate, of those tried | seeds | {' | '.join(title for _, title in FIGURES)} |",
            f"|---|---|---|{'---|' * len(FIGURES)}",
        ]
        for name in self.options.objectives:
            tried = [
                rate
                for rate in ([0.0] if name == "random" else self.options.rates)
                if self.described(name, rate, self.options.seeds[0]).key in self.done
            ]
            if not tried:
                continue
            rate, _ = self.best(name)
            rows = [
                self.done[key]
                for seed in self.options.seeds
                if (key := self.described(name, rate, seed).key) in self.done
            ]
            cells = [_percent([row[figure] for row in rows if row.get(figure) is not None]) for figure, _ in FIGURES]
            of = "–" if name == "random" else f"{rate:g} of {', '.join(f'{one:g}' for one in sorted(tried))}"
            lines.append(f"| {name} | {of} | {len(rows)} | {' | '.join(cells)} |")
        table = "\n".join(lines)
        print(table, flush=True)
        self.options.results.with_suffix(".md").write_text(table + "\n", encoding="utf-8")


def probes(features: Any, labels: Labels, by_place: Labels, seed: int) -> dict[str, Any]:
    """Linear probes; the seed of the run draws the patients too. Images of `by_place` are those of `labels`, in order."""
    found = probe(features, labels, FRACTIONS, (seed,))
    figures: dict[str, Any] = {f"probe {run.fraction:g}": run.macro for run in found.runs}
    figures |= {f"place {run.fraction:g}": run.macro for run in probe(features, by_place, FRACTIONS[1:], (seed,)).runs}
    # For the choice of the rate: the same with the validation patients in the place of those to be judged.
    validation = Labels(
        labels.path,
        labels.images,
        labels.subjects,
        tuple({"train": "train", "val": "test", "test": "unused"}[split] for split in labels.splits),
        labels.classes,
        labels.values,
    )
    figures["validation_probe"] = probe(features, _with_validation(validation), FRACTIONS[2:], (seed,)).runs[0].macro
    return figures


def _with_validation(labels: Labels) -> Labels:
    """A tenth of the training patients chooses the strength of the probe, since the validation patients are judged."""
    subjects = sorted(
        {subject for subject, split in zip(labels.subjects, labels.splits, strict=True) if split == "train"}
    )
    held = set(subjects[::10])
    splits = tuple(
        "val" if split == "train" and subject in held else split
        for subject, split in zip(labels.subjects, labels.splits, strict=True)
    )
    return Labels(labels.path, labels.images, labels.subjects, splits, labels.classes, labels.values)


def supervised(config: Config, labels: Labels, by_place: Labels, root: Path) -> dict[str, Any]:
    """The same encoder, trained on all labels of the training images with the same budget, schedule and augmentation."""
    store = image_store(root, list(labels.images), root / "cache", config.data.image_size, config.data.fit, 1)
    images, seed = store.images[rows_of_labels(store, labels)], config.run.seed
    for _, network in fit_supervised(
        config, images, labels.values, labels.rows("train"), batch_size=config.run.batch_size, seed=seed
    ):
        features = network.features(images)
    return probes(features, labels, by_place, seed)


def _percent(values: Sequence[float]) -> str:
    if not values:
        return "–"
    mean = f"{100 * statistics.fmean(values):.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
