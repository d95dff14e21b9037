"""A list of runs, each with several seeds, and the table of their figures.

    base:                        # optional: keys of all runs, or `config: NAME` for a configuration file
      config: phantom-cpu
      run.graphs: phantom/graphs
    seeds: [0, 1, 2]
    runs:
      cga: {}
      clip: {objective.name: clip}
      no relation stage: {objective.relation: 0}
    figures: [zero_shot_auroc, probe_auroc]     # optional: columns of the table, of the validation split
    probe:                       # optional: linear probes of the finished runs on a test split
      labels: phantom/labels.csv
      fractions: [0.01, 0.1, 1]
    ground: phantom/boxes.json   # optional: pointing game, on the test split of the labels

Each run has its folder, `<output>/<name>/seed-<seed>`; finished ones are not run again, broken ones go on, and so do the probes.
Paths are relative to the folder that the command runs in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoint import write_text
from trainer.config import Config, check_config, load_config
from trainer.data.files import read_json
from trainer.errors import Diverged, UserError
from trainer.probe import align, percent
from trainer.settings import read_yaml, updated

_KEYS = ("base", "seeds", "runs", "figures", "probe", "ground")
_FIGURES = ("zero_shot_auroc", "state_auroc", "probe_auroc")


@dataclass(frozen=True)
class Plan:
    """What an ablation file says: the configuration of each run without its seed."""

    runs: dict[str, Config]
    seeds: tuple[int, ...]
    figures: tuple[str, ...] = _FIGURES
    labels: Path | None = None
    fractions: tuple[float, ...] = (0.01, 0.1, 1.0)
    regions: Path | None = None


@dataclass
class Row:
    """The figures of a run, by name, one for each seed that is finished; `failed` says why others are not."""

    name: str
    figures: dict[str, list[float]] = field(default_factory=dict)
    seeds: int = 0
    failed: list[str] = field(default_factory=list)


def read_plan(path: Path) -> Plan:
    """Read an ablation file. UserError for an unknown key, a run without settings, or a value of another type."""
    document = read_yaml(path)
    if not isinstance(document, Mapping) or not isinstance(document.get("runs"), Mapping) or not document["runs"]:
        raise UserError(f"{path}: expected `runs`, names with the keys that each sets (`cga: {{}}`).")
    if unknown := [key for key in document if key not in _KEYS]:
        raise UserError(f"{path}: there is no `{unknown[0]}` here; expected {', '.join(_KEYS)}.")
    base = dict(document.get("base") or {})
    file = base.pop("config", None)
    start = updated(load_config(file), base, f"{path}, base")
    runs = {}
    for name, changes in document["runs"].items():
        if changes is not None and not isinstance(changes, Mapping):
            raise UserError(f"{path}: `{name}` must hold keys and values.")
        runs[str(name)] = updated(start, dict(changes or {}), f"{path}, {name}")
        check_config(runs[str(name)])
    folders = [folder_name(name) for name in runs]
    if len(set(folders)) < len(folders):
        raise UserError(f"{path}: two names of runs differ by signs alone, so they would share a folder.")
    probe = document.get("probe") or {}
    try:
        seeds = tuple(int(seed) for seed in document.get("seeds", (0,)))
        fractions = tuple(float(share) for share in probe.get("fractions", (0.01, 0.1, 1.0)))
        labels = Path(probe["labels"]) if "labels" in probe else None
        figures = tuple(map(str, document.get("figures") or _FIGURES))
        regions = Path(document["ground"]) if document.get("ground") else None
    except (TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path}: seeds and fractions are lists of numbers, probe holds labels and fractions."
        ) from None
    return Plan(runs, seeds, figures, labels, fractions, regions)


def folder_name(name: str) -> str:
    """A run's name as a folder's."""
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "run"


def ablate(plan: Plan, output: Path, *, progress: bool = True) -> Iterator[list[Row]]:
    """Run what is not finished, one after the other; gives the rows after each run, and at last the whole table.

    A run that diverges is noted and the others go on.
    """
    rows = {name: Row(name) for name in plan.runs}
    # Seed by seed, so that an early look at the table compares all runs.
    for seed in plan.seeds:
        for name, config in plan.runs.items():
            folder = output / folder_name(name) / f"seed-{seed}"
            changes = {"run.seed": seed, "run.output": folder}
            if config.run.cache is None:
                changes["run.cache"] = output / "cache"
            try:
                figures = _one(updated(config, changes, "ablate"), plan, folder, progress)
            except Diverged as error:
                rows[name].failed.append(f"seed {seed}: {error}")
            else:
                rows[name].seeds += 1
                for figure, value in figures.items():
                    rows[name].figures.setdefault(figure, []).append(value)
            yield list(rows.values())


def _one(config: Config, plan: Plan, folder: Path, progress: bool) -> dict[str, float]:
    """Train and measure one run, as far as that is not done."""
    from trainer.pretrain import pretrain
    from trainer.run_folder import last_figures

    outcome = pretrain(config, progress=progress)
    if outcome.stopped is not None:
        raise KeyboardInterrupt
    found = {name.removeprefix("validation/"): value for name, value in last_figures(folder).items()}
    figures = {name: found[name] for name in plan.figures if name in found}
    if plan.labels is not None:
        asked = {"labels": str(plan.labels), "fractions": list(plan.fractions)}
        figures |= _measured(folder / "probe.json", asked, lambda: _probe(folder, plan, config))
    if plan.regions is not None:
        asked = {"regions": str(plan.regions), "labels": str(plan.labels)}
        figures |= _measured(folder / "ground.json", asked, lambda: _ground(folder, plan, config))
    return figures


def _measured(path: Path, asked: dict[str, Any], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The figures in the file, where they answer what is asked; or those of `measure`, which are then written there."""
    found = read_json(path)
    if not isinstance(found, dict) or found.get("asked") != asked:
        found = {"asked": asked, "figures": measure()}
        write_text(path, json.dumps(found, indent=1) + "\n")
    figures: dict[str, float] = found["figures"]
    return figures


def _probe(folder: Path, plan: Plan, config: Config) -> dict[str, float]:
    from trainer.embed import compute_features, open_images
    from trainer.features import rows_of_labels
    from trainer.labels import read_labels
    from trainer.probe import probe
    from trainer.run_folder import open_run

    if plan.labels is None:
        return {}
    labels = read_labels(plan.labels)
    run = open_run(folder)
    store = open_images(run, plan.labels.parent, labels.images, config.run.cache)
    features = compute_features(run, store, rows_of_labels(store, labels))
    # The seed of the run draws the fraction too, so that the deviation over seeds holds both.
    result = probe(features, labels, plan.fractions, (config.run.seed,))
    return {f"probe {run_.fraction:g}": run_.macro for run_ in result.runs}


def _ground(folder: Path, plan: Plan, config: Config) -> dict[str, float]:
    from trainer.ground import ground, macro
    from trainer.regions import regions_of
    from trainer.run_folder import open_run

    if plan.regions is None:
        return {}
    regions = regions_of(plan.regions, plan.labels, "test" if plan.labels is not None else None)
    found, _ = ground(open_run(folder), regions, (plan.labels or plan.regions).parent, cache=config.run.cache)
    figures = macro(found)
    return {"pointing": figures["pointing"], "pointing, blind": figures["pointing_blind"], "mass": figures["mass"]}


def table(rows: list[Row]) -> str:
    """The table: a line per run, in per cent, mean ± deviation over seeds."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["run", "seeds", *columns]]
    lines += [[row.name, str(row.seeds), *(percent(row.figures.get(name, [])) for name in columns)] for row in rows]
    return align(lines)


def markdown(rows: list[Row]) -> str:
    """The same as a table in Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row.figures))
    lines = [["run", "seeds", *columns], ["---"] + ["---:"] * (1 + len(columns))]
    lines += [[row.name, str(row.seeds), *(percent(row.figures.get(name, [])) for name in columns)] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
