"""What a selection is judged by: any metric of labels, or a loss of probabilities, on many subsets at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.calibration import PHOTO_LOSSES
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.metrics import METRICS, People, Tally, View

LabelMetric: TypeAlias = Callable[[IntArray, IntArray, int], float]
"""(truth, labels, n_classes) -> a score, higher is better; a label of -1 abstained."""

Reading: TypeAlias = NDArray[Any]
"""`(n_samples,)` what a measure needs to know of each photo: its label, or its loss."""

DRAWN_NUMBERS = 2**21
"""Draws of people held at a time, 16 MB."""


class Measure(Protocol):
    """A score of answers to fixed photos.

    Attributes:
        name: for reports.
        sign: 1 where higher is better, -1 where lower is.
    """

    name: str
    sign: int

    def read(self, probs: FloatArray) -> Reading:
        """From an answer `(n_classes, n_samples)`."""
        ...

    def value(self, reading: Reading) -> float:
        """On all photos."""
        ...

    def outside(self, reading: Reading) -> FloatArray:
        """`(n_folds + 1,)` on the photos outside each fold, last on all; times `sign`: higher is better."""
        ...

    def draws(self, readings: Sequence[Reading], groups: IdArray, n_boot: int, seed: int) -> list[FloatArray]:
        """Each reading's score `(n_boot,)` in the same draws of people with replacement."""
        ...


def find_measure(metric: str | LabelMetric, truth: IntArray, folds: IntArray, n_classes: int) -> Measure:
    """The measure of a name or a function.

    Args:
        metric: a name in METRICS or PHOTO_LOSSES, or a function (truth, labels, n_classes) -> score.
        truth: `(n_samples,)`, no -1.
        folds: `(n_samples,)` from 0.
        n_classes: of the answers.

    Raises:
        UsageError: an unknown name.
    """
    if callable(metric):
        return OfLabels(metric, truth, folds, n_classes)
    if metric in METRICS:
        return OfCounts(metric, truth, folds, n_classes)
    if metric in PHOTO_LOSSES:
        return OfLosses(metric, truth, folds)
    raise UsageError(f'unknown metric "{metric}"{nearest(metric, [*METRICS, *PHOTO_LOSSES])}')


def labels_of(probs: FloatArray) -> IntArray:
    """The most probable class of each column of `(n_classes, n_samples)`, as `Predictions.labels` reads float32."""
    held = probs.astype(np.float32)
    highest, labels = held[0].copy(), np.zeros(held.shape[1], dtype=np.int64)
    for number in range(1, len(held)):  # class by class: several times faster than argmax across rows
        labels[held[number] > highest] = number
        np.maximum(highest, held[number], out=highest)
    labels[highest <= 0] = -1
    return labels


class OfCounts:
    """A metric in METRICS, from photos per class."""

    sign = 1

    def __init__(self, name: str, truth: IntArray, folds: IntArray, n_classes: int):
        self.name, self.metric = name, METRICS[name]
        self.truth, self.n_classes = truth, n_classes
        self.n_folds = int(folds.max()) + 1
        self.offset = folds * n_classes
        self.true = self._outside(self.offset + truth)

    def read(self, probs: FloatArray) -> Reading:
        return labels_of(probs)

    def value(self, reading: Reading) -> float:
        return float(self.outside(reading)[-1])

    def outside(self, reading: Reading) -> FloatArray:
        cell = self.offset + reading
        right = self._outside(cell[reading == self.truth])
        return np.asarray(self.metric(right, self.true, self._outside(cell[reading >= 0])), dtype=np.float64)

    def _outside(self, cells: IntArray) -> FloatArray:
        """Photos per class, `(n_folds + 1, n_classes)`."""
        inside = np.bincount(cells, minlength=self.n_folds * self.n_classes).reshape(self.n_folds, self.n_classes)
        total = inside.sum(axis=0)
        return np.concatenate([total - inside, total[None]]).astype(np.float64)

    def draws(self, readings: Sequence[Reading], groups: IdArray, n_boot: int, seed: int) -> list[FloatArray]:
        tallies = [Tally(self.truth, reading, [View.all(self.n_classes)]) for reading in readings]
        place = list(METRICS).index(self.name)
        return [scores[0, place] for scores in People(groups, n_boot, seed).scores(tallies)]


class OfLosses:
    """The mean over photos of a loss in PHOTO_LOSSES."""

    sign = -1

    def __init__(self, name: str, truth: IntArray, folds: IntArray):
        self.name, self.loss = name, PHOTO_LOSSES[name]
        self.truth, self.folds = truth, folds

    def read(self, probs: FloatArray) -> Reading:
        return self.loss(probs.T, self.truth)

    def value(self, reading: Reading) -> float:
        return float(reading.mean())

    def outside(self, reading: Reading) -> FloatArray:
        inside, photos = np.bincount(self.folds, weights=reading), np.bincount(self.folds)
        sums = np.append(inside.sum() - inside, inside.sum())
        return np.asarray(-sums / np.append(photos.sum() - photos, photos.sum()))

    def draws(self, readings: Sequence[Reading], groups: IdArray, n_boot: int, seed: int) -> list[FloatArray]:
        person = np.unique(groups, return_inverse=True)[1]
        sums = [np.bincount(person, weights=reading) for reading in readings]
        photos = np.bincount(person)
        found = [
            [(times * own).sum(axis=1) / (times * photos).sum(axis=1) for own in sums]
            for times in _times(int(person.max()) + 1, n_boot, seed)
        ]
        return [np.concatenate([block[number] for block in found]) for number in range(len(readings))]


class OfLabels:
    """A function of the labels; called once a subset, so slower than the metrics with a name."""

    sign = 1

    def __init__(self, metric: LabelMetric, truth: IntArray, folds: IntArray, n_classes: int):
        self.name = str(getattr(metric, "__name__", type(metric).__name__))
        self.metric, self.truth, self.n_classes = metric, truth, n_classes
        self.subsets = [np.flatnonzero(folds != fold) for fold in range(int(folds.max()) + 1)]

    def read(self, probs: FloatArray) -> Reading:
        return labels_of(probs)

    def value(self, reading: Reading) -> float:
        return self._score(self.truth, reading)

    def outside(self, reading: Reading) -> FloatArray:
        parts = [self._score(self.truth[rows], reading[rows]) for rows in self.subsets]
        return np.array([*parts, self.value(reading)], dtype=np.float64)

    def _score(self, truth: IntArray, labels: IntArray) -> float:
        score = self.metric(truth, labels, self.n_classes)
        if np.ndim(score) != 0 or not np.isfinite(score):
            raise UsageError(f'metric "{self.name}": expected one finite number, found {score!r}')
        return float(score)

    def draws(self, readings: Sequence[Reading], groups: IdArray, n_boot: int, seed: int) -> list[FloatArray]:
        person = np.unique(groups, return_inverse=True)[1]
        found: list[list[float]] = [[] for _ in readings]
        for times in _times(int(person.max()) + 1, n_boot, seed):
            for draw in times:
                rows = np.repeat(np.arange(len(person)), draw[person])
                for scores, reading in zip(found, readings, strict=True):
                    scores.append(self._score(self.truth[rows], reading[rows]))
        return [np.array(scores, dtype=np.float64) for scores in found]


def _times(n_people: int, n_boot: int, seed: int) -> Iterator[IntArray]:
    """How often each person is drawn, `(n_draws, n_people)` a block; the draws of `metrics.People`."""
    random = np.random.default_rng(seed)
    size = max(1, DRAWN_NUMBERS // n_people)
    for start in range(0, n_boot, size):
        shares = np.full(n_people, 1 / n_people)
        yield random.multinomial(n_people, shares, size=min(size, n_boot - start)).astype(np.int64)
