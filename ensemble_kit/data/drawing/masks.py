"""Five kinds of mask, worn properly, under the nose, or on the chin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ensemble_kit.data.drawing.brush import Brush, Colour, Points, colour, curve, mix, oval
from ensemble_kit.data.drawing.head import WHITE, outline
from ensemble_kit.data.drawing.look import Look, Shot

_SURGICAL = [colour(150, 200, 228), colour(164, 216, 206), colour(240, 190, 206), colour(196, 190, 228)]
_FOLDED = [colour(246, 246, 244), colour(222, 222, 222), colour(232, 214, 190), colour(58, 60, 66)]
_CLOTH = [colour(44, 46, 54), colour(52, 66, 110), colour(130, 48, 60), colour(70, 104, 90), colour(206, 170, 120)]
_BRIGHT = [colour(242, 196, 92), colour(236, 140, 130), colour(120, 180, 200), colour(240, 232, 220)]
_CUP = [colour(244, 242, 236), colour(214, 218, 222), colour(190, 200, 204)]


class Mask:
    """A mask's place on one face: `top` and `bottom` in face heights, its outline, and its middle's turn."""

    def __init__(self, look: Look, shot: Shot, top: float, bottom: float):
        self.look, self.top, self.bottom = look, top, bottom
        self.dx = shot.turn * 9.0
        face = outline(look)
        right = face[face[:, 0] > 0]
        self._ys, self._xs = right[:, 1] / look.half_height, right[:, 0]

    def reach(self, y: float) -> float:
        """The mask's half width at height `y` (in face heights)."""
        order = np.argsort(self._ys)
        return float(np.interp(y, self._ys[order], self._xs[order])) * 1.015

    def row(self, share: float, *, width: float = 1.0, sag: float = 0.06) -> list[tuple[float, float]]:
        """A line across the mask, `share` of the way down, sagging in the middle."""
        h, span = self.look.half_height, self.bottom - self.top
        y = self.top + 0.05 + share * (span - 0.05)
        reach = min(self.reach(min(y, 0.90)), self.look.half_width * (1.35 - 0.62 * share)) * width
        return [(-reach, y * h), (self.dx, (y + sag) * h), (reach, y * h)]

    def outline(self) -> Points:
        """From the left edge over the nose to the right edge and back under the chin."""
        w, h, top, low = self.look.half_width, self.look.half_height, self.top, self.bottom
        side, mid, corner = top + 0.05, (top + low) / 2, top + 0.80 * (low - top)
        upper = [(-self.reach(side), side * h), (-0.45 * w + self.dx, (top + 0.07) * h), (self.dx, (top - 0.04) * h)]
        upper += [(0.45 * w + self.dx, (top + 0.07) * h), (self.reach(side), side * h)]
        wide = min(self.reach(min(corner, 0.9)), 0.80 * w)
        lower = [(self.reach(mid), mid * h), (wide, corner * h), (0.40 * w, (low - 0.03) * h), (0, low * h)]
        lower += [(-x, y) for x, y in lower[-2::-1]]
        return np.concatenate([curve(upper), curve(lower)])


def _surgical(brush: Brush, mask: Mask, paint: Colour, _rng: np.random.Generator) -> None:
    brush.fill(mask.outline(), paint)
    for share in (0.34, 0.54, 0.74):
        brush.stroke(mask.row(share), paint * 0.84, 4, taper=0.3)
    w, h = mask.look.half_width, mask.look.half_height
    wire = [(-0.4 * w + mask.dx, (mask.top + 0.10) * h), (mask.dx, (mask.top + 0.0) * h)]
    brush.stroke([*wire, (0.4 * w + mask.dx, (mask.top + 0.10) * h)], mix(paint, WHITE, 0.6), 6, taper=0.4)


def _folded(brush: Brush, mask: Mask, paint: Colour, _rng: np.random.Generator) -> None:
    brush.fill(mask.outline(), paint)
    edge = mix(paint * 0.82, colour(90, 100, 110), 0.15)
    brush.stroke(mask.row(0.30, sag=-0.07), edge, 5, taper=0.3)
    brush.stroke(mask.row(0.70, sag=0.09), edge, 5, taper=0.3)


def _cloth(brush: Brush, mask: Mask, paint: Colour, _rng: np.random.Generator) -> None:
    brush.fill(mask.outline(), paint)
    h = mask.look.half_height
    seam = [(mask.dx, mask.top * h), (1.3 * mask.dx, (mask.top + mask.bottom) / 2 * h), (0, mask.bottom * h)]
    brush.stroke(seam, mix(paint, WHITE, 0.25), 4, taper=0.2)


def _patterned(brush: Brush, mask: Mask, paint: Colour, rng: np.random.Generator) -> None:
    brush.fill(mask.outline(), paint)
    second = mix(paint, WHITE, 0.75) if paint.sum() < 620 else paint * 0.7
    lines = max(2, round(5 * (mask.bottom - mask.top)))
    if rng.random() < 0.5:
        for share in np.linspace(0.16, 0.92, lines):
            brush.stroke(mask.row(share, width=0.97), second, 9, taper=0)
        return
    for line, share in enumerate(np.linspace(0.14, 0.88, lines)):
        left, centre, right = mask.row(share, width=0.84)
        places = curve([left, centre, right], steps=3)[line % 2 :: 2]
        brush.dots(places.tolist(), 6.5, second)


def _cup(brush: Brush, mask: Mask, paint: Colour, rng: np.random.Generator) -> None:
    brush.fill(mask.outline(), paint)
    w, h = mask.look.half_width, mask.look.half_height
    middle = mask.top + 0.58 * (mask.bottom - mask.top)
    brush.soft(oval((mask.dx, middle * h), (0.5 * w, 0.2 * h)), WHITE, 0.5, 12)
    valve = (mask.dx + rng.choice((-1, 1)) * 0.30 * w, (middle + 0.03) * h)
    for size, tone in ((19, paint * 0.74), (15, mix(paint, colour(120, 150, 190), 0.35)), (8, paint * 0.8)):
        brush.dots([valve], size * min(1.0, mask.bottom - mask.top + 0.2), tone)


KINDS: list[tuple[Callable[[Brush, Mask, Colour, np.random.Generator], None], list[Colour]]] = [
    (_surgical, _SURGICAL),
    (_folded, _FOLDED),
    (_cloth, _CLOTH),
    (_patterned, _BRIGHT + _SURGICAL),
    (_cup, _CUP),
]
"""A way to draw a mask and its colours; photo `mask1` has the first, and so on."""


def draw_mask(brush: Brush, look: Look, shot: Shot, kind: int, state: str, rng: np.random.Generator) -> None:
    """Draws a mask of one of the `KINDS` with its straps.

    Args:
        brush: the canvas.
        look: the face it is on.
        shot: the photo's pose.
        kind: index into `KINDS`.
        state: "worn" (over the nose) or "incorrect" (under the nose, now and then under the mouth).
        rng: its own colour and fit.
    """
    draw, palette = KINDS[kind]
    paint = np.clip(palette[rng.integers(len(palette))] * rng.uniform(0.92, 1.05) + rng.normal(0, 5, 3), 10, 252)
    if state == "worn":
        top, bottom = rng.normal(0.08, 0.015), rng.normal(1.08, 0.015)
    elif rng.random() < 0.9:
        top, bottom = rng.normal(0.48, 0.015), rng.normal(1.12, 0.015)
    else:
        top, bottom = rng.normal(0.76, 0.015), rng.normal(1.17, 0.015)
    mask = Mask(look, shot, top, bottom)
    _draw_straps(brush, mask, mix(paint, WHITE, 0.5))
    brush.soft(mask.outline() + np.array((0, 7)), look.line_tone, 0.35, 6)
    draw(brush, mask, paint, rng)
    if state != "worn":
        _draw_bunching(brush, mask, paint)
    lower = oval((0, (bottom - 0.06) * look.half_height), (0.62 * look.half_width, 0.10 * look.half_height))
    brush.soft(lower, paint * 0.55, 0.30, 9)


def _draw_bunching(brush: Brush, mask: Mask, paint: Colour) -> None:
    """A mask pulled down bunches up: deep folds close together, which no mask over the nose has."""
    h = mask.look.half_height
    for share in (0.12, 0.42, 0.72):
        fold = mask.row(share, width=0.86, sag=0.05)
        brush.stroke([(x, y + 0.035 * h) for x, y in fold], mix(paint, WHITE, 0.7), 7, taper=0.3)
        brush.stroke(fold, paint * 0.5, 7, taper=0.3)


def _draw_straps(brush: Brush, mask: Mask, paint: Colour) -> None:
    w, h = mask.look.half_width, mask.look.half_height
    low = mask.top + 0.62 * (mask.bottom - mask.top)
    for side in (-1, 1):
        ear = side * 1.03 * w
        brush.stroke([(side * mask.reach(mask.top) * 0.98, (mask.top + 0.07) * h), (ear, -0.05 * h)], paint, 5, taper=0)
        brush.stroke([(side * mask.reach(low) * 0.97, low * h), (ear, 0.2 * h)], paint, 5, taper=0)
