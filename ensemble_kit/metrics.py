"""Scores of class numbers against the truth, over all classes of the schema, and their spread over people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest

Metric = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Photos per class, each `(..., n_classes)`: labelled right, of the class, labelled so -> a score `(...,)`."""

BLOCK_NUMBERS = 2**21
"""Weights of photos in one block of draws: 16 MB, whatever the number of people."""


def _accuracy(right: FloatArray, true: FloatArray, labelled: FloatArray) -> FloatArray:
    del labelled
    return _divide(right.sum(axis=-1), true.sum(axis=-1))


def _macro_f1(right: FloatArray, true: FloatArray, labelled: FloatArray) -> FloatArray:
    """F1 = 2 right / (true + labelled), the mean over *all* classes; a class that never occurs counts 0."""
    mean: FloatArray = _divide(2 * right, true + labelled).mean(axis=-1)
    return mean


def _divide(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """0/0 = 0, as scikit-learn's `zero_division=0`."""
    return np.divide(top, bottom, out=np.zeros(np.shape(top), dtype=np.float64), where=bottom > 0)


METRICS: Mapping[str, Metric] = {"accuracy": _accuracy, "macro_f1": _macro_f1}


def confusion(truth: ArrayLike, labels: ArrayLike, n_classes: int) -> IntArray:
    """Photos by true class and label, `(n_classes, n_classes + 1)`; the last column counts the abstained (-1).

    Raises:
        DataError: lengths that differ, a true class outside 0..n_classes-1, a label outside -1..n_classes-1.
    """
    true, given = _check(truth, labels, n_classes)
    column = np.where(given < 0, n_classes, given)
    cells = np.bincount(true * (n_classes + 1) + column, minlength=n_classes * (n_classes + 1))
    return cells.reshape(n_classes, n_classes + 1).astype(np.int64)


def accuracy(truth: ArrayLike, labels: ArrayLike, n_classes: int) -> float:
    """Share of right labels; an abstained one (-1) is wrong. 0 without photos."""
    return _score(truth, labels, n_classes, "accuracy")


def macro_f1(truth: ArrayLike, labels: ArrayLike, n_classes: int) -> float:
    """Mean F1 over all classes, those without a photo included (with 0); an abstained label (-1) is wrong."""
    return _score(truth, labels, n_classes, "macro_f1")


def person_bootstrap(
    truth: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    n_classes: int,
    metric: str = "macro_f1",
    *,
    n_boot: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of a metric when people, not photos, are drawn again with replacement.

    Photos of one person are alike, so an interval over photos would be too narrow.

    Args:
        groups: `(n_samples,)` whose photo it is.
        metric: a name in METRICS.
    """
    if metric not in METRICS:
        raise UsageError(f'unknown metric "{metric}"{nearest(metric, METRICS)}')
    tally = Tally(truth, labels, [View.all(n_classes)])
    people = np.asarray(groups)
    if len(people) != tally.n_samples or not len(people):
        raise DataError(f"bootstrap: expected a group for each of at least one photo, found {len(people)}")
    (draws,) = People(people, n_boot, seed).scores([tally])
    return interval(draws[0, list(METRICS).index(metric)])


def interval(scores: FloatArray) -> tuple[float, float]:
    """The 95 % percentile interval of the draws' scores `(n_boot,)`."""
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class View:
    """Classes read as coarser ones: a joint class as the class of one attribute.

    Attributes:
        number: `(n_fine,)` the class that each fine class counts as; -1 = none.
        n_classes: of the view.
    """

    number: IntArray
    n_classes: int

    @classmethod
    def all(cls, n_classes: int) -> View:
        """Every class as itself."""
        return cls(np.arange(n_classes, dtype=np.int64), n_classes)

    @classmethod
    def some(cls, kept: ArrayLike, n_classes: int) -> View:
        """These classes alone, such as those that exist in a state: an answer of another class is wrong, and the
        others count for nothing in a mean over classes.

        Examples:
            >>> View.some([0, 2], 3).number.tolist()
            [0, -1, 1]
        """
        chosen = np.asarray(kept, dtype=np.int64)
        number = np.full(n_classes, -1, dtype=np.int64)
        number[chosen] = np.arange(len(chosen))
        return cls(number, len(chosen))


class Tally:
    """One label a photo beside its true class, to be counted as often as photos are drawn, in several views.

    Holds each photo's cell of the confusion matrix, of those cells only that occur.

    Args:
        truth: `(n_samples,)` class numbers.
        labels: `(n_samples,)` class numbers, -1 = abstained = wrong.
        views: what is scored, all of the same fine classes.

    Raises:
        DataError: as `confusion`.
    """

    def __init__(self, truth: ArrayLike, labels: ArrayLike, views: Sequence[View]):
        n_fine = len(views[0].number)
        true, given = _check(truth, labels, n_fine)
        cells, cell = np.unique(true * (n_fine + 1) + given + 1, return_inverse=True)
        self.n_samples, self.n_views = len(true), len(views)
        self.n_wide = max(view.n_classes for view in views)
        self._cell = cell.astype(np.min_scalar_type(max(1, len(cells))))
        self._n_cells = len(cells)
        cell_true, cell_label = cells // (n_fine + 1), cells % (n_fine + 1) - 1
        self._sums = [_view_sums(cell_true, cell_label, view) for view in views]

    def scores(self, drawn: Drawn) -> FloatArray:
        """Every metric of every view in each draw, `(n_views, n_metrics, n_draws)`."""
        counts = drawn.add(self._cell, self._n_cells)
        found = [[metric(*(add(counts) for add in sums)) for metric in METRICS.values()] for sums in self._sums]
        return np.array(found, dtype=np.float64)


class Drawn:
    """How often each photo counts in some draws, so packed that one pass over the photos adds up several draws.

    A float64 holds whole numbers of 53 bits, so of up to 262 143 photos in a draw three draws fit: 2.5 times as fast.

    Args:
        times: `(n_draws, n_samples)`, n_draws at least 1.
    """

    def __init__(self, times: IntArray):
        self.n_draws = len(times)
        self._bits = max(1, int(times.sum(axis=1).max()).bit_length())
        self._n_packed = max(1, 53 // self._bits)
        rows = range(0, self.n_draws, self._n_packed)
        self._rows = np.empty((len(rows), times.shape[1]), dtype=np.float64)
        for row, start in zip(self._rows, rows, strict=True):
            for place, draw in enumerate(times[start : start + self._n_packed]):
                row[:] = draw if place == 0 else row + draw * 2.0 ** (self._bits * place)

    @classmethod
    def once(cls, n_samples: int) -> Drawn:
        """Each photo once: the plain score."""
        return cls(np.ones((1, n_samples), dtype=np.int64))

    def add(self, cell: ArrayLike, n_cells: int) -> FloatArray:
        """Photos in each cell, `(n_draws, n_cells)`, of each photo's cell `(n_samples,)`."""
        index = np.asarray(cell, dtype=np.intp)
        packed = np.array([np.bincount(index, weights=row, minlength=n_cells) for row in self._rows]).astype(np.int64)
        shifts = self._bits * np.arange(self._n_packed, dtype=np.int64)
        apart = packed[:, None] >> shifts[:, None] & (1 << self._bits) - 1
        return apart.reshape(-1, n_cells)[: self.n_draws].astype(np.float64)


class People:
    """Draws of people with replacement, the same ones for every answer that is scored on them.

    Args:
        groups: `(n_samples,)` whose photo it is.
        n_boot: draws.
        seed: of the draws.

    Raises:
        DataError: no photos, or no draws.
    """

    def __init__(self, groups: ArrayLike, n_boot: int, seed: int):
        names, person = np.unique(np.asarray(groups).astype(np.str_), return_inverse=True)
        if not len(names) or n_boot < 1:
            raise DataError(f"bootstrap: expected photos and at least one draw, found {len(person)} and {n_boot}")
        self.n_people, self.n_boot, self.seed = len(names), n_boot, seed
        self._person: IntArray = person.astype(np.int64)

    @classmethod
    def several(cls, groups: ArrayLike | None, n_boot: int, seed: int) -> People | None:
        """None where there are no intervals: nobody knows whose the photos are, or all are of one person, who drawn
        again is the same one: an interval of no width would claim to be certain.
        """
        return None if groups is None or len(np.unique(np.asarray(groups))) == 1 else cls(groups, n_boot, seed)

    def scores(self, tallies: Sequence[Tally]) -> list[FloatArray]:
        """For each tally every metric of its views in every draw, `(n_views, n_metrics, n_boot)`.

        One pass for all of them: the draws are made again at every call and a block at a time, never kept.
        """
        found: list[FloatArray] = [np.empty((tally.n_views, len(METRICS), self.n_boot)) for tally in tallies]
        size = max(1, BLOCK_NUMBERS // max(len(self._person), *(tally.n_wide for tally in tallies), 1))
        random = np.random.default_rng(self.seed)
        shares = np.full(self.n_people, 1 / self.n_people)
        for start in range(0, self.n_boot, size):
            stop = min(start + size, self.n_boot)
            drawn = Drawn(random.multinomial(self.n_people, shares, size=stop - start)[:, self._person])
            for scores, tally in zip(found, tallies, strict=True):
                scores[:, :, start:stop] = tally.scores(drawn)
        return found


def _score(truth: ArrayLike, labels: ArrayLike, n_classes: int, metric: str) -> float:
    table = confusion(truth, labels, n_classes).astype(np.float64)
    square = table[:, :n_classes]
    return float(METRICS[metric](np.diagonal(square), table.sum(axis=1), square.sum(axis=0)))


class _SumBy:
    """Adds columns that have the same class number (-1 = none), without a table of columns by classes."""

    def __init__(self, number: IntArray, n_classes: int):
        self.n_classes = n_classes
        order = np.argsort(number, kind="stable")
        self.order = order[number[order] >= 0]
        self.present, self.starts = np.unique(number[self.order], return_index=True)

    def __call__(self, counts: FloatArray) -> FloatArray:
        """`(n_rows, n_columns)` -> `(n_rows, n_classes)`."""
        total = np.zeros((len(counts), self.n_classes), dtype=np.float64)
        if len(self.present):
            total[:, self.present] = np.add.reduceat(counts[:, self.order], self.starts, axis=1)
        return total


def _view_sums(true: IntArray, label: IntArray, view: View) -> tuple[_SumBy, _SumBy, _SumBy]:
    """From cells of the confusion matrix to what a metric takes: labelled right, of the class, labelled so."""
    seen_true = view.number[true]
    seen_label = np.where(label < 0, -1, view.number[label])
    right = np.where(seen_true == seen_label, seen_true, -1)
    return _SumBy(right, view.n_classes), _SumBy(seen_true, view.n_classes), _SumBy(seen_label, view.n_classes)


def _check(truth: ArrayLike, labels: ArrayLike, n_classes: int) -> tuple[IntArray, IntArray]:
    true, given = np.asarray(truth, dtype=np.int64), np.asarray(labels, dtype=np.int64)
    if true.ndim != 1 or true.shape != given.shape:
        raise DataError(f"score: expected one label a photo, found {true.shape} true classes and {given.shape} labels")
    for name, values, lowest in (("true classes", true, 0), ("labels", given, -1)):
        if values.size and (values.min() < lowest or values.max() >= n_classes):
            raise DataError(
                f"score: {name} must be {lowest} to {n_classes - 1}, found {values.min()} to {values.max()}; "
                f"leave unlabelled photos out"
            )
    return true, given
