"""Votes: several voters' probabilities to one distribution, or their labels to one.

probs:   `(n_voters, n_samples, n_classes)`. A row of zeros abstains: its weight leaves the denominator. A row of NaN
         was not computed: the result is NaN as well, unless the voter's weight is 0.
weights: `(n_voters,)`, >= 0. A voter of weight 0 is as good as absent; a weight of 2 is two voters.

Sums run voter by voter and class by class in float64: a numpy sum over an axis changes a row's bits when the row is
alone.
"""

from ensemble_kit.voting.further import vote_geometric, vote_median, vote_rank
from ensemble_kit.voting.labels import Voted, vote_labels, vote_labels_by_attribute
from ensemble_kit.voting.rules import (
    TIE_SHARE,
    Vote,
    hard_vote,
    vote_hard,
    vote_soft,
    vote_weighted,
)
from ensemble_kit.voting.table import FIXED_VOTES, QUICK, VOTES, ask_vote, ask_voters, check_weights, find_vote, is_own

__all__ = [
    "FIXED_VOTES",
    "QUICK",
    "TIE_SHARE",
    "VOTES",
    "Vote",
    "Voted",
    "ask_vote",
    "ask_voters",
    "check_weights",
    "find_vote",
    "hard_vote",
    "is_own",
    "vote_geometric",
    "vote_hard",
    "vote_labels",
    "vote_labels_by_attribute",
    "vote_median",
    "vote_rank",
    "vote_soft",
    "vote_weighted",
]
