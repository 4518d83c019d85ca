"""The one table of votes, and what is asked of any function that is used as one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from ensemble_kit.arrays import FloatArray, FloatType
from ensemble_kit.errors import UsageError, nearest
from ensemble_kit.predictions import SUM_TOLERANCE, check_probs
from ensemble_kit.voting.further import borda, geometric, median, vote_geometric, vote_median, vote_rank
from ensemble_kit.voting.rules import DOUBLE, Rule, Vote, hard, in_blocks, mean, vote_hard, vote_soft, vote_weighted


def stacking_not_fitted(probs: FloatArray, weights: FloatArray) -> FloatArray:
    """What "stacking" is before it is fitted: only the explanation.

    Raises:
        UsageError: always.
    """
    del probs, weights
    raise UsageError(
        'vote "stacking" has to be fitted first: stacking = fit_stacking(predictions, truth, groups) on out-of-fold '
        'predictions, then pass vote=stacking; or take "soft", which needs no fit'
    )


VOTES: Mapping[str, Vote] = {
    "hard": vote_hard,
    "soft": vote_soft,
    "weighted": vote_weighted,
    "geometric": vote_geometric,
    "median": vote_median,
    "rank": vote_rank,
    "stacking": stacking_not_fitted,
}
"""A further rule is one function and one row here; `combine` takes a function as well as a name."""

FIXED_VOTES: tuple[str, ...] = tuple(name for name, vote in VOTES.items() if vote is not stacking_not_fitted)
"""Those that vote as they are; stacking has to be fitted."""


MOST_WEIGHT = 1e9
"""Weights are shares of each other; beyond this their sums would lose the smaller ones."""

RULES: Mapping[Vote, Rule] = {
    vote_hard: hard,
    vote_soft: mean,
    vote_weighted: mean,
    vote_geometric: geometric,
    vote_median: median,
    vote_rank: borda,
}
"""What our own votes do to a block. Known to look at each row by itself (tests show it), in any layout, and to give
probabilities: not asked about single rows again."""


QUICK: frozenset[Vote] = frozenset({vote_soft, vote_weighted})
"""Sums of the probabilities alone, which float32 holds well enough where nothing is near a tie."""


def find_vote(vote: str | Vote, *, weights_given: bool = True) -> Vote:
    """The vote of a name, or the function itself.

    Args:
        weights_given: whether the caller was given weights, which "weighted" insists on.

    Raises:
        UsageError: an unknown name, "stacking" that is not fitted, "weighted" without weights.
    """
    if callable(vote):
        return vote
    if not isinstance(vote, str) or vote not in VOTES:
        raise UsageError(f'unknown vote "{vote}"{nearest(str(vote), VOTES)}')
    if VOTES[vote] is stacking_not_fitted:
        stacking_not_fitted(np.empty(0), np.empty(0))
    if VOTES[vote] is vote_weighted and not weights_given:
        raise UsageError('vote "weighted" needs a weight for each voter, found none; give weights, or take "soft"')
    return VOTES[vote]


def check_weights(weights: FloatArray) -> None:
    """Raises UsageError unless the weights are finite, not negative and not all 0."""
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError(f"vote: expected weights >= 0, finite and not all 0, found {np.asarray(weights).tolist()}")
    if (weights > MOST_WEIGHT).any():
        raise UsageError(f"vote: expected weights of at most {MOST_WEIGHT:g}, found {np.asarray(weights).tolist()}")


def is_own(vote: Vote) -> bool:
    """Whether a vote is one of ours; a function of somebody else's need not be hashable."""
    return isinstance(vote, Hashable) and vote in RULES


def ask_voters(
    vote: Vote,
    layers: Sequence[FloatArray],
    weights: FloatArray,
    tolerance: float = SUM_TOLERANCE,
    *,
    all_speak: bool = False,
    dtype: FloatType = DOUBLE,
) -> FloatArray:
    """As `ask_vote`, of voters that are known to be probabilities and lie apart: our own votes read them there.

    Args:
        layers: `(n_samples, n_classes)` of each voter.
        all_speak: it is known that no row is all zeros.
        dtype: of the result; float32 of the votes in QUICK only.
    """
    if not is_own(vote):
        return ask_vote(vote, np.stack(layers), weights, tolerance)
    check_weights(weights)
    return in_blocks(layers, weights, RULES[vote], all_speak=all_speak, dtype=dtype)


def ask_vote(vote: Vote, probs: FloatArray, weights: FloatArray, tolerance: float = SUM_TOLERANCE) -> FloatArray:
    """The result of a vote `(n_samples, n_classes)` in float64, the contract checked.

    Raises:
        UsageError: weights that cannot be, a result of another shape, or one that changes when a row is asked alone.
        DataError: a result that is no distribution.
    """
    name = getattr(vote, "__name__", type(vote).__name__)
    check_weights(weights)
    # copies: a function may write into what it is given, and give the same array every time
    result = np.asarray(vote(probs, weights)) if is_own(vote) else np.array(vote(probs.copy(), weights.copy()))
    if result.shape != probs.shape[1:] or result.dtype.kind != "f":
        raise UsageError(
            f'vote "{name}": expected (n_samples, n_classes) = {probs.shape[1:]}, found {result.dtype} {result.shape}'
        )
    check_probs(result, f'vote "{name}"', tolerance)
    if is_own(vote):
        return result
    n_rows = len(result)
    for row in sorted({0, n_rows // 2, n_rows - 1}) if n_rows else ():
        alone = np.asarray(vote(probs[:, row : row + 1].copy(), weights.copy()))
        if not np.array_equal(alone[0], result[row], equal_nan=True):
            raise UsageError(f'vote "{name}": row {row} alone differs from the same row among others')
    return result.astype(np.float64)
