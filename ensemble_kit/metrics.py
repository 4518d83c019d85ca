"""Scores of class numbers against the truth, over all classes of the schema, and their spread over people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError, nearest

Metric = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
"""Photos per class, each `(..., n_classes)`: labelled right, of the class, labelled so -> a score `(...,)`."""


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
    true, given = _check(truth, labels, n_classes)
    _, person = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    if len(person) != len(true) or not len(true):
        raise DataError(f"bootstrap: expected a group for each of at least one photo, found {len(person)}")
    person, n_people = person.astype(np.int64), int(person.max()) + 1
    pieces = [(person, true, given == true), (person, true, true >= 0), (person, given, given >= 0)]
    flat = np.concatenate([_tally(*piece, n_people, n_classes) for piece in pieces], axis=1)
    random = np.random.default_rng(seed)
    scores = np.empty(n_boot, dtype=np.float64)
    for start in range(0, n_boot, 100):  # 100 at a time: 10^5 people are 80 MB
        stop = min(start + 100, n_boot)
        drawn = random.multinomial(n_people, np.full(n_people, 1 / n_people), size=stop - start)
        total = (drawn.astype(np.float64) @ flat).reshape(-1, 3, n_classes)
        scores[start:stop] = METRICS[metric](total[:, 0], total[:, 1], total[:, 2])
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def _score(truth: ArrayLike, labels: ArrayLike, n_classes: int, metric: str) -> float:
    table = confusion(truth, labels, n_classes).astype(np.float64)
    square = table[:, :n_classes]
    return float(METRICS[metric](np.diagonal(square), table.sum(axis=1), square.sum(axis=0)))


def _tally(person: IntArray, classes: IntArray, count: BoolArray, n_people: int, n_classes: int) -> FloatArray:
    """Photos of each person by class, `(n_people, n_classes)`, counted where `count` is true."""
    cells = np.bincount(person[count] * n_classes + classes[count], minlength=n_people * n_classes)
    return cells.reshape(n_people, n_classes).astype(np.float64)


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
