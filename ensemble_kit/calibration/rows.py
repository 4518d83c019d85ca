"""Rows of probabilities beside their true classes: checked once, summed so that no order changes a bit."""

from __future__ import annotations

from math import fsum

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import DataError, UsageError
from ensemble_kit.predictions import SUM_TOLERANCE, check_probs

TOLERANCE = 10 * SUM_TOLERANCE
"""How far a row may be from 1: the product of up to ten attributes' rows."""


def mean(values: FloatArray) -> float:
    """0 without photos. Summed without rounding, so that the order of the photos changes no bit."""
    return fsum(values.tolist()) / len(values) if len(values) else 0.0


def add_columns(values: FloatArray) -> FloatArray:
    """Sum of each row; column by column, so that a row alone gives the same bits."""
    total = np.zeros(len(values), dtype=np.float64)
    for column in values.T:
        total += column
    return total


def speaks(values: FloatArray) -> BoolArray:
    """Whether a row is anything but zeros, `(n_samples,)`."""
    return np.asarray((values > 0).any(axis=1))


def as_table(probs: ArrayLike) -> FloatArray:
    """Probabilities as an array of numbers; UsageError unless they are `(n_samples, n_classes)`."""
    values = np.asarray(probs)
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if values.ndim != 2 or values.dtype.kind != "f" or values.shape[1] == 0:
        raise UsageError(f"expected probabilities (n_samples, n_classes), found {values.dtype} of shape {values.shape}")
    return values


def checked(probs: ArrayLike, truth: ArrayLike, who: str) -> tuple[FloatArray, IntArray]:
    """Both in float64 and int64; DataError unless every photo has a prediction and a label."""
    values, true = as_table(probs), np.asarray(truth)
    if true.shape != (len(values),) or (true.size and true.dtype.kind not in "iu"):
        raise DataError(
            f"{who}: expected a class number for each of {len(values)} photos, found {true.dtype} of shape {true.shape}"
        )
    check_probs(values, who, TOLERANCE)
    absent = int(np.isnan(values).any(axis=1).sum())
    if absent:
        raise DataError(f"{who}: {absent} of {len(values)} photos were not computed (NaN); leave them out")
    if true.size and (true.min() < 0 or true.max() >= values.shape[1]):
        raise DataError(
            f"{who}: true classes must be 0 to {values.shape[1] - 1}, found {true.min()} to {true.max()}; leave "
            "unlabelled photos out"
        )
    return values.astype(np.float64), true.astype(np.int64)
