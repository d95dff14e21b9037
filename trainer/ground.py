"""Grounding: does a finding's heat map lie where the finding is?

Measures per class, over the images in which it is marked, and their mean over the classes:

- pointing game: the share of images in which the centre of the highest patch of the heat map lies in the marked region;
- mask mass: the mean share of the heat map, drawn smoothly over the image, that lies in it.

A map that has negative values is lifted by its least one before. Both measures stand beside two baselines: chance, which is the region's share of the image, and the blind map, which is the mean heat map
of the class over its other images, so it knows where the finding usually is and nothing of this image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainer.data.images import fit_square
from trainer.errors import UserError
from trainer.findings import Finding, find_finding, names_of, questions
from trainer.probe import align
from trainer.regions import Region
from trainer.scores import mean_of_known

if TYPE_CHECKING:
    from trainer.readout import Map
    from trainer.run_folder import TrainedRun

Maps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grounding:
    """The figures of one class; the blind ones are NaN for a class of one image."""

    name: str
    images: int
    pointing: float
    pointing_blind: float
    pointing_chance: float
    mass: float
    mass_blind: float
    mass_chance: float


FIGURES = ("pointing", "pointing_blind", "pointing_chance", "mass", "mass_blind", "mass_chance")


def ground(
    run: TrainedRun,
    regions: Sequence[Region],
    root: Path,
    *,
    kind: Map = "gradient",
    cache: Path | None = None,
    batch_size: int = 64,
) -> tuple[list[Grounding], dict[str, str]]:
    """Compare a run's heat maps with marked regions, in the square that the encoder sees.

    Args:
        regions: what is marked, by image and class.
        root: the folder that their images are relative to.
    Returns:
        The figures of each class, and the classes left out with the reason: no concept has their name, or nothing of them is
        inside the square.
    Raises:
        UserError: an image of a region cannot be used, or no class can be judged.
    """
    import torch

    from trainer.embed import open_images
    from trainer.features import image_batches
    from trainer.readout import answers_questions, finding_maps

    known = names_of(run.table)
    asked: dict[str, Finding] = {}
    left_out: dict[str, str] = {}
    for name in sorted({region.name for region in regions}):
        finding = find_finding(name, run.table, known)
        if finding is None:
            left_out[name] = "no concept of the run has this name"
        elif finding.place >= 0 and not answers_questions(run.objective):
            left_out[name] = "this model cannot be asked for a place"
        else:
            asked[name] = finding
    judged = [region for region in regions if region.name in asked]
    images = sorted({region.image for region in judged})
    store = open_images(run, root, images, cache)
    rows = dict(zip(images, store.rows_of(images).tolist(), strict=True))
    if missing := [image for image, row in rows.items() if row < 0]:
        raise UserError(
            f"{len(missing):,} of {len(rows):,} marked images cannot be used under {root}, {missing[0]} first."
        )
    size, fit = run.config.data.image_size, run.config.data.fit
    found = []
    for name, finding in asked.items():
        of_class, masks = [], []
        for region in judged:
            mask = square_mask(region.mask(), size, fit) if region.name == name else None
            if mask is not None and mask.any():
                of_class.append(rows[region.image])
                masks.append(mask)
        if not masks:
            left_out[name] = "nothing marked of it is inside the images"
            continue
        concept, side, place = questions([finding], run.device)
        heat = []
        with torch.no_grad():
            for _, batch in image_batches(store, np.asarray(of_class), run.config.data, run.device, batch_size):
                drawn = finding_maps(run.model, run.objective, run.bank, batch, concept, side, kind, place)[0]
                heat.append(drawn.double().cpu().numpy())
        found.append(ground_class(name, lifted(np.concatenate(heat)), np.stack(masks)))
    if not found:
        raise UserError("No class of the regions can be judged: " + "; ".join(f"{k}: {v}" for k, v in left_out.items()))
    return found, left_out


def square_mask(mask: npt.NDArray[np.bool_], size: int, fit: str) -> npt.NDArray[np.bool_]:
    """A mask as `fit_square` shows its image; what is smaller than a pixel stays where most of it is."""
    shown = fit_square(np.where(mask, 255, 0).astype(np.uint8), size, fit)
    return np.asarray(shown >= min(128, max(1, int(shown.max()))))


def lifted(heat: Maps) -> Maps:
    """Maps (n, h, w) without negative values."""
    return np.asarray(heat - np.minimum(heat.min(axis=(1, 2), keepdims=True), 0.0))


def ground_class(name: str, heat: Maps, masks: npt.NDArray[np.bool_]) -> Grounding:
    """Compare heat maps with marked regions.

    Args:
        heat: (n, h, w), one value for each patch, not negative; each map is scaled to sum to 1.
        masks: (n, S, S), each with at least one true pixel.
    """
    heat = heat / np.maximum(heat.sum(axis=(1, 2), keepdims=True), 1e-12)
    area = masks.mean(axis=(1, 2))
    count = len(heat)
    pointing_blind = mass_blind = float("nan")
    if count > 1:
        others = (heat.sum(axis=0) - heat) / (count - 1)
        pointing_blind, mass_blind = float(_hits(others, masks).mean()), float(_mass(others, masks).mean())
    return Grounding(
        name,
        count,
        float(_hits(heat, masks).mean()),
        pointing_blind,
        float(area.mean()),
        float(_mass(heat, masks).mean()),
        mass_blind,
        float(area.mean()),
    )


def _hits(heat: Maps, masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(n,): whether the centre of the highest patch lies in the region; the share of them where several are as high."""
    highest = heat >= heat.max(axis=(1, 2), keepdims=True)
    y, x = (((np.arange(cells) + 0.5) * masks.shape[-1] / cells).astype(np.int64) for cells in heat.shape[1:])
    inside = masks[:, y[:, None], x[None, :]]  # (n, h, w)
    return np.asarray((highest & inside).sum(axis=(1, 2)) / highest.sum(axis=(1, 2)))


def _mass(heat: Maps, masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(n,): the share of each map, drawn at the size of the masks, that lies in the region."""
    drawn = enlarge(heat, masks.shape[-1])
    inside = (drawn * masks).sum(axis=(1, 2))
    return np.asarray(inside / np.maximum(drawn.sum(axis=(1, 2)), 1e-12))


def enlarge(heat: Maps, size: int) -> Maps:
    """(n, h, w) heat maps at (n, size, size), bilinear between the centres of the patches."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(heat, np.float64)).unsqueeze(1)
    larger = torch.nn.functional.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)
    return np.asarray(larger.squeeze(1).numpy(), np.float64)


def macro(groundings: Sequence[Grounding]) -> dict[str, float]:
    """The mean of each figure over the classes."""
    return {name: mean_of_known([getattr(each, name) for each in groundings]) for name in FIGURES}


def to_json(groundings: Sequence[Grounding], left_out: Mapping[str, str]) -> dict[str, Any]:
    def plain(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        "macro": {name: plain(value) for name, value in macro(groundings).items()},
        "classes": {
            each.name: {"images": each.images, **{name: plain(getattr(each, name)) for name in FIGURES}}
            for each in groundings
        },
        "left_out": dict(left_out),
    }


def table(groundings: Sequence[Grounding]) -> str:
    """The figures in per cent."""

    def cells(figures: Mapping[str, float]) -> list[str]:
        return ["–" if math.isnan(figures[name]) else f"{100 * figures[name]:.1f}" for name in FIGURES]

    lines = [["class", "images", "pointing", "blind", "chance", "mass", "blind", "chance"]]
    lines.append(["mean", f"{sum(each.images for each in groundings):,}", *cells(macro(groundings))])
    lines += [[each.name, f"{each.images:,}", *cells({n: getattr(each, n) for n in FIGURES})] for each in groundings]
    return align(lines)
