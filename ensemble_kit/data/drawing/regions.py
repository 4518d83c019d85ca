"""Where in a drawn photo an attribute can be read: the pixels that would be others if the person were another class.

Found by drawing, not by measuring: the photo is painted again with all that tells the attribute changed and everything
else (pose, person, clothes, random marks) as it is, so the region follows whatever the drawing code draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from ensemble_kit.arrays import BoolArray
from ensemble_kit.data.drawing.look import Look, Shot, draw_look, draw_shot
from ensemble_kit.data.drawing.masks import KINDS
from ensemble_kit.data.drawing.population import STATES, TELLING, Cues, Person, cue_ages
from ensemble_kit.data.drawing.portrait import paint
from ensemble_kit.errors import UsageError, nearest

SEEN = 12.0
"""Levels of 255, the mean over the colours: a smaller difference is lost in the photo's light and grain."""

YOUNG, GROWN, OLD = 0.04, 0.62, 0.97
"""What the telling part of a face shows at about 25, 45 and 70 years."""

GENDERED = (
    "half_width", "half_height", "jaw", "chin", "neck", "style", "brow", "lashes", "eye", "lid_tone", "lips",
    "lip_tone", "nose", "beard", "earrings", "neckline", "necklace",
)  # fmt: skip
"""The looks that are drawn by gender."""


@dataclass(frozen=True)
class _Scene:
    """All that a photo is painted from, but for the randomness of its mask."""

    look: Look
    shot: Shot
    state: str
    cues: Cues
    number: int


def cue_region(attribute: str, person: Person, state: str, number: int, size: tuple[int, int]) -> BoolArray:
    """Where `draw_photo(person, state, number, size)` shows what an attribute is read from.

    Args:
        attribute: "mask" (where a mask is, or would be in another state), "gender" (hair, brows, lashes, lips, beard,
            outline, neckline, jewellery) or "age" (the part of the face that `TELLING` names for the state).

    Returns:
        `(height, width)`.

    Raises:
        UsageError: another attribute.

    Examples:
        >>> person = Person((0,), 1, 44, 44.0)
        >>> rows = [cue_region(name, person, "worn", 0, (64, 48)).nonzero()[0].mean() for name in ("age", "mask")]
        >>> bool(rows[0] < rows[1])  # with a mask on, the age is read further up than the mask
        True
    """
    if attribute not in _OTHERS:
        raise UsageError(f'no drawn cue of "{attribute}"{nearest(attribute, _OTHERS)}')
    rng = np.random.default_rng((*person.seed, 3, number))
    scene = _Scene(draw_look(person), draw_shot(rng), state, cue_ages(person, state, rng), number)

    def painted(scene: _Scene) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        same = deepcopy(rng)
        canvas = paint(person, scene.look, scene.shot, scene.state, scene.cues, scene.number, size, same)
        return canvas.astype(np.float64)

    own = painted(scene)
    differs = [np.abs(painted(other) - own).mean(axis=2) > SEEN for other in _OTHERS[attribute](person, scene)]
    return np.asarray(np.logical_or.reduce(differs), dtype=np.bool_)


def _other_masks(_person: Person, scene: _Scene) -> Iterator[_Scene]:
    for state in STATES:
        if state != scene.state:
            yield replace(scene, state=state, number=scene.number % len(KINDS))


def _other_ages(_person: Person, scene: _Scene) -> Iterator[_Scene]:
    for shown in (YOUNG, GROWN, OLD):
        yield replace(scene, cues=replace(scene.cues, **{TELLING[scene.state]: shown}))


def _other_genders(person: Person, scene: _Scene) -> Iterator[_Scene]:
    other = draw_look(replace(person, gender=1 - person.gender))
    yield replace(scene, look=replace(scene.look, **{name: getattr(other, name) for name in GENDERED}))


_OTHERS = {"mask": _other_masks, "gender": _other_genders, "age": _other_ages}
