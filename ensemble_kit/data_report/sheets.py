"""Contact sheets: which photos stand for a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import IntArray
from ensemble_kit.data_report.photos import Photo, Photos

A_SHEET = 12
"""Photos of a class."""

MOST_PHOTOS = 720
"""Photos of all sheets together; with many classes each gets fewer, at least `LEAST_PHOTOS`."""

LEAST_PHOTOS = 4


@dataclass(frozen=True)
class Sheet:
    """Some photos of one class of the training part.

    Attributes:
        name: the joint class; where not every attribute is labelled, "attribute: class".
        photos: spread over the people.
        n_photos: of the class in all.
    """

    name: str
    photos: tuple[Photo, ...]
    n_photos: int

    def to_json(self) -> dict[str, Any]:
        return {"class": self.name, "photos": self.n_photos, "shown": [photo.path for photo in self.photos]}


def sheets_of(photos: Photos) -> tuple[Sheet, ...]:
    """One sheet a joint class that occurs; of partly labelled photos one a class of each labelled attribute."""
    table, schema = photos.train, photos.train.schema
    decoded = photos.looks.is_decoded[: len(table)]
    columns: list[tuple[Sequence[str], IntArray]] = []
    if all(table.has(name) for name in schema.names) and (table.joint() >= 0).any():
        columns = [(schema.joint_names(), table.joint())]
    else:
        for a in schema.attributes:
            if table.has(a.name):
                columns.append(([f"{a.name}: {name}" for name in a.classes], table.numbers(a.name)))
    found = [(name, np.flatnonzero(numbers == n)) for names, numbers in columns for n, name in enumerate(names)]
    occurring = [(name, rows) for name, rows in found if len(rows)]
    each = max(LEAST_PHOTOS, min(A_SHEET, MOST_PHOTOS // max(1, len(occurring))))
    return tuple(
        Sheet(name, photos.photos(spread_over(photos.column("group_id"), rows[decoded[rows]], each)), len(rows))
        for name, rows in occurring
    )


def spread_over(groups: Sequence[str], rows: IntArray, most: int) -> list[int]:
    """At most so many rows, of as many people as there are, evenly through their order.

    Examples:
        >>> spread_over(["a", "a", "b", "b", "c"], np.arange(5), 3)
        [0, 2, 4]
        >>> spread_over(["a", "a", "a"], np.arange(3), 2)
        [0, 2]
    """
    seen: dict[str, int] = {}
    turns = []
    for row in rows.tolist():
        seen[groups[row]] = turn = seen.get(groups[row], -1) + 1
        turns.append(turn)
    if len(seen) >= most:
        return _evenly([row for row, turn in zip(rows.tolist(), turns, strict=True) if turn == 0], most)
    if len(seen) == 1:
        return _evenly(rows.tolist(), most)
    return sorted(row for _, row in sorted(zip(turns, rows.tolist(), strict=True))[:most])


def _evenly(rows: Sequence[int], most: int) -> list[int]:
    if len(rows) <= most:
        return list(rows)
    return [rows[round(i)] for i in np.linspace(0, len(rows) - 1, most)]
