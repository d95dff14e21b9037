"""A study → its radiograph: pose, film, findings, detector, and what else lies in the way.

The patient's left is on the image's right, as on any film. Things that no report speaks of are drawn too: side letters, electrodes
and their wires, buttons, shadows of clothes, uneven exposure, collimation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphprep.phantom.canvas import Canvas, Mask, Point, curve, smooth
from graphprep.phantom.chest import SIGN
from graphprep.phantom.devices import DEVICES
from graphprep.phantom.draws import Draws, Floats
from graphprep.phantom.film import Film
from graphprep.phantom.lesions import LESIONS, spine_mask
from graphprep.phantom.scene import Finding, Study

#: Structures that have masks in every image, in this order.
ANATOMY: tuple[str, ...] = ("right_lung", "left_lung", "heart", "spine")

#: How often things lie on the patient that no report mentions: on films from the front (at the bedside), and on others.
ON_PATIENT: dict[str, tuple[float, float]] = {
    "electrodes and wires": (0.6, 0.06),
    "box of a monitor": (0.16, 0.03),
    "buttons": (0.05, 0.05),
    "fold of skin or cloth": (0.2, 0.08),
}
#: How often there is gas in the stomach, a letter of the side, and a shutter at each edge.
STOMACH_GAS, LETTER, SHUTTER = 0.7, 0.55, 0.16
#: Millimetres from edge to edge of an image.
FIELD = (345.0, 440.0)
#: Standard deviation of how far a chest is turned in the image, in radians.
TURNED = {"AP": 0.024, "PA": 0.017}
#: How often an image is blurred, and the deviation of its noise; soft tissue is about 1.
BLURRED, NOISE = 0.6, (0.008, 0.028)

_LETTERS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A radiograph and where things are in it.

    `pixels` is (size, size) uint8; masks are (size, size) bool: `anatomy` by structure, `findings` one for each of the
    study's findings, in their order.
    """

    pixels: npt.NDArray[np.uint8]
    anatomy: dict[str, Mask]
    findings: tuple[tuple[Finding, Mask], ...]


def render(study: Study, number: int, size: int, contrast: float = 1.0) -> Picture:
    """Draw image `number` (from 0) of a study.

    Args:
        size: pixels along an edge; the picture is of the same chest at any size.
        contrast: factor on the density of findings; 1 is the usual difficulty, less is harder.
    """
    canvas = _pose(study, number, size)
    texture = Draws(study.seed, number, "texture")
    film = Film(study, canvas, texture)
    masks: list[tuple[Finding, Mask]] = []
    for finding in study.findings:
        draws = Draws(finding.spot, finding.concept)
        draw = LESIONS[finding.concept] if finding.concept in LESIONS else DEVICES[finding.concept]
        masks.append((finding, draw(film, finding, draws, contrast)))
    film.bones()
    _clutter(film, Draws(study.seed, number, "clutter"))
    pixels, lit = _expose(film, Draws(study.seed, number, "exposure"), texture)
    structures = (film.lung_mask("right"), film.lung_mask("left"), film.heart > 0.5, spine_mask(film))
    anatomy = {name: mask & lit for name, mask in zip(ANATOMY, structures, strict=True)}
    return Picture(pixels, anatomy, tuple((finding, mask & lit) for finding, mask in masks))


def _pose(study: Study, number: int, size: int) -> Canvas:
    draws = Draws(study.seed, number, "pose")
    field = draws.uniform(*FIELD)
    room = 0.5 * field - 150.0  # around the lungs
    centre = (0.8 * room * draws.uniform(-1.0, 1.0), 130.0 + 0.7 * room * draws.uniform(-1.0, 1.0))
    turn = draws.bell(0.0, TURNED[study.view])
    return Canvas(size, field / size, centre, turn)


def _clutter(film: Film, draws: Draws) -> None:
    """What lies on the patient: electrodes with wires, buttons, a fold of skin or cloth."""
    canvas, chest = film.canvas, film.chest

    def there(what: str) -> bool:
        return draws.chance(ON_PATIENT[what][0 if chest.front else 1])

    if there("electrodes and wires"):
        for _ in range(draws.integer(2, 4)):
            x, y = draws.uniform(-120.0, 120.0), draws.uniform(20.0, 230.0)
            electrode, hole = canvas.blank(), canvas.blank()
            canvas.disc(electrode, (x, y), 5.5)
            canvas.disc(hole, (x, y), 2.5)
            film.metal += 0.35 * electrode - 0.12 * hole
            wire = canvas.blank()
            end = (draws.sign() * 230.0, y + draws.uniform(-120.0, 120.0))
            path: list[Point] = [
                (x, y),
                (x + 0.3 * (end[0] - x), y + draws.uniform(-40.0, 40.0)),
                (x + 0.7 * (end[0] - x), y + draws.uniform(-60.0, 60.0)),
                end,
            ]
            canvas.stroke(wire, curve(path), 1.0)
            film.metal += 0.26 * wire
    if there("box of a monitor"):
        # A box of a monitor or a pad, on the skin.
        x, y = draws.uniform(-120.0, 120.0), draws.uniform(0.0, 220.0)
        box = canvas.blank()
        half = draws.uniform(6.0, 18.0)
        canvas.stroke(box, [(x - half, y), (x + half, y + draws.uniform(-6.0, 6.0))], draws.uniform(10.0, 18.0))
        film.metal += draws.uniform(0.2, 0.55) * box
    if there("buttons"):
        x = chest.middle(100.0) + draws.bell(0.0, 6.0)
        for number in range(4):
            button = canvas.blank()
            canvas.disc(button, (x + draws.bell(0.0, 2.0), 40.0 + 55.0 * number), 5.0)
            film.metal += 0.16 * button
    if there("fold of skin or cloth"):
        side = draws.sign()
        top = (side * draws.uniform(60.0, 110.0), draws.uniform(-10.0, 60.0))
        fold = (canvas.x - top[0] - 0.25 * side * (canvas.y - top[1])) * side
        film.bone += 0.035 * smooth(fold * 0.4 + 0.5) * smooth((60.0 - fold) * (1.0 / 60.0))


def _body(film: Film) -> tuple[Floats, Floats]:
    """(size, size) where the patient is, and how much soft tissue stands in the way outside the chest's inside."""
    canvas, chest = film.canvas, film.chest
    x, y = np.abs(canvas.x), canvas.y
    edge = 58.0 + (chest.half_width + 22.0) * smooth((y + 78.0) * (1.0 / 78.0))
    edge = edge - (52.0 - 30.0 * chest.fat) * smooth((y - 60.0) * (1.0 / 90.0))
    body = smooth((edge - x) * (1.0 / 6.0) + 0.5)
    wall = 0.16 + 0.14 * chest.fat + (0.10 + 0.16 * chest.fat) * smooth((y - 150.0) * (1.0 / 160.0))
    wall = wall + 0.12 * smooth((x - chest.half_width + 10.0) * (1.0 / 40.0))
    if chest.breast:
        out, height = chest.breast_place
        for sign in SIGN.values():
            u, v = (canvas.x - sign * out) * (1.0 / 64.0), (y - height * chest.length) * (1.0 / 60.0)
            hill = np.maximum(1.0 - u * u - v * v, 0.0)
            wall = wall + chest.breast * (1.0 + 0.8 * chest.fat) * np.sqrt(hill)
    return body, wall


def _expose(film: Film, draws: Draws, texture: Draws) -> tuple[npt.NDArray[np.uint8], Mask]:
    """(size, size) the pixels, and which of them the shutters left open."""
    canvas, chest = film.canvas, film.chest
    body, wall = _body(film)
    x, y = np.abs(canvas.x), canvas.y
    depth = 0.80 - 0.22 * np.square(x * (1.0 / 190.0)) + 0.20 * smooth((y - chest.length) * (1.0 / 60.0))
    air = film.air
    if draws.chance(STOMACH_GAS):
        # Gas in the stomach, below the left half of the diaphragm.
        u = (canvas.x - draws.uniform(48.0, 84.0)) * (1.0 / draws.uniform(20.0, 36.0))
        v = (y - chest.dome["left"] - draws.uniform(24.0, 34.0)) * (1.0 / draws.uniform(13.0, 20.0))
        gas = smooth((1.0 - u * u - v * v) * 1.6) * (1.0 - film.hemithorax["left"])
        air = np.maximum(air, gas * draws.uniform(0.2, 0.45))
    density = wall + depth * (1.0 - air) + 0.05 * canvas.cloud(texture, 70.0) + 0.016 * canvas.cloud(texture, 11.0)
    density = (density + film.bone) * body + film.metal

    tilt_x, tilt_y = draws.bell(0.0, 0.06), draws.bell(0.0, 0.06)
    density = density + canvas.x * (tilt_x / 190.0) + (y - 120.0) * (tilt_y / 190.0)
    if draws.chance(BLURRED):
        density = _blurred(density, draws.uniform(0.2, 0.9) * min(canvas.size / 256.0, 1.0))
    noise = draws.uniform(*NOISE)
    density = density + draws.grain(canvas.size) * (noise * (0.6 + 0.5 * density))

    # The exposure is set so that lungs and mediastinum are seen, as machines do, and not always well.
    sample = np.sort(density[:: max(canvas.size // 48, 1), :: max(canvas.size // 48, 1)], axis=None)
    dark, bright = float(sample[int(0.12 * sample.size)]), float(sample[int(0.90 * sample.size)])
    middle = dark + (bright - dark) * draws.bell(0.52, 0.08)
    width = 0.56 * (bright - dark) * draws.bell(1.0, 0.14) + 0.02
    level = (density - middle) * (1.0 / width)
    level = 0.5 + 0.5 * level / np.sqrt(1.0 + level * level)
    bend = draws.bell(0.0, 0.22)
    level = level + bend * level * (1.0 - level)
    level = level * (0.15 + 0.85 * body) + 0.85 * (1.0 - body) * np.minimum(film.metal, 0.6)

    shades: npt.NDArray[np.uint8] = np.clip(level * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    _letter(shades, draws)
    return shades, _collimate(shades, draws)


def _blurred(values: Floats, share: float) -> Floats:
    """Values mixed with the mean over 3 × 3 pixels, weighted 1 2 1."""
    mixed = values
    for axis in (0, 1):
        moved = np.moveaxis(mixed, axis, 0)
        out = moved * 0.5
        out[1:] += moved[:-1] * 0.25
        out[:-1] += moved[1:] * 0.25
        out[0] += moved[0] * 0.25
        out[-1] += moved[-1] * 0.25
        mixed = np.moveaxis(out, 0, axis)
    return values * (1.0 - share) + mixed * share


def _letter(shades: npt.NDArray[np.uint8], draws: Draws) -> None:
    """A lead letter that names the side it lies on; often there is none."""
    present, letter = draws.chance(LETTER), draws.pick("LR")
    size = shades.shape[0]
    height = draws.uniform(0.045, 0.065) * size
    width = height * 5.0 / 7.0
    edge = draws.uniform(0.03, 0.10) * size
    left = edge if letter == "R" else size - edge - width
    top = draws.uniform(0.03, 0.16) * size if draws.chance(0.7) else draws.uniform(0.80, 0.90) * size
    brightness = draws.integer(205, 255)
    if not present:
        return
    rows, columns = np.arange(size), np.arange(size)
    row = np.floor((rows + 0.5 - top) * (7.0 / height)).astype(np.int64)
    column = np.floor((columns + 0.5 - left) * (5.0 / width)).astype(np.int64)
    bits = np.array([[bit == "1" for bit in line] for line in _LETTERS[letter]])
    inside = ((row >= 0) & (row < 7))[:, None] & ((column >= 0) & (column < 5))[None, :]
    drawn = inside & bits[np.clip(row, 0, 6)[:, None], np.clip(column, 0, 4)[None, :]]
    shades[drawn] = np.maximum(shades[drawn], brightness)


def _collimate(shades: npt.NDArray[np.uint8], draws: Draws) -> Mask:
    """Darken what the shutters cover, at some edges of some images; (size, size) where they are open."""
    size = shades.shape[0]
    lit = np.ones(shades.shape, np.bool_)
    shade = draws.integer(0, 14)
    for edge in range(4):
        wide = int(draws.uniform(0.005, 0.05) * size) if draws.chance(SHUTTER) else 0
        if wide:
            first, last = (0, wide) if edge < 2 else (size - wide, size)
            band = (slice(first, last), slice(None)) if edge % 2 == 0 else (slice(None), slice(first, last))
            shades[band] = shade
            lit[band] = False
    return lit
