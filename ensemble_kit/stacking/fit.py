"""Fitting a stacked vote, and what it is worth on people that took no part in the fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.calibration.measures import nll
from ensemble_kit.data.folds import make_folds
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.metrics import interval
from ensemble_kit.predictions import SUM_TOLERANCE, Predictions, check_probs
from ensemble_kit.selection import Gap
from ensemble_kit.selection.inputs import computed, in_order, labelled, voters_of
from ensemble_kit.selection.measure import LabelMetric, find_measure
from ensemble_kit.stacking.model import Stacking, StackingScore, log_floored
from ensemble_kit.voting import vote_soft

C_GRID = (0.001, 0.01, 0.1, 1.0)
"""Inverse penalties that are tried; the loss is a sum over photos, so few photos need a small one."""

INNER_FOLDS = 3
"""In which the penalty is chosen."""


def fit_stacking(
    predictions: Predictions | ArrayLike,
    truth: ArrayLike,
    groups: ArrayLike | None,
    *,
    c: float | None = None,
    metric: str | LabelMetric = "macro_f1",
    n_folds: int = 5,
    n_boot: int = 1000,
    seed: int = 0,
    measure: bool = True,
    voters: Sequence[str] | None = None,
    where: str | None = None,
    ids: IdArray | None = None,
) -> Stacking:
    """Fits a stacked vote on out-of-fold predictions and measures it by nested folds over people.

    The voters must have predicted photos that they were not trained on, each voter every photo: different backbones,
    seeds or structures. The folds of one training cannot be stacked, since each of them has held out other photos.

    Args:
        predictions: of several voters, or probabilities `(n_voters, n_samples, n_classes)`.
        truth: `(n_samples,)` the true column; -1 = not labelled: left out.
        groups: `(n_samples,)` whose photo it is; None = nobody knows, each photo counts as a person.
        c: inverse strength of the ridge penalty; None = the best log loss in folds over people, inside each fit.
        metric: of the score, as in `select_voters`.
        n_folds: people are divided into so many parts, each scored by a fit on the others.
        n_boot: draws of people for the intervals.
        seed: of the folds and draws.
        measure: False = no score, an n_folds-th of the time.
        voters: names, where probabilities are given.
        where: the expert or "joint"; what the predictions call themselves when left out.
        ids: of truth and groups, when their rows are in another order than the predictions'.

    Returns:
        A vote for `combine(vote=...)`, `vote_together(vote=...)`; its `score.advice()` says whether to use it.

    Raises:
        UsageError: one voter only, an unknown metric, a penalty that cannot be.
        DataError: photos that a voter did not compute, numbers that are no probabilities, too few people or classes.

    Examples:
        >>> random = np.random.default_rng(0)
        >>> truth = random.integers(0, 2, size=300)
        >>> turned = np.where(truth[:, None] == [0, 1], 0.2, 0.8)  # always wrong, so worth much
        >>> noise = random.dirichlet([1, 1], size=300)
        >>> stacking = fit_stacking([noise, turned], truth, np.arange(300) // 3, c=1.0, voters=["noise", "turned"])
        >>> stacking.score.stacking, stacking.score.beats_soft
        (1.0, True)
        >>> stacking(np.array([[[0.5, 0.5]], [[0.2, 0.8]]]), np.ones(2)).argmax(axis=1).tolist()
        [0]
    """
    layers, given, name = voters_of(predictions, voters, where)
    if len(given) < 2:
        raise UsageError(f"{name}: one voter only, so there is nothing to stack; predict with several")
    if c is not None and not (np.isfinite(c) and c > 0):
        raise UsageError(f"c: expected a number above 0, found {c}")
    if ids is not None:
        if not isinstance(predictions, Predictions):
            raise UsageError("ids join truth to Predictions, which have ids as well; found an array")
        truth, groups = in_order(truth, groups, ids, predictions.ids)
    true, people, keep = labelled(truth, groups, len(layers[0]), name)
    n_classes = layers[0].shape[1]
    if true.max() >= n_classes:
        raise DataError(f"{name}: true classes must be 0 to {n_classes - 1}, found {true.max()}")
    kept = computed(layers, given, keep, name)
    order = sorted(range(len(given)), key=lambda number: given[number])
    probs = np.stack([kept[number] for number in order]).astype(np.float64)
    names = tuple(given[number] for number in order)
    for layer, voter in zip(probs, names, strict=True):
        width = 1 if not isinstance(predictions, Predictions) else len(predictions.attributes)
        check_probs(layer, f"{name}, {voter}", SUM_TOLERANCE * width)
    owners = np.arange(len(true)).astype(np.str_) if people is None else people
    how = _How(names, predictions.classes if isinstance(predictions, Predictions) else None, name, c, seed)
    score = _nested(probs, true, owners, how, metric, n_folds, n_boot, people is not None) if measure else None
    return how.fit(probs, true, owners, score)


class _How:
    """What all fits share."""

    def __init__(
        self,
        voters: tuple[str, ...],
        classes: tuple[tuple[str, ...], ...] | None,
        where: str,
        c: float | None,
        seed: int,
    ):
        self.voters, self.classes, self.where, self.c, self.seed = voters, classes, where, c, seed

    def fit(self, probs: FloatArray, true: IntArray, groups: IdArray, score: StackingScore | None = None) -> Stacking:
        c = self._choose(probs, true, groups) if self.c is None else self.c
        return self._fit(probs, true, c, score)

    def _choose(self, probs: FloatArray, true: IntArray, groups: IdArray) -> float:
        """The penalty of the lowest log loss on held-out people; of equal ones the stronger."""
        folds = make_folds(true, groups, n_folds=INNER_FOLDS, seed=self.seed)
        losses = []
        for c in C_GRID:
            held = _held_out(folds, lambda rows, c=c: self._fit(probs[:, rows], true[rows], c), probs)  # type: ignore[misc]
            losses.append(nll(held, true))
        return C_GRID[int(np.argmin(losses))]

    def _fit(self, probs: FloatArray, true: IntArray, c: float, score: StackingScore | None = None) -> Stacking:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        present = np.unique(true)
        if len(present) < 2:
            raise DataError(
                f"{self.where}: every labelled photo of a fit is of class {present[0]}; stacking needs two classes or "
                "more in every fold"
            )
        model = LogisticRegression(C=c, max_iter=300, tol=1e-4)
        with warnings.catch_warnings():  # the nested score tells what an unfinished fit is worth
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(_features(probs), true)
        coefficients, intercept = np.asarray(model.coef_), np.asarray(model.intercept_)
        if len(present) == 2:  # one row, of the second class against the first
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercept = np.concatenate([np.zeros_like(intercept), intercept])
        n_voters, _, n_classes = probs.shape
        shaped = np.ascontiguousarray(coefficients.T.reshape(n_voters, n_classes, len(present)))
        return Stacking(self.voters, self.classes, n_classes, present, intercept, shaped, float(c), self.where, score)


def _features(probs: FloatArray) -> FloatArray:
    """`(n_samples, n_voters * n_classes)`, as the vote reads them: an abstaining voter as equal probabilities."""
    silent = ~(probs != 0).any(axis=2, keepdims=True)
    log_probs = log_floored(np.where(silent, 1 / probs.shape[2], probs))
    return np.asarray(log_probs.transpose(1, 0, 2).reshape(probs.shape[1], -1))


def _held_out(folds: IntArray, fit: Callable[[IntArray], Stacking], probs: FloatArray) -> FloatArray:
    """`(n_samples, n_classes)`, each row by a fit on the other folds."""
    result = np.empty(probs.shape[1:], dtype=np.float64)
    for fold in range(int(folds.max()) + 1):
        inside = np.flatnonzero(folds == fold)
        result[inside] = fit(np.flatnonzero(folds != fold))(probs[:, inside], np.ones(len(probs)))
    return result


def _nested(
    probs: FloatArray,
    true: IntArray,
    groups: IdArray,
    how: _How,
    metric: str | LabelMetric,
    n_folds: int,
    n_boot: int,
    people_known: bool,
) -> StackingScore:
    folds = make_folds(true, groups, n_folds=n_folds, seed=how.seed)
    measured = find_measure(metric, true, folds, probs.shape[2])
    stacked = _held_out(folds, lambda rows: how.fit(probs[:, rows], true[rows], groups[rows]), probs)
    alone = np.stack([measured.outside(measured.read(own.T)) for own in probs])
    best = alone.argmax(axis=0)  # for each fold the voter that is best on the others; last, on all
    single = probs[best[folds], np.arange(len(true))]
    soft = vote_soft(probs, np.ones(len(probs)))
    readings = [measured.read(answer.T) for answer in (stacked, soft, single)]
    values = [measured.value(reading) for reading in readings]
    draws = measured.draws(readings, groups, n_boot, how.seed)
    gaps = [
        Gap(measured.sign * (values[0] - values[other]), *interval(measured.sign * (draws[0] - draws[other])))
        for other in (1, 2)
    ]
    best_voter = how.voters[int(best[-1])]
    counts = (len(true), len(np.unique(groups)), n_folds, people_known)
    return StackingScore(measured.name, values[0], values[1], values[2], best_voter, gaps[0], gaps[1], *counts)
