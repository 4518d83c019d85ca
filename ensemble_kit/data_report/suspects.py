"""Labels that a run's out-of-fold answers speak against: a ranked list for the eye, no verdict.

Every photo was answered by models that never saw its person. A label is the more suspicious the less probability its
photos gave it ("self-confidence"). Of the orders in cleanlab (Northcutt, Jiang and Chuang, Confident Learning, JAIR
2021) none puts more planted errors on top (`tests/data_report/test_campaigns.py`). Where to end the list is the other
question; two answers stand in `CUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import UsageError, nearest

Cut = Callable[[IntArray, FloatArray], BoolArray]
"""Labels `(n_units,)`, probabilities `(n_units, n_classes)`, every class labelled somewhere -> what is suspicious."""

LEAST = 10
"""Fewer labelled people (or photos) than this say nothing about labels."""


def by_confidence(labels: IntArray, probs: FloatArray) -> BoolArray:
    """Another class is more probable."""
    return np.asarray(probs.argmax(axis=1) != labels)


def by_cleanlab(labels: IntArray, probs: FloatArray) -> BoolArray:
    """What cleanlab would prune both by class and by noise rate: its most careful filter.

    Raises:
        UsageError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UsageError(
            'suspicious labels are found with cleanlab, which is not installed; run pip install "ensemble_kit[clean]", '
            "or pass --suspects confidence"
        ) from None
    found = find_label_issues(labels, probs, filter_by="both", n_jobs=1)
    return np.asarray(found, dtype=np.bool_) & by_confidence(labels, probs)


CUTS: Mapping[str, Cut] = {"cleanlab": by_cleanlab, "confidence": by_confidence}


def find_cut(name: str) -> Cut:
    """Raises UsageError when there is no such cut."""
    if name not in CUTS:
        raise UsageError(f'unknown --suspects "{name}"{nearest(name, CUTS)}')
    return CUTS[name]


@dataclass(frozen=True)
class Suspect:
    """One label in doubt.

    Attributes:
        unit: the row numbers of the photos that share it.
        label: the class number it is.
        confidence: the mean probability of that class, 0 to 1.
        best: the other classes, most probable first.
        probs: theirs.
        n_agree: photos whose own most probable class is the first of these.
    """

    unit: tuple[int, ...]
    label: int
    confidence: float
    best: tuple[int, ...]
    probs: tuple[float, ...]
    n_agree: int


def units_of(values: Sequence[Any], groups: Sequence[str], rows: IntArray, personal: bool) -> list[IntArray]:
    """Rows that stand or fall together: a person's photos of one label where labels belong to people, else one each.

    Examples:
        >>> [u.tolist() for u in units_of(["m", "m", "f"], ["a", "a", "a"], np.arange(3), True)]
        [[0, 1], [2]]
    """
    if not personal:
        return [np.array([row], dtype=np.int64) for row in rows.tolist()]
    found: dict[tuple[str, Any], list[int]] = {}
    for row in rows.tolist():
        found.setdefault((str(groups[row]), values[row]), []).append(row)
    return [np.array(unit, dtype=np.int64) for unit in found.values()]


def find_suspects(labels: IntArray, probs: FloatArray, units: Sequence[IntArray], cut: Cut) -> list[Suspect]:
    """The suspicious units, the one whose label has the least probability first.

    Args:
        labels: `(n_samples,)` class numbers.
        probs: `(n_samples, n_classes)` out of fold; every row of a unit sums to 1.
        units: row numbers of labelled and predicted photos; one label a unit.
        cut: which of them are suspicious.

    Examples:
        >>> probs = np.array([[0.9, 0.1]] * 6 + [[0.2, 0.8]] * 5)
        >>> labels = np.array([0] * 5 + [1] * 6)
        >>> found = find_suspects(labels, probs, [np.array([row]) for row in range(11)], by_confidence)
        >>> [(suspect.unit, suspect.label, suspect.best, suspect.n_agree) for suspect in found]
        [((5,), 1, (0,), 1)]
    """
    if len(units) < LEAST:
        return []
    own = np.array([labels[unit[0]] for unit in units], dtype=np.int64)
    mean = np.stack([probs[unit].mean(axis=0, dtype=np.float64) for unit in units])
    present = np.unique(own)
    if len(present) < 2:
        return []
    among = mean[:, present]
    total = among.sum(axis=1, keepdims=True)
    among = np.where(total > 0, among / np.maximum(total, 1e-12), 1 / len(present))
    number = np.searchsorted(present, own)
    suspicious = cut(number, among)
    confidence = mean[np.arange(len(units)), own]
    order = [i for i in np.argsort(confidence, kind="stable").tolist() if suspicious[i]]
    return [_suspect(units[i], int(own[i]), mean[i], probs) for i in order]


def _suspect(unit: IntArray, label: int, mean: FloatArray, probs: FloatArray) -> Suspect:
    ranked = [int(c) for c in np.argsort(-mean, kind="stable") if c != label]
    agree = int((probs[unit].argmax(axis=1) == ranked[0]).sum())
    return Suspect(
        tuple(unit.tolist()), label, float(mean[label]), tuple(ranked), tuple(float(mean[c]) for c in ranked), agree
    )
