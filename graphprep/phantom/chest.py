"""The chest of a study before anything is wrong in it, and what its findings do to its shape.

All lengths are millimetres of the patient. `y` is 0 at the lungs' apex; `x` is 0 in the midline and grows to the patient's left, which
is the image's right. "Outward" is the distance from the midline on one side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphprep.phantom.canvas import Canvas, Point, bump, curve, smooth, step
from graphprep.phantom.draws import Draws, Floats
from graphprep.phantom.scene import SIDES, LungSide, Study, Zone

SIGN: dict[LungSide, float] = {"right": -1.0, "left": 1.0}

#: Where in a lung a zone is, as shares of the height from the apex to the diaphragm.
ZONE_HEIGHTS: dict[Zone, tuple[float, float]] = {"upper": (0.14, 0.34), "mid": (0.40, 0.60), "lower": (0.66, 0.86)}

#: Width of the heart as a share of the inner width of the chest.
HEART_RATIOS: dict[str, tuple[float, float]] = {
    "normal": (0.37, 0.495),
    "small": (0.51, 0.53),
    "moderate": (0.54, 0.585),
    "large": (0.60, 0.67),
}
#: Millimetres by which a raised diaphragm is higher.
RAISED: dict[str, tuple[float, float]] = {"small": (24.0, 30.0), "moderate": (32.0, 42.0), "large": (46.0, 62.0)}
#: Millimetres by which the spine is out of the midline.
BENT: dict[str, tuple[float, float]] = {"small": (14.0, 18.0), "moderate": (21.0, 29.0), "large": (32.0, 42.0)}
#: Millimetres by which overinflated lungs are longer.
OVERINFLATED: dict[str, tuple[float, float]] = {"small": (12.0, 18.0), "moderate": (20.0, 27.0), "large": (30.0, 38.0)}
#: Millimetres by which atelectasis of the lower zone draws the diaphragm up.
_DRAWN_UP: dict[str, float] = {"small": 3.0, "moderate": 6.0, "large": 10.0}


@dataclass(frozen=True, slots=True)
class Chest:
    """The measures of a chest."""

    half_width: float  # of the inner chest
    dome: dict[LungSide, float]  # y of the diaphragm's top
    usual_dome: dict[LungSide, float]  # the same were it not raised
    fall: float  # from the dome to the costophrenic angle
    length: float  # from apex to diaphragm, in an ordinary breath
    heart: float  # width of the heart
    heart_lift: float
    heart_shift: float  # of the heart to the left
    knob: float  # radius of the aortic knob
    bend: float  # how far the spine is out of the midline
    yaw: float  # how far the front of the chest is turned to the side
    fat: float  # 0 slim … 1 heavy
    breast: float  # thickness of the breast's shadow
    breast_place: Point
    rib_tilt: float
    rib_strength: float
    markings: float  # strength of the vessels
    air: float  # of the lungs
    front: bool  # taken from the front (AP)

    # Places

    def middle(self, y: float) -> float:
        """x of the middle of the chest at a height; it follows a bent spine half-way."""
        return 0.55 * self.spine(y)

    def spine(self, y: float) -> float:
        place = (y - 0.5 * self.length) / (0.62 * self.length)
        hill = 1.0 / (1.0 + place * place)
        return self.bend * (1.35 * hill * hill - 0.55)

    def lateral(self, y: float) -> float:
        """Outward place of the lung's outer edge."""
        left = 1.0 - min(max(y / (0.82 * self.length), 0.0), 1.0)
        return 26.0 + (self.half_width - 26.0) * math.sqrt(1.0 - left * left)

    def medial(self, side: LungSide, y: float) -> float:
        """Outward place of the lung's visible inner edge: the mediastinum or the heart."""
        edge = self._mediastinum(side, y)
        x, centre, across, down, lean = self._ventricle if side == "left" else self._atrium
        height = (y - centre) / down
        if abs(height) < 1.0:
            border = x + lean * (y - centre) + SIGN[side] * across * math.sqrt(1.0 - height * height)
            edge = max(edge, SIGN[side] * border)
        return edge

    def diaphragm(self, side: LungSide, outward: float) -> float:
        top = 0.44 * self.half_width
        place = (outward - top) / (self.half_width - top)
        squared = place * place
        return self.dome[side] + self.fall * squared * (0.5 + 0.5 * squared if place > 0 else 0.4)

    def point(self, side: LungSide, across: float, height: float) -> Point:
        """A place in a lung: `across` from its inner (0) to its outer edge (1), `height` from apex (0) to diaphragm (1)."""
        y = height * self.dome[side]
        outer, inner = self.lateral(y) - 4.0, self.medial(side, y) + 4.0
        outward = inner + across * max(outer - inner, 4.0)
        return self.middle(y) + SIGN[side] * outward, height * self.diaphragm(side, outward)

    def carina(self) -> Point:
        y = 0.37 * self.length
        return self.middle(y) + 0.5 * self.yaw, y

    def hilum(self, side: LungSide) -> Point:
        y = 0.44 * self.length + (3.0 if side == "right" else -7.0)
        return self.middle(y) + SIGN[side] * 38.0, y

    def rib(self, side: LungSide, number: int, outward: float) -> Point:
        """A place on the middle of a posterior rib."""
        share = outward / self.half_width
        y = self._rib_spacing * (number - 0.25) + self.rib_tilt * self._rib_fall(share)
        return self.spine(y) * 0.7 + SIGN[side] * outward, y

    def rib_at(self, share: float, y: float) -> int:
        """The number of the posterior rib that is nearest to a height, at a share of the half width."""
        return max(1, round((y - self.rib_tilt * self._rib_fall(share)) / self._rib_spacing + 0.25))

    @property
    def _rib_spacing(self) -> float:
        return self.length / 9.4

    @staticmethod
    def _rib_fall(share: float) -> float:
        squared = share * share
        return 6.0 * share + 34.0 * squared * squared

    def _mediastinum(self, side: LungSide, y: float) -> float:
        wide = 1.13 if self.front else 1.0
        if side == "right":
            return wide * (22.0 + 9.0 * step((y - 0.27 * self.length) / 60.0))
        return wide * (19.0 + 15.0 * step((y - 0.36 * self.length) / 40.0))

    @property
    def _ventricle(self) -> tuple[float, float, float, float, float]:
        """Of the left heart: centre, half axes, and how far it leans for each mm downwards."""
        down = 0.31 * self.heart + 19.0
        return (
            0.235 * self.heart + self.heart_shift,
            self.usual_dome["left"] + 8.0 - down - self.heart_lift,
            0.40 * self.heart,
            down,
            0.22,
        )

    @property
    def _atrium(self) -> tuple[float, float, float, float, float]:
        down = 0.30 * self.heart + 12.0
        y = self.usual_dome["right"] - 0.30 * self.heart - 4.0 - self.heart_lift
        return -0.08 * self.heart + self.heart_shift, y, 0.28 * self.heart, down, 0.0

    # Fields, drawn on a canvas

    def middles(self, canvas: Canvas) -> Floats:
        """(size, size) x of the middle of the chest."""
        middle: Floats = self.spines(canvas) * 0.55
        return middle

    def spines(self, canvas: Canvas) -> Floats:
        place = (canvas.y - 0.5 * self.length) * (1.0 / (0.62 * self.length))
        bent: Floats = (1.35 * bump(place * place) - 0.55) * self.bend
        return bent

    def lung(self, canvas: Canvas, outward: Floats, inset: float = 0.0) -> Floats:
        """(size, size) field, above 0 within the chest wall of a side; `inset` mm from its wall, more at the apex.

        The diaphragm is not part of it (see `above_diaphragm`).
        """
        width = self.half_width - inset - 26.0
        height = np.maximum(1.0 - (canvas.y - 1.7 * inset) * (1.0 / (0.82 * self.length - 1.7 * inset)), 0.0)
        across = np.maximum((outward - 26.0) * (1.0 / width), (26.0 - outward) * (1.0 / 44.0))
        low = np.maximum(canvas.y - 0.9 * self.length, 0.0) * (1.0 / self.length)
        across = np.maximum(across, 0.0) * (1.0 + 0.15 * low)
        field: Floats = 1.0 - across * across - height * height
        return field

    def above_diaphragm(self, side: LungSide, outward: Floats, y: Floats, usual: bool = False) -> Floats:
        """(size, size) millimetres above the diaphragm; `usual`: above where it would be were it not raised."""
        top = 0.44 * self.half_width
        place = (outward - top) * (1.0 / (self.half_width - top))
        squared = place * place
        bowl = np.where(place > 0.0, 0.5 + 0.5 * squared, 0.4) * squared * self.fall
        return (self.usual_dome[side] if usual else self.dome[side]) + bowl - y

    def heart_shape(self, canvas: Canvas, x: Floats) -> Floats:
        """(size, size) how much of each pixel is heart; `x` from the middle of the chest."""
        shape = canvas.blank()
        for centre_x, centre_y, across, down, lean in (self._ventricle, self._atrium):
            v = canvas.y - centre_y
            u = (x - centre_x - lean * v) * (1.0 / across)
            v = v * (1.0 / down)
            np.maximum(shape, canvas.inside(1.0 - u * u - v * v, 2.5), out=shape)
        return shape

    def mediastinum_shape(self, canvas: Canvas, x: Floats) -> Floats:
        """(size, size) how much of each pixel is mediastinum, without the heart."""
        wide = 1.13 if self.front else 1.0
        right = wide * (22.0 + 9.0 * smooth((canvas.y - 0.27 * self.length) * (1.0 / 60.0)))
        left = wide * (19.0 + 15.0 * smooth((canvas.y - 0.36 * self.length) * (1.0 / 40.0)))
        shape = smooth((right + x) * (1.0 / 5.0) + 0.5) * smooth((left - x) * (1.0 / 5.0) + 0.5)
        for out, height, radius in ((17.0 + 0.4 * self.yaw, 0.275, self.knob), (18.0, 0.44, 0.13 * self.heart)):
            u, v = (x - out) * (1.0 / radius), (canvas.y - height * self.length) * (0.8 / radius)
            np.maximum(shape, canvas.inside(1.0 - u * u - v * v, 3.5), out=shape)
        return shape

    def ribs(self, canvas: Canvas, fractures: dict[LungSide, list[tuple[int, float]]]) -> Floats:
        """(size, size) thickness of the ribs, from 0 to about 1; a fractured rib (number, outward) has a gap and a step."""
        spine = self.spines(canvas) * 0.7
        layer = canvas.blank()
        for side in SIDES:
            outward = (canvas.x - spine) * SIGN[side]
            share = outward * (1.0 / self.half_width)
            squared = share * share
            fall = self.rib_tilt * (6.0 * share + 34.0 * squared * squared)
            wall = smooth((1.0 - self._wall(canvas, outward)) * 12.0)
            spacing = self._rib_spacing
            number = (canvas.y - fall) * (1.0 / spacing) + 0.25
            nearest = np.floor(number + 0.5)
            offset = (number - nearest) * spacing
            whole = (nearest >= 1.0) & (nearest <= 11.0) & (outward > 14.0)
            for rib, place in fractures.get(side, ()):
                mine = nearest == float(rib)
                offset = np.where(mine & (outward > place), offset - 0.38 * spacing, offset)
                whole = whole & ~(mine & (np.abs(outward - place) < 3.6))
            back = self._rib_profile(offset, 4.4, canvas.pixel) * whole
            # The front of the ribs runs down towards the middle, and ends where cartilage begins.
            front_fall = self.rib_tilt * (40.0 + 62.0 * (1.0 - share))
            number = (canvas.y - front_fall + self.yaw * SIGN[side]) * (1.0 / (spacing * 1.12)) + 0.55
            nearest = np.floor(number + 0.5)
            front = self._rib_profile((number - nearest) * (spacing * 1.12), 5.6, canvas.pixel)
            front = front * ((nearest >= 1.0) & (nearest <= 7.0)) * smooth((share - 0.42) * 8.0)
            layer += (back + 0.55 * front) * wall
        return layer

    def _wall(self, canvas: Canvas, outward: Floats) -> Floats:
        """(size, size) 1 - lung field of the chest wall with its ribs: below 1 inside."""
        height = np.maximum(1.0 - (canvas.y + 6.0) * (1.0 / (0.82 * self.length)), 0.0)
        across = np.maximum(outward - 16.0, 0.0) * (1.0 / (self.half_width - 10.0))
        wall: Floats = across * across + height * height
        return wall

    @staticmethod
    def _rib_profile(offset: Floats, half: float, pixel: float) -> Floats:
        """Bone across a rib: thicker at its edges, where the cortex is seen along."""
        distance = np.abs(offset)
        body = np.clip((half - distance) * (1.0 / max(pixel, 1.2)) + 0.5, 0.0, 1.0)
        edge = np.clip(1.0 - np.abs(distance - (half - 0.8)) * (1.0 / max(pixel, 1.3)), 0.0, 1.0)
        profile: Floats = 0.62 * body + 0.4 * edge
        return profile

    def clavicle(self, side: LungSide) -> list[Point]:
        raised = -13.0 if self.front else 0.0
        s = SIGN[side]
        return curve(
            [
                (self.middle(20.0) + self.yaw + s * 13.0, 27.0 + raised),
                (self.middle(10.0) + self.yaw + s * 55.0, 19.0 + raised),
                (s * 105.0, 4.0 + 0.6 * raised),
                (s * (self.half_width + 34.0), -10.0 + 0.3 * raised),
            ],
            4,
        )


def chest_of(study: Study) -> Chest:
    """The chest of a study: the patient's build, the breath and the pose of the day, and findings that change its shape."""
    body = Draws(study.body, "body")
    day = Draws(study.seed, "breath")
    front = study.view == "AP"
    found = {(finding.concept, finding.side): finding for finding in study.findings}

    def extra(concept: str, table: dict[str, tuple[float, float]], side: LungSide | None = None) -> float:
        finding = found.get((concept, side))
        if finding is None:
            return 0.0
        return Draws(finding.spot, concept).uniform(*table[finding.severity])

    size = body.bell(1.0, 0.06)
    fat = body.unit()
    woman = body.chance(0.5)
    longer = extra("hyperinflation", OVERINFLATED)
    breath = day.bell(0.0, 10.0) - (10.0 if front else 0.0)
    length = (222.0 * size + body.bell(0.0, 6.0) + 0.6 * min(breath, 0.0)) + longer
    half_width = 136.0 * size + body.bell(0.0, 4.0) + 0.1 * longer
    usual: dict[LungSide, float] = {}
    dome: dict[LungSide, float] = {}
    for side in SIDES:
        usual[side] = length + (9.0 if side == "left" else 0.0) + 0.4 * breath + day.bell(0.0, 3.0)
        lost = sum(
            _DRAWN_UP[finding.severity]
            for finding in study.findings
            if finding.concept == "atelectasis" and finding.side == side and finding.zone == "lower"
        )
        dome[side] = usual[side] - extra("elevated_diaphragm", RAISED, side) - min(lost, 14.0)
    enlarged = found.get(("cardiomegaly", None))
    low, high = HEART_RATIOS[enlarged.severity if enlarged else "normal"]
    own = body.unit()
    share = Draws(enlarged.spot, "heart").unit() if enlarged else own
    ratio = (low + (high - low) * share) * (1.12 if front else 1.0) - (0.0018 * longer if not enlarged else 0.0)
    heart_shift = body.bell(0.0, 3.5) + day.bell(0.0, 2.5)
    knob = body.uniform(14.0, 20.0)
    straight = body.bell(0.0, 1.6)
    bend = extra("scoliosis", BENT)
    return Chest(
        half_width=half_width,
        dome=dome,
        usual_dome=usual,
        fall=(44.0 * size - 0.75 * longer) * day.uniform(0.9, 1.1),
        length=length,
        heart=ratio * 2.0 * half_width,
        heart_lift=0.35 * max(-breath, 0.0),
        heart_shift=heart_shift,
        knob=knob,
        bend=bend * Draws(found["scoliosis", None].spot, "side").sign() if bend else straight,
        yaw=day.bell(0.0, 4.5),
        fat=fat,
        breast=body.uniform(0.03, 0.18) if woman else 0.0,
        breast_place=(body.uniform(66.0, 86.0), body.uniform(0.78, 0.98)),
        rib_tilt=body.uniform(0.75, 1.25) - (0.006 * longer),
        rib_strength=body.uniform(0.6, 1.4),
        markings=body.uniform(0.6, 1.4),
        air=body.uniform(0.88, 1.06) + 0.0015 * longer,
        front=front,
    )
