"""How far probabilities can be believed: likelihood, Brier score, calibration error, risk against coverage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.calibration.rows import add_columns, checked, mean, speaks
from ensemble_kit.errors import DataError, UsageError, nearest

NLL_FLOOR = 1e-7
"""A lower probability of the true class counts as this (about float32's resolution at 1): one sure error costs 16
nats, not infinity."""

SCHEMES: Mapping[str, Callable[[FloatArray, int], FloatArray]] = {
    "equal_width": lambda _, n_bins: np.arange(1, n_bins + 1) / n_bins,
    "equal_mass": lambda confidence, n_bins: _quantiles(confidence, n_bins),
}
"""Confidences and a number of bins -> the bins' upper edges; a confidence on an edge is below it."""


def nll(probs: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative log-likelihood of the true classes, in nats; see `NLL_FLOOR` and, on abstained rows, the module.

    Examples:
        >>> round(nll([[0.5, 0.5], [0.0, 0.0]], [0, 1]), 6)
        0.693147
    """
    return mean(photo_nll(probs, truth))


def brier(probs: ArrayLike, truth: ArrayLike) -> float:
    """Mean of the squared distance between the row and the truth's one-hot row, summed over classes: 0 to 2.

    Brier 1950; twice scikit-learn's binary one.

    Examples:
        >>> brier([[1.0, 0.0], [0.5, 0.5]], [0, 1])
        0.25
    """
    return mean(photo_brier(probs, truth))


def photo_nll(probs: ArrayLike, truth: ArrayLike) -> FloatArray:
    """`nll` of each photo, `(n_samples,)`."""
    values, true = checked(probs, truth, "NLL")
    said = values[np.arange(len(true)), true]
    said = np.where(speaks(values), said, 1 / values.shape[1])
    return np.asarray(-np.log(np.maximum(said, NLL_FLOOR)))


def photo_brier(probs: ArrayLike, truth: ArrayLike) -> FloatArray:
    """`brier` of each photo, `(n_samples,)`."""
    values, true = checked(probs, truth, "Brier")
    uniform = np.full(values.shape, 1 / values.shape[1])
    gap = np.where(speaks(values)[:, None], values, uniform)
    gap[np.arange(len(true)), true] -= 1
    return add_columns(gap * gap)


PHOTO_LOSSES: Mapping[str, Callable[[ArrayLike, ArrayLike], FloatArray]] = {"brier": photo_brier, "log_loss": photo_nll}
"""Losses of probabilities whose mean over photos is a score; lower is better."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often answers are right, by how sure they are; one row a bin that holds a photo, each `(n_bins,)`.

    Attributes:
        lower, upper: the bin holds confidences above `lower` up to `upper`.
        count: photos.
        confidence, accuracy: their means in the bin.
    """

    lower: FloatArray
    upper: FloatArray
    count: IntArray
    confidence: FloatArray
    accuracy: FloatArray

    @property
    def ece(self) -> float:
        """Mean over photos of |accuracy - confidence| of their bin; 0 without photos."""
        total = int(self.count.sum())
        gaps = np.abs(self.accuracy - self.confidence) * self.count
        return fsum(gaps.tolist()) / total if total else 0.0

    def to_json(self) -> dict[str, list[float]]:
        return {name: getattr(self, name).tolist() for name in ("lower", "upper", "count", "confidence", "accuracy")}

    def text(self) -> str:
        """A table, one line a bin."""
        rows = zip(self.lower, self.upper, self.count, self.confidence, self.accuracy, strict=True)
        lines = [f"{a:.3f} to {b:.3f}  {int(n):>7}  {c:>10.3f}  {r:>8.3f}" for a, b, n, c, r in rows]
        return "\n".join(["confidence       photos  confidence  accuracy", *lines, f"ECE {self.ece:.4f}"])


def reliability(probs: ArrayLike, truth: ArrayLike, n_bins: int = 15, scheme: str = "equal_width") -> Reliability:
    """Photos by the probability of the answer (the highest, ties to the lowest class).

    Args:
        n_bins: at least 1.
        scheme: a name in SCHEMES. "equal_width" = edges 1/n_bins apart; "equal_mass" = as many photos in each bin as
            equal confidences, which stay together, allow.

    Raises:
        UsageError: no bins, or an unknown scheme.
        DataError: a photo without a label or prediction, no probabilities.

    Examples:
        >>> table = reliability([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]], [0, 1, 1], n_bins=2)
        >>> table.count.tolist(), table.accuracy.round(3).tolist()
        ([3], [0.667])
    """
    if n_bins < 1:
        raise UsageError(f"n_bins: expected 1 or more, found {n_bins}")
    if scheme not in SCHEMES:
        raise UsageError(f'unknown scheme "{scheme}"{nearest(scheme, SCHEMES)}')
    confidence, right = _answers(*checked(probs, truth, "reliability"))
    confidence, right = confidence[confidence > 0], right[confidence > 0]
    upper = SCHEMES[scheme](confidence, n_bins)
    place = np.minimum(np.searchsorted(upper, confidence, side="left"), max(len(upper) - 1, 0))
    lower = np.concatenate([[0.0], upper[:-1]]) if len(upper) else upper
    held = np.unique(place)
    members = [place == number for number in held]
    return Reliability(
        lower[held],
        upper[held],
        np.array([int(rows.sum()) for rows in members], dtype=np.int64),
        np.array([mean(confidence[rows]) for rows in members], dtype=np.float64),
        np.array([mean(right[rows].astype(np.float64)) for rows in members], dtype=np.float64),
    )


def ece(probs: ArrayLike, truth: ArrayLike, n_bins: int = 15, scheme: str = "equal_width") -> float:
    """Expected calibration error of the answers' probabilities (Naeini et al. 2015; Guo et al. 2017); `reliability`.

    Examples:
        >>> round(ece([[0.8, 0.2]] * 4, [0, 0, 0, 1]), 3)
        0.05
    """
    return reliability(probs, truth, n_bins, scheme).ece


class RiskCoverage(NamedTuple):
    """How many of the surest answers are wrong.

    Attributes:
        coverage: `(n_confidences,)` shares of photos answered, rising to 1: photos of equal confidence come together.
        risk: `(n_confidences,)` share of wrong ones among them.
        aurc: mean risk over the coverages 1/n, 2/n, ..., 1; among equal confidences its mean over all orders.
    """

    coverage: FloatArray
    risk: FloatArray
    aurc: float


def risk_coverage(probs: ArrayLike, truth: ArrayLike) -> RiskCoverage:
    """The risk-coverage curve and the area under it (Geifman & El-Yaniv 2017), the surest photos answered first.

    Raises:
        DataError: no photos; a photo without a label or prediction, no probabilities.

    Examples:
        >>> found = risk_coverage([[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], [0, 0, 1])
        >>> found.coverage.round(3).tolist(), found.risk.round(3).tolist(), round(found.aurc, 3)
        ([0.333, 1.0], [0.0, 0.333], 0.194)
    """
    values, true = checked(probs, truth, "risk-coverage")
    if not len(true):
        raise DataError("risk-coverage: expected at least one photo, found none")
    confidence, right = _answers(values, true)
    _, block, size = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(block, weights=~right, minlength=len(size))
    after, errors = np.cumsum(size), np.cumsum(wrong)
    ranks = np.arange(1, len(true) + 1)
    of_rank = np.repeat(np.arange(len(size)), size)
    within = ranks - (after - size)[of_rank]
    expected = (errors - wrong)[of_rank] + wrong[of_rank] * within / size[of_rank]
    return RiskCoverage(after / len(true), errors / after, mean(expected / ranks))


def _answers(values: FloatArray, true: IntArray) -> tuple[FloatArray, BoolArray]:
    """The confidence of each row's answer, 0 where it abstained, and whether it is right."""
    spoken = speaks(values)
    return values.max(axis=1, initial=0), np.asarray(spoken & (values.argmax(axis=1) == true))


def _quantiles(confidence: FloatArray, n_bins: int) -> FloatArray:
    """Upper edges that are confidences of photos, equal ones once."""
    if not len(confidence):
        return np.ones(1)
    ends = -(-np.arange(1, n_bins + 1) * len(confidence) // n_bins) - 1
    return np.unique(np.sort(confidence)[ends[ends >= 0]])
