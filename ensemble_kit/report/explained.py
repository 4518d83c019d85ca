"""One photo with the maps of where its experts looked: a row an expert, a column a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from matplotlib import colormaps

from ensemble_kit.arrays import ByteArray, FloatArray
from ensemble_kit.report.canvas import INK, PALE, SOFT, WRONG, Canvas

MARGIN, GAP, HEAD, FOOT = 26, 12, 68, 84
TALL = 190
"""Pixels of a photo's height on the sheet."""
NARROW, WIDE = 110, 260
"""Within these is a photo's width."""
CAPTION, ROW_HEAD = 20, 44
MAP = "inferno"
MAX_BYTES = 1_500_000
STRONGEST = 0.78
"""How much of the photo the hottest place covers."""


@dataclass(frozen=True)
class Row:
    """What one expert looked at.

    Attributes:
        title: the question and the expert.
        line: what it answered, in words.
        of: the class that the maps are for.
        heat: `(height, width)` 0 to 1, NaN where it sees nothing.
        stages: name -> the map of that stage alone; with each its cells, as in "layer3, 14 x 14".
        is_wrong: the class is not the true one.
    """

    title: str
    line: str
    of: str
    heat: FloatArray
    stages: Mapping[str, FloatArray]
    is_wrong: bool = False


def draw_explained(photo: ByteArray, rows: Sequence[Row], *, title: str, line: str, notes: Sequence[str]) -> bytes:
    """The sheet as PNG.

    Args:
        photo: `(height, width, 3)`, upright.
        title, line: the headline and what was answered.
        notes: lines at the foot.
    """
    height, width = _shown(photo)
    n_columns = 2 + max(len(row.stages) for row in rows)
    wide = 2 * MARGIN + n_columns * width + (n_columns - 1) * GAP + 74
    row_height = ROW_HEAD + height + CAPTION + 14
    canvas = Canvas(wide, HEAD + len(rows) * row_height + FOOT)
    canvas.text(MARGIN, 24, title, size=14, weight="bold", width=wide - 2 * MARGIN)
    canvas.text(MARGIN, 48, line, size=10, colour=SOFT, width=wide - 2 * MARGIN)
    for number, row in enumerate(rows):
        _draw_row(canvas, photo, row, HEAD + number * row_height, height, width)
    _scale(canvas, wide - MARGIN - 46, HEAD + ROW_HEAD, height)
    for number, note in enumerate(notes):
        place = canvas.height - FOOT + 16 + 17 * number
        canvas.text(MARGIN, place, note, size=8.5, colour=SOFT, width=wide - 2 * MARGIN)
    return canvas.png(MAX_BYTES)


def overlay(photo: ByteArray, heat: FloatArray) -> ByteArray:
    """The photo in grey, the map over it in colours, stronger where it is hotter; hatched where nothing is seen.

    Args:
        photo: `(height, width, 3)`.
        heat: `(height, width)` 0 to 1, NaN = not seen.
    """
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None].repeat(3, axis=2)
    faded = 0.35 * photo.astype(np.float32) + 0.65 * grey
    known = np.clip(np.nan_to_num(heat), 0, 1)[..., None]
    colours = colormaps[MAP](0.3 + 0.7 * known[..., 0])[..., :3].astype(np.float32) * 255
    share = STRONGEST * known**0.85
    mixed = faded * (1 - share) + colours * share
    unseen = ~np.isfinite(heat)
    if unseen.any():
        down, across = np.indices(heat.shape)
        stripes = ((down + across) // max(3, heat.shape[0] // 48)) % 2 == 0
        mixed[unseen] = 0.5 * mixed[unseen] + 110
        mixed[unseen & stripes] *= 0.85
    return np.asarray(np.clip(mixed, 0, 255), dtype=np.uint8)


def _shown(photo: ByteArray) -> tuple[int, int]:
    rows, columns = photo.shape[:2]
    width = round(min(max(TALL * columns / rows, NARROW), WIDE))
    return max(60, round(width * rows / columns)) if TALL * columns / rows > WIDE else TALL, width


def _draw_row(canvas: Canvas, photo: ByteArray, row: Row, top: int, height: int, width: int) -> None:
    canvas.line([MARGIN, canvas.width - MARGIN], [top, top], colour=PALE)
    room = canvas.width - 2 * MARGIN
    canvas.text(MARGIN, top + 14, row.title, size=10.5, weight="bold", width=room)
    canvas.text(MARGIN, top + 31, row.line, size=9, colour=WRONG if row.is_wrong else SOFT, width=room)
    top += ROW_HEAD
    large = _enlarged(photo, height, width)
    pictures = [("the photo", large), (f"speaks for {row.of}", shown_heat(photo, row.heat, height, width))]
    pictures += [(name, shown_heat(photo, heat, height, width)) for name, heat in row.stages.items()]
    for column, (caption, picture) in enumerate(pictures):
        left = MARGIN + column * (width + GAP)
        canvas.photo(left, top, width, height, picture)
        if column == 1:
            canvas.frame(left, top, width, height, edge=INK, line=1.6)
            if np.nanmax(row.heat, initial=0) > 0:
                down, across = np.unravel_index(int(np.nanargmax(row.heat)), row.heat.shape)
                x = left + (across + 0.5) * width / row.heat.shape[1]
                y = top + (down + 0.5) * height / row.heat.shape[0]
                canvas.ring(x, y, 7)
            else:
                canvas.text(left + width / 2, top + height / 2, "nothing does", size=9, align="center")
        weight: Literal["normal", "bold"] = "bold" if column == 1 else "normal"
        canvas.text(left, top + height + 12, caption, size=8.5, weight=weight, width=width)


def shown_heat(photo: ByteArray, heat: FloatArray, height: int, width: int) -> ByteArray:
    """The photo and its map at the sheet's resolution: a small photo's map is smooth all the same."""
    seen = np.isfinite(heat)
    known = np.nan_to_num(heat).astype(np.float32)
    large = np.array(cv2.resize(known, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    unseen = cv2.resize((~seen).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    large[unseen] = np.nan
    return overlay(_enlarged(photo, height, width), large)


def _enlarged(photo: ByteArray, height: int, width: int) -> ByteArray:
    how = cv2.INTER_AREA if height < photo.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(photo, (width, height), interpolation=how), dtype=np.uint8)


def _scale(canvas: Canvas, left: int, top: int, height: int) -> None:
    """The colours of 0 to 1, over a middling grey as over a photo."""
    grey = np.full((height, 14, 3), 128, dtype=np.uint8)
    ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None].repeat(14, axis=1)
    canvas.photo(left, top, 14, height, overlay(grey, ramp))
    for words, place in (("most", 4), ("half", height / 2), ("nothing", height - 4)):
        canvas.text(left + 19, top + place, words, size=7.5, colour=SOFT)
