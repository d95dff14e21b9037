"""What X-rays pass on their way to the film: air, soft tissue, bone and metal, pixel by pixel, of a chest without lesions."""

from __future__ import annotations

import numpy as np

from graphprep.phantom.canvas import Canvas, Mask, Point, curve, smooth
from graphprep.phantom.chest import SIGN, Chest, chest_of
from graphprep.phantom.draws import Draws, Floats
from graphprep.phantom.scene import SIDES, LungSide, Study

#: Millimetres between chest wall and lung at the side, by the size of a pneumothorax.
COLLAPSE: dict[str, tuple[float, float]] = {"small": (9.0, 14.0), "moderate": (17.0, 27.0), "large": (34.0, 52.0)}

_DIRECTIONS: tuple[Point, ...] = (
    (0.30, -1.0), (0.72, -0.85), (1.0, -0.40), (1.0, 0.12), (0.92, 0.55), (0.62, 0.95), (0.22, 1.0)
)  # fmt: skip


class Film:
    """The layers of an image while it is drawn. Arrays are (size, size).

    `air` is the share of each ray's way through the chest that is air, `bone` and `metal` what is added to soft tissue.
    `hemithorax` is the space within the chest wall above the diaphragm, `lung` the part of it that the lung fills.
    """

    def __init__(self, study: Study, canvas: Canvas, texture: Draws) -> None:
        self.study = study
        self.canvas = canvas
        self.chest: Chest = chest_of(study)
        self.x: Floats = canvas.x - self.chest.middles(canvas)
        self.bone = canvas.blank()
        self.metal = canvas.blank()
        self.fractures: dict[LungSide, list[tuple[int, float]]] = {"right": [], "left": []}
        self.outward: dict[LungSide, Floats] = {}
        self.wall: dict[LungSide, Floats] = {}
        self.hemithorax: dict[LungSide, Floats] = {}
        self.lung: dict[LungSide, Floats] = {}
        self.inset: dict[LungSide, float] = {"right": 0.0, "left": 0.0}
        self.heart = self.chest.heart_shape(canvas, self.x)
        self.mediastinum = self.chest.mediastinum_shape(canvas, self.x)
        self.air = canvas.blank()
        for finding in study.findings:
            if finding.concept == "pneumothorax" and finding.side is not None:
                self.inset[finding.side] = Draws(finding.spot, "collapse").uniform(*COLLAPSE[finding.severity])
        for side in SIDES:
            self._fill(side, texture)
        covered = (1.0 - 0.86 * self.heart) * (1.0 - 0.9 * self.mediastinum)
        self.air *= covered
        self._hila_and_vessels()
        self._airways()

    def displace(self, shape: Floats, amount: float) -> None:
        """Put tissue in place of a share of the air."""
        self.air *= 1.0 - shape * min(max(amount, 0.0), 1.0)

    def lung_mask(self, side: LungSide) -> Mask:
        """The lung field as it is commonly outlined: without heart and mediastinum, diseased parts included."""
        mask: Mask = (self.hemithorax[side] > 0.5) & (self.heart <= 0.5) & (self.mediastinum <= 0.5)
        return mask

    def _fill(self, side: LungSide, texture: Draws) -> None:
        chest, canvas = self.chest, self.canvas
        outward = self.x * SIGN[side]
        own = smooth((outward - 4.0) * 0.2)
        above = canvas.inside(chest.above_diaphragm(side, outward, canvas.y), 1.5)
        self.outward[side] = outward
        self.wall[side] = canvas.inside(chest.lung(canvas, outward), 1.5) * own
        self.hemithorax[side] = self.wall[side] * above
        inset = self.inset[side]
        inner = canvas.inside(chest.lung(canvas, outward, inset)) * own if inset else self.wall[side]
        self.lung[side] = inner * above
        across = np.clip((outward - 6.0) * (1.0 / (chest.half_width - 6.0)), 0.0, 1.0)
        deep = 1.0 - np.square(2.0 * across - 1.0)
        high = np.clip(1.0 - canvas.y * (1.0 / chest.length), 0.0, 1.0)
        amount = (0.60 + 0.24 * deep - 0.10 * high) * chest.air + 0.035 * canvas.cloud(texture, 26.0)
        if inset:
            # The air around a collapsed lung has no tissue in it; the lung holds less air.
            left = self.hemithorax[side] - self.lung[side]
            amount = amount * (1.0 - min(0.006 * inset, 0.3))
            self.air += self.lung[side] * amount + np.maximum(left, 0.0) * 0.90
        else:
            self.air += self.lung[side] * amount

    def _hila_and_vessels(self) -> None:
        chest, canvas = self.chest, self.canvas
        congested = any(finding.concept == "pulmonary_edema" for finding in self.study.findings)
        layer = canvas.blank()
        for side in SIDES:
            draws = Draws(self.study.body, "vessels", side)
            x, y = chest.hilum(side)
            hilum = canvas.blank()
            thick = draws.uniform(7.0, 13.0), draws.uniform(5.0, 9.0)
            canvas.stroke(hilum, [(x - SIGN[side] * 8.0, y - 12.0), (x, y), (x - SIGN[side] * 2.0, y + 24.0)], *thick)
            tree = canvas.blank()
            waiting = [((x, y), direction, 0) for direction in _DIRECTIONS]
            while waiting:
                start, (out, down), order = waiting.pop()
                out, down = out + draws.bell(0.0, 0.10), down + draws.bell(0.0, 0.10)
                length = draws.uniform(24.0, 38.0) * (1.0, 0.85, 0.75, 0.6)[order]
                upward = down < 0.0
                radius = (
                    (2.4, 1.6, 1.05, 0.65)[order] * (0.8 if upward else 1.0) * (1.45 if upward and congested else 1.0)
                )
                stop = (start[0] + SIGN[side] * out * length, start[1] + down * length)
                canvas.stroke(tree, (start, stop), radius * 1.15, radius * 0.85)
                if order < 3:
                    spread = draws.uniform(0.16, 0.45)
                    waiting.append((stop, (out - spread * down, down + spread * out), order + 1))
                    if order < 2:
                        spread = draws.uniform(0.16, 0.45)
                        waiting.append((stop, (out + spread * down, down - spread * out), order + 1))
            layer += np.maximum(tree, 0.8 * hilum) * self.lung[side]
        self.displace(np.minimum(layer, 1.0), 0.36 * chest.markings)

    def _airways(self) -> None:
        chest, canvas = self.chest, self.canvas
        tube = canvas.blank()
        x, y = chest.carina()
        width = Draws(self.study.body, "trachea").uniform(6.8, 9.2)
        canvas.stroke(tube, [(chest.middle(-80.0), -150.0), (chest.middle(0.0) - 2.0, 0.0), (x, y)], width)
        bronchi = canvas.blank()
        for out, down in ((-22.0, 26.0), (30.0, 23.0)):
            canvas.stroke(bronchi, [(x, y - 3.0), (x + out, y + down)], 6.3, 4.8)
        self.air = np.maximum(self.air, np.maximum(0.34 * tube, 0.17 * bronchi))

    def bones(self) -> None:
        """Add the skeleton, with the fractures that were noted."""
        chest, canvas = self.chest, self.canvas
        self.bone += (0.135 * chest.rib_strength) * chest.ribs(canvas, self.fractures)
        outward = np.abs(canvas.x - chest.spines(canvas))
        height = (canvas.y + 6.0) * (1.0 / (0.098 * chest.length))
        within = height - np.floor(height)
        disc = smooth((np.abs(within - 0.5) - 0.36) * 12.0)
        pedicle = np.square((outward - 10.0) * (1.0 / 3.2)) + np.square((within - 0.35) * 5.2)
        body = smooth((17.5 - outward) * 0.4)
        self.bone += body * (0.15 - 0.05 * disc) + 0.05 * np.clip(2.0 - 2.0 * pedicle, 0.0, 1.0)
        limbs = canvas.blank()
        for side in SIDES:
            bone = canvas.blank()
            canvas.stroke(bone, chest.clavicle(side), 5.2)
            marrow = canvas.blank()
            canvas.stroke(marrow, chest.clavicle(side), 3.4)
            limbs += bone - 0.35 * marrow
            # The shoulder blade: beside the lungs, or over them where the film was taken from the front.
            s, edge = SIGN[side], chest.half_width + (-16.0 if chest.front else 5.0)
            blade = [(s * (edge - 6.0), 22.0), (s * (edge - 4.0), 70.0), (s * (edge + 12.0), 126.0)]
            border = canvas.blank()
            canvas.stroke(border, curve(blade), 2.2)
            beyond = smooth((canvas.x * s - edge - 0.1 * (canvas.y - 60.0)) * 0.12)
            limbs += 0.45 * border
            limbs += 0.22 * beyond * smooth((130.0 - canvas.y) * 0.05) * smooth((canvas.y + 10.0) * 0.05)
            head = canvas.blank()
            canvas.disc(head, (s * (chest.half_width + 52.0), 4.0), 25.0)
            canvas.stroke(head, [(s * (chest.half_width + 62.0), 4.0), (s * (chest.half_width + 74.0), 120.0)], 13.0)
            limbs += 0.8 * head
        self.bone += 0.125 * limbs
