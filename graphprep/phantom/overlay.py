"""overlay.png: some images of a phantom with boxes and masks drawn on them, for the eye and for the README."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from graphprep.phantom.canvas import Mask
from graphprep.phantom.labels import box_of
from graphprep.phantom.render import render
from graphprep.phantom.scene import Finding, Study

_COLOURS = ((255, 99, 71), (64, 200, 255), (255, 208, 64), (120, 230, 120), (236, 130, 238), (255, 160, 90))
_TILE = 384  # pixels: smaller images are enlarged to it, so that their words can be read
_CAPTION = 15  # pixels for a line of words


def write_overlay(folder: Path, studies: Iterable[Study], count: int, size: int, contrast: float) -> Path:
    """Draw the first images of `count` studies, those with findings first, in a grid. Returns the file's path."""
    chosen = choose(studies, count)
    scale = max(1, -(-_TILE // size))
    lines = max((len(study.findings) for study in chosen), default=0)
    wide, high = size * scale, size * scale + _CAPTION * max(lines, 1) + 6
    columns = min(len(chosen), 4) or 1
    rows = -(-len(chosen) // columns)
    sheet = Image.new("RGB", (columns * wide, rows * high), (0, 0, 0))
    for place, study in enumerate(chosen):
        sheet.paste(_tile(study, size, scale, contrast, high), ((place % columns) * wide, (place // columns) * high))
    path = folder / "overlay.png"
    temporary = folder / ".overlay.png.tmp"
    sheet.save(temporary, format="PNG")
    temporary.replace(path)
    return path


def choose(studies: Iterable[Study], count: int) -> list[Study]:
    """So many studies, each time one that shows most that was not shown yet."""
    waiting = [study for study, _ in zip(studies, range(2_000), strict=False)]
    chosen: list[Study] = []
    seen: dict[str, int] = {}
    while waiting and len(chosen) < count:
        best = max(
            range(len(waiting)),
            key=lambda place: (
                sum(1.0 / (1 + seen.get(finding.concept, 0)) ** 2 for finding in waiting[place].findings[:5]),
                -place,
            ),
        )
        study = waiting.pop(best)
        for finding in study.findings:
            seen[finding.concept] = seen.get(finding.concept, 0) + 1
        chosen.append(study)
    return chosen


def describe(finding: Finding) -> str:
    """A finding in a line: name, side, zone, severity, size."""
    place = " ".join(part for part in (finding.side, finding.zone) if part)
    size = f"{finding.millimetres} mm" if finding.millimetres is not None else ""
    position = "out of place" if finding.malpositioned else ""
    return ", ".join(part for part in (finding.concept.replace("_", " "), place, size, position) if part)


def _tile(study: Study, size: int, scale: int, contrast: float, high: int) -> Image.Image:
    picture = render(study, 0, size, contrast)
    shades = np.repeat(picture.pixels[:, :, None], 3, axis=2)
    for number, (_, mask) in enumerate(picture.findings):
        shades[_outline(mask)] = _COLOURS[number % len(_COLOURS)]
    tile = Image.new("RGB", (size * scale, high), (16, 16, 16))
    tile.paste(Image.fromarray(shades).resize((size * scale, size * scale), Image.Resampling.NEAREST), (0, 0))
    pen = ImageDraw.Draw(tile)
    font = ImageFont.load_default()
    for number, (finding, mask) in enumerate(picture.findings):
        colour = _COLOURS[number % len(_COLOURS)]
        box = box_of(mask)
        if box is not None:
            x, y, width, height = (part * scale for part in box)
            pen.rectangle((x, y, x + width - 1, y + height - 1), outline=colour)
        pen.text((4, size * scale + 3 + _CAPTION * number), describe(finding), fill=colour, font=font)
    if not picture.findings:
        pen.text((4, size * scale + 3), "no finding", fill=(200, 200, 200), font=font)
    return tile


def _outline(mask: Mask) -> Mask:
    """The pixels of a mask that have a neighbour outside."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    edge: Mask = mask & ~inner
    return edge
