"""Train on constant images: what a stage of the objective learns then, it learns without looking.

Every stage should end at its prior, which is the share of right answers that guessing among the candidates gives. Where one ends
above it, the graphs or the texts give the answers away, and what the stage teaches on real images may be the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.config import Config, default_output
from trainer.metrics import read_metrics
from trainer.pretrain import Outcome, pretrain
from trainer.probe import align

#: A stage may be this much above its prior by chance, in standard errors of the logged windows and at least in points.
TOLERATED_ERRORS, TOLERATED_POINTS = 4.0, 0.02


@dataclass(frozen=True)
class BlindStage:
    """Means over the last third of the training: accuracy on constant images, the prior, and the standard error."""

    name: str
    accuracy: float
    prior: float
    error: float

    @property
    def at_prior(self) -> bool:
        return self.accuracy - self.prior <= max(TOLERATED_POINTS, TOLERATED_ERRORS * self.error)


def blind(
    config: Config, *, resume: str = "auto", overwrite: bool = False, progress: bool = True
) -> tuple[Outcome, list[BlindStage]]:
    """Train as `config` says, but on grey images, and compare each stage with its prior. Raises as `pretrain` does."""
    output = config.run.output or default_output(config).with_name(default_output(config).name + "-blind")
    blinded = replace(config, run=replace(config.run, constant_images=True, output=output))
    outcome = pretrain(blinded, resume=resume, overwrite=overwrite, progress=progress)
    return outcome, read_stages(output)


def read_stages(run: Path) -> list[BlindStage]:
    """The stages of a run by its metrics.csv."""
    rows = [row for row in read_metrics(run / "metrics.csv") if row.get("train/loss")]
    rows = rows[-max(1, len(rows) // 3) :]
    stages = []
    for column in rows[0] if rows else ():
        if not column.startswith("train/accuracy/"):
            continue
        name = column.removeprefix("train/accuracy/")
        pairs = [(float(row[column]), float(row[f"train/prior/{name}"])) for row in rows if row[column]]
        if not pairs:
            continue
        gaps = [accuracy - prior for accuracy, prior in pairs]
        mean = sum(gaps) / len(gaps)
        spread = sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1)
        prior = sum(prior for _, prior in pairs) / len(pairs)
        stages.append(BlindStage(name, mean + prior, prior, math.sqrt(spread / len(gaps))))
    return stages


def table(stages: list[BlindStage]) -> str:
    """The stages in per cent."""
    lines = [["stage", "constant images", "prior", "verdict"]]
    for stage in stages:
        verdict = "at its prior" if stage.at_prior else "above its prior: it can be solved without looking"
        lines.append([stage.name, f"{100 * stage.accuracy:.1f}", f"{100 * stage.prior:.1f}", verdict])
    return align(lines)
