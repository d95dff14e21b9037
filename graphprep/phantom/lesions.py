"""Findings of lungs, pleura, heart, diaphragm and bones, drawn on a film. Each gives the mask of what can be seen of it.

`LESIONS` has them by name. `contrast` multiplies the density of what is drawn; shapes stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphprep.phantom.canvas import Canvas, Mask, Point, Window, bump, curve, smooth
from graphprep.phantom.chest import SIGN, ZONE_HEIGHTS
from graphprep.phantom.draws import Draws, Floats
from graphprep.phantom.film import Film
from graphprep.phantom.scene import SIDES, Finding, LungSide

Lesion = Callable[[Film, Finding, Draws, float], Mask]

#: Radius in mm of ill-defined lesions, by severity.
PATCH: dict[str, tuple[float, float]] = {"small": (19.0, 25.0), "moderate": (28.0, 36.0), "large": (40.0, 52.0)}
#: Millimetres of pleural fluid above the costophrenic angle, at the chest wall.
FLUID: dict[str, tuple[float, float]] = {"small": (34.0, 46.0), "moderate": (58.0, 84.0), "large": (105.0, 150.0)}
#: Broken ribs.
BROKEN: dict[str, tuple[int, int]] = {"small": (2, 2), "moderate": (3, 3), "large": (4, 5)}
#: Bands of a plate-like atelectasis.
BANDS: dict[str, tuple[int, int]] = {"small": (1, 2), "moderate": (2, 3), "large": (3, 4)}
#: Diameters in mm where none is given.
USUAL_DIAMETERS: dict[str, int] = {"nodule": 18, "mass": 45, "calcified_granuloma": 9}
#: Depth of edema.
WATER: dict[str, tuple[float, float]] = {"small": (0.20, 0.28), "moderate": (0.32, 0.42), "large": (0.46, 0.60)}


def _side(finding: Finding) -> LungSide:
    if finding.side is None:
        raise ValueError(f"a {finding.concept} without a side")
    return finding.side


def _place(film: Film, finding: Finding, draws: Draws) -> Point:
    """The middle of a finding in a zone of a lung, within the lung where it has collapsed."""
    side = _side(finding)
    low, high = ZONE_HEIGHTS[finding.zone or "mid"]
    outer = 0.82 - 1.6 * film.inset[side] / film.chest.half_width
    return film.chest.point(side, draws.uniform(0.22, max(outer, 0.3)), draws.uniform(low, high))


def _blob(
    canvas: Canvas, centre: Point, across: float, down: float, rough: float, draws: Draws
) -> tuple[Window, Floats]:
    """A window and in it a field that is 1 in the middle of an irregular shape and 0 at its edge."""
    reach = 1.0 + rough
    corners = [(centre[0] - across, centre[1] - down), (centre[0] + across, centre[1] + down)]
    corners += [(centre[0] - across, centre[1] + down), (centre[0] + across, centre[1] - down)]
    window = canvas.window(corners, reach * 0.7 * max(across, down))
    u, v = (canvas.x[window] - centre[0]) * (1.0 / across), (canvas.y[window] - centre[1]) * (1.0 / down)
    field = 1.0 - np.sqrt(u * u + v * v)
    lattices = draws.lattice(9, 9), draws.lattice(17, 17)
    for lattice, weight in zip(lattices, (0.65, 0.35), strict=True):
        field += rough * weight * _noise(lattice, 0.8 * u - 0.6 * v, 0.6 * u + 0.8 * v)
    return window, field


def _noise(lattice: Floats, u: Floats, v: Floats) -> Floats:
    """Smooth noise at places from -2.5 to 2.5."""
    last = lattice.shape[0] - 1
    p, q = (np.clip((part + 2.5) * (last / 5.0), 0.0, last - 0.001) for part in (u, v))
    i, j = p.astype(np.int64), q.astype(np.int64)
    s, t = smooth(p - i.astype(np.float32)), smooth(q - j.astype(np.float32))
    top = lattice[j, i] * (1.0 - s) + lattice[j, i + 1] * s
    bottom = lattice[j + 1, i] * (1.0 - s) + lattice[j + 1, i + 1] * s
    mixed: Floats = top * (1.0 - t) + bottom * t
    return mixed


def _squared(canvas: Canvas, centre: Point, across: float, down: float) -> Floats:
    """(size, size) squared distance from a place, in half axes of an ellipse."""
    u: Floats = (canvas.x - centre[0]) * (1.0 / across)
    v: Floats = (canvas.y - centre[1]) * (1.0 / down)
    return u * u + v * v


def _on(canvas: Canvas, window: Window, piece: Floats) -> Floats:
    layer = canvas.blank()
    layer[window] = piece
    return layer


def lung_opacity(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """A hazy area without edges, even or patchy."""
    canvas, side = film.canvas, _side(finding)
    radius = draws.uniform(*PATCH[finding.severity])
    centre = _place(film, finding, draws)
    window, field = _blob(canvas, centre, radius * draws.uniform(1.0, 1.3), radius, 0.45, draws)
    patchy = finding.morphology == "patchy"
    shape = smooth((field + 0.15) * (1.6 if patchy else 0.95))
    if patchy:
        u, v = (canvas.x[window] - centre[0]) * (2.2 / radius), (canvas.y[window] - centre[1]) * (2.2 / radius)
        shape = shape * (0.62 + 0.38 * _noise(draws.lattice(21, 21), u * 0.5, v * 0.5))
    layer = _on(canvas, window, shape) * film.lung[side]
    film.displace(layer, draws.uniform(0.38, 0.52) * contrast)
    return (layer > 0.28) & film.lung_mask(side)


def consolidation(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """A dense area with an irregular edge, or a straight one where it meets a fissure; where it suggests pneumonia, airways in it stay dark."""
    canvas, side = film.canvas, _side(finding)
    radius = draws.uniform(*PATCH[finding.severity])
    centre = _place(film, finding, draws)
    window, field = _blob(canvas, centre, radius * draws.uniform(0.95, 1.25), radius, 0.5, draws)
    if finding.zone == "upper" and draws.chance(0.5):
        fissure = centre[1] + 0.55 * radius
        field = np.minimum(field, (fissure - canvas.y[window]) * (2.0 / radius))
    shape = smooth((field + 0.06) * 3.2)
    layer = _on(canvas, window, shape) * film.lung[side]
    if finding.suggests == "pneumonia":
        tubes = canvas.blank()
        hilum_x, hilum_y = film.chest.hilum(side)
        out, down = centre[0] - hilum_x, centre[1] - hilum_y
        distance = math.sqrt(out * out + down * down) + 1e-6
        out, down = out / distance, down / distance
        for number in range(3):
            lean = (number - 1) * 0.55 + draws.bell(0.0, 0.08)
            ahead, aside = out - lean * down, down + lean * out
            start = (centre[0] - 0.75 * radius * out, centre[1] - 0.75 * radius * down)
            fork = (start[0] + 0.8 * radius * ahead, start[1] + 0.8 * radius * aside)
            canvas.stroke(tubes, (start, fork), 2.3, 1.8)
            for turn in (-0.35, 0.35):
                tip = (fork[0] + 0.7 * radius * (ahead - turn * aside), fork[1] + 0.7 * radius * (aside + turn * ahead))
                canvas.stroke(tubes, (fork, tip), 1.6, 1.1)
        dense = layer * (1.0 - 0.75 * tubes)
    else:
        dense = layer
    film.displace(dense, draws.uniform(0.66, 0.82) * contrast)
    return (layer > 0.5) & film.lung_mask(side)


def atelectasis(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Plates of collapsed lung: bands, nearly level, with a little haze where they lie."""
    canvas, side = film.canvas, _side(finding)
    x, y = _place(film, finding, draws)
    bands = canvas.blank()
    width = {"small": 1.7, "moderate": 2.3, "large": 3.0}[finding.severity]
    count = draws.integer(*BANDS[finding.severity])
    y -= 6.0 * (count - 1)
    for _ in range(count):
        reach = draws.uniform(17.0, 33.0)
        tilt = draws.bell(0.10, 0.09) * SIGN[side]
        sag = draws.uniform(-3.0, 3.0)
        left, middle, right = (x - reach, y - tilt * reach), (x, y + sag), (x + reach, y + tilt * reach)
        canvas.stroke(bands, curve([left, middle, right]), width * draws.uniform(0.8, 1.2))
        y += draws.uniform(9.0, 15.0)
        x += draws.bell(0.0, 5.0)
    layer = bands * film.lung[side]
    film.displace(bump(_squared(canvas, (x, y), 42.0, 26.0)) * film.lung[side], 0.12 * contrast)
    film.displace(layer, draws.uniform(0.48, 0.64) * contrast)
    return (layer > 0.3) & film.lung_mask(side)


def _round(film: Film, finding: Finding, centre: Point, draws: Draws, rough: float, softness: float) -> Floats:
    radius = 0.5 * (finding.millimetres or USUAL_DIAMETERS[finding.concept])
    window, field = _blob(film.canvas, centre, radius, radius, rough, draws)
    width = max(softness * radius, film.canvas.pixel)
    return _on(film.canvas, window, np.clip(field * (radius / width) + 0.5, 0.0, 1.0)) * film.lung[_side(finding)]


def nodule(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    layer = _round(film, finding, _place(film, finding, draws), draws, 0.10, 0.25)
    film.displace(layer, draws.uniform(0.52, 0.66) * contrast)
    return layer > 0.4


def mass(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """A large round lesion, with lobes or with spicules."""
    x, y = _place(film, finding, draws)
    layer = _round(film, finding, (x, y), draws, 0.32 if finding.morphology == "lobulated" else 0.16, 0.2)
    mask: Mask = layer > 0.5
    if finding.morphology == "spiculated":
        radius = 0.5 * (finding.millimetres or USUAL_DIAMETERS[finding.concept])
        spikes = film.canvas.blank()
        for _ in range(14):
            across, down = draws.uniform(-1.0, 1.0), draws.uniform(-1.0, 1.0)
            length = math.sqrt(across * across + down * down) + 0.05
            reach = radius * draws.uniform(1.25, 1.7) / length
            film.canvas.stroke(spikes, ((x, y), (x + across * reach, y + down * reach)), 1.4, 0.7)
        layer = np.maximum(layer, 0.75 * spikes * film.lung[_side(finding)])
    film.displace(layer, draws.uniform(0.66, 0.80) * contrast)
    return mask


def calcified_granuloma(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """A small, sharp and very dense dot."""
    layer = _round(film, finding, _place(film, finding, draws), draws, 0.12, 0.1)
    film.displace(layer, 0.9 * contrast)
    film.bone += layer * (0.55 * contrast)
    return layer > 0.3


def pulmonary_edema(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Haze around both hila, more below; lines of septa at the chest wall, cuffs around bronchi."""
    canvas, chest = film.canvas, film.chest
    depth = draws.uniform(*WATER[finding.severity])
    seen = np.zeros((canvas.size, canvas.size), np.bool_)
    lines = canvas.blank()
    grain = 0.75 + 0.35 * canvas.cloud(draws, 17.0)
    for side in SIDES:
        x, y = chest.hilum(side)
        squared = _squared(canvas, (x + SIGN[side] * 14.0, y + 22.0), 52.0, 68.0)
        haze = bump(squared * 0.7)
        film.displace(haze * grain * film.lung[side], depth * contrast)
        seen |= (squared < 1.0) & film.lung_mask(side)
        if finding.severity != "large":
            for number in range(6):
                height = 0.66 * chest.length + number * 9.0 + draws.bell(0.0, 1.5)
                outer = chest.lateral(height) - 2.0
                inner = outer - draws.uniform(11.0, 19.0)
                ends = [(chest.middle(height) + SIGN[side] * out, height) for out in (outer, inner)]
                canvas.stroke(lines, ends, 0.8)
        cuff = (x + SIGN[side] * draws.uniform(8.0, 22.0), y + draws.uniform(-22.0, 6.0))
        ring, hole = canvas.blank(), canvas.blank()
        canvas.disc(ring, cuff, 4.2)
        canvas.disc(hole, cuff, 2.2)
        lines += np.maximum(ring - hole, 0.0)
    lungs = film.lung["right"] + film.lung["left"]
    film.displace(np.minimum(lines, 1.0) * lungs, 0.45 * contrast)
    return seen


def pleural_effusion(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Fluid above the diaphragm whose upper edge climbs towards the chest wall."""
    canvas, chest, side = film.canvas, film.chest, _side(finding)
    height = draws.uniform(*FLUID[finding.severity])
    share = np.clip(film.outward[side] * (1.0 / chest.half_width), 0.0, 1.1)
    bottom = chest.usual_dome[side] + chest.fall
    level = bottom - height * (0.66 + 0.38 * share * share * share)
    fluid = smooth((canvas.y - level) * (1.0 / 9.0) + 0.5) * film.hemithorax[side]
    film.displace(fluid, min(0.90 * contrast, 1.0))
    if chest.front:
        # Lying down, fluid also spreads behind the lung and veils it.
        veil = smooth((canvas.y - level + 70.0) * (1.0 / 90.0)) * film.hemithorax[side]
        film.displace(veil, {"small": 0.04, "moderate": 0.10, "large": 0.18}[finding.severity] * contrast)
    return (fluid > 0.5) & (film.heart <= 0.5)


def pneumothorax(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """The line of the pleura; that nothing is drawn beyond it is the film's part."""
    del draws
    canvas, chest, side = film.canvas, film.chest, _side(finding)
    field = chest.lung(canvas, film.outward[side], film.inset[side])
    above = film.hemithorax[side] * smooth((film.outward[side] - 14.0) * 0.2)
    line = canvas.near(field, 1.0) * above
    film.displace(line, 0.62 * contrast)
    return (film.hemithorax[side] - film.lung[side] > 0.5) & film.lung_mask(side)


def hilar_enlargement(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Lobes beside the hilum."""
    canvas, side = film.canvas, _side(finding)
    x, y = film.chest.hilum(side)
    grown = {"small": 12.0, "moderate": 15.0, "large": 19.0}[finding.severity]
    layer = canvas.blank()
    for out, down in ((4.0, -12.0), (9.0, 3.0), (3.0, 19.0)):
        centre = (x + SIGN[side] * (out + draws.bell(0.0, 2.0)), y + down + draws.bell(0.0, 2.0))
        canvas.disc(layer, centre, grown * draws.uniform(0.85, 1.1))
    layer *= film.hemithorax[side]
    film.displace(layer, 0.55 * contrast)
    return (layer > 0.5) & (film.mediastinum <= 0.5)


def rib_fracture(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """Breaks of neighbouring ribs, one above the other, and the blood beside them."""
    canvas, chest, side = film.canvas, film.chest, _side(finding)
    share = draws.uniform(0.70, 0.87)
    height = draws.uniform(0.36, 0.60) * chest.length
    first = chest.rib_at(share, height)
    layer, blood = canvas.blank(), canvas.blank()
    for number in range(first, first + draws.integer(*BROKEN[finding.severity])):
        outward = share * chest.half_width + draws.bell(0.0, 3.0)
        film.fractures[side].append((number, outward))
        x, y = chest.rib(side, number, outward)
        canvas.disc(layer, (x, y - 2.0), 8.0)
        canvas.disc(blood, (chest.middle(y) + SIGN[side] * (chest.lateral(y) + 4.0), y + 6.0), 15.0)
    blood *= film.hemithorax[side]
    film.displace(blood, 0.75 * contrast)
    return (layer > 0.5) | (blood > 0.5)


def cardiomegaly(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    del finding, draws, contrast
    mask: Mask = film.heart > 0.5
    return mask


def elevated_diaphragm(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    """What lies between the diaphragm and where it should be."""
    del draws, contrast
    side = _side(finding)
    usual = film.chest.above_diaphragm(side, film.outward[side], film.canvas.y, usual=True)
    return (film.wall[side] > 0.5) & (film.hemithorax[side] <= 0.5) & (usual > 0.0) & (film.heart <= 0.5)


def hyperinflation(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    del finding, draws, contrast
    return film.lung_mask("right") | film.lung_mask("left")


def scoliosis(film: Film, finding: Finding, draws: Draws, contrast: float) -> Mask:
    del finding, draws, contrast
    return spine_mask(film)


def spine_mask(film: Film) -> Mask:
    mask: Mask = np.abs(film.canvas.x - film.chest.spines(film.canvas)) < 17.0
    return mask


LESIONS: dict[str, Lesion] = {
    "lung_opacity": lung_opacity,
    "consolidation": consolidation,
    "atelectasis": atelectasis,
    "nodule": nodule,
    "mass": mass,
    "calcified_granuloma": calcified_granuloma,
    "pulmonary_edema": pulmonary_edema,
    "hyperinflation": hyperinflation,
    "pleural_effusion": pleural_effusion,
    "pneumothorax": pneumothorax,
    "cardiomegaly": cardiomegaly,
    "hilar_enlargement": hilar_enlargement,
    "elevated_diaphragm": elevated_diaphragm,
    "rib_fracture": rib_fracture,
    "scoliosis": scoliosis,
}
