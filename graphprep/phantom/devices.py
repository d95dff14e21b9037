"""Tubes, lines and implants, drawn on a film. Each gives the mask of what can be seen of it. `DEVICES` has them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphprep.phantom.canvas import Mask, Point, curve
from graphprep.phantom.chest import SIGN
from graphprep.phantom.draws import Draws
from graphprep.phantom.film import Film
from graphprep.phantom.scene import Finding, LungSide

Device = Callable[[Film, Finding, Draws, float], Mask]


def _tube(film: Film, points: Sequence[Point], radius: float, wall: float, stripe: float) -> Mask:
    """A tube with two walls and a stripe that stops X-rays; a `wall` of 0 makes a line of it."""
    line = curve(points)
    layer = film.canvas.blank()
    film.canvas.stroke(layer, line, radius)
    mask: Mask = layer > min(0.3, 0.5 * float(layer.max()))
    if wall:
        inside = film.canvas.blank()
        film.canvas.stroke(inside, line, radius * 0.62)
        film.metal += wall * (layer - 0.55 * inside)
        stripes = film.canvas.blank()
        film.canvas.stroke(stripes, [(x + 0.5 * radius, y) for x, y in line], 0.7)
        film.metal += stripe * stripes
    else:
        film.metal += stripe * layer
    return mask


def endotracheal_tube(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """In the trachea; `millimetres` is how far its tip is above the carina."""
    chest = film.chest
    x, y = chest.carina()
    tip = (x + draws.bell(0.0, 1.2), y - (35 if finding.millimetres is None else finding.millimetres))
    start = (chest.middle(-150.0) + draws.bell(0.0, 4.0), -150.0)
    middle = (0.5 * (start[0] + tip[0]) + draws.bell(0.0, 1.5), 0.5 * (start[1] + tip[1]))
    return _tube(film, [start, middle, tip], 4.6, 0.12 * contrast, 0.30 * contrast)


def enteric_tube(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Down the oesophagus into the stomach; out of place, it ends in the chest or in a right bronchus."""
    chest = film.chest
    length = chest.length
    path = [
        (chest.middle(-150.0) + draws.bell(0.0, 5.0), -150.0),
        (chest.middle(0.0) + draws.bell(3.0, 1.5), 0.0),
        (chest.middle(0.35 * length) + draws.bell(5.0, 1.5), 0.35 * length),
    ]
    if not finding.malpositioned:
        floor = chest.usual_dome["left"]
        path += [
            (chest.middle(0.7 * length) + draws.bell(3.0, 2.0), 0.7 * length),
            (draws.bell(12.0, 2.0), floor - 4.0),
            (draws.uniform(34.0, 50.0), floor + 26.0),
            (draws.uniform(44.0, 74.0), floor + draws.uniform(40.0, 66.0)),
        ]
    elif draws.chance(0.5):
        path.append((chest.middle(0.6 * length) + 4.0, draws.uniform(0.55, 0.72) * length))
    else:
        x, y = chest.carina()
        path[-1] = (x, y)
        path += [(x - 22.0, y + 26.0), (x - draws.uniform(36.0, 52.0), y + draws.uniform(72.0, 100.0))]
    return _tube(film, path, 1.7, 0.0, 0.21 * contrast)


def central_venous_catheter(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """From the neck or below the clavicle into the superior vena cava; out of place, its tip is in the heart or goes up again."""
    chest = film.chest
    side: LungSide = finding.side or "right"
    s, length = SIGN[side], chest.length
    cava = -21.0 + chest.yaw * 0.3
    if draws.chance(0.6):
        path = [(s * draws.uniform(36.0, 52.0), -150.0), (s * draws.uniform(27.0, 36.0), -10.0)]
    else:
        path = [(s * (chest.half_width - 6.0), 44.0), (s * 70.0, 21.0), (s * 36.0, 19.0)]
    if side == "left":
        path += [(16.0, 0.13 * length), (-8.0, 0.19 * length)]
    if not finding.malpositioned:
        path += [(cava, 0.26 * length), (cava - 1.0, draws.uniform(0.36, 0.48) * length)]
    elif side == "right" and draws.chance(0.4):
        path += [(-12.0, 0.17 * length), (14.0, 0.10 * length), (30.0, -8.0), (38.0, -50.0)]
    else:
        path += [
            (cava, 0.26 * length),
            (cava - 3.0, 0.5 * length),
            (draws.uniform(-14.0, 4.0), draws.uniform(0.70, 0.80) * length),
        ]
    return _tube(film, path, 1.5, 0.0, 0.30 * contrast)


def pacemaker(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """A can below the clavicle, with one or two leads into the right heart."""
    chest, canvas = film.chest, film.canvas
    side: LungSide = finding.side or "left"
    s, length = SIGN[side], chest.length
    x, y = s * draws.uniform(72.0, 112.0), draws.uniform(30.0, 78.0)
    can = canvas.blank()
    across, down = draws.uniform(9.0, 12.0), draws.uniform(6.0, 9.0)
    for row in (-1.0, 0.0, 1.0):
        canvas.stroke(can, [(x - across, y + row * down), (x + across, y + row * down)], 12.0)
    film.metal += 0.5 * contrast * can
    inner = canvas.blank()
    canvas.stroke(inner, [(x - across, y + down), (x + across, y + down)], 6.0)
    film.metal += 0.2 * contrast * inner
    vein = [(x - s * 14.0, y - 14.0), (s * 62.0, 20.0), (s * 30.0, 22.0)]
    if side == "left":
        vein += [(2.0, 0.18 * length)]
    vein += [(-20.0, 0.28 * length), (-23.0, 0.45 * length)]
    heart_bottom = chest.usual_dome["left"] - chest.heart_lift
    tips: list[list[Point]] = [
        [(-14.0, 0.68 * length), (draws.uniform(0.26, 0.36) * chest.heart, heart_bottom - draws.uniform(8.0, 18.0))]
    ]
    if draws.chance(0.7):
        tips.append([(-26.0, 0.62 * length), (-14.0, draws.uniform(0.56, 0.60) * length)])
    mask: Mask = can > 0.5
    for tip in tips:
        mask |= _tube(film, [*vein, *tip], 1.1, 0.0, 0.42 * contrast)
    return mask


def chest_tube(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Through the side of the chest, up to the apex or along the base; out of place, it hardly enters."""
    chest = film.chest
    side: LungSide = finding.side or "right"
    s = SIGN[side]
    enters = draws.uniform(0.58, 0.74) * chest.length
    outer = chest.lateral(enters)
    path = [(s * (outer + 170.0), enters + 74.0), (s * (outer + 6.0), enters)]
    if finding.malpositioned:
        path.append((s * (outer - draws.uniform(4.0, 12.0)), enters - 16.0))
    elif draws.chance(0.65):
        top = draws.uniform(0.10, 0.24) * chest.length
        path += [(s * (outer - 26.0), 0.62 * enters), (s * draws.uniform(0.48, 0.62) * chest.half_width, top)]
    else:
        base = min(chest.dome.values()) - 8.0
        path += [
            (s * (outer - 30.0), max(enters, base - 14.0)),
            (s * draws.uniform(48.0, 62.0), max(0.9 * enters, base - 22.0)),
        ]
    return _tube(film, path, 4.2, 0.27 * contrast, 0.55 * contrast)


DEVICES: dict[str, Device] = {
    "endotracheal_tube": endotracheal_tube,
    "enteric_tube": enteric_tube,
    "central_venous_catheter": central_venous_catheter,
    "pacemaker": pacemaker,
    "chest_tube": chest_tube,
}
