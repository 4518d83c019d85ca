"""Further fixed rules: the geometric mean, the median, and Borda's count.

Sorting and adding up classes is done on contiguous rows of numbers, the classes first.
"""

from __future__ import annotations

import numpy as np

from ensemble_kit.arrays import BoolArray, FloatArray, IntArray
from ensemble_kit.voting.rules import Block, in_blocks, level, mean


def vote_geometric(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted geometric mean, divided by its sum (the logarithmic opinion pool; Genest and Zidek 1986).

    Worked out in logarithms of which the highest is taken away, so that no number of voters underflows. A probability
    of 0 is a veto; a row whose classes are all vetoed falls back to the soft vote.

    Examples:
        >>> vote_geometric(np.array([[[0.9, 0.1]], [[0.5, 0.5]]]), np.ones(2)).round(6).tolist()
        [[0.75, 0.25]]
    """
    return in_blocks(probs, weights, geometric)


def vote_median(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """The weighted median of each class, divided by their sum: one voter that is far off moves nothing.

    With half of the weight on either side it is the middle of the two. A row whose medians are all 0 (three voters,
    sure of three classes) falls back to the soft vote.

    Examples:
        >>> vote_median(np.array([[[0.5, 0.5]], [[0.75, 0.25]], [[0.0, 1.0]]]), np.ones(3)).tolist()
        [[0.5, 0.5]]
    """
    return in_blocks(probs, weights, median)


def vote_rank(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """Borda's count over the classes of a row: a voter gives a class one point for each class it puts below.

    Equal probabilities share their points (mean rank). The points of all voters are divided by their sum, so that only
    the order in which a voter puts the classes counts, not how sure it is.

    Examples:
        >>> vote_rank(np.array([[[0.9, 0.1, 0.0]], [[0.2, 0.4, 0.4]]]), np.ones(2)).tolist()
        [[0.3333333333333333, 0.41666666666666663, 0.25]]
    """
    return in_blocks(probs, weights, borda)


def geometric(block: Block) -> FloatArray:
    """The rule of `vote_geometric`: a block -> `(n_classes, n_rows)`."""
    total, spoken = _zeros(block), np.zeros(block.n_rows, dtype=np.float64)
    for values, weight in block.by_class():
        spoke = _speaks(values)
        spoken += weight * spoke
        values[:, ~spoke] = 1  # adds nothing
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


def median(block: Block) -> FloatArray:
    """The rule of `vote_median`: a block -> `(n_classes, n_rows)`."""
    voters = list(block.by_class())
    if not voters:
        return _zeros(block)
    values = np.stack([own for own, _ in voters])
    shape = (len(voters), 1, block.n_rows)
    weights = np.stack([weight * _speaks(own) for own, weight in voters]).reshape(shape)
    order = np.argsort(values, axis=0, kind="stable")
    values = np.take_along_axis(values, order, axis=0)
    weights = np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=0)
    all_weight, reached = _zeros(block), _zeros(block)
    for own in weights:
        all_weight += own
    lower, upper = _zeros(block), _zeros(block)
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


def borda(block: Block) -> FloatArray:
    """The rule of `vote_rank`: a block -> `(n_classes, n_rows)`."""
    total, spoken = _zeros(block), np.zeros(block.n_rows, dtype=np.float64)
    n_points = max(1.0, block.n_classes * (block.n_classes - 1) / 2)
    for values, weight in block.by_class():
        spoke = _speaks(values)
        spoken += weight * spoke
        points = _ranks(values) / n_points if block.n_classes > 1 else np.ones_like(values)
        points[:, np.isnan(values[0])] = np.nan
        points[:, ~spoke] = 0
        total += np.multiply(points, weight, out=points)
    return level(_divide(total, spoken))


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


def _zeros(block: Block) -> FloatArray:
    return np.zeros((block.n_classes, block.n_rows), dtype=np.float64)


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


def _fall_back(shares: FloatArray, rows: IntArray, block: Block) -> FloatArray:
    """The soft vote on rows that a rule has no answer for; all abstained stays so."""
    if len(rows):
        shares[:, rows] = mean(block)[:, rows]
    return level(shares)
