"""The soft and the hard vote: functions (probs, weights) -> distribution, row by row, one block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ensemble_kit.arrays import BoolArray, FloatArray, FloatType, IntArray
from ensemble_kit.errors import UsageError

Vote = Callable[[FloatArray, FloatArray], FloatArray]
"""`(n_voters, n_samples, n_classes)` probabilities and `(n_voters,)` weights -> `(n_samples, n_classes)`."""

Layers = FloatArray | Sequence[FloatArray]
"""`(n_voters, n_samples, n_classes)`, or one `(n_samples, n_classes)` array a voter."""

TIE_SHARE = 1e-3
"""What a voter's probabilities count beside its vote: ties fall to the mean probability, and below 1,000 voters of
equal weight no count is overturned."""

LEVEL = 1e-13
"""Classes this near to a row's highest are level with it: 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in their last bit,
and neither the voters' order nor their number of copies may decide a label."""

DOUBLE: FloatType = np.dtype(np.float64)

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
    return in_blocks(probs, weights, hard)


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
        return in_blocks(probs, weights, lambda block: hard(block, order))

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
        all_speak: no row is all zeros, so nobody abstains; False says nothing.
        dtype: that sums run in.
    """

    def __init__(self, probs: Layers, weights: FloatArray, *, all_speak: bool = False, dtype: FloatType = DOUBLE):
        self.dtype = dtype
        self.n_rows, self.n_classes = probs[0].shape
        self.voters = [(own, float(weight)) for own, weight in zip(probs, weights, strict=True) if weight != 0]
        self.all_speak = all_speak or all(own.min(initial=1) > 0 for own, _ in self.voters)

    def by_class(self) -> Iterator[tuple[FloatArray, float]]:
        """`(n_classes, n_rows)` of each voter, its own copy; contiguous, since log and exp may round otherwise."""
        for own, weight in self.voters:
            yield np.array(own.T, dtype=np.float64, order="C"), weight


Rule = Callable[[Block], FloatArray]
"""A block of voters -> `(n_classes, n_rows)`."""


def in_blocks(
    probs: Layers, weights: FloatArray, rule: Rule, *, all_speak: bool = False, dtype: FloatType = DOUBLE
) -> FloatArray:
    """A rule on all rows, `(n_samples, n_classes)`, laid out class by class.

    Args:
        probs: `(n_voters, n_samples, n_classes)`, or a `(n_samples, n_classes)` array for each voter.
        all_speak: it is known that no row of a voter is all zeros.

    Raises:
        UsageError: no voter.
    """
    if not len(probs):
        raise UsageError("vote: expected at least one voter, found none")
    n_samples, n_classes = probs[0].shape
    # float32 is asked for by the combiner, whose blocks are as long as is good
    size = max(1, BLOCK_NUMBERS // max(1, n_classes)) if dtype == np.float64 else n_samples
    if n_samples <= size:
        return rule(Block(probs, weights, all_speak=all_speak, dtype=dtype)).T
    result = np.empty((n_classes, n_samples), dtype=dtype)
    for start in range(0, n_samples, size):
        rows = slice(start, start + size)
        result[:, rows] = rule(Block([own[rows] for own in probs], weights, all_speak=all_speak, dtype=dtype))
    return result.T


def mean(block: Block) -> FloatArray:
    """`(n_classes, n_rows)`, the weighted mean of those who speak; in float32 nothing is levelled."""
    total, spoken = _add_up(block)
    shares = divide(np.ascontiguousarray(total.T), spoken)
    return level(shares) if block.dtype == np.float64 else shares


def level(result: FloatArray) -> FloatArray:
    """In place, `(n_classes, n_rows)`: classes within LEVEL of their row's highest become as high."""
    highest = highest_of(result)
    is_near = result > highest - LEVEL
    # each row has its highest; to count is several times as fast as to look where more is
    if np.count_nonzero(is_near) > np.count_nonzero(highest == highest):
        np.copyto(result, highest, where=is_near)
    return result


def speaks(values: FloatArray) -> BoolArray:
    """Whether a row `(n_rows,)` is anything but zeros; a row of NaN is."""
    found = values[:, 0] != 0
    silent = np.flatnonzero(~found)  # few, as a rule
    found[silent] = (values[silent] != 0).any(axis=1)
    return np.asarray(found)


def divide(total: FloatArray, spoken: FloatArray) -> FloatArray:
    """In place, `(n_classes, n_rows)` by `(n_rows,)`; nothing said = zeros = abstained. NaN stays NaN."""
    total /= np.where(spoken == 0, spoken.dtype.type(1), spoken)
    return total


def _add_up(block: Block) -> tuple[FloatArray, FloatArray]:
    """`(n_rows, n_classes)` and `(n_rows,)`, or `(1,)` where all voters speak in all rows."""
    total: FloatArray = np.zeros((block.n_rows, block.n_classes), dtype=block.dtype)
    spoken = np.zeros(1 if block.all_speak else block.n_rows, dtype=block.dtype)
    for number, (own, weight) in enumerate(block.voters):
        spoken += weight if block.all_speak else (weight * speaks(own)).astype(block.dtype)
        if weight != 1:
            total += np.multiply(own, block.dtype.type(weight), dtype=block.dtype)
        elif number:
            total += own
        else:
            total[:] = own
    return total, spoken


def hard(block: Block, order: IntArray | None = None) -> FloatArray:
    """The rule of `vote_hard`: a block -> `(n_classes, n_rows)`.

    Votes and probabilities are added up apart: classes that tie in both then get the same bits.
    """
    votes = np.zeros((block.n_classes, block.n_rows), dtype=np.float64)
    spoken = np.zeros(block.n_rows, dtype=np.float64)
    cells, rows = votes.ravel(), np.arange(block.n_rows)
    for own, weight in block.voters:
        spoke = np.full(block.n_rows, weight) if block.all_speak else weight * speaks(own)
        spoken += spoke
        cells[own.argmax(axis=1) * block.n_rows + rows] += spoke
    total = np.ascontiguousarray(_add_up(block)[0].T)
    total *= TIE_SHARE
    total += votes
    spoken *= 1 + TIE_SHARE
    return _decide(divide(total, spoken), order)


def _decide(result: FloatArray, order: IntArray | None) -> FloatArray:
    """Puts the winner ahead of those that are nearly level with it, by training counts where they are level."""
    highest = highest_of(result)
    is_near = result > highest - DECIDED
    n_near = np.zeros(len(highest), dtype=np.int64)
    for near_class in is_near:
        n_near += near_class
    rows = np.flatnonzero((n_near > 1) & (highest > 0))
    near = result[:, rows]
    place = np.arange(len(result)) if order is None else order
    level_with = near > highest[rows] - LEVEL
    winner = np.where(level_with, place[:, None], len(result)).argmin(axis=0)
    near *= 1 - DECIDED
    near[winner, np.arange(len(rows))] += DECIDED
    result[:, rows] = near
    return result


def highest_of(values: FloatArray) -> FloatArray:
    """`(n_rows,)` of `(n_classes, n_rows)`, NaN where one is."""
    highest: FloatArray = values[0].copy()
    for own in values[1:]:
        np.maximum(highest, own, out=highest)
    return highest
