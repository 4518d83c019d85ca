"""The pictures of an epoch for TensorBoard, small ones: who is taken for whom, and photos with a line or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble_kit.arrays import ByteArray, FloatArray, IntArray
from ensemble_kit.report.canvas import INK, PAPER, SOFT, WRONG, Canvas
from ensemble_kit.report.explained import shown_heat

MOST_CLASSES = 24
"""Of more classes the most frequent are drawn."""
CELL, HEAD, MARGIN, GAP, WIDTH = 52, 40, 16, 10, 132
COLUMNS = 4


@dataclass(frozen=True)
class Tile:
    """A photo with its lines; a map over it, where there is one."""

    photo: ByteArray
    lines: Sequence[str]
    is_wrong: bool
    heat: FloatArray | None = None


def draw_confusion(counts: IntArray, classes: Sequence[str], title: str) -> ByteArray:
    """A table of true (rows) against answered classes (columns), coloured by the row's share, as pixels.

    Args:
        counts: `(n_classes, n_classes)`.
    """
    chosen = np.sort(np.argsort(-counts.sum(axis=1), kind="stable")[:MOST_CLASSES])
    table, names = counts[np.ix_(chosen, chosen)], [classes[place] for place in chosen]
    cell = CELL if len(names) <= 8 else 34
    left = MARGIN + min(150, max(58, 7 * max(map(len, names))))
    side = cell * len(names)
    canvas = Canvas(max(left + side + MARGIN, 320), HEAD + 34 + side + MARGIN)
    canvas.text(MARGIN, 18, title, size=10.5, weight="bold", width=canvas.width - 2 * MARGIN)
    canvas.text(MARGIN, HEAD + 40, "true", size=8, colour=SOFT)
    canvas.text(left, HEAD + 6, "answered", size=8, colour=SOFT)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        y = HEAD + 34 + row * cell
        canvas.text(left - 8, y + cell / 2, name, size=8.5, align="right", width=left - MARGIN - 8)
        canvas.text(left + (row + 0.5) * cell, HEAD + 22, name, size=8.5, align="center", width=cell - 4)
        for column in range(len(names)):
            x, strength = left + column * cell, float(share[row, column])
            canvas.bar(x, y, cell - 2, cell - 2, fill=INK if row == column else WRONG, alpha=0.06 + 0.9 * strength)
            colour = PAPER if strength > 0.55 else INK
            number = f"{table[row, column]:,}"
            canvas.text(x + cell / 2 - 1, y + cell / 2, number, size=8.5, colour=colour, align="center", width=cell - 6)
    return canvas.pixels()


def draw_tiles(tiles: Sequence[Tile], title: str) -> ByteArray:
    """Photos side by side with their lines below, as pixels."""
    shapes = [tile.photo.shape[0] / tile.photo.shape[1] for tile in tiles]
    height = round(WIDTH * float(np.clip(np.median(shapes), 0.75, 1.4)))
    columns = min(COLUMNS, len(tiles))
    tall = height + 18 * max(len(tile.lines) for tile in tiles) + GAP + 8
    rows = -(-len(tiles) // columns)
    canvas = Canvas(max(2 * MARGIN + columns * (WIDTH + GAP) - GAP, 320), HEAD + rows * tall)
    canvas.text(MARGIN, 18, title, size=10.5, weight="bold", width=canvas.width - 2 * MARGIN)
    for number, tile in enumerate(tiles):
        x, y = MARGIN + number % columns * (WIDTH + GAP), HEAD + number // columns * tall
        own = tile.photo if tile.heat is None else shown_heat(tile.photo, tile.heat, height, WIDTH)
        canvas.photo(x, y, WIDTH, height, own)
        if tile.is_wrong:
            canvas.frame(x, y, WIDTH, height, edge=WRONG, line=2.0)
        for place, line in enumerate(tile.lines):
            colour = WRONG if tile.is_wrong and place == 0 else INK if place == 0 else SOFT
            canvas.text(x, y + height + 12 + 17 * place, line, size=8.5, colour=colour, width=WIDTH)
    return canvas.pixels()
