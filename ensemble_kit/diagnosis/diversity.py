"""How alike the voters of an expert are, and what their vote gains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ensemble_kit.arrays import BoolArray, IdArray, IntArray
from ensemble_kit.diagnosis.findings import Diversity, VoterPair
from ensemble_kit.diagnosis.specialising import plain_gain
from ensemble_kit.metrics import Tally, View
from ensemble_kit.predictions import Predictions
from ensemble_kit.structures.photos import computed_rows
from ensemble_kit.structures.scorer import Scorer


def describe_voters(
    expert: Predictions,
    voted: Predictions,
    truth: IntArray,
    existing: IntArray,
    groups: IdArray | None,
    n_boot: int,
    seed: int,
) -> Diversity | None:
    """The voters against each other and against their vote; None where there is one voter or no photo.

    Args:
        expert: with its voters, on the photos looked at.
        voted: the same after the vote.
        truth: `(n_samples,)` the expert's true column; -1 = left out, as are photos that some voter has not computed.
        existing: its columns that exist under its condition: a mean over classes is over these.
    """
    rows = np.flatnonzero((truth >= 0) & computed_rows(expert))
    if len(expert.voters) < 2 or not len(rows):
        return None
    kept, true = expert.select(rows), truth[rows]
    labels = {name: kept.select_voters([name]).labels() for name in expert.voters}
    right = np.stack([said == true for said in labels.values()])
    views = [View.some(existing, len(expert.classes))]
    tallies = {name: Tally(true, said, views) for name, said in labels.items()}
    scorer = Scorer(None if groups is None else groups[rows], n_boot, seed)
    measured = scorer.measure(
        {("voter", name): [tally] for name, tally in tallies.items()}
        | {("mean", ""): list(tallies.values())}
        | {("vote", ""): [Tally(true, voted.select(rows).labels(), views)]}
    )
    vote, mean = measured["vote", ""][0], measured["mean", ""][0]
    pairs = compare_voters(expert.voters, right)
    known = [pair.q_statistic for pair in pairs if pair.q_statistic is not None]
    return Diversity(
        expert=expert.describe(),
        n_samples=len(rows),
        voters={name: measured["voter", name][0].score() for name in labels},
        vote=vote.score(),
        any_right=float(right.any(axis=0).mean()),
        accuracy=plain_gain(vote, mean, "accuracy"),
        macro_f1=plain_gain(vote, mean, "macro_f1"),
        disagreement=float(np.mean([pair.disagreement for pair in pairs])),
        q_statistic=float(np.mean(known)) if known else None,
        double_fault=float(np.mean([pair.double_fault for pair in pairs])),
        pairs=tuple(pairs),
    )


def compare_voters(names: Sequence[str], right: BoolArray) -> list[VoterPair]:
    """Every pair of voters (Kuncheva and Whitaker 2003, table 1).

    Args:
        right: `(n_voters, n_samples)` where each voter's label was right; at least one photo.

    Examples:
        >>> (pair,) = compare_voters(["a", "b"], np.array([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool))
        >>> pair.disagreement, pair.q_statistic, pair.double_fault
        (0.5, 0.0, 0.25)
    """
    pairs = []
    for i, j in combinations(range(len(names)), 2):
        both, neither = int((right[i] & right[j]).sum()), int((~right[i] & ~right[j]).sum())
        first, second = int((right[i] & ~right[j]).sum()), int((~right[i] & right[j]).sum())
        n_samples, bottom = right.shape[1], both * neither + first * second
        q = (both * neither - first * second) / bottom if bottom else None
        pairs.append(VoterPair((names[i], names[j]), (first + second) / n_samples, q, neither / n_samples))
    return pairs
