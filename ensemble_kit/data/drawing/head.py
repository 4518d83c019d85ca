"""The head: outline, ears, eyes, nose, mouth, and the signs of age in three parts of the face."""

from __future__ import annotations

import numpy as np

from ensemble_kit.data.drawing.brush import Brush, Colour, Points, colour, curve, mirrored, mix, oval
from ensemble_kit.data.drawing.look import GREY, Look, Shot
from ensemble_kit.data.drawing.population import Cues

WHITE = colour(252, 250, 246)
GOLD = colour(236, 200, 96)
_SPOT = colour(120, 70, 44)
_TURN = 9.0
"""How far the features move sideways on a face turned as far as it goes."""


def outline(look: Look, *, jowl: float = 0.0) -> Points:
    """The face from the crown to the chin; `jowl` 0 to 1 fills the lower cheeks."""
    w, h = look.half_width, look.half_height
    jaw, chin = look.jaw + 0.19 * jowl, look.chin + 0.14 * jowl
    half = [
        (0, -h),
        (0.58 * w, -0.87 * h),
        (0.93 * w, -0.48 * h),
        (w, -0.02 * h),
        ((0.94 + 0.04 * jowl) * w, 0.34 * h),
        (jaw * w, 0.68 * h),
        (chin * w, (0.93 + 0.01 * jowl) * h),
        (0, h),
    ]
    return curve(mirrored(half), closed=True)


def draw_neck(brush: Brush, look: Look, lower: float) -> None:
    """The neck with its folds."""
    h, n = look.half_height, look.neck
    shade = mix(mix(look.skin_tone, look.shade_tone, 0.4), look.line_tone, 0.3 * lower)
    right = [(n, 0.55 * h), (n, 1.15 * h), (1.15 * n, 1.30 * h), (1.5 * n, 1.45 * h), (0, 1.75 * h)]
    brush.fill(curve(mirrored(right), closed=True), shade)
    brush.soft(oval((0, 0.98 * h), (n * 0.86, 0.16 * h)), look.shade_tone, 0.9, 4)
    for row, y in enumerate((1.14, 1.23, 1.32)):
        strength = np.clip(lower * 1.7 - 0.35 - 0.4 * row, 0, 0.8)
        if strength > 0.05:
            reach = n * (0.4 + 0.3 * strength)
            crease(brush, look, [(-reach, y * h - 4), (0, y * h + 5), (reach, y * h - 4)], 4.5, strength)


def draw_ears(brush: Brush, look: Look) -> None:
    w, h = look.half_width, look.half_height
    for side in (-1, 1):
        brush.fill(oval((side * w * 1.0, 0.06 * h), (0.13 * w, 0.19 * h)), mix(look.skin_tone, look.shade_tone, 0.25))
        brush.fill(oval((side * w * 1.03, 0.07 * h), (0.06 * w, 0.11 * h)), mix(look.skin_tone, look.shade_tone, 0.7))
        if look.earrings:
            brush.dots([(side * w * 1.06, 0.29 * h)], 8, GOLD)


def draw_face(brush: Brush, look: Look, shot: Shot, jowl: float) -> None:
    """The bare face with its shading, the lower cheeks fuller by `jowl` 0 to 1."""
    w, h = look.half_width, look.half_height
    brush.fill(outline(look, jowl=jowl), look.skin_tone)
    side = 1 if shot.side_light < 0 else -1
    brush.soft(oval((side * 0.86 * w, 0.1 * h), (0.16 * w, 0.7 * h)), look.shade_tone, 0.35, 16)
    brush.soft(oval((0, 0.93 * h), (0.34 * w, 0.06 * h)), look.shade_tone, 0.4, 6)


def crease(
    brush: Brush, look: Look, points: list[tuple[float, float]], width: float, strength: float, light: float = 0.45
) -> None:
    """A fold of the skin: a dark line with a light edge under it, so that it shows on every skin, and to no mean."""
    below = [(x, y + 0.9 * width) for x, y in points]
    brush.stroke(below, mix(look.skin_tone, WHITE, light * strength), width * (0.6 + 0.5 * strength))
    brush.stroke(points, mix(look.skin_tone, look.line_tone, 0.15 + 0.65 * strength), width * (0.5 + 0.5 * strength))


def draw_upper_age(brush: Brush, look: Look, shot: Shot, upper: float) -> None:
    """Forehead lines (two from 30 on, the third from 60 on), crow's feet and bags under the eyes."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    for row, y in enumerate((-0.41, -0.52, -0.63)):
        strength = np.clip(upper * 2.6 - (0.6, 0.7, 1.65)[row], 0, 1)
        if strength > 0.04:
            reach = w * (0.25 + 0.35 * strength)
            crease(brush, look, [(dx - reach, y * h + 4), (dx, y * h - 4), (dx + reach, y * h + 4)], 9, strength, 0.65)
    for side in (-1, 1):
        bag = np.clip(upper * 1.4 - 0.2, 0, 1)
        centre = side * 0.42 * w + dx
        brush.soft(oval((centre, 0.055 * h), (0.21 * w, 0.05 * h)), look.line_tone, 0.5 * bag, 4)
        for row, rise in enumerate((-0.09, -0.01, 0.07)):
            strength = np.clip(upper * 2.2 - 0.35 - 0.4 * row, 0, 1)
            if strength > 0.04:
                start = (side * 0.71 * w + dx, (-0.08 + 0.45 * rise) * h)
                crease(brush, look, [start, (side * (0.71 + 0.2 * strength) * w + dx, (-0.08 + rise) * h)], 7, strength)


def draw_middle_age(brush: Brush, look: Look, shot: Shot, middle: float, marks: np.random.Generator) -> None:
    """Spots on the cheeks, folds beside the nose, a redder nose."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    flush = np.clip(middle * 1.2 - 0.05, 0, 1)
    ruddy = mix(look.skin_tone * 0.95, colour(210, 74, 62), 0.65)
    brush.soft(oval((1.3 * dx, 0.25 * h), ((0.22 + 0.1 * middle) * w, 0.15 * h)), ruddy, 0.9 * flush, 5)
    fold = np.clip(middle * 1.4 - 0.1, 0, 1)
    for side in (-1, 1):
        brush.soft(oval((side * 0.58 * w + dx, 0.24 * h), (0.30 * w, 0.16 * h)), ruddy, 0.8 * flush, 6)
        if fold > 0.04:
            points = [(side * 0.24 * w + dx, 0.27 * h), (side * 0.38 * w + dx, 0.36 * h)]
            crease(brush, look, [*points, (side * (0.46 + 0.05 * fold) * w + dx, (0.38 + 0.12 * fold) * h)], 13, fold)
        places = np.stack([marks.uniform(0.34, 0.84, 7), marks.uniform(0.10, 0.40, 7)], axis=1)
        sizes = marks.uniform(7.5, 11.5, 7)
        for place, (spot, size) in enumerate(zip(places, sizes, strict=True)):
            strength = np.clip(middle * 9 - 1.8 - place, 0, 1)
            paint = mix(look.skin_tone, mix(look.skin_tone * 0.6, _SPOT, 0.5), 0.6 * strength)
            if strength > 0.05:
                brush.fill(oval((side * spot[0] * w + dx, spot[1] * h), (size, size * 0.8), 12), paint)


def draw_lower_age(brush: Brush, look: Look, shot: Shot, lower: float) -> None:
    """Folds beside the mouth, lines of the chin."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    fold = np.clip(lower * 1.4 - 0.1, 0, 1)
    if fold < 0.04:
        return
    brush.soft(oval((dx, 0.68 * h), (0.52 * w, 0.22 * h)), look.line_tone, 0.36 * lower, 9)
    for side in (-1, 1):
        x = side * w
        points = [(0.41 * x + dx, 0.48 * h), (0.47 * x + dx, 0.61 * h)]
        if look.beard < 1:
            brush.soft(oval((0.62 * x + dx, 0.74 * h), (0.15 * w, 0.09 * h)), look.line_tone, 0.35 * fold, 7)
            crease(brush, look, [*points, (0.44 * x + dx, (0.68 + 0.12 * fold) * h)], 14, fold, 0.5)
    if look.beard < 1:
        reach = w * 0.2
        crease(brush, look, [(dx - reach, 0.80 * h), (dx, 0.775 * h), (dx + reach, 0.80 * h)], 8, fold)


def draw_eyes(brush: Brush, look: Look, shot: Shot, upper: float) -> None:
    """Eyes and brows; the upper part's age greys the brows and lowers the lids."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    dark = mix(look.hair_tone, colour(40, 28, 28), 0.6)
    rx, ry = 0.185 * w * look.eye, 0.098 * h * look.eye
    lid_share = 0.22 + shot.lids + 0.30 * upper
    for side in (-1, 1):
        x, y = side * 0.42 * w + dx, -0.06 * h
        brush.soft(oval((x, y - 0.04 * h), (rx * 1.15, ry * 1.3)), look.shade_tone, 0.35, 5)
        brush.fill(oval((x, y), (rx, ry)), WHITE)
        iris, gaze = 11.5 * look.eye, x + shot.turn * 2.5
        brush.dots([(gaze, y)], iris, look.iris_tone)
        brush.dots([(gaze, y)], iris * 0.5, colour(22, 18, 20))
        brush.dots([(gaze - 3, y - 2.5)], iris * 0.24, WHITE)
        edge = [(x - rx * 1.06, y + 0.05 * ry), (x, y - (1.15 - 1.3 * lid_share) * ry), (x + rx * 1.06, y + 0.05 * ry)]
        above = [(x + rx * 0.75, y - 0.95 * ry), (x, y - 1.3 * ry), (x - rx * 0.75, y - 0.95 * ry)]
        brush.fill(np.concatenate([curve(edge), curve(above)]), mix(look.lid_tone, look.shade_tone, 0.25))
        brush.stroke(edge, dark, 3 + 6.5 * look.lashes, taper=0.7)
        if look.lashes > 0.5:
            tip = (x + side * rx * 1.32, y - 0.75 * ry)
            brush.stroke([(x + side * rx * 0.85, y - 0.4 * ry), tip], dark, 7 * look.lashes, taper=0.5)
        grey = mix(mix(look.hair_tone * 0.7, dark, 0.4), mix(GREY, WHITE, 0.4), np.clip(upper * 3.0 - 1.9, 0, 1))
        arch = -0.255 * h - 2 * look.lashes
        brow = [(x - side * rx * 1.15, arch + 7), (x + side * 2, arch - 4), (x + side * rx * 1.45, arch + 8)]
        brush.stroke(brow, grey, look.brow, taper=0.55)


def draw_nose(brush: Brush, look: Look, shot: Shot, middle: float) -> None:
    """A nose that broadens and reddens with the middle part's age."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN * 1.5
    size = 0.115 * w * look.nose * (1 + 0.7 * middle)
    tone = mix(look.shade_tone, look.line_tone, 0.35)
    brush.soft(oval((dx + 0.5 * size, 0.12 * h), (0.35 * size, 0.16 * h)), look.shade_tone, 0.5, 4)
    tip = [(dx - 1.25 * size, 0.31 * h), (dx - 0.5 * size, 0.365 * h), (dx, 0.345 * h)]
    brush.stroke([*tip, (dx + 0.5 * size, 0.365 * h), (dx + 1.25 * size, 0.31 * h)], tone, 10, taper=0.5)
    brush.dots([(dx - 0.62 * size, 0.325 * h), (dx + 0.62 * size, 0.325 * h)], 6.5, mix(tone, look.line_tone, 0.7))
    brush.soft(oval((dx - 0.2 * size, 0.26 * h), (0.4 * size, 0.05 * h)), WHITE, 0.3, 3)


def draw_mouth(brush: Brush, look: Look, shot: Shot, lower: float) -> None:
    """Lips that thin, pale and close over the teeth with the lower part's age."""
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN * 1.2
    tone = mix(look.lip_tone, look.skin_tone, 0.75 * lower)
    reach, y = 0.31 * w * (0.95 + 0.10 * shot.smile), 0.58 * h
    curl, full = (6 + 5 * shot.smile) * (1 - 1.6 * lower), 15 * look.lips * (1 - 0.7 * lower)
    left, right = (dx - reach, y - curl), (dx + reach, y - curl)
    top = [left, (dx - 0.3 * reach, y - 0.75 * full), (dx, y - 0.45 * full), (dx + 0.3 * reach, y - 0.75 * full), right]
    bottom = [
        right,
        (dx + 0.5 * reach, y + 0.85 * full),
        (dx, y + 1.15 * full),
        (dx - 0.5 * reach, y + 0.85 * full),
        left,
    ]
    brush.fill(np.concatenate([curve(top), curve(bottom)]), tone)
    smile = 9 * np.clip(1 - 2.2 * lower, 0, 1)
    upper_lip, lower_lip = [left, (dx, y - 0.2 * full + 2), right], [right, (dx, y + 0.35 * full + smile), left]
    if smile > 1:
        brush.fill(np.concatenate([curve(upper_lip), curve(lower_lip)]), WHITE)
    brush.stroke(upper_lip, mix(tone, look.line_tone, 0.75), 4, taper=0.7)


def draw_beard(brush: Brush, look: Look, shot: Shot, lower: float) -> None:
    """Stubble or a full beard, greying with the lower part's age."""
    if look.beard == 0:
        return
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    tone = mix(look.hair_tone, mix(GREY, WHITE, 0.3), np.clip(lower * 1.9 - 0.5, 0, 1))
    jaw, chin = look.jaw, look.chin
    half = [(0, 0.74 * h), (0.30 * w, 0.70 * h), (0.5 * w, 0.50 * h), (0.90 * w, 0.22 * h)]
    half += [(0.955 * w, 0.34 * h), ((jaw + 0.02) * w, 0.70 * h), ((chin + 0.02) * w, 0.96 * h), (0, 1.04 * h)]
    area = curve(mirrored(half), closed=True)
    moustache = [(dx - 0.34 * w, 0.53 * h), (dx, 0.455 * h), (dx + 0.34 * w, 0.53 * h)]
    if look.beard < 1:
        brush.soft(area, tone, look.beard, 5)
        brush.soft(oval((dx, 0.48 * h), (0.28 * w, 0.03 * h)), tone, look.beard, 4)
    else:
        brush.fill(area, tone)
        brush.stroke(moustache, tone, 15, taper=0.6)


def draw_glasses(brush: Brush, look: Look, shot: Shot, tone: Colour) -> None:
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    for side in (-1, 1):
        rim = oval((side * 0.42 * w + dx, -0.045 * h), (0.29 * w, 0.165 * h), 24)
        brush.stroke(np.concatenate([rim, rim[:1]]), tone, 5, taper=0)
        brush.stroke([(side * 0.71 * w + dx, -0.07 * h), (side * 1.0 * w, -0.05 * h)], tone, 5, taper=0)
    brush.stroke([(dx - 0.13 * w, -0.06 * h), (dx, -0.085 * h), (dx + 0.13 * w, -0.06 * h)], tone, 5, taper=0)


def draw_freckles(brush: Brush, look: Look, shot: Shot, marks: np.random.Generator) -> None:
    w, h, dx = look.half_width, look.half_height, shot.turn * _TURN
    places = np.stack([marks.uniform(-0.7, 0.7, 16) * w + dx, marks.uniform(0.1, 0.3, 16) * h], axis=1)
    brush.dots(places.tolist(), 2.2, mix(look.skin_tone, _SPOT, 0.45))


def draw_head(brush: Brush, look: Look, shot: Shot, state: str, cues: Cues, marks: np.random.Generator) -> None:
    """The head without hair and mask, its features moved by its turn; what a worn mask hides is left out."""
    draw_ears(brush, look)
    draw_face(brush, look, shot, np.clip(cues.lower * 1.5 - 0.5, 0, 1) if state == "not_worn" else 0.0)
    draw_beard(brush, look, shot, cues.lower)
    if state != "worn":
        if look.freckles:
            draw_freckles(brush, look, shot, marks)
        draw_middle_age(brush, look, shot, cues.middle, marks)
        draw_nose(brush, look, shot, cues.middle)
        draw_lower_age(brush, look, shot, cues.lower)
        draw_mouth(brush, look, shot, cues.lower)
    draw_upper_age(brush, look, shot, cues.upper)
    draw_eyes(brush, look, shot, cues.upper)
