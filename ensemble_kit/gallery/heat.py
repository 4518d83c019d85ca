"""Where the expert that decided looked: asked of a function from outside, so that nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ensemble_kit.arrays import ByteArray, FloatArray
from ensemble_kit.gallery.facts import GalleryFacts

COLOUR = (255, 48, 0)
"""Red, over a photo in colours; how strong the heat is is its opacity."""
MOST = 0.75
"""Opacity of the hottest place: the photo stays to be seen."""


@dataclass(frozen=True)
class HeatRequest:
    """What a map is asked for: which places of the photo speak for this class, in the eyes of this expert.

    Attributes:
        sample_id: of the photo.
        path: its file.
        expert: as `Predictions.describe()` says it, "age given mask=worn".
        attributes: what the expert predicts.
        classes: the class of each of them that was answered.
        fold: the one that held the photo out, whose checkpoint answered; None = all of them did.
    """

    sample_id: str
    path: Path
    expert: str
    attributes: tuple[str, ...]
    classes: tuple[str, ...]
    fold: int | None = None


Heat: TypeAlias = Callable[[Sequence[HeatRequest]], Sequence[FloatArray | None]]
"""Gives for each request a map `(height, width)` of 0 to 1 over the upright photo, of any resolution; None = none."""


def heat_requests(facts: GalleryFacts, row: int, path: Path) -> list[HeatRequest]:
    """What to ask for one photo: of each node that is wrong the expert that decided, else of the last node."""
    nodes = [one for one in facts.asked if one.expert[row] >= 0 and one.said[row] >= 0]
    wrong = [one for one in nodes if one.true is not None and one.true[row] >= 0 and one.true[row] != one.said[row]]
    return [
        HeatRequest(
            sample_id=str(facts.ids[row]),
            path=path,
            expert=facts.experts[int(one.expert[row])].describe(),
            attributes=one.node.attributes,
            classes=one.classes[int(one.said[row])],
            fold=None if facts.folds is None or facts.folds[row] < 0 else int(facts.folds[row]),
        )
        for one in wrong or nodes[-1:]
    ]


def heat_layer(heat: FloatArray) -> ByteArray:
    """A map `(h, w)` of 0 to 1 as a see-through picture `(h, w, 4)` RGBA, to be laid over the photo.

    Examples:
        >>> heat_layer(np.array([[0.0, 1.0]]))[0].tolist()
        [[255, 48, 0, 0], [255, 48, 0, 191]]
    """
    known = np.clip(np.nan_to_num(np.asarray(heat, dtype=np.float64)), 0, 1)
    layer = np.empty((*known.shape, 4), dtype=np.uint8)
    layer[..., :3] = COLOUR
    layer[..., 3] = np.rint(known * MOST * 255)
    return layer
