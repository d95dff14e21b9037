"""Shapes on a grid of pixels, in millimetres of the patient, exact on every machine.

Coordinates are those of somebody who looks at the film: x grows to the right of the image, which is the patient's left,
and y downwards. Arrays are (size, size) float32. Only + - * /, square roots, comparisons and integers are used, in a fixed order:
what they give is the same on every machine, which holds neither for sin, exp and powers nor for sums of many numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from graphprep.phantom.draws import Draws, Floats

Point = tuple[float, float]
Window = tuple[slice, slice]
Mask = npt.NDArray[np.bool_]


def smooth(values: Floats) -> Floats:
    """0 below 0, 1 above 1, and a smooth step between."""
    inside = np.clip(values, 0.0, 1.0)
    return inside * inside * (3.0 - 2.0 * inside)


def step(value: float) -> float:
    """`smooth` of one number."""
    inside = min(max(value, 0.0), 1.0)
    return inside * inside * (3.0 - 2.0 * inside)


def bump(squared: Floats) -> Floats:
    """A hill over a squared distance: 1 at 0, a quarter at 1, and thin beyond."""
    base = 1.0 / (1.0 + squared)
    return base * base


class Canvas:
    """The pixels of an image and where in the patient they are.

    `pixel` is the edge of a pixel in mm, `centre` the place in the patient of the image's centre, and `turn` the tangent of
    half the angle by which the patient leans.
    """

    def __init__(self, size: int, pixel: float, centre: Point = (0.0, 0.0), turn: float = 0.0) -> None:
        self.size = size
        self.pixel = pixel
        self._centre = centre
        self._cosine = (1.0 - turn * turn) / (1.0 + turn * turn)
        self._sine = 2.0 * turn / (1.0 + turn * turn)
        steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2.0) * pixel
        u, v = steps[None, :], steps[:, None]
        self.x: Floats = u * self._cosine - v * self._sine + centre[0]
        self.y: Floats = u * self._sine + v * self._cosine + centre[1]

    def blank(self) -> Floats:
        return np.zeros((self.size, self.size), np.float32)

    def pixel_of(self, point: Point) -> Point:
        """Column and row of a place in the patient."""
        x, y = point[0] - self._centre[0], point[1] - self._centre[1]
        middle = (self.size - 1) / 2.0
        column = (self._cosine * x + self._sine * y) / self.pixel + middle
        row = (self._cosine * y - self._sine * x) / self.pixel + middle
        return column, row

    def window(self, points: Iterable[Point], margin: float) -> Window:
        """The rows and columns around some places, with a margin in mm; empty where they are not in the image."""
        pixels = [self.pixel_of(point) for point in points]
        extra = margin / self.pixel + 1.5

        def span(values: list[float]) -> slice:
            low = min(max(math.floor(min(values) - extra), 0), self.size)
            return slice(low, min(max(math.ceil(max(values) + extra) + 1, low), self.size))

        return span([row for _, row in pixels]), span([column for column, _ in pixels])

    def inside(self, field: Floats, soft: float = 0.0) -> Floats:
        """How much of each pixel lies where `field` > 0: an edge of one pixel, or one that is `soft` mm wide."""
        across, down = _difference(field, 1), _difference(field, 0)
        slope = np.sqrt(across * across + down * down) * 0.5
        width = max(soft / self.pixel, 1.0)
        share = field / (np.maximum(slope, 1e-6) * width) + 0.5
        return smooth(share) if soft > 0.0 else np.clip(share, 0.0, 1.0)

    def near(self, field: Floats, radius: float) -> Floats:
        """How much of each pixel lies within `radius` mm of the line where `field` is 0."""
        across, down = _difference(field, 1), _difference(field, 0)
        slope = np.sqrt(across * across + down * down) * 0.5
        return _covered(np.abs(field) / np.maximum(slope, 1e-6) * self.pixel, radius, self.pixel)

    def cloud(self, draws: Draws, wavelength: float) -> Floats:
        """Smooth noise from -1 to 1 whose hills are `wavelength` mm wide."""
        cells = max(2, int(self.size * self.pixel / wavelength) + 1)
        lattice = draws.lattice(cells + 1, cells + 1)
        place = np.arange(self.size, dtype=np.float32) * (cells / self.size)
        first = place.astype(np.int64)
        rest = smooth(place - first.astype(np.float32))
        rows = lattice[first] * (1.0 - rest)[:, None] + lattice[first + 1] * rest[:, None]
        return np.ascontiguousarray(rows[:, first] * (1.0 - rest) + rows[:, first + 1] * rest)

    def stroke(self, layer: Floats, points: Sequence[Point], radius: float, end: float | None = None) -> None:
        """Draw a line of this radius (mm) on a layer, from 0 to 1, where it covers more than what is there.

        With `end`, the radius goes over into that at the last point.
        """
        last = radius if end is None else end
        count = max(len(points) - 1, 1)
        for number, (start, stop) in enumerate(pairwise(points)):
            here = radius + (last - radius) * (number + 0.5) / count
            window = self.window((start, stop), here)
            piece = layer[window]
            if piece.size:
                distance = _distance(self.x[window], self.y[window], start, stop)
                np.maximum(piece, _covered(distance, here, self.pixel), out=piece)

    def disc(self, layer: Floats, centre: Point, radius: float) -> None:
        """Draw a disc on a layer, as `stroke` draws a line."""
        self.stroke(layer, (centre, centre), radius)


def _difference(field: Floats, axis: int) -> Floats:
    """Twice the slope per pixel along an axis."""
    before = np.concatenate((np.take(field, [0], axis), field), axis)
    after = np.concatenate((field, np.take(field, [-1], axis)), axis)
    size = field.shape[axis]
    change = after - before
    ahead, behind = (change[1:], change[:-1]) if axis == 0 else (change[:, 1:], change[:, :-1])
    total: Floats = ahead + behind
    assert total.shape[axis] == size
    return total


def _distance(x: Floats, y: Floats, start: Point, stop: Point) -> Floats:
    across, down = stop[0] - start[0], stop[1] - start[1]
    squared = across * across + down * down
    from_x, from_y = x - start[0], y - start[1]
    if squared > 1e-9:
        along = np.minimum(np.maximum(from_x * (across / squared) + from_y * (down / squared), 0.0), 1.0)
        from_x = from_x - along * across
        from_y = from_y - along * down
    distance: Floats = np.sqrt(from_x * from_x + from_y * from_y)
    return distance


def _covered(distance: Floats, radius: float, pixel: float) -> Floats:
    """How much of a pixel at this distance (mm) a line of this radius covers; a line that is thinner than a pixel is fainter."""
    drawn = max(radius, 0.5 * pixel)
    covered: Floats = np.minimum(np.maximum((drawn + 0.5 * pixel - distance) * (1.0 / pixel), 0.0), 1.0)
    return covered * min(1.0, 2.0 * radius / pixel)


def curve(points: Sequence[Point], pieces: int = 6) -> list[Point]:
    """A smooth line through some points (Catmull and Rom), `pieces` straight pieces from each to the next."""
    ends = [points[0], *points, points[-1]]
    line = [points[0]]
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        for number in range(1, pieces + 1):
            t = number / pieces
            line.append((_between(a[0], b[0], c[0], d[0], t), _between(a[1], b[1], c[1], d[1], t)))
    return line


def _between(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (2.0 * b + t * ((c - a) + t * ((2.0 * a - 5.0 * b + 4.0 * c - d) + t * (3.0 * b - 3.0 * c + d - a))))
