"""One photo of one person: background, clothes, head, mask, and the light over all of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import ByteArray
from ensemble_kit.data.drawing.brush import Brush, colour, curve, mirrored, mix, oval
from ensemble_kit.data.drawing.hair import draw_back_hair, draw_front_hair
from ensemble_kit.data.drawing.head import GOLD, WHITE, draw_glasses, draw_head, draw_neck
from ensemble_kit.data.drawing.look import CLOTHES, WALLS, Look, Shot, draw_look, draw_shot
from ensemble_kit.data.drawing.masks import KINDS, draw_mask
from ensemble_kit.data.drawing.population import Cues, Person, cue_ages

_WORKING_HEIGHT = 256
"""Smaller photos are drawn at least this high and shrunk, so that thin lines become faint instead of jagged."""
_FACE_HEIGHT = 0.51
"""Where the middle of the face is, as a share of the photo's height."""


def draw_photo(person: Person, state: str, number: int, size: tuple[int, int]) -> ByteArray:
    """Draws one photo.

    Args:
        person: who is drawn.
        state: mask state, a name of `population.STATES`.
        number: 0 to 6 among the person's photos: 0 to 4 choose the kind of mask worn.
        size: (height, width) in pixels.

    Returns:
        RGB `(height, width, 3)` uint8; the same arguments give the same bytes.
    """
    rng = np.random.default_rng((*person.seed, 3, number))
    look, shot = draw_look(person), draw_shot(rng)
    canvas = paint(person, look, shot, state, cue_ages(person, state, rng), number, size, rng)
    return _lit(canvas, shot, rng)


def paint(
    person: Person,
    look: Look,
    shot: Shot,
    state: str,
    cues: Cues,
    number: int,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> ByteArray:
    """The photo before light falls on it, `(height, width, 3)` uint8."""
    factor = max(1, -(-_WORKING_HEIGHT // size[0]))
    height, width = size[0] * factor, size[1] * factor
    brush = _brush(height, width, shot)
    _draw_wall(brush, look)
    draw_back_hair(brush, look, cues.upper)
    draw_neck(brush, look, cues.lower)
    _draw_clothes(brush, look)
    draw_head(brush, look, shot, state, cues, np.random.default_rng((*person.seed, 4)))
    if state != "not_worn":
        kind = number if state == "worn" else int(rng.integers(len(KINDS)))
        draw_mask(brush, look, shot, kind, state, rng)
    draw_front_hair(brush, look, cues.upper)
    if look.glasses:
        draw_glasses(brush, look, shot, mix(look.hair_tone, colour(40, 40, 50), 0.7))
    if factor > 1:
        return np.asarray(cv2.resize(brush.canvas, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return brush.canvas


def _brush(height: int, width: int, shot: Shot) -> Brush:
    """A canvas on which 512 face units are the height, or less when the photo is narrower than 3:4."""
    unit = min(height, width * 4 / 3) / 512
    centre = (width / 2 + shot.shift[0] * unit, height * _FACE_HEIGHT + (shot.shift[1] + shot.nod) * unit)
    return Brush(height, width, unit=unit * shot.scale, centre=centre, angle=shot.tilt)


def _draw_wall(brush: Brush, look: Look) -> None:
    """A wall with a few soft and hard shapes on it, the same for all of a person's photos."""
    rng = np.random.default_rng(look.scene)
    wall = WALLS[rng.integers(len(WALLS))] * rng.uniform(0.85, 1.06)
    height = len(brush.canvas)
    fade = np.linspace(rng.uniform(1.0, 1.1), rng.uniform(0.8, 0.95), height)[:, None, None]
    brush.canvas[...] = np.clip(wall * fade, 0, 255)
    for _ in range(rng.integers(2, 6)):
        paint = mix(wall, WALLS[rng.integers(len(WALLS))] * rng.uniform(0.6, 1.1), rng.uniform(0.4, 0.9))
        centre = (rng.choice((-1, 1)) * rng.uniform(90, 230), rng.uniform(-260, 180))
        half = rng.uniform(18, 80, 2)
        if rng.random() < 0.5:
            brush.fill(oval(centre, half), paint)
        else:
            brush.fill(centre + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]), paint)


def _draw_clothes(brush: Brush, look: Look) -> None:
    """Shoulders, the neckline, now and then a necklace."""
    rng = np.random.default_rng((look.scene, 1))
    h, n, top = look.half_height, look.neck, look.top_tone
    broad = 166 + 2.2 * (n - 62)
    half = [(0, 1.44 * h), (0.7 * n, 1.34 * h), (1.15 * n, 1.27 * h), (1.9 * n, 1.36 * h), (broad - 12, 1.52 * h)]
    half += [(broad + 12, 1.80 * h), (broad + 24, 2.5 * h), (0, 2.5 * h)]
    brush.fill(curve(mirrored(half), closed=True), top)
    if look.neckline == "round":
        brush.stroke([(-1.05 * n, 1.29 * h), (0, 1.44 * h), (1.05 * n, 1.29 * h)], mix(top, WHITE, 0.25), 11, taper=0)
    elif look.neckline == "v":
        bare = mix(look.skin_tone, look.shade_tone, 0.4)
        brush.fill([(-0.9 * n, 1.28 * h), (0.9 * n, 1.28 * h), (0, 1.66 * h)], bare)
    else:
        second = mix(CLOTHES[rng.integers(len(CLOTHES))], WHITE, 0.45)
        for side in (-1, 1):
            flap = [(side * 1.15 * n, 1.22 * h), (side * 0.1 * n, 1.42 * h), (side * 0.7 * n, 1.62 * h)]
            brush.fill([*flap, (side * 1.5 * n, 1.34 * h)], second)
    if look.necklace:
        brush.stroke([(-1.0 * n, 1.20 * h), (0, 1.40 * h), (1.0 * n, 1.20 * h)], GOLD, 5, taper=0)
        brush.dots([(0, 1.40 * h)], 7, GOLD)


def _lit(photo: NDArray[Any], shot: Shot, rng: np.random.Generator) -> ByteArray:
    """Exposure, light from one side, warmth, contrast and a little sensor noise."""
    width = photo.shape[1]
    across = 1 + shot.side_light * np.linspace(-1, 1, width, dtype=np.float32)
    tint = np.array([1 + shot.warmth, 1, 1 - shot.warmth], dtype=np.float32) * np.float32(shot.gain)
    lit: NDArray[Any] = 118 + (photo * (across[None, :, None] * tint) - 118) * np.float32(shot.contrast)
    lit = lit - np.maximum(lit - 215, 0) * np.float32(0.5)
    grain = rng.standard_normal((*photo.shape[:2], 1), dtype=np.float32) * np.float32(2.5)
    lit = np.clip(lit + grain, 0, 255)
    return np.asarray(lit, dtype=np.uint8)
