#!/usr/bin/env python
"""What frozen encoders are worth on a few hundred real radiographs, judged by the labels of ChestX-ray14.

    python benchmarks/small_real_sets.py --data DIR --run cga=RUN --run clip=RUN --start cga

DIR/nih/manifest.csv has `image`, `patient`, `view` and `labels` (`|` between); DIR/covid/manifest.csv has `image`, `patient`, `view`
and `report`. RUN is a run folder of `trainer pretrain`; a NAME that is given several times stands for several seeds.

- `view alone`: the projection (AP, PA) and no pixel;
- `random`: the untrained encoder;
- NAME: the encoder of RUN, which has seen none of these images;
- `covid`: `graphprep extract` on the reports of `covid/`, then `trainer pretrain` on these graphs; `covid from NAME`: the same, started
  from the encoder of NAME. No image of `nih/` and no label is used;
- `covid shuffled` (`--shuffled`): the same with the reports of other patients, which says how much of it needs no right report;
- `supervised`: the same architecture trained end to end on the labels of the training patients; `supervised from NAME`: fine-tuned.

All but `supervised` are linear probes of `trainer.probe` on frozen pooled features. Patients are ordered by a hash of patient and seed;
of five folds of that order one is for testing, and of the others every eighth patient for validation, which chooses the probe's
strength, and of four moments of a supervised training the best. Five splits test each patient once; further splits order the patients
by another seed. Split i gets the encoder's seed i modulo the number of its seeds. Labels: the columns with at least so many
patients with and without it; of two that are exact contraries the rarer one. A share of 1 % would be three or four patients,
most columns without a positive, and is left out.

Figures: macro AUROC, mean ± deviation over splits; the difference to `random` on the same splits with a 95 % interval from
resampling all patients (2,000 draws; encoders and training patients are as they are). `within view` counts only pairs of a positive
and a negative of the same projection, so that what tells AP from PA earns nothing.

Rows are appended to rows.jsonl in the working folder as they come, and what stands there is not run again; encoders that are
trained here stay in runs/ beside it. The table goes to benchmarks/results/small_real_sets.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from supervised import fit_supervised

import graphprep.errors
from graphprep.extract import extract
from trainer.config import Config, load_config
from trainer.data.cache import image_store
from trainer.embed import compute_features
from trainer.errors import UserError
from trainer.features import rows_of_labels
from trainer.labels import Labels, read_labels, subjects_in_order
from trainer.pretrain import pretrain
from trainer.probe import percent, probe, training_rows
from trainer.run_folder import open_run
from trainer.scores import aurocs, mean_of_known
from trainer.settings import to_yaml, updated

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 5
FRACTIONS = (0.1, 1.0)
DRAWS = 2000
SUPERVISED_BATCH = 32

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "cxr")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=RUN", help="an encoder to compare")
    parser.add_argument("--start", metavar="NAME", help="the --run that `covid from` and `supervised from` start at")
    parser.add_argument("--config", default="phantom-cpu", help="of the encoders that are made here")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--objective", default="cga", help="of the training on covid/")
    parser.add_argument("--shuffled", action="store_true", help="train on covid/ with wrong reports, too")
    parser.add_argument("--splits", type=positive, default=10)
    parser.add_argument(
        "--supervised-splits", type=positive, default=5, help="the first ones, for what is trained anew in each"
    )
    parser.add_argument("--random-seeds", type=positive, default=5)
    parser.add_argument("--covid-seeds", type=positive, default=2)
    parser.add_argument("--covid-steps", type=positive, default=200)
    parser.add_argument("--supervised-steps", type=positive, default=200)
    parser.add_argument("--least-patients", type=int, default=40, help="that a label column needs, with it and without")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "real", help="the working folder")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "small_real_sets.md")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        Bench(options).run()
    except (UserError, graphprep.errors.UserError) as error:
        parser.exit(2, f"Error: {error}\n")


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


# The judge


@dataclass(frozen=True)
class Judge:
    """Labels of the columns that are judged, and the projection of every image."""

    labels: Labels
    views: npt.NDArray[np.str_]  # (images,)
    left_out: tuple[str, ...]

    @property
    def common_view(self) -> str:
        return str(Counter(self.views.tolist()).most_common(1)[0][0])

    def split(self, number: int) -> Labels:
        """The labels with split `number`: fold `number % 5` of the order that `number // 5` gives is for testing."""
        order = subjects_in_order(self.labels.subjects, number // FOLDS)
        test = set(order[number % FOLDS :: FOLDS])
        validation = set([subject for subject in order if subject not in test][::8])
        names = ("test" if one in test else "val" if one in validation else "train" for one in self.labels.subjects)
        return replace(self.labels, splits=tuple(names))


def read_judge(data: Path, work: Path, least: int) -> Judge:
    """Write labels.csv from the manifest, and read it. UserError where no column has patients enough."""
    manifest = read_manifest(data / "nih" / "manifest.csv", ("image", "patient", "view", "labels"))
    said = [set(filter(None, row["labels"].split("|"))) for row in manifest]
    names = sorted(set().union(*said))
    path = work / "labels.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "subject_id", "view", *names])
        for row, found in zip(manifest, said, strict=True):
            writer.writerow([row["image"], row["patient"], row["view"], *(int(name in found) for name in names)])
    labels = read_labels(path)
    subjects = np.asarray(labels.subjects)
    chosen: list[str] = []
    for column in np.argsort(labels.values.sum(axis=0), kind="stable"):
        values = labels.values[:, column]
        patients = [len(set(subjects[values == value])) for value in (0, 1)]
        contrary = any((values == 1 - labels.values[:, names.index(other)]).all() for other in chosen)
        if min(patients) >= least and not contrary:
            chosen.append(names[column])
    if not chosen:
        raise UserError(
            f"{data / 'nih'}: no label is there in {least} patients and missing in as many; --least-patients."
        )
    left_out = tuple(name for name in names if name not in chosen)
    return Judge(labels.of_classes(sorted(chosen)), np.asarray([row["view"] for row in manifest]), left_out)


def read_manifest(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a manifest. UserError where it or a column is missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; --data must name a folder with nih/ and covid/.") from None
    for name in columns:
        if not rows or name not in rows[0]:
            raise UserError(f"{path}: expected rows with the columns {', '.join(columns)}.")
    return rows


# Scores of test images


@dataclass(frozen=True)
class Scored:
    """Scores of the test images, (n, classes), and what a split cost to learn from."""

    scores: npt.NDArray[np.floating[Any]]
    patients: int
    images: int
    setting: float  # the probe's strength, or the step of the supervised training


def probed(features: Features, labels: Labels, fraction: float, seed: int) -> Scored:
    run = probe(features, labels, [fraction], [seed]).runs[0]
    return Scored(run.scores, run.subjects, run.images, run.strength)


def supervised(
    config: Config, images: npt.NDArray[np.uint8], labels: Labels, fraction: float, seed: int, weights: Path | None
) -> Scored:
    """The architecture trained on the labels; of four moments the one that is best on the validation patients.

    Args:
        images: (images, size, size), row i of the labels' image i.
        weights: where to start from; None: untrained.
    """
    train, validation, test = training_rows(labels, fraction, seed), labels.rows("val"), labels.rows("test")
    best, kept, at = -1.0, np.zeros((len(test), len(labels.classes)), np.float32), 0
    for step, network in fit_supervised(
        config, images, labels.values, train, batch_size=SUPERVISED_BATCH, seed=seed, weights=weights, moments=4
    ):
        figure = mean_of_known(aurocs(network.scores(images[validation]), labels.values[validation]))
        if figure > best:
            best, kept, at = figure, network.scores(images[test]), step
    return Scored(kept, len({labels.subjects[row] for row in train}), len(train), at)


# What the scores are worth


def resampled_auroc(
    scores: npt.ArrayLike, positive: npt.ArrayLike, strata: npt.ArrayLike, weights: npt.NDArray[np.floating[Any]]
) -> Array:
    """AUROC with a weight for each row: the share of the pairs of a positive and a negative that are in order, ties half.

    Args:
        scores: (n,)
        positive: (n,), bool.
        strata: (n,); only pairs within a stratum count.
        weights: (draws, n), how often a draw has each row.
    Returns:
        (draws,), NaN where a draw has no pair.
    """
    scores, strata = np.asarray(scores, np.float64), np.asarray(strata)
    yes, no = np.flatnonzero(positive), np.flatnonzero(~np.asarray(positive, bool))
    pairs = (strata[yes][:, None] == strata[no][None]).astype(np.float64)
    right = pairs * (np.sign(scores[yes][:, None] - scores[no][None]) + 1) / 2
    of_yes, of_no = weights[:, yes].astype(np.float64), weights[:, no].astype(np.float64)
    found, all_pairs = ((of_yes @ one * of_no).sum(axis=1) for one in (right, pairs))
    return np.where(all_pairs > 0, found / np.where(all_pairs > 0, all_pairs, 1), np.nan)


def macro(scores: Array, values: npt.NDArray[np.float32], strata: npt.ArrayLike, weights: Array) -> Array:
    """(draws,): the mean over the columns that a draw can judge, NaN where there is none."""
    each = np.stack([resampled_auroc(scores[:, i], values[:, i] == 1, strata, weights) for i in range(values.shape[1])])
    known = ~np.isnan(each)
    return np.where(known.any(axis=0), np.nansum(each, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)


def patient_draws(subjects: Sequence[str], draws: int, seed: int = 0) -> Array:
    """(1 + draws, images): ones, then how often each image's patient was drawn when as many patients are drawn as there are."""
    names, place = np.unique(np.asarray(subjects), return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(subjects))), counts[:, place]])


# The comparison


@dataclass(frozen=True)
class Source:
    """An encoder that is there or can be made: `identity` says what it depends on, `folder` gives its run folder."""

    identity: str
    folder: Callable[[], Path]


@dataclass(frozen=True)
class Contestant:
    """One row of the table: what the score of a split depends on, and the score; with it the AUROC of telling the views."""

    name: str
    splits: int
    identity: Callable[[int], str]
    score: Callable[[Labels, float, int], tuple[Scored, float | None]]


class Bench:
    """Runs what is not in the rows yet."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.judge = read_judge(options.data, self.work, options.least_patients)
        changes = {
            "data.image_size": options.image_size,
            "objective.name": options.objective,
            "run.accelerator": "cpu",
            "run.tensorboard": False,
        }
        self.config = updated(load_config(options.config), changes, "The command line")
        self.runs = named_runs(options.run, self.config)
        if options.start is not None and options.start not in self.runs:
            raise UserError(f"--start {options.start}: expected the name of a --run.")
        self.graphs = covid_graphs(options.data / "covid", self.work)
        labels, data, root = self.judge.labels, self.config.data, options.data / "nih"
        store = image_store(root, list(labels.images), self.work / "cache", data.image_size, data.fit)
        self.store, self.rows = store, rows_of_labels(store, labels)
        self._features: dict[str, Features] = {}
        said = [labels.images, labels.subjects, labels.classes, labels.values.tolist(), self.judge.views.tolist()]
        self.judged = hashed(json.dumps(said))
        self.path = self.work / "rows.jsonl"
        self.done = read_rows(self.path)

    def run(self) -> None:
        contestants = self.contestants()
        for number, contestant in enumerate(contestants, start=1):
            print(f"{number}/{len(contestants)} {contestant.name}", file=sys.stderr, flush=True)
            for split in range(contestant.splits):
                labels = self.judge.split(split)
                for fraction in FRACTIONS:
                    key = self.key(contestant, split, fraction)
                    if key not in self.done:
                        self.done[key] = self.scored(key, contestant, labels, split, fraction)
        table = self.table(contestants)
        print(table, end="")
        self.options.output.parent.mkdir(parents=True, exist_ok=True)
        self.options.output.write_text(table, encoding="utf-8")

    def key(self, contestant: Contestant, split: int, fraction: float) -> str:
        return f"{contestant.identity(split)} labels-{self.judged} split-{split} fraction-{fraction:g}"

    def scored(self, key: str, contestant: Contestant, labels: Labels, split: int, fraction: float) -> dict[str, Any]:
        """A new row, appended to the file."""
        begun = time.monotonic()
        found, view = contestant.score(labels, fraction, split)
        row = {
            "key": key,
            "patients": found.patients,
            "images": found.images,
            "setting": found.setting,
            "view": view,
            "seconds": round(time.monotonic() - begun, 1),
            "scores": [[float(f"{value:.6g}") for value in one] for one in found.scores],
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row

    # Who takes part

    def contestants(self) -> list[Contestant]:
        options, start = self.options, self.options.start
        begin = self.runs[start] if start is not None else []
        every, first = options.splits, min(options.splits, options.supervised_splits)
        steps, seeds = options.covid_steps, range(options.covid_seeds)
        untrained = [self.trained("random", 0, seed, self.graphs) for seed in range(options.random_seeds)]
        found = [
            Contestant("view alone", every, lambda _: "view", self._view_alone),
            self.frozen("random", untrained),
            *(self.frozen(name, [given(folder) for folder in folders]) for name, folders in self.runs.items()),
            self.frozen("covid", [self.trained("covid", steps, seed, self.graphs) for seed in seeds]),
        ]
        if begin:
            continued = [self.trained("covid", steps, seed, self.graphs, begin[seed % len(begin)]) for seed in seeds]
            found.append(self.frozen(f"covid from {start}", continued))
        if options.shuffled:
            graphs = covid_graphs(options.data / "covid", self.work, shuffled=True)
            found.append(
                self.frozen("covid shuffled", [self.trained("shuffled", steps, seed, graphs) for seed in seeds])
            )
        found.append(self.end_to_end("supervised", [None], first))
        if begin:
            found.append(self.end_to_end(f"supervised from {start}", list(begin), first))
        return found

    def frozen(self, name: str, sources: Sequence[Source]) -> Contestant:
        """Linear probes of encoders, of which the splits take one after the other."""

        def of(split: int) -> Source:
            return sources[split % len(sources)]

        def score(labels: Labels, fraction: float, split: int) -> tuple[Scored, float | None]:
            features = self.features(of(split))
            view = self.told_views(features, labels, split) if fraction == 1 else None
            return probed(features, labels, fraction, split), view

        return Contestant(name, self.options.splits, lambda split: of(split).identity, score)

    def _view_alone(self, labels: Labels, fraction: float, split: int) -> tuple[Scored, float | None]:
        features = (self.judge.views == self.judge.common_view).astype(np.float32)[:, None]
        return probed(features, labels, fraction, split), 1.0 if fraction == 1 else None

    def end_to_end(self, name: str, starts: Sequence[Path | None], splits: int) -> Contestant:
        config = updated(self.config, {"run.max_steps": self.options.supervised_steps}, "The command line")
        identities = [f"supervised config-{described(config)} start-{weights_of(start)}" for start in starts]

        def score(labels: Labels, fraction: float, split: int) -> tuple[Scored, float | None]:
            start = starts[split % len(starts)]
            weights = start / "encoder.safetensors" if start is not None else None
            return supervised(config, self.store[self.rows], labels, fraction, split, weights), None

        return Contestant(name, splits, lambda split: identities[split % len(starts)], score)

    def trained(self, name: str, steps: int, seed: int, graphs: Path, start: Path | None = None) -> Source:
        """An encoder that is pretrained on graphs of `covid/`, or, after 0 steps, untrained."""
        changes: dict[str, Any] = {"run.max_steps": steps, "run.seed": seed, "validation.every": max(1, steps)}
        config = updated(self.config, changes, "The command line")
        read = hashed((graphs / "manifest.json").read_text(encoding="utf-8"))
        identity = f"{name} seed-{seed} config-{described(config)} graphs-{read} start-{weights_of(start)}"
        output = self.work / "runs" / identity.replace(" ", "_")
        places: dict[str, Any] = {
            "run.graphs": graphs,
            "run.images": self.options.data / "covid",
            "run.output": output,
            "run.cache": self.work / "cache",
        }
        if start is not None:
            places["model.weights"] = str(start / "encoder.safetensors")

        def folder() -> Path:
            if pretrain(updated(config, places, "The command line")).stopped is not None:
                raise KeyboardInterrupt
            return output

        return Source(identity, folder)

    def features(self, source: Source) -> Features:
        """(images, d), row i of the labels' image i."""
        if source.identity not in self._features:
            run = open_run(source.folder(), "cpu")
            self._features[source.identity] = compute_features(run, self.store, self.rows)
        return self._features[source.identity]

    def told_views(self, features: Features, labels: Labels, split: int) -> float:
        """AUROC of a probe for the projection."""
        common = (self.judge.views == self.judge.common_view).astype(np.float32)[:, None]
        return probe(features, replace(labels, classes=("view",), values=common), [1.0], [split]).runs[0].macro

    # What comes out

    def table(self, contestants: Sequence[Contestant]) -> str:
        labels, options = self.judge.labels, self.options
        weights = patient_draws(labels.subjects, DRAWS)
        figures = {one.name: self.figures(one, weights) for one in contestants}
        lines = [
            "# Frozen encoders on small real sets",
            "",
            f"`python benchmarks/small_real_sets.py{self.command()}`: {len(labels)} images of {len(set(labels.subjects))} patients, "
            f"{options.image_size} pixels, {self.config.model.backbone}. Macro AUROC of {len(labels.classes)} labels in per cent, "
            "mean ± deviation over splits by patient; in brackets the 95 % interval of the difference to `random`, from "
            f"resampling patients. Within view: only pairs of the same projection are compared. Trained here: `covid` "
            f"{options.covid_steps} steps of {self.config.run.batch_size}, `supervised` {options.supervised_steps} steps of "
            f"{SUPERVISED_BATCH} at a rate of {self.config.optimization.learning_rate:g}.",
            "",
            "| encoder | splits | 10 % of patients | − random | all patients | − random | 10 %, within view | − random "
            "| all, within view | − random | tells the view |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        views: dict[str, float] = {}
        for one in contestants:
            cells = []
            for measure in MEASURES:
                own = figures[one.name][measure]
                against = difference(own, figures["random"][measure])
                cells += [percent(own[:, 0].tolist()), "–" if one.name == "random" else str(against)]
            told = [self.done[self.key(one, split, 1.0)]["view"] for split in range(one.splits)]
            if None not in told and one.name != "view alone":
                views[one.name] = float(np.mean(told))
            cells.append("–" if None in told else percent(told))
            lines.append(f"| {one.name} | {one.splits} | {' | '.join(cells)} |")
        lines += ["", *sentences(figures, views), "", *self.of_labels()]
        return "\n".join(lines) + "\n"

    def command(self) -> str:
        """The runs of the command line, by the names of their folders."""
        runs = [f"--run {name}={folder.name}" for name, folders in self.runs.items() for folder in folders]
        runs += [f"--start {self.options.start}"] if self.options.start is not None else []
        return "".join(f" {part}" for part in [*runs, *(["--shuffled"] if self.options.shuffled else [])])

    def figures(self, contestant: Contestant, weights: Array) -> dict[tuple[float, bool], Array]:
        """(splits, 1 + draws) of every measure; the first column is of the patients as they are."""
        found: dict[tuple[float, bool], Array] = {}
        for fraction, within in MEASURES:
            each = []
            for split in range(contestant.splits):
                labels = self.judge.split(split)
                test = labels.rows("test")
                scores = np.asarray(self.done[self.key(contestant, split, fraction)]["scores"], np.float64)
                strata = self.judge.views[test] if within else np.zeros(len(test))
                each.append(macro(scores, labels.values[test], strata, weights[:, test]))
            found[fraction, within] = np.stack(each)
        return found

    def of_labels(self) -> list[str]:
        """How common each label is, and how far it goes with the projection."""
        labels, view = self.judge.labels, self.judge.common_view
        subjects = np.asarray(labels.subjects)
        lines = [
            f"Labels judged; left out for too few patients, or as the contrary of another: {', '.join(self.judge.left_out) or 'none'}.",
            "",
            f"| label | images | patients | {view} of images with it | {view} of the others |",
            "|---|---|---|---|---|",
        ]
        for column, name in enumerate(labels.classes):
            has = labels.values[:, column] == 1
            shares = [f"{100 * (self.judge.views[rows] == view).mean():.0f} %" for rows in (has, ~has)]
            lines.append(f"| {name} | {has.sum()} | {len(set(subjects[has]))} | {' | '.join(shares)} |")
        counts = labels.values.sum(axis=0)
        common = int(counts.argmax())
        inside = [
            name
            for column, name in enumerate(labels.classes)
            if column != common and (labels.values[:, column] <= labels.values[:, common]).all()
        ]
        if inside:
            lines += ["", f"Every image with {' or '.join(inside)} has {labels.classes[common]} too."]
        return lines


MEASURES = tuple((fraction, within) for within in (False, True) for fraction in FRACTIONS)


@dataclass(frozen=True)
class Difference:
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def difference(own: Array, other: Array) -> Difference:
    """Mean over the splits that both have, with the 95 % interval over draws. Both (splits, 1 + draws)."""
    shared = min(len(own), len(other))
    each = (own[:shared] - other[:shared]).mean(axis=0)
    low, high = np.nanquantile(each[1:], [0.025, 0.975])
    return Difference(float(each[0]), float(low), float(high))


def sentences(figures: dict[str, dict[tuple[float, bool], Array]], views: dict[str, float]) -> list[str]:
    """Who is told apart from the untrained encoder, how much the projection gives away, and what right reports are worth.

    Args:
        views: how well a probe of each encoder's features tells the projection, mean AUROC.
    """
    others = [name for name in figures if name not in ("random", "view alone")]

    def told_apart(within: bool) -> str:
        parts = []
        for title, fraction in (("a tenth of the training patients", 0.1), ("all of them", 1.0)):
            untrained = figures["random"][fraction, within]
            found = {name: difference(figures[name][fraction, within], untrained) for name in others}
            better = [name for name, one in found.items() if one.low > 0]
            worse = [name for name, one in found.items() if one.high < 0]
            neither = [name for name in others if name not in better + worse]
            groups = (("better", better), ("worse", worse), ("not told apart", neither))
            said = [
                f"{group}: {', '.join(names) if len(names) < len(others) else 'all'}"
                for group, names in groups
                if names
            ]
            parts.append(f"with {title}, {'; '.join(said)}")
        return ". ".join(part[0].upper() + part[1:] for part in parts) + "."

    alone = [f"{100 * figures['view alone'][fraction, False][:, 0].mean():.1f}" for fraction in FRACTIONS]
    least, most = (100 * limit(views.values()) for limit in (min, max))
    within = (
        "The same holds within one view."
        if told_apart(True) == told_apart(False)
        else f"Within one view: {told_apart(True)}"
    )
    lines = [
        f"- Against `random`, by an interval without zero. {told_apart(False)} {within}",
        f"- The view is a shortcut: alone it reaches {alone[0]} and {alone[1]}, and probes read it off the frozen features at "
        f"{least:.1f} to {most:.1f}; `within view` it earns nothing.",
    ]
    if "covid shuffled" in figures:
        owed = [difference(figures["covid"][one, False], figures["covid shuffled"][one, False]) for one in FRACTIONS]
        lines.append(
            f"- `covid` less `covid shuffled` is {owed[0]} with a tenth and {owed[1]} with all; what `covid shuffled` "
            "gains over `random` cannot come from what reports say of their images."
        )
    return lines


# Files


def named_runs(given: Sequence[str], config: Config) -> dict[str, list[Path]]:
    """`NAME=RUN` texts by name. UserError for another form, a run that is not finished, or one of another architecture."""
    found: dict[str, list[Path]] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (equals and name and folder) or f"{name} ".startswith(
            ("view alone ", "random ", "covid ", "supervised ")
        ):
            raise UserError(f"--run {text}: expected NAME=RUN, with a name that no other row of the table has.")
        own = open_run(Path(folder), "cpu").config
        for what, theirs, ours in (
            ("backbone", own.model.backbone, config.model.backbone),
            ("image size", own.data.image_size, config.data.image_size),
            ("fit", own.data.fit, config.data.fit),
        ):
            if theirs != ours:
                raise UserError(
                    f"{folder} has the {what} {theirs}, not {ours}; give --config or --image-size to match."
                )
        found.setdefault(name, []).append(Path(folder))
    return found


def covid_graphs(covid: Path, work: Path, *, shuffled: bool = False) -> Path:
    """The graphs of those rows of the manifest that have a report; `shuffled`: each with a report of the next patient."""
    columns = ("patient", "image", "view", "report")
    rows = [row for row in read_manifest(covid / "manifest.csv", columns) if row["report"].strip()]
    if shuffled:
        reports: dict[str, list[str]] = {}
        for row in rows:
            reports.setdefault(row["patient"], []).append(row["report"])
        order = subjects_in_order(list(reports), 0)
        following = {patient: reports[after] for patient, after in zip(order, order[1:] + order[:1], strict=True)}
        place: Counter[str] = Counter()
        for row in rows:
            other = following[row["patient"]]
            row["report"] = other[place[row["patient"]] % len(other)]
            place[row["patient"]] += 1
    kind = "-shuffled" if shuffled else ""
    table, graphs = work / f"reports{kind}.csv", work / f"graphs{kind}"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    extract([table], graphs, images=covid, workers=1, overwrite=True, progress=False)
    return graphs


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows by key. A last line that was broken off is cut away, so that the next row begins a line of its own."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return {row["key"]: row for row in map(json.loads, whole.splitlines())}


def given(folder: Path) -> Source:
    return Source(f"encoder-{weights_of(folder)}", lambda: folder)


def weights_of(start: Path | None) -> str:
    """Which weights a run folder holds."""
    return "none" if start is None else hashed((start / "encoder.safetensors").read_bytes())


def described(config: Config) -> str:
    return hashed(to_yaml(config))


def hashed(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:12]


if __name__ == "__main__":
    main()
