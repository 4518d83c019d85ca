"""The formulas of prior shift: Bayes with another prior, and the prior that maximises the likelihood.

Saerens, Latinne & Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural
Computation 14 (2002). All of it supposes label shift: photos of a class look the same as ever, only the classes' shares
differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import FloatArray, IdArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import SUM_TOLERANCE, check_probs

TOLERANCE = 1e-9
MAX_STEPS = 10_000


def class_prior(truth: ArrayLike, n_classes: int, groups: ArrayLike | None = None) -> FloatArray:
    """The classes' shares `(n_classes,)`; a class without a photo counts as half a one, so that no share is 0.

    Args:
        truth: `(n_samples,)` class numbers; -1 = unknown, left out.
        groups: `(n_samples,)` whose photo it is: each person then counts once, whatever the number of photos.

    Raises:
        DataError: no known class, class numbers that cannot be, lengths that differ.

    Examples:
        >>> class_prior([0, 0, 0, 1], 2).tolist()
        [0.75, 0.25]
        >>> class_prior([0, 0, 0, 1], 2, groups=["ann", "ann", "ann", "bob"]).tolist()
        [0.5, 0.5]
    """
    true = check_truth(truth, n_classes, "class_prior")
    known = true >= 0
    if not known.any():
        raise DataError("class_prior: expected at least one photo of a known class, found none")
    times = np.ones(int(known.sum()))
    if groups is not None:
        _, person = np.unique(check_groups(groups, len(true), "class_prior")[known], return_inverse=True)
        times = 1 / np.bincount(person)[person]
    counts = np.bincount(true[known], weights=times, minlength=n_classes)
    shares: FloatArray = np.where(counts > 0, counts, 0.5)
    return np.asarray(shares / shares.sum())


def reweigh(probs: FloatArray, ratio: FloatArray) -> FloatArray:
    """Each row times `ratio`, made to sum to 1 again, in float64; rows of zeros and of NaN stay as they are.

    Column by column, so that a row alone gives the same bits.

    Args:
        probs: `(n_samples, n_classes)`.
        ratio: `(n_classes,)` new prior / old prior, > 0.
    """
    values = np.asarray(probs).astype(np.float64)
    total = np.zeros(len(values))
    for column, factor in zip(values.T, ratio, strict=True):
        total += column * factor
    told = total > 0  # False for NaN
    return np.divide(values * ratio, total[:, None], out=values, where=told[:, None])


def log_likelihood(probs: FloatArray, training_prior: FloatArray, prior: FloatArray) -> float:
    """Mean over the photos of log sum_k probs_k prior_k / training_prior_k: what EM climbs, but for a constant."""
    return float(np.log((probs / training_prior) @ prior).mean())


def em_prior(
    probs: FloatArray, training_prior: FloatArray, *, tolerance: float = TOLERANCE, max_steps: int = MAX_STEPS
) -> FloatArray:
    """The prior `(n_classes,)` that unlabelled predictions are most likely under, by EM from `training_prior`.

    A step: every photo's probabilities under the prior so far, then their mean as the next prior (Saerens et al.,
    equation 9). The likelihood never falls and has no other peak. Right only for calibrated probabilities.

    Args:
        probs: `(n_samples, n_classes)`, each row > 0 somewhere, no NaN.
        training_prior: `(n_classes,)` that the probabilities suppose, > 0.
        tolerance: ends when no class's share moves by more.

    Examples:
        >>> em_prior(np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]), np.array([0.5, 0.5])).round(3).tolist()
        [0.812, 0.188]
    """
    likelihood = probs / training_prior
    prior = np.asarray(training_prior, dtype=np.float64)
    for _ in range(max_steps):
        step = prior * ((1 / (likelihood @ prior)) @ likelihood) / len(likelihood)
        moved = float(np.abs(step - prior).max())
        prior = step
        if moved <= tolerance:
            break
    return prior


def check_prior(prior: ArrayLike, n_classes: int) -> FloatArray:
    """Raises DataError unless `(n_classes,)` shares > 0 that sum to 1; returned with the sum made exact."""
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != (n_classes,):
        raise DataError(f"training prior: expected one share for each of {n_classes} classes, found {shares.shape}")
    if not np.isfinite(shares).all() or (shares <= 0).any() or abs(shares.sum() - 1) > SUM_TOLERANCE:
        raise DataError(
            f"training prior: expected shares > 0 that sum to 1, found {shares.tolist()}; class_prior(truth, "
            f"{n_classes}) gives them"
        )
    return np.asarray(shares / shares.sum())


def check_truth(truth: ArrayLike, n_classes: int, who: str) -> IntArray:
    """Raises DataError unless whole numbers `(n_samples,)` from -1 to n_classes - 1."""
    given = np.asarray(truth)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise DataError(f"{who}: expected class numbers (n_samples,), found {given.dtype} of shape {given.shape}")
    true = given.astype(np.int64)
    if true.size and (true.min() < -1 or true.max() >= n_classes):
        raise DataError(
            f"{who}: true classes must be 0 to {n_classes - 1}, or -1 = unknown, found {true.min()} to {true.max()}"
        )
    return true


def check_groups(groups: ArrayLike, n_samples: int, who: str) -> IdArray:
    """Raises DataError unless a name for each photo."""
    names = np.asarray(groups)
    if names.shape != (n_samples,):
        raise DataError(f"{who}: expected a group for each of {n_samples} photos, found shape {names.shape}")
    text = names.astype(np.str_)
    missing = np.isin(text, ["", "nan", "None", "<NA>"])
    if missing.any():
        raise DataError(f"{who}: row {int(np.flatnonzero(missing)[0])} has no group ({int(missing.sum())} such rows)")
    return text


def check_rows(probs: ArrayLike, n_classes: int, who: str) -> FloatArray:
    """Raises unless `(n_samples, n_classes)` probabilities, rows of zeros and NaN among them."""
    values = np.asarray(probs)
    if values.ndim != 2 or values.dtype.kind != "f" or values.shape[1] != n_classes:
        raise UsageError(
            f"{who}: expected probabilities (n_samples, {n_classes}), found {values.dtype} of shape {values.shape}"
        )
    check_probs(values, who, 10 * SUM_TOLERANCE)  # a joint is a product of rows, each a little off
    return values
