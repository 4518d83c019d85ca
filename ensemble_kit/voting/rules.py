"""The soft and the hard vote: functions (probs, weights) -> distribution, row by row, one block of rows at a time."""

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
    return in_blocks(probs, weights, mean)


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
    return in_blocks(probs, weights, lambda block: _hard(block, None))


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
        return in_blocks(probs, weights, lambda block: _hard(block, order))

    return vote_hard_with_counts


def class_order(counts: ArrayLike) -> IntArray:
    """`(n_classes,)` each class's place when sorted by training photos, most first; equal ones by number."""
    numbers = np.asarray(counts)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf" or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise UsageError(f"training counts: expected a number >= 0 for each class, found {numbers.tolist()}")
    place = np.empty(len(numbers), dtype=np.int64)
    place[np.argsort(-numbers.astype(np.float64), kind="stable")] = np.arange(len(numbers))
    return place


class Block:
    """Some rows of the voters that have a weight.

    Attributes:
        voters: `(n_rows, n_classes)` of each, as given, beside its weight.
        all_speak: no probability is 0, so nobody abstains; False says nothing.
    """

    def __init__(self, probs: FloatArray, weights: FloatArray):
        self.n_rows, self.n_classes = probs.shape[1:]
        self.voters = [(own, float(weight)) for own, weight in zip(probs, weights, strict=True) if weight != 0]
        self.all_speak = bool(probs.min(initial=1) > 0)

    def by_class(self) -> Iterator[tuple[FloatArray, float]]:
        """`(n_classes, n_rows)` of each voter, its own copy; contiguous, since log and exp may round otherwise."""
        for own, weight in self.voters:
            yield np.array(own.T, dtype=np.float64, order="C"), weight


def in_blocks(probs: FloatArray, weights: FloatArray, rule: Callable[[Block], FloatArray]) -> FloatArray:
    """A rule `block -> (n_rows, n_classes)` on all rows, classes that are level made so."""
    n_samples, n_classes = probs.shape[1:]
    size = max(1, BLOCK_NUMBERS // max(1, n_classes))
    if n_samples <= size:
        return rule(Block(probs, weights))
    result = np.empty((n_samples, n_classes), dtype=np.float64)
    for start in range(0, n_samples, size):
        block = Block(probs[:, start : start + size], weights)
        result[start : start + size] = rule(block)
    return result


def mean(block: Block) -> FloatArray:
    """`(n_rows, n_classes)`, the weighted mean of those who speak."""
    total, spoken = _add_up(block)
    return level(divide(total, spoken))


def level(result: FloatArray) -> FloatArray:
    """In place: classes within LEVEL of their row's highest become as high."""
    highest = _highest(result)[:, None]
    is_near = (result > highest - LEVEL) & (result < highest)
    if is_near.any():  # seldom; to look is five times as fast as to copy
        np.copyto(result, highest, where=is_near)
    return result


def speaks(values: FloatArray) -> BoolArray:
    """Whether a row `(n_rows,)` is anything but zeros; a row of NaN is."""
    found = values[:, 0] != 0
    silent = np.flatnonzero(~found)  # few, as a rule
    found[silent] = (values[silent] != 0).any(axis=1)
    return np.asarray(found)


def divide(total: FloatArray, spoken: FloatArray) -> FloatArray:
    """In place, `(n_rows, n_classes)` by `(n_rows,)`; nothing said = zeros = abstained. NaN stays NaN."""
    if spoken.size and (spoken == spoken[0]).all() and spoken[0] != 0:  # nearly always, and five times as fast
        total /= spoken[0]
    else:
        total /= np.where(spoken == 0, 1, spoken)[:, None]
    return total


def _add_up(block: Block) -> tuple[FloatArray, FloatArray]:
    total = np.zeros((block.n_rows, block.n_classes), dtype=np.float64)
    spoken = np.zeros(block.n_rows, dtype=np.float64)
    for own, weight in block.voters:
        _add(total, own.astype(np.float64), weight)
        spoken += weight if block.all_speak else weight * speaks(own)
    return total, spoken


def _add(total: FloatArray, values: FloatArray, weight: float) -> None:
    total += values if weight == 1 else np.multiply(values, weight, out=values)


def _hard(block: Block, order: IntArray | None) -> FloatArray:
    """Votes and probabilities are added up apart: classes that tie in both then get the same bits."""
    votes, total = np.zeros((2, block.n_rows, block.n_classes), dtype=np.float64)
    spoken = np.zeros(block.n_rows, dtype=np.float64)
    cells, starts = votes.ravel(), np.arange(0, votes.size, block.n_classes)
    for own, weight in block.voters:
        values = own.astype(np.float64)
        spoke = np.full(block.n_rows, weight) if block.all_speak else weight * speaks(own)
        spoken += spoke
        cells[starts + values.argmax(axis=1)] += spoke
        _add(total, values, weight)
    total *= TIE_SHARE
    total += votes
    spoken *= 1 + TIE_SHARE
    return _decide(divide(total, spoken), order)


def _decide(result: FloatArray, order: IntArray | None) -> FloatArray:
    """Puts the winner ahead of those that are nearly level with it, by training counts where they are level."""
    highest = _highest(result)
    rows = np.flatnonzero(_count(result > (highest - DECIDED)[:, None]) > 1)
    rows = rows[highest[rows] > 0]
    near = result[rows]
    place = np.arange(result.shape[1]) if order is None else order
    level_with = near > (highest[rows] - LEVEL)[:, None]
    winner = np.where(level_with, place, result.shape[1]).argmin(axis=1)
    near *= 1 - DECIDED
    near[np.arange(len(rows)), winner] += DECIDED
    result[rows] = near
    return result


def _highest(values: FloatArray) -> FloatArray:
    """`(n_rows,)`, NaN where one is; column by column, which is faster for a few columns."""
    if values.shape[1] > 8:
        return np.asarray(np.take_along_axis(values, values.argmax(axis=1)[:, None], axis=1)[:, 0])
    highest = values[:, 0].copy()
    for column in values.T[1:]:
        np.maximum(highest, column, out=highest)
    return highest


def _count(found: BoolArray) -> IntArray:
    """How many of each row are True `(n_rows,)`."""
    if found.shape[1] > 64:
        return np.asarray(np.count_nonzero(found, axis=1))
    total = np.zeros(len(found), dtype=np.int64)
    for column in found.T:
        total += column
    return total
