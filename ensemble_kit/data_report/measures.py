"""Sizes, brightness, contrast and sharpness: how they spread, and the photos far outside."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray
from ensemble_kit.data_report.looks import MEASURES
from ensemble_kit.data_report.photos import Photo, Photos

FENCE = 3.0
"""Outside is what lies further beyond the quartiles than so many times their distance: "far out" in Tukey's
Exploratory Data Analysis, 1977."""

LEAST_SPREAD = 2.0
"""Grey levels that the quartiles' distance counts as at least, so that photos drawn all alike have no outliers."""

MOST_NAMED = 8
"""Photos named on each side."""

STEPS = 32
"""Columns of a picture."""


@dataclass(frozen=True)
class Spread:
    """One measure of all photos.

    Attributes:
        name: one of `MEASURES`.
        quartiles: lower quartile, median, upper quartile.
        fences: what lies below the first or above the second is far outside.
        counts: lower end of a column -> photos.
        step: width of a column.
        low, high: the photos furthest outside, with their values; at most `MOST_NAMED`.
        n_low, n_high: photos outside in all.
    """

    name: str
    quartiles: tuple[float, float, float]
    fences: tuple[float, float]
    counts: dict[float, int]
    step: float
    low: tuple[tuple[Photo, float], ...]
    high: tuple[tuple[Photo, float], ...]
    n_low: int
    n_high: int

    def to_json(self) -> dict[str, Any]:
        return {
            "quartiles": list(self.quartiles),
            "fences": list(self.fences),
            "counts": {f"{low:g}": n for low, n in self.counts.items()},
            "n_low": self.n_low,
            "n_high": self.n_high,
            "low": [photo.to_json() | {"value": value} for photo, value in self.low],
            "high": [photo.to_json() | {"value": value} for photo, value in self.high],
        }


@dataclass(frozen=True)
class Sizes:
    """Widths and heights.

    Attributes:
        counts: (width, height) -> photos, commonest first.
        smallest, largest: the photos of the fewest and the most pixels.
    """

    counts: dict[tuple[int, int], int]
    smallest: Photo
    largest: Photo

    def to_json(self) -> dict[str, Any]:
        return {
            "counts": {f"{w} x {h}": n for (w, h), n in self.counts.items()},
            "smallest": self.smallest.to_json(),
            "largest": self.largest.to_json(),
        }


def spreads_of(photos: Photos) -> tuple[Spread, ...]:
    """Every measure over the decoded photos of all parts; nothing where none is."""
    rows = np.flatnonzero(photos.looks.is_decoded)
    if not len(rows):
        return ()
    return tuple(
        _spread(name, photos.looks.measures[rows, column], photos, rows) for column, name in enumerate(MEASURES)
    )


def _spread(name: str, values: FloatArray, photos: Photos, rows: Any) -> Spread:
    lower, median, upper = (float(v) for v in np.percentile(values, [25, 50, 75]))
    low, high = fences(lower, upper)
    below, above = np.flatnonzero(values < low), np.flatnonzero(values > high)
    step = _step(float(values.max()))
    levels, counts = np.unique(np.floor(values / step) * step, return_counts=True)
    furthest = (below[np.argsort(values[below], kind="stable")], above[np.argsort(-values[above], kind="stable")])
    named = [tuple((photos.photo(int(rows[i])), float(values[i])) for i in side[:MOST_NAMED]) for side in furthest]
    shown = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    return Spread(name, (lower, median, upper), (low, high), shown, step, named[0], named[1], len(below), len(above))


def fences(lower: float, upper: float) -> tuple[float, float]:
    """Below and above which a value is far outside, from the quartiles.

    Examples:
        >>> fences(100.0, 120.0), fences(90.0, 90.0)
        ((40.0, 180.0), (84.0, 96.0))
    """
    reach = FENCE * max(upper - lower, LEAST_SPREAD)
    return lower - reach, upper + reach


def _step(largest: float) -> float:
    """A round width that gives at most `STEPS` columns."""
    return next(step for step in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0) if step == 8.0 or largest / step <= STEPS)


def sizes_of(photos: Photos) -> Sizes | None:
    """None where no photo was decoded."""
    rows = np.flatnonzero(photos.looks.is_decoded)
    if not len(rows):
        return None
    size = photos.looks.size[rows]
    pixels = size[:, 0] * size[:, 1]
    counts = Counter(map(tuple, size.tolist()))
    return Sizes(
        {(w, h): n for (w, h), n in counts.most_common()},
        photos.photo(int(rows[pixels.argmin()])),
        photos.photo(int(rows[pixels.argmax()])),
    )
