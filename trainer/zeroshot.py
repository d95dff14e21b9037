"""Findings in images without training: a score of each finding in each image, and where it was looked for.

A score is `sim(v_c, present) − sim(v_c, absent)`, or what corresponds to it in the run's objective (trainer/readout.py): above 0
the finding is rather there than not. Scores rank images; they are no probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trainer.checkpoint import write_text
from trainer.data.augment import normalise
from trainer.data.images import ImageError, load_image
from trainer.errors import UserError
from trainer.findings import Finding, findings_of, questions
from trainer.graph.batch import QuerySide
from trainer.readout import Map, finding_maps, scores
from trainer.run_folder import TrainedRun

_KNOWN_FINDINGS = 20  # asked about where none are named: those with the most statements


@dataclass(frozen=True)
class ZeroShot:
    """`scores` is (images, findings); `rejected` are images that cannot be read, with the reason."""

    images: tuple[Path, ...]
    findings: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    rejected: tuple[tuple[Path, str], ...]

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", *self.findings])
        for image, row in zip(self.images, self.scores, strict=True):
            writer.writerow([str(image), *(f"{value:.4f}" for value in row)])
        return text.getvalue()

    def records(self) -> list[dict[str, object]]:
        return [
            {
                "image": str(image),
                "scores": {name: float(value) for name, value in zip(self.findings, row, strict=True)},
            }
            for image, row in zip(self.images, self.scores, strict=True)
        ]


@torch.no_grad()
def zeroshot(
    run: TrainedRun,
    images: Sequence[Path],
    findings: Sequence[str] = (),
    *,
    heat_maps: Path | None = None,
    kind: Map = "gradient",
    batch_size: int = 32,
) -> ZeroShot:
    """Score findings in images.

    Args:
        images: image files.
        findings: names of concepts, with or without a side and a place; by default those that most training reports speak of.
        heat_maps: a folder for pictures of where each finding was looked for: `<image stem>.<finding>.png`.
    Raises:
        UserError: a finding that no concept has the name of, or no image that can be read.
    """
    asked = findings_of(list(findings), run.table) if findings else most_stated(run)
    concept, side, place = questions(asked, run.device)
    data = run.config.data
    read: list[Path] = []
    rejected: list[tuple[Path, str]] = []
    found = [np.zeros((0, len(asked)), np.float32)]
    names = _picture_names(images) if heat_maps is not None else {}
    for start in range(0, len(images), batch_size):
        pixels = []
        for path in images[start : start + batch_size]:
            try:
                pixels.append(load_image(path, data.image_size, data.fit))
                read.append(path)
            except ImageError as error:
                rejected.append((path, error.detail))
        if not pixels:
            continue
        batch = normalise(torch.from_numpy(np.stack(pixels)).unsqueeze(1).to(run.device), data.mean, data.std)
        features = run.model.encode_images(batch)
        found.append(scores(run.model, run.objective, run.bank, features, concept, side, place).T.float().cpu().numpy())
        if heat_maps is not None:
            drawn = (
                finding_maps(run.model, run.objective, run.bank, batch, concept, side, kind, place)
                .float()
                .cpu()
                .numpy()
            )
            for number, (path, grey) in enumerate(zip(read[-len(pixels) :], pixels, strict=True)):
                for row, finding in enumerate(asked):
                    name = f"{names[path]}.{finding.name.replace('/', '-').replace(' ', '_')}.png"
                    draw_heat_map(grey, drawn[row, number], heat_maps / name)
    if not read:
        raise UserError(f"None of the {len(images)} images can be read; {rejected[0][0]}: {rejected[0][1]}")
    return ZeroShot(tuple(read), tuple(finding.name for finding in asked), np.concatenate(found), tuple(rejected))


def most_stated(run: TrainedRun) -> list[Finding]:
    """The findings, without side, of which the bank has the most statements of both kinds."""
    counts = run.bank.counts[:: len(QuerySide) - 1].cpu()  # (C, 3), without side
    both = counts[:, [0, 2]].min(dim=1).values
    order = torch.sort(both, descending=True, stable=True).indices.tolist()
    rows = [row for row in order if run.table.concepts[row].category == "finding" and both[row] > 0]
    if not rows:  # objectives whose bank holds phrases alone
        concepts = run.table.concepts
        rows = [row for row in range(len(concepts)) if concepts[row].category == "finding" and concepts[row].count]
        rows.sort(key=lambda row: -concepts[row].count)
    return [Finding(run.table.concepts[row].id, row, QuerySide.NONE) for row in rows[:_KNOWN_FINDINGS]]


def draw_heat_map(grey: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32], path: Path) -> None:
    """The image, larger, with the map over it in red where it is high."""
    from PIL import Image

    size = max(256, grey.shape[0])
    background = np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR), np.float32)
    low, high = float(heat.min()), float(heat.max())
    share = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    large = Image.fromarray(share.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    strength = 0.6 * np.clip(np.asarray(large), 0, 1)[..., None]
    colour = np.array([255.0, 40.0, 0.0], np.float32)
    mixed = background[..., None] * (1 - strength) + colour * strength
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(mixed).astype(np.uint8)).save(path)


def _picture_names(images: Sequence[Path]) -> dict[Path, str]:
    """A name for each image: its stem, with a number where several images have it."""
    seen: dict[str, int] = {}
    names = {}
    for path in images:
        number = seen.get(path.stem, 0)
        seen[path.stem] = number + 1
        names[path] = path.stem if not number else f"{path.stem}-{number + 1}"
    return names


def write_scores(result: ZeroShot, path: Path) -> None:
    """Write the scores as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, result.csv())
