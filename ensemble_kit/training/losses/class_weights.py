"""How much each class counts in the loss, by how many training photos it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ensemble_kit.arrays import FloatArray, IntArray
from ensemble_kit.errors import UsageError
from ensemble_kit.named import Numbered, find_named

Weigh = Callable[[IntArray], FloatArray]
"""Photos of each class `(n_classes,)`, all above 0 -> the weight of each class."""


def alike(counts: IntArray) -> FloatArray:
    return np.ones(len(counts))


def balanced(counts: IntArray) -> FloatArray:
    """`n / (K n_c)`, scikit-learn's rule: all classes have equal shares of the loss, and the mean over photos is 1."""
    return np.asarray(counts.sum() / (len(counts) * counts))


def effective(beta: float, counts: IntArray) -> FloatArray:
    """`(1 - beta) / (1 - beta^n_c)`, divided by their mean: the effective number of photos (Cui et al. 2019).

    Args:
        beta: from 0 (all classes alike), below 1 (towards inverse counts).
    """
    weights = (1 - beta) / (1 - np.power(float(beta), counts))
    return np.asarray(weights / weights.mean())


def _effective(beta: float) -> Weigh:
    if not 0 <= beta < 1:
        raise UsageError(
            f'class_weights "effective": expected a number from 0, below 1, found {beta:g}; write "effective=0.999"'
        )
    return partial(effective, beta)


CLASS_WEIGHTS: Mapping[str, Weigh | Numbered] = {
    "none": alike,
    "balanced": balanced,
    "effective": Numbered(_effective, 0.999),
}


def class_weights(
    rule: str | Sequence[float] | Weigh, targets: IntArray, classes: IntArray, n_classes: int
) -> FloatArray | None:
    """The weight of each possible class `(n_possible,)`, from the photos that are trained on; None = all alike.

    A class without a photo has the weight 1: only smoothing gives it a share of a target.

    Args:
        rule: "none", "balanced", "effective=0.999", a function of the classes' counts, or one number above 0 for
            each class of the head, in order.
        targets: `(n_samples,)` class numbers of the training photos.
        classes: `(n_possible,)` the head's classes that are possible, in order: the columns of the loss.
        n_classes: of the head in all.

    Raises:
        UsageError: an unknown rule, or numbers that do not fit.

    Examples:
        >>> class_weights("balanced", np.array([0, 0, 0, 1]), np.array([0, 1]), 2).round(3).tolist()
        [0.667, 2.0]
    """
    if rule == "none":
        return None
    if not callable(rule) and not isinstance(rule, str):
        return _given(rule, classes, n_classes)
    weigh = find_class_weights(rule)
    counts = np.array([(targets == number).sum() for number in classes], dtype=np.int64)
    is_there = counts > 0
    weights = np.ones(len(classes))
    weights[is_there] = weigh(counts[is_there])
    return weights


def _given(numbers: Sequence[float], classes: IntArray, n_classes: int) -> FloatArray:
    check_class_weights(numbers)
    if len(numbers) != n_classes:
        raise UsageError(f"class_weights: expected one number for each of {n_classes} classes, found {len(numbers)}")
    return np.asarray(numbers, dtype=np.float64)[classes]


def find_class_weights(rule: str | Weigh) -> Weigh:
    """The rule of a name, or the function itself.

    Raises:
        UsageError: an unknown name, or a number that the rule cannot take.
    """
    if not isinstance(rule, str):
        return rule
    found: Weigh = find_named("class_weights", rule, CLASS_WEIGHTS)
    return found


def check_class_weights(rule: Any) -> None:
    """Raises UsageError when a rule is no row of `CLASS_WEIGHTS`, no function and no list of numbers above 0."""
    if isinstance(rule, str) or callable(rule):
        find_class_weights(rule)
        return
    numbers = list(rule)
    if not numbers or not all(math.isfinite(value) and value > 0 for value in numbers):
        raise UsageError(f"class_weights: expected a rule or numbers above 0, found {numbers}")
