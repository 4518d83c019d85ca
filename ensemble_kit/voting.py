"""Votes: several voters' probabilities to one distribution.

probs:   `(n_voters, n_samples, n_classes)`. A row of zeros abstains: its weight leaves the denominator. A row of NaN
         was not computed: the result is NaN as well, unless the voter's weight is 0.
weights: `(n_voters,)`, >= 0. A voter of weight 0 is as good as absent.

Sums run voter by voter in float64: a mean over the voters' axis changes a row's bits when the row is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.predictions import SUM_TOLERANCE, check_probs

Vote = Callable[[FloatArray, FloatArray], FloatArray]

TIE_SHARE = 1e-3
"""What a voter's probabilities count beside its vote: ties fall to the mean probability, and below 1,000 voters of
equal weight no count is overturned."""


def vote_soft(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted mean of the probabilities."""
    total, spoken = _add(probs, weights, lambda values: values)
    return _divide(total, spoken)


def vote_hard(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """Each class's share of the votes, where a voter's probabilities count as a thousandth of a vote.

    The highest class is that of the most votes, then of the highest mean probability, then the lowest. Votes and
    probabilities are added up apart: classes that tie in both then get the same bits.
    """
    votes, spoken = _add(probs, weights, _ballot)
    total, _ = _add(probs, weights, lambda values: values)
    return _divide(votes + TIE_SHARE * total, (1 + TIE_SHARE) * spoken)


VOTES: Mapping[str, Vote] = {"hard": vote_hard, "soft": vote_soft}
"""A further rule is one function and one row here; `combine` takes a function as well as a name."""


def find_vote(vote: str | Vote) -> Vote:
    """The vote of a name, or the function itself."""
    if callable(vote):
        return vote
    if vote not in VOTES:
        raise UsageError(f'unknown vote "{vote}"{nearest(vote, VOTES)}')
    return VOTES[vote]


def check_weights(weights: FloatArray) -> None:
    """Raises UsageError unless the weights are finite, not negative and not all 0."""
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError(f"vote: expected weights >= 0, finite and not all 0, found {np.asarray(weights).tolist()}")


def ask_vote(vote: Vote, probs: FloatArray, weights: FloatArray, tolerance: float = SUM_TOLERANCE) -> FloatArray:
    """The result of a vote `(n_samples, n_classes)` in float64, the contract checked.

    Raises:
        UsageError: weights that cannot be, a result of another shape, or one that changes when a row is asked alone.
        DataError: a result that is no distribution.
    """
    name = getattr(vote, "__name__", type(vote).__name__)
    check_weights(weights)
    result = np.asarray(vote(probs, weights))
    if result.shape != probs.shape[1:] or result.dtype.kind != "f":
        raise UsageError(
            f'vote "{name}": expected (n_samples, n_classes) = {probs.shape[1:]}, found {result.dtype} {result.shape}'
        )
    check_probs(result, f'vote "{name}"', tolerance)
    n_rows = len(result)
    for row in sorted({0, n_rows // 2, n_rows - 1}) if n_rows else ():
        alone = np.asarray(vote(np.ascontiguousarray(probs[:, row : row + 1]), weights))
        if not np.array_equal(alone[0], result[row], equal_nan=True):
            raise UsageError(f'vote "{name}": row {row} alone differs from the same row among others')
    return result.astype(np.float64)


def _ballot(values: FloatArray) -> FloatArray:
    """One vote a row for the highest class, ties to the lowest; none where the voter abstains, NaN stays."""
    votes = np.zeros(values.shape, dtype=np.float64)
    highest = values.argmax(axis=1)[:, None]
    np.put_along_axis(votes, highest, np.sign(np.take_along_axis(values, highest, axis=1)), axis=1)
    return votes


def _add(
    probs: FloatArray, weights: FloatArray, ballot: Callable[[FloatArray], FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """The weighted sum of the ballots `(n_samples, n_classes)`, and of the weights that spoke `(n_samples, 1)`."""
    total = np.zeros(probs.shape[1:], dtype=np.float64)
    spoken = np.zeros((probs.shape[1], 1), dtype=np.float64)
    for voter, weight in zip(probs, weights, strict=True):
        if weight == 0:  # tested, not multiplied: 0 * NaN is NaN
            continue
        values = voter.astype(np.float64)
        total += weight * ballot(values)
        spoken[_speaks(values), 0] += weight
    return total, spoken


def _speaks(values: FloatArray) -> BoolArray:
    """Whether a row `(n_samples,)` is anything but zeros; column by column, which is faster for a few columns."""
    if values.shape[1] > 8:
        return np.asarray((values != 0).any(axis=1))
    found = np.zeros(len(values), dtype=np.bool_)
    for column in values.T:
        found |= column != 0
    return found


def _divide(total: FloatArray, spoken: FloatArray) -> FloatArray:
    return np.asarray(np.divide(total, spoken, out=np.zeros_like(total), where=spoken > 0))
