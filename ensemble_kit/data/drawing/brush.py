"""A small vector brush over OpenCV: shapes given in face units, anti-aliased, placed by one affine map."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble_kit.arrays import ByteArray

Points: TypeAlias = NDArray[np.float64]
"""`(n_points, 2)`: x to the right, y downwards; one unit is 1/512 of the photo's height, 0, 0 the face's centre."""
Colour: TypeAlias = NDArray[np.float64]
"""`(3,)` red, green, blue, 0 to 255."""

_SHIFT = 4
_FINE = 1 << _SHIFT
"""OpenCV draws at sub-pixel places given as fixed-point numbers with `_SHIFT` fractional bits."""


def colour(*rgb: float) -> Colour:
    return np.array(rgb, dtype=np.float64)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    return first + (second - first) * min(max(float(share), 0.0), 1.0)


@lru_cache(maxsize=16)
def _spline(steps: int) -> Points:
    """Weights `(steps, 4)` of four knots for the points between the middle two (Catmull-Rom)."""
    t = np.arange(steps)[:, None] / steps
    weights = [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    return np.concatenate(weights, axis=1) / 2


def curve(points: ArrayLike, *, closed: bool = False, steps: int = 6) -> Points:
    """A Catmull-Rom spline through `points` `(n, 2)`, `steps` pieces between two of them."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([knots[:1] * 2 - knots[1:2], knots, knots[-1:] * 2 - knots[-2:-1]])
    pieces = len(padded) - 3
    windows = padded[np.arange(pieces)[:, None] + np.arange(4)]
    path = (_spline(steps) @ windows).reshape(-1, 2)
    return path if closed else np.concatenate([path, knots[-1:]])


def mirrored(right: ArrayLike) -> Points:
    """A closed outline from its right half: the points, then their mirror images (those on the axis only once)."""
    half = np.asarray(right, dtype=np.float64)
    return np.concatenate([half, half[half[:, 0] != 0][::-1] * (-1, 1)])


@lru_cache(maxsize=16)
def _circle(steps: int) -> Points:
    angle = np.arange(steps) * (2 * np.pi / steps)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def oval(centre: ArrayLike, radii: ArrayLike, steps: int = 28) -> Points:
    """An ellipse as a closed outline."""
    outline: Points = _circle(steps) * np.asarray(radii) + np.asarray(centre)
    return outline


@lru_cache(maxsize=64)
def _swell(count: int) -> NDArray[np.float64]:
    return np.sin(np.linspace(0, np.pi, count))[:, None] ** 0.6


def ribbon(points: ArrayLike, width: float, *, taper: float = 1.0, steps: int = 5) -> Points:
    """The outline of a brush stroke along a spline; `taper` 1 ends in points, 0 in blunt ends."""
    path = curve(points, steps=steps)
    slope = np.empty_like(path)
    slope[1:-1] = path[2:] - path[:-2]
    slope[0], slope[-1] = path[1] - path[0], path[-1] - path[-2]
    length = np.sqrt((slope * slope).sum(axis=1, keepdims=True)) + 1e-9
    half = slope[:, ::-1] * (-1, 1) / length * (width / 2 * (1 - taper + taper * _swell(len(path))))
    return np.concatenate([path + half, (path - half)[::-1]])


class Brush:
    """An RGB canvas `(height, width, 3)` uint8 and the map from face units to its pixels.

    Args:
        height, width: of the canvas, in pixels.
        unit: pixels per face unit.
        centre: the face's centre on the canvas, in pixels (x, y).
        angle: the head's tilt in radians.
    """

    def __init__(self, height: int, width: int, *, unit: float, centre: tuple[float, float], angle: float = 0.0):
        self.canvas: ByteArray = np.empty((height, width, 3), dtype=np.uint8)
        self.unit = unit
        self._centre = np.asarray(centre)
        cosine, sine = np.cos(angle), np.sin(angle)
        self._turn = np.array([[cosine, sine], [-sine, cosine]]) * unit

    def pixels(self, points: ArrayLike) -> Points:
        placed: Points = np.asarray(points, dtype=np.float64) @ self._turn + self._centre
        return placed

    def fill(self, points: ArrayLike, paint: Colour) -> None:
        """A filled outline."""
        fixed = np.round(self.pixels(points) * _FINE).astype(np.int32)
        cv2.fillPoly(self.canvas, [fixed], _scalar(paint), cv2.LINE_AA, _SHIFT)

    def stroke(self, points: ArrayLike, paint: Colour, width: float, *, taper: float = 1.0) -> None:
        """A brush stroke along a spline through `points`."""
        self.fill(ribbon(points, width, taper=taper), paint)

    def soft(self, points: ArrayLike, paint: Colour, strength: float, blur: float) -> None:
        """A translucent outline with soft edges: `strength` of `paint` at its middle, blurred by `blur` units.

        Only the pixels around it are touched, and a wide blur is worked out on a coarser grid: both for speed.
        """
        if strength <= 0:
            return
        sigma = max(blur * self.unit, 0.3)
        coarse = max(1, int(sigma / 1.5))
        outline = self.pixels(points)
        height, width = self.canvas.shape[:2]
        left, top = (max(0, int(v)) for v in outline.min(axis=0) - 3 * sigma)
        right, bottom = (int(v) for v in outline.max(axis=0) + 3 * sigma + 2)
        part = self.canvas[top : min(bottom, height), left : min(right, width)]
        if part.size == 0:
            return
        rows, columns = (-(-n // coarse) for n in part.shape[:2])
        cover = np.zeros((rows, columns), dtype=np.uint8)
        fixed = np.rint((outline - (left, top)) * (_FINE / coarse)).astype(np.int32)
        cv2.fillPoly(cover, [fixed], (255,), cv2.LINE_AA, _SHIFT)
        cover = cv2.GaussianBlur(cover, (0, 0), sigma / coarse, borderType=cv2.BORDER_REPLICATE)
        if coarse > 1:
            cover = cv2.resize(cover, None, fx=coarse, fy=coarse, interpolation=cv2.INTER_LINEAR)
        alpha = cover[: part.shape[0], : part.shape[1], None] * np.float32(strength / 255)
        part[...] = part + (paint.astype(np.float32) - part) * alpha

    def dots(self, centres: Sequence[Sequence[float]], radius: float, paint: Colour) -> None:
        """Round dots of one size."""
        for x, y in self.pixels(np.asarray(centres, dtype=np.float64).reshape(-1, 2)) * _FINE:
            size = max(round(radius * self.unit * _FINE), 1)
            cv2.circle(self.canvas, (round(x), round(y)), size, _scalar(paint), -1, cv2.LINE_AA, _SHIFT)


def _scalar(paint: Colour) -> tuple[float, float, float]:
    """The colour as OpenCV's scalar; the canvas is RGB, so the order stays."""
    red, green, blue = np.clip(np.round(paint), 0, 255).tolist()
    return red, green, blue
