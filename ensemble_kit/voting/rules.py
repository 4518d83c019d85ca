"""The fixed rules: functions (probs, weights) -> distribution, row by row.

Each rule sees one block of rows at a time with the classes first, `(n_classes, n_rows)`: adding up classes is then
adding up contiguous rows of numbers, several times as fast for a few classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.errors import UsageError

Vote = Callable[[FloatArray, FloatArray], FloatArray]
"""`(n_voters, n_samples, n_classes)` probabilities and `(n_voters,)` weights -> `(n_samples, n_classes)`."""

TIE_SHARE = 1e-3
"""What a voter's probabilities count beside its vote: ties fall to the mean probability, and below 1,000 voters of
equal weight no count is overturned."""

LEVEL = 1e-13
"""Classes this near to a row's highest are level with it: 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit,
and neither the voters' order nor their number of copies may decide a label."""

DECIDED = 1e-6
"""What a hard vote's winner has ahead of the next at least, so that it stays ahead in float32."""

BLOCK_NUMBERS = 2**15
"""Probabilities of one voter in a block of rows: 256 KB, so that a block's arrays stay in the cache."""


def vote_soft(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted mean of the probabilities.

    Examples:
        >>> vote_soft(np.array([[[0.75, 0.25]], [[0.25, 0.75]]]), np.array([3.0, 1.0])).tolist()
        [[0.625, 0.375]]
    """
    return _in_blocks(probs, weights, _mean)


def vote_weighted(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted mean, for those who mean to weigh: who asks for it by name has to give weights (`find_vote`).

    Without that, forgotten weights would quietly give the plain mean.
    """
    return vote_soft(probs, weights)


def vote_hard(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """Each class's share of the votes, where a voter's probabilities count as a thousandth of a vote.

    The highest class is that of the most votes, then of the highest mean probability, then the lowest. A voter votes
    for its highest class, of equal ones for the lowest. Where the two best are within a millionth, that much goes from
    all classes to the winner.

    Examples:
        >>> vote_hard(np.array([[[0.75, 0.25]], [[0.0, 1.0]], [[0.75, 0.25]]]), np.ones(3)).argmax(axis=1).tolist()
        [0]
    """
    return _in_blocks(probs, weights, lambda block: _hard(block, None))


def hard_vote(*, counts: ArrayLike | None = None) -> Vote:
    """The hard vote whose ties fall to the mean probability, then to the class of more training photos.

    Args:
        counts: `(n_classes,)` training photos of each class, >= 0; then the lowest class, as without counts.

    Raises:
        UsageError: counts that cannot be, here; counts of another number of classes, when it votes.

    Examples:
        >>> probs = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
        >>> hard_vote(counts=[10, 90])(probs, np.ones(2)).argmax(axis=1).tolist()
        [1]
    """
    order = None if counts is None else class_order(counts)

    def vote_hard_with_counts(probs: FloatArray, weights: FloatArray) -> FloatArray:
        if order is not None and len(order) != probs.shape[2]:
            raise UsageError(f"hard vote: expected a training count for each of {probs.shape[2]}, found {len(order)}")
        return _in_blocks(probs, weights, lambda block: _hard(block, order))

    return vote_hard_with_counts


def vote_geometric(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted geometric mean, divided by its sum (the logarithmic opinion pool; Genest and Zidek 1986).

    Worked out in logarithms of which the highest is taken away, so that no number of voters underflows. A probability
    of 0 is a veto; a row whose classes are all vetoed falls back to the soft vote.

    Examples:
        >>> vote_geometric(np.array([[[0.9, 0.1]], [[0.5, 0.5]]]), np.ones(2)).round(6).tolist()
        [[0.75, 0.25]]
    """
    return _in_blocks(probs, weights, _geometric)


def vote_median(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted median of each class, divided by their sum: one voter that is far off moves nothing.

    With half of the weight on either side it is the middle of the two. A row whose medians are all 0 (three voters,
    sure of three classes) falls back to the soft vote.

    Examples:
        >>> vote_median(np.array([[[0.5, 0.5]], [[0.75, 0.25]], [[0.0, 1.0]]]), np.ones(3)).tolist()
        [[0.5, 0.5]]
    """
    return _in_blocks(probs, weights, _median)


def vote_rank(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """Borda's count over the classes of a row: a voter gives a class one point for each class it puts below.

    Equal probabilities share their points (mean rank). The points of all voters are divided by their sum, so that only
    the order in which a voter puts the classes counts, not how sure it is.

    Examples:
        >>> vote_rank(np.array([[[0.9, 0.1, 0.0]], [[0.2, 0.4, 0.4]]]), np.ones(2)).tolist()
        [[0.3333333333333333, 0.41666666666666663, 0.25]]
    """
    return _in_blocks(probs, weights, _borda)


def class_order(counts: ArrayLike) -> IntArray:
    """`(n_classes,)` each class's place when sorted by training photos, most first; equal ones by number."""
    numbers = np.asarray(counts)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise UsageError(f"training counts: expected a number >= 0 for each class, found {numbers.tolist()}")
    place = np.empty(len(numbers), dtype=np.int64)
    place[np.argsort(-numbers.astype(np.float64), kind="stable")] = np.arange(len(numbers))
    return place


class _Block:
    """Some rows of all voters: iterates over `(n_classes, n_rows)` of each with its weight, its own copy."""

    def __init__(self, probs: FloatArray, weights: FloatArray):
        self.n_classes, self.n_rows = probs.shape[2], probs.shape[1]
        self._voters = [(voter, weight) for voter, weight in zip(probs, weights, strict=True) if weight != 0]

    def __iter__(self) -> Iterator[tuple[FloatArray, float]]:
        for voter, weight in self._voters:
            # contiguous, because log and exp may round otherwise in a strided array
            yield np.array(voter.T, dtype=np.float64, order="C"), float(weight)

    def zeros(self) -> FloatArray:
        return np.zeros((self.n_classes, self.n_rows), dtype=np.float64)


def _in_blocks(probs: FloatArray, weights: FloatArray, rule: Callable[[_Block], FloatArray]) -> FloatArray:
    n_samples, n_classes = probs.shape[1:]
    result = np.empty((n_samples, n_classes), dtype=np.float64)
    size = max(1, BLOCK_NUMBERS // max(1, n_classes))
    for start in range(0, n_samples, size):
        result[start : start + size] = _level(rule(_Block(probs[:, start : start + size], weights))).T
    return result


def _mean(block: _Block) -> FloatArray:
    total, spoken = block.zeros(), np.zeros(block.n_rows, dtype=np.float64)
    for values, weight in block:
        spoken += weight * _speaks(values)
        total += np.multiply(values, weight, out=values)
    return _divide(total, spoken)


def _hard(block: _Block, order: IntArray | None) -> FloatArray:
    votes, total, spoken = block.zeros(), block.zeros(), np.zeros(block.n_rows, dtype=np.float64)
    for values, weight in block:
        highest = values.max(axis=0)
        spoken += weight * (highest != 0)
        free = highest > 0  # neither abstained nor NaN, which the sum of the probabilities carries on
        for own, value in zip(votes, values, strict=True):
            hit = (value == highest) & free
            free ^= hit
            own += weight * hit
        total += np.multiply(values, weight, out=values)
    # added up apart: classes that tie in both then get the same bits
    return _decide(_divide(votes + TIE_SHARE * total, (1 + TIE_SHARE) * spoken), order)


def _decide(result: FloatArray, order: IntArray | None) -> FloatArray:
    """Puts the winner ahead of those that are nearly level with it, by training counts where they are level."""
    highest = result.max(axis=0)
    n_near = np.zeros(result.shape[1], dtype=np.int64)
    for value in result:
        n_near += value > highest - DECIDED
    rows = np.flatnonzero((n_near > 1) & (highest > 0))
    near = result[:, rows]
    place = np.arange(len(result)) if order is None else order
    winner = np.where(near > highest[rows] - LEVEL, place[:, None], len(result)).argmin(axis=0)
    near *= 1 - DECIDED
    near[winner, np.arange(len(rows))] += DECIDED
    result[:, rows] = near
    return result


def _geometric(block: _Block) -> FloatArray:
    total, spoken = block.zeros(), np.zeros(block.n_rows, dtype=np.float64)
    for values, weight in block:
        speaks = _speaks(values)
        spoken += weight * speaks
        values[:, ~speaks] = 1  # adds nothing
        with np.errstate(divide="ignore"):  # log 0 = -inf is the veto
            np.log(values, out=values)
        total += np.multiply(values, weight, out=values)
    highest = total.max(axis=0)
    vetoed = np.flatnonzero(highest == -np.inf)
    total[:, vetoed] = 0
    total -= np.where(highest == -np.inf, 0, highest)
    shares = np.exp(_divide(total, spoken))
    shares = _divide(shares, np.where(spoken == 0, 0, _add(shares)))
    shares[:, spoken == 0] = 0
    return _fall_back(shares, vetoed, block)


def _median(block: _Block) -> FloatArray:
    voters = list(block)
    if not voters:
        return block.zeros()
    values = np.stack([own for own, _ in voters])
    shape = (len(voters), 1, block.n_rows)
    weights = np.stack([weight * _speaks(own) for own, weight in voters]).reshape(shape)
    order = np.argsort(values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, axis=0)
    weights = np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=0)
    all_weight, reached = block.zeros(), block.zeros()
    for own in weights:
        all_weight += own
    lower, upper = block.zeros(), block.zeros()
    below, not_above = np.ones(lower.shape, dtype=np.bool_), np.ones(lower.shape, dtype=np.bool_)
    for value, own in zip(values, weights, strict=True):
        reached += own
        ahead = reached - all_weight / 2
        _take(lower, value, below, ahead >= -1e-12 * all_weight)  # half of 0.1 + 0.2 + 0.3 is not quite 0.3
        _take(upper, value, not_above, ahead > 1e-12 * all_weight)
    middle = (lower + upper) / 2
    for own, _ in voters:
        middle[:, np.isnan(own[0])] = np.nan
    sums = _add(middle)
    return _fall_back(_divide(middle, sums), np.flatnonzero(sums == 0), block)


def _take(target: FloatArray, value: FloatArray, waiting: BoolArray, reached: BoolArray) -> None:
    """Writes the value where it is the first that reaches."""
    np.copyto(target, value, where=waiting & reached)
    waiting &= ~reached


def _borda(block: _Block) -> FloatArray:
    total, spoken = block.zeros(), np.zeros(block.n_rows, dtype=np.float64)
    n_points = max(1.0, block.n_classes * (block.n_classes - 1) / 2)
    for values, weight in block:
        speaks = _speaks(values)
        spoken += weight * speaks
        points = _ranks(values) / n_points if block.n_classes > 1 else np.ones_like(values)
        points[:, np.isnan(values[0])] = np.nan
        points[:, ~speaks] = 0
        total += np.multiply(points, weight, out=points)
    return _divide(total, spoken)


def _ranks(values: FloatArray) -> FloatArray:
    """How many classes lie below each, equal ones counted half: the mean rank from 0."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    number = np.broadcast_to(np.arange(len(values))[:, None], values.shape)
    begins = np.ones(values.shape, dtype=np.bool_)
    begins[1:] = ordered[1:] != ordered[:-1]
    ends = np.ones(values.shape, dtype=np.bool_)
    ends[:-1] = begins[1:]
    first = np.maximum.accumulate(np.where(begins, number, 0), axis=0)
    last = np.minimum.accumulate(np.where(ends, number, len(values))[::-1], axis=0)[::-1]
    ranks = np.empty(values.shape, dtype=np.float64)
    np.put_along_axis(ranks, order, (first + last) / 2, axis=0)
    return ranks


def _speaks(values: FloatArray) -> BoolArray:
    """Whether a row is anything but zeros `(n_rows,)`; a row of NaN is."""
    return np.asarray(values.max(axis=0) != 0)


def _add(values: FloatArray) -> FloatArray:
    """The sum over the classes `(n_rows,)`; one by one, since numpy adds up a row alone in another order."""
    total = np.zeros(values.shape[1], dtype=np.float64)
    for value in values:
        total += value
    return total


def _divide(total: FloatArray, spoken: FloatArray) -> FloatArray:
    """In place; nothing said = zeros = abstained. NaN stays NaN."""
    return np.asarray(np.divide(total, spoken, out=total, where=spoken != 0))


def _fall_back(shares: FloatArray, rows: IntArray, block: _Block) -> FloatArray:
    """The soft vote on rows that a rule has no answer for; all abstained stays so."""
    if len(rows):
        shares[:, rows] = _mean(block)[:, rows]
    return shares


def _level(result: FloatArray) -> FloatArray:
    highest = result.max(axis=0)
    np.copyto(result, highest, where=result > highest - LEVEL)
    return result
